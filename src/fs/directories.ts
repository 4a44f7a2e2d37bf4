/**
 * `mkdir` and `rmdir`.
 *
 * @module
 */
import { Uring, UringError } from "../mod.ts";
import { checkFlag, checkOptions, type Mode, modeOf, type PathLike, pathOf } from "./arguments.ts";
import { named, typeError } from "./errors.ts";

/** Options of {@link mkdir}. */
export interface MkdirOptions {
  /** Make the directories above it, too, and do not mind when it is there already. */
  recursive?: boolean | undefined;
  /** Permissions; default `0o777`, less the umask. */
  mode?: Mode | null | undefined;
}

type Path = string | Uint8Array;

const SLASH = "/".charCodeAt(0);

/**
 * Makes a directory; Linux 5.15. With `recursive`, resolves with the first directory that was made, `undefined` when all
 * were there.
 *
 * @throws UringError (rejects) with Node's `code`, `syscall` and `path`.
 *
 * @example
 * ```ts
 * import { mkdir } from "uring/fs";
 * await mkdir("/tmp/one/two/three", { recursive: true });
 * ```
 */
export function mkdir(
  path: PathLike,
  options: MkdirOptions & { recursive: true },
): Promise<string | undefined>;
/** Makes a directory. */
export function mkdir(
  path: PathLike,
  options?: Mode | (MkdirOptions & { recursive?: false | undefined }) | null,
): Promise<void>;
/** Makes a directory. */
export function mkdir(path: PathLike, options?: Mode | MkdirOptions | null): Promise<string | undefined>;
export async function mkdir(
  path: PathLike,
  options?: Mode | MkdirOptions | null,
): Promise<string | undefined | void> {
  const { recursive = false, mode } = typeof options === "object" && options !== null
    ? options
    : { mode: options };
  const name = pathOf(path);
  checkFlag("recursive", recursive);
  const bits = modeOf(mode, 0o777);
  try {
    if (recursive) return await makeAll(name, bits);
    await Uring.shared.mkdirat(name, { mode: bits });
  } catch (error) {
    throw named(error, "mkdir");
  }
}

async function makeAll(path: Path, mode: number): Promise<string | undefined> {
  const missing = [trimmed(path)];
  let first: string | undefined;
  while (missing.length > 0) {
    const next = missing.at(-1)!;
    try {
      await Uring.shared.mkdirat(next, { mode });
      first ??= typeof next === "string" ? next : new TextDecoder().decode(next);
      missing.pop();
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      const above = error.code === "ENOENT" ? parent(next) : undefined;
      if (above !== undefined) missing.push(above);
      // Any error will do as long as the directory is there: a read-only file system says EROFS before EEXIST.
      else if (await isDirectory(next)) missing.pop();
      else throw error.code === "EEXIST" && missing.length > 1 ? notADirectory(path) : withPath(error, path);
    }
  }
  return first;
}

async function isDirectory(path: Path): Promise<boolean> {
  try {
    return (await Uring.shared.statx(path)).isDirectory();
  } catch {
    return false;
  }
}

const ENOTDIR = 20;

function notADirectory(path: Path): UringError {
  return withPath(new UringError(ENOTDIR, "mkdir"), path);
}

/** The failure of a directory above, told of the one that was asked for. */
function withPath(error: UringError, path: Path): UringError {
  const text = typeof path === "string" ? path : new TextDecoder().decode(path);
  return error.path === text ? error : new UringError(error.errno, "mkdir", { path: text });
}

/** A path without slashes at its end. */
function trimmed<P extends Path>(path: P): P {
  let end = path.length;
  while (end > 1 && isSlash(path, end - 1)) end--;
  return (end === path.length ? path : path.slice(0, end)) as P;
}

/** The directory that a path is in; undefined when it does not name one. */
function parent(path: Path): Path | undefined {
  const slash = typeof path === "string" ? path.lastIndexOf("/") : path.lastIndexOf(SLASH);
  return slash <= 0 ? undefined : trimmed(path.slice(0, slash));
}

function isSlash(path: Path, at: number): boolean {
  return typeof path === "string" ? path[at] === "/" : path[at] === SLASH;
}

/** Options of {@link rmdir}: none. What removes everything below a directory is `rm`. */
export interface RmdirOptions {
  /** No longer supported, as in Node. */
  recursive?: undefined;
}

/** Removes an empty directory; Linux 5.11. */
export async function rmdir(path: PathLike, options?: RmdirOptions): Promise<void> {
  const name = pathOf(path);
  checkOptions(options);
  const recursive: unknown = options?.recursive;
  if (recursive !== undefined) {
    throw typeError(
      "ERR_INVALID_ARG_VALUE",
      `The property 'options.recursive' is no longer supported. Received ${String(recursive)}`,
    );
  }
  try {
    await Uring.shared.unlinkat(name, { directory: true });
  } catch (error) {
    throw named(error, "rmdir");
  }
}
