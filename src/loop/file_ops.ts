/**
 * Operations on files.
 *
 * @module
 */
import { IORING_FSYNC_DATASYNC } from "../ffi/abi.ts";
import { iovec } from "../ffi/structs.ts";
import type { U64 } from "../ring/sqe_base.ts";
import type { Piece } from "./arena.ts";
import { closeDirect, type DirectDescriptor, type Fd } from "./direct.ts";
import type { Op } from "./op.ts";
import {
  checkLength,
  checkOffset,
  checkSize,
  checkU32,
  checkView,
  MAX_TRANSFER,
  type OperationOptions,
  type TransferOptions,
} from "./options.ts";
import { XattrOperations } from "./xattr_ops.ts";

/** Options of {@link FileOperations.readv} and {@link FileOperations.writev}. */
export interface VectorOptions extends OperationOptions {
  /** The offset in the file in bytes; default: the file's own position. */
  offset?: U64;
  /** `RWF_*` bits, for example `RWF_DSYNC`. */
  flags?: number;
}

/** Options of {@link FileOperations.write}. */
export interface WriteOptions extends TransferOptions {
  /** `RWF_*` bits: `RWF_APPEND`, `RWF_DSYNC`… */
  flags?: number;
}

/** Options of {@link FileOperations.fixedFdInstall}. */
export interface InstallOptions extends OperationOptions {
  /** `IORING_FIXED_FD_NO_CLOEXEC`: programs that are executed inherit the descriptor. */
  flags?: number;
}

/** File operations, each one entry of the submission queue. */
export abstract class FileOperations extends XattrOperations {
  /**
   * Reads into `buffer` and resolves with the number of bytes: fewer than asked for at the end of a file, 0 at its end.
   * liburing: `io_uring_prep_read`, Linux 5.6.
   *
   * The kernel writes into `buffer` until the promise settles; do not transfer it meanwhile.
   */
  read(fd: Fd, buffer: ArrayBufferView, options?: TransferOptions): Promise<number> {
    checkView(buffer);
    this.check(options);
    const offset = checkOffset(options?.offset);
    const length = checkLength(buffer, options?.length);
    const number = this.number(fd);
    const address = this.into(buffer, length);
    const op = this.begin("read");
    op.view = buffer;
    op.sqe!.prepRead(number, address, length, offset);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /**
   * Writes from `buffer` and resolves with the number of bytes written, which may be fewer than asked for.
   *
   * A write at the file's own position that is cut short (the disk is full) leaves the position where it was (Linux 6.18): to
   * go on, give an `offset`.
   *
   * liburing: `io_uring_prep_write`, Linux 5.6.
   */
  write(fd: Fd, buffer: ArrayBufferView, options?: WriteOptions): Promise<number> {
    checkView(buffer);
    this.check(options);
    const offset = checkOffset(options?.offset);
    const length = checkLength(buffer, options?.length);
    const flags = checkU32("flags", options?.flags ?? 0);
    const number = this.number(fd);
    const address = this.from(buffer, length);
    const op = this.begin("write");
    op.view = buffer;
    op.sqe!.prepWrite(number, address, length, offset);
    if (flags !== 0) op.sqe!.opFlags = flags;
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /** Reads into several buffers in order: `io_uring_prep_readv2`, Linux 5.1. Resolves with the number of bytes. */
  readv(fd: Fd, buffers: readonly ArrayBufferView[], options?: VectorOptions): Promise<number> {
    return this.#vectored("readv", fd, buffers, options);
  }

  /** Writes several buffers in order: `io_uring_prep_writev2`, Linux 5.1. Resolves with the number of bytes. */
  writev(fd: Fd, buffers: readonly ArrayBufferView[], options?: VectorOptions): Promise<number> {
    return this.#vectored("writev", fd, buffers, options);
  }

  #vectored(
    name: "readv" | "writev",
    fd: Fd,
    buffers: readonly ArrayBufferView[],
    options: VectorOptions | undefined,
  ): Promise<number> {
    this.check(options);
    const offset = checkOffset(options?.offset);
    const flags = checkU32("flags", options?.flags ?? 0);
    const number = this.number(fd);
    const views = [...buffers];
    const vectors = iovecs(
      views,
      (bytes) => this.driver.arena.take(bytes),
      name === "readv"
        ? (view, length) => this.into(view, length)
        : (view, length) => this.from(view, length),
    );
    const op = this.begin(name);
    op.pins = [views, vectors.owner];
    op.finish = (res) => {
      if (views.some(isDetached)) {
        throw new TypeError("A buffer was detached while the kernel was working on it");
      }
      return res;
    };
    if (name === "readv") op.sqe!.prepReadv2(number, vectors.address, views.length, offset, flags);
    else op.sqe!.prepWritev2(number, vectors.address, views.length, offset, flags);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /** Closes a descriptor of either kind: `io_uring_prep_close` (Linux 5.6), `io_uring_prep_close_direct` (5.15). */
  close(fd: Fd, options?: OperationOptions): Promise<void> {
    this.check(options);
    const number = this.number(fd);
    const op = this.begin("close");
    if (typeof fd === "number") {
      op.sqe!.prepClose(number);
      return this.promise(op, options);
    }
    op.sqe!.prepCloseDirect(number);
    // A reserved one is opened by the same chain first.
    if (fd.state === "open") fd.state = "closing";
    this.#finishDirectClose(op, fd);
    return this.promise(op, options);
  }

  /** Whatever became of the operation itself, what was to be closed is closed: in a chain it may have been cancelled. */
  #finishDirectClose(op: Op, fd: DirectDescriptor): void {
    const { driver, directs } = this;
    (op.extra ??= {}).settled = (ok) => {
      if (ok) directs.release(fd);
      else if (fd.state !== "closed") {
        fd.state = "closing";
        closeDirect(driver, fd);
      }
    };
    op.extra.undo = () => {};
  }

  /**
   * Makes a descriptor of the process for the file behind a direct one, which stays open: `io_uring_prep_fixed_fd_install`,
   * Linux 6.8. It is close-on-exec, unless `flags` has `IORING_FIXED_FD_NO_CLOEXEC`.
   */
  fixedFdInstall(fd: DirectDescriptor, options?: InstallOptions): Promise<number> {
    this.check(options);
    const flags = checkU32("flags", options?.flags ?? 0);
    if (typeof fd === "number") throw new TypeError("A descriptor of the process is one already");
    const number = this.number(fd);
    const op = this.begin("fixed_fd_install");
    op.sqe!.prepFixedFdInstall(number, flags);
    this.markFd(op, fd);
    this.closeIfLate(op, options);
    return this.promise(op, options);
  }

  /** Allocates or frees a range of a file (`FALLOC_FL_*`): `io_uring_prep_fallocate`, Linux 5.6. */
  fallocate(fd: Fd, mode: number, offset: U64, length: U64, options?: OperationOptions): Promise<void> {
    this.check(options);
    checkU32("mode", mode);
    checkSize("offset", offset);
    checkSize("length", length);
    const number = this.number(fd);
    const op = this.begin("fallocate");
    op.sqe!.prepFallocate(number, mode, offset, length);
    this.markLateFd(op, fd);
    return this.promise(op, options);
  }

  /** Has a file's data and metadata written to its device: `io_uring_prep_fsync`, Linux 5.1. */
  fsync(fd: Fd, options?: OperationOptions): Promise<void> {
    return this.#sync("fsync", fd, 0, options);
  }

  /** Has a file's data, and what is needed to find it, written to its device: `io_uring_prep_fsync`, Linux 5.1. */
  fdatasync(fd: Fd, options?: OperationOptions): Promise<void> {
    return this.#sync("fdatasync", fd, IORING_FSYNC_DATASYNC, options);
  }

  #sync(name: string, fd: Fd, flags: number, options: OperationOptions | undefined): Promise<void> {
    this.check(options);
    const number = this.number(fd);
    const op = this.begin(name);
    op.sqe!.prepFsync(number, flags);
    this.markLateFd(op, fd);
    return this.promise(op, options);
  }

  /**
   * Has a range of a file's data written to its device, without what is needed to find it: `io_uring_prep_sync_file_range`,
   * Linux 5.2.
   *
   * @param fd The file.
   * @param offset Where the range begins, in bytes.
   * @param length Its length in bytes, less than 4 GiB; 0: to the end of the file.
   * @param flags `SYNC_FILE_RANGE_*` bits: what to begin, and what to wait for.
   * @param options What every operation accepts.
   */
  syncFileRange(
    fd: Fd,
    offset: U64,
    length: number,
    flags: number,
    options?: OperationOptions,
  ): Promise<void> {
    this.check(options);
    checkSize("offset", offset);
    checkU32("length", length);
    checkU32("flags", flags);
    const number = this.number(fd);
    const op = this.begin("sync_file_range");
    op.sqe!.prepSyncFileRange(number, length, offset, flags);
    this.markLateFd(op, fd);
    return this.promise(op, options);
  }

  /** Sets a file's length in bytes: `io_uring_prep_ftruncate`, Linux 6.9. */
  ftruncate(fd: Fd, length: U64, options?: OperationOptions): Promise<void> {
    this.check(options);
    checkSize("length", length);
    const number = this.number(fd);
    const op = this.begin("ftruncate");
    op.sqe!.prepFtruncate(number, length);
    this.markLateFd(op, fd);
    return this.promise(op, options);
  }
}

/** Whether a view's memory was given away. @internal */
export function isDetached(view: ArrayBufferView): boolean {
  return view.byteLength === 0 && (view.buffer as ArrayBuffer).detached;
}

const MOST_VECTORS = 1024;

/** Gives the address of so many bytes of a view. @internal */
export type AddressFinder = (view: ArrayBufferView, length: number) => number;

/**
 * An array of `struct iovec` for views, each checked and at most as long as the kernel transfers, in memory that `take`
 * gives. @internal
 */
export function iovecs(
  views: readonly ArrayBufferView[],
  take: (byteLength: number) => Piece,
  find: AddressFinder,
): Piece {
  if (views.length > MOST_VECTORS) {
    throw new RangeError(`At most ${MOST_VECTORS} buffers, not ${views.length}`);
  }
  const addresses = views.map((view) => {
    checkView(view);
    return find(view, Math.min(view.byteLength, MAX_TRANSFER));
  });
  const piece = take(views.length * iovec.size);
  const out = new DataView(piece.bytes.buffer, piece.bytes.byteOffset, piece.bytes.byteLength);
  views.forEach((view, i) => {
    out.setBigUint64(i * iovec.size + iovec.iov_base, BigInt(addresses[i]!), true);
    out.setBigUint64(i * iovec.size + iovec.iov_len, BigInt(Math.min(view.byteLength, MAX_TRANSFER)), true);
  });
  return piece;
}
