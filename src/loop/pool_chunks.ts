/**
 * What arrives in the buffers of a pool, in chunks.
 *
 * @module
 */
import { IORING_CQE_BUFFER_SHIFT, IORING_CQE_F_BUFFER } from "../ffi/abi.ts";
import type { MultishotSpec, Shot } from "./multishot.ts";
import type { BufferPool, Piece } from "./pool.ts";

/** The part of a multishot operation that is the same for all that fill the buffers of a pool. */
export type PoolChunks = Required<
  Pick<MultishotSpec<Uint8Array>, "begin" | "end" | "limit" | "shot" | "handOut" | "discard" | "advance">
>;

const ENOBUFS = -105;
/** How many copies may wait when the pool's buffers, being used up bit by bit, set no limit. */
const MOST_COPIES = 256;

/**
 * Turns completions into chunks.
 *
 * @param pool Where the data arrives.
 * @param borrow Whether the chunks are views of the pool's memory, given back when the next one is asked for.
 */
export function poolChunks(pool: BufferPool, borrow: boolean): PoolChunks {
  const lent: number[] = [];
  const ids = new WeakMap<Uint8Array, number>();
  return {
    begin: () => pool.enter(),
    end: () => pool.leave(),
    // What waits for the consumer is bounded by the pool.
    limit: borrow ? Infinity : pool.incremental ? MOST_COPIES : pool.count,
    shot: (res, flags): Shot<Uint8Array> | undefined => {
      if (res === ENOBUFS) return { kind: "again", ready: pool.available() };
      if (res < 0) return undefined;
      if ((flags & IORING_CQE_F_BUFFER) === 0) return { kind: "end" };
      const pieces = pool.takeAll(flags >>> IORING_CQE_BUFFER_SHIFT, res, flags);
      if (borrow && res > 0) {
        for (const { id, view } of pieces) ids.set(view, id);
        return pieces.length === 1
          ? { kind: "value", value: pieces[0]!.view }
          : { kind: "values", values: pieces.map(({ view }) => view) };
      }
      const copy = joined(pieces, res);
      for (const { id } of pieces) pool.recycle(id);
      return res === 0 ? { kind: "end" } : { kind: "value", value: copy };
    },
    handOut: (chunk) => {
      const id = ids.get(chunk);
      if (id !== undefined) lent.push(id);
    },
    discard: (chunk) => {
      const id = ids.get(chunk);
      if (id !== undefined) pool.recycle(id);
    },
    advance: () => {
      for (const id of lent.splice(0)) pool.recycle(id);
    },
  };
}

/** A copy of what came in several buffers. */
function joined(pieces: readonly Piece[], length: number): Uint8Array {
  if (pieces.length === 1) return new Uint8Array(pieces[0]!.view);
  const copy = new Uint8Array(length);
  let at = 0;
  for (const { view } of pieces) {
    copy.set(view, at);
    at += view.length;
  }
  return copy;
}
