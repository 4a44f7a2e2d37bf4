/**
 * `stat` and `lstat`.
 *
 * @module
 */
import { AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, STATX_BTIME } from "../ffi/abi.ts";
import { type Statx, Uring, UringError } from "../mod.ts";
import { optionsOf, type PathLike, pathOf, signalOf } from "./arguments.ts";
import { named, throwIfAborted, unlessAborted } from "./errors.ts";
import { statCached, statTurn } from "./stat_cached.ts";
import { BigIntStats, Stats } from "./stats.ts";

/** Options of {@link stat} and {@link lstat}. */
export interface StatOptions {
  /** Bigints instead of numbers, with times in nanoseconds. */
  bigint?: boolean | undefined;
  /** Ends the waiting; the promise then rejects with an `AbortError`. */
  signal?: AbortSignal | undefined;
}

/** Options of {@link stat}. */
export interface StatPathOptions extends StatOptions {
  /** With `false`, the promise resolves with `undefined` when there is no such file. */
  throwIfNoEntry?: boolean | undefined;
}

const MASK = STATX_BASIC_STATS | STATX_BTIME;

/**
 * What is known of a file; of a symbolic link, of what it points to.
 *
 * @throws UringError (rejects) with Node's `code`, `syscall` and `path`.
 *
 * @example
 * ```ts
 * import { stat } from "uring/fs";
 * const { size, mtime } = await stat("/etc/hostname");
 * console.log(size, mtime);
 * ```
 */
export function stat(path: PathLike, options: Throwing & { bigint: true }): Promise<BigIntStats>;
/** What is known of a file, in numbers. */
export function stat(path: PathLike, options?: Throwing & { bigint?: false | undefined }): Promise<Stats>;
/** What is known of a file that may be missing, in bigints. */
export function stat(
  path: PathLike,
  options: StatPathOptions & { bigint: true },
): Promise<BigIntStats | undefined>;
/** What is known of a file that may be missing, in numbers. */
export function stat(
  path: PathLike,
  options: StatPathOptions & { bigint?: false | undefined },
): Promise<Stats | undefined>;
/** What is known of a file. */
export function stat(path: PathLike, options?: Throwing): Promise<Stats | BigIntStats>;
/** What is known of a file that may be missing. */
export function stat(path: PathLike, options?: StatPathOptions): Promise<Stats | BigIntStats | undefined>;
export function stat(
  path: PathLike,
  options?: StatPathOptions,
): Promise<Stats | BigIntStats | undefined> {
  const about = statPath("stat", path, 0, options);
  return options?.throwIfNoEntry === false ? about.catch(unlessMissing) : about;
}

function unlessMissing(error: unknown): undefined {
  if (error instanceof UringError && (error.code === "ENOENT" || error.code === "ENOTDIR")) return undefined;
  throw error;
}

type Throwing = StatPathOptions & { throwIfNoEntry?: true | undefined };

/** {@link stat} of a symbolic link itself. */
export function lstat(path: PathLike, options: StatOptions & { bigint: true }): Promise<BigIntStats>;
/** {@link stat} of a symbolic link itself, in numbers. */
export function lstat(path: PathLike, options?: StatOptions & { bigint?: false | undefined }): Promise<Stats>;
/** {@link stat} of a symbolic link itself. */
export function lstat(path: PathLike, options?: StatOptions): Promise<Stats | BigIntStats>;
export function lstat(path: PathLike, options?: StatOptions): Promise<Stats | BigIntStats> {
  return statPath("lstat", path, AT_SYMLINK_NOFOLLOW, options);
}

/** What is known of an open file. @internal */
export async function fstat(fd: number, options?: StatOptions): Promise<Stats | BigIntStats> {
  const { bigint = false, signal } = optionsOf<StatOptions>(options);
  const where = { dirfd: fd, flags: AT_EMPTY_PATH, mask: MASK };
  try {
    if (signal !== undefined) return await statUnlessAborted("fstat", "", where, options!);
    return made(await Uring.shared.statx("", where), bigint);
  } catch (error) {
    // The empty path is ours.
    throw error instanceof UringError ? new UringError(error.errno, "fstat") : error;
  }
}

function made(about: Statx, bigint: boolean): Stats | BigIntStats {
  return bigint ? new BigIntStats(about) : new Stats(about);
}

function statPath(
  syscall: string,
  path: PathLike,
  flags: number,
  options: StatOptions | undefined,
): Promise<Stats | BigIntStats> {
  try {
    const plain = pathOf(path);
    const { bigint = false, signal } = optionsOf<StatOptions>(options);
    if (signal !== undefined) return statUnlessAborted(syscall, plain, { flags, mask: MASK }, options!);
    const turn = statTurn();
    const about = turn === undefined ? statCached(plain, flags) : null;
    if (about !== null) return Promise.resolve(made(about, bigint));
    return statLater(syscall, plain, flags, bigint, turn);
  } catch (error) {
    return Promise.reject(error);
  }
}

async function statLater(
  syscall: string,
  path: string | Uint8Array,
  flags: number,
  bigint: boolean,
  turn: Promise<void> | undefined,
): Promise<Stats | BigIntStats> {
  if (turn !== undefined) {
    await turn;
    const about = statCached(path, flags);
    if (about !== null) return made(about, bigint);
  }
  try {
    return made(await Uring.shared.statx(path, { flags, mask: MASK }), bigint);
  } catch (error) {
    throw named(error, syscall);
  }
}

async function statUnlessAborted(
  syscall: string,
  path: string | Uint8Array,
  where: { dirfd?: number; flags?: number; mask: number },
  options: StatOptions,
): Promise<Stats | BigIntStats> {
  const signal = signalOf(options.signal);
  throwIfAborted(signal);
  try {
    const about = await Uring.shared.statx(path, signal === undefined ? where : { ...where, signal });
    return made(about, options.bigint === true);
  } catch (error) {
    throw unlessAborted(named(error, syscall), signal);
  }
}
