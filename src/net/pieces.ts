/**
 * Memory for what waits to be sent.
 *
 * @module
 */
import { MADV_DONTNEED } from "../ffi/abi.ts";
import { Mapping } from "../ffi/memory.ts";
import { system } from "../ffi/system.ts";
import type { Op } from "../loop/op.ts";

/** Something that runs when what stands before it was sent, and keeps what comes after it waiting until it has ended. */
export interface Job {
  /**
   * Begins; `done` is called once, at the end: with what is to be sent in its place, if there is something, and with who
   * wants to know when it is.
   */
  run(done: (piece?: Piece, sent?: PromiseWithResolvers<number>) => void): void;
  /** Is told that it will never run, or shall end. */
  cancel(error: Error): void;
}

/** A stretch of memory in the queue of one connection. */
export class Piece {
  /** The memory, where bytes may be added. */
  readonly bytes: Uint8Array | null;
  /** Where it lies. */
  address: number;
  /** Its length. */
  readonly size: number;
  /** Which class of pieces it is of; −1: memory of the program's, −2: of the buffers that data arrives in. */
  readonly kind: number;
  /** What has to live until it is sent. */
  readonly owner: unknown;
  /** Which buffer it is in, if it is one that data arrives in. */
  buffer = 0;
  /** The first byte that was not sent. */
  start = 0;
  /** The end of what is to be sent. */
  end = 0;
  /** What comes after it. */
  next: Piece | null = null;
  /** Its place among the ring's registered buffers; −1: it is in none. */
  slot = -1;
  /** Keeps memory from being given back that could be. */
  hold: Op | null = null;
  /** Runs instead of sending anything. */
  job: Job | null = null;

  /** @internal */
  constructor(bytes: Uint8Array | null, address: number, size: number, kind: number, owner: unknown) {
    this.bytes = bytes;
    this.address = address;
    this.size = size;
    this.kind = kind;
    this.owner = owner;
  }
}

/** {@link Piece.kind} of memory of the program's. */
export const BORROWED: number = -1;
/** {@link Piece.kind} of what lies in a buffer that data arrives in. */
export const LENT: number = -2;

/** The sizes of pieces, and how many are mapped at once. */
const KINDS: readonly (readonly [size: number, count: number])[] = [
  [1 << 10, 64],
  [16 << 10, 16],
  [128 << 10, 8],
];
const LARGEST = KINDS.length - 1;

/** How many of the largest pieces may lie idle with memory behind them. */
const IDLE = 16;

/** Gives out pieces and takes them back. What is mapped stays mapped; large pieces that lie idle cost no memory. */
export class PieceStore {
  readonly #free: Piece[][] = KINDS.map(() => []);
  readonly #mappings: Mapping[] = [];
  readonly #lent: Piece[] = [];

  /** A piece with room, at best for `wanted` bytes. */
  take(wanted: number): Piece {
    let kind = 0;
    while (kind < LARGEST && KINDS[kind]![0] < wanted) kind++;
    const free = this.#free[kind]!;
    if (free.length === 0) this.#map(kind);
    return free.pop()!;
  }

  /** A piece of a buffer that data arrives in. */
  lend(address: number, length: number, buffer: number): Piece {
    const piece = this.#lent.pop() ?? new Piece(null, 0, 0, LENT, null);
    piece.address = address;
    piece.end = length;
    piece.buffer = buffer;
    return piece;
  }

  #map(kind: number): void {
    const [size, count] = KINDS[kind]!;
    const mapping = Mapping.anonymous(size * count);
    this.#mappings.push(mapping);
    for (let i = count - 1; i >= 0; i--) {
      const bytes = new Uint8Array(mapping.buffer, i * size, size);
      this.#free[kind]!.push(new Piece(bytes, mapping.address + i * size, size, kind, mapping));
    }
  }

  /** Takes back a piece that was sent, or will not be; others than its own it leaves alone. */
  give(piece: Piece): void {
    const { kind } = piece;
    if (kind === BORROWED) return;
    piece.start = 0;
    piece.end = 0;
    piece.next = null;
    if (kind === LENT) {
      this.#lent.push(piece);
      return;
    }
    const free = this.#free[kind]!;
    if (kind === LARGEST && free.length >= IDLE) system().madvise(piece.address, piece.size, MADV_DONTNEED);
    free.push(piece);
  }

  /** How much is mapped, in bytes. */
  get mapped(): number {
    return this.#mappings.reduce((sum, mapping) => sum + mapping.byteLength, 0);
  }

  /** Gives all memory back. Only when the kernel works on none of it any more. */
  release(): void {
    for (const mapping of this.#mappings.splice(0)) mapping.unmap();
    for (const free of this.#free) free.length = 0;
  }
}
