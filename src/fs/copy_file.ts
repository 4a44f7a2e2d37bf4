/**
 * `copyFile`.
 *
 * @module
 */
import { AT_EMPTY_PATH, O_CREAT, O_EXCL, O_TRUNC, O_WRONLY } from "../ffi/abi.ts";
import { Uring, UringError } from "../mod.ts";
import { integer, type PathLike, pathOf } from "./arguments.ts";
import { constants } from "./constants.ts";
import { writing } from "./limit.ts";
import { withFile, writeAll } from "./transfer.ts";

const CHUNK = 256 * 1024;
const ENOTSUP = 95;
const PERMISSIONS = 0o777;

/**
 * Copies a file: its content, and its permissions, less the umask, where the copy is a new file. A copy that fails midway
 * is removed.
 *
 * @param mode `constants.COPYFILE_EXCL`: fail with `EEXIST` when there is a file already. `COPYFILE_FICLONE` changes
 * nothing; `COPYFILE_FICLONE_FORCE` fails with `ENOTSUP`, since io_uring cannot share blocks.
 *
 * @example
 * ```ts
 * import { constants, copyFile } from "uring/fs";
 * await copyFile("/etc/hostname", "/tmp/hostname", constants.COPYFILE_EXCL);
 * ```
 */
export async function copyFile(source: PathLike, destination: PathLike, mode = 0): Promise<void> {
  const from = pathOf(source, "src");
  const to = pathOf(destination, "dest");
  integer("mode", mode, 7);
  await writing.enter();
  try {
    if ((mode & constants.COPYFILE_FICLONE_FORCE) !== 0) throw new UringError(ENOTSUP, "copyfile");
    await withFile(from, "r", null, (fd) => copyFrom(fd, to, mode));
  } catch (error) {
    throw error instanceof UringError
      ? new UringError(error.errno, "copyfile", { path: textOf(from), dest: textOf(to) })
      : error;
  } finally {
    writing.leave();
  }
}

async function copyFrom(fd: number, to: string | Uint8Array, mode: number): Promise<void> {
  const uring = Uring.shared;
  // Before there is a copy: a directory cannot be read.
  const buffers = [new Uint8Array(CHUNK), new Uint8Array(CHUNK)] as const;
  const length = await uring.read(fd, buffers[0]);
  const about = await uring.statx("", { dirfd: fd, flags: AT_EMPTY_PATH });
  const exclusive = (mode & constants.COPYFILE_EXCL) !== 0 ? O_EXCL : 0;
  await withFile(to, O_WRONLY | O_CREAT | exclusive, about.mode & PERMISSIONS, async (copy) => {
    const target = await uring.statx("", { dirfd: copy, flags: AT_EMPTY_PATH });
    // Emptying it would empty the source.
    if (target.ino === about.ino && target.dev.join() === about.dev.join()) return;
    try {
      if (target.isFile() && target.size > 0) {
        await uring.close(await uring.openat(to, { flags: O_WRONLY | O_TRUNC }));
      }
      await copyContent(fd, copy, buffers, length);
    } catch (error) {
      if (target.isFile()) await uring.unlinkat(to).catch(() => {});
      throw error;
    }
  });
}

/** Reads the next chunk while the one before is written. */
async function copyContent(
  from: number,
  to: number,
  [first, second]: readonly [Uint8Array, Uint8Array],
  length: number,
): Promise<void> {
  let [full, empty] = [first, second];
  while (length > 0) {
    // The kernel works on both buffers until both have ended, whether one fails or not.
    const [read, written] = await Promise.allSettled([
      Uring.shared.read(from, empty),
      writeAll(to, full.subarray(0, length)),
    ]);
    if (written.status === "rejected") throw written.reason;
    if (read.status === "rejected") throw read.reason;
    length = read.value;
    [full, empty] = [empty, full];
  }
}

function textOf(path: string | Uint8Array): string {
  return typeof path === "string" ? path : new TextDecoder().decode(path);
}
