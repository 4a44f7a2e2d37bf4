/**
 * Operations that wait or steer; with them the set is complete.
 *
 * @module
 */
import {
  IORING_ASYNC_CANCEL_ALL,
  IORING_ASYNC_CANCEL_ANY,
  IORING_ASYNC_CANCEL_FD,
  IORING_ASYNC_CANCEL_FD_FIXED,
  IORING_TIMEOUT_ETIME_SUCCESS,
} from "../ffi/abi.ts";
import type { Fd } from "./direct.ts";
import { takesErrors } from "./settle.ts";
import { MsgRingOperations } from "./msg_ring_ops.ts";
import { checkTimeout, checkU32, type OperationOptions } from "./options.ts";
import { UringError } from "../ffi/errors.ts";

/** What {@link Operations.cancel} cancels: exactly one of the three. */
export type CancelTarget =
  | { fd: Fd; all?: boolean }
  | { any: true };

const ETIME = -62;
const ENOENT = -2;

/** Every operation with one completion: the methods that `Uring` and the `l` of `uring.link` have in common. */
export abstract class Operations extends MsgRingOperations {
  /** Does nothing, by way of the kernel: `io_uring_prep_nop`, Linux 5.1. */
  nop(options?: OperationOptions): Promise<void> {
    this.check(options);
    const op = this.begin("nop");
    op.sqe!.prepNop();
    return this.promise(op, options);
  }

  /**
   * Waits for `POLL*` events and resolves with those that are there: `io_uring_prep_poll_add`, Linux 5.1.
   * `POLLERR` and `POLLHUP` are always among those waited for.
   */
  poll(fd: Fd, events: number, options?: OperationOptions): Promise<number> {
    this.check(options);
    checkU32("events", events);
    const number = this.number(fd);
    const op = this.begin("poll");
    op.sqe!.prepPollAdd(number, events);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /** Waits so many milliseconds (fractions count): `io_uring_prep_timeout`, Linux 5.4. */
  timeout(milliseconds: number, options?: OperationOptions): Promise<void> {
    this.check(options);
    checkTimeout(milliseconds);
    const span = this.driver.arena.timespec(milliseconds);
    const op = this.begin("timeout");
    op.pins = span.owner;
    op.finish = finishTimeout;
    // In a chain, the time's having passed is no failure that ends it (Linux 5.16).
    op.sqe!.prepTimeout(span.address, 0, op.extra?.chained === true ? IORING_TIMEOUT_ETIME_SUCCESS : 0);
    return this.promise(op, options);
  }

  /**
   * Cancels one operation on a descriptor, all on it, or everything in flight on this ring, and resolves with their
   * number (the kernel counts all that wait for futexes as one, and all that wait for children):
   * `io_uring_prep_cancel_fd` and `io_uring_prep_cancel64`, Linux 5.19. Their promises reject with `ECANCELED`
   * once they have ended. To cancel a single operation, give it a `signal`.
   */
  cancel(target: CancelTarget, options?: OperationOptions): Promise<number> {
    this.check(options);
    const any = "any" in target;
    const all = any || target.all === true;
    const number = any ? 0 : this.number(target.fd);
    const fixed = !any && typeof target.fd !== "number";
    const op = this.begin("cancel");
    op.finish = all ? finishCancelAll : finishCancelOne;
    if (any) op.sqe!.prepCancel64(0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
    else {
      const flags = (all ? IORING_ASYNC_CANCEL_ALL : 0) | (fixed ? IORING_ASYNC_CANCEL_FD_FIXED : 0);
      op.sqe!.prepCancelFd(number, flags | IORING_ASYNC_CANCEL_FD);
    }
    return this.promise(op, options);
  }
}

const finishTimeout = takesErrors((res: number): void => {
  if (res !== ETIME && res !== 0) throw new UringError(res, "timeout");
});

// Nothing to cancel is not a failure: what was meant may just have ended.
const finishCancelAll = takesErrors((res: number): number => {
  if (res === ENOENT) return 0;
  if (res < 0) throw new UringError(res, "cancel");
  return res;
});

// The kernel answers 0 for one that it cancelled, and EALREADY for one that it cannot stop any more but that will end.
const EALREADY = -114;
const finishCancelOne = takesErrors((res: number): number => {
  if (res === ENOENT) return 0;
  if (res < 0 && res !== EALREADY) throw new UringError(res, "cancel");
  return 1;
});
