/**
 * Operations on futexes.
 *
 * @module
 */
import { FUTEX2_PRIVATE, FUTEX2_SIZE_U32, FUTEX_BITSET_MATCH_ANY, FUTEX_WAITV_MAX } from "../ffi/abi.ts";
import { addressOf } from "../ffi/pin.ts";
import { futex_waitv } from "../ffi/structs.ts";
import type { Piece } from "./arena.ts";
import { EpollOperations } from "./epoll_ops.ts";
import { takesErrors } from "./settle.ts";
import { checkBits, type OperationOptions } from "./options.ts";

/** 32-bit words that threads or processes share: over a `SharedArrayBuffer`, or over the `buffer` of a `Mapping`. */
export type FutexWords = Int32Array | Uint32Array;

/** Options of {@link FutexOperations.futexWait} and {@link FutexOperations.futexWake}. */
export interface FutexOptions extends OperationOptions {
  /**
   * Only threads of this process take part, which is quicker. Those who wait and who wake must say the same. Default:
   * false.
   */
  private?: boolean;
  /** 32 bits, of which those who wait and who wake must have one in common; default: all. */
  mask?: number;
}

/** One of the words that {@link FutexOperations.futexWaitv} waits for. */
export interface FutexWaiter {
  /** The memory that the word is in. */
  readonly words: FutexWords;
  /** Which of the words. */
  readonly index: number;
  /** What the word must hold for there to be something to wait for. */
  readonly value: number;
  /** As in {@link FutexOptions}. */
  readonly private?: boolean;
}

const EAGAIN = -11;
const EVERYONE = 0x7fff_ffff;

/** Operations on futexes, each one entry of the submission queue. */
export abstract class FutexOperations extends EpollOperations {
  /**
   * Waits until the word is woken: by `futexWake` of any ring, by `futex(2)` of any process that shares the memory, not by
   * `Atomics.notify`. Resolves with `"ok"`, or with `"not-equal"` when the word does not hold `value`, as `Atomics.wait`
   * does. As with that, look at the word again afterwards. liburing: `io_uring_prep_futex_wait`, Linux 6.7.
   *
   * @param words The memory that the word is in.
   * @param index Which of the words.
   * @param value What the word must hold for there to be something to wait for; −1 and 2^32 − 1 are the same.
   * @param options A mask, and whether other processes take part.
   * @example
   * ```ts
   * const words = new Int32Array(new SharedArrayBuffer(4)); // shared with a Worker
   * while (Atomics.load(words, 0) === 0) await uring.futexWait(words, 0, 0);
   * ```
   */
  futexWait(
    words: FutexWords,
    index: number,
    value: number,
    options?: FutexOptions,
  ): Promise<"ok" | "not-equal"> {
    this.check(options);
    const expected = checkBits("value", value);
    const mask = checkBits("mask", options?.mask ?? FUTEX_BITSET_MATCH_ANY);
    const flags = flagsOf(options);
    const address = addressOfWord(words, index);
    const op = this.begin("futex_wait");
    op.view = words;
    op.finish = finishWait;
    op.sqe!.prepFutexWait(address, expected, mask, flags, 0);
    return this.promise(op, options);
  }

  /**
   * Wakes up to `count` (default: all) of those who wait for the word, and resolves with how many it were.
   * liburing: `io_uring_prep_futex_wake`, Linux 6.7.
   */
  futexWake(
    words: FutexWords,
    index: number,
    count: number = EVERYONE,
    options?: FutexOptions,
  ): Promise<number> {
    this.check(options);
    if (!Number.isInteger(count) || count < 0 || count > EVERYONE) {
      throw new RangeError(`count must be an integer from 0 to 2^31 - 1, not ${count}`);
    }
    const mask = checkBits("mask", options?.mask ?? FUTEX_BITSET_MATCH_ANY);
    const flags = flagsOf(options);
    const address = addressOfWord(words, index);
    const op = this.begin("futex_wake");
    op.view = words;
    op.sqe!.prepFutexWake(address, count, mask, flags, 0);
    return this.promise(op, options);
  }

  /**
   * Waits until one of up to 128 words is woken, and resolves with its place in `waiters`, or with `"not-equal"` when one of
   * them does not hold its value. liburing: `io_uring_prep_futex_waitv`, Linux 6.7.
   */
  futexWaitv(waiters: readonly FutexWaiter[], options?: OperationOptions): Promise<number | "not-equal"> {
    this.check(options);
    if (waiters.length < 1 || waiters.length > FUTEX_WAITV_MAX) {
      throw new RangeError(`From 1 to ${FUTEX_WAITV_MAX} words, not ${waiters.length}`);
    }
    const entries = waiters.map((waiter) => ({
      words: waiter.words,
      address: addressOfWord(waiter.words, waiter.index),
      value: checkBits("value", waiter.value),
      flags: flagsOf(waiter),
    }));
    const vector = this.#vector(entries);
    const op = this.begin("futex_waitv");
    op.pins = [entries, vector.owner];
    op.finish = finishWaitv;
    op.sqe!.prepFutexWaitv(vector.address, entries.length, 0);
    return this.promise(op, options);
  }

  #vector(entries: readonly { address: number; value: number; flags: number }[]): Piece {
    const piece = this.driver.arena.take(entries.length * futex_waitv.size);
    piece.bytes.fill(0);
    const view = new DataView(piece.bytes.buffer, piece.bytes.byteOffset, piece.bytes.byteLength);
    entries.forEach(({ address, value, flags }, i) => {
      const at = i * futex_waitv.size;
      view.setUint32(at + futex_waitv.val, value, true);
      view.setBigUint64(at + futex_waitv.uaddr, BigInt(address), true);
      view.setUint32(at + futex_waitv.flags, flags, true);
    });
    return piece;
  }
}

const finishWait = takesErrors((res: number) => res === EAGAIN ? "not-equal" : "ok", EAGAIN);

const finishWaitv = takesErrors((res: number) => res === EAGAIN ? "not-equal" : res, EAGAIN);

function flagsOf(options: { private?: boolean } | undefined): number {
  return options?.private === true ? FUTEX2_SIZE_U32 | FUTEX2_PRIVATE : FUTEX2_SIZE_U32;
}

function addressOfWord(words: FutexWords, index: number): number {
  if (!(words instanceof Int32Array) && !(words instanceof Uint32Array)) {
    throw new TypeError("The words of a futex are an Int32Array or a Uint32Array");
  }
  if (!Number.isInteger(index) || index < 0 || index >= words.length) {
    throw new RangeError(`index must be an integer from 0 to ${words.length - 1}, not ${index}`);
  }
  return addressOf(words) + index * words.BYTES_PER_ELEMENT;
}
