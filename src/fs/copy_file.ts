/**
 * `copyFile`.
 *
 * @module
 */
import {
  AT_EMPTY_PATH,
  FICLONE,
  O_CREAT,
  O_EXCL,
  O_TRUNC,
  O_WRONLY,
  SEEK_DATA,
  SEEK_HOLE,
} from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import { type Statx, Uring, UringError } from "../mod.ts";
import { integer, type PathLike, pathOf } from "./arguments.ts";
import { textOf } from "./calls.ts";
import { constants } from "./constants.ts";
import { writing } from "./limit.ts";
import { withFile, writeAll } from "./transfer.ts";

/** Options of {@link copyFile}. */
export interface CopyFileOptions {
  /** `constants.COPYFILE_*` bits; default 0. */
  mode?: number | undefined;
  /** Called with the number of bytes of each piece that was written. */
  onProgress?: ((bytes: number) => void) | undefined;
}

const CHUNK = 512 * 1024;
const PERMISSIONS = 0o777;
const MOST_MODE = 7;
/** What file systems say that cannot share these blocks: `EOPNOTSUPP`, `EXDEV`, `EINVAL`, `ENOTTY`, `ENOSYS`. */
const NO_CLONE = new Set([-95, -18, -22, -25, -38]);

/**
 * Copies a file: its content, and its permissions, less the umask, where the copy is a new file. Holes stay holes. A copy
 * that fails midway is removed.
 *
 * @param mode `constants.COPYFILE_EXCL`: fail with `EEXIST` when there is a file already. `COPYFILE_FICLONE`: share
 * blocks where the file system can; `COPYFILE_FICLONE_FORCE`: share them or fail with `ENOTSUP`, `EXDEV`…. Or options.
 *
 * @example
 * ```ts
 * import { constants, copyFile } from "uring/fs";
 * await copyFile("/etc/hostname", "/tmp/hostname", constants.COPYFILE_EXCL);
 * ```
 */
export async function copyFile(
  source: PathLike,
  destination: PathLike,
  mode: number | CopyFileOptions = 0,
): Promise<void> {
  const from = pathOf(source, "src");
  const to = pathOf(destination, "dest");
  const options = typeof mode === "object" && mode !== null ? mode : { mode };
  integer("mode", options.mode ?? 0, MOST_MODE);
  await writing.enter();
  try {
    await withFile(from, "r", null, (fd) => copyFrom(fd, to, options));
  } catch (error) {
    throw error instanceof UringError
      ? new UringError(error.errno, "copyfile", { path: textOf(from), dest: textOf(to) })
      : error;
  } finally {
    writing.leave();
  }
}

async function copyFrom(fd: number, to: string | Uint8Array, options: CopyFileOptions): Promise<void> {
  const uring = Uring.shared;
  const mode = options.mode ?? 0;
  const buffers = [new Uint8Array(CHUNK), new Uint8Array(CHUNK)] as const;
  // Before there is a copy: a directory cannot be read.
  const length = await uring.read(fd, buffers[0]);
  const about = await uring.statx("", { dirfd: fd, flags: AT_EMPTY_PATH });
  const exclusive = (mode & constants.COPYFILE_EXCL) !== 0 ? O_EXCL : 0;
  // What cannot be cloned by force shall be as it was.
  const force = (mode & constants.COPYFILE_FICLONE_FORCE) !== 0;
  const keep = force && await uring.statx(to).then(() => true, () => false);
  await withFile(to, O_WRONLY | O_CREAT | exclusive, about.mode & PERMISSIONS, async (copy) => {
    const target = await uring.statx("", { dirfd: copy, flags: AT_EMPTY_PATH });
    // Emptying it would empty the source.
    if (target.ino === about.ino && target.dev.join() === about.dev.join()) return;
    try {
      if (cloned(fd, copy, mode)) {
        if (target.size > about.size) await uring.ftruncate(copy, about.size);
        return options.onProgress?.(about.size);
      }
      if (target.isFile() && target.size > 0) {
        await uring.close(await uring.openat(to, { flags: O_WRONLY | O_TRUNC }));
      }
      await new Contents(fd, copy, buffers, options.onProgress).copy(about, target, length);
    } catch (error) {
      if (target.isFile() && !keep) await uring.unlinkat(to).catch(() => {});
      throw error;
    }
  });
}

/** Has the copy share the original's blocks, if that is asked for and can be. */
function cloned(from: number, to: number, mode: number): boolean {
  if ((mode & (constants.COPYFILE_FICLONE | constants.COPYFILE_FICLONE_FORCE)) === 0) return false;
  const result = system().files.ioctl(to, FICLONE, from);
  if (result >= 0) return true;
  const force = (mode & constants.COPYFILE_FICLONE_FORCE) !== 0;
  if (force || !NO_CLONE.has(result)) throw new UringError(result, "copyfile");
  return false;
}

/** The content of one file on its way into another. */
class Contents {
  readonly #from: number;
  readonly #to: number;
  readonly #onProgress: ((bytes: number) => void) | undefined;
  #full: Uint8Array;
  #empty: Uint8Array;

  constructor(
    from: number,
    to: number,
    [full, empty]: readonly [Uint8Array, Uint8Array],
    onProgress: ((bytes: number) => void) | undefined,
  ) {
    this.#from = from;
    this.#to = to;
    this.#full = full;
    this.#empty = empty;
    this.#onProgress = onProgress;
  }

  /** Copies all; the first `length` bytes have been read. */
  async copy(source: Statx, target: Statx, length: number): Promise<void> {
    const seekable = source.isFile() && source.size > 0 && target.isFile();
    if (!seekable || source.blocks * 512 >= source.size) {
      return await this.#piece(seekable, 0, Infinity, length);
    }
    for (let at = 0; at < source.size;) {
      const [start, end] = this.#data(at, source.size);
      if (start >= source.size) break;
      // What was read ahead is of use only where there is data at the start.
      const first = start === 0 ? Math.min(length, end) : await this.#read(true, start, end);
      await this.#piece(true, start, end, first);
      at = end;
    }
    const { size } = await Uring.shared.statx("", { dirfd: this.#to, flags: AT_EMPTY_PATH });
    if (size < source.size) await Uring.shared.ftruncate(this.#to, source.size);
  }

  /** The next stretch of data from `at` on, between holes. */
  #data(at: number, size: number): readonly [start: number, end: number] {
    const { files } = system();
    const start = files.lseek(this.#from, at, SEEK_DATA);
    if (start === ENXIO) return [size, size];
    // A file system that knows of no holes.
    if (start < 0) return [at, size];
    const end = files.lseek(this.#from, start, SEEK_HOLE);
    return [start, end < 0 ? size : end];
  }

  #read(seekable: boolean, at: number, end: number): Promise<number> {
    const view = end - at < CHUNK ? this.#empty.subarray(0, end - at) : this.#empty;
    const read = Uring.shared.read(this.#from, view, { offset: seekable ? at : -1 });
    return read.then((count) => {
      [this.#full, this.#empty] = [this.#empty, this.#full];
      return count;
    });
  }

  /** Copies a stretch whose first `length` bytes have been read: reads the next chunk while one is written. */
  async #piece(seekable: boolean, start: number, end: number, length: number): Promise<void> {
    for (let at = start; length > 0;) {
      const chunk = this.#full.subarray(0, length);
      const next = at + length;
      // The kernel works on both buffers until both have ended, whether one fails or not.
      const [read, written] = await Promise.allSettled([
        next < end ? this.#read(seekable, next, end) : 0,
        writeAll(this.#to, chunk, undefined, seekable ? at : -1),
      ]);
      if (written.status === "rejected") throw written.reason;
      this.#onProgress?.(length);
      if (read.status === "rejected") throw read.reason;
      at = next;
      length = read.value;
    }
  }
}

const ENXIO = -6;
