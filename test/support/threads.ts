/**
 * Threads that work on rings of other threads.
 *
 * @module
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import type { Ring } from "../../src/ring/mod.ts";
import type { EnterCall, RegisterCall } from "./enter_worker.ts";

type Message = { readonly thread: number } | { readonly result: number };

/** A thread that enters rings as told, one call at a time. */
export class EnterThread {
  readonly #worker: Worker;
  #thread = 0;
  #answer: ((message: Message) => void) | undefined;
  #fail: ((error: Error) => void) | undefined;

  private constructor() {
    this.#worker = new Worker(new URL("./enter_worker.ts", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }): void => this.#answer?.(data);
    this.#worker.onerror = (event): void => this.#fail?.(new Error(event.message));
  }

  /** Starts one. */
  static async start(): Promise<EnterThread> {
    const made = new EnterThread();
    const message = await made.#next();
    assert.ok("thread" in message);
    made.#thread = message.thread;
    return made;
  }

  #next(): Promise<Message> {
    return new Promise((resolve, reject) => {
      this.#answer = resolve;
      this.#fail = reject;
    });
  }

  /** Calls `io_uring_enter` there; resolves with its result. */
  enter(call: EnterCall): Promise<number> {
    return this.#call(call);
  }

  /** Calls `io_uring_register` there without an argument; resolves with the last result. */
  register(call: RegisterCall): Promise<number> {
    return this.#call(call);
  }

  async #call(call: EnterCall | RegisterCall): Promise<number> {
    const answer = this.#next();
    this.#worker.postMessage(call);
    const message = await answer;
    assert.ok("result" in message);
    return message.result;
  }

  /** Ends it and waits until the kernel has forgotten the thread. */
  async end(): Promise<void> {
    this.#worker.terminate();
    await threadEnds(this.#thread);
  }
}

/** Waits until the kernel has forgotten a thread of this process. */
export async function threadEnds(thread: number): Promise<void> {
  for (let i = 0; i < 2000; i++) {
    if (!existsSync(`/proc/self/task/${thread}`)) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.fail("the thread does not end");
}

/**
 * Lets the kernel see what is queued, without submitting it: another thread may then. The ring must have been made with
 * `IORING_SETUP_R_DISABLED`, and is enabled by this.
 */
export function publish(ring: Ring): void {
  assert.throws(() => ring.submit(), { code: "EBADFD" });
  ring.enableRings();
}
