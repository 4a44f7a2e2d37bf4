/**
 * Waking the runtime's event loop when the kernel has completed something: no threads, no polling.
 *
 * A thread has one waker for all its rings. After a flush that left work in flight it spins for a few macrotasks, for
 * most operations end within microseconds. Then it sleeps: an eventfd registered on every ring is read by a linked
 * READ → SEND in a second, tiny ring, which sends a byte into a socketpair whose other end the runtime's own event loop
 * watches. The eventfd is muted except while asleep. A ring with `IORING_SETUP_IOPOLL` signals nothing: for that it goes on
 * spinning.
 *
 * @module
 */
import { IORING_SETUP_IOPOLL, IORING_SETUP_SQPOLL } from "../ffi/abi.ts";
import { adapter } from "../ffi/system.ts";
import type { CoreRing } from "../ring/core_ring.ts";
import { type Alarm, makeAlarm } from "./alarm.ts";

/** What the waker drives: a ring with work in flight. */
export interface Sleeper {
  /** The ring. */
  readonly ring: CoreRing;
  /** Whether this ring's work keeps the process alive. */
  readonly referenced: boolean;
  /** How many completions are awaited. */
  readonly inFlight: number;
  /** Whether the waker has it in its set. */
  waiting: boolean;
  /** Whether the ring has the waker's eventfd. */
  alarmed: boolean;
  /** Takes completions; whether there were any. */
  poll(): boolean;
}

type State = "idle" | "spinning" | "sleeping";

/** The waker of this thread. */
export class Waker {
  // Strong references: a ring with work in flight must not be collected.
  readonly #sleepers = new Set<Sleeper>();
  #state: State = "idle";
  #turns = 0;
  #alarm: Alarm | null = null;
  #making = false;
  #long = false;
  #rings = 0;
  readonly #spin: () => void = () => this.#spinTurn();

  /** How many times the event loop was woken. */
  wakeUps = 0;

  /** How many rings have work in flight. */
  get size(): number {
    return this.#sleepers.size;
  }

  /** A ring was made on this thread. */
  join(): void {
    this.#rings++;
  }

  /** A ring was closed. The last one on a Worker's thread takes the alarm along: nothing else would close that. */
  leave(): void {
    this.#rings--;
    this.#closeUnused();
  }

  #closeUnused(): void {
    if (this.#rings > 0 || this.#alarm === null || !adapter.isWorker) return;
    this.#alarm.close();
    this.#alarm = null;
  }

  /** A ring has work in flight. */
  wait(sleeper: Sleeper): void {
    if (!sleeper.waiting) {
      sleeper.waiting = true;
      this.#sleepers.add(sleeper);
    }
    if (this.#state === "spinning") {
      this.#long = false;
      return;
    }
    if (this.#state === "sleeping") this.#leaveSleep();
    this.#startSpinning();
  }

  /** A ring has no work in flight any more. */
  done(sleeper: Sleeper): void {
    if (!sleeper.waiting) return;
    sleeper.waiting = false;
    this.#sleepers.delete(sleeper);
    if (this.#sleepers.size === 0 && this.#state === "sleeping") {
      this.#leaveSleep();
      this.#state = "idle";
    }
  }

  /** Whether no ring but this one, if it has, has work in flight. */
  isAlone(sleeper: Sleeper): boolean {
    return this.#sleepers.size === (sleeper.waiting ? 1 : 0);
  }

  /** A sleeper's `referenced` has changed. */
  update(): void {
    if (this.#state !== "sleeping") return;
    if (this.#anyReferenced()) this.#alarm!.ref();
    else this.#alarm!.unref();
  }

  /** What is submitted next takes long: do not spin for it. */
  expectLong(): void {
    this.#long = true;
  }

  #startSpinning(): void {
    this.#state = "spinning";
    this.#turns = this.#long ? adapter.spinTurns : 0;
    this.#long = false;
    setImmediate(this.#spin);
  }

  #spinTurn(): void {
    if (this.#pollAll()) this.#turns = 0;
    if (this.#sleepers.size === 0) {
      this.#state = "idle";
      return;
    }
    if (++this.#turns >= adapter.spinTurns && !this.#anyPolled() && this.#ready()) this.#sleep();
    else setImmediate(this.#spin);
  }

  /** Whether there is an alarm; making the first one takes a few turns. */
  #ready(): boolean {
    if (this.#alarm !== null) return true;
    if (!this.#making) this.#make();
    return false;
  }

  async #make(): Promise<void> {
    this.#making = true;
    try {
      this.#alarm = await makeAlarm(() => this.#wake());
      this.#alarm.unref();
      this.#closeUnused();
    } catch {
      // No descriptor is left, say. Spinning goes on, and so do attempts.
    } finally {
      this.#making = false;
    }
  }

  /** Goes to sleep in the order that loses no wake: unmute, arm, ref, look once more. */
  #sleep(): void {
    const alarm = this.#alarm!;
    for (const sleeper of this.#sleepers) {
      if (sleeper.alarmed) sleeper.ring.cqEventfdToggle(true);
      else {
        sleeper.ring.registerEventfd(alarm.eventfd);
        sleeper.alarmed = true;
      }
    }
    this.#state = "sleeping";
    alarm.arm();
    if (this.#anyReferenced()) alarm.ref();
    if (!this.#pollAll() || this.#sleepers.size === 0) return;
    // Some had completed meanwhile; whoever awaited them will probably go on at once.
    if (this.#state === "sleeping") this.#leaveSleep();
    this.#startSpinning();
  }

  #leaveSleep(): void {
    for (const sleeper of this.#sleepers) if (sleeper.alarmed) sleeper.ring.cqEventfdToggle(false);
    this.#alarm!.unref();
    this.#state = "spinning";
  }

  #wake(): void {
    this.wakeUps++;
    // A byte that arrives awake comes from an alarm that was still armed: there is nothing left to do for it.
    if (this.#state !== "sleeping") return;
    this.#leaveSleep();
    this.#pollAll();
    if (this.#sleepers.size === 0) this.#state = "idle";
    else this.#startSpinning();
  }

  #pollAll(): boolean {
    let any = false;
    for (const sleeper of this.#sleepers) if (sleeper.poll()) any = true;
    return any;
  }

  /** Whether there is a ring whose completions come to nobody but who looks for them. */
  #anyPolled(): boolean {
    for (const { ring } of this.#sleepers) {
      if ((ring.flags & (IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL)) === IORING_SETUP_IOPOLL) return true;
    }
    return false;
  }

  #anyReferenced(): boolean {
    for (const sleeper of this.#sleepers) if (sleeper.referenced) return true;
    return false;
  }
}

/** The waker of this thread. */
export const waker: Waker = new Waker();
