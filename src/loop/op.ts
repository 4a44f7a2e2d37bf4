/**
 * One operation in flight, and the table of them.
 *
 * @module
 */
import type { Cqe } from "../ring/cqe.ts";
import type { Sqe } from "../ring/sqe.ts";
import type { DirectDescriptor } from "./direct.ts";
import type { Loans } from "./shadow.ts";

/** What takes the completions of an operation that has more than one. */
export interface CompletionSink {
  /**
   * Called for each completion. `more`: another one will follow. `cqe`: the completion itself, valid during the call;
   * none when the ring was given up.
   */
  complete(res: number, flags: number, more: boolean, cqe?: Cqe): void;
}

/** Turns the kernel's result into the promise's value. */
export type Finish = (res: number, op: Op) => unknown;

/** The promise's end. */
export type Resolve = (value: never) => void;

/** A slot of the in-flight table; used again with the next generation once its operation has ended. */
export class Op {
  /** Index in the table: the low half of `user_data`. */
  readonly slot: number;
  /** Counts the uses of the slot: the high half of `user_data`, so that nothing late settles the wrong promise. */
  generation = 0;
  /** The operation's name for errors. */
  name = "";
  /** Where it was written, until it is submitted. */
  sqe: Sqe | null = null;
  /** The batch it is submitted with, or {@link STAGED}. */
  batch = 0;
  /** How many completions without `IORING_CQE_F_MORE` are still to come. */
  pending = 0;
  /**
   * The promise's `resolve`. Its `reject` is not kept: failures are rarer than operations, and resolving with a rejected
   * promise does the same.
   */
  resolve: Resolve | null = null;
  /** The caller's memory that the kernel works on. */
  view: ArrayBufferView | null = null;
  /** The direct descriptor that it works on. */
  direct: DirectDescriptor | null = null;
  /** Whether nothing below is set: then the result is the value, and there is little to let go of. */
  plain = true;

  #pins: unknown = null;
  #finish: Finish | null = null;
  #sink: CompletionSink | null = null;
  #path: string | undefined = undefined;
  #dest: string | undefined = undefined;
  #variant: string | undefined = undefined;
  #extra: Extra | null = null;
  #released: (() => void) | null = null;
  #loans: Loans | null = null;

  /** Whatever else must live until the end. */
  get pins(): unknown {
    return this.#pins;
  }
  /** Keeps something until the end. */
  set pins(value: unknown) {
    this.plain = false;
    this.#pins = value;
  }

  /** Maps the result; null: the number as it is. */
  get finish(): Finish | null {
    return this.#finish;
  }
  /** Sets what maps the result. */
  set finish(value: Finish | null) {
    this.plain = false;
    this.#finish = value;
  }

  /** Takes the completions instead of a promise. */
  get sink(): CompletionSink | null {
    return this.#sink;
  }
  /** Sets what takes the completions. */
  set sink(value: CompletionSink | null) {
    this.plain = false;
    this.#sink = value;
  }

  /** The first path, for errors. */
  get path(): string | undefined {
    return this.#path;
  }
  /** Sets the first path. */
  set path(value: string | undefined) {
    this.plain = false;
    this.#path = value;
  }

  /** The second path, for errors. */
  get dest(): string | undefined {
    return this.#dest;
  }
  /** Sets the second path. */
  set dest(value: string | undefined) {
    this.plain = false;
    this.#dest = value;
  }

  /** What it is beyond its name, for errors. */
  get variant(): string | undefined {
    return this.#variant;
  }
  /** Sets what it is beyond its name. */
  set variant(value: string | undefined) {
    this.plain = false;
    this.#variant = value;
  }

  /** What few operations need. */
  get extra(): Extra | null {
    return this.#extra;
  }
  /** Sets what few operations need. */
  set extra(value: Extra | null) {
    this.plain = false;
    this.#extra = value;
  }

  /** Called when the slot is given back, however the operation has ended: what it held is in use no more. */
  get released(): (() => void) | null {
    return this.#released;
  }
  /** Sets what is called at the very end. */
  set released(value: (() => void) | null) {
    this.plain = false;
    this.#released = value;
  }

  /** The memory that stands in for JavaScript's. */
  get loans(): Loans | null {
    return this.#loans;
  }
  /** Sets what stands in for JavaScript's memory. */
  set loans(value: Loans | null) {
    this.plain = false;
    this.#loans = value;
  }

  /** Lets go of everything. */
  clear(): void {
    this.#loans?.end();
    this.#loans = null;
    const released = this.#released;
    this.#released = null;
    this.sqe = null;
    this.#pins = null;
    this.#finish = null;
    this.#sink = null;
    this.#path = undefined;
    this.#dest = undefined;
    this.#variant = undefined;
    this.#extra = null;
    this.plain = true;
    released?.();
  }

  /** @param slot Its index in the table. */
  constructor(slot: number) {
    this.slot = slot;
  }
}

/** The rarer part of an operation: a signal, a timeout, a place in a chain. */
export interface Extra {
  /** The signal and the listener on it. */
  signal?: AbortSignal | undefined;
  /** Runs when the signal aborts. */
  onAbort?: (() => void) | undefined;
  /** Whether it was aborted, and the reason. */
  aborted?: { reason: unknown } | undefined;
  /** The time limit in milliseconds. */
  timeout?: number | undefined;
  /** The main completion's result, kept until the linked timeout's has come too. */
  result?: number | undefined;
  /** Sees each main completion of an operation that has several, and tells the result so far. */
  each?: ((res: number, flags: number, before: number | undefined) => number) | undefined;
  /** Whether it is done and only waits for the kernel to let go of its memory, which nothing hastens. */
  lettingGo?: boolean | undefined;
  /** Keeps the time limit where the kernel may not. */
  timer?: ReturnType<typeof setTimeout> | undefined;
  /** Whether the time limit is over. */
  timedOut?: boolean | undefined;
  /** Undoes an operation that succeeded after it had been aborted (closes the descriptor it made). */
  undo?: ((res: number) => void) | undefined;
  /** Whether its cancellation was asked for, and again where the kernel missed it. */
  cancelled?: "once" | "again" | undefined;
  /** Called when the operation ends, however it does. */
  settled?: ((ok: boolean, res: number) => void) | undefined;
  /** Whether it stands in a chain, where it cannot be replaced. */
  chained?: boolean | undefined;
}

/** {@link Op.batch} of an operation that waits in JavaScript for room in the ring. */
export const STAGED = -1;

const GENERATIONS = 0x3fff_ffff;

/** The table of operations in flight. */
export class OpTable {
  /** The slots; indexed by the low half of `user_data`. */
  readonly ops: Op[] = [];
  // A stack of numbers: pushing objects would cost the garbage collector's write barrier.
  #free = new Int32Array(64);
  #freeCount = 0;

  /** Takes a slot. */
  take(): Op {
    return this.#freeCount > 0 ? this.ops[this.#free[--this.#freeCount]!]! : this.#grow();
  }

  #grow(): Op {
    const op = new Op(this.ops.length);
    this.ops.push(op);
    if (this.ops.length > this.#free.length) {
      const free = new Int32Array(this.#free.length * 2);
      free.set(this.#free);
      this.#free = free;
    }
    return op;
  }

  /** Gives a slot back and lets go of everything it held. */
  release(op: Op): void {
    op.generation = (op.generation + 1) & GENERATIONS;
    op.resolve = null;
    op.view = null;
    op.direct = null;
    op.pending = 0;
    if (!op.plain) op.clear();
    this.#free[this.#freeCount++] = op.slot;
  }

  /** The operations that have not ended. */
  live(): Op[] {
    return this.ops.filter((op) => this.isLive(op));
  }

  /** Whether a slot is in use. */
  isLive(op: Op): boolean {
    return op.pending > 0;
  }
}
