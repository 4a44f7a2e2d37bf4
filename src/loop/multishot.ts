/**
 * Operations with many completions, as async iterables.
 *
 * @module
 */
import { UringError } from "../ffi/errors.ts";
import type { Cqe } from "../ring/cqe.ts";
import type { Driver } from "./driver.ts";
import { type Failed, operationError } from "./failure.ts";
import type { Op } from "./op.ts";

/** What a completion of a multishot operation means. */
export type Shot<T> =
  /** A value for the consumer; `last`: the operation has ended with it, as it should. */
  | { readonly kind: "value"; readonly value: T; readonly last?: boolean }
  /** Several values at once. */
  | { readonly kind: "values"; readonly values: readonly T[] }
  /** The end, as it should be. */
  | { readonly kind: "end" }
  /** Nothing: arm again as soon as `ready` resolves, at once without it. */
  | { readonly kind: "again"; readonly ready?: Promise<void> };

/** One kind of multishot operation. */
export interface MultishotSpec<T> {
  /** Its name for errors. */
  readonly name: string;
  /** Runs once, before the first operation; may throw. */
  begin?(): void;
  /** Runs once, when all has ended and nothing waits for the consumer any more. */
  end?(): void;
  /** Writes the entry of a freshly begun operation. */
  prepare(op: Op): void;
  /** Explains a completion; an error result that it does not know gives undefined. */
  shot(res: number, flags: number, cqe?: Cqe): Shot<T> | undefined;
  /** Gets rid of a value that nobody will take. */
  discard(value: T): void;
  /** Runs when the consumer gets a value. */
  handOut?(value: T): void;
  /** Runs when the consumer asks for the next value, and at the end: what it had before is given back. */
  advance?(): void;
  /** How many values may wait for the consumer before the operation pauses. */
  readonly limit: number;
}

/** What a multishot operation accepts. */
export interface MultishotOptions {
  /** Ends the iteration with the signal's reason. */
  signal?: AbortSignal;
  /** Milliseconds after which the iteration ends with `ETIMEDOUT`, from the first `next()` on. */
  timeout?: number;
}

const ECANCELED = -125;
const ETIMEDOUT = 110;
/** The longest that `setTimeout` can wait. */
const MOST_TIMER = 0x7fff_ffff;

interface Waiter<T> {
  resolve(result: IteratorResult<T, undefined>): void;
  reject(reason: unknown): void;
}

/**
 * The values of a multishot operation. It is armed at the first `next()`, arms itself anew when the kernel ends it early
 * (no buffer was left, the completion queue overflowed), pauses while too many values wait, and is cancelled and drained
 * by `return()`, which `break` calls.
 */
export class Multishot<T> implements AsyncIterableIterator<T, undefined, undefined>, AsyncDisposable {
  readonly #driver: Driver;
  readonly #spec: MultishotSpec<T>;
  readonly #options: MultishotOptions;
  #op: Op | null = null;
  #values: T[] = [];
  #first = 0;
  readonly #waiters: Waiter<T>[] = [];
  #state: "new" | "running" | "stopping" | "ended" = "new";
  #paused = false;
  #cancelling = false;
  // Whether what begin() has taken is still held.
  #begun = false;
  #failure: { reason: unknown } | null = null;
  #stopped: PromiseWithResolvers<void> | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #onAbort: () => void = () => this.#fail(this.#options.signal!.reason);

  /** @internal */
  constructor(driver: Driver, spec: MultishotSpec<T>, options: MultishotOptions) {
    this.#driver = driver;
    this.#spec = spec;
    this.#options = options;
  }

  /** The next value; many may be asked for at once. Rejects when the operation failed. */
  next(): Promise<IteratorResult<T, undefined>> {
    this.#spec.advance?.();
    if (this.#state === "new") {
      try {
        this.#start();
      } catch (error) {
        return Promise.reject(error);
      }
    }
    if (this.#state !== "stopping" && this.#first < this.#values.length) {
      return Promise.resolve({ done: false, value: this.#take() });
    }
    if (this.#state === "ended" || this.#state === "stopping") {
      const failure = this.#failure;
      this.#failure = null;
      return failure === null
        ? Promise.resolve({ done: true, value: undefined })
        : Promise.reject(failure.reason);
    }
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  /** Ends the iteration: cancels, waits until the kernel has let go, and gets rid of what nobody took. */
  async return(): Promise<IteratorResult<T, undefined>> {
    this.#failure = null;
    await this.#stop();
    this.#spec.advance?.();
    return { done: true, value: undefined };
  }

  /** The same as {@link Multishot.return}, rejecting with `error`. */
  async throw(error?: unknown): Promise<IteratorResult<T, undefined>> {
    await this.return();
    throw error;
  }

  /** Itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The same as {@link Multishot.return}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #start(): void {
    this.#driver.assertOpen();
    this.#spec.begin?.();
    this.#begun = true;
    const { signal, timeout } = this.#options;
    this.#state = "running";
    if (signal?.aborted === true) {
      this.#fail(signal.reason);
      return;
    }
    signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (timeout !== undefined) this.#startTimer(timeout);
    this.#arm();
  }

  #startTimer(left: number): void {
    const step = Math.min(left, MOST_TIMER);
    this.#timer = setTimeout(() => {
      if (left > step) this.#startTimer(left - step);
      else {
        const hint = `ended after ${this.#options.timeout} ms`;
        this.#fail(new UringError(ETIMEDOUT, this.#spec.name, { hint }));
      }
    }, step);
  }

  #arm(): void {
    const op = this.#driver.begin(this.#spec.name);
    this.#spec.prepare(op);
    this.#op = op;
    this.#driver.launch(op, this);
  }

  /** A completion. @internal */
  complete(res: number, flags: number, more: boolean, cqe?: Cqe): void {
    if (!more) this.#op = null;
    const shot = this.#spec.shot(res, flags, cqe);
    if (shot?.kind === "value") this.#put(shot.value);
    else if (shot?.kind === "values") {
      for (const value of shot.values) this.#put(value);
    }
    if (more) {
      if (this.#state === "stopping" || this.#driver.closed) this.#cancelAgain();
      else if (!this.#paused && this.#values.length - this.#first >= this.#spec.limit) this.#pause();
      return;
    }
    if (this.#state === "stopping") this.#end();
    else if (this.#paused && (res === ECANCELED || shot !== undefined && shot.kind !== "end")) {
      this.#resume();
    } else if (shot === undefined) this.#ended(res);
    else if (shot.kind === "end" || (shot.kind === "value" && shot.last === true)) this.#end();
    else this.#rearm(shot.kind === "again" ? shot.ready : undefined);
  }

  #ended(res: number): void {
    this.#failure ??= { reason: operationError(this.#driver.ring, res, this.#about) };
    this.#end();
  }

  get #about(): Failed {
    return { name: this.#spec.name, variant: "multishot", path: undefined, dest: undefined };
  }

  /** Goes on after a pause as soon as the consumer has taken everything. */
  #resume(): void {
    if (
      !this.#paused || this.#op !== null || this.#state !== "running" || this.#first < this.#values.length
    ) return;
    this.#paused = false;
    this.#rearm(undefined);
  }

  #rearm(ready: Promise<void> | undefined): void {
    const again = (): void => {
      if (this.#state !== "running" || this.#op !== null) {
        if (this.#state === "stopping") this.#end();
        return;
      }
      if (this.#driver.closed) {
        this.#ended(ECANCELED);
        return;
      }
      this.#arm();
    };
    if (ready === undefined) again();
    else ready.then(again);
  }

  /** Too much waits for the consumer: let the kernel hold the rest. */
  #pause(): void {
    this.#paused = true;
    if (this.#op !== null) this.#driver.cancelOp(this.#op);
  }

  #put(value: T): void {
    if (this.#state === "stopping") {
      this.#spec.discard(value);
      return;
    }
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#values.push(value);
    else {
      this.#spec.handOut?.(value);
      waiter.resolve({ done: false, value });
    }
  }

  #take(): T {
    const value = this.#values[this.#first]!;
    this.#values[this.#first++] = undefined as T;
    if (this.#first === this.#values.length) {
      this.#values = [];
      this.#first = 0;
      this.#resume();
    }
    this.#spec.handOut?.(value);
    this.#letGo();
    return value;
  }

  #fail(reason: unknown): void {
    if (this.#state === "ended" || this.#state === "stopping") return;
    this.#failure = { reason };
    this.#stop();
  }

  #stop(): Promise<void> {
    if (this.#state === "new") this.#end();
    if (this.#state === "ended") {
      this.#discardAll();
      this.#letGo();
      return Promise.resolve();
    }
    this.#stopped ??= Promise.withResolvers<void>();
    if (this.#state === "running") {
      this.#state = "stopping";
      if (this.#op === null) this.#end();
      else this.#driver.cancelOp(this.#op);
    }
    return this.#stopped.promise;
  }

  /** Once more for what has gone on: the kernel finds no timeout whose tick is being delivered when it looks for it. */
  #cancelAgain(): void {
    if (this.#cancelling) return;
    this.#cancelling = true;
    // After the completions that are there: the end may be among them.
    queueMicrotask(() => {
      this.#cancelling = false;
      if (this.#op !== null) this.#driver.cancelOp(this.#op);
    });
  }

  #end(): void {
    const stopping = this.#state === "stopping";
    this.#state = "ended";
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    clearTimeout(this.#timer);
    if (stopping) this.#discardAll();
    // With a waiter no value waits: the end is theirs.
    for (const waiter of this.#waiters.splice(0)) {
      const failure = this.#failure;
      this.#failure = null;
      if (failure === null) waiter.resolve({ done: true, value: undefined });
      else waiter.reject(failure.reason);
    }
    this.#letGo();
    this.#stopped?.resolve();
  }

  #letGo(): void {
    if (!this.#begun || this.#state !== "ended" || this.#first < this.#values.length) return;
    this.#begun = false;
    this.#spec.end?.();
  }

  #discardAll(): void {
    for (const value of this.#values.splice(0).slice(this.#first)) this.#spec.discard(value);
    this.#first = 0;
  }
}
