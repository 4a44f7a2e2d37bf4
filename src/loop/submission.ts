/**
 * How operations get into the ring: slots, entries, promises, chains, the flush that is to come.
 *
 * @module
 */
import {
  IORING_FEAT_CQE_SKIP,
  IORING_FEAT_SUBMIT_STABLE,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  IOSQE_IO_DRAIN,
} from "../ffi/abi.ts";
import type { CoreRing } from "../ring/core_ring.ts";
import type { Sqe } from "../ring/sqe.ts";
import { Arena } from "./arena.ts";
import type { Canceller } from "./canceller.ts";
import { type CompletionSink, type Op, OpTable, STAGED } from "./op.ts";
import type { OperationOptions } from "./options.ts";
import { reject } from "./settle.ts";
import { attach, shadowing } from "./shadow.ts";
import { Staging } from "./staging.ts";
import type { TimeLimits } from "./time_limits.ts";

/** How many flushes in a row may complete inline before the runtime's macrotasks get a turn. */
const INLINE_FLUSHES = 64;

/** `user_data`'s low half for entries of {@link Submission.bare}. */
export const BARE = -2;

const ECANCELED = -125;

const resolved = Promise.resolve();

// One executor for all promises: a closure per promise would cost as much as the promise.
let executing: Op;
const executor = (resolve: (value: never) => void): void => {
  executing.resolve = resolve;
};

type Phase = "open" | "closing" | "closed";

/** What a `Driver` does up to the submission. */
export abstract class Submission {
  /** The ring. */
  readonly ring: CoreRing;
  /** Memory for arguments that the kernel copies at submission. */
  readonly arena: Arena;
  /** How many completions are awaited. */
  inFlight = 0;
  /** How many microtasks the next flush lets go first: what has been told of completions may ask for more. */
  patience = 0;

  /** The operations in flight. @internal */
  protected readonly table: OpTable = new OpTable();
  /** Entries that wait for room in the ring. @internal */
  protected readonly staging: Staging;
  /** Ends operations early. @internal */
  protected abstract readonly canceller: Canceller;
  /** Ends operations in time. @internal */
  protected abstract readonly limits: TimeLimits;
  /** How far it is with closing. @internal */
  protected phase: Phase = "open";
  /** Whether a flush is to come. @internal */
  protected scheduled = false;
  /** The number of the next submission. @internal */
  protected batch = 1;
  /** How many flushes in a row have completed inline. @internal */
  protected streak = 0;
  /** Whether there may be steps of chains in flight. @internal */
  protected hasChains = false;
  /** Flushes as a task of the event loop. @internal */
  protected readonly flushNow: () => void = () => this.flush();
  readonly #flushTask: () => void = () => this.#flushSoon();

  /** @param ring An enabled ring that nothing else uses. */
  constructor(ring: CoreRing) {
    this.ring = ring;
    this.staging = new Staging(ring, this.table.ops);
    const stable = (ring.features & IORING_FEAT_SUBMIT_STABLE) !== 0 &&
      (ring.flags & IORING_SETUP_SQPOLL) === 0;
    this.arena = new Arena(stable);
  }

  /** Submits everything that waits. */
  abstract flush(): void;

  /** Whether nothing will be submitted any more. */
  get gone(): boolean {
    return this.phase === "closed";
  }

  /** Whether new work is refused. */
  get closed(): boolean {
    return this.phase !== "open";
  }

  /** Throws when new work is refused. */
  assertOpen(): void {
    if (this.phase !== "open") throw new TypeError("The ring is closed");
  }

  /** Has the ring flushed soon, as when an operation had begun. */
  touch(): void {
    this.schedule();
  }

  /** Has an operation cancelled; its own completion tells how that went. */
  cancelOp(op: Op): void {
    this.canceller.cancel(op);
  }

  /**
   * Takes a slot and an entry for an operation. What is checked must have been checked before: from here on nothing may
   * throw until {@link Submission.promise} or {@link Submission.launch}.
   */
  begin(name: string): Op {
    const sqe = this.staging.length === 0 ? this.ring.getSqe() : null;
    const op = this.table.take();
    op.name = name;
    if (sqe === null) {
      op.sqe = this.staging.add();
      op.batch = STAGED;
    } else {
      op.sqe = sqe;
      op.batch = this.batch;
    }
    if (shadowing) attach(op, this);
    return op;
  }

  /** Takes a slot and an entry outside the ring for an operation of a chain. */
  beginChained(name: string): Op {
    const op = this.table.take();
    op.name = name;
    op.sqe = this.staging.loose();
    op.batch = STAGED;
    (op.extra ??= {}).chained = true;
    if (shadowing) attach(op, this);
    return op;
  }

  /** Submits what {@link Submission.begin} began, with the next flush, and returns its promise. */
  promise<T>(op: Op, options: OperationOptions | undefined): Promise<T> {
    const sqe = op.sqe!;
    sqe.setUserData(op.slot, op.generation);
    op.pending = 1;
    this.inFlight++;
    executing = op;
    const promise = new Promise<T>(executor as never);
    if (options !== undefined) this.#apply(op, options);
    if (!this.scheduled) this.schedule();
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
    if (!this.scheduled) this.schedule();
  }

  /** An entry outside the ring that belongs to an operation of {@link Submission.beginChained}. */
  looseEntry(): Sqe {
    return this.staging.loose();
  }

  /** The promise of an operation of a chain, which {@link Submission.submitChain} submits. */
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
        sqes.push(this.limits.link(op, options.timeout, this.staging.loose()));
      }
      if (options.signal !== undefined) this.canceller.listen(op, options.signal);
    }
    return promise;
  }

  /** Whether so many entries that are taken now stand side by side in the ring. */
  hasRoom(count: number): boolean {
    return this.staging.length === 0 && this.ring.sqSpaceLeft() >= count;
  }

  /** Says that entries in the ring are linked. */
  chainInRing(): void {
    this.hasChains = true;
  }

  /** Submits the entries of a chain one after the other, in the same system call. */
  submitChain(sqes: Sqe[]): void {
    if ((sqes[0]!.flags & IOSQE_IO_DRAIN) !== 0) this.canceller.usesDrain = true;
    this.hasChains = true;
    this.staging.addGroup(sqes, this.batch);
    this.schedule();
  }

  /** Takes the operations of a chain back that was never submitted. */
  abandonChain(ops: readonly Op[], sqes: readonly Sqe[], reason: unknown): void {
    this.staging.discard(sqes);
    for (const op of ops) {
      this.inFlight -= op.pending;
      const { resolve } = op;
      this.forget(op, false, ECANCELED);
      reject(resolve, reason);
    }
  }

  /** Has the ring flushed when this turn ends. @internal */
  protected schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    resolved.then(this.#flushTask);
  }

  #flushSoon(): void {
    if (this.patience > 0) {
      this.patience--;
      resolved.then(this.#flushTask);
      return;
    }
    if (++this.streak <= INLINE_FLUSHES) this.flush();
    else {
      this.streak = 0;
      setImmediate(this.flushNow);
    }
  }

  #apply(op: Op, options: OperationOptions): void {
    this.#applyFlags(op, options);
    if (options.timeout !== undefined) this.limits.apply(op, options.timeout);
    if (options.signal !== undefined) this.canceller.listen(op, options.signal);
  }

  #applyFlags(op: Op, options: OperationOptions): void {
    if (options.drain === true || options.async === true) op.direct?.hold(op);
    if (options.drain === true) {
      op.sqe!.flags |= IOSQE_IO_DRAIN;
      this.canceller.usesDrain = true;
    }
    if (options.async === true) op.sqe!.flags |= IOSQE_ASYNC;
    if (options.personality !== undefined) op.sqe!.personality = options.personality.id;
  }

  /** Whether the kernel has not seen an operation yet. */
  isUnsubmitted(op: Op): boolean {
    return op.batch === STAGED || op.batch === this.batch;
  }

  /**
   * Whether what an entry asks for is done, if it can be, when the submission returns: not while a drain may hold it back,
   * nor when a thread of the kernel's takes it.
   */
  get prompt(): boolean {
    return !this.canceller.usesDrain && (this.ring.flags & IORING_SETUP_SQPOLL) === 0 &&
      (this.ring.features & IORING_FEAT_CQE_SKIP) !== 0;
  }

  /**
   * An entry that has a completion only when it fails, for `Driver.onFailure`; null when the ring has no room. It must
   * be one that never waits, on a ring that is {@link Submission.prompt}, and be taken in `Driver.beforeSubmit`.
   */
  bare(index: number): Sqe | null {
    const sqe = this.staging.length === 0 ? this.ring.getSqe() : null;
    sqe?.setUserData(BARE, index);
    return sqe;
  }

  /** An entry for a request that nobody waits for. */
  request(): Sqe {
    const sqe = (this.staging.length === 0 ? this.ring.getSqe() : null) ?? this.staging.add();
    this.inFlight++;
    this.schedule();
    return sqe;
  }

  /** Ends an operation without settling its promise. @internal */
  protected forget(op: Op, ok: boolean, res: number): void {
    const extra = op.extra;
    if (extra !== null) this.canceller.release(extra);
    this.table.release(op);
    extra?.settled?.(ok, res);
  }
}
