/**
 * Operations on files.
 *
 * @module
 */
import { AT_FDCWD, AT_REMOVEDIR, IORING_FSYNC_DATASYNC, O_CLOEXEC, STATX_BASIC_STATS } from "../ffi/abi.ts";
import { addressOf, pinned } from "../ffi/pin.ts";
import { iovec, statx } from "../ffi/structs.ts";
import type { U64 } from "../ring/sqe_base.ts";
import type { Piece } from "./arena.ts";
import { closeDirect, Submitter } from "./submitter.ts";
import { DirectDescriptor, type Fd } from "./direct.ts";
import { type FlagString, openFlags } from "./open_flags.ts";
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
import { Statx } from "./statx.ts";

/** A path: text, or the bytes of a name that is no UTF-8. */
export type Path = string | Uint8Array;

/** Options of operations on a path. */
export interface PathOptions extends OperationOptions {
  /** The directory that a relative path starts from, as a descriptor; default: the working directory. */
  dirfd?: number;
}

/** Options of {@link FileOperations.openat}. */
export interface OpenOptions extends PathOptions {
  /** `O_*` bits or Node's letters (`"r"`, `"w+"`, `"ax"`…); default `"r"`. `O_CLOEXEC` is always set. */
  flags?: number | FlagString;
  /** The permissions of a file that is created; default `0o666`, less the umask. */
  mode?: number;
}

/** {@link OpenOptions} for a direct descriptor. */
export interface OpenDirectOptions extends OpenOptions {
  /** `true` for a direct descriptor (Linux 5.15), or one reserved with `chain.direct()`. */
  direct: true | DirectDescriptor;
}

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

/** Options of {@link FileOperations.statx}. */
export interface StatxOptions extends PathOptions {
  /** `AT_*` bits: `AT_SYMLINK_NOFOLLOW`, `AT_EMPTY_PATH`… */
  flags?: number;
  /** `STATX_*`: which fields are wanted; default `STATX_BASIC_STATS`. */
  mask?: number;
}

/** Options of {@link FileOperations.renameat}. */
export interface RenameOptions extends PathOptions {
  /** The directory that a relative new path starts from. */
  newDirfd?: number;
  /** `RENAME_*` bits. */
  flags?: number;
}

const NUL = 0;

/** File operations, each one entry of the submission queue. */
export abstract class FileOperations extends Submitter {
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
    const address = addressOf(buffer);
    const number = this.number(fd);
    const op = this.begin("read");
    op.view = buffer;
    op.sqe!.prepRead(number, address, length, offset);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /**
   * Writes from `buffer` and resolves with the number of bytes written, which may be fewer than asked for.
   * liburing: `io_uring_prep_write`, Linux 5.6.
   */
  write(fd: Fd, buffer: ArrayBufferView, options?: WriteOptions): Promise<number> {
    checkView(buffer);
    this.check(options);
    const offset = checkOffset(options?.offset);
    const length = checkLength(buffer, options?.length);
    const flags = checkU32("flags", options?.flags ?? 0);
    const address = addressOf(buffer);
    const number = this.number(fd);
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
    const vectors = iovecs(views, (bytes) => this.driver.arena.take(bytes));
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

  /** Opens a file into a direct descriptor: `io_uring_prep_openat_direct`, Linux 5.15. */
  openat(path: Path, options: OpenDirectOptions): Promise<DirectDescriptor>;
  /** Opens a file and resolves with its descriptor: `io_uring_prep_openat`, Linux 5.6. */
  openat(path: Path, options?: OpenOptions): Promise<number>;
  openat(path: Path, options?: OpenOptions | OpenDirectOptions): Promise<number | DirectDescriptor> {
    this.check(options);
    const flags = openFlags(options?.flags ?? "r");
    const mode = checkU32("mode", options?.mode ?? 0o666);
    const dirfd = dirfdOf(options?.dirfd);
    checkPath(path);
    const direct = options !== undefined && "direct" in options ? options.direct : undefined;
    const target = direct === undefined ? null : this.target(direct);
    const { op, sqe, address } = this.#beginPath("openat", path);
    if (target !== null) {
      // The kernel refuses O_CLOEXEC for what no exec can inherit.
      sqe.prepOpenatDirect(dirfd, address, flags & ~O_CLOEXEC, mode, target.slot);
      this.intoDirect(op, target);
    } else {
      sqe.prepOpenat(dirfd, address, flags | O_CLOEXEC, mode);
      this.closeIfLate(op, options);
    }
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

  /** What is known of a file: `io_uring_prep_statx`, Linux 5.6. The kernel always hands it to a worker thread. */
  statx(path: Path, options?: StatxOptions): Promise<Statx> {
    this.check(options);
    const flags = checkU32("flags", options?.flags ?? 0);
    const mask = checkU32("mask", options?.mask ?? STATX_BASIC_STATS);
    const dirfd = dirfdOf(options?.dirfd);
    checkPath(path);
    const out = pinned(statx.size);
    const { op, sqe, address } = this.#beginPath("statx", path);
    op.pins = [op.pins, out];
    op.finish = () => new Statx(out.bytes);
    sqe.prepStatx(dirfd, address, flags, mask, out.address);
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
    this.markFd(op, fd);
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
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /** Sets a file's length in bytes: `io_uring_prep_ftruncate`, Linux 6.9. */
  ftruncate(fd: Fd, length: U64, options?: OperationOptions): Promise<void> {
    this.check(options);
    checkSize("length", length);
    const number = this.number(fd);
    const op = this.begin("ftruncate");
    op.sqe!.prepFtruncate(number, length);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /** Removes a file, or a directory with `{ directory: true }`: `io_uring_prep_unlinkat`, Linux 5.11. */
  unlinkat(path: Path, options?: PathOptions & { directory?: boolean }): Promise<void> {
    this.check(options);
    const dirfd = dirfdOf(options?.dirfd);
    checkPath(path);
    const { op, sqe, address } = this.#beginPath("unlinkat", path);
    sqe.prepUnlinkat(dirfd, address, options?.directory === true ? AT_REMOVEDIR : 0);
    return this.promise(op, options);
  }

  /** Renames a file: `io_uring_prep_renameat`, Linux 5.11. */
  renameat(path: Path, newPath: Path, options?: RenameOptions): Promise<void> {
    this.check(options);
    const dirfd = dirfdOf(options?.dirfd);
    const newDirfd = dirfdOf(options?.newDirfd);
    const flags = checkU32("flags", options?.flags ?? 0);
    checkPath(path);
    checkPath(newPath);
    const { op, sqe, address } = this.#beginPath("renameat", path);
    const second = this.driver.arena.cString(newPath);
    op.pins = [op.pins, second.owner];
    op.dest = textOf(newPath);
    sqe.prepRenameat(dirfd, address, newDirfd, second.address, flags);
    return this.promise(op, options);
  }

  /** Makes a directory with permissions `mode` (default `0o777`, less the umask): `io_uring_prep_mkdirat`, Linux 5.15. */
  mkdirat(path: Path, options?: PathOptions & { mode?: number }): Promise<void> {
    this.check(options);
    const dirfd = dirfdOf(options?.dirfd);
    const mode = checkU32("mode", options?.mode ?? 0o777);
    checkPath(path);
    const { op, sqe, address } = this.#beginPath("mkdirat", path);
    sqe.prepMkdirat(dirfd, address, mode);
    return this.promise(op, options);
  }

  /** Begins an operation on a path, which has been checked. */
  #beginPath(name: string, path: Path): { op: Op; sqe: NonNullable<Op["sqe"]>; address: number } {
    const piece = this.driver.arena.cString(path);
    const op = this.begin(name);
    op.path = textOf(path);
    op.pins = piece.owner;
    return { op, sqe: op.sqe!, address: piece.address };
  }
}

function checkPath(path: Path): void {
  const bad = typeof path === "string"
    ? path.includes("\0")
    : path instanceof Uint8Array
    ? path.includes(NUL)
    : null;
  if (bad === null) throw new TypeError("A path is a string or a Uint8Array");
  if (bad) throw new TypeError("A path must not contain a NUL byte");
}

function textOf(path: Path): string {
  return typeof path === "string" ? path : new TextDecoder().decode(path);
}

function dirfdOf(dirfd: number | undefined): number {
  if (dirfd === undefined) return AT_FDCWD;
  if (dirfd !== (dirfd | 0)) throw new TypeError(`dirfd must be a descriptor, not ${dirfd}`);
  return dirfd;
}

function isDetached(view: ArrayBufferView): boolean {
  return view.byteLength === 0 && (view.buffer as ArrayBuffer).detached;
}

const MOST_VECTORS = 1024;

/** An array of `struct iovec` for views, each checked and at most as long as the kernel transfers. @internal */
export function iovecs(views: readonly ArrayBufferView[], take: (byteLength: number) => Piece): Piece {
  if (views.length > MOST_VECTORS) {
    throw new RangeError(`At most ${MOST_VECTORS} buffers, not ${views.length}`);
  }
  const addresses = views.map((view) => {
    checkView(view);
    return addressOf(view);
  });
  const piece = take(views.length * iovec.size);
  const out = new DataView(piece.bytes.buffer, piece.bytes.byteOffset, piece.bytes.byteLength);
  views.forEach((view, i) => {
    out.setBigUint64(i * iovec.size + iovec.iov_base, BigInt(addresses[i]!), true);
    out.setBigUint64(i * iovec.size + iovec.iov_len, BigInt(Math.min(view.byteLength, MAX_TRANSFER)), true);
  });
  return piece;
}
