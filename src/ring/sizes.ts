/**
 * How large the queues of a ring are.
 *
 * @module
 */
import { IORING_SETUP_CQE32, IORING_SETUP_NO_SQARRAY, IORING_SETUP_SQE128 } from "../ffi/abi.ts";
import { io_uring_cqe, io_uring_sqe } from "../ffi/structs.ts";

/** The most entries that the kernel gives a submission queue; a completion queue may have twice as many. */
export const MAX_ENTRIES = 32768;

/** The size of a page. */
export const PAGE = 4096;

// What precedes the completions: the indices of both queues. The kernel tells, but only when it has the memory.
const HEADER = 64;
const CACHE_LINE = 64;

/** The size of a submission queue entry under these flags; a mixed ring's are counted in units of 64. */
export function sqeSize(flags: number): number {
  return io_uring_sqe.size << sqeShiftFromFlags(flags);
}

/** The size of a completion queue entry under these flags; a mixed ring's are counted in units of 16. */
export function cqeSize(flags: number): number {
  return io_uring_cqe.size << cqeShiftFromFlags(flags);
}

/** 1 for a ring whose entries have 128 bytes each, otherwise 0: `io_uring_sqe_shift_from_flags`. */
export function sqeShiftFromFlags(flags: number): number {
  return (flags & IORING_SETUP_SQE128) !== 0 ? 1 : 0;
}

/** 1 for a ring whose completions have 32 bytes each, otherwise 0: `io_uring_cqe_shift_from_flags`. */
export function cqeShiftFromFlags(flags: number): number {
  return (flags & IORING_SETUP_CQE32) !== 0 ? 1 : 0;
}

/** Rounds up to whole pages. */
export function wholePages(bytes: number): number {
  return Math.ceil(bytes / PAGE) * PAGE;
}

/** What the memory of a ring is made up of, each part in whole pages. */
export interface QueueSizes {
  /** Bytes of the entries for submission. */
  readonly sqes: number;
  /** Bytes of the indices and the completions. */
  readonly ring: number;
}

function powerOfTwo(count: number, most: number): number {
  return Math.min(2 ** Math.ceil(Math.log2(count)), most);
}

/** The sizes of a ring's queues; `cqEntries` 0 means twice as many as `entries`. */
export function queueSizes(entries: number, cqEntries: number, flags: number): QueueSizes {
  const sq = powerOfTwo(entries, MAX_ENTRIES);
  const cq = cqEntries === 0 ? 2 * sq : powerOfTwo(cqEntries, 2 * MAX_ENTRIES);
  // With completions of 32 bytes the kernel doubles what precedes them as well.
  const completions = (HEADER << cqeShiftFromFlags(flags)) + cq * cqeSize(flags);
  const array = (flags & IORING_SETUP_NO_SQARRAY) !== 0 ? 0 : 4 * sq;
  const ring = Math.ceil(completions / CACHE_LINE) * CACHE_LINE + array;
  return { sqes: wholePages(sq * sqeSize(flags)), ring: wholePages(ring) };
}
