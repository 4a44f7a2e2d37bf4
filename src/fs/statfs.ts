/**
 * `statfs`.
 *
 * @module
 */
import { cString } from "../ffi/cstring.ts";
import * as structs from "../ffi/structs.ts";
import { type PathLike, pathOf } from "./arguments.ts";
import { call, directly } from "./calls.ts";

/** What is known of a file system, in numbers or bigints. */
export interface StatsFsBase<N extends number | bigint> {
  /** What kind it is: a magic number (`0xef53` for ext4). */
  type: N;
  /** The best size of a transfer in bytes. */
  bsize: N;
  /** The size of a block in bytes. */
  frsize: N;
  /** How many blocks there are. */
  blocks: N;
  /** How many of them are free. */
  bfree: N;
  /** How many of them are free for ordinary users. */
  bavail: N;
  /** How many files there can be. */
  files: N;
  /** How many of these are free. */
  ffree: N;
}

/** {@link StatsFsBase} in numbers. */
export type StatsFs = StatsFsBase<number>;
/** {@link StatsFsBase} in bigints. */
export type BigIntStatsFs = StatsFsBase<bigint>;

/** Options of {@link statfs}. */
export interface StatFsOptions {
  /** Bigints instead of numbers. */
  bigint?: boolean | undefined;
}

/**
 * What is known of the file system that a file is on. A system call of its own: a file system on a server that does not
 * answer holds up the event loop.
 */
export function statfs(path: PathLike, options: StatFsOptions & { bigint: true }): Promise<BigIntStatsFs>;
/** What is known of the file system that a file is on, in numbers. */
export function statfs(
  path: PathLike,
  options?: StatFsOptions & { bigint?: false | undefined },
): Promise<StatsFs>;
/** What is known of the file system that a file is on. */
export function statfs(path: PathLike, options?: StatFsOptions): Promise<StatsFs | BigIntStatsFs>;
export function statfs(path: PathLike, options?: StatFsOptions): Promise<StatsFs | BigIntStatsFs> {
  return directly(() => {
    const about = aboutOf(pathOf(path));
    if (options?.bigint === true) return about;
    const numbers = Object.entries(about).map(([name, value]) => [name, Number(value)]);
    return Object.fromEntries(numbers) as unknown as StatsFs;
  });
}

function aboutOf(path: string | Uint8Array): BigIntStatsFs {
  const bytes = new Uint8Array(new ArrayBuffer(structs.statfs.size));
  call("statfs", path, (files) => files.statfs(cString(path), bytes));
  const view = new DataView(bytes.buffer);
  const field = (at: number): bigint => view.getBigUint64(at, true);
  const { f_type, f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree } = structs.statfs;
  return {
    type: field(f_type),
    bsize: field(f_bsize),
    frsize: field(f_frsize),
    blocks: field(f_blocks),
    bfree: field(f_bfree),
    bavail: field(f_bavail),
    files: field(f_files),
    ffree: field(f_ffree),
  };
}
