/**
 * Rings of provided buffers: the kernel picks a buffer when data arrives, JavaScript gives it back.
 *
 * @module
 */
import type { Mapping } from "../ffi/memory.ts";
import { io_uring_buf, io_uring_buf_ring } from "../ffi/structs.ts";
import type { RingQueues } from "./queues.ts";

const BUF_WORDS = io_uring_buf.size >> 2;

/**
 * A ring of provided buffers, `struct io_uring_buf_ring`: made by `ring.setupBufRing` or `ring.registerBufRing`, filled
 * with {@link bufRingAdd} and {@link bufRingAdvance}.
 */
export class BufRing {
  /** How many buffers it holds. */
  readonly entries: number;
  /** Its group. */
  readonly bgid: number;
  /** The ring's own memory. @internal */
  readonly memory: Mapping;
  readonly #words: Int32Array;
  readonly #halves: Uint16Array;
  #tail = 0;

  /** @internal */
  constructor(memory: Mapping, entries: number, bgid: number) {
    this.entries = entries;
    this.bgid = bgid;
    this.memory = memory;
    this.#words = new Int32Array(memory.buffer, 0, entries * BUF_WORDS);
    this.#halves = new Uint16Array(memory.buffer, 0, entries * BUF_WORDS * 2);
    this.init();
  }

  /** How far JavaScript has published, 16 bits. @internal */
  get tail(): number {
    return this.#tail;
  }

  /** Begins anew, with no buffer in it. @internal */
  init(): void {
    this.#tail = 0;
    Atomics.store(this.#halves, io_uring_buf_ring.tail >> 1, 0);
  }

  /** Writes a buffer `offset` entries past the tail. @internal */
  add(addr: number, len: number, bid: number, mask: number, offset: number): void {
    const words = this.#words;
    const at = ((this.#tail + offset) & mask) * BUF_WORDS;
    words[at] = addr;
    words[at + 1] = Math.floor(addr / 0x1_0000_0000);
    words[at + 2] = len;
    // The first entry's last two bytes are the ring's tail: only the id's half of this word may be written.
    this.#halves[at * 2 + (io_uring_buf.bid >> 1)] = bid;
  }

  /** Publishes `count` buffers. @internal */
  advance(count: number): void {
    this.#tail = (this.#tail + count) & 0xffff;
    Atomics.store(this.#halves, io_uring_buf_ring.tail >> 1, this.#tail);
  }
}

/** The mask for {@link bufRingAdd}: `io_uring_buf_ring_mask`. */
export function bufRingMask(entries: number): number {
  return entries - 1;
}

/** Makes a ring of buffers empty, before it is first used: `io_uring_buf_ring_init`. A new one is. */
export function bufRingInit(br: BufRing): void {
  br.init();
}

/**
 * Puts a buffer into the ring, to be published by {@link bufRingAdvance}: `io_uring_buf_ring_add`.
 *
 * @param br The ring.
 * @param addr The buffer's address; its memory must stay while the kernel has it.
 * @param len Its length in bytes.
 * @param bid Its id, which the completion's flags tell.
 * @param mask {@link bufRingMask}.
 * @param bufOffset How many were added since the last advance.
 */
export function bufRingAdd(
  br: BufRing,
  addr: number,
  len: number,
  bid: number,
  mask: number,
  bufOffset: number,
): void {
  br.add(addr, len, bid, mask, bufOffset);
}

/** Gives `count` added buffers to the kernel: `io_uring_buf_ring_advance`. */
export function bufRingAdvance(br: BufRing, count: number): void {
  br.advance(count);
}

/**
 * {@link bufRingAdvance} and `cqAdvance`: `io_uring_buf_ring_cq_advance`, or with two counts
 * `__io_uring_buf_ring_cq_advance`.
 *
 * @param ring The ring.
 * @param br Its ring of buffers.
 * @param cqCount How many completions are done.
 * @param bufCount How many buffers were added. Default: as many.
 */
export function bufRingCqAdvance(
  ring: RingQueues,
  br: BufRing,
  cqCount: number,
  bufCount: number = cqCount,
): void {
  br.advance(bufCount);
  ring.cqAdvance(cqCount);
}
