/**
 * The operations of a submission queue entry that make pipes and move data through them.
 *
 * @module
 */
import { IORING_OP_PIPE, IORING_OP_SPLICE, IORING_OP_TEE } from "../ffi/abi.ts";
import type { U64 } from "./sqe_base.ts";
import { SqeFiles } from "./sqe_files.ts";

/** Preps for pipes. */
export class SqePipes extends SqeFiles {
  /**
   * Moves `nbytes` from one descriptor to another, one of which is a pipe; an offset of −1 is the file's own position,
   * and the only one for a pipe. With `SPLICE_F_FD_IN_FIXED`, `fdIn` is the index of a registered file:
   * `io_uring_prep_splice`, Linux 5.7.
   */
  prepSplice(
    fdIn: number,
    offIn: U64,
    fdOut: number,
    offOut: U64,
    nbytes: number,
    spliceFlags: number,
  ): void {
    this.prepRw(IORING_OP_SPLICE, fdOut, offIn, nbytes, offOut);
    this.fileIndex = fdIn;
    this.opFlags = spliceFlags;
  }

  /** Copies `nbytes` from one pipe to another without consuming them: `io_uring_prep_tee`, Linux 5.8. */
  prepTee(fdIn: number, fdOut: number, nbytes: number, spliceFlags: number): void {
    this.prepRw(IORING_OP_TEE, fdOut, 0, nbytes, 0);
    this.fileIndex = fdIn;
    this.opFlags = spliceFlags;
  }

  /** Makes a pipe; its two descriptors are written to the `int[2]` at `fds`: `io_uring_prep_pipe`, Linux 6.16. */
  prepPipe(fds: U64, pipeFlags: number): void {
    this.prepRw(IORING_OP_PIPE, 0, fds, 0, 0);
    this.opFlags = pipeFlags;
  }

  /**
   * Makes a pipe as direct descriptors: in the slots `fileIndex` and the one after it, or in two that the kernel picks
   * (`IORING_FILE_INDEX_ALLOC`) and writes to `fds`: `io_uring_prep_pipe_direct`, Linux 6.16.
   */
  prepPipeDirect(fds: U64, pipeFlags: number, fileIndex: number): void {
    this.prepPipe(fds, pipeFlags);
    this.setTargetFixedFile(fileIndex);
  }
}
