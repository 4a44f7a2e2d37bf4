/**
 * What arrives in the buffers of a pool, in chunks.
 *
 * @module
 */
import { IORING_CQE_BUFFER_SHIFT, IORING_CQE_F_BUFFER } from "../ffi/abi.ts";
import type { MultishotSpec, Shot } from "./multishot.ts";
import type { BufferPool } from "./pool.ts";

/** The part of a multishot operation that is the same for all that fill the buffers of a pool. */
export type PoolChunks = Required<
  Pick<MultishotSpec<Uint8Array>, "limit" | "shot" | "handOut" | "discard" | "advance">
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
    // What waits for the consumer is bounded by the pool.
    limit: borrow ? Infinity : pool.incremental ? MOST_COPIES : pool.count,
    shot: (res, flags): Shot<Uint8Array> | undefined => {
      if (res === ENOBUFS) return { kind: "again", ready: pool.available() };
      if (res < 0) return undefined;
      if ((flags & IORING_CQE_F_BUFFER) === 0) return { kind: "end" };
      const id = flags >>> IORING_CQE_BUFFER_SHIFT;
      const view = pool.take(id, res, flags);
      if (res === 0) {
        pool.recycle(id);
        return { kind: "end" };
      }
      if (!borrow) {
        const copy = new Uint8Array(view);
        pool.recycle(id);
        return { kind: "value", value: copy };
      }
      ids.set(view, id);
      return { kind: "value", value: view };
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
