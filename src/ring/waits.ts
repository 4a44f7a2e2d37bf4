/**
 * Waiting: until enough completions have come, for a time, until a point in time; and `io_uring_enter` itself.
 *
 * @module
 */
import type { Pinned } from "../ffi/adapter.ts";
import {
  CLOCK_MONOTONIC,
  IORING_ENTER_ABS_TIMER,
  IORING_ENTER_EXT_ARG,
  IORING_ENTER_EXT_ARG_REG,
  IORING_ENTER_GETEVENTS,
  IORING_ENTER_NO_IOWAIT,
  IORING_ENTER_SQ_WAIT,
  IORING_FEAT_EXT_ARG,
  IORING_FEAT_MIN_TIMEOUT,
  IORING_FEAT_NO_IOWAIT,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_TASKRUN_FLAG,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { addressOf, pinned } from "../ffi/pin.ts";
import { __kernel_timespec, io_uring_getevents_arg, io_uring_reg_wait } from "../ffi/structs.ts";
import { system } from "../ffi/system.ts";
import type { Cqe } from "./cqe.ts";
import type { Timespec } from "./queues.ts";
import { RingStatus } from "./status.ts";

/** What a wait with a time limit may be told beside it. */
export interface WaitOptions {
  /** The time limit is a point of the ring's clock, not a span (`IORING_ENTER_ABS_TIMER`, Linux 6.12). */
  absolute?: boolean;
  /** Microseconds to wait for all that was asked for; after these one completion is enough (Linux 6.12). */
  minWaitUsec?: number;
  /** The signals that are blocked while waiting, as a `sigset_t`: bit `n - 1` for signal `n`. Default: as before. */
  sigmask?: bigint;
}

const EINTR = -4;
const EINVAL = -22;
const ETIME = -62;
const EOPNOTSUPP = -95;

// struct io_uring_getevents_arg, behind it the time, behind that the signals.
const TIME_AT = io_uring_getevents_arg.size;
const MASK_AT = TIME_AT + __kernel_timespec.size;
const MASK_SIZE = 8;

/** See {@link RingWaits.submitAndLinger}; microseconds. */
export const LINGER_MIN = 100;
const LINGER_MOST = 150;

/** How often it is looked between two looks at the clock: {@link RingWaits.submitAndSpin}. */
const LOOKS = 16;

/** The ways to wait that a ring has. */
export class RingWaits extends RingStatus {
  readonly #system = system();
  #waitArg: Pinned | null = null;
  #lingerArg: Pinned | null = null;
  // One timer is cheaper than two, and sooner set.
  #briefArg: Pinned | null = null;

  /**
   * `io_uring_enter` itself, for what has no method here. Entries handed out so far are shown to the kernel first.
   *
   * @param toSubmit How many of them to submit.
   * @param minComplete How many completions to wait for, with `IORING_ENTER_GETEVENTS`.
   * @param flags `IORING_ENTER_*`.
   * @param arg What `io_uring_enter2` takes: a `sigset_t`, or a `struct io_uring_getevents_arg` with
   * `IORING_ENTER_EXT_ARG` (Linux 5.11). It must stay in place only for the call.
   * @returns How many entries were taken.
   * @throws `UringError` for every failure: `ETIME` and `EINTR`, too.
   */
  enter(toSubmit: number, minComplete: number, flags: number, arg: Uint8Array | null = null): number {
    this.flush();
    const all = (flags | this.enterFlags) >>> 0;
    const fd = this.enterFd;
    const result = arg === null ? this.#system.enter(fd, toSubmit, minComplete, all) : this.#system.enterArg(
      fd,
      toSubmit,
      minComplete,
      all,
      { bytes: arg, address: addressOf(arg) },
      arg.length,
    );
    if (result < 0) this.fail(result, flags);
    this.taken(result);
    return result;
  }

  /**
   * Submits and waits for `waitNr` completions or until the time is over: `io_uring_submit_and_wait_timeout`, Linux
   * 5.11. Returns how many entries were taken, whether the time ran out or not: `cqReady()` tells.
   *
   * @param waitNr How many completions to wait for.
   * @param timeout How long, or null for ever.
   * @param options What else there is to it.
   */
  submitAndWaitTimeout(waitNr: number, timeout: Timespec | null, options: WaitOptions = {}): number {
    const arg = this.#argument(timeout, options);
    const flags = IORING_ENTER_GETEVENTS | timerFlag(options);
    const toSubmit = this.flush();
    if (this.#polls() && timeout !== null) {
      const submitted = this.enterAgain(toSubmit, 0, flags & ~IORING_ENTER_ABS_TIMER);
      this.#pollUntil(waitNr, timeout, options);
      return submitted;
    }
    const submitted = this.#enterTimed(toSubmit, waitNr, flags | this.wakeFlag(), arg);
    // A timeout that fires ends the wait, and with SQPOLL that is a moment before its completion is there.
    while (timeout === null && waitNr > 0 && this.cqReady() === 0) this.#enterTimed(0, 1, flags, arg);
    return Math.max(submitted, 0);
  }

  /**
   * Submits and waits for a moment: until `waitNr` completions have come, or any, {@link LINGER_MIN} microseconds later, or
   * until {@link LINGER_MOST} are over. Where the kernel cannot, it does not wait. @internal
   */
  submitAndLinger(waitNr: number): void {
    const toSubmit = this.flush();
    const flags = IORING_ENTER_GETEVENTS | this.wakeFlag();
    if ((this.features & IORING_FEAT_MIN_TIMEOUT) === 0) {
      this.enterAgain(toSubmit, 0, flags);
      return;
    }
    const arg = waitNr > 1
      ? this.#lingerArg ??= lingerArg(LINGER_MIN, LINGER_MOST)
      : this.#briefArg ??= lingerArg(0, LINGER_MOST);
    this.#enterTimed(toSubmit, waitNr, flags, arg);
  }

  /**
   * Submits and, for up to so many microseconds, looks whether something completes, without sleeping in the kernel: waking a
   * thread that does takes longer than many an answer. What completes then is fetched. @internal
   */
  submitAndSpin(most: number): void {
    this.submit();
    const end = performance.now() + most / 1000;
    const blind = (this.flags & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG)) ===
      IORING_SETUP_DEFER_TASKRUN;
    do {
      for (let looks = 0; looks < LOOKS; looks++) {
        if (blind || this.cqNeedsEnter()) this.getEvents();
        if (this.cqReady() > 0) return;
      }
    } while (performance.now() < end);
  }

  /**
   * {@link RingWaits.submitAndWaitTimeout} where one completion is enough once `minWaitUsec` microseconds are over:
   * `io_uring_submit_and_wait_min_timeout`, Linux 6.12.
   */
  submitAndWaitMinTimeout(
    waitNr: number,
    timeout: Timespec | null,
    minWaitUsec: number,
    options: WaitOptions = {},
  ): number {
    return this.submitAndWaitTimeout(waitNr, timeout, { ...options, minWaitUsec });
  }

  /**
   * {@link RingWaits.submitAndWaitTimeout} as a registered wait says: `io_uring_submit_and_wait_reg`, Linux 6.13. The
   * kernel reads the time limit from memory that it has mapped, which is cheaper than to copy it for every call.
   *
   * @param waitNr How many completions to wait for.
   * @param regIndex Which of the waits in the ring's memory region (`ring.registerWaitReg`).
   */
  submitAndWaitReg(waitNr: number, regIndex: number): number {
    // Before anything is published: what is queued stays queued.
    if ((this.features & IORING_FEAT_EXT_ARG) === 0) this.fail(EINVAL, IORING_ENTER_EXT_ARG_REG);
    const toSubmit = this.flush();
    const flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | IORING_ENTER_EXT_ARG_REG;
    const all = flags | this.wakeFlag() | this.enterFlags;
    const size = io_uring_reg_wait.size;
    const result = this.#system.enterOffset(this.enterFd, toSubmit, waitNr, all, regIndex * size, size);
    if (result === ETIME || result === EINTR) return 0;
    if (result < 0) this.fail(result, all);
    this.taken(result);
    return result;
  }

  /** Waits until the SQPOLL thread has consumed an entry: `io_uring_sqring_wait`, Linux 5.10. */
  sqringWait(): void {
    if ((this.flags & IORING_SETUP_SQPOLL) === 0) return;
    // The kernel may return early, when other work of this thread's is to be done.
    while (this.sqSpaceLeft() === 0) this.enterAgain(0, 0, IORING_ENTER_SQ_WAIT);
  }

  /** The oldest completion, waited for: `io_uring_wait_cqe`. */
  waitCqe(): Cqe {
    return this.waitCqeNr(1);
  }

  /** Waits until `waitNr` completions (at least one) are there and returns the oldest: `io_uring_wait_cqe_nr`. */
  waitCqeNr(waitNr: number): Cqe {
    for (;;) {
      if (this.cqReady() >= waitNr) {
        const cqe = this.peekCqe();
        if (cqe !== null) return cqe;
      }
      this.enterAgain(0, Math.max(waitNr, 1), IORING_ENTER_GETEVENTS);
    }
  }

  /** The oldest completion, or null when none came in time: `io_uring_wait_cqe_timeout`, Linux 5.11. */
  waitCqeTimeout(timeout: Timespec): Cqe | null {
    return this.waitCqes(1, timeout);
  }

  /**
   * Waits until `waitNr` completions are there or the time is over, and returns the oldest, or null when there is none:
   * `io_uring_wait_cqes`, Linux 5.11. It submits nothing.
   *
   * @param waitNr How many completions to wait for.
   * @param timeout How long, or null for ever.
   * @param options What else there is to it.
   */
  waitCqes(waitNr: number, timeout: Timespec | null, options: WaitOptions = {}): Cqe | null {
    const arg = this.#argument(timeout, options);
    const flags = IORING_ENTER_GETEVENTS | timerFlag(options);
    if (this.#polls() && timeout !== null) this.#pollUntil(waitNr, timeout, options);
    else {
      // Time that is over is told as ETIME only where nothing has come.
      const enough = timeout !== null || (options.minWaitUsec ?? 0) > 0 ? 1 : waitNr;
      // 0 and no completion: a timeout has fired, and the SQPOLL thread is about to post it.
      for (let missing = waitNr; this.cqReady() < missing; missing = enough) {
        if (this.#enterTimed(0, waitNr, flags, arg) < 0 && timeout !== null) break;
      }
    }
    return this.peekCqe();
  }

  /**
   * {@link RingWaits.waitCqes} where one completion is enough once `minWaitUsec` microseconds are over:
   * `io_uring_wait_cqes_min_timeout`, Linux 6.12.
   */
  waitCqesMinTimeout(
    waitNr: number,
    timeout: Timespec | null,
    minWaitUsec: number,
    options: WaitOptions = {},
  ): Cqe | null {
    return this.waitCqes(waitNr, timeout, { ...options, minWaitUsec });
  }

  /**
   * Whether a thread that waits with operations in flight counts as waiting for I/O, which is the default:
   * `io_uring_set_iowait`, Linux 6.15.
   *
   * @throws `UringError` `EOPNOTSUPP` on an older kernel.
   */
  setIowait(enabled: boolean): void {
    if ((this.features & IORING_FEAT_NO_IOWAIT) === 0) {
      throw new UringError(EOPNOTSUPP, "io_uring_set_iowait", {
        hint: "IORING_ENTER_NO_IOWAIT needs Linux 6.15",
      });
    }
    if (enabled) this.enterFlags &= ~IORING_ENTER_NO_IOWAIT;
    else this.enterFlags |= IORING_ENTER_NO_IOWAIT;
  }

  /** Whether completions are looked for by the thread that enters: only then, and without a look at any time limit. */
  #polls(): boolean {
    return (this.flags & (IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL)) === IORING_SETUP_IOPOLL;
  }

  /** Polls until there are enough completions or the time is over, which the kernel does not look at. */
  #pollUntil(waitNr: number, { sec, nsec }: Timespec, options: WaitOptions): void {
    const span = sec * 1000 + nsec / 1e6;
    const end = options.absolute === true ? span : monotonicNow() + span;
    const half = monotonicNow() + (options.minWaitUsec ?? Infinity) / 1000;
    for (;;) {
      const ready = this.cqReady();
      const now = monotonicNow();
      if (ready >= waitNr || now >= end || (ready > 0 && now >= half)) return;
      this.getEvents();
    }
  }

  /** Fills in the argument that tells the kernel how to wait. */
  #argument(timeout: Timespec | null, { minWaitUsec = 0, sigmask }: WaitOptions): Pinned {
    if ((this.features & IORING_FEAT_EXT_ARG) === 0) this.fail(EINVAL, IORING_ENTER_EXT_ARG);
    if (minWaitUsec !== 0 && (this.features & IORING_FEAT_MIN_TIMEOUT) === 0) {
      throw new UringError(EINVAL, "io_uring_enter", { hint: "a minimum wait needs Linux 6.12" });
    }
    const arg = this.#waitArg ??= pinned(MASK_AT + MASK_SIZE);
    const view = new DataView(arg.bytes.buffer);
    const set64 = (at: number, value: bigint): void => view.setBigUint64(at, value, true);
    view.setUint32(io_uring_getevents_arg.min_wait_usec, minWaitUsec, true);
    set64(io_uring_getevents_arg.ts, timeout === null ? 0n : BigInt(arg.address + TIME_AT));
    if (timeout !== null) {
      view.setBigInt64(TIME_AT + __kernel_timespec.tv_sec, BigInt(timeout.sec), true);
      view.setBigInt64(TIME_AT + __kernel_timespec.tv_nsec, BigInt(timeout.nsec), true);
    }
    set64(io_uring_getevents_arg.sigmask, sigmask === undefined ? 0n : BigInt(arg.address + MASK_AT));
    view.setUint32(io_uring_getevents_arg.sigmask_sz, MASK_SIZE, true);
    if (sigmask !== undefined) set64(MASK_AT, sigmask);
    return arg;
  }

  /** Returns how many entries were taken, `ETIME` or `EINTR`; throws for every other failure. */
  #enterTimed(toSubmit: number, waitNr: number, flags: number, arg: Pinned): number {
    const all = flags | IORING_ENTER_EXT_ARG | this.enterFlags;
    const size = io_uring_getevents_arg.size;
    const result = this.#system.enterArg(this.enterFd, toSubmit, waitNr, all, arg, size);
    if (result === ETIME || result === EINTR) return result;
    if (result < 0) this.fail(result, all);
    this.taken(result);
    return result;
  }
}

/** The argument of a wait of at most so many microseconds, which after the first ones is content with what there is. */
function lingerArg(least: number, most: number): Pinned {
  const arg = pinned(MASK_AT);
  const view = new DataView(arg.bytes.buffer);
  view.setUint32(io_uring_getevents_arg.min_wait_usec, least, true);
  view.setBigUint64(io_uring_getevents_arg.ts, BigInt(arg.address + TIME_AT), true);
  view.setBigInt64(TIME_AT + __kernel_timespec.tv_nsec, BigInt(most * 1000), true);
  return arg;
}

function timerFlag(options: WaitOptions): number {
  return options.absolute === true ? IORING_ENTER_ABS_TIMER : 0;
}

/** Milliseconds of the clock that waits go by. */
function monotonicNow(): number {
  const time = new Uint8Array(new ArrayBuffer(__kernel_timespec.size));
  system().rare.clock_gettime(CLOCK_MONOTONIC, time);
  const view = new DataView(time.buffer);
  const at = (field: number): number => Number(view.getBigInt64(field, true));
  return at(__kernel_timespec.tv_sec) * 1000 + at(__kernel_timespec.tv_nsec) / 1e6;
}
