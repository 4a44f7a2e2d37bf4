/**
 * Ending operations early: signals, cancellations, and time limits that the kernel cannot keep.
 *
 * @module
 */
import { IOSQE_IO_DRAIN, IOSQE_IO_HARDLINK, IOSQE_IO_LINK } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import type { CoreRing } from "../ring/core_ring.ts";
import type { Sqe } from "../ring/sqe.ts";
import type { Extra, Op, OpTable } from "./op.ts";

/** `user_data`'s low half for requests that nobody waits for: cancellations, whose high half is their target's slot. */
export const NOBODY = -1;

/** How often an operation that the kernel missed is cancelled anew, in milliseconds: at first, and at most. */
export const SWEEP_FIRST = 1;
/** See {@link SWEEP_FIRST}. */
export const SWEEP_MOST = 100;

/** The operations that the kernel hands to a worker thread. */
export const BLOCKING: ReadonlySet<string> = new Set([
  "openat",
  "statx",
  "fallocate",
  "fsync",
  "fdatasync",
  "ftruncate",
  "unlinkat",
  "renameat",
  "mkdirat",
  "shutdown",
  "openat2",
  "linkat",
  "symlinkat",
  "getxattr",
  "fgetxattr",
  "setxattr",
  "fsetxattr",
  "fadvise",
  "madvise",
  "sync_file_range",
  "splice",
  "tee",
  "discard",
  "zone_reset_all",
  "uring_cmd",
]);

const EINVAL = -22;

/** The longest time that the runtimes' timers take, in milliseconds. */
const MOST_TIMER = 0x7fff_ffff;

/** What the canceller needs of the engine. */
export interface CancelHost {
  /** The ring. */
  readonly ring: CoreRing;
  /** Whether nothing will be submitted any more. */
  readonly gone: boolean;
  /** Whether the kernel has not seen an operation yet. */
  isUnsubmitted(op: Op): boolean;
  /** An entry for a request that nobody waits for. */
  request(): Sqe;
}

/** Has an entry do nothing. */
export function replaceByNop(sqe: Sqe, slot: number, generation: number): void {
  sqe.clear();
  sqe.prepNop();
  sqe.setUserData(slot, generation);
}

/** Has an entry fail at once, with EBADF, which ends its chain as its cancellation would. */
function replaceByFailure(op: Op): void {
  const sqe = op.sqe!;
  const links = sqe.flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK | IOSQE_IO_DRAIN);
  sqe.clear();
  sqe.prepRead(-1, 0, 0, 0);
  sqe.flags = links;
  sqe.setUserData(op.slot, op.generation);
}

/** Cancels the operations of one ring. */
export class Canceller {
  /** Whether an operation of this ring ever asked for a drain. */
  usesDrain = false;
  readonly #host: CancelHost;
  readonly #table: OpTable;

  /**
   * @param host The engine.
   * @param table Its operations.
   */
  constructor(host: CancelHost, table: OpTable) {
    this.#host = host;
    this.#table = table;
  }

  /** Cancels an operation when a signal aborts. */
  listen(op: Op, signal: AbortSignal): void {
    const extra = op.extra ??= {};
    extra.signal = signal;
    extra.onAbort = () => this.abort(op, signal.reason);
    if (signal.aborted) this.abort(op, signal.reason);
    else signal.addEventListener("abort", extra.onAbort, { once: true });
  }

  /**
   * Keeps a time limit from here, beside the timeout linked to the operation: what blocks in one of the kernel's worker
   * threads (opening a FIFO, say) never has its linked timeout started.
   */
  limit(op: Op, milliseconds: number): void {
    const { generation } = op;
    const remaining = Math.min(milliseconds, MOST_TIMER);
    const timer = setTimeout(() => {
      if (op.generation !== generation || this.#host.gone) return;
      if (milliseconds > remaining) {
        this.limit(op, milliseconds - remaining);
        return;
      }
      op.extra!.timedOut = true;
      this.cancel(op);
    }, remaining);
    op.extra!.timer = timer;
    // What keeps the process alive is the operation, if anything. Deno's timers are numbers and have no say in it.
    (timer as { unref?: () => void }).unref?.();
  }

  /** Ends an operation with a reason of its own. */
  abort(op: Op, reason: unknown): void {
    const extra = op.extra ??= {};
    if (extra.aborted !== undefined) return;
    extra.aborted = { reason };
    if (!this.#host.isUnsubmitted(op)) {
      this.cancel(op);
      return;
    }
    // The kernel has not seen it: let it do nothing instead, or fail where something is linked to it.
    extra.undo = undefined;
    if (extra.chained === true || extra.timeout !== undefined) replaceByFailure(op);
    else replaceByNop(op.sqe!, op.slot, op.generation);
  }

  /** Asks the kernel to cancel an operation; its own completion tells how that went. */
  cancel(op: Op): void {
    const extra = op.extra ??= {};
    if (extra.lettingGo === true) return;
    extra.cancelled ??= "once";
    this.send(op);
    // A cancellation that is made at once has no completion that would tell whether it was heard.
    if (this.usesDrain) this.missed(op.slot);
  }

  /**
   * The kernel did not find an operation that was to be cancelled, or could not end it: a step of a chain whose turn has
   * not come, what a drain holds back, what a worker thread is just handing over. It is asked again until it has ended.
   */
  missed(slot: number): void {
    const op = this.#table.ops[slot];
    if (op?.extra?.cancelled !== "once" || !this.#table.isLive(op)) return;
    op.extra.cancelled = "again";
    this.#again(op, op.generation, SWEEP_FIRST);
  }

  #again(op: Op, generation: number, delay: number): void {
    setTimeout(() => {
      if (this.#host.gone || op.generation !== generation || !this.#table.isLive(op)) return;
      this.send(op);
      this.#again(op, generation, Math.min(2 * delay, SWEEP_MOST));
    }, delay);
  }

  /** Sends one request to cancel. */
  send(op: Op): void {
    const target = (BigInt(op.generation) << 32n) | BigInt(op.slot);
    if (this.usesDrain && this.#sendNow(target)) return;
    const sqe = this.#host.request();
    sqe.prepCancel64(target, 0);
    sqe.setUserData(NOBODY, op.slot);
  }

  /** Cancels at once: a drain would hold back a request to cancel, too, until what it is to cancel has ended. */
  #sendNow(target: bigint): boolean {
    try {
      this.#host.ring.registerSyncCancel({ userData: target, timeout: { sec: 0, nsec: 0 } });
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      // Before Linux 6.0 there is only the other way.
      if (error.errno === EINVAL) return false;
    }
    return true;
  }

  /** Lets go of an operation's signal and timer. */
  release(extra: Extra): void {
    if (extra.onAbort !== undefined) extra.signal!.removeEventListener("abort", extra.onAbort);
    if (extra.timer !== undefined) clearTimeout(extra.timer);
  }
}
