/**
 * The file operations of a submission queue entry.
 *
 * @module
 */
import {
  AT_FDCWD,
  IORING_OP_CLOSE,
  IORING_OP_FALLOCATE,
  IORING_OP_FILES_UPDATE,
  IORING_OP_FSYNC,
  IORING_OP_FTRUNCATE,
  IORING_OP_MKDIRAT,
  IORING_OP_OPENAT,
  IORING_OP_READ,
  IORING_OP_READ_FIXED,
  IORING_OP_READV,
  IORING_OP_RENAMEAT,
  IORING_OP_STATX,
  IORING_OP_UNLINKAT,
  IORING_OP_WRITE,
  IORING_OP_WRITE_FIXED,
  IORING_OP_WRITEV,
} from "../ffi/abi.ts";
import { SqeBase, type U64 } from "./sqe_base.ts";

/** Preps for files. Addresses are numbers; the memory behind them must stay until the completion. */
export class SqeFiles extends SqeBase {
  /** Reads `nbytes` at `offset` (−1: the file's own position) into `buf`: `io_uring_prep_read`, Linux 5.6. */
  prepRead(fd: number, buf: U64, nbytes: number, offset: U64): void {
    this.prepRw(IORING_OP_READ, fd, buf, nbytes, offset);
  }

  /** Writes `nbytes` from `buf` at `offset` (−1: the file's own position): `io_uring_prep_write`, Linux 5.6. */
  prepWrite(fd: number, buf: U64, nbytes: number, offset: U64): void {
    this.prepRw(IORING_OP_WRITE, fd, buf, nbytes, offset);
  }

  /** Reads into an array of `struct iovec`: `io_uring_prep_readv`, Linux 5.1. */
  prepReadv(fd: number, iovecs: U64, nrVecs: number, offset: U64): void {
    this.prepRw(IORING_OP_READV, fd, iovecs, nrVecs, offset);
  }

  /** {@link SqeFiles.prepReadv} with `RWF_*` flags: `io_uring_prep_readv2`, Linux 5.1. */
  prepReadv2(fd: number, iovecs: U64, nrVecs: number, offset: U64, flags: number): void {
    this.prepReadv(fd, iovecs, nrVecs, offset);
    this.opFlags = flags;
  }

  /** Writes out of an array of `struct iovec`: `io_uring_prep_writev`, Linux 5.1. */
  prepWritev(fd: number, iovecs: U64, nrVecs: number, offset: U64): void {
    this.prepRw(IORING_OP_WRITEV, fd, iovecs, nrVecs, offset);
  }

  /** {@link SqeFiles.prepWritev} with `RWF_*` flags: `io_uring_prep_writev2`, Linux 5.1. */
  prepWritev2(fd: number, iovecs: U64, nrVecs: number, offset: U64, flags: number): void {
    this.prepWritev(fd, iovecs, nrVecs, offset);
    this.opFlags = flags;
  }

  /** Reads into (a part of) the registered buffer `bufIndex`: `io_uring_prep_read_fixed`, Linux 5.1. */
  prepReadFixed(fd: number, buf: U64, nbytes: number, offset: U64, bufIndex: number): void {
    this.prepRw(IORING_OP_READ_FIXED, fd, buf, nbytes, offset);
    this.bufIndex = bufIndex;
  }

  /** Writes out of (a part of) the registered buffer `bufIndex`: `io_uring_prep_write_fixed`, Linux 5.1. */
  prepWriteFixed(fd: number, buf: U64, nbytes: number, offset: U64, bufIndex: number): void {
    this.prepRw(IORING_OP_WRITE_FIXED, fd, buf, nbytes, offset);
    this.bufIndex = bufIndex;
  }

  /** `fsync`, or `fdatasync` with `IORING_FSYNC_DATASYNC`: `io_uring_prep_fsync`, Linux 5.1. */
  prepFsync(fd: number, fsyncFlags: number): void {
    this.fillBare(IORING_OP_FSYNC, fd);
    this.opFlags = fsyncFlags;
  }

  /** Opens `path` (a C string's address) below `dfd`: `io_uring_prep_openat`, Linux 5.6. */
  prepOpenat(dfd: number, path: U64, flags: number, mode: number): void {
    this.prepRw(IORING_OP_OPENAT, dfd, path, mode, 0);
    this.opFlags = flags;
  }

  /** Opens into a direct descriptor (a slot, or `IORING_FILE_INDEX_ALLOC`): `io_uring_prep_openat_direct`, Linux 5.15. */
  prepOpenatDirect(dfd: number, path: U64, flags: number, mode: number, fileIndex: number): void {
    this.prepOpenat(dfd, path, flags, mode);
    this.setTargetFixedFile(fileIndex);
  }

  /** {@link SqeFiles.prepOpenat} below the working directory: `io_uring_prep_open`. */
  prepOpen(path: U64, flags: number, mode: number): void {
    this.prepOpenat(AT_FDCWD, path, flags, mode);
  }

  /** {@link SqeFiles.prepOpenatDirect} below the working directory: `io_uring_prep_open_direct`. */
  prepOpenDirect(path: U64, flags: number, mode: number, fileIndex: number): void {
    this.prepOpenatDirect(AT_FDCWD, path, flags, mode, fileIndex);
  }

  /** Closes a descriptor: `io_uring_prep_close`, Linux 5.6. */
  prepClose(fd: number): void {
    this.fillBare(IORING_OP_CLOSE, fd);
  }

  /**
   * Closes a direct descriptor: `io_uring_prep_close_direct`, Linux 5.15.
   *
   * @throws RangeError for `IORING_FILE_INDEX_ALLOC`, which the kernel would take for the descriptor 0.
   */
  prepCloseDirect(fileIndex: number): void {
    if (fileIndex < 0 || fileIndex >= 0xffff_ffff) {
      throw new RangeError(`Not a direct descriptor: ${fileIndex}`);
    }
    this.prepClose(0);
    this.setTargetFixedFile(fileIndex);
  }

  /** `statx` into `statxbuf`, a `struct statx`: `io_uring_prep_statx`, Linux 5.6. */
  prepStatx(dfd: number, path: U64, flags: number, mask: number, statxbuf: U64): void {
    this.prepRw(IORING_OP_STATX, dfd, path, mask, statxbuf);
    this.opFlags = flags;
  }

  /** Allocates or frees a range of a file: `io_uring_prep_fallocate`, Linux 5.6. */
  prepFallocate(fd: number, mode: number, offset: U64, len: U64): void {
    this.prepRw(IORING_OP_FALLOCATE, fd, len, mode, offset);
  }

  /** Sets a file's length: `io_uring_prep_ftruncate`, Linux 6.9. */
  prepFtruncate(fd: number, len: U64): void {
    this.prepRw(IORING_OP_FTRUNCATE, fd, 0, 0, len);
  }

  /** Removes a name: `io_uring_prep_unlinkat`, Linux 5.11. */
  prepUnlinkat(dfd: number, path: U64, flags: number): void {
    this.prepRw(IORING_OP_UNLINKAT, dfd, path, 0, 0);
    this.opFlags = flags;
  }

  /** {@link SqeFiles.prepUnlinkat} below the working directory: `io_uring_prep_unlink`. */
  prepUnlink(path: U64, flags: number): void {
    this.prepUnlinkat(AT_FDCWD, path, flags);
  }

  /** Renames: `io_uring_prep_renameat`, Linux 5.11. */
  prepRenameat(olddfd: number, oldpath: U64, newdfd: number, newpath: U64, flags: number): void {
    this.prepRw(IORING_OP_RENAMEAT, olddfd, oldpath, newdfd, newpath);
    this.opFlags = flags;
  }

  /** {@link SqeFiles.prepRenameat} below the working directory: `io_uring_prep_rename`. */
  prepRename(oldpath: U64, newpath: U64): void {
    this.prepRenameat(AT_FDCWD, oldpath, AT_FDCWD, newpath, 0);
  }

  /** Makes a directory: `io_uring_prep_mkdirat`, Linux 5.15. */
  prepMkdirat(dfd: number, path: U64, mode: number): void {
    this.prepRw(IORING_OP_MKDIRAT, dfd, path, mode, 0);
  }

  /** {@link SqeFiles.prepMkdirat} below the working directory: `io_uring_prep_mkdir`. */
  prepMkdir(path: U64, mode: number): void {
    this.prepMkdirat(AT_FDCWD, path, mode);
  }

  /** Changes registered files from slot `offset` on: `io_uring_prep_files_update`, Linux 5.6. */
  prepFilesUpdate(fds: U64, nrFds: number, offset: number): void {
    this.prepRw(IORING_OP_FILES_UPDATE, -1, fds, nrFds, offset);
  }
}
