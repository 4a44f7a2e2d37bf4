/**
 * Data that waits to be sent, in buffers that the kernel takes it from.
 *
 * @module
 */
import { Mapping } from "../ffi/memory.ts";
import { type BufRing, bufRingAdd, bufRingAdvance, bufRingMask } from "../ring/buf_ring.ts";
import type { CoreRing } from "../ring/core_ring.ts";
import { checkView } from "./options.ts";

/** The size of a {@link SendQueue}. */
export interface SendQueueOptions {
  /** How many buffers: a power of two up to 32768; default 64. */
  count?: number;
  /** The size of each in bytes; default 16 KiB. */
  size?: number;
}

/**
 * A queue of bytes for one connection, in memory of the library's own, that `sendBundle` sends without being told more: a
 * ring of provided buffers. What is pushed while it is being sent goes out with it. What could not be sent stays in the
 * queue. It belongs to a `Uring` and lives as long.
 */
export class SendQueue {
  /** How many buffers there are. */
  readonly count: number;
  /** The size of each in bytes. */
  readonly size: number;
  /** Its group. @internal */
  readonly bgid: number;
  /** The ring that it belongs to. @internal */
  readonly ring: CoreRing;
  /** Whether it is being sent. @internal */
  sending = false;
  readonly #memory: Mapping;
  readonly #bufRing: BufRing;
  readonly #bytes: Uint8Array;
  // How many bytes are in each buffer; the first one that is in use, how much of it was sent, and how many are in use.
  readonly #lengths: Int32Array;
  #head = 0;
  #sent = 0;
  #used = 0;
  #queued = 0;

  /** @internal */
  constructor(ring: CoreRing, bgid: number, options: SendQueueOptions) {
    this.count = options.count ?? 64;
    this.size = options.size ?? 16 * 1024;
    if (!Number.isInteger(this.size) || this.size < 1 || this.size * this.count > 2 ** 32) {
      throw new RangeError(`size must be an integer from 1 on, with count at most 4 GiB, not ${this.size}`);
    }
    this.bgid = bgid;
    this.ring = ring;
    this.#bufRing = ring.setupBufRing(this.count, bgid);
    this.#memory = Mapping.anonymous(this.count * this.size);
    this.#bytes = new Uint8Array(this.#memory.buffer);
    this.#lengths = new Int32Array(this.count);
  }

  /** How many bytes wait to be sent. */
  get queued(): number {
    return this.#queued;
  }

  /** How many bytes there is room for. */
  get room(): number {
    return (this.count - this.#used) * this.size;
  }

  /** Copies `data` to the queue's end; false, and nothing is copied, when there is too little room. */
  push(data: ArrayBufferView): boolean {
    checkView(data);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (bytes.length > this.room || this.ring.closed) return false;
    const mask = bufRingMask(this.count);
    let added = 0;
    for (let at = 0; at < bytes.length; at += this.size, added++) {
      const piece = bytes.subarray(at, at + this.size);
      const id = (this.#head + this.#used) & mask;
      this.#bytes.set(piece, id * this.size);
      this.#lengths[id] = piece.length;
      bufRingAdd(this.#bufRing, this.#memory.address + id * this.size, piece.length, id, mask, added);
      this.#used++;
    }
    bufRingAdvance(this.#bufRing, added);
    this.#queued += bytes.length;
    return true;
  }

  /** So many bytes were sent. @internal */
  taken(length: number): void {
    this.#queued -= length;
    for (let left = length; left > 0;) {
      const piece = Math.min(left, this.#lengths[this.#head]! - this.#sent);
      left -= piece;
      this.#sent += piece;
      if (this.#sent < this.#lengths[this.#head]!) return;
      this.#head = (this.#head + 1) & bufRingMask(this.count);
      this.#sent = 0;
      this.#used--;
    }
  }

  /**
   * Sending has ended. What a send takes out of the kernel's ring it does not put back, whatever becomes of it: the ring is
   * filled anew with what was not sent. @internal
   */
  settle(): void {
    this.sending = false;
    if (this.#queued === 0 || this.ring.closed) return;
    const mask = bufRingMask(this.count);
    // Nobody looks at what still stands in there.
    bufRingAdvance(this.#bufRing, -this.ring.bufRingAvailable(this.#bufRing));
    for (let i = 0; i < this.#used; i++) {
      const id = (this.#head + i) & mask;
      const sent = i === 0 ? this.#sent : 0;
      const address = this.#memory.address + id * this.size + sent;
      bufRingAdd(this.#bufRing, address, this.#lengths[id]! - sent, id, mask, i);
    }
    bufRingAdvance(this.#bufRing, this.#used);
  }

  /** The memory, for whoever works on it. @internal */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** Gives the memory back. Only when the ring is closed. @internal */
  release(): void {
    this.#memory.unmap();
  }
}
