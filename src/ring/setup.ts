/**
 * Making a ring: checking what was asked for, `io_uring_setup`, and mapping the memory.
 *
 * @module
 */
import {
  IORING_FEAT_SINGLE_MMAP,
  IORING_OFF_CQ_RING,
  IORING_OFF_SQ_RING,
  IORING_OFF_SQES,
  IORING_SETUP_ATTACH_WQ,
  IORING_SETUP_CLAMP,
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_CQE32,
  IORING_SETUP_CQE_MIXED,
  IORING_SETUP_CQSIZE,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_HYBRID_IOPOLL,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_NO_MMAP,
  IORING_SETUP_NO_SQARRAY,
  IORING_SETUP_REGISTERED_FD_ONLY,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQ_AFF,
  IORING_SETUP_SQ_REWIND,
  IORING_SETUP_SQE128,
  IORING_SETUP_SQE_MIXED,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_TASKRUN_FLAG,
} from "../ffi/abi.ts";
import { UringError, UringUnavailableError } from "../ffi/errors.ts";
import { kernelHas, readSmallFile } from "../ffi/kernel.ts";
import { Mapping } from "../ffi/memory.ts";
import { io_cqring_offsets, io_sqring_offsets, io_uring_params } from "../ffi/structs.ts";
import { system } from "../ffi/system.ts";
import { SETUP_FLAGS } from "../ffi/versions.ts";
import { lackingFlags } from "./lacking.ts";
import { checkMemory, ownMemory, type RingMemory } from "./own_memory.ts";
import { cqeSize, MAX_ENTRIES, sqeSize } from "./sizes.ts";

/** How a ring is set up, beside its number of entries. */
export interface RingOptions {
  /** `IORING_SETUP_*` bits; `CQSIZE`, `SQ_AFF` and `ATTACH_WQ` are implied by the options below. Default: none. */
  flags?: number;
  /** Entries of the completion queue, at least as many as submissions. Default: twice as many (`IORING_SETUP_CQSIZE`). */
  cqEntries?: number;
  /** The processor that the SQPOLL thread is bound to (`IORING_SETUP_SQ_AFF`). */
  sqThreadCpu?: number;
  /** Milliseconds after which an idle SQPOLL thread sleeps; until then it burns a core. Default: 1000. */
  sqThreadIdle?: number;
  /** The descriptor of a ring whose worker threads are shared (`IORING_SETUP_ATTACH_WQ`). */
  wqFd?: number;
  /**
   * Memory of yours for the queues: `io_uring_queue_init_mem`, Linux 6.5 (`IORING_SETUP_NO_MMAP`). They need
   * {@link memorySize} bytes of it, from `memoryOffset` on, and it must stay mapped while the ring is open; closing the ring
   * leaves it alone. Several rings fit one mapping, each in a place of its own: the place of a ring that was closed is not
   * to be used again, as the kernel may write its last indices there a little later.
   */
  memory?: Mapping;
  /** Where in `memory` the queues begin, in bytes: a multiple of the page size, 4096. Default: 0. */
  memoryOffset?: number;
  /**
   * Whether the queues lie in huge pages of 2 MiB, of which the system must have some to spare (`vm.nr_hugepages`;
   * otherwise `ENOMEM`): Linux 6.5 (`IORING_SETUP_NO_MMAP`). Default: false.
   */
  hugePages?: boolean;
}

/** A ring as the kernel made it: its descriptor, its numbers, its memory. */
export interface RingParts {
  /** The ring's descriptor, or −1 with `IORING_SETUP_REGISTERED_FD_ONLY`. */
  readonly fd: number;
  /** The index of the registered ring descriptor with `IORING_SETUP_REGISTERED_FD_ONLY`, otherwise −1. */
  readonly registeredFd: number;
  /** `struct io_uring_params` as filled in. */
  readonly params: DataView;
  /** The flags in force. */
  readonly flags: number;
  /** The submission queue's indices. */
  readonly sqRing: Mapping;
  /** The completion queue's indices and entries; the same mapping with `IORING_FEAT_SINGLE_MMAP`. */
  readonly cqRing: Mapping;
  /** The submission queue's entries; the same mapping again when the memory was not the kernel's to choose. */
  readonly sqes: Mapping;
  /** Where in its mapping the submission queue's indices begin; those of the completion queue lie in the same place. */
  readonly ringAt: number;
  /** Where in their mapping the submission queue's entries begin. */
  readonly sqesAt: number;
  /** Whether the mappings are unmapped with the ring. */
  readonly owned: boolean;
}

function isCount(value: unknown, least: number, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
}

function refuse(message: string): never {
  throw new RangeError(message);
}

/** Checks entries and options, and returns the flags to set up with. */
export function checkOptions(entries: number, options: RingOptions): number {
  let flags = options.flags ?? 0;
  if (!isCount(flags, 0, 0xffff_ffff)) refuse(`flags must be IORING_SETUP_* bits, not ${flags}`);
  const known = SETUP_FLAGS.reduce((all, [bit]) => all | bit, 0);
  if ((flags & ~known) !== 0) refuse(`Unknown setup flags: 0x${((flags & ~known) >>> 0).toString(16)}`);
  const most = (flags & IORING_SETUP_CLAMP) !== 0 ? 0xffff_ffff : MAX_ENTRIES;
  if (!isCount(entries, 1, most)) refuse(`entries must be an integer from 1 to ${most}, not ${entries}`);
  if (options.cqEntries !== undefined) {
    const mostCq = (flags & IORING_SETUP_CLAMP) !== 0 ? 0xffff_ffff : 2 * MAX_ENTRIES;
    if (!isCount(options.cqEntries, 1, mostCq)) {
      refuse(`cqEntries must be an integer from 1 to ${mostCq}, not ${options.cqEntries}`);
    }
    if (options.cqEntries < entries && most === MAX_ENTRIES) {
      refuse(`cqEntries (${options.cqEntries}) must not be below entries (${entries})`);
    }
    flags |= IORING_SETUP_CQSIZE;
  } else if ((flags & IORING_SETUP_CQSIZE) !== 0) refuse("IORING_SETUP_CQSIZE needs cqEntries");
  if (options.wqFd !== undefined) {
    if (!isCount(options.wqFd, 0, 0x7fff_ffff)) refuse(`wqFd must be a descriptor, not ${options.wqFd}`);
    flags |= IORING_SETUP_ATTACH_WQ;
  } else if ((flags & IORING_SETUP_ATTACH_WQ) !== 0) refuse("IORING_SETUP_ATTACH_WQ needs wqFd");
  if (options.sqThreadCpu !== undefined) {
    if (!isCount(options.sqThreadCpu, 0, 0xffff)) {
      refuse(`sqThreadCpu must be a processor, not ${options.sqThreadCpu}`);
    }
    flags |= IORING_SETUP_SQ_AFF;
  }
  if (options.sqThreadIdle !== undefined && !isCount(options.sqThreadIdle, 0, 0xffff_ffff)) {
    refuse(`sqThreadIdle must be milliseconds, not ${options.sqThreadIdle}`);
  }
  if (options.memory !== undefined || options.hugePages === true) flags |= IORING_SETUP_NO_MMAP;
  // What is submitted from the first entry on every time needs no array of indices, and may not have one.
  if ((flags & IORING_SETUP_SQ_REWIND) !== 0) flags |= IORING_SETUP_NO_SQARRAY;
  checkCombination(flags);
  checkMemory(entries, options, flags);
  return flags;
}

function checkCombination(flags: number): void {
  const has = (flag: number): boolean => (flags & flag) !== 0;
  if (has(IORING_SETUP_SQ_AFF) && !has(IORING_SETUP_SQPOLL)) {
    refuse("IORING_SETUP_SQ_AFF needs IORING_SETUP_SQPOLL");
  }
  if (has(IORING_SETUP_DEFER_TASKRUN) && !has(IORING_SETUP_SINGLE_ISSUER)) {
    refuse("IORING_SETUP_DEFER_TASKRUN needs IORING_SETUP_SINGLE_ISSUER");
  }
  if (has(IORING_SETUP_SQPOLL) && has(IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN)) {
    refuse("IORING_SETUP_SQPOLL excludes IORING_SETUP_COOP_TASKRUN and IORING_SETUP_DEFER_TASKRUN");
  }
  if (has(IORING_SETUP_TASKRUN_FLAG) && !has(IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN)) {
    refuse("IORING_SETUP_TASKRUN_FLAG needs IORING_SETUP_COOP_TASKRUN or IORING_SETUP_DEFER_TASKRUN");
  }
  if (has(IORING_SETUP_HYBRID_IOPOLL) && !has(IORING_SETUP_IOPOLL)) {
    refuse("IORING_SETUP_HYBRID_IOPOLL needs IORING_SETUP_IOPOLL");
  }
  if (has(IORING_SETUP_REGISTERED_FD_ONLY) && !has(IORING_SETUP_NO_MMAP)) {
    refuse("IORING_SETUP_REGISTERED_FD_ONLY needs IORING_SETUP_NO_MMAP");
  }
  if (has(IORING_SETUP_CQE_MIXED) && has(IORING_SETUP_CQE32)) {
    refuse("IORING_SETUP_CQE_MIXED excludes IORING_SETUP_CQE32");
  }
  if (has(IORING_SETUP_SQE_MIXED) && has(IORING_SETUP_SQE128)) {
    refuse("IORING_SETUP_SQE_MIXED excludes IORING_SETUP_SQE128");
  }
  if (has(IORING_SETUP_SQ_REWIND) && has(IORING_SETUP_SQPOLL)) {
    refuse("IORING_SETUP_SQ_REWIND excludes IORING_SETUP_SQPOLL");
  }
}

/** Makes a ring and maps its memory; whatever fails, nothing stays half open. */
export function setupRing(entries: number, options: RingOptions): RingParts {
  const flags = checkOptions(entries, options);
  const bytes = new Uint8Array(new ArrayBuffer(io_uring_params.size));
  const params = new DataView(bytes.buffer);
  const set = (offset: number, value: number): void => params.setUint32(offset, value, true);
  set(io_uring_params.flags, flags);
  set(io_uring_params.cq_entries, options.cqEntries ?? 0);
  set(io_uring_params.sq_thread_cpu, options.sqThreadCpu ?? 0);
  set(io_uring_params.sq_thread_idle, options.sqThreadIdle ?? 0);
  set(io_uring_params.wq_fd, options.wqFd ?? 0);
  const own = (flags & IORING_SETUP_NO_MMAP) !== 0 ? ownMemory(entries, options, flags, params) : null;
  const result = system().setup(entries, bytes);
  if (result < 0) {
    if (own?.owned === true) unmapAll(own);
    throw explainSetup(result, flags, entries);
  }
  const registeredOnly = (flags & IORING_SETUP_REGISTERED_FD_ONLY) !== 0;
  const fd = registeredOnly ? -1 : result;
  const registeredFd = registeredOnly ? result : -1;
  if (own !== null) return { fd, registeredFd, params, flags, ...own };
  try {
    return { fd, registeredFd, params, flags, ...mapRing(fd, flags, params) };
  } catch (error) {
    system().close(fd);
    throw error;
  }
}

/** Unmaps the memory of a ring, each mapping once. */
export function unmapAll({ sqRing, cqRing, sqes }: Pick<RingParts, "sqRing" | "cqRing" | "sqes">): void {
  for (const mapping of new Set([sqRing, cqRing, sqes])) mapping.unmap();
}

/** Maps the memory of a ring as its `struct io_uring_params` describes it. */
export function mapRing(fd: number, flags: number, params: DataView): RingMemory {
  const get = (offset: number): number => params.getUint32(offset, true);
  const sqEntries = get(io_uring_params.sq_entries);
  const array = (flags & IORING_SETUP_NO_SQARRAY) !== 0 ? 0 : 4 * sqEntries;
  let sqSize = get(io_uring_params.sq_off + io_sqring_offsets.array) + array;
  let cqSize = get(io_uring_params.cq_off + io_cqring_offsets.cqes) +
    get(io_uring_params.cq_entries) * cqeSize(flags);
  const single = (get(io_uring_params.features) & IORING_FEAT_SINGLE_MMAP) !== 0;
  if (single) sqSize = cqSize = Math.max(sqSize, cqSize);
  const mapped: Mapping[] = [];
  const map = (size: number, offset: number): Mapping => {
    const mapping = Mapping.shared(size, fd, offset);
    mapped.push(mapping);
    return mapping;
  };
  try {
    const sqRing = map(sqSize, IORING_OFF_SQ_RING);
    const cqRing = single ? sqRing : map(cqSize, IORING_OFF_CQ_RING);
    const sqes = map(sqEntries * sqeSize(flags), IORING_OFF_SQES);
    return { sqRing, cqRing, sqes, ringAt: 0, sqesAt: 0, owned: true };
  } catch (error) {
    for (const mapping of mapped) mapping.unmap();
    throw error;
  }
}

const EPERM = 1;
const ENOMEM = 12;
const EINVAL = 22;
const ENOSYS = 38;

/** Turns a failed `io_uring_setup` into the error that tells why. */
function explainSetup(result: number, flags: number, entries: number): Error {
  const errno = -result;
  if (errno === ENOSYS) {
    // Old seccomp profiles answer ENOSYS; a kernel that is new enough has the call unless it was built without.
    return new UringUnavailableError(kernelHas("5.1") && isFiltered() ? "seccomp" : "kernel", {
      errno: result,
    });
  }
  if (errno === EPERM) {
    const disabled = readSmallFile("/proc/sys/kernel/io_uring_disabled")?.trim();
    if (disabled === "1" || disabled === "2") return new UringUnavailableError("sysctl", { errno: result });
    if (isFiltered()) return new UringUnavailableError("seccomp", { errno: result });
    const hint = (flags & IORING_SETUP_SQPOLL) !== 0
      ? "before Linux 5.11 SQPOLL needs CAP_SYS_ADMIN"
      : undefined;
    return new UringError(result, "io_uring_setup", { hint });
  }
  if (errno === ENOMEM) {
    const hint =
      `a ring of ${entries} entries does not fit RLIMIT_MEMLOCK; raise it (ulimit -l) or ask for fewer`;
    return new UringError(result, "io_uring_setup", { hint });
  }
  if (errno === EINVAL) {
    return new UringError(result, "io_uring_setup", { hint: lackingFlags(SETUP_FLAGS, flags) });
  }
  return new UringError(result, "io_uring_setup");
}

/** Whether a seccomp filter is in force for this thread. */
function isFiltered(): boolean {
  return /^Seccomp:\s*2$/m.test(readSmallFile("/proc/thread-self/status") ?? "");
}
