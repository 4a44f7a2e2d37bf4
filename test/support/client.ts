/**
 * A thread that uses a file system that the calling thread serves, which must not do so itself: it would wait for its own
 * answer, and the kernel has no way to end that.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import type * as fs from "node:fs";
import type { Uring } from "../../src/mod.ts";

/** `node:assert/strict`, without the types that ask for annotations. */
export interface Checks {
  ok(value: unknown, message?: string): void;
  equal(actual: unknown, expected: unknown): void;
  deepEqual(actual: unknown, expected: unknown): void;
  throws(body: () => unknown, expected: object): void;
  rejects(promise: Promise<unknown>, expected: object): Promise<void>;
}

/** What a {@link Client} runs is given first. */
export interface ClientTools {
  readonly assert: Checks;
  readonly Buffer: typeof Buffer;
  readonly fs: typeof fs;
  /** A ring of the thread's. */
  readonly uring: Uring;
}

interface Answer {
  readonly result?: unknown;
  readonly error?: { readonly code?: string; readonly message: string; readonly stack?: string };
}

/** A thread. */
export class Client implements AsyncDisposable {
  readonly #worker = new Worker(new URL("./client_worker.ts", import.meta.url), { type: "module" });
  #answer: ((answer: Answer) => void) | null = null;
  #fail: ((error: Error) => void) | null = null;

  private constructor() {
    this.#worker.onmessage = ({ data }): void => this.#answer?.(data);
    this.#worker.onerror = (event): void => this.#fail?.(new Error(event.message));
  }

  /** Starts one. */
  static async start(): Promise<Client> {
    const client = new Client();
    await client.#next();
    return client;
  }

  async #next(): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    this.#answer = resolve;
    this.#fail = reject;
    const { error, result } = await promise;
    if (error !== undefined) throw Object.assign(new Error(error.message), error);
    return result;
  }

  /** Runs a function there, which must be self-contained; one at a time. Arguments and result are copied. */
  async run<A extends unknown[], R>(
    body: (tools: ClientTools, ...args: A) => R | Promise<R>,
    ...args: A
  ): Promise<R> {
    const answer = this.#next();
    this.#worker.postMessage({ source: body.toString(), args });
    return await answer as R;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.run(({ uring }) => uring.disposeAsync());
    this.#worker.terminate();
  }
}
