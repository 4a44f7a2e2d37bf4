/**
 * A descriptor of a socket that is closed exactly once, when nothing uses it any more.
 *
 * @module
 */
import { Uring } from "../mod.ts";
import { closedError } from "./errors.ts";

/** How long until what was cancelled and has not ended is cancelled anew: from, and up to, milliseconds. */
const AGAIN_FIRST = 1;
const AGAIN_MOST = 100;

/** Counts what is in flight on a descriptor; closing cancels it first. */
export class Socket {
  /** The descriptor. */
  readonly fd: number;
  #users = 0;
  #idle: (() => void) | null = null;
  #closing: Promise<void> | null = null;
  readonly #rings = new Set<Uring>();

  /** @param fd The descriptor, which belongs to this object from now on. */
  constructor(fd: number) {
    this.fd = fd;
  }

  /** Whether it is closed or closing. */
  get closed(): boolean {
    return this.#closing !== null;
  }

  /** Does something with the descriptor, which stays open meanwhile; fails with `ECANCELED` when it is closed. */
  async use<T>(syscall: string, uring: Uring, use: (fd: number) => Promise<T>): Promise<T> {
    if (this.#closing !== null) throw closedError(syscall);
    this.#users++;
    this.#rings.add(uring);
    try {
      return await use(this.fd);
    } catch (error) {
      throw this.#closing === null ? error : closedError(syscall);
    } finally {
      if (--this.#users === 0) this.#idle?.();
    }
  }

  /** Ends what is in flight without closing; what has its result already keeps it. */
  async interrupt(): Promise<void> {
    for (let delay = AGAIN_FIRST; this.#users > 0; delay = Math.min(2 * delay, AGAIN_MOST)) {
      for (const uring of this.#rings) {
        if (uring.closed) this.#rings.delete(uring);
        else await uring.cancel({ fd: this.fd, all: true }).catch(() => {});
      }
      if (this.#users > 0) await this.#idleWithin(delay);
    }
  }

  async #idleWithin(milliseconds: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, milliseconds);
    this.#idle = resolve;
    await promise;
    this.#idle = null;
    clearTimeout(timer);
  }

  /** Cancels what is in flight, waits until it has ended, runs `last`, and closes the descriptor. */
  close(last?: () => Promise<void>): Promise<void> {
    return this.#closing ??= this.#close(last);
  }

  async #close(last: (() => Promise<void>) | undefined): Promise<void> {
    // From the next turn of microtasks on, when `#closing` is set.
    await null;
    try {
      await last?.();
      await this.interrupt();
    } finally {
      await Uring.shared.close(this.fd);
    }
  }
}
