/**
 * Messages to other rings.
 *
 * @module
 */
import { DirectDescriptor } from "./direct.ts";
import { messageWord, MOST_MESSAGE_TAG, type RingAddress } from "./inbox.ts";
import { NOBODY } from "./canceller.ts";
import { checkU32, type OperationOptions } from "./options.ts";
import { BundleOperations } from "./bundle_ops.ts";

/** What {@link MsgRingOperations.msgRing} sends. */
export interface OutgoingMessage {
  /** 32 bits; default 0. */
  readonly value?: number;
  /** 30 bits; default 0. */
  readonly tag?: number;
}

/** Options of {@link MsgRingOperations.sendFd}. */
export interface SendFdOptions extends OperationOptions {
  /** 30 bits that tell the receiver what it is; default 0. */
  tag?: number;
}

/** Messages to other rings, each one entry of the submission queue. */
export abstract class MsgRingOperations extends BundleOperations {
  /**
   * Sends two numbers to another ring, of whatever Worker of this process, whose `messages()` gives them out:
   * `io_uring_prep_msg_ring`, Linux 5.18. Resolves when they are there. Numbers are copied by the kernel alone: this is
   * what to wake another Worker with, or to hand it an index into shared memory.
   *
   * Rejects with `EBADF` or `EBADFD` when that ring is closed.
   *
   * @example
   * ```ts
   * // In a Worker:
   * const inbox = uring.messages();
   * postMessage(inbox.address);
   * for await (const message of inbox) console.log(message);
   * // Elsewhere, with the address:
   * await uring.msgRing(address, { value: 42 });
   * ```
   */
  msgRing(to: RingAddress, message: OutgoingMessage = {}, options?: OperationOptions): Promise<void> {
    this.check(options);
    const ring = ringOf(to);
    if (typeof message !== "object" || message === null) throw new TypeError("A message is an object");
    const value = checkU32("value", message.value ?? 0);
    const tag = checkTag(message.tag);
    const op = this.begin("msg_ring");
    op.finish = nothing;
    op.sqe!.prepMsgRing(ring, value, 0, 0);
    op.sqe!.setOffWords(NOBODY, messageWord(tag, false));
    return this.promise(op, options);
  }

  /**
   * Puts a file of this ring's table into another ring's, whose `messages()` tells of it. Both have it then, and each is
   * closed by itself: `io_uring_prep_msg_ring_fd_alloc`, Linux 6.0. A descriptor of the process goes through
   * `registerFile` first. Rejects with `ENFILE` when the other table is full.
   */
  sendFd(to: RingAddress, descriptor: DirectDescriptor, options?: SendFdOptions): Promise<void> {
    this.check(options);
    const ring = ringOf(to);
    if (!(descriptor instanceof DirectDescriptor)) {
      throw new TypeError("sendFd takes a DirectDescriptor; registerFile makes one of a descriptor");
    }
    const slot = this.number(descriptor);
    const tag = checkTag(options?.tag);
    const op = this.begin("msg_ring_fd");
    op.pins = descriptor;
    op.finish = nothing;
    op.sqe!.prepMsgRingFdAlloc(ring, slot, 0, 0);
    op.sqe!.setOffWords(NOBODY, messageWord(tag, true));
    return this.promise(op, options);
  }
}

function nothing(): void {}

function ringOf(to: RingAddress): number {
  const ring = (to as RingAddress | null)?.ring;
  if (typeof ring !== "number" || ring !== (ring | 0) || ring < 0) {
    throw new TypeError("The address of a ring is what its inbox gives");
  }
  return ring;
}

function checkTag(tag = 0): number {
  if (!Number.isInteger(tag) || tag < 0 || tag > MOST_MESSAGE_TAG) {
    throw new RangeError(`tag must be an integer from 0 to 2^30 - 1, not ${tag}`);
  }
  return tag;
}
