/**
 * Rings of provided buffers: the kernel picks a buffer when data arrives, JavaScript gives it back.
 *
 * @module
 */
import { IORING_REGISTER_PBUF_RING, IOU_PBUF_RING_INC } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { kernelHas } from "../ffi/kernel.ts";
import { Mapping } from "../ffi/memory.ts";
import { io_uring_buf, io_uring_buf_reg, io_uring_buf_ring } from "../ffi/structs.ts";
import type { RingRegister } from "./register.ts";

const BUF_WORDS = io_uring_buf.size >> 2;

/**
 * A ring of provided buffers, `struct io_uring_buf_ring`: made by `ring.setupBufRing`, filled with
 * {@link bufRingAdd} and {@link bufRingAdvance}.
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
  constructor(ring: RingRegister, entries: number, bgid: number, flags: number) {
    if (!Number.isInteger(entries) || entries < 1 || entries > 32768 || (entries & (entries - 1)) !== 0) {
      throw new RangeError(`entries must be a power of two from 1 to 32768, not ${entries}`);
    }
    if (!Number.isInteger(bgid) || bgid < 0 || bgid > 0xffff) {
      throw new RangeError(`bgid must be 16 bits, not ${bgid}`);
    }
    if ((flags & ~IOU_PBUF_RING_INC) !== 0) throw new RangeError(`Unknown buffer ring flags: ${flags}`);
    this.entries = entries;
    this.bgid = bgid;
    this.memory = Mapping.anonymous(Math.max(4096, entries * io_uring_buf.size));
    this.#words = new Int32Array(this.memory.buffer);
    this.#halves = new Uint16Array(this.memory.buffer);
    const bytes = new Uint8Array(new ArrayBuffer(io_uring_buf_reg.size));
    const view = new DataView(bytes.buffer);
    view.setBigUint64(io_uring_buf_reg.ring_addr, BigInt(this.memory.address), true);
    view.setUint32(io_uring_buf_reg.ring_entries, entries, true);
    view.setUint16(io_uring_buf_reg.bgid, bgid, true);
    view.setUint16(io_uring_buf_reg.flags, flags, true);
    try {
      ring.register(IORING_REGISTER_PBUF_RING, bytes, 1);
    } catch (error) {
      this.memory.unmap();
      if ((flags & IOU_PBUF_RING_INC) === 0 || kernelHas("6.12")) throw error;
      throw new UringError((error as UringError).errno, "io_uring_register", {
        cause: error,
        hint: "IOU_PBUF_RING_INC needs Linux 6.12",
      });
    }
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

/** {@link bufRingAdvance} and `cqAdvance` by the same count: `io_uring_buf_ring_cq_advance`. */
export function bufRingCqAdvance(ring: RingRegister, br: BufRing, count: number): void {
  br.advance(count);
  ring.cqAdvance(count);
}
