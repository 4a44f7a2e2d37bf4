/**
 * A place for one request: its memory, and who asks.
 *
 * @module
 */
import { join32 } from "../ring/sqe_base.ts";
import { fuse_in_header } from "./abi.ts";
import type { Request } from "./types.ts";

const NODE = fuse_in_header.nodeid >> 2;
const UNIQUE = fuse_in_header.unique >> 2;
/** The upper half of what fits 2⁵³. */
const MOST_HIGH = 0x1f_ffff;

/** Where a slot's parts lie. */
export interface SlotMemory {
  /** The request's header, and behind it the operation's struct. */
  readonly words: Int32Array;
  /** Where the operation's struct begins, in words. */
  readonly opAt: number;
  /** Memory with what follows the struct. */
  readonly input: Uint8Array;
  /** Memory for the reply, without its header; the same where the kernel has it so. */
  readonly output: Uint8Array;
}

/** A request that is being answered. */
export class Slot implements Request {
  /** Its number among the transport's. */
  readonly index: number;
  words: Int32Array;
  readonly opAt: number;
  readonly input: Uint8Array;
  /** Where in `input` this request's part begins and ends. */
  inAt = 0;
  inEnd = 0;
  readonly output: Uint8Array;
  /** The same memory in words. */
  readonly outWords: Int32Array;
  /** The umask that came along. */
  umask = 0;
  /** Whether its client was interrupted. */
  interrupted = false;
  /** Whether the client has been answered while the handler had not: this slot is the handler's alone now. */
  gone = false;
  /** When the handler was asked, where it did not answer at once. */
  since = 0;
  #controller: AbortController | null = null;
  #aborted: unknown = undefined;
  // Most requests are of the same size as the one before.
  #outView: Uint8Array | null = null;
  #inView: Uint8Array | null = null;

  constructor(index: number, memory: SlotMemory) {
    this.index = index;
    this.words = memory.words;
    this.opAt = memory.opAt;
    this.input = memory.input;
    this.output = memory.output;
    this.outWords = new Int32Array(
      memory.output.buffer,
      memory.output.byteOffset,
      memory.output.byteLength >> 2,
    );
  }

  get opcode(): number {
    return this.words[fuse_in_header.opcode >> 2]!;
  }

  get node(): number {
    return join32(this.words[NODE]!, this.words[NODE + 1]!);
  }

  get uid(): number {
    return this.words[fuse_in_header.uid >> 2]! >>> 0;
  }

  get gid(): number {
    return this.words[fuse_in_header.gid >> 2]! >>> 0;
  }

  get pid(): number {
    return this.words[fuse_in_header.pid >> 2]! >>> 0;
  }

  get uniqueLow(): number {
    return this.words[UNIQUE]!;
  }

  get uniqueHigh(): number {
    return this.words[UNIQUE + 1]!;
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted);
    }
    return this.#controller.signal;
  }

  /** Nobody waits for the answer any more. */
  abort(reason: unknown): void {
    if (this.#aborted !== undefined) return;
    this.#aborted = reason;
    this.#controller?.abort(reason);
  }

  /** A field of the operation's struct by its offset in bytes. */
  u32(at: number): number {
    return this.words[this.opAt + (at >> 2)]! >>> 0;
  }

  /** The same for one of 64 bits; beyond 2⁵³ it is −1. */
  u64(at: number): number {
    const word = this.opAt + (at >> 2);
    const high = this.words[word + 1]!;
    if (high >>> 0 > MOST_HIGH) return -1;
    return join32(this.words[word]!, high);
  }

  /** The first bytes of the reply's memory as a view. */
  outView(length: number): Uint8Array {
    const view = this.#outView;
    return view?.length === length ? view : this.#outView = this.output.subarray(0, length);
  }

  /** Bytes of the request from `at` on as a view. */
  inView(at: number, length: number): Uint8Array {
    const view = this.#inView;
    if (view?.length === length && view.byteOffset === this.input.byteOffset + at) return view;
    return this.#inView = this.input.subarray(at, at + length);
  }

  /** Gets ready for the next request. */
  reset(): void {
    this.umask = 0;
    if (this.#controller !== null || this.#aborted !== undefined || this.interrupted) {
      this.#controller = null;
      this.#aborted = undefined;
      this.interrupted = false;
    }
  }

  /** The request stays the handler's, and the kernel's memory becomes another slot's. */
  detach(): void {
    this.gone = true;
    this.words = this.words.slice();
  }
}
