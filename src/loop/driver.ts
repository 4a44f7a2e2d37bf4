/**
 * The engine of a `Uring`: batches submissions, reaps completions, settles promises.
 *
 * @module
 */
import {
  IORING_CQE_F_MORE,
  IORING_FEAT_CQE_SKIP,
  IORING_FEAT_SUBMIT_STABLE,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_TASKRUN_FLAG,
  IOSQE_ASYNC,
  IOSQE_IO_DRAIN,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import type { Cqe } from "../ring/cqe.ts";
import type { CoreRing } from "../ring/core_ring.ts";
import type { Sqe } from "../ring/sqe.ts";
import { Arena } from "./arena.ts";
import { Canceller, NOBODY, SWEEP_FIRST, SWEEP_MOST } from "./canceller.ts";
import { wasCancelled } from "./failure.ts";
import { type MessageSink, MOST_TAG } from "./message_sink.ts";
import { enrol, leak } from "./memory_users.ts";
import { type CompletionSink, type Op, OpTable, STAGED } from "./op.ts";
import type { OperationOptions } from "./options.ts";
import { reject, settle } from "./settle.ts";
import { attach, shadowing } from "./shadow.ts";
import { Staging } from "./staging.ts";
import { TimeLimits, TIMEOUT_SIDE } from "./time_limits.ts";
import { type Sleeper, waker } from "./waker.ts";

/** How many flushes in a row may complete inline before the runtime's macrotasks get a turn. */
const INLINE_FLUSHES = 64;

/** How many calls a flush makes for deferred work that has become ready meanwhile. */
const DEFERRED_CALLS = 8;

/** How many calls a flush makes for completions that found the queue full. */
const OVERFLOW_CALLS = 64;

/** `user_data`'s low half for entries of {@link Driver.bare}. */
const BARE = -2;

/** As how many flushes one counts that may have waited. */
const LINGER_STREAK = 7;

/** How long closing waits for the next of the operations that were cancelled to end, in milliseconds. */
const CLOSE_LIMIT = 10_000;

const ENOENT = -2;
const EAGAIN = -11;
const EBUSY = -16;
const ETIMEDOUT = 110;
const EALREADY = -114;
const ECANCELED = -125;
const ETIME = -62;

const resolved = Promise.resolve();

// One executor for all promises: a closure per promise would cost as much as the promise.
let executing: Op;
const executor = (resolve: (value: never) => void): void => {
  executing.resolve = resolve;
};

type Phase = "open" | "closing" | "closed";

/** Drives one ring. */
export class Driver implements Sleeper {
  /** The ring. */
  readonly ring: CoreRing;
  /** Memory for arguments that the kernel copies at submission. */
  readonly arena: Arena;
  /** Whether the ring was told to keep the process alive for its work. */
  wanted = true;
  /** How many completions are awaited. */
  inFlight = 0;
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
  /** How many microtasks the next flush lets go first: what has been told of completions may ask for more. */
  patience = 0;
  /** How many completions the next submission may wait for a moment for; 0: it does not wait. */
  linger = 0;
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

  readonly #table = new OpTable();
  readonly #ops: Op[] = this.#table.ops;
  readonly #staging: Staging;
  readonly #canceller: Canceller;
  readonly #limits: TimeLimits;
  readonly #blindlyDeferred: boolean;
  #phase: Phase = "open";
  #scheduled = false;
  #batch = 1;
  #streak = 0;
  #reaping = false;
  #hasChains = false;
  #drained: (() => void) | null = null;
  #closing: Promise<void> | null = null;
  readonly #resign: () => void;
  readonly #flushTask: () => void = () => this.#flushSoon();
  readonly #flushNow: () => void = () => this.flush();
  readonly #visit: (cqe: Cqe) => void = (cqe) => this.#complete(cqe);

  /** @param ring An enabled ring that nothing else uses. */
  constructor(ring: CoreRing) {
    this.ring = ring;
    this.#blindlyDeferred = (ring.flags & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG)) ===
      IORING_SETUP_DEFER_TASKRUN;
    this.#staging = new Staging(ring, this.#ops);
    this.#canceller = new Canceller(this, this.#table);
    this.#limits = new TimeLimits(this, this.#staging, this.#canceller);
    const stable = (ring.features & IORING_FEAT_SUBMIT_STABLE) !== 0 &&
      (ring.flags & IORING_SETUP_SQPOLL) === 0;
    this.arena = new Arena(stable);
    waker.join();
    this.#resign = enrol(this.#table);
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

  /** Has the ring flushed soon, as when an operation had begun. */
  touch(): void {
    this.#schedule();
  }

  /** Whether nothing will be submitted any more. */
  get gone(): boolean {
    return this.#phase === "closed";
  }

  /** Has an operation cancelled; its own completion tells how that went. */
  cancelOp(op: Op): void {
    this.#canceller.cancel(op);
  }

  /** Whether new work is refused. */
  get closed(): boolean {
    return this.#phase !== "open";
  }

  /** Throws when new work is refused. */
  assertOpen(): void {
    if (this.#phase !== "open") throw new TypeError("The ring is closed");
  }

  /**
   * Takes a slot and an entry for an operation. What is checked must have been checked before: from here on nothing may
   * throw until {@link Driver.promise} or {@link Driver.launch}.
   */
  begin(name: string): Op {
    const sqe = this.#staging.length === 0 ? this.ring.getSqe() : null;
    const op = this.#table.take();
    op.name = name;
    if (sqe === null) {
      op.sqe = this.#staging.add();
      op.batch = STAGED;
    } else {
      op.sqe = sqe;
      op.batch = this.#batch;
    }
    if (shadowing) attach(op, this);
    return op;
  }

  /** Takes a slot and an entry outside the ring for an operation of a chain. */
  beginChained(name: string): Op {
    const op = this.#table.take();
    op.name = name;
    op.sqe = this.#staging.loose();
    op.batch = STAGED;
    (op.extra ??= {}).chained = true;
    if (shadowing) attach(op, this);
    return op;
  }

  /** Submits what {@link Driver.begin} began, with the next flush, and returns its promise. */
  promise<T>(op: Op, options: OperationOptions | undefined): Promise<T> {
    const sqe = op.sqe!;
    sqe.setUserData(op.slot, op.generation);
    op.pending = 1;
    this.inFlight++;
    executing = op;
    const promise = new Promise<T>(executor as never);
    if (options !== undefined) this.#apply(op, options);
    if (!this.#scheduled) this.#schedule();
    return promise;
  }

  /**
   * Submits an operation whose completions go to a sink; or, where its entry was followed by others with its user data,
   * operations that have so many completions together.
   */
  launch(op: Op, sink: CompletionSink, completions: number = 1): void {
    op.sink = sink;
    op.sqe!.setUserData(op.slot, op.generation);
    op.pending = completions;
    this.inFlight += completions;
    if (!this.#scheduled) this.#schedule();
  }

  /** An entry outside the ring that belongs to an operation of {@link Driver.beginChained}. */
  looseEntry(): Sqe {
    return this.#staging.loose();
  }

  /** The promise of an operation of a chain, which {@link Driver.submitChain} submits. */
  chained<T>(op: Op, options: OperationOptions | undefined, sqes: Sqe[]): Promise<T> {
    op.sqe!.setUserData(op.slot, op.generation);
    op.pending = 1;
    this.inFlight++;
    executing = op;
    const promise = new Promise<T>(executor as never);
    op.direct?.hold(op);
    sqes.push(op.sqe!);
    if (options !== undefined) {
      this.#applyFlags(op, options);
      if (options.timeout !== undefined) {
        sqes.push(this.#limits.link(op, options.timeout, this.#staging.loose()));
      }
      if (options.signal !== undefined) this.#canceller.listen(op, options.signal);
    }
    return promise;
  }

  /** Whether so many entries that are taken now stand side by side in the ring. */
  hasRoom(count: number): boolean {
    return this.#staging.length === 0 && this.ring.sqSpaceLeft() >= count;
  }

  /** Says that entries in the ring are linked. */
  chainInRing(): void {
    this.#hasChains = true;
  }

  /** Submits the entries of a chain one after the other, in the same system call. */
  submitChain(sqes: Sqe[]): void {
    if ((sqes[0]!.flags & IOSQE_IO_DRAIN) !== 0) this.#canceller.usesDrain = true;
    this.#hasChains = true;
    this.#staging.addGroup(sqes, this.#batch);
    this.#schedule();
  }

  /** Takes the operations of a chain back that was never submitted. */
  abandonChain(ops: readonly Op[], sqes: readonly Sqe[], reason: unknown): void {
    this.#staging.discard(sqes);
    for (const op of ops) {
      this.inFlight -= op.pending;
      const { resolve } = op;
      this.#forget(op, false, ECANCELED);
      reject(resolve, reason);
    }
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    resolved.then(this.#flushTask);
  }

  #flushSoon(): void {
    if (this.patience > 0) {
      this.patience--;
      resolved.then(this.#flushTask);
      return;
    }
    if (++this.#streak <= INLINE_FLUSHES) this.flush();
    else {
      this.#streak = 0;
      setImmediate(this.#flushNow);
    }
  }

  #apply(op: Op, options: OperationOptions): void {
    this.#applyFlags(op, options);
    if (options.timeout !== undefined) this.#limits.apply(op, options.timeout);
    if (options.signal !== undefined) this.#canceller.listen(op, options.signal);
  }

  #applyFlags(op: Op, options: OperationOptions): void {
    if (options.drain === true || options.async === true) op.direct?.hold(op);
    if (options.drain === true) {
      op.sqe!.flags |= IOSQE_IO_DRAIN;
      this.#canceller.usesDrain = true;
    }
    if (options.async === true) op.sqe!.flags |= IOSQE_ASYNC;
    if (options.personality !== undefined) op.sqe!.personality = options.personality.id;
  }

  /** Whether the kernel has not seen an operation yet. */
  isUnsubmitted(op: Op): boolean {
    return op.batch === STAGED || op.batch === this.#batch;
  }

  /**
   * Whether what an entry asks for is done, if it can be, when the submission returns: not while a drain may hold it back,
   * nor when a thread of the kernel's takes it.
   */
  get prompt(): boolean {
    return !this.#canceller.usesDrain && (this.ring.flags & IORING_SETUP_SQPOLL) === 0 &&
      (this.ring.features & IORING_FEAT_CQE_SKIP) !== 0;
  }

  /**
   * An entry that has a completion only when it fails, for {@link Driver.onFailure}; null when the ring has no room. It must
   * be one that never waits, on a ring that is {@link Driver.prompt}, and be taken in {@link Driver.beforeSubmit}.
   */
  bare(index: number): Sqe | null {
    const sqe = this.#staging.length === 0 ? this.ring.getSqe() : null;
    sqe?.setUserData(BARE, index);
    return sqe;
  }

  /** An entry for a request that nobody waits for. */
  request(): Sqe {
    const sqe = (this.#staging.length === 0 ? this.ring.getSqe() : null) ?? this.#staging.add();
    this.inFlight++;
    this.#schedule();
    return sqe;
  }

  /** Submits everything that waits, in as few system calls as the ring's size allows, and takes what completed. */
  flush(): void {
    this.#scheduled = false;
    if (this.#phase === "closed") return;
    for (;;) {
      const more = this.beforeSubmit?.() === true;
      if (!this.#submit(more)) return;
      if (this.#staging.length === 0 && !more) break;
      this.#staging.move(this.#batch);
    }
    // What a completion has begun just now is not submitted yet.
    if (this.ring.sqReady() === 0) this.arena.reset();
    // The steps of a chain follow one another by deferred work: a few more calls now are sooner than the next turn.
    if (this.#hasChains) this.#advanceChains();
    if (this.inFlight > 0) waker.wait(this);
    else waker.done(this);
  }

  #advanceChains(): void {
    for (let i = 0; i < DEFERRED_CALLS && this.inFlight > 0 && this.ring.cqNeedsEnter(); i++) {
      this.enters++;
      this.ring.getEvents();
      this.reap();
    }
    if (this.inFlight === 0) this.#hasChains = false;
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
        this.#streak += LINGER_STREAK;
        ring.submitAndLinger(this.linger);
      } else if (this.#blindlyDeferred) ring.submitAndGetEvents();
      else ring.submit();
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      if (error.errno !== EBUSY && error.errno !== EAGAIN) {
        this.#die(error);
        return false;
      }
    }
    this.#batch++;
    const left = ring.sqReady();
    this.reap();
    if (looks && this.afterSubmit !== null) this.#settleBare(left === 0);
    if (left === 0 || (ring.flags & IORING_SETUP_SQPOLL) !== 0 && ring.sqSpaceLeft() > 0) return true;
    // The kernel is short of something, or its queue of completions is full: let it breathe.
    this.#scheduled = true;
    setImmediate(this.#flushNow);
    return false;
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
    if (this.#phase === "closed") return false;
    this.#streak = 0;
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
        this.#table.release(op);
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
        if (cqe.res === ENOENT || cqe.res === EALREADY) this.#canceller.missed(high);
      }
      return;
    }
    // Nothing of this ring's: somebody who has its descriptor may have sent a message of his own making.
    if (op === undefined || (high & ~TIMEOUT_SIDE) !== op.generation || !this.#table.isLive(op)) return;
    const flags = cqe.flags;
    const more = (flags & IORING_CQE_F_MORE) !== 0;
    if (!more) {
      this.inFlight--;
      if (op.extra === null) op.loans?.copyOut(cqe.res);
    }
    if (op.sink !== null) {
      const sink = op.sink;
      if (!more && --op.pending === 0) this.#table.release(op);
      sink.complete(cqe.res, flags, more, cqe);
    } else if (op.extra === null) settle(this.ring, this.#table, op, cqe.res);
    else this.#completeExtra(op, cqe.res, flags, (high & TIMEOUT_SIDE) !== 0);
  }

  #completeExtra(op: Op, res: number, flags: number, timeoutSide: boolean): void {
    const extra = op.extra!;
    if (timeoutSide) extra.timedOut ||= res !== ECANCELED;
    else extra.result = extra.each === undefined ? res : extra.each(res, flags, extra.result);
    if ((flags & IORING_CQE_F_MORE) !== 0) return;
    if (--op.pending > 0) {
      // The time was over, but the kernel missed the operation.
      if (timeoutSide && res !== ECANCELED && res !== ETIME) this.#canceller.cancel(op);
      return;
    }
    const result = extra.result!;
    op.loans?.copyOut(result);
    if (extra.aborted !== undefined) {
      const { reason } = extra.aborted;
      const { resolve } = op;
      if (result >= 0) extra.undo?.(result);
      this.#forget(op, false, result);
      reject(resolve, reason);
    } else if (extra.timedOut === true && wasCancelled(result)) {
      const { resolve } = op;
      const error = new UringError(ETIMEDOUT, op.name, {
        path: op.path,
        dest: op.dest,
        hint: `not done within ${extra.timeout} ms`,
      });
      this.#forget(op, false, result);
      reject(resolve, error);
    } else {
      this.#canceller.release(extra);
      op.extra = null;
      const ok = settle(this.ring, this.#table, op, result);
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
    this.#schedule();
  }

  /** Ends a {@link Driver.hold}. */
  letGo(): void {
    if (--this.inFlight > 0 || this.#reaping) return;
    waker.done(this);
    this.#drained?.();
  }

  #forget(op: Op, ok: boolean, res: number): void {
    const extra = op.extra;
    if (extra !== null) this.#canceller.release(extra);
    this.#table.release(op);
    extra?.settled?.(ok, res);
  }

  /**
   * Refuses new work, cancels what is in flight, waits until it has ended, and closes the ring. Work that cannot be ended
   * is abandoned after a while, with the memory it uses.
   */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    if (this.#phase === "closed") return;
    this.#phase = "closing";
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
    this.#phase = "closed";
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
      if (!this.#table.isLive(op)) continue;
      if (op.sink === null && op.extra?.aborted === undefined && this.isUnsubmitted(op)) {
        this.#canceller.abort(op, reason);
      } else this.#canceller.send(op);
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
    this.#phase = "closed";
    this.abandoned = true;
    for (const op of this.#ops) {
      if (!this.#table.isLive(op)) continue;
      const { resolve, sink } = op;
      // The kernel may still be writing: what it works on is kept for good.
      leak([op.view, op.pins, op.loans]);
      op.loans = null;
      this.#forget(op, false, error.errno);
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
