/**
 * A thread beside the one with the ring, for what happens at the same time.
 *
 * @module
 */
import assert from "node:assert/strict";

/** What a peer does. */
export type PeerTask =
  | {
    readonly kind: "connects";
    readonly port: number;
    readonly count: number;
    readonly rounds: number;
    readonly byte?: number;
  }
  | { readonly kind: "writes"; readonly rounds: number; readonly size: number; readonly shutdown: boolean }
  | {
    readonly kind: "triggers";
    readonly rounds: number;
    readonly fds: readonly number[];
    readonly count: number;
  }
  | { readonly kind: "streams"; readonly fd: number; readonly count: number; readonly size: number }
  | { readonly kind: "receives"; readonly port: number; readonly answer: number }
  | { readonly kind: "pours"; readonly fd: number; readonly text: string; readonly close: boolean };

/** The most that one side waits for the other: milliseconds. */
const PATIENCE = 30_000;

/** Two threads that take turns: each says when it is done and waits for the other. */
export class Turns {
  readonly #words: Int32Array;
  readonly #mine: 0 | 1;
  #awaited = 0;

  constructor(words: Int32Array, mine: 0 | 1) {
    this.#words = words;
    this.#mine = mine;
  }

  /** Lets the other side go on, with two numbers for it. */
  done(first = 0, second = 0): void {
    const words = this.#words;
    Atomics.store(words, 2 + 2 * this.#mine, first);
    Atomics.store(words, 3 + 2 * this.#mine, second);
    Atomics.add(words, this.#mine, 1);
    Atomics.notify(words, this.#mine);
  }

  /** Waits for the other side to be done once more, and returns the numbers that it gave. */
  await(): readonly [number, number] {
    const words = this.#words;
    const other = 1 - this.#mine;
    // The notification of an earlier turn may come late and wake this side without a turn of its own.
    while (Atomics.load(words, other) === this.#awaited) {
      const woken = Atomics.wait(words, other, this.#awaited, PATIENCE);
      assert.notEqual(woken, "timed-out", "the other thread is gone");
    }
    this.#awaited++;
    return [Atomics.load(words, 2 + 2 * other), Atomics.load(words, 3 + 2 * other)];
  }
}

/** A thread that makes plain system calls. */
export class Peer implements Disposable {
  readonly #worker: Worker;
  readonly #words: Int32Array = new Int32Array(new SharedArrayBuffer(24));
  /** Whose turn it is. */
  readonly turns: Turns = new Turns(this.#words, 0);
  #answer: Promise<string> | undefined;

  private constructor(worker: Worker) {
    this.#worker = worker;
  }

  /** Starts a thread. */
  static async start(): Promise<Peer> {
    const worker = new Worker(new URL("./peer_worker.ts", import.meta.url), { type: "module" });
    const peer = new Peer(worker);
    assert.equal(await peer.#next(), null);
    return peer;
  }

  #next(): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#worker.onerror = (event): void => reject(new Error(event.message));
      this.#worker.onmessage = ({ data }): void => resolve(data as string);
    });
  }

  /** Has it begin; this thread may block meanwhile. */
  begin(task: PeerTask): void {
    this.#answer = this.#next();
    this.#worker.postMessage({ task, words: this.#words });
  }

  /** Waits for the end of its task; fails when the task has. */
  async end(): Promise<void> {
    assert.equal(await this.#answer, "done");
  }

  [Symbol.dispose](): void {
    this.#worker.terminate();
  }
}
