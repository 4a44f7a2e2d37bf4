/**
 * One operation in flight, and the table of them.
 *
 * @module
 */
import type { Sqe } from "../ring/sqe.ts";

/** What takes the completions of an operation that has more than one. */
export interface CompletionSink {
  /** Called for each completion. `more`: another one will follow. */
  complete(res: number, flags: number, more: boolean): void;
}

/** Turns the kernel's result into the promise's value. */
export type Finish = (res: number, op: Op) => unknown;

/** The promise's two ends. */
export type Resolve = (value: never) => void;
/** The promise's other end. */
export type Reject = (reason: unknown) => void;

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
  /** The promise's `resolve`. */
  resolve: Resolve | null = null;
  /** The promise's `reject`. */
  reject: Reject | null = null;
  /** The caller's memory that the kernel works on. */
  view: ArrayBufferView | null = null;
  /** Whatever else must live until the end. */
  pins: unknown = null;
  /** Maps the result; null: the number as it is. */
  finish: Finish | null = null;
  /** Takes the completions instead of a promise. */
  sink: CompletionSink | null = null;
  /** The first path, for errors. */
  path: string | undefined = undefined;
  /** The second path, for errors. */
  dest: string | undefined = undefined;
  /** What is not needed for a plain operation. */
  extra: Extra | null = null;

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
  /** Whether the linked timeout fired. */
  timedOut?: boolean | undefined;
  /** Undoes an operation that succeeded after it had been aborted (closes the descriptor it made). */
  undo?: ((res: number) => void) | undefined;
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
  readonly #free: Op[] = [];

  /** Takes a slot. */
  take(): Op {
    const op = this.#free.pop();
    if (op !== undefined) return op;
    const fresh = new Op(this.ops.length);
    this.ops.push(fresh);
    return fresh;
  }

  /** Gives a slot back and lets go of everything it held. */
  release(op: Op): void {
    op.generation = (op.generation + 1) & GENERATIONS;
    op.sqe = null;
    op.resolve = null;
    op.reject = null;
    op.view = null;
    op.pins = null;
    op.finish = null;
    op.sink = null;
    op.path = undefined;
    op.dest = undefined;
    op.extra = null;
    op.pending = 0;
    this.#free.push(op);
  }

  /** Whether a slot is in use. */
  isLive(op: Op): boolean {
    return op.pending > 0;
  }
}
