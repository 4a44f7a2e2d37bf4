/**
 * Sends that the kernel does not copy: it has the memory until it says that it is done with it.
 *
 * @module
 */
import { IORING_CQE_F_NOTIF, IORING_NOTIF_USAGE_ZC_COPIED } from "../ffi/abi.ts";
import { enrol, type MemoryUser } from "../loop/memory_users.ts";
import { type CompletionSink, Op } from "../loop/op.ts";
import { RegisteredBuffer } from "../mod.ts";

/** Who has sent something without a copy. */
export interface ZeroCopyOwner {
  /** It is known how much was sent, or why nothing was. */
  zeroCopySent(res: number): void;
  /** The memory may be used again; `copied`: it was copied all the same. */
  zeroCopyEnded(send: ZeroCopySend, copied: boolean): void;
}

/** One such send. */
export class ZeroCopySend implements CompletionSink {
  /** Where in its connection's queue it began. */
  readonly start: number;
  readonly #owner: ZeroCopyOwner;
  #told = false;

  /**
   * @param owner Who is told.
   * @param start Where in its queue it begins.
   */
  constructor(owner: ZeroCopyOwner, start: number) {
    this.#owner = owner;
    this.start = start;
  }

  /** The result comes first, and then, if the kernel took something, the notification. @internal */
  complete(res: number, flags: number, more: boolean): void {
    const notified = (flags & IORING_CQE_F_NOTIF) !== 0;
    if (!notified && !this.#told) {
      this.#told = true;
      this.#owner.zeroCopySent(res);
    }
    if (!more) this.#owner.zeroCopyEnded(this, notified && (res & IORING_NOTIF_USAGE_ZC_COPIED) !== 0);
  }
}

/** Memory of the library's own that waits in a queue: it is not given back before. */
export class WaitingMemory implements MemoryUser {
  readonly #waiting = new Set<Op>();
  readonly #leave: () => void = enrol(this);

  /** What waits. */
  live(): Iterable<Op> {
    return this.#waiting;
  }

  /** Keeps memory; {@link WaitingMemory.end} ends that. */
  begin(view: Uint8Array): Op {
    const op = new Op(-1);
    op.view = view;
    this.#waiting.add(op);
    return op;
  }

  /** It waits no more. */
  end(op: Op): void {
    this.#waiting.delete(op);
    op.view = null;
    op.clear();
  }

  /** The ring is closed. */
  release(): void {
    for (const op of [...this.#waiting]) this.end(op);
    this.#leave();
  }
}

/** The memory of a registered buffer; an error, when it is something else or gone. */
export function bytesOf(buffer: RegisteredBuffer): Uint8Array | TypeError {
  if (!(buffer instanceof RegisteredBuffer)) {
    return new TypeError("data must be a Uint8Array, a string or a RegisteredBuffer");
  }
  return buffer.disposed ? new TypeError("The registered buffer is disposed of") : buffer.bytes;
}
