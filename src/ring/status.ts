/**
 * What a ring tells of itself beside its entries and completions.
 *
 * @module
 */
import { IORING_CQ_EVENTFD_DISABLED, IORING_SQ_CQ_OVERFLOW } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { RingQueues } from "./queues.ts";
import { cqeShiftFromFlags, sqeShiftFromFlags } from "./sizes.ts";

const EOPNOTSUPP = -95;

/** The words of a ring's memory that are no index of a queue. */
export class RingStatus extends RingQueues {
  /** How many entries the kernel dropped because their index was invalid: always 0 through this class. */
  sqDropped(): number {
    return Atomics.load(this.layout.sqWords, this.layout.sqDroppedAt) >>> 0;
  }

  /** Whether completions wait in the kernel for room in the queue: `io_uring_cq_has_overflow`. */
  cqHasOverflow(): boolean {
    this.assertOpen();
    return (Atomics.load(this.layout.sqWords, this.layout.sqFlagsAt) & IORING_SQ_CQ_OVERFLOW) !== 0;
  }

  /** How many completions were lost; 0 on a kernel with `IORING_FEAT_NODROP`, which keeps them. */
  cqOverflowed(): number {
    return Atomics.load(this.layout.cqWords, this.layout.cqOverflowAt) >>> 0;
  }

  /** Whether completions signal the registered eventfd: `io_uring_cq_eventfd_enabled`. */
  cqEventfdEnabled(): boolean {
    if (this.layout.cqFlagsAt === 0) return true;
    return (Atomics.load(this.layout.cqWords, this.layout.cqFlagsAt) & IORING_CQ_EVENTFD_DISABLED) === 0;
  }

  /** Switches the registered eventfd on and off without a system call: `io_uring_cq_eventfd_toggle`, Linux 5.8. */
  cqEventfdToggle(enabled: boolean): void {
    if (this.layout.cqFlagsAt === 0) {
      throw new UringError(EOPNOTSUPP, "io_uring_cq_eventfd_toggle", { hint: "it needs Linux 5.8" });
    }
    const flags = this.layout.cqWords[this.layout.cqFlagsAt]!;
    const next = enabled ? flags & ~IORING_CQ_EVENTFD_DISABLED : flags | IORING_CQ_EVENTFD_DISABLED;
    Atomics.store(this.layout.cqWords, this.layout.cqFlagsAt, next);
  }

  /** 1 when the entries have 128 bytes each, otherwise 0: `io_uring_sqe_shift`. */
  sqeShift(): number {
    return sqeShiftFromFlags(this.flags);
  }

  /** 1 when the completions have 32 bytes each, otherwise 0: `io_uring_cqe_shift`. */
  cqeShift(): number {
    return cqeShiftFromFlags(this.flags);
  }
}
