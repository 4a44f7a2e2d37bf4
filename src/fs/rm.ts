/**
 * `rm`.
 *
 * @module
 */
import { DT_DIR } from "../ffi/abi.ts";
import { Uring, UringError } from "../mod.ts";
import { checkFlag, checkOptions, integer, type PathLike, pathOf } from "./arguments.ts";
import { textOf } from "./calls.ts";
import { entriesAt, type Entry, pathIn } from "./scan.ts";

/** Options of {@link rm}. */
export interface RmOptions {
  /** Do not mind when it is not there. */
  force?: boolean | undefined;
  /** How often to try again after `EBUSY`, `EMFILE`, `ENFILE`, `ENOTEMPTY` or `EPERM`, with `recursive`; default 0. */
  maxRetries?: number | undefined;
  /** Directories with everything in them. */
  recursive?: boolean | undefined;
  /** Milliseconds before the first further try, twice as many before the second, and so on; default 100. */
  retryDelay?: number | undefined;
}

type Path = string | Uint8Array;

/** How many entries of a directory are removed at once. */
const AT_ONCE = 64;
/** How many directories of a tree are gone through at once. */
const DIRECTORIES = 8;
const MOST = 0x7fff_ffff;
const EISDIR = -21;
const NOT_THERE = new Set(["ENOENT", "ENOTDIR", "ENAMETOOLONG", "ELOOP"]);
const AGAIN = new Set(["EBUSY", "EMFILE", "ENFILE", "ENOTEMPTY", "EPERM"]);

/**
 * Removes a file, or with `recursive` a directory and all that is in it. Symbolic links are removed, not followed.
 *
 * @throws UringError (rejects) with Node's `code`, `syscall` and `path`.
 *
 * @example
 * ```ts
 * import { rm } from "uring/fs";
 * await rm("/tmp/scratch", { recursive: true, force: true });
 * ```
 */
export async function rm(path: PathLike, options?: RmOptions): Promise<void> {
  checkOptions(options);
  const { force = false, maxRetries = 0, recursive = false, retryDelay = 100 } = options ?? {};
  checkFlag("force", force);
  checkFlag("recursive", recursive);
  integer("options.maxRetries", maxRetries, MOST);
  integer("options.retryDelay", retryDelay, MOST);
  const name = pathOf(path);
  try {
    return await Uring.shared.unlinkat(name);
  } catch (error) {
    if (!(error instanceof UringError)) throw error;
    if (error.code === "ENOENT" && force) return;
    // Node looks first, and says so.
    if (NOT_THERE.has(error.code)) throw new UringError(error.errno, "lstat", { path: error.path });
    if (error.code !== "EISDIR") throw told(error);
  }
  if (!recursive) throw directoryError(name);
  for (let i = 1;; i++) {
    try {
      return await new Removal().tree(name);
    } catch (error) {
      if (!(error instanceof UringError) || i > maxRetries || !AGAIN.has(error.code)) throw told(error);
      await Uring.shared.timeout(i * retryDelay);
    }
  }
}

function told(error: unknown): unknown {
  return error instanceof UringError ? new UringError(error.errno, "rm", { path: error.path }) : error;
}

/** The removal of a tree. */
class Removal {
  #spare = DIRECTORIES - 1;

  /** Removes what is in a directory, then the directory. */
  async tree(path: Path): Promise<void> {
    let entries: Entry[];
    try {
      entries = await entriesAt("rm", path);
    } catch (error) {
      if (error instanceof UringError && error.code === "ENOENT") return;
      throw error;
    }
    const files = entries.filter(({ type }) => type !== DT_DIR);
    for (let i = 0; i < files.length; i += AT_ONCE) {
      await all(files.slice(i, i + AT_ONCE).map((entry) => this.#entry(pathIn(path, entry))));
    }
    if (files.length < entries.length) {
      await this.#directories(path, entries.filter(({ type }) => type === DT_DIR));
    }
    try {
      await Uring.shared.unlinkat(path, { directory: true });
    } catch (error) {
      if (!(error instanceof UringError) || error.code !== "ENOENT") throw error;
    }
  }

  /** Removes the directories in one: one after the other, and several at once while there are not too many. */
  async #directories(path: Path, entries: readonly Entry[]): Promise<void> {
    let next = 0;
    const lane = async (): Promise<void> => {
      while (next < entries.length) {
        try {
          await this.tree(pathIn(path, entries[next++]!));
        } catch (error) {
          next = entries.length;
          throw error;
        }
      }
    };
    const more = Math.min(this.#spare, entries.length - 1);
    this.#spare -= more;
    try {
      await all(Array.from({ length: 1 + more }, lane));
    } finally {
      this.#spare += more;
    }
  }

  /** Removes what the directory did not call a directory; it may be one all the same, or be gone. */
  async #entry(path: Path): Promise<void> {
    try {
      await Uring.shared.unlinkat(path);
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      if (error.code === "EISDIR") await this.tree(path);
      else if (error.code !== "ENOENT") throw error;
    }
  }
}

/** Waits for all of them; rejects with the first failure among them. */
async function all(promises: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(promises)).find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

/** What Node says when a directory is to be removed without `recursive`. */
function directoryError(path: Path): Error {
  const text = textOf(path);
  const error = new Error(`Path is a directory: rm returned EISDIR (is a directory) ${text}`);
  return Object.assign(error, {
    name: "SystemError",
    code: "ERR_FS_EISDIR",
    errno: -EISDIR,
    syscall: "rm",
    path: text,
  });
}
