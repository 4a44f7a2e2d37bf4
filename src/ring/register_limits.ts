/**
 * The register calls that limit a ring: restrictions, filters, worker threads.
 *
 * @module
 */
import {
  IORING_REGISTER_BPF_FILTER,
  IORING_REGISTER_ENABLE_RINGS,
  IORING_REGISTER_IOWQ_AFF,
  IORING_REGISTER_IOWQ_MAX_WORKERS,
  IORING_REGISTER_RESTRICTIONS,
  IORING_UNREGISTER_IOWQ_AFF,
} from "../ffi/abi.ts";
import { applyOperationFilter, type OperationFilter } from "./operation_filter.ts";
import { RingRegisterWait } from "./register_wait.ts";
import { type BpfFilter, registerFilter, type Restriction, restrictionsArgument } from "./restrictions.ts";

const ENABLED = "the ring is enabled already; IORING_SETUP_R_DISABLED makes one that is not";

/** The register calls that limit a ring. */
export class RingRegisterLimits extends RingRegisterWait {
  /**
   * Restricts the ring to what is named: `io_uring_register_restrictions`, Linux 5.10. The ring must have been made with
   * `IORING_SETUP_R_DISABLED` and not be enabled yet (`EBADFD`); it can be restricted once (`EBUSY`). What is refused
   * completes with `EACCES`, a register call throws it.
   *
   * @param restrictions What is allowed. Before Linux 7.0 all is refused that is not named, even if only register operations
   * or only operations are; since then each is restricted when one is named, and both with an empty list.
   */
  registerRestrictions(restrictions: readonly Restriction[]): void {
    const arg = restrictionsArgument(restrictions, 0);
    this.register(IORING_REGISTER_RESTRICTIONS, arg.bytes, restrictions.length, {
      EBADFD: ENABLED,
      EBUSY: "the ring is restricted already",
      EINVAL: "there is no such operation",
    });
  }

  /** Starts a ring made with `IORING_SETUP_R_DISABLED`: `io_uring_enable_rings`, Linux 5.10. */
  enableRings(): void {
    this.register(IORING_REGISTER_ENABLE_RINGS, null, 0, { EBADFD: ENABLED });
  }

  /**
   * Has a filter judge an operation on this ring: `io_uring_register_bpf_filter`, Linux 7.0. What it denies completes with
   * `EACCES`. There is no way back; further filters only deny more.
   */
  registerBpfFilter(filter: BpfFilter): void {
    registerFilter(filter, (arg, hints) => void this.register(IORING_REGISTER_BPF_FILTER, arg, 1, hints));
  }

  /**
   * {@link RingRegisterLimits.registerBpfFilter} for those who want to name operations and nothing more: only what `allow`
   * names works, or all but what `deny` names, Linux 7.0. What is denied completes with `EACCES`. There is no way back;
   * further filters only deny more.
   *
   * @example
   * ```ts
   * import { IORING_OP_OPENAT, IORING_OP_OPENAT2, Ring } from "uring/ring";
   * using ring = new Ring(8);
   * ring.filterOperations({ deny: [IORING_OP_OPENAT, IORING_OP_OPENAT2] });
   * ```
   *
   * @throws RangeError for what is no operation, UringError `EINVAL` where the kernel is older.
   */
  filterOperations(filter: OperationFilter): void {
    applyOperationFilter(filter, (each) => this.registerBpfFilter(each));
  }

  /**
   * Binds the worker threads (with SQPOLL: those of the kernel's thread) to processors: `io_uring_register_iowq_aff`, Linux
   * 5.14.
   *
   * @param cpus The processors' numbers, one at least. The kernel passes over those that it cannot have.
   */
  registerIowqAff(cpus: readonly number[]): void {
    // The kernel would take none for an answer, and have no worker run at all.
    if (cpus.length === 0) throw new RangeError("cpus must name at least one processor");
    for (const cpu of cpus) {
      if (!Number.isInteger(cpu) || cpu < 0 || cpu > 0xffff) throw new RangeError(`Not a processor: ${cpu}`);
    }
    // Whole words, as a cpu_set_t has them.
    const mask = new Uint8Array(new ArrayBuffer(Math.ceil((Math.max(0, ...cpus) + 1) / 64) * 8));
    for (const cpu of cpus) mask[cpu >> 3]! |= 1 << (cpu & 7);
    this.register(IORING_REGISTER_IOWQ_AFF, mask, mask.length, {
      EINVAL: "the cpuset does not have all of these processors",
    });
  }

  /** Lets the worker threads run everywhere again: `io_uring_unregister_iowq_aff`, Linux 5.14. */
  unregisterIowqAff(): void {
    this.register(IORING_UNREGISTER_IOWQ_AFF, null, 0);
  }

  /**
   * Limits the worker threads for files and devices (`bounded`) and for all else; 0 leaves a limit as it is. Returns
   * the limits before: `io_uring_register_iowq_max_workers`, Linux 5.15.
   */
  registerIowqMaxWorkers(bounded: number, unbounded: number): readonly [bounded: number, unbounded: number] {
    const limits = Int32Array.of(bounded, unbounded);
    this.register(IORING_REGISTER_IOWQ_MAX_WORKERS, limits, 2);
    return [limits[0]!, limits[1]!];
  }
}
