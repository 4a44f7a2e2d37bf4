/**
 * Buffers that the kernel picks from, for tests of rings.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  type BufRing,
  bufRingAdd,
  bufRingAdvance,
  bufRingMask,
  IORING_CQE_BUFFER_SHIFT,
  IORING_CQE_F_BUFFER,
  IOSQE_BUFFER_SELECT,
  Mapping,
  type Ring,
  type Sqe,
} from "../../src/ring/mod.ts";
import type { Completion } from "./rings.ts";

/** How a {@link BufferGroup} is made. */
export interface BufferGroupOptions {
  /** `IOU_PBUF_RING_*`. */
  readonly flags?: number;
  /** The id of the first buffer; default 0. */
  readonly firstBid?: number;
  /** Which place of the memory a buffer has; default: its id's. */
  readonly place?: (index: number) => number;
}

/** A group of equal buffers in a ring of them; none is given to the kernel yet. */
export class BufferGroup implements Disposable {
  readonly bufRing: BufRing;
  readonly memory: Mapping;
  readonly bytes: Uint8Array;
  readonly bgid: number;
  readonly entries: number;
  readonly size: number;
  readonly #firstBid: number;
  readonly #place: (index: number) => number;
  // How much of each buffer was used, where they are used up bit by bit.
  readonly #used: number[];

  constructor(ring: Ring, entries: number, bgid: number, size: number, options: BufferGroupOptions = {}) {
    this.entries = entries;
    this.bgid = bgid;
    this.size = size;
    this.#firstBid = options.firstBid ?? 0;
    this.#place = options.place ?? ((index) => index);
    this.#used = Array(entries).fill(0);
    this.memory = Mapping.anonymous(entries * size);
    this.bytes = new Uint8Array(this.memory.buffer);
    this.bufRing = ring.setupBufRing(entries, bgid, options.flags ?? 0);
  }

  /** Gives these to the kernel together; default: all. Counted from 0, whatever their ids. */
  give(...indices: number[]): void {
    const some = indices.length > 0 ? indices : Array.from({ length: this.entries }, (_, i) => i);
    const mask = bufRingMask(this.entries);
    some.forEach((index, i) => {
      const address = this.memory.address + this.#place(index) * this.size;
      bufRingAdd(this.bufRing, address, this.size, this.#firstBid + index, mask, i);
      this.#used[index] = 0;
    });
    bufRingAdvance(this.bufRing, some.length);
  }

  /** Has an entry take one of them. */
  select(sqe: Sqe): void {
    sqe.flags |= IOSQE_BUFFER_SELECT;
    sqe.bufGroup = this.bgid;
  }

  /** Which buffer a completion names, counted from 0. */
  indexOf({ flags }: Completion): number {
    assert.equal(flags & IORING_CQE_F_BUFFER, IORING_CQE_F_BUFFER, "no buffer was picked");
    const index = (flags >>> IORING_CQE_BUFFER_SHIFT) - this.#firstBid;
    assert.ok(index >= 0 && index < this.entries, `a buffer ${index} was picked`);
    return index;
  }

  /** What a completion has put into its buffer, behind what was in it. */
  content(completion: Completion): Uint8Array {
    const index = this.indexOf(completion);
    const at = this.#place(index) * this.size + this.#used[index]!;
    this.#used[index]! += completion.res;
    return this.bytes.subarray(at, at + completion.res);
  }

  /** The same as text. */
  text(completion: Completion): string {
    return new TextDecoder().decode(this.content(completion));
  }

  /** Unmaps the buffers; their ring goes with its ring. */
  [Symbol.dispose](): void {
    this.memory.unmap();
  }
}
