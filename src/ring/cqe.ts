/**
 * A completion queue entry.
 *
 * @module
 */
import { IORING_CQE_F_32 } from "../ffi/abi.ts";
import { io_uring_cqe } from "../ffi/structs.ts";
import { join32 } from "./sqe_base.ts";

const RES = io_uring_cqe.res >> 2;
const FLAGS = io_uring_cqe.flags >> 2;
const BIG = io_uring_cqe.big_cqe >> 2;

// Where an entry can begin; masking changes nothing but spares V8 its overflow and sign handling.
const AT_MASK = 0x3f_fffc;

/**
 * A completion queue entry, `struct io_uring_cqe`: a view of a slot of the ring, valid until it is advanced past.
 * What it says must be read before, not kept.
 */
export class Cqe {
  #words: Int32Array;
  #at: number;

  /**
   * @param words The memory that the entry lies in.
   * @param at The entry's first word in it.
   */
  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#at = at;
  }

  /** Turns to another entry. @internal */
  moveTo(at: number): void {
    this.#at = at;
  }

  /** The submission's `user_data`, rounded beyond 2⁵³. */
  get userData(): number {
    const words = this.#words;
    const at = this.#at & AT_MASK;
    return join32(words[at]!, words[at + 1]!);
  }

  /** All 64 bits of `user_data`; slower by far than {@link Cqe.userData}. */
  get userData64(): bigint {
    return BigInt(this.userDataLow >>> 0) | (BigInt(this.userDataHigh >>> 0) << 32n);
  }

  /** The low 32 bits of `user_data`, signed. */
  get userDataLow(): number {
    return this.#words[this.#at & AT_MASK]!;
  }

  /** The high 32 bits of `user_data`, signed. */
  get userDataHigh(): number {
    return this.#words[(this.#at & AT_MASK) + 1]!;
  }

  /** The result: what the operation returns, or `-errno`. */
  get res(): number {
    return this.#words[(this.#at & AT_MASK) + RES]!;
  }

  /** `IORING_CQE_F_*`; with `IORING_CQE_F_BUFFER` the upper 16 bits are the buffer's id. */
  get flags(): number {
    return this.#words[(this.#at & AT_MASK) + FLAGS]! >>> 0;
  }

  /** The two extra 64-bit values of a 32-byte completion (`IORING_SETUP_CQE32`, or `IORING_CQE_F_32` on a mixed ring). */
  get bigCqe(): readonly [bigint, bigint] {
    const words = this.#words;
    const at = this.#at + BIG;
    const join = (i: number): bigint => BigInt(words[i]! >>> 0) | (BigInt(words[i + 1]! >>> 0) << 32n);
    return [join(at), join(at + 2)];
  }
}

/** How many slots of the queue a completion takes: 2 for a big one of a mixed ring, otherwise 1. `io_uring_cqe_nr`. */
export function cqeNr(cqe: Cqe): number {
  return (cqe.flags & IORING_CQE_F_32) !== 0 ? 2 : 1;
}
