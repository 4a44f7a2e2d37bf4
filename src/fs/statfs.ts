/**
 * `statfs`.
 *
 * @module
 */
import { STATX_TYPE } from "../ffi/abi.ts";
import type { ThreadCalls } from "../ffi/adapter.ts";
import { cString } from "../ffi/cstring.ts";
import * as structs from "../ffi/structs.ts";
import { Uring, UringError } from "../mod.ts";
import { type PathLike, pathOf } from "./arguments.ts";
import { call, textOf } from "./calls.ts";
import { asBuffer } from "./encoding.ts";
import { named } from "./errors.ts";
import { threadCalls } from "./threads.ts";

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
 * What is known of the file system that a file is on. A server that does not answer holds up nobody but the caller: the
 * question is asked on a thread of the runtime's.
 */
export function statfs(path: PathLike, options: StatFsOptions & { bigint: true }): Promise<BigIntStatsFs>;
/** What is known of the file system that a file is on, in numbers. */
export function statfs(
  path: PathLike,
  options?: StatFsOptions & { bigint?: false | undefined },
): Promise<StatsFs>;
/** What is known of the file system that a file is on. */
export function statfs(path: PathLike, options?: StatFsOptions): Promise<StatsFs | BigIntStatsFs>;
export async function statfs(path: PathLike, options?: StatFsOptions): Promise<StatsFs | BigIntStatsFs> {
  const name = pathOf(path);
  const threads = threadCalls();
  const about = threads === null ? await byNode(name) : await onThread(threads, name);
  if (options?.bigint === true) return about;
  const numbers = Object.entries(about).map(([name, value]) => [name, Number(value)]);
  return Object.fromEntries(numbers) as unknown as StatsFs;
}

async function onThread(threads: ThreadCalls, path: string | Uint8Array): Promise<BigIntStatsFs> {
  const bytes = new Uint8Array(new ArrayBuffer(structs.statfs.size));
  if (await threads.statfs(cString(path), bytes) < 0) {
    // Why is mostly that the path leads nowhere, which the ring can tell without holding up anybody.
    await Uring.shared.statx(path, { mask: STATX_TYPE }).catch((error: unknown) => {
      throw named(error, "statfs");
    });
    call("statfs", path, (files) => files.statfs(cString(path), bytes));
  }
  return aboutOf(bytes);
}

/** Bun's own, which needs no permission and has threads. */
async function byNode(path: string | Uint8Array): Promise<BigIntStatsFs> {
  try {
    const { process } = globalThis as unknown as { process: NodeJS.Process };
    const { promises } = process.getBuiltinModule("node:fs");
    const about = await promises.statfs(typeof path === "string" ? path : asBuffer(path), { bigint: true });
    const { type, bsize, frsize, blocks, bfree, bavail, files, ffree } = about as unknown as BigIntStatsFs;
    return { type, bsize, frsize, blocks, bfree, bavail, files, ffree };
  } catch (error) {
    throw new UringError((error as { errno: number }).errno, "statfs", { path: textOf(path) });
  }
}

function aboutOf(bytes: Uint8Array): BigIntStatsFs {
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
