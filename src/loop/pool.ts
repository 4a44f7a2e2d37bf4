/**
 * Buffers that the kernel picks from when data arrives.
 *
 * @module
 */
import { IORING_CQE_F_BUF_MORE, IOU_PBUF_RING_INC } from "../ffi/abi.ts";
import { Mapping } from "../ffi/memory.ts";
import { type BufRing, bufRingAdd, bufRingAdvance, bufRingMask } from "../ring/buf_ring.ts";
import type { CoreRing } from "../ring/core_ring.ts";
import type { Driver } from "./driver.ts";

/** The size of a {@link BufferPool}. */
export interface BufferPoolOptions {
  /** How many buffers: a power of two up to 32768; default 64. */
  count?: number;
  /** The size of each in bytes; default 16 KiB. */
  size?: number;
  /**
   * Use each buffer up bit by bit: what arrives goes behind what is in it already, and the next buffer is begun when it
   * is full. Few large buffers then serve many small messages. `IOU_PBUF_RING_INC`, Linux 6.12.
   */
  incremental?: boolean;
}

/** What the kernel has put into one buffer. @internal */
export interface Piece {
  /** The buffer. */
  readonly id: number;
  /** The memory. */
  readonly view: Uint8Array;
}

/** How much memory shares one place for a view that is kept, as a power of two. */
const CELL_SHIFT = 6;

/** Views of a pool's memory that are used again. */
class Views {
  readonly views: (Uint8Array | undefined)[];
  readonly offsets: Int32Array;
  readonly lengths: Int32Array;

  constructor(size: number) {
    const cells = (size >>> CELL_SHIFT) + 1;
    this.views = new Array<Uint8Array | undefined>(cells).fill(undefined);
    this.offsets = new Int32Array(cells);
    this.lengths = new Int32Array(cells);
  }
}

/**
 * A group of equal buffers for multishot receives and reads, in memory of the library's own: a provided-buffer ring
 * (Linux 5.19). It belongs to a `Uring`, and lives as long unless it is disposed of before: then it is refused at once, and
 * its memory goes, with every view of it becoming empty, when all that use it have ended and given back what they had.
 */
export class BufferPool implements Disposable, AsyncDisposable {
  /** How many buffers there are. */
  readonly count: number;
  /** The size of each in bytes. */
  readonly size: number;
  /** Whether each buffer is used up bit by bit. */
  readonly incremental: boolean;
  /** Its group. @internal */
  readonly bgid: number;
  /** The engine of the ring that it belongs to. @internal */
  readonly driver: Driver;
  readonly #memory: Mapping;
  readonly #ring: CoreRing;
  readonly #bufRing: BufRing;
  readonly #bytes: Uint8Array;
  // How much of each buffer was filled, and how many pieces of it are not given back.
  readonly #filled: Int32Array;
  readonly #lent: Int32Array;
  // Whether the kernel still puts something into a buffer.
  readonly #kernels: Uint8Array;
  // Which buffer stands where in the kernel's ring, and where each was put last: what a bundle fills stands in a row.
  readonly #order: Uint16Array;
  readonly #place: Uint16Array;
  #tail = 0;
  #free: number;
  #waiting: (() => void)[] = [];
  readonly #gone: () => void;
  // How many operations use it, and how many pieces are not given back.
  #users = 0;
  #pieces = 0;
  #disposed: PromiseWithResolvers<void> | null = null;

  #views: Views | null = null;
  /** Where in the memory the piece begins that was borrowed last. @internal */
  borrowedAt = 0;

  /** @internal */
  constructor(driver: Driver, bgid: number, options: BufferPoolOptions, gone: () => void) {
    this.count = options.count ?? 64;
    this.size = options.size ?? 16 * 1024;
    if (!Number.isInteger(this.size) || this.size < 1 || this.size * this.count > 2 ** 32) {
      throw new RangeError(`size must be an integer from 1 on, with count at most 4 GiB, not ${this.size}`);
    }
    this.bgid = bgid;
    this.driver = driver;
    this.#gone = gone;
    const { ring } = driver;
    this.#ring = ring;
    this.incremental = options.incremental === true;
    this.#bufRing = ring.setupBufRing(this.count, bgid, this.incremental ? IOU_PBUF_RING_INC : 0);
    try {
      this.#memory = Mapping.anonymous(this.count * this.size);
    } catch (error) {
      ring.freeBufRing(this.#bufRing);
      throw error;
    }
    this.#bytes = new Uint8Array(this.#memory.buffer);
    this.#filled = new Int32Array(this.count);
    this.#lent = new Int32Array(this.count);
    this.#kernels = new Uint8Array(this.count).fill(1);
    this.#order = new Uint16Array(this.count);
    this.#place = new Uint16Array(this.count);
    this.#free = this.count;
    for (let id = 0; id < this.count; id++) this.#add(id, id);
    bufRingAdvance(this.#bufRing, this.count);
  }

  /** Puts a buffer into the kernel's ring, `offset` behind what was published. */
  #add(id: number, offset: number): void {
    const mask = bufRingMask(this.count);
    bufRingAdd(this.#bufRing, this.#memory.address + id * this.size, this.size, id, mask, offset);
    this.#order[this.#tail] = id;
    this.#place[id] = this.#tail;
    this.#tail = (this.#tail + 1) & mask;
  }

  /** How many buffers the kernel has to pick from. */
  get free(): number {
    return this.#free;
  }

  /**
   * The `length` bytes that the kernel has put into a buffer; each is given back with {@link BufferPool.recycle}.
   *
   * @param flags The completion's, which tell whether the buffer is used up. @internal
   */
  take(id: number, length: number, flags: number): Uint8Array {
    const at = this.#lend(id, length, flags);
    return this.#bytes.subarray(at, at + length);
  }

  /** Notes what the kernel has put into a buffer; gives where it is. */
  #lend(id: number, length: number, flags: number): number {
    const at = id * this.size + this.#filled[id]!;
    this.#filled[id]! += length;
    this.#lent[id]!++;
    this.#pieces++;
    if ((flags & IORING_CQE_F_BUF_MORE) === 0) {
      this.#kernels[id] = 0;
      this.#free--;
    }
    return at;
  }

  /** Where the memory begins. @internal */
  get address(): number {
    return this.#memory.address;
  }

  /**
   * {@link BufferPool.take} for whoever gives it back before anything else is taken: the same view comes again and again,
   * where messages of one length arrive. @internal
   */
  borrow(id: number, length: number, flags: number): Uint8Array {
    const at = this.#lend(id, length, flags);
    this.borrowedAt = at;
    const cell = at >>> CELL_SHIFT;
    const views = this.#views ??= new Views(this.count * this.size);
    if (views.lengths[cell] === length && views.offsets[cell] === at) {
      const view = views.views[cell];
      if (view !== undefined) return view;
      return views.views[cell] = this.#bytes.subarray(at, at + length);
    }
    // Only what comes a second time is worth being kept.
    views.offsets[cell] = at;
    views.lengths[cell] = length;
    views.views[cell] = undefined;
    return this.#bytes.subarray(at, at + length);
  }

  /** The bytes at an address. @internal */
  at(address: number, length: number): Uint8Array {
    const at = address - this.#memory.address;
    return this.#bytes.subarray(at, at + length);
  }

  /** Keeps a piece from going back to the kernel until it is recycled once more. @internal */
  retain(id: number): void {
    this.#lent[id]!++;
    this.#pieces++;
  }

  /**
   * The pieces of what the kernel has put into buffers that stand in a row, beginning with `id`: one, unless it was asked
   * to receive bundles. Each is given back with {@link BufferPool.recycle}. @internal
   */
  takeAll(id: number, length: number, flags: number): Piece[] {
    const pieces: Piece[] = [];
    for (let left = length;;) {
      const piece = Math.min(left, this.size - this.#filled[id]!);
      left -= piece;
      // Into all but the last, which the completion tells about, nothing more will go.
      pieces.push({ id, view: this.take(id, piece, left === 0 ? flags : 0) });
      if (left === 0) return pieces;
      id = this.#order[(this.#place[id]! + 1) & bufRingMask(this.count)]!;
    }
  }

  /** Takes back what {@link BufferPool.take} has given; the buffer goes to the kernel with its last piece. @internal */
  recycle(id: number): void {
    // The buffers' ring goes with the ring, a moment before their memory does.
    if (this.#ring.closed) return;
    this.#pieces--;
    if (--this.#lent[id]! > 0 || this.#kernels[id] === 1) {
      this.#freeUnused();
      return;
    }
    this.#filled[id] = 0;
    this.#kernels[id] = 1;
    this.#add(id, 0);
    bufRingAdvance(this.#bufRing, 1);
    this.#free++;
    for (const wake of this.#waiting.splice(0)) wake();
    this.#freeUnused();
  }

  /** Resolves as soon as a buffer is there. @internal */
  available(): Promise<void> {
    if (this.#free > 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Whether it was disposed of. */
  get disposed(): boolean {
    return this.#disposed !== null;
  }

  /** An operation begins to use it. @internal */
  enter(): void {
    if (this.#disposed !== null) throw new TypeError("The pool is disposed of");
    this.#users++;
  }

  /** An operation uses it no more. @internal */
  leave(): void {
    this.#users--;
    this.#freeUnused();
  }

  /** Refuses new operations at once, and gives the memory back when those that use it have ended. */
  [Symbol.dispose](): void {
    void this[Symbol.asyncDispose]();
  }

  /** The same, and resolves when the memory was given back. */
  [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed === null) {
      this.#disposed = Promise.withResolvers<void>();
      this.#freeUnused();
    }
    return this.#disposed.promise;
  }

  #freeUnused(): void {
    if (this.#disposed === null) return;
    if (this.driver.abandoned) {
      // What the kernel may have in its hands for ever stays.
      this.#disposed.resolve();
    } else if (this.#ring.closed) this.release();
    else if (this.#users === 0 && this.#pieces === 0) {
      this.#ring.freeBufRing(this.#bufRing);
      this.#gone();
      this.release();
    }
  }

  /** Gives the memory back; every view of it becomes empty. Only when the kernel does not know it any more. @internal */
  release(): void {
    this.#memory.unmap();
    for (const wake of this.#waiting.splice(0)) wake();
    this.#disposed?.resolve();
  }
}
