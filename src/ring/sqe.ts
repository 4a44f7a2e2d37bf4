/**
 * A submission queue entry with every operation; this file has those that steer other operations.
 *
 * @module
 */
import {
  IORING_ASYNC_CANCEL_FD,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_LINK_TIMEOUT,
  IORING_OP_NOP,
  IORING_OP_POLL_ADD,
  IORING_OP_POLL_REMOVE,
  IORING_OP_TIMEOUT,
  IORING_OP_TIMEOUT_REMOVE,
  IORING_POLL_ADD_MULTI,
  IORING_TIMEOUT_UPDATE,
} from "../ffi/abi.ts";
import type { U64 } from "./sqe_base.ts";
import { SqeNet } from "./sqe_net.ts";

/**
 * A submission queue entry: `struct io_uring_sqe` and liburing's `io_uring_prep_*`, with the same arguments in the same
 * order (the entry itself left out) and the same bytes. It comes from `Ring.getSqe()` and is the caller's until the
 * next submit.
 *
 * The low layer trusts its caller: an address must be right, and what it points at must stay until the completion.
 */
export class Sqe extends SqeNet {
  /** Does nothing: `io_uring_prep_nop`, Linux 5.1. */
  prepNop(): void {
    this.fillBare(IORING_OP_NOP, -1);
  }

  /**
   * Completes when one of the `POLL*` events of `pollMask` is there; the completion's `res` has them:
   * `io_uring_prep_poll_add`, Linux 5.1.
   */
  prepPollAdd(fd: number, pollMask: number): void {
    this.fillBare(IORING_OP_POLL_ADD, fd);
    this.opFlags = pollMask;
  }

  /** A completion each time that the events come, until cancelled: `io_uring_prep_poll_multishot`, Linux 5.13. */
  prepPollMultishot(fd: number, pollMask: number): void {
    this.prepPollAdd(fd, pollMask);
    this.len = IORING_POLL_ADD_MULTI;
  }

  /** Removes a poll by its `user_data`: `io_uring_prep_poll_remove`, Linux 5.1. */
  prepPollRemove(userData: U64): void {
    this.prepRw(IORING_OP_POLL_REMOVE, -1, userData, 0, 0);
  }

  /** Changes a poll's events or `user_data` (`IORING_POLL_UPDATE_*`): `io_uring_prep_poll_update`, Linux 5.13. */
  prepPollUpdate(oldUserData: U64, newUserData: U64, pollMask: number, flags: number): void {
    this.prepRw(IORING_OP_POLL_REMOVE, -1, oldUserData, flags, newUserData);
    this.opFlags = pollMask;
  }

  /**
   * Completes with `-ETIME` after the `struct __kernel_timespec` at `ts`, or with 0 after `count` completions:
   * `io_uring_prep_timeout`, Linux 5.4.
   */
  prepTimeout(ts: U64, count: number, flags: number): void {
    this.prepRw(IORING_OP_TIMEOUT, -1, ts, 1, count >>> 0);
    this.opFlags = flags;
  }

  /** Removes a timeout by its `user_data`: `io_uring_prep_timeout_remove`, Linux 5.5. */
  prepTimeoutRemove(userData: U64, flags: number): void {
    this.prepRw(IORING_OP_TIMEOUT_REMOVE, -1, userData, 0, 0);
    this.opFlags = flags;
  }

  /** Sets a timeout anew: `io_uring_prep_timeout_update`, Linux 5.11. */
  prepTimeoutUpdate(ts: U64, userData: U64, flags: number): void {
    this.prepRw(IORING_OP_TIMEOUT_REMOVE, -1, userData, 0, ts);
    this.opFlags = flags | IORING_TIMEOUT_UPDATE;
  }

  /** Limits the time of the linked operation before it: `io_uring_prep_link_timeout`, Linux 5.5. */
  prepLinkTimeout(ts: U64, flags: number): void {
    this.prepRw(IORING_OP_LINK_TIMEOUT, -1, ts, 1, 0);
    this.opFlags = flags;
  }

  /** Cancels by `user_data`: `io_uring_prep_cancel64` (and `io_uring_prep_cancel`), Linux 5.5. */
  prepCancel64(userData: U64, flags: number): void {
    this.prepRw(IORING_OP_ASYNC_CANCEL, -1, userData, 0, 0);
    this.opFlags = flags;
  }

  /** The same as {@link Sqe.prepCancel64}; in C the two differ in the type of their argument only. */
  prepCancel(userData: U64, flags: number): void {
    this.prepCancel64(userData, flags);
  }

  /** Cancels what works on a descriptor: `io_uring_prep_cancel_fd`, Linux 5.19. */
  prepCancelFd(fd: number, flags: number): void {
    this.fillBare(IORING_OP_ASYNC_CANCEL, fd);
    this.opFlags = flags | IORING_ASYNC_CANCEL_FD;
  }
}
