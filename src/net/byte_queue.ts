/**
 * Bytes that have arrived and that nobody has asked for yet.
 *
 * @module
 */

/** The least memory that is taken at once. */
const BLOCK = 4096;

/** Where bytes came from that are not copied until somebody takes them. */
export interface Lender {
  /** They are not needed any more. */
  recycle(id: number): void;
}

interface Block {
  readonly bytes: Uint8Array;
  start: number;
  end: number;
  /** Whom the memory belongs to; null: to the queue. */
  readonly lender: Lender | null;
  readonly id: number;
}

/** A queue of bytes, in memory of its own or of a lender's. */
export class ByteQueue {
  /** How many bytes are in it. */
  length = 0;
  #blocks: Block[] = [];

  /** Adds a copy of `bytes`. */
  push(bytes: Uint8Array): void {
    this.length += bytes.length;
    const last = this.#blocks.at(-1);
    const fits = last === undefined ? 0 : Math.min(bytes.length, last.bytes.length - last.end);
    if (fits > 0) {
      last!.bytes.set(bytes.subarray(0, fits), last!.end);
      last!.end += fits;
    }
    const rest = bytes.length - fits;
    if (rest === 0) return;
    this.#blocks.push(copyOf(fits === 0 ? bytes : bytes.subarray(fits)));
  }

  /** Adds bytes that stay as they are until the lender is told that they are not needed any more. */
  lend(bytes: Uint8Array, lender: Lender, id: number): void {
    this.length += bytes.length;
    this.#blocks.push({ bytes, start: 0, end: bytes.length, lender, id });
  }

  /** Copies what was lent, and gives it back. */
  keep(): void {
    this.#blocks = this.#blocks.map((block) => {
      const { bytes, start, end, lender, id } = block;
      if (lender === null) return block;
      const copy = copyOf(bytes.subarray(start, end));
      lender.recycle(id);
      return copy;
    });
  }

  /** Is done with the first block. */
  #drop(): void {
    const { lender, id } = this.#blocks.shift()!;
    if (lender !== null) lender.recycle(id);
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
      if (block.start === block.end) this.#drop();
    }
    this.length -= taken;
    return taken;
  }

  /** The first stretch of it, which is the caller's from now on; only when there is one. */
  shift(): Uint8Array {
    const { bytes, start, end, lender } = this.#blocks[0]!;
    this.length -= end - start;
    const chunk = lender === null ? bytes.subarray(start, end) : bytes.slice(start, end);
    this.#drop();
    return chunk;
  }

  /** Drops everything. */
  clear(): void {
    while (this.#blocks.length > 0) this.#drop();
    this.length = 0;
  }
}

/** A block with a copy of `bytes`, and perhaps some room behind. */
function copyOf(bytes: Uint8Array): Block {
  const { length } = bytes;
  if (length >= BLOCK) return { bytes: bytes.slice(), start: 0, end: length, lender: null, id: 0 };
  const block = { bytes: new Uint8Array(BLOCK), start: 0, end: length, lender: null, id: 0 };
  block.bytes.set(bytes);
  return block;
}
