/**
 * One after the other.
 *
 * @module
 */

/** Lets one caller through at a time, in order. */
export class Turns {
  #last: Promise<void> | null = null;

  /** Runs `task` when those before it have ended; at once when there are none. */
  async run<T>(task: () => Promise<T>): Promise<T> {
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = promise;
    try {
      if (before !== null) await before;
      return await task();
    } finally {
      if (this.#last === promise) this.#last = null;
      resolve();
    }
  }
}
