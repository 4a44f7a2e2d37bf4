/**
 * `cp`: files, links and whole trees.
 *
 * @module
 */
import { AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS } from "../ffi/abi.ts";
import { type Statx, Uring, UringError } from "../mod.ts";
import { checkFlag, checkOptions, integer, type PathLike, pathOf } from "./arguments.ts";
import { bytesOfText, shown, textOfBytes } from "./byte_names.ts";
import { copyFile } from "./copy_file.ts";
import { mkdir } from "./directories.ts";
import { named, typeError } from "./errors.ts";
import { chmod, utimes } from "./metadata.ts";
import { symlink, unlink } from "./names.ts";
import { readlink, realpath } from "./paths.ts";
import { entriesAt, join } from "./scan.ts";
import { dirname, isAbsolute, resolve } from "./path_names.ts";

/** Options of {@link cp}. */
export interface CopyOptions {
  /** Copy what symbolic links point to instead of the links; default false. */
  dereference?: boolean | undefined;
  /** Without `force`, fail with `ERR_FS_CP_EEXIST` where there is a file already; default false: leave it as it is. */
  errorOnExist?: boolean | undefined;
  /** Whether to copy a file or directory (with all in it). */
  filter?: ((source: string, destination: string) => boolean | Promise<boolean>) | undefined;
  /** Replace files that are there; default true. */
  force?: boolean | undefined;
  /** `COPYFILE_*` bits for `copyFile`. */
  mode?: number | undefined;
  /** Give copies the times of their originals. */
  preserveTimestamps?: boolean | undefined;
  /** Directories with everything in them. */
  recursive?: boolean | undefined;
  /** Do not make the targets of symbolic links absolute. */
  verbatimSymlinks?: boolean | undefined;
  /** Called after each piece of a file, with the path of the copy and what was copied by this call in all. */
  onProgress?: ((progress: CopyProgress) => void) | undefined;
}

/** How far {@link cp} is. */
export interface CopyProgress {
  /** The file that is being written. */
  readonly path: string;
  /** Files that are done. */
  readonly files: number;
  /** Bytes that were copied. */
  readonly bytes: number;
}

const PERMISSIONS = 0o7777;
const MOST_MODE = 7;
/** How many files of one directory are copied at once. */
const AT_ONCE = 8;

/**
 * Copies a file, or with `recursive` a directory and all that is in it, into or over another.
 *
 * @throws Errors with Node's codes: `ERR_FS_CP_EEXIST`, `ERR_FS_CP_DIR_TO_NON_DIR`, `ERR_FS_EISDIR`…; `UringError` with
 * `code`, `syscall`, `path` and `dest`.
 *
 * @example
 * ```ts
 * import { cp } from "uring/fs";
 * await cp("/etc/skel", "/tmp/skel", { recursive: true });
 * ```
 */
export async function cp(
  source: PathLike,
  destination: PathLike,
  options?: CopyOptions,
): Promise<void> {
  const copy = new Copy(checked(options === undefined ? {} : options));
  const from = textOfPath(pathOf(source, "src"));
  const to = textOfPath(pathOf(destination, "dest"));
  if (!(await copy.wanted(from, to))) return;
  const stats = await copy.check(from, to);
  await checkParents(from, stats.source, to);
  await mkdir(bytesOfText(dirname(to)), { recursive: true });
  await copy.one(from, to, stats);
}

/** Paths are text here, whatever their bytes: see `byte_names.ts`. */
function textOfPath(path: string | Uint8Array): string {
  return typeof path === "string" ? shown(path) : textOfBytes(path);
}

function checked(options: CopyOptions): CopyOptions {
  checkOptions(options);
  const flags = [
    "dereference",
    "errorOnExist",
    "force",
    "preserveTimestamps",
    "recursive",
    "verbatimSymlinks",
  ] as const;
  for (const flag of flags) {
    const value: unknown = options[flag];
    if (value !== undefined) checkFlag(flag, value);
  }
  integer("options.mode", options.mode ?? 0, MOST_MODE);
  if (options.dereference === true && options.verbatimSymlinks === true) {
    throw typeError(
      "ERR_INCOMPATIBLE_OPTION_PAIR",
      'Option "dereference" cannot be used in combination with option "verbatimSymlinks"',
    );
  }
  if (options.filter !== undefined && typeof options.filter !== "function") {
    throw typeError("ERR_INVALID_ARG_TYPE", 'The "options.filter" property must be of type function.');
  }
  return options;
}

interface Both {
  readonly source: Statx;
  readonly destination: Statx | null;
}

/** An error as Node's `cp` words it. */
function copyError(code: string, errno: number, reason: string, path: string): Error {
  const words = shown(`${reason}: cp returned ${code.replace(/^ERR_FS_(CP_)?/, "")} (${reason}) ${path}`);
  return Object.assign(new Error(words), {
    name: "SystemError",
    code,
    errno,
    syscall: "cp",
    path: shown(path),
  });
}

const EEXIST = 17;
const EISDIR = 21;
const EINVAL = 22;
const ENOTDIR = 20;

class Copy {
  readonly #options: CopyOptions;
  #files = 0;
  #bytes = 0;

  constructor(options: CopyOptions) {
    this.#options = options;
  }

  async wanted(from: string, to: string): Promise<boolean> {
    return this.#options.filter === undefined || await this.#options.filter(shown(from), shown(to));
  }

  /** What both are; refuses what cannot be copied onto what. */
  async check(from: string, to: string): Promise<Both> {
    const flags = this.#options.dereference === true ? 0 : AT_SYMLINK_NOFOLLOW;
    const syscall = flags === 0 ? "stat" : "lstat";
    const [source, destination] = await Promise.all([
      statAt(syscall, from, flags),
      statAt(syscall, to, flags).catch((error: unknown) => {
        if (error instanceof UringError && error.code === "ENOENT") return null;
        throw error;
      }),
    ]);
    if (destination !== null) {
      if (same(source, destination)) {
        throw copyError("ERR_FS_CP_EINVAL", EINVAL, "src and dest cannot be the same", to);
      }
      if (source.isDirectory() && !destination.isDirectory()) {
        const reason = `cannot overwrite non-directory ${to} with directory ${from}`;
        throw copyError("ERR_FS_CP_DIR_TO_NON_DIR", EISDIR, reason, to);
      }
      if (!source.isDirectory() && destination.isDirectory()) {
        const reason = `cannot overwrite directory ${to} with non-directory ${from}`;
        throw copyError("ERR_FS_CP_NON_DIR_TO_DIR", ENOTDIR, reason, to);
      }
    }
    if (source.isDirectory() && isBelow(from, to)) {
      const reason = `cannot copy ${from} to a subdirectory of self ${to}`;
      throw copyError("ERR_FS_CP_EINVAL", EINVAL, reason, to);
    }
    return { source, destination };
  }

  /** Copies one thing, whatever it is. */
  async one(from: string, to: string, { source, destination }: Both): Promise<void> {
    if (source.isDirectory()) {
      if (this.#options.recursive === true) return await this.#directory(from, to, source, destination);
      throw copyError(
        "ERR_FS_EISDIR",
        EISDIR,
        `Recursive option not enabled, cannot copy a directory: ${from}`,
        to,
      );
    }
    if (source.isSymbolicLink()) return await this.#link(from, to, destination);
    if (source.isSocket()) {
      throw copyError("ERR_FS_CP_SOCKET", EINVAL, `cannot copy a socket file: ${to}`, to);
    }
    if (source.isFIFO()) {
      throw copyError("ERR_FS_CP_FIFO_PIPE", EINVAL, `cannot copy a FIFO pipe: ${to}`, to);
    }
    await this.#file(from, to, source, destination);
  }

  async #file(from: string, to: string, source: Statx, destination: Statx | null): Promise<void> {
    const { force = true, errorOnExist = false, mode = 0, preserveTimestamps = false, onProgress } =
      this.#options;
    if (destination !== null) {
      if (!force) {
        if (!errorOnExist) return;
        throw copyError("ERR_FS_CP_EEXIST", EEXIST, `${to} already exists`, to);
      }
      await unlink(bytesOfText(to));
    }
    const onPiece = onProgress === undefined ? undefined : (bytes: number): void => {
      this.#bytes += bytes;
      onProgress({ path: shown(to), files: this.#files, bytes: this.#bytes });
    };
    await copyFile(bytesOfText(from), bytesOfText(to), { mode, onProgress: onPiece });
    this.#files++;
    onProgress?.({ path: shown(to), files: this.#files, bytes: this.#bytes });
    if (preserveTimestamps) {
      // Reading it has moved its time of access on some file systems.
      const { atimeMs, mtimeMs } = await statAt("stat", from, 0);
      await utimes(bytesOfText(to), atimeMs / 1000, mtimeMs / 1000);
    }
    await chmod(bytesOfText(to), source.mode & PERMISSIONS);
  }

  async #directory(from: string, to: string, source: Statx, destination: Statx | null): Promise<void> {
    if (destination === null) await mkdir(bytesOfText(to));
    const entries = await entriesAt("opendir", bytesOfText(from));
    for (let i = 0; i < entries.length; i += AT_ONCE) {
      const results = await Promise.allSettled(
        entries.slice(i, i + AT_ONCE).map(async (entry) => {
          const text = entry.bytes === null ? entry.text : textOfBytes(entry.bytes);
          const [source, destination] = [join(from, text), join(to, text)];
          if (!(await this.wanted(source, destination))) return;
          await this.one(source, destination, await this.check(source, destination));
        }),
      );
      const failed = results.find((result) => result.status === "rejected");
      if (failed !== undefined) throw failed.reason;
    }
    if (destination === null) await chmod(bytesOfText(to), source.mode & PERMISSIONS);
  }

  async #link(from: string, to: string, destination: Statx | null): Promise<void> {
    let target = textOfBytes(await readlink(bytesOfText(from), "buffer"));
    if (this.#options.verbatimSymlinks !== true && !isAbsolute(target)) {
      target = resolve(dirname(from), target);
    }
    if (destination === null) return await symlink(bytesOfText(target), bytesOfText(to));
    let old: string;
    try {
      old = textOfBytes(await readlink(bytesOfText(to), "buffer"));
    } catch (error) {
      // No link: `symlink` says what is there.
      if (error instanceof UringError && error.code === "EINVAL") {
        return await symlink(bytesOfText(target), bytesOfText(to));
      }
      throw error;
    }
    if (!isAbsolute(old)) old = resolve(dirname(to), old);
    const source = await statAt("stat", from, 0).catch(() => null);
    if (source?.isDirectory() === true && resolve(target) !== resolve(old)) {
      if (isBelow(target, old)) {
        throw copyError(
          "ERR_FS_CP_EINVAL",
          EINVAL,
          `cannot copy ${target} to a subdirectory of self ${old}`,
          to,
        );
      }
      if (isBelow(old, target)) {
        const reason = `cannot overwrite ${old} with ${target}`;
        throw copyError("ERR_FS_CP_SYMLINK_TO_SUBDIRECTORY", EINVAL, reason, to);
      }
    }
    await unlink(bytesOfText(to));
    await symlink(bytesOfText(target), bytesOfText(to));
  }
}

async function statAt(syscall: string, path: string, flags: number): Promise<Statx> {
  try {
    return await Uring.shared.statx(bytesOfText(path), { flags, mask: STATX_BASIC_STATS });
  } catch (error) {
    throw named(error, syscall);
  }
}

function same(a: Statx, b: Statx): boolean {
  return a.ino === b.ino && a.dev.join() === b.dev.join();
}

/** Whether a path is another, or lies below it, by name. */
function isBelow(above: string, path: string): boolean {
  const [a, b] = [resolve(above).split("/").filter(Boolean), resolve(path).split("/").filter(Boolean)];
  return a.every((name, i) => b[i] === name);
}

/** Refuses a copy that would lie in its own original, by way of links. */
async function checkParents(from: string, source: Statx, to: string): Promise<void> {
  if (!source.isDirectory()) return;
  for (let above = resolve(dirname(to));; above = dirname(above)) {
    let real: string;
    try {
      real = textOfBytes(await realpath(bytesOfText(above), "buffer"));
    } catch (error) {
      // It will be made.
      if (error instanceof UringError && error.code === "ENOENT" && above !== "/") continue;
      throw error;
    }
    if (isBelow(textOfBytes(await realpath(bytesOfText(from), "buffer")), real)) {
      throw copyError("ERR_FS_CP_EINVAL", EINVAL, `cannot copy ${from} to a subdirectory of self ${to}`, to);
    }
    return;
  }
}
