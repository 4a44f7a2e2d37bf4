/**
 * Queues in memory that is not the kernel's: `IORING_SETUP_NO_MMAP`.
 *
 * @module
 */
import { MAP_HUGE_SHIFT, MAP_HUGETLB } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { Mapping } from "../ffi/memory.ts";
import { io_cqring_offsets, io_sqring_offsets, io_uring_params } from "../ffi/structs.ts";
import type { RingOptions, RingParts } from "./setup.ts";
import { PAGE, type QueueSizes, queueSizes } from "./sizes.ts";

/** Where the queues lie. */
export type RingMemory = Pick<RingParts, "sqRing" | "cqRing" | "sqes" | "ringAt" | "sqesAt" | "owned">;

const HUGE_PAGE = 2 ** 21;
const MAP_HUGE_2MB = MAP_HUGETLB | (21 << MAP_HUGE_SHIFT);
const ENOMEM = 12;

/** Checks the options that say where the queues are to lie. */
export function checkMemory(entries: number, options: RingOptions, flags: number): void {
  const { memory, memoryOffset = 0, hugePages = false } = options;
  if (typeof hugePages !== "boolean") throw new TypeError("hugePages must be a boolean");
  if (memory === undefined) {
    if (options.memoryOffset !== undefined) throw new RangeError("memoryOffset needs memory");
    return;
  }
  if (!(memory instanceof Mapping)) throw new TypeError("memory must be a Mapping");
  if (hugePages) throw new RangeError("hugePages excludes memory: whoever maps it chooses its pages");
  if (!Number.isInteger(memoryOffset) || memoryOffset < 0 || memoryOffset % PAGE !== 0) {
    throw new RangeError(`memoryOffset must be a multiple of ${PAGE}, not ${memoryOffset}`);
  }
  const { sqes, ring } = queueSizes(entries, options.cqEntries ?? 0, flags);
  // Unmapped memory throws here.
  const room = memory.buffer.byteLength - memoryOffset;
  if (sqes + ring > room) {
    throw new RangeError(
      `a ring of ${entries} entries takes ${sqes + ring} bytes; memory has ${Math.max(room, 0)}`,
    );
  }
}

/** Finds or maps the memory for the queues, and tells the kernel of it in `params`. */
export function ownMemory(
  entries: number,
  options: RingOptions,
  flags: number,
  params: DataView,
): RingMemory {
  const sizes = queueSizes(entries, options.cqEntries ?? 0, flags);
  const made = place(sizes, options);
  const tell = (offsets: number, field: number, address: number): void =>
    params.setBigUint64(offsets + field, BigInt(address), true);
  tell(io_uring_params.sq_off, io_sqring_offsets.user_addr, made.sqes.address + made.sqesAt);
  tell(io_uring_params.cq_off, io_cqring_offsets.user_addr, made.sqRing.address + made.ringAt);
  return made;
}

function place(sizes: QueueSizes, options: RingOptions): RingMemory {
  const { memory, memoryOffset = 0 } = options;
  const all = sizes.sqes + sizes.ring;
  if (memory !== undefined) {
    // Where a ring was before, its indices still stand.
    new Uint8Array(memory.buffer, memoryOffset, all).fill(0);
    const ringAt = memoryOffset + sizes.sqes;
    return { sqRing: memory, cqRing: memory, sqes: memory, sqesAt: memoryOffset, ringAt, owned: false };
  }
  if (options.hugePages === true) {
    const one = hugePages(all);
    return { sqRing: one, cqRing: one, sqes: one, sqesAt: 0, ringAt: sizes.sqes, owned: true };
  }
  const sqes = Mapping.anonymous(sizes.sqes);
  const ring = Mapping.anonymous(sizes.ring);
  return { sqRing: ring, cqRing: ring, sqes, sqesAt: 0, ringAt: 0, owned: true };
}

function hugePages(bytes: number): Mapping {
  try {
    return Mapping.anonymous(Math.ceil(bytes / HUGE_PAGE) * HUGE_PAGE, MAP_HUGE_2MB);
  } catch (error) {
    if (!(error instanceof UringError) || error.errno !== -ENOMEM) throw error;
    throw new UringError(ENOMEM, "mmap", {
      hint: "no huge page of 2 MiB is free; the sysctl vm.nr_hugepages says how many there are",
      cause: error,
    });
  }
}
