/**
 * Sending much at once out of a queue.
 *
 * @module
 */
import { IOSQE_BUFFER_SELECT, MSG_NOSIGNAL, MSG_WAITALL } from "../ffi/abi.ts";
import type { Fd } from "./direct.ts";
import { checkU32, type OperationOptions } from "./options.ts";
import { SendQueue } from "./send_queue.ts";
import { takesErrors } from "./settle.ts";
import { SocketCommandOperations } from "./socket_cmd_ops.ts";

/** Options of {@link BundleOperations.sendBundle}. */
export interface SendBundleOptions extends OperationOptions {
  /** `MSG_*` bits; `MSG_WAITALL` is always set. */
  flags?: number;
}

const ENOBUFS = -105;

/** Sending bundles, one entry of the submission queue for as much as there is. */
export abstract class BundleOperations extends SocketCommandOperations {
  /**
   * Sends what is in a queue, and what is pushed into it meanwhile, until it is empty, and resolves with the number of
   * bytes: `io_uring_prep_send_bundle`, Linux 6.10. When sending fails after a part was sent, it
   * resolves with that part's length; the rest stays in the queue, and sending again tells what is wrong. An empty queue
   * gives 0. One send at a time may work on a queue.
   *
   * @example
   * ```ts
   * const queue = uring.sendQueue();
   * for (const piece of pieces) queue.push(piece);
   * await uring.sendBundle(connection, queue);
   * ```
   */
  sendBundle(fd: Fd, queue: SendQueue, options?: SendBundleOptions): Promise<number> {
    this.check(options);
    const flags = checkU32("flags", options?.flags ?? 0);
    const number = this.number(fd);
    if (!(queue instanceof SendQueue)) throw new TypeError("The queue is one of uring.sendQueue");
    if (queue.ring !== this.driver.ring) throw new TypeError("The queue belongs to another ring");
    if (queue.sending) throw new TypeError("The queue is being sent already");
    queue.sending = true;
    const op = this.begin("send_bundle");
    op.pins = queue;
    const extra = op.extra ??= {};
    extra.each = (res, _flags, before) => {
      if (res > 0) queue.taken(res);
      return before !== undefined && before > 0 ? before + Math.max(res, 0) : res;
    };
    extra.settled = () => queue.settle();
    op.finish = finishBundle;
    op.sqe!.prepSendBundle(number, 0, flags | MSG_NOSIGNAL | MSG_WAITALL);
    op.sqe!.flags |= IOSQE_BUFFER_SELECT;
    op.sqe!.bufGroup = queue.bgid;
    this.markFd(op, fd);
    return this.promise(op, options);
  }
}

const finishBundle = takesErrors((res: number): number => {
  // Nothing was in the queue.
  return Math.max(res, 0);
}, ENOBUFS);
