/**
 * Bytes that have arrived and that nobody has asked for yet.
 *
 * @module
 */

/** The least memory that is taken at once. */
const BLOCK = 4096;

/** A queue of bytes in memory of its own. */
export class ByteQueue {
  /** How many bytes are in it. */
  length = 0;
  #blocks: { readonly bytes: Uint8Array; start: number; end: number }[] = [];

  /** Adds a copy of `bytes`. */
  push(bytes: Uint8Array): void {
    this.length += bytes.length;
    let last = this.#blocks.at(-1);
    const fits = last === undefined ? 0 : Math.min(bytes.length, last.bytes.length - last.end);
    if (fits > 0) {
      last!.bytes.set(bytes.subarray(0, fits), last!.end);
      last!.end += fits;
    }
    const rest = bytes.length - fits;
    if (rest === 0) return;
    last = { bytes: new Uint8Array(Math.max(rest, BLOCK)), start: 0, end: rest };
    last.bytes.set(fits === 0 ? bytes : bytes.subarray(fits));
    this.#blocks.push(last);
  }

  /** Copies what fits into `target` and returns how much that was. */
  take(target: Uint8Array): number {
    let taken = 0;
    while (taken < target.length && this.#blocks.length > 0) {
      const block = this.#blocks[0]!;
      const count = Math.min(target.length - taken, block.end - block.start);
      target.set(block.bytes.subarray(block.start, block.start + count), taken);
      taken += count;
      block.start += count;
      if (block.start === block.end) this.#blocks.shift();
    }
    this.length -= taken;
    return taken;
  }

  /** The first stretch of it, which is the caller's from now on; only when there is one. */
  shift(): Uint8Array {
    const { bytes, start, end } = this.#blocks.shift()!;
    this.length -= end - start;
    return bytes.subarray(start, end);
  }

  /** Drops everything. */
  clear(): void {
    this.#blocks = [];
    this.length = 0;
  }
}
