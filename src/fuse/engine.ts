/**
 * The ring that requests come through.
 *
 * @module
 */
import {
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQE128,
  IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_TASKRUN_FLAG,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { type Sleeper, waker } from "../loop/waker.ts";
import type { Cqe } from "../ring/cqe.ts";
import { CoreRing } from "../ring/core_ring.ts";
import type { RingLayout } from "../ring/layout.ts";
import type { Sqe } from "../ring/sqe.ts";

const EINVAL = -22;
const EAGAIN = -11;
const EBUSY = -16;

// Not deferred: requests come in by work that the kernel does on this thread, and where that waits for a thread that is
// busy for ever, the kernel cannot end them either.
const BASE_FLAGS: readonly number[] = [
  IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
  IORING_SETUP_SUBMIT_ALL,
  0,
];

/** For the device, and what is done beside. */
const SPARE_ENTRIES = 16;
/** How many submissions, or flushes, in a row before the event loop gets a turn. */
const ROUNDS = 64;
/** For how long to look for the next request, and how often between two looks at the clock. */
const SPIN_MS = 0.06;
const LOOKS = 16;
/** After so many looks in vain, only one in so many requests is followed by one: the client has no core of its own, say. */
const MOST_MISSES = 8;
const RARELY = 16;
/** What `user_data` has in its upper half for what is awaited by promise. */
const AWAITED = 1;

/** A ring whose entries can be written to in words. */
export class CommandRing extends CoreRing {
  /** Where its entries lie. */
  get entries(): Pick<RingLayout, "sqes" | "sqeSlot" | "sqeWords"> {
    return this.layout;
  }
}

/** Takes what has completed of a kind. */
export interface Completions {
  /** A request has come to a slot, or the slot is lost. */
  slot(index: number, res: number): void;
  /** Looks for requests in another place; after completions were taken. */
  look(): void;
  /** The ring is unusable. */
  died(error: unknown): void;
}

/** Drives a ring of its own, beside those of `Uring`. */
export class Engine implements Sleeper {
  readonly ring: CommandRing;
  readonly referenced = true;
  inFlight = 0;
  waiting = false;
  alarmed = false;
  /** How many handlers have not answered: while there are any, nothing is waited for but in the event loop. */
  busy = 0;
  /** Whether {@link Completions.look} is called for. */
  look = false;
  #to: Completions | null = null;
  #running = false;
  #scheduled = false;
  #closed = false;
  /** How many times in a row the next request was not there in time. */
  #misses = 0;
  /** How many flushes there were since the event loop had a turn. */
  #streak = 0;
  #idle: (() => void) | null = null;
  readonly #awaited = new Map<number, (res: number) => void>();
  #lastAwaited = 0;
  readonly #flush: () => void = () => this.flush();
  readonly #visit: (cqe: Cqe) => void = (cqe) => this.#complete(cqe);

  /**
   * @param slots How many slots there are to commit.
   * @param wide Whether entries have 128 bytes.
   */
  constructor(slots: number, wide: boolean) {
    this.ring = makeRing(slots + SPARE_ENTRIES, wide ? IORING_SETUP_SQE128 : 0);
    try {
      this.ring.registerRingFd();
    } catch {
      // All of the thread's places are taken: a little slower, otherwise the same.
    }
    waker.join();
  }

  /** Says who takes what completes. */
  attach(to: Completions): void {
    this.#to = to;
  }

  /** An entry to be filled. */
  sqe(): Sqe {
    const sqe = this.ring.getSqe();
    if (sqe !== null) return sqe;
    this.ring.submit();
    return this.ring.getSqe()!;
  }

  /** What was put into the queue is submitted when this turn ends. */
  schedule(): void {
    // What is answered while completions are taken goes along right after them.
    if (this.#scheduled || this.#running) return;
    this.#scheduled = true;
    if (++this.#streak < ROUNDS) queueMicrotask(this.#flush);
    else this.#flushLater();
  }

  /** Begins an operation; `done` is called while completions are taken. */
  begin(prepare: (sqe: Sqe) => void, done: (res: number) => void): void {
    const sqe = this.sqe();
    prepare(sqe);
    this.#lastAwaited = (this.#lastAwaited + 1) & 0x3fff_ffff;
    sqe.setUserData(this.#lastAwaited, AWAITED);
    this.#awaited.set(this.#lastAwaited, done);
    this.inFlight++;
    this.schedule();
  }

  /** An operation whose result is awaited; never rejects. */
  operation(prepare: (sqe: Sqe) => void): Promise<number> {
    return new Promise((resolve) => this.begin(prepare, resolve));
  }

  /** Submits what there is, and goes on while there is more. */
  flush(): void {
    this.#scheduled = false;
    if (this.#closed) return;
    this.#run(true);
    if (this.inFlight > 0) waker.wait(this);
    else waker.done(this);
  }

  /** Looks for completions: for the waker. Whether there were any. */
  poll(): boolean {
    if (this.#closed) return false;
    this.#streak = 0;
    const any = this.#run(false);
    if (this.inFlight === 0) waker.done(this);
    return any;
  }

  /** Submits and takes what completes, in turns; whether there was something. */
  #run(submits: boolean): boolean {
    if (this.#running) return false;
    this.#running = true;
    let any = false;
    try {
      if (!submits) any = this.#look();
      for (let rounds = 0; rounds < ROUNDS; rounds++) {
        if (!submits && this.ring.sqReady() === 0 && !this.look) break;
        submits = false;
        this.#submit();
        if (!this.#reap() && !this.#spin()) break;
        any = true;
      }
    } catch (error) {
      this.#to?.died(error);
    } finally {
      this.#running = false;
    }
    if (!this.#closed && (this.ring.sqReady() > 0 || this.look)) {
      this.#scheduled = true;
      this.#flushLater();
    }
    return any;
  }

  /** Takes what has completed; whether there was something. */
  #look(): boolean {
    if (this.ring.cqNeedsEnter()) this.ring.getEvents();
    return this.#reap();
  }

  /** Goes on when timers and everything else have had their turn. */
  #flushLater(): void {
    this.#streak = 0;
    setImmediate(this.#flush);
  }

  #submit(): void {
    try {
      this.ring.submit();
    } catch (error) {
      if (!(error instanceof UringError) || (error.errno !== EAGAIN && error.errno !== EBUSY)) throw error;
    }
  }

  /**
   * Looks for the next request for a moment; whether something came. A client that was answered asks again within
   * microseconds, and to be woken takes longer than that.
   */
  #spin(): boolean {
    // With handlers at work, the event loop has something to do.
    if (this.busy > 0 || this.inFlight === 0 || !waker.isAlone(this)) return false;
    if (this.#misses > MOST_MISSES && ++this.#misses % RARELY !== 0) return false;
    const { ring } = this;
    const end = performance.now() + SPIN_MS;
    do {
      for (let i = 0; i < LOOKS; i++) {
        if (ring.cqReady() === 0 && !ring.cqNeedsEnter()) continue;
        this.#misses = 0;
        return this.#look();
      }
    } while (performance.now() < end);
    if (this.#misses <= MOST_MISSES) this.#misses++;
    return false;
  }

  #reap(): boolean {
    const any = this.ring.forEachCqe(this.#visit) > 0;
    if (!this.look || this.#closed) return any;
    this.look = false;
    this.#to?.look();
    return true;
  }

  #complete(cqe: Cqe): void {
    if (--this.inFlight === 0) this.#idle?.();
    const low = cqe.userDataLow;
    const res = cqe.res;
    if (cqe.userDataHigh !== AWAITED) {
      this.#to?.slot(low, res);
      return;
    }
    const done = this.#awaited.get(low);
    this.#awaited.delete(low);
    done?.(res);
  }

  /** Waits until nothing is in flight, at most so many milliseconds. */
  async idle(milliseconds: number): Promise<void> {
    if (this.inFlight === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, milliseconds);
    this.#idle = resolve;
    await promise;
    clearTimeout(timer);
    this.#idle = null;
  }

  /** Whether it was closed. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Closes the ring. What is awaited still ends with `ECANCELED`. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.inFlight = 0;
    waker.done(this);
    this.ring.close();
    waker.leave();
    const ECANCELED = -125;
    for (const done of this.#awaited.values()) done(ECANCELED);
    this.#awaited.clear();
  }
}

function makeRing(entries: number, flags: number): CommandRing {
  for (const base of BASE_FLAGS) {
    try {
      return new CommandRing(entries, { flags: base | flags });
    } catch (error) {
      if (!(error instanceof UringError) || error.errno !== EINVAL || base === 0) throw error;
    }
  }
  throw new UringError(EINVAL, "io_uring_setup");
}
