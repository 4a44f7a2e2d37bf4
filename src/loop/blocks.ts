/**
 * Pieces of mapped memory that are used again and again.
 *
 * @module
 */
import { Mapping } from "../ffi/memory.ts";
import type { Piece } from "./arena.ts";

/** A piece of mapped memory, its size a power of two; aligned to its size, or to pages where that is more. */
export interface Block {
  /** Where it is. */
  readonly address: number;
  /** The memory that it is a part of. */
  readonly mapping: Mapping;
  /** That memory's bytes. */
  readonly bytes: Uint8Array;
  /** Where in it. */
  readonly start: number;
  /** Its size as a power of two. */
  readonly order: number;
}

const LEAST_ORDER = 6;
/** Blocks up to here are cut from larger pieces and kept. */
const CUT_ORDER = 16;
const PIECE_SIZE = 2 ** 18;
/** Blocks up to here are kept as long as not too many are idle. */
const KEPT_ORDER = 22;
const MOST_IDLE = 2 ** 25;

/** The size of the largest block. */
export const LARGEST_BLOCK: number = 2 ** KEPT_ORDER;

/** The pieces that blocks of each order are being cut from. */
const cutting: { mapping: Mapping; bytes: Uint8Array; used: number }[] = [];
// Reachable for good: what a block of is in the kernel's hands must never be collected.
const pieces: Mapping[] = [];
const idle: Block[][] = Array.from({ length: KEPT_ORDER + 1 }, () => []);
let idleBytes = 0;

/** Takes a block of at least `byteLength` bytes, at most {@link LARGEST_BLOCK}; what is in it is arbitrary. */
export function takeBlock(byteLength: number): Block {
  const order = byteLength <= 2 ** LEAST_ORDER ? LEAST_ORDER : 32 - Math.clz32(byteLength - 1);
  const block = idle[order]!.pop();
  if (block === undefined) {
    return order <= CUT_ORDER ? cut(order) : mapped(order);
  }
  if (order > CUT_ORDER) idleBytes -= 2 ** order;
  return block;
}

function mapped(order: number): Block {
  const mapping = Mapping.anonymous(2 ** order);
  return { address: mapping.address, mapping, bytes: new Uint8Array(mapping.buffer), start: 0, order };
}

function cut(order: number): Block {
  const size = 2 ** order;
  let piece = cutting[order];
  if (piece === undefined || piece.used === PIECE_SIZE) {
    const mapping = Mapping.anonymous(PIECE_SIZE);
    piece = { mapping, bytes: new Uint8Array(mapping.buffer), used: 0 };
    cutting[order] = piece;
    pieces.push(piece.mapping);
  }
  const { mapping, bytes, used: start } = piece;
  piece.used += size;
  return { address: mapping.address + start, mapping, bytes, start, order };
}

/** Gives a block back. */
export function giveBlock(block: Block): void {
  const size = 2 ** block.order;
  if (block.order > CUT_ORDER) {
    if (idleBytes + size > MOST_IDLE) {
      block.mapping.unmap();
      return;
    }
    idleBytes += size;
  }
  idle[block.order]!.push(block);
}

const lost = new FinalizationRegistry<Block>(giveBlock);

/** Memory of `byteLength` bytes that is given back when its `owner` is collected. */
export function mappedPiece(byteLength: number): Piece {
  if (byteLength > LARGEST_BLOCK) {
    const mapping = Mapping.anonymous(byteLength);
    return { address: mapping.address, bytes: new Uint8Array(mapping.buffer), owner: mapping.buffer };
  }
  const block = takeBlock(byteLength);
  const { address, bytes, start } = block;
  const owner = {};
  lost.register(owner, block);
  return { address, bytes: bytes.subarray(start, start + byteLength), owner };
}
