/**
 * What all connections of a thread share: the ring, the buffers that data arrives in, the memory that it leaves from.
 *
 * @module
 */
import { kernelHas } from "../ffi/kernel.ts";
import type { Driver } from "../loop/driver.ts";
import { type BufferPool, Uring } from "../mod.ts";
import { LINGER_MIN } from "../ring/waits.ts";
import type { Sqe } from "../ring/sqe.ts";
import { DirectSupport } from "./direct_side.ts";
import { IdleWheel } from "./idle.ts";
import { PieceStore } from "./pieces.ts";
import type { AnySocket } from "./socket.ts";
import { WaitingMemory } from "./zero_copy.ts";

/** Buffers that are used up bit by bit serve many small messages each; before Linux 6.12 every message takes one. */
const INCREMENTAL = { count: 16, size: 64 << 10, incremental: true };
const WHOLE = { count: 128, size: 16 << 10 };

/** How many flushes it takes to judge by. */
const EPOCH = 32;

/** The most messages that are waited for. */
const MOST_LINGER = 64;

/** How long it looks out for the next message, awake, where messages come one by one; microseconds. */
const SPIN = 40;

/** The most occasions to do so that it lets go by after having looked out in vain. */
const MOST_PASSED = 256;

const engines = new WeakMap<Uring, Engine>();

/** What has something to send. */
export interface Outgoing {
  /** Puts what there is into the ring: called before a submission. */
  gather(): void;
  /** The ring is closed. */
  abandon(): void;
}

/** What may no longer keep the process alive. */
export interface Counted {
  /** Is called when who was told of data has had the time to ask for more. */
  recount(): void;
}

/** What is sent without a completion unless it fails. */
export interface Prompt {
  /** It has failed; {@link Prompt.settled} follows. */
  failed(res: number): void;
  /** It has ended. */
  settled(): void;
  /** The ring is closed. */
  abandon(): void;
}

/** The engine of this thread. */
export function currentEngine(): Engine {
  return engineOf(Uring.shared);
}

/** The engine of a ring. */
export function engineOf(uring: Uring): Engine {
  let engine = engines.get(uring);
  if (engine === undefined) engines.set(uring, engine = new Engine(uring));
  return engine;
}

/** See the module's description. */
export class Engine {
  /** The ring. */
  readonly uring: Uring;
  /** What drives it. */
  readonly driver: Driver;
  /** Where data arrives. */
  readonly pool: BufferPool;
  /** What waits to be sent. */
  readonly pieces: PieceStore = new PieceStore();
  /** Memory that could be given back, and must not be while it is to be sent. */
  readonly memory: WaitingMemory = new WaitingMemory();
  /** What connections need that are direct descriptors. */
  readonly direct: DirectSupport = new DirectSupport(this);
  /** Connections that may be silent only for so long. */
  readonly idle: IdleWheel = new IdleWheel(() => void this.driver.poll());
  /** Those that wait for a descriptor to be closed. */
  readonly waiting: Set<() => void> = new Set();

  /** The view that a handler is being called with, and the buffer that it is in. */
  current: Uint8Array | null = null;
  currentId = 0;

  /** Counts spans of time, and the connections that were heard of in this one. */
  epoch = 0;
  active = 0;

  #outputs: Outgoing[] = [];
  // What was sent with the last submission and has no completion unless it failed.
  #prompt: Prompt[] = [];
  #spare: Prompt[] = [];
  #messages = 0;
  #heard = 0;
  #flushes = 0;
  #since = 0;
  #linger = 1;
  // How many occasions to look out are let go by now, and after the next time in vain.
  #passing = 0;
  #passed = 1;
  #starved: AnySocket[] = [];
  #counted: Counted[] = [];
  #turn = -1;
  #now = 0;

  /** @param uring The ring. */
  constructor(uring: Uring) {
    this.uring = uring;
    this.driver = uring.engine;
    this.pool = uring.bufferPool(kernelHas("6.12") ? INCREMENTAL : WHOLE);
    this.driver.beforeSubmit = () => this.#gather();
    this.driver.afterSubmit = (all) => this.#settle(all);
    this.driver.onFailure = (index, res) => this.#prompt[index]?.failed(res);
    this.driver.onClosed = () => this.#close();
  }

  /** Milliseconds; the same within one turn. */
  now(): number {
    const { turn } = this.driver;
    if (turn !== this.#turn) {
      this.#turn = turn;
      this.#now = performance.now();
    }
    return this.#now;
  }

  /** Has an output looked at before the next submission. */
  send(output: Outgoing): void {
    this.#outputs.push(output);
    this.driver.touch();
  }

  /** Has a connection receive again, for which there was no buffer. */
  starve(socket: AnySocket): void {
    this.#starved.push(socket);
    this.driver.touch();
  }

  /** Has {@link Counted.recount} called before the next submission. */
  recount(counted: Counted): void {
    this.#counted.push(counted);
    this.driver.touch();
  }

  /** A descriptor was closed: who could not get one may try again. */
  closed(): void {
    for (const wake of this.waiting) wake();
  }

  /** Something has arrived: more may within a moment. */
  arrived(socket?: AnySocket): void {
    if (socket !== undefined && socket.epoch !== this.epoch) {
      socket.epoch = this.epoch;
      this.active++;
    }
    if (this.#messages++ === 0) this.driver.touch();
  }

  /** An entry for a send that never waits, or null when there is none. */
  promptEntry(output: Prompt): Sqe | null {
    const { driver } = this;
    if (!driver.prompt) return null;
    const sqe = driver.bare(this.#prompt.length);
    if (sqe !== null) this.#prompt.push(output);
    return sqe;
  }

  /**
   * How many messages to wait for a moment for: as many as may come in it, judging by the last few flushes, so that a
   * system call serves many; but never for more than half of the connections that were heard of, since the others may be
   * waiting for an answer. With little to do it is one: nobody waits for the sake of others.
   */
  #worthwhile(): number {
    this.#heard += this.#messages;
    if (++this.#flushes < EPOCH) return this.#linger;
    const now = performance.now();
    const expected = this.#heard / (now - this.#since) * LINGER_MIN / 1000;
    this.#linger = Math.max(1, Math.min(MOST_LINGER, this.active >> 1, Math.floor(expected)));
    this.#since = now;
    this.#flushes = 0;
    this.#heard = 0;
    this.active = 0;
    this.epoch++;
    return this.#linger;
  }

  #gather(): boolean {
    const { driver } = this;
    driver.linger = this.#messages === 0 ? 0 : this.#worthwhile();
    driver.spin = driver.linger === 1 && this.#passing-- <= 0 ? SPIN : 0;
    this.#messages = 0;
    const outputs = this.#outputs;
    if (outputs.length > 0) {
      let done = 0;
      // What a job does in here comes after it in the same list.
      while (done < outputs.length && driver.hasRoom(1)) outputs[done++]!.gather();
      if (done === outputs.length) outputs.length = 0;
      else outputs.splice(0, done);
    }
    const counted = this.#counted;
    if (counted.length > 0) {
      for (let i = 0; i < counted.length; i++) counted[i]!.recount();
      counted.length = 0;
    }
    const starved = this.#starved;
    if (starved.length > 0) {
      this.#starved = [];
      // By now all that had arrived was handed out, and its buffers are the kernel's again.
      for (const socket of starved) socket.receive();
    }
    return outputs.length > 0;
  }

  /** Whether it was worth it to look out for the next message: a client on this very CPU, say, cannot send one meanwhile. */
  #judge(): void {
    this.driver.spin = 0;
    if (this.#messages > 0) {
      this.#passed = 1;
      return;
    }
    this.#passing = this.#passed;
    this.#passed = Math.min(MOST_PASSED, 2 * this.#passed);
  }

  /** Sends that have not failed are done. */
  #settle(all: boolean): void {
    if (this.driver.spin > 0) this.#judge();
    const prompt = this.#prompt;
    if (prompt.length === 0) return;
    if (!all) {
      this.driver.touch();
      return;
    }
    this.#prompt = this.#spare;
    this.#spare = prompt;
    for (let i = 0; i < prompt.length; i++) prompt[i]!.settled();
    prompt.length = 0;
  }

  /** The ring is closed. */
  #close(): void {
    for (const output of this.#outputs.splice(0)) output.abandon();
    for (const output of this.#prompt.splice(0)) output.abandon();
    for (const socket of this.#starved.splice(0)) socket.receive();
    this.pieces.release();
    this.direct.release();
    this.memory.release();
  }
}
