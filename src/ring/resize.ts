/**
 * Resizing a ring: other memory for the same queues.
 *
 * @module
 */
import {
  IORING_SETUP_CLAMP,
  IORING_SETUP_CQE32,
  IORING_SETUP_CQSIZE,
  IORING_SETUP_NO_MMAP,
  IORING_SETUP_NO_SQARRAY,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { reserveAddressSpace } from "../ffi/memory.ts";
import { io_cqring_offsets, io_sqring_offsets, io_uring_cqe, io_uring_params } from "../ffi/structs.ts";
import type { Hints } from "./register_base.ts";
import { checkOptions, mapRing, type RingParts } from "./setup.ts";
import { cqeSize, MAX_ENTRIES, sqeSize } from "./sizes.ts";

/** What {@link Ring.resizeRings} takes beside the entries. */
export interface ResizeOptions {
  /** Entries of the completion queue. Default: twice as many as submissions. */
  cqEntries?: number;
  /** `IORING_SETUP_CLAMP`, or 0: whether too many entries become as many as there may be. Default: 0. */
  flags?: number;
}

const EBADF = 9;
const EINVAL = 22;
const PAGE = 4096;
const SQ_ARRAY = io_uring_params.sq_off + io_sqring_offsets.array;

/** What the kernel's refusals mean. */
export const RESIZE_HINTS: Hints = {
  EINVAL: "only a ring with IORING_SETUP_DEFER_TASKRUN can be resized",
  EOVERFLOW: "what is in the queues does not fit",
};

/** Said of mixed rings; the kernel would split such an entry. */
export const SPLIT =
  "IORING_REGISTER_RESIZE_RINGS: an entry or completion of two slots would wrap around; submit or take it first";

function roundUp(entries: number, most: number): number {
  return 2 ** Math.ceil(Math.log2(Math.min(entries, most)));
}

/** Checks what was asked for, and returns the `struct io_uring_params` that asks the kernel for it. */
export function resizeParams(before: RingParts, entries: number, options: ResizeOptions): Uint8Array {
  const { cqEntries, flags = 0 } = options;
  if ((flags & ~IORING_SETUP_CLAMP) !== 0) {
    throw new RangeError(`flags may be IORING_SETUP_CLAMP, not ${flags}`);
  }
  const all = checkOptions(entries, { flags, ...(cqEntries === undefined ? {} : { cqEntries }) });
  if ((before.flags & IORING_SETUP_NO_MMAP) !== 0) {
    throw new UringError(EINVAL, "io_uring_register", {
      hint: "IORING_REGISTER_RESIZE_RINGS: a ring with IORING_SETUP_NO_MMAP keeps its size",
    });
  }
  const bytes = new Uint8Array(new ArrayBuffer(io_uring_params.size));
  const params = new DataView(bytes.buffer);
  params.setUint32(io_uring_params.flags, all & (IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP), true);
  params.setUint32(io_uring_params.sq_entries, entries, true);
  params.setUint32(io_uring_params.cq_entries, cqEntries ?? 0, true);
  return bytes;
}

/**
 * Has the kernel resize a ring, and maps the result.
 *
 * Address space for it is held while the kernel is asked: after that there is no way back, and until then every failure
 * leaves the ring as it was. (The kernel maps a ring at no address of our choosing, so the space is given back first.)
 *
 * @param before The ring's memory, which stays mapped.
 * @param fd Its descriptor.
 * @param bytes What {@link resizeParams} returned.
 * @param register Asks the kernel; throws when it refuses.
 */
export function resize(
  before: RingParts,
  fd: number,
  bytes: Uint8Array,
  register: (params: Uint8Array) => void,
): RingParts {
  if (fd < 0) {
    throw new UringError(EBADF, "io_uring_register", {
      hint:
        "IORING_REGISTER_RESIZE_RINGS: the memory is mapped through the ring's descriptor, which was closed",
    });
  }
  const params = new DataView(bytes.buffer);
  const sqArrayAt = (of: DataView): number => of.getUint32(SQ_ARRAY, true);
  if (hasArray(before.flags) && sqArrayAt(before.params) !== arrayOffset(before.flags, before.params)) {
    throw new UringError(EINVAL, "io_uring_register", {
      hint:
        "IORING_REGISTER_RESIZE_RINGS: this kernel lays rings out in an unknown way; use IORING_SETUP_NO_SQARRAY",
    });
  }
  const release = reserveAddressSpace(mostBytes(before.flags, params));
  try {
    register(bytes);
  } finally {
    release();
  }
  // Unlike a setup, a resize fills in neither.
  params.setUint32(io_uring_params.features, before.params.getUint32(io_uring_params.features, true), true);
  if (hasArray(before.flags) && sqArrayAt(params) === 0) {
    params.setUint32(SQ_ARRAY, arrayOffset(before.flags, params), true);
  }
  return { ...before, params, ...mapRing(fd, before.flags, params) };
}

function hasArray(flags: number): boolean {
  return (flags & IORING_SETUP_NO_SQARRAY) === 0;
}

/** Where the kernel puts the submission queue's array of indices: behind the completions, in a cache line of its own. */
function arrayOffset(flags: number, params: DataView): number {
  const CACHE_LINE = 64;
  const header = params.getUint32(io_uring_params.cq_off + io_cqring_offsets.cqes, true);
  const completions = params.getUint32(io_uring_params.cq_entries, true) * io_uring_cqe.size;
  // The kernel doubles the header as well.
  const factor = (flags & IORING_SETUP_CQE32) !== 0 ? 2 : 1;
  return Math.ceil(factor * (header + completions) / CACHE_LINE) * CACHE_LINE;
}

/** The sizes that the kernel will make of those that were asked for. */
export function roundedSizes(params: DataView): [sqEntries: number, cqEntries: number] {
  const sqEntries = roundUp(params.getUint32(io_uring_params.sq_entries, true), MAX_ENTRIES);
  const asked = params.getUint32(io_uring_params.cq_entries, true);
  return [sqEntries, asked === 0 ? 2 * sqEntries : roundUp(asked, 2 * MAX_ENTRIES)];
}

/** The most address space that a ring of this size can take. */
function mostBytes(flags: number, params: DataView): number {
  const [sqEntries, cqEntries] = roundedSizes(params);
  // One page is more than the indices and their padding take, another two make up for rounding.
  return 3 * PAGE + cqEntries * cqeSize(flags) + 4 * sqEntries + sqEntries * sqeSize(flags);
}
