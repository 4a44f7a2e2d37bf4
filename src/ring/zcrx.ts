/**
 * A registered receive queue: where received data lies, and the ring that gives its buffers back.
 *
 * @module
 */
import { IORING_ZCRX_AREA_SHIFT } from "../ffi/abi.ts";
import type { Mapping } from "../ffi/memory.ts";
import { io_uring_zcrx_rqe } from "../ffi/structs.ts";
import type { Cqe } from "./cqe.ts";

/** What the kernel said about a queue. @internal */
export interface ZcrxParts {
  readonly id: number;
  readonly rqEntries: number;
  readonly areaToken: bigint;
  readonly rxBufLen: number;
  readonly refill: Mapping;
  readonly head: number;
  readonly tail: number;
  readonly rqes: number;
}

const RQE_WORDS = io_uring_zcrx_rqe.size >> 2;
const OFFSET_MASK = (1n << BigInt(IORING_ZCRX_AREA_SHIFT)) - 1n;

/** Where in the area a completion of `IORING_OP_RECV_ZC` has put its `cqe.res` bytes: `struct io_uring_zcrx_cqe`. */
export function zcrxOffset(cqe: Cqe): number {
  return Number(cqe.bigCqe[0] & OFFSET_MASK);
}

/** A registered receive queue, with its refill ring (`struct io_uring_zcrx_rq`); made by `ring.registerIfq`. */
export class ZcrxIfq {
  /** Its number, for `IORING_OP_RECV_ZC` (`sqe.fileIndex`, which has the bytes of `zcrx_ifq_idx`) and `zcrxFlush`. */
  readonly id: number;
  /** How many buffers the refill ring holds. */
  readonly rqEntries: number;
  /** What the kernel calls the area by, in the upper bits of an offset. */
  readonly areaToken: bigint;
  /** The size of the device's buffers. */
  readonly rxBufLen: number;
  readonly #words: Int32Array;
  readonly #headAt: number;
  readonly #tailAt: number;
  readonly #rqesAt: number;
  readonly #token: readonly [low: number, high: number];
  #tail = 0;

  /** @internal */
  constructor(parts: ZcrxParts) {
    this.id = parts.id;
    this.rqEntries = parts.rqEntries;
    this.areaToken = parts.areaToken;
    this.rxBufLen = parts.rxBufLen;
    this.#words = new Int32Array(parts.refill.buffer);
    this.#headAt = parts.head >> 2;
    this.#tailAt = parts.tail >> 2;
    this.#rqesAt = parts.rqes >> 2;
    this.#token = [Number(parts.areaToken & 0xffff_ffffn), Number(parts.areaToken >> 32n)];
  }

  /** How many buffers were given back and not yet taken by the kernel; at most {@link ZcrxIfq.rqEntries}. */
  get queued(): number {
    return (this.#tail - Atomics.load(this.#words, this.#headAt)) | 0;
  }

  /**
   * Gives the buffer back that a completion has brought, once its data is no longer needed. Returns false, and does
   * nothing, when the refill ring is full: then `ring.zcrxFlush` makes room.
   *
   * @param offset What {@link zcrxOffset} said.
   * @param length The completion's `res`.
   */
  refill(offset: number, length: number): boolean {
    if (this.queued >= this.rqEntries) return false;
    const words = this.#words;
    const at = this.#rqesAt + (this.#tail & (this.rqEntries - 1)) * RQE_WORDS;
    const [low, high] = this.#token;
    words[at] = offset | low;
    words[at + 1] = Math.floor(offset / 0x1_0000_0000) | high;
    words[at + 2] = length;
    words[at + 3] = 0;
    this.#tail = (this.#tail + 1) | 0;
    Atomics.store(words, this.#tailAt, this.#tail);
    return true;
  }
}
