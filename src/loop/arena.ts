/**
 * Memory for what the kernel reads at submission and not later: paths, time spans, addresses, iovecs.
 *
 * @module
 */
import { addressOf } from "../ffi/pin.ts";
import { Mapping } from "../ffi/memory.ts";
import { mappedPiece } from "./blocks.ts";
import { shadowing } from "./shadow.ts";

const encoder = new TextEncoder();
const SIZE = 64 * 1024;

/** A piece of memory with its address; `owner` must be kept until the submission. */
export interface Piece {
  /** Where it is. */
  readonly address: number;
  /** A view of it. */
  readonly bytes: Uint8Array;
  /** What keeps it alive; null when the arena does. */
  readonly owner: unknown;
}

/** Memory that stays for as long as its `owner` is held, and longer where the thread may be ended. @internal */
export function lastingPiece(byteLength: number): Piece {
  if (shadowing) return mappedPiece(byteLength);
  const bytes = new Uint8Array(new ArrayBuffer(byteLength));
  return { address: addressOf(bytes), bytes, owner: bytes };
}

/**
 * A stack of short-lived memory that is emptied after each submission. With `IORING_FEAT_SUBMIT_STABLE` the kernel has
 * copied all of it by then. What does not fit, or may not be used so, gets memory of its own.
 */
export class Arena {
  readonly #mapping: Mapping | null;
  readonly #bytes: Uint8Array;
  #used = 0;

  /** @param stable Whether the kernel is done with its arguments when the submission returns. */
  constructor(stable: boolean) {
    this.#mapping = stable ? Mapping.anonymous(SIZE) : null;
    this.#bytes = new Uint8Array(this.#mapping?.buffer ?? new ArrayBuffer(0));
  }

  /** Memory of `byteLength` bytes, aligned to 8; its content is arbitrary. */
  take(byteLength: number): Piece {
    const at = this.#used;
    if (this.#mapping === null || at + byteLength > this.#bytes.length) {
      return lastingPiece(byteLength);
    }
    this.#used = (at + byteLength + 7) & ~7;
    return {
      address: this.#mapping.address + at,
      bytes: this.#bytes.subarray(at, at + byteLength),
      owner: null,
    };
  }

  /** A path as a C string. */
  cString(text: string | Uint8Array): Piece {
    if (typeof text !== "string") {
      const piece = this.take(text.length + 1);
      piece.bytes.set(text);
      piece.bytes[text.length] = 0;
      return piece;
    }
    // A UTF-16 unit takes at most three bytes of UTF-8.
    const most = text.length * 3 + 1;
    if (this.#used + most > this.#bytes.length) {
      const encoded = encoder.encode(text);
      const piece = this.take(encoded.length + 1);
      piece.bytes.set(encoded);
      piece.bytes[encoded.length] = 0;
      return piece;
    }
    const at = this.#used;
    const { written } = encoder.encodeInto(text, this.#bytes.subarray(at, at + most));
    this.#bytes[at + written] = 0;
    this.#used = (at + written + 8) & ~7;
    return {
      address: this.#mapping!.address + at,
      bytes: this.#bytes.subarray(at, at + written + 1),
      owner: null,
    };
  }

  /** A `struct __kernel_timespec` of so many milliseconds. */
  timespec(milliseconds: number): Piece {
    const piece = this.take(16);
    const seconds = Math.floor(milliseconds / 1000);
    const view = new DataView(piece.bytes.buffer, piece.bytes.byteOffset, 16);
    view.setBigInt64(0, BigInt(seconds), true);
    view.setBigInt64(8, BigInt(Math.round((milliseconds - seconds * 1000) * 1e6)), true);
    return piece;
  }

  /** Forgets everything: the kernel has copied it. */
  reset(): void {
    this.#used = 0;
  }

  /** Gives the memory back. */
  close(): void {
    this.#mapping?.unmap();
  }
}
