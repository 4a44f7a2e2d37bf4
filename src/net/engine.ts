/**
 * What all connections of a thread share: the ring, the buffers that data arrives in, the memory that it leaves from.
 *
 * @module
 */
import { kernelHas } from "../ffi/kernel.ts";
import type { Driver } from "../loop/driver.ts";
import { type BufferPool, Uring } from "../mod.ts";
import { IdleWheel } from "./idle.ts";
import type { Output } from "./output.ts";
import { PieceStore } from "./pieces.ts";
import type { AnySocket } from "./socket.ts";

/** Buffers that are used up bit by bit serve many small messages each; before Linux 6.12 every message takes one. */
const INCREMENTAL = { count: 16, size: 64 << 10, incremental: true };
const WHOLE = { count: 128, size: 16 << 10 };

const engines = new WeakMap<Uring, Engine>();

/** The engine of this thread. */
export function currentEngine(): Engine {
  const uring = Uring.shared;
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
  /** Connections that may be silent only for so long. */
  readonly idle: IdleWheel = new IdleWheel();
  /** Those that wait for a descriptor to be closed. */
  readonly waiting: Set<() => void> = new Set();

  #outputs: Output[] = [];
  #starved: AnySocket[] = [];
  #turn = -1;
  #now = 0;

  /** @param uring The ring. */
  constructor(uring: Uring) {
    this.uring = uring;
    this.driver = uring.engine;
    this.pool = uring.bufferPool(kernelHas("6.12") ? INCREMENTAL : WHOLE);
    this.driver.beforeSubmit = () => this.#gather();
    this.driver.onClosed = () => this.pieces.release();
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
  send(output: Output): void {
    this.#outputs.push(output);
    this.driver.touch();
  }

  /** Has a connection receive again, for which there was no buffer. */
  starve(socket: AnySocket): void {
    this.#starved.push(socket);
    this.driver.touch();
  }

  /** A descriptor was closed: who could not get one may try again. */
  closed(): void {
    for (const wake of this.waiting) wake();
  }

  #gather(): void {
    const outputs = this.#outputs;
    if (outputs.length > 0) {
      // What a job does in here comes after it in the same list.
      for (let i = 0; i < outputs.length; i++) outputs[i]!.gather();
      outputs.length = 0;
    }
    const starved = this.#starved;
    if (starved.length === 0) return;
    this.#starved = [];
    // By now all that had arrived was handed out, and its buffers are the kernel's again.
    for (const socket of starved) socket.receive();
  }
}
