/**
 * Options that operations share, and checking what callers pass.
 *
 * @module
 */
import type { U64 } from "../ring/sqe_base.ts";
import type { Personality } from "./personality.ts";

/** What every operation accepts. */
export interface OperationOptions {
  /**
   * Cancels the operation when it aborts. The promise rejects with the signal's reason, once the kernel has let go: until
   * then it may still write into the buffer. What had been transferred by then is not told.
   */
  signal?: AbortSignal;
  /**
   * Milliseconds after which the operation is cancelled; the promise then rejects with `ETIMEDOUT`. For a step of a chain,
   * and behind a drain, they count from when its turn comes.
   */
  timeout?: number;
  /** Start only when all operations submitted before have ended, and hold later ones back until this one has. */
  drain?: boolean;
  /** Have a worker thread of the kernel's do it, without trying inline first. */
  async?: boolean;
  /** Act with the credentials that `uring.registerPersonality` has taken down, instead of the thread's. */
  personality?: Personality;
}

/** Where in a file, and how much. */
export interface TransferOptions extends OperationOptions {
  /** The offset in the file in bytes; default: the file's own position, which moves on (−1 says the same). */
  offset?: U64;
  /** How many bytes; default: the whole buffer. At most 2 GiB less a page are transferred at once. */
  length?: number;
}

/** The most that the kernel transfers in one operation. */
export const MAX_TRANSFER = 0x7fff_f000;

const MOST_OFFSET = 2n ** 63n - 1n;

/** Checks an offset; undefined becomes −1, the file's own position. */
export function checkOffset(offset: U64 | undefined): U64 {
  if (offset === undefined) return -1;
  const ok = typeof offset === "bigint"
    ? offset >= -1n && offset <= MOST_OFFSET
    : typeof offset === "number" && offset === Math.floor(offset) && offset >= -1 &&
      offset <= Number.MAX_SAFE_INTEGER;
  if (!ok) throw new RangeError(`offset must be an integer from 0 to 2^63 - 1, not ${offset}`);
  return offset;
}

/** Checks a length in bytes that has to fit a file. */
export function checkSize(name: string, size: U64): U64 {
  const ok = typeof size === "bigint"
    ? size >= 0n && size <= MOST_OFFSET
    : Number.isSafeInteger(size) && size >= 0;
  if (!ok) throw new RangeError(`${name} must be an integer from 0 to 2^63 - 1, not ${size}`);
  return size;
}

/** Checks how much of a view is meant. */
export function checkLength(view: ArrayBufferView, length: number | undefined): number {
  const most = view.byteLength;
  if (length === undefined) return most < MAX_TRANSFER ? most : MAX_TRANSFER;
  if (!Number.isInteger(length) || length < 0 || length > most) {
    throw new RangeError(`length must be an integer from 0 to the buffer's ${most} bytes, not ${length}`);
  }
  return length < MAX_TRANSFER ? length : MAX_TRANSFER;
}

/** Checks a 32-bit unsigned number: flags, masks, counts. */
export function checkU32(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
    throw new RangeError(`${name} must be an integer from 0 to 2^32 - 1, not ${value}`);
  }
  return value;
}

/** Checks 32 bits that may have been combined by JavaScript's operators, which make the highest one a sign. */
export function checkBits(name: string, value: number): number {
  if (!Number.isInteger(value) || value < -0x8000_0000 || value > 0xffff_ffff) {
    throw new RangeError(`${name} must be an integer of 32 bits, not ${value}`);
  }
  return value >>> 0;
}

/** Checks what all operations accept. */
export function checkOptions(options: { signal?: AbortSignal; timeout?: number }): void {
  if (typeof options !== "object" || options === null) throw new TypeError("options must be an object");
  const { signal, timeout } = options;
  if (timeout !== undefined) checkTimeout(timeout);
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new TypeError("signal must be an AbortSignal");
  }
}

/** Checks a time span in milliseconds. */
export function checkTimeout(timeout: number): number {
  if (typeof timeout !== "number" || !(timeout >= 0) || timeout > Number.MAX_SAFE_INTEGER) {
    throw new RangeError(`timeout must be milliseconds from 0 to 2^53 - 1, not ${timeout}`);
  }
  return timeout;
}

/** Checks that something is a view of memory. */
export function checkView(view: unknown): asserts view is ArrayBufferView {
  if (!ArrayBuffer.isView(view)) throw new TypeError("The buffer must be a typed array or a DataView");
}
