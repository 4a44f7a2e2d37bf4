/**
 * Where in a ring's memory everything lies.
 *
 * @module
 */
import {
  IORING_CQE_F_32,
  IORING_OP_NOP128,
  IORING_OP_URING_CMD128,
  IORING_SETUP_NO_SQARRAY,
  IORING_SETUP_SQE_MIXED,
} from "../ffi/abi.ts";
import { io_cqring_offsets, io_sqring_offsets, io_uring_params } from "../ffi/structs.ts";
import { Cqe } from "./cqe.ts";
import type { RingParts } from "./setup.ts";
import { cqeSize, sqeSize } from "./sizes.ts";
import { Sqe } from "./sqe.ts";

/** The views of a ring's memory, and the places of its indices in words. */
export interface RingLayout {
  readonly sqEntries: number;
  readonly cqEntries: number;
  /** The memory of the submission queue's indices, and of the completion queue's. */
  readonly sqWords: Int32Array;
  readonly cqWords: Int32Array;
  readonly sqHeadAt: number;
  readonly sqTailAt: number;
  readonly sqFlagsAt: number;
  readonly sqDroppedAt: number;
  readonly cqHeadAt: number;
  readonly cqTailAt: number;
  readonly cqOverflowAt: number;
  /** 0 before Linux 5.8. */
  readonly cqFlagsAt: number;
  /** The entries for submission, and how many words one takes. */
  readonly sqeWords: Int32Array;
  readonly sqeSlot: number;
  /** Where the completions begin, and the binary logarithm of how many words one takes. */
  readonly cqesAt: number;
  readonly cqeShift: number;
  readonly sqes: Sqe[];
  /** Those that take two slots of a ring of mixed entries, by their first. */
  readonly bigSqes: readonly Sqe[];
  readonly cqes: Cqe[];
}

/** Lays views over the memory of a ring. */
export function layOut(parts: RingParts): RingLayout {
  const { params, sqRing, cqRing, flags } = parts;
  const get = (offset: number): number => params.getUint32(offset, true);
  const sqAt = (field: number): number => get(io_uring_params.sq_off + field) >> 2;
  const cqAt = (field: number): number => get(io_uring_params.cq_off + field) >> 2;
  const sqEntries = get(io_uring_params.sq_entries);
  const cqEntries = get(io_uring_params.cq_entries);
  const sqWords = new Int32Array(sqRing.buffer, parts.ringAt, (sqRing.byteLength - parts.ringAt) >> 2);
  const cqWords = sqRing === cqRing ? sqWords : new Int32Array(cqRing.buffer, 0, cqRing.byteLength >> 2);
  const sqeSlot = sqeSize(flags) >> 2;
  const sqeWords = new Int32Array(parts.sqes.buffer, parts.sqesAt, sqEntries * sqeSlot);
  const cqeWords = cqeSize(flags) >> 2;
  const cqesAt = cqAt(io_cqring_offsets.cqes);
  if ((flags & IORING_SETUP_NO_SQARRAY) === 0) {
    // Entry n always stands in slot n: the indirection is filled in once.
    const array = sqAt(io_sqring_offsets.array);
    for (let i = 0; i < sqEntries; i++) sqWords[array + i] = i;
  }
  return {
    sqEntries,
    cqEntries,
    sqWords,
    cqWords,
    sqHeadAt: sqAt(io_sqring_offsets.head),
    sqTailAt: sqAt(io_sqring_offsets.tail),
    sqFlagsAt: sqAt(io_sqring_offsets.flags),
    sqDroppedAt: sqAt(io_sqring_offsets.dropped),
    cqHeadAt: cqAt(io_cqring_offsets.head),
    cqTailAt: cqAt(io_cqring_offsets.tail),
    cqOverflowAt: cqAt(io_cqring_offsets.overflow),
    cqFlagsAt: cqAt(io_cqring_offsets.flags),
    sqeWords,
    sqeSlot,
    cqesAt,
    cqeShift: Math.log2(cqeWords),
    sqes: entriesOf(sqEntries, sqeWords, sqeSlot, 1),
    bigSqes: (flags & IORING_SETUP_SQE_MIXED) === 0 ? [] : entriesOf(sqEntries - 1, sqeWords, sqeSlot, 2),
    cqes: completionsOf(cqEntries, cqWords, cqesAt, cqeWords),
  };
}

function entriesOf(count: number, words: Int32Array, slot: number, slots: number): Sqe[] {
  const sqes: Sqe[] = [];
  for (let i = 0; i < count; i++) sqes.push(new Sqe(words, i * slot, 4 * slot * slots));
  return sqes;
}

function completionsOf(count: number, words: Int32Array, at: number, slot: number): Cqe[] {
  const cqes: Cqe[] = [];
  for (let i = 0; i < count; i++) cqes.push(new Cqe(words, at + i * slot));
  return cqes;
}

/** Whether an entry of two slots from `head` to `tail` would wrap around in a queue of another size. */
export function splitsSubmission(layout: RingLayout, entries: number, head: number, tail: number): boolean {
  const { sqEntries, sqeSlot, sqeWords } = layout;
  for (let i = head; i !== tail; i = (i + 1) | 0) {
    const opcode = sqeWords[(i & (sqEntries - 1)) * sqeSlot]! & 0xff;
    if (opcode !== IORING_OP_NOP128 && opcode !== IORING_OP_URING_CMD128) continue;
    if ((i & (entries - 1)) === entries - 1) return true;
    i = (i + 1) | 0;
  }
  return false;
}

/** The same for completions. */
export function splitsCompletion(layout: RingLayout, entries: number, head: number, tail: number): boolean {
  for (let i = head; i !== tail; i = (i + 1) | 0) {
    if ((layout.cqes[i & (layout.cqEntries - 1)]!.flags & IORING_CQE_F_32) === 0) continue;
    if ((i & (entries - 1)) === entries - 1) return true;
    i = (i + 1) | 0;
  }
  return false;
}

/**
 * Copies the entries from `head` to `tail` into a ring of another size. The kernel has done so, too, but some versions take
 * entries for 64 bytes always.
 */
export function copySubmissions(from: RingLayout, to: RingLayout, head: number, tail: number): void {
  const { sqeSlot } = from;
  for (let i = head; i !== tail; i = (i + 1) | 0) {
    const at = (i & (from.sqEntries - 1)) * sqeSlot;
    to.sqeWords.set(from.sqeWords.subarray(at, at + sqeSlot), (i & (to.sqEntries - 1)) * sqeSlot);
  }
}

/** The same for completions, which some kernels take for 16 bytes always. */
export function copyCompletions(from: RingLayout, to: RingLayout, head: number, tail: number): void {
  const { cqeShift } = from;
  for (let i = head; i !== tail; i = (i + 1) | 0) {
    const at = from.cqesAt + ((i & (from.cqEntries - 1)) << cqeShift);
    const slot = from.cqWords.subarray(at, at + (1 << cqeShift));
    to.cqWords.set(slot, to.cqesAt + ((i & (to.cqEntries - 1)) << cqeShift));
  }
}
