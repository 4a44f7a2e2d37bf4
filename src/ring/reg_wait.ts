/**
 * Registered waits: how long to wait, in memory that the kernel has mapped for good.
 *
 * @module
 */
import { IORING_REG_WAIT_TS } from "../ffi/abi.ts";
import type { Mapping } from "../ffi/memory.ts";
import { __kernel_timespec, io_uring_reg_wait } from "../ffi/structs.ts";
import type { Timespec } from "./queues.ts";
import { high32, low32 } from "./sqe_base.ts";

const WORDS = io_uring_reg_wait.size >> 2;
const SEC = (io_uring_reg_wait.ts + __kernel_timespec.tv_sec) >> 2;
const NSEC = (io_uring_reg_wait.ts + __kernel_timespec.tv_nsec) >> 2;
const MIN_WAIT_USEC = io_uring_reg_wait.min_wait_usec >> 2;
const FLAGS = io_uring_reg_wait.flags >> 2;
const SIGMASK = io_uring_reg_wait.sigmask >> 2;
const SIGMASK_SZ = io_uring_reg_wait.sigmask_sz >> 2;

/** One wait, `struct io_uring_reg_wait`: a view of the ring's memory region, valid as long as that. */
export class RegWait {
  readonly #words: Int32Array;
  readonly #at: number;

  /** @internal */
  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#at = at;
  }

  /** How long to wait, or null for ever. */
  get timeout(): Timespec | null {
    const words = this.#words;
    const at = this.#at;
    if ((words[at + FLAGS]! & IORING_REG_WAIT_TS) === 0) return null;
    return { sec: (words[at + SEC]! >>> 0) + words[at + SEC + 1]! * 0x1_0000_0000, nsec: words[at + NSEC]! };
  }
  /** Sets how long to wait; null for ever. */
  set timeout(timeout: Timespec | null) {
    const words = this.#words;
    const at = this.#at;
    if (timeout === null) {
      words[at + FLAGS]! &= ~IORING_REG_WAIT_TS;
      return;
    }
    words[at + SEC] = low32(timeout.sec);
    words[at + SEC + 1] = high32(timeout.sec);
    words[at + NSEC] = low32(timeout.nsec);
    words[at + NSEC + 1] = high32(timeout.nsec);
    words[at + FLAGS]! |= IORING_REG_WAIT_TS;
  }

  /** Microseconds to wait for all that is waited for; after these one completion is enough. 0: no such limit. */
  get minWaitUsec(): number {
    return this.#words[this.#at + MIN_WAIT_USEC]! >>> 0;
  }
  /** Sets {@link RegWait.minWaitUsec}. */
  set minWaitUsec(usec: number) {
    this.#words[this.#at + MIN_WAIT_USEC] = usec;
  }

  /** Sets the signals that are blocked during the wait, by the address of a `sigset_t` and its size; 0 for none. */
  setSigmask(address: number, size: number): void {
    this.#words[this.#at + SIGMASK] = low32(address);
    this.#words[this.#at + SIGMASK + 1] = high32(address);
    this.#words[this.#at + SIGMASK_SZ] = size;
  }
}

/** The waits in a ring's memory region, made by `ring.registerWaitReg`. */
export class RegWaits {
  /** How many there are. */
  readonly length: number;
  /** The region. It belongs to the ring and goes with it. */
  readonly memory: Mapping;
  readonly #waits: readonly RegWait[];

  /** @internal */
  constructor(memory: Mapping) {
    this.memory = memory;
    const words = new Int32Array(memory.buffer);
    // The kernel takes the very last one of a region for the first: it stays unused.
    this.length = Math.floor(words.length / WORDS) - 1;
    this.#waits = Array.from({ length: this.length }, (_, i) => new RegWait(words, i * WORDS));
  }

  /**
   * One of them, for `ring.submitAndWaitReg(…, index)`.
   *
   * @throws RangeError for one that is not there.
   */
  at(index: number): RegWait {
    const wait = this.#waits[index];
    if (wait === undefined) throw new RangeError(`There are ${this.length} waits, and none at ${index}`);
    return wait;
  }
}
