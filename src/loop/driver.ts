/**
 * The engine of a `Uring`: submits in batches, reaps completions, settles promises, closes.
 *
 * @module
 */
import {
  IORING_CQE_F_MORE,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_TASKRUN_FLAG,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import type { Cqe } from "../ring/cqe.ts";
import type { CoreRing } from "../ring/core_ring.ts";
import { Canceller, NOBODY, SWEEP_FIRST, SWEEP_MOST } from "./canceller.ts";
import { wasCancelled } from "./failure.ts";
import { type MessageSink, MOST_TAG } from "./message_sink.ts";
import { enrol, leak } from "./memory_users.ts";
import type { Op } from "./op.ts";
import { reject, settle } from "./settle.ts";
import { BARE, Submission } from "./submission.ts";
import { TimeLimits, TIMEOUT_SIDE } from "./time_limits.ts";
import { type Sleeper, waker } from "./waker.ts";

/** How many calls a flush makes for deferred work that has become ready meanwhile. */
const DEFERRED_CALLS = 8;

/** How many calls a flush makes for completions that found the queue full. */
const OVERFLOW_CALLS = 64;

/** As how many flushes one counts that may have waited, and one that has looked out for a moment. */
const LINGER_STREAK = 7;
const SPIN_STREAK = 1;

/** How long closing waits for the next of the operations that were cancelled to end, in milliseconds. */
const CLOSE_LIMIT = 10_000;

const ENOENT = -2;
const EAGAIN = -11;
const EBUSY = -16;
const ETIMEDOUT = 110;
const EALREADY = -114;
const ECANCELED = -125;
const ETIME = -62;

/** Drives one ring. */
export class Driver extends Submission implements Sleeper {
  /** Whether the ring was told to keep the process alive for its work. */
  wanted = true;
  /** How many of these keep no process alive. */
  background = 0;
  /** How many times completions were looked for: within one, no time passes. */
  turn = 0;
  /**
   * Called before each submission: who gathers work up to then puts it into the ring now. True: there is more than the ring
   * has room for.
   */
  beforeSubmit: (() => boolean) | null = null;
  /** Called when what was submitted was looked at, and all of it that completed with an error; `all`: nothing is left. */
  afterSubmit: ((all: boolean) => void) | null = null;
  /** Called for an entry of {@link Driver.bare} that has failed. */
  onFailure: ((index: number, res: number) => void) | null = null;
  /** How many completions the next submission may wait for a moment for; 0: it does not wait. */
  linger = 0;
  /** For how many microseconds it looks for completions instead, awake, when it would wait for one; 0: it does not. */
  spin = 0;
  /** Called when the ring was closed, with nothing in flight. */
  onClosed: (() => void) | null = null;
  /** How many times the ring was entered. */
  enters = 0;
  /** Whether it was given up with work in flight: the kernel may go on writing into the memory that this work has. */
  abandoned = false;
  /** Takes the messages of other rings; null while nobody wants any. */
  inbox: MessageSink | null = null;
  /** Gets rid of a message that came while there was no {@link Driver.inbox}. */
  onStray: ((tag: number, res: number) => void) | null = null;
  /** For the waker. */
  waiting = false;
  /** For the waker. */
  alarmed = false;

  protected override readonly canceller: Canceller;
  protected override readonly limits: TimeLimits;
  readonly #ops: Op[] = this.table.ops;
  readonly #blindlyDeferred: boolean;
  #reaping = false;
  #drained: (() => void) | null = null;
  #closing: Promise<void> | null = null;
  readonly #resign: () => void;
  readonly #visit: (cqe: Cqe) => void = (cqe) => this.#complete(cqe);

  /** @param ring An enabled ring that nothing else uses. */
  constructor(ring: CoreRing) {
    super(ring);
    this.#blindlyDeferred = (ring.flags & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG)) ===
      IORING_SETUP_DEFER_TASKRUN;
    this.canceller = new Canceller(this, this.table);
    this.limits = new TimeLimits(this, this.staging, this.canceller);
    waker.join();
    this.#resign = enrol(this.table);
  }

  /** Whether the process stays alive for this ring's work. */
  get referenced(): boolean {
    return this.wanted && this.inFlight > this.background;
  }

  /** Has so many more (or fewer) of the operations in flight keep no process alive. */
  quiet(count: number): void {
    this.background += count;
    waker.update();
  }

  /** Submits everything that waits, in as few system calls as the ring's size allows, and takes what completed. */
  flush(): void {
    this.scheduled = false;
    if (this.phase === "closed") return;
    for (;;) {
      const more = this.beforeSubmit?.() === true;
      if (!this.#submit(more)) return;
      if (this.staging.length === 0 && !more) break;
      this.staging.move(this.batch);
    }
    // What a completion has begun just now is not submitted yet.
    if (this.ring.sqReady() === 0) this.arena.reset();
    // The steps of a chain follow one another by deferred work: a few more calls now are sooner than the next turn.
    if (this.hasChains) this.#advanceChains();
    if (this.inFlight > 0) waker.wait(this);
    else waker.done(this);
  }

  #advanceChains(): void {
    for (let i = 0; i < DEFERRED_CALLS && this.inFlight > 0 && this.ring.cqNeedsEnter(); i++) {
      this.enters++;
      this.ring.getEvents();
      this.reap();
    }
    if (this.inFlight === 0) this.hasChains = false;
  }

  /** One enter, and the completions there are. Returns false when the flush goes on later. */
  #submit(more: boolean): boolean {
    const { ring } = this;
    const looks = !this.#reaping;
    try {
      this.enters++;
      // Asking for deferred work too costs a sixth of the call, and what ends inside it needs no asking. What is deferred
      // already is announced in the ring's flags, and fetched on the way.
      if (this.linger > 0 && !more && looks && waker.isAlone(this)) {
        this.#stay();
      } else if (this.#blindlyDeferred) ring.submitAndGetEvents();
      else ring.submit();
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      if (error.errno !== EBUSY && error.errno !== EAGAIN) {
        this.#die(error);
        return false;
      }
    }
    this.batch++;
    const left = ring.sqReady();
    this.reap();
    if (looks && this.afterSubmit !== null) this.#settleBare(left === 0);
    if (left === 0 || (ring.flags & IORING_SETUP_SQPOLL) !== 0 && ring.sqSpaceLeft() > 0) return true;
    // The kernel is short of something, or its queue of completions is full: let it breathe.
    this.scheduled = true;
    setImmediate(this.flushNow);
    return false;
  }

  /** Submits, and gives what is about to complete a moment. */
  #stay(): void {
    if (this.spin > 0) {
      this.streak += SPIN_STREAK;
      this.ring.submitAndSpin(this.spin);
    } else {
      this.streak += LINGER_STREAK;
      this.ring.submitAndLinger(this.linger);
    }
  }

  /** All failures have been seen once nothing waits behind a full completion queue. */
  #settleBare(all: boolean): void {
    for (let i = 0; i < OVERFLOW_CALLS && this.ring.cqHasOverflow(); i++) {
      this.ring.getEvents();
      this.reap();
    }
    this.afterSubmit!(all && !this.ring.cqHasOverflow());
  }

  /** Takes the completions that are there; whether there were any. */
  reap(): boolean {
    if (this.#reaping) return false;
    this.#reaping = true;
    this.turn++;
    try {
      return this.ring.forEachCqe(this.#visit) > 0;
    } finally {
      this.#reaping = false;
      if (this.inFlight === 0 && this.#drained !== null) this.#drained();
    }
  }

  /** Looks for completions without submitting: for the waker. Whether there were any. */
  poll(): boolean {
    if (this.phase === "closed") return false;
    this.streak = 0;
    if (this.#blindlyDeferred || this.ring.cqNeedsEnter()) {
      this.enters++;
      this.ring.getEvents();
    }
    const any = this.reap();
    if (this.inFlight === 0) waker.done(this);
    return any;
  }

  #complete(cqe: Cqe): void {
    const slot = cqe.userDataLow;
    const op = slot < 0 ? undefined : this.#ops[slot];
    if (op !== undefined) {
      const res = cqe.res;
      const { view } = op;
      if (
        op.plain && res >= 0 && cqe.userDataHigh === op.generation && (view === null || view.byteLength !== 0)
      ) {
        this.inFlight--;
        const resolve = op.resolve!;
        this.table.release(op);
        resolve(res as never);
        return;
      }
    }
    this.#completeRare(slot, op, cqe);
  }

  /** A completion that is more than a number for a promise. */
  #completeRare(slot: number, op: Op | undefined, cqe: Cqe): void {
    const high = cqe.userDataHigh;
    if (slot === BARE) {
      this.onFailure?.(high, cqe.res);
      return;
    }
    if (slot === NOBODY) {
      if (high < 0) this.#deliver(high & MOST_TAG, cqe.res);
      else {
        this.inFlight--;
        if (cqe.res === ENOENT || cqe.res === EALREADY) this.canceller.missed(high);
      }
      return;
    }
    // Nothing of this ring's: somebody who has its descriptor may have sent a message of his own making.
    if (op === undefined || (high & ~TIMEOUT_SIDE) !== op.generation || !this.table.isLive(op)) return;
    const flags = cqe.flags;
    const more = (flags & IORING_CQE_F_MORE) !== 0;
    if (!more) {
      this.inFlight--;
      if (op.extra === null) op.loans?.copyOut(cqe.res);
    }
    if (op.sink !== null) {
      const sink = op.sink;
      if (!more && --op.pending === 0) this.table.release(op);
      sink.complete(cqe.res, flags, more, cqe);
    } else if (op.extra === null) settle(this.ring, this.table, op, cqe.res);
    else this.#completeExtra(op, cqe.res, flags, (high & TIMEOUT_SIDE) !== 0);
  }

  #completeExtra(op: Op, res: number, flags: number, timeoutSide: boolean): void {
    const extra = op.extra!;
    if (timeoutSide) extra.timedOut ||= res !== ECANCELED;
    else extra.result = extra.each === undefined ? res : extra.each(res, flags, extra.result);
    if ((flags & IORING_CQE_F_MORE) !== 0) return;
    if (--op.pending > 0) {
      // The time was over, but the kernel missed the operation.
      if (timeoutSide && res !== ECANCELED && res !== ETIME) this.canceller.cancel(op);
      return;
    }
    const result = extra.result!;
    op.loans?.copyOut(result);
    if (extra.aborted !== undefined) {
      const { reason } = extra.aborted;
      const { resolve } = op;
      if (result >= 0) extra.undo?.(result);
      this.forget(op, false, result);
      reject(resolve, reason);
    } else if (extra.timedOut === true && wasCancelled(result)) {
      const { resolve } = op;
      const error = new UringError(ETIMEDOUT, op.name, {
        path: op.path,
        dest: op.dest,
        hint: `not done within ${extra.timeout} ms`,
      });
      this.forget(op, false, result);
      reject(resolve, error);
    } else {
      this.canceller.release(extra);
      op.extra = null;
      const ok = settle(this.ring, this.table, op, result);
      extra.settled?.(ok, result);
    }
  }

  /** A message from another ring. One that nobody waits for must not leave its descriptor behind. */
  #deliver(tag: number, res: number): void {
    if (this.inbox !== null) this.inbox.message(tag, res);
    else this.onStray?.(tag, res);
  }

  /** Counts something that is awaited without having been submitted, and keeps looking for completions. */
  hold(): void {
    this.inFlight++;
    this.schedule();
  }

  /** Ends a {@link Driver.hold}. */
  letGo(): void {
    if (--this.inFlight > 0 || this.#reaping) return;
    waker.done(this);
    this.#drained?.();
  }

  /**
   * Refuses new work, cancels what is in flight, waits until it has ended, and closes the ring. Work that cannot be ended
   * is abandoned after a while, with the memory it uses.
   */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    if (this.phase === "closed") return;
    this.phase = "closing";
    this.inbox?.end(new UringError(ECANCELED, "messages"));
    let progress = performance.now();
    let sweep = SWEEP_FIRST;
    while (this.inFlight > 0 && performance.now() - progress < CLOSE_LIMIT) {
      const before = this.inFlight;
      this.#cancelAll();
      await this.#drainedWithin(sweep);
      sweep = Math.min(2 * sweep, SWEEP_MOST);
      if (this.inFlight >= before) continue;
      // The end of some may be what others waited for: steps of a chain, or what a drain held back.
      progress = performance.now();
      sweep = SWEEP_FIRST;
    }
    if (this.inFlight > 0) this.#die(new UringError(ECANCELED, "close"));
    this.phase = "closed";
    waker.done(this);
    this.arena.close();
    this.#resign();
    this.ring.close();
    waker.leave();
    if (!this.abandoned) this.onClosed?.();
  }

  #cancelAll(): void {
    const reason = new UringError(ECANCELED, "close");
    // The table may grow while it is walked: cancellations have no slot of their own, but finished work may start more.
    for (const op of [...this.#ops]) {
      if (!this.table.isLive(op)) continue;
      if (op.sink === null && op.extra?.aborted === undefined && this.isUnsubmitted(op)) {
        this.canceller.abort(op, reason);
      } else this.canceller.send(op);
    }
  }

  async #drainedWithin(milliseconds: number): Promise<void> {
    if (this.inFlight === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, milliseconds);
    this.#drained = resolve;
    await promise;
    this.#drained = null;
    clearTimeout(timer);
  }

  /** The ring is unusable: nothing that is in flight will ever complete. */
  #die(error: UringError): void {
    this.phase = "closed";
    this.abandoned = true;
    for (const op of this.#ops) {
      if (!this.table.isLive(op)) continue;
      const { resolve, sink } = op;
      // The kernel may still be writing: what it works on is kept for good.
      leak([op.view, op.pins, op.loans]);
      op.loans = null;
      this.forget(op, false, error.errno);
      reject(resolve, error);
      sink?.complete(error.errno, 0, false);
    }
    this.afterSubmit?.(true);
    this.inbox?.end(error);
    this.inFlight = 0;
    waker.done(this);
    this.#drained?.();
  }
}
