/**
 * `open`.
 *
 * @module
 */
import { AT_EMPTY_PATH, STATX_DIOALIGN } from "../ffi/abi.ts";
import { O_DIRECT } from "../ffi/arch.ts";
import { Uring } from "../mod.ts";
import { type Flags, flagsOf, type Mode, type PathLike } from "./arguments.ts";
import { FileHandle } from "./file_handle.ts";
import { openFd } from "./transfer.ts";

/** What every device can do. */
const SAFE_ALIGNMENT = 4096;

/** Options of {@link open}. */
export interface OpenOptions {
  /** Node's letters or `O_*` bits; default `"r"`. */
  flags?: Flags | undefined;
  /** The permissions of a file that is created; default `0o666`, less the umask. */
  mode?: Mode | undefined;
  /**
   * Past the kernel's cache (`O_DIRECT`): data goes between the device and your memory, which must be aligned, as must
   * places and lengths; {@link FileHandle.alignment} tells how. {@link PagePool} has such memory.
   */
  direct?: boolean | undefined;
}

/**
 * Opens a file.
 *
 * @param flags Node's letters or `O_*` bits, default `"r"`; or options.
 * @param mode The permissions of a file that is created; default `0o666`, less the umask.
 * @throws UringError (rejects) with Node's `code`, `syscall` and `path`; `EINVAL` where there is no direct I/O.
 *
 * @example
 * ```ts
 * import { open } from "uring/fs";
 * await using file = await open("/etc/hostname");
 * const { bytesRead, buffer } = await file.read({ position: 0 });
 * console.log(buffer.toString("utf8", 0, bytesRead));
 * ```
 */
export async function open(
  path: PathLike,
  flags?: Flags | OpenOptions | null,
  mode?: Mode | null,
): Promise<FileHandle> {
  if (typeof flags !== "object" || flags === null) {
    return new FileHandle(await openFd(path, flags ?? "r", mode));
  }
  if (flags.direct !== true) return new FileHandle(await openFd(path, flags.flags ?? "r", flags.mode));
  const bits = flagsOf(flags.flags, "r") | O_DIRECT;
  const fd = await openFd(path, bits, flags.mode);
  try {
    const about = await Uring.shared.statx("", { dirfd: fd, flags: AT_EMPTY_PATH, mask: STATX_DIOALIGN });
    // Before Linux 6.1, and on file systems that do not tell, what every device can do has to do.
    const alignment = {
      memory: about.dioMemAlign || SAFE_ALIGNMENT,
      offset: about.dioOffsetAlign || SAFE_ALIGNMENT,
    };
    return new FileHandle(fd, alignment);
  } catch (error) {
    await Uring.shared.close(fd).catch(() => {});
    throw error;
  }
}
