/**
 * The operations of a submission queue entry on open files.
 *
 * @module
 */
import {
  IORING_OP_CLOSE,
  IORING_OP_FADVISE,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_FTRUNCATE,
  IORING_OP_MADVISE,
  IORING_OP_READ,
  IORING_OP_READ_FIXED,
  IORING_OP_READ_MULTISHOT,
  IORING_OP_READV,
  IORING_OP_READV_FIXED,
  IORING_OP_SYNC_FILE_RANGE,
  IORING_OP_WRITE,
  IORING_OP_WRITE_FIXED,
  IORING_OP_WRITEV,
  IORING_OP_WRITEV_FIXED,
  IOSQE_BUFFER_SELECT,
} from "../ffi/abi.ts";
import type { U64 } from "./sqe_base.ts";
import { SqePaths } from "./sqe_paths.ts";

/** Preps for files. Addresses are numbers; the memory behind them must stay until the completion. */
export class SqeFiles extends SqePaths {
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

  /**
   * Reads into pieces of the registered buffer `bufIndex`, named by an array of `struct iovec`:
   * `io_uring_prep_readv_fixed`, Linux 6.15.
   */
  prepReadvFixed(
    fd: number,
    iovecs: U64,
    nrVecs: number,
    offset: U64,
    flags: number,
    bufIndex: number,
  ): void {
    this.prepReadv2(fd, iovecs, nrVecs, offset, flags);
    this.opcode = IORING_OP_READV_FIXED;
    this.bufIndex = bufIndex;
  }

  /** Writes out of pieces of the registered buffer `bufIndex`: `io_uring_prep_writev_fixed`, Linux 6.15. */
  prepWritevFixed(
    fd: number,
    iovecs: U64,
    nrVecs: number,
    offset: U64,
    flags: number,
    bufIndex: number,
  ): void {
    this.prepWritev2(fd, iovecs, nrVecs, offset, flags);
    this.opcode = IORING_OP_WRITEV_FIXED;
    this.bufIndex = bufIndex;
  }

  /**
   * Reads what comes, until cancelled, into provided buffers of the group `bufGroup`; the kernel takes no `nbytes` but 0,
   * as much as a buffer holds. It replaces the entry's `IOSQE_*` bits: `io_uring_prep_read_multishot`, Linux 6.7.
   */
  prepReadMultishot(fd: number, nbytes: number, offset: U64, bufGroup: number): void {
    this.prepRw(IORING_OP_READ_MULTISHOT, fd, 0, nbytes, offset);
    this.bufGroup = bufGroup;
    this.flags = IOSQE_BUFFER_SELECT;
  }

  /** `fsync`, or `fdatasync` with `IORING_FSYNC_DATASYNC`: `io_uring_prep_fsync`, Linux 5.1. */
  prepFsync(fd: number, fsyncFlags: number): void {
    this.fillBare(IORING_OP_FSYNC, fd);
    this.opFlags = fsyncFlags;
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

  /** Allocates or frees a range of a file: `io_uring_prep_fallocate`, Linux 5.6. */
  prepFallocate(fd: number, mode: number, offset: U64, len: U64): void {
    this.prepRw(IORING_OP_FALLOCATE, fd, len, mode, offset);
  }

  /** Sets a file's length: `io_uring_prep_ftruncate`, Linux 6.9. */
  prepFtruncate(fd: number, len: U64): void {
    this.prepRw(IORING_OP_FTRUNCATE, fd, 0, 0, len);
  }

  /** Starts or awaits write-back of a range (`SYNC_FILE_RANGE_*`): `io_uring_prep_sync_file_range`, Linux 5.2. */
  prepSyncFileRange(fd: number, len: number, offset: U64, flags: number): void {
    this.prepRw(IORING_OP_SYNC_FILE_RANGE, fd, 0, len, offset);
    this.opFlags = flags;
  }

  /** Tells how a range will be used (`POSIX_FADV_*`): `io_uring_prep_fadvise`, Linux 5.6. */
  prepFadvise(fd: number, offset: U64, len: number, advice: number): void {
    this.prepRw(IORING_OP_FADVISE, fd, 0, len, offset);
    this.opFlags = advice;
  }

  /** {@link SqeFiles.prepFadvise} with a length of 64 bits: `io_uring_prep_fadvise64`, Linux 6.11. */
  prepFadvise64(fd: number, offset: U64, len: U64, advice: number): void {
    this.prepRw(IORING_OP_FADVISE, fd, len, 0, offset);
    this.opFlags = advice;
  }

  /** Tells how memory will be used (`MADV_*`): `io_uring_prep_madvise`, Linux 5.6. */
  prepMadvise(addr: U64, length: number, advice: number): void {
    this.prepRw(IORING_OP_MADVISE, -1, addr, length, 0);
    this.opFlags = advice;
  }

  /** {@link SqeFiles.prepMadvise} with a length of 64 bits: `io_uring_prep_madvise64`, Linux 6.11. */
  prepMadvise64(addr: U64, length: U64, advice: number): void {
    this.prepRw(IORING_OP_MADVISE, -1, addr, 0, length);
    this.opFlags = advice;
  }
}
