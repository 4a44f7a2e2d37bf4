/**
 * Buffers that the kernel picks from when data arrives.
 *
 * @module
 */
import { Mapping } from "../ffi/memory.ts";
import { type BufRing, bufRingAdd, bufRingAdvance, bufRingMask } from "../ring/buf_ring.ts";
import type { Ring } from "../ring/ring.ts";

/** The size of a {@link BufferPool}. */
export interface BufferPoolOptions {
  /** How many buffers: a power of two up to 32768; default 64. */
  count?: number;
  /** The size of each in bytes; default 16 KiB. */
  size?: number;
}

/**
 * A group of equal buffers for multishot receives, in memory of the library's own: a provided-buffer ring (Linux 5.19).
 * It belongs to a `Uring` and lives as long.
 */
export class BufferPool {
  /** How many buffers there are. */
  readonly count: number;
  /** The size of each in bytes. */
  readonly size: number;
  /** Its group. @internal */
  readonly bgid: number;
  readonly #memory: Mapping;
  readonly #bufRing: BufRing;
  readonly #bytes: Uint8Array;
  #free: number;
  #released = false;
  #waiting: (() => void)[] = [];

  /** @internal */
  constructor(ring: Ring, bgid: number, options: BufferPoolOptions) {
    this.count = options.count ?? 64;
    this.size = options.size ?? 16 * 1024;
    if (!Number.isInteger(this.size) || this.size < 1 || this.size * this.count > 2 ** 32) {
      throw new RangeError(`size must be an integer from 1 on, with count at most 4 GiB, not ${this.size}`);
    }
    this.bgid = bgid;
    this.#bufRing = ring.setupBufRing(this.count, bgid);
    this.#memory = Mapping.anonymous(this.count * this.size);
    this.#bytes = new Uint8Array(this.#memory.buffer);
    this.#free = this.count;
    const mask = bufRingMask(this.count);
    for (let id = 0; id < this.count; id++) {
      bufRingAdd(this.#bufRing, this.#memory.address + id * this.size, this.size, id, mask, id);
    }
    bufRingAdvance(this.#bufRing, this.count);
  }

  /** How many buffers the kernel has to pick from. */
  get free(): number {
    return this.#free;
  }

  /** The first `length` bytes of a buffer that the kernel has filled. @internal */
  take(id: number, length: number): Uint8Array {
    this.#free--;
    return this.#bytes.subarray(id * this.size, id * this.size + length);
  }

  /** Gives a buffer back to the kernel. @internal */
  recycle(id: number): void {
    if (this.#released) return;
    bufRingAdd(
      this.#bufRing,
      this.#memory.address + id * this.size,
      this.size,
      id,
      bufRingMask(this.count),
      0,
    );
    bufRingAdvance(this.#bufRing, 1);
    this.#free++;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Resolves as soon as a buffer is there. @internal */
  available(): Promise<void> {
    if (this.#free > 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Gives the memory back; every view of it becomes empty. Only when the ring is closed. @internal */
  release(): void {
    this.#released = true;
    this.#memory.unmap();
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
