/**
 * `copyFile`.
 *
 * @module
 */
import { AT_EMPTY_PATH, FICLONE, O_CREAT, O_EXCL, O_TRUNC, O_WRONLY } from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import { Uring, UringError } from "../mod.ts";
import { integer, type PathLike, pathOf } from "./arguments.ts";
import { textOf } from "./calls.ts";
import { constants } from "./constants.ts";
import { Contents } from "./contents.ts";
import { writing } from "./limit.ts";
import { withFile } from "./transfer.ts";

/** Options of {@link copyFile}. */
export interface CopyFileOptions {
  /** `constants.COPYFILE_*` bits; default 0. */
  mode?: number | undefined;
  /** Called with the number of bytes of each piece that was written. */
  onProgress?: ((bytes: number) => void) | undefined;
}

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
  const about = await uring.statx("", { dirfd: fd, flags: AT_EMPTY_PATH });
  const contents = new Contents(fd, about, options.onProgress);
  // Before there is a copy: a directory cannot be read.
  await contents.begin();
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
      await contents.copyTo(copy, target);
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
