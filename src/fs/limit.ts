/**
 * How many files are worked on at once.
 *
 * @module
 */

/**
 * Lets so many through at once; the others wait for their turn. Whole files are read and written behind one: thousands
 * may be asked for in one turn, and then neither descriptors nor memory run out.
 */
export class Limit {
  #free: number;
  readonly #waiting: (() => void)[] = [];
  #first = 0;

  /** @param most How many at once. */
  constructor(most: number) {
    this.#free = most;
  }

  /** Takes a place; a promise when there is none yet. Each place is given back with {@link Limit.leave}. */
  enter(): Promise<void> | undefined {
    if (this.#free > 0) {
      this.#free--;
      return undefined;
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Gives a place back, to whoever has waited longest. */
  leave(): void {
    if (this.#first === this.#waiting.length) {
      this.#free++;
      return;
    }
    const next = this.#waiting[this.#first++]!;
    if (this.#first === this.#waiting.length) {
      this.#waiting.length = 0;
      this.#first = 0;
    }
    next();
  }
}

/** Files being read from a path: each has a buffer of 64 KiB. */
export const reading: Limit = new Limit(128);

/** Files being written to a path. Apart from those read, so that neither can wait for the other. */
export const writing: Limit = new Limit(128);
