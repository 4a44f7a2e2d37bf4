/**
 * The two queues of a ring: getting entries, submitting, waiting, and taking completions.
 *
 * @module
 */
import type { Pinned } from "../ffi/adapter.ts";
import { ARCH } from "../ffi/arch.ts";
import {
  IORING_CQ_EVENTFD_DISABLED,
  IORING_CQE_F_32,
  IORING_CQE_F_SKIP,
  IORING_ENTER_ABS_TIMER,
  IORING_ENTER_EXT_ARG,
  IORING_ENTER_EXT_ARG_REG,
  IORING_ENTER_GETEVENTS,
  IORING_ENTER_REGISTERED_RING,
  IORING_ENTER_SQ_WAIT,
  IORING_ENTER_SQ_WAKEUP,
  IORING_FEAT_EXT_ARG,
  IORING_FEAT_MIN_TIMEOUT,
  IORING_SETUP_CQE_MIXED,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_NO_SQARRAY,
  IORING_SETUP_SQPOLL,
  IORING_SQ_CQ_OVERFLOW,
  IORING_SQ_NEED_WAKEUP,
  IORING_SQ_TASKRUN,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { pinned } from "../ffi/pin.ts";
import {
  __kernel_timespec,
  io_cqring_offsets,
  io_sqring_offsets,
  io_uring_getevents_arg,
  io_uring_params,
  io_uring_reg_wait,
} from "../ffi/structs.ts";
import { type System, system } from "../ffi/system.ts";
import { ENTER_FLAGS } from "../ffi/versions.ts";
import { Cqe } from "./cqe.ts";
import { lackingFlags } from "./lacking.ts";
import { cqeSize, type RingParts, sqeSize } from "./setup.ts";
import { Sqe } from "./sqe.ts";

/** A time span or a point in time: `struct __kernel_timespec`. */
export interface Timespec {
  /** Seconds. */
  readonly sec: number;
  /** Nanoseconds, below 10⁹. */
  readonly nsec: number;
}

// x86-64 keeps loads in order among themselves, and stores after them: there the completion queue's indices need no
// Atomics (7 ns each), which matters in small batches. Elsewhere they do.
const ORDERED = ARCH === "x86_64";

const EINTR = -4;
const EINVAL = -22;
const ETIME = -62;

/** The submission and the completion queue of one ring. */
export class RingQueues {
  /** The ring's descriptor; −1 once closed, and with `IORING_SETUP_REGISTERED_FD_ONLY`. */
  get fd(): number {
    return this.ringFd;
  }
  /** The `IORING_SETUP_*` flags in force. */
  readonly flags: number;
  /** The kernel's `IORING_FEAT_*` bits. */
  readonly features: number;
  /** How many entries the submission queue has. */
  readonly sqEntries!: number;
  /** How many entries the completion queue has. */
  readonly cqEntries!: number;

  /** @internal */
  protected ringFd: number;
  /** What `io_uring_enter` is called with: the descriptor, or its registered index. @internal */
  protected enterFd: number;
  /** Flags that every enter has. @internal */
  protected enterFlags: number = 0;

  readonly #system: System = system();
  #sqWords!: Int32Array;
  #cqWords!: Int32Array;
  #sqHeadAt!: number;
  #sqTailAt!: number;
  #sqFlagsAt!: number;
  #sqDroppedAt!: number;
  #cqHeadAt!: number;
  #cqTailAt!: number;
  #cqOverflowAt!: number;
  #cqFlagsAt!: number;
  #sqMask!: number;
  #cqMask!: number;
  #sqeWords!: Int32Array;
  #sqes: Sqe[] = [];
  #cqes: Cqe[] = [];
  #cursor!: Cqe;
  #cqesAt = 0;
  #cqeShift = 0;
  readonly #sqpoll: boolean;
  readonly #mustEnter: boolean;
  readonly #mixed: boolean;
  // What the kernel has consumed as far as is known, and what was handed out by getSqe.
  #sqHead = 0;
  #sqTail = 0;
  #cqHead = 0;
  #waitArg: Pinned | null = null;

  /** @internal */
  protected constructor(parts: RingParts) {
    const { params, flags } = parts;
    this.ringFd = parts.fd;
    this.enterFd = parts.fd;
    if (parts.registeredFd >= 0) {
      this.enterFd = parts.registeredFd;
      this.enterFlags = IORING_ENTER_REGISTERED_RING;
    }
    this.flags = flags;
    this.features = params.getUint32(io_uring_params.features, true);
    this.#sqpoll = (flags & IORING_SETUP_SQPOLL) !== 0;
    this.#mustEnter = (flags & IORING_SETUP_IOPOLL) !== 0;
    this.#mixed = (flags & IORING_SETUP_CQE_MIXED) !== 0;
    this.#layOver(parts);
  }

  /** Lays the queues over a ring's memory. */
  #layOver(parts: RingParts): void {
    const { params, sqRing, cqRing, sqes, flags } = parts;
    const get = (offset: number): number => params.getUint32(offset, true);
    const sqAt = (field: number): number => get(io_uring_params.sq_off + field) >> 2;
    const cqAt = (field: number): number => get(io_uring_params.cq_off + field) >> 2;
    (this as { sqEntries: number }).sqEntries = get(io_uring_params.sq_entries);
    (this as { cqEntries: number }).cqEntries = get(io_uring_params.cq_entries);
    this.#sqWords = new Int32Array(sqRing.buffer, 0, sqRing.byteLength >> 2);
    this.#cqWords = sqRing === cqRing
      ? this.#sqWords
      : new Int32Array(cqRing.buffer, 0, cqRing.byteLength >> 2);
    this.#sqHeadAt = sqAt(io_sqring_offsets.head);
    this.#sqTailAt = sqAt(io_sqring_offsets.tail);
    this.#sqFlagsAt = sqAt(io_sqring_offsets.flags);
    this.#sqDroppedAt = sqAt(io_sqring_offsets.dropped);
    this.#cqHeadAt = cqAt(io_cqring_offsets.head);
    this.#cqTailAt = cqAt(io_cqring_offsets.tail);
    this.#cqOverflowAt = cqAt(io_cqring_offsets.overflow);
    this.#cqFlagsAt = cqAt(io_cqring_offsets.flags);
    this.#sqMask = this.#sqWords[sqAt(io_sqring_offsets.ring_mask)]!;
    this.#cqMask = this.#cqWords[cqAt(io_cqring_offsets.ring_mask)]!;
    this.#makeViews(sqes.buffer, cqAt(io_cqring_offsets.cqes));
    if ((flags & IORING_SETUP_NO_SQARRAY) === 0) {
      // Entry n always stands in slot n: the indirection is filled in once.
      const array = sqAt(io_sqring_offsets.array);
      for (let i = 0; i < this.sqEntries; i++) this.#sqWords[array + i] = i;
    }
  }

  #makeViews(sqes: ArrayBuffer, cqesAt: number): void {
    const sqeBytes = sqeSize(this.flags);
    const words = new Int32Array(sqes, 0, this.sqEntries * sqeBytes >> 2);
    this.#sqeWords = words;
    this.#sqes = [];
    for (let i = 0; i < this.sqEntries; i++) {
      this.#sqes.push(new Sqe(words, i * sqeBytes >> 2, sqeBytes));
    }
    const cqeWords = cqeSize(this.flags) >> 2;
    this.#cqesAt = cqesAt;
    this.#cqeShift = Math.log2(cqeWords);
    this.#cursor = new Cqe(this.#cqWords, cqesAt);
    this.#cqes = [];
    for (let i = 0; i < this.cqEntries; i++) this.#cqes.push(new Cqe(this.#cqWords, cqesAt + i * cqeWords));
  }

  /** Shows the kernel every entry handed out so far, so that a resize takes them along. @internal */
  protected publish(): void {
    Atomics.store(this.#sqWords, this.#sqTailAt, this.#sqTail);
  }

  /** Moves the queues into the memory that a resize has made, with all that is in them. @internal */
  protected moveInto(parts: RingParts): void {
    const [sqeWords, sqMask] = [this.#sqeWords, this.#sqMask];
    const [cqWords, cqMask, cqesAt] = [this.#cqWords, this.#cqMask, this.#cqesAt];
    const cqTail = Atomics.load(cqWords, this.#cqTailAt);
    this.#layOver(parts);
    // The kernel has copied them, too, but some versions take entries for 64 bytes and completions for 16 always.
    const sqeSlot = sqeSize(this.flags) >> 2;
    for (let i = this.#sqHead; i !== this.#sqTail; i = (i + 1) | 0) {
      const from = (i & sqMask) * sqeSlot;
      this.#sqeWords.set(sqeWords.subarray(from, from + sqeSlot), (i & this.#sqMask) * sqeSlot);
    }
    for (let i = this.#cqHead; i !== cqTail; i = (i + 1) | 0) {
      const from = cqesAt + ((i & cqMask) << this.#cqeShift);
      const slot = cqWords.subarray(from, from + (1 << this.#cqeShift));
      this.#cqWords.set(slot, this.#cqesAt + ((i & this.#cqMask) << this.#cqeShift));
    }
  }

  /** Throws once the ring is closed: its memory is gone. @internal */
  protected assertOpen(): void {
    if (this.enterFd < 0) throw new TypeError("The ring is closed");
  }

  /** Makes every further use throw. @internal */
  protected retire(): void {
    this.ringFd = -1;
    this.enterFd = -1;
    // No free entry as far as getSqe's fast path can tell.
    this.#sqHead = (this.#sqTail - this.sqEntries) | 0;
  }

  /** The next free submission entry, cleared except for its `user_data`, or null when the queue is full. */
  getSqe(): Sqe | null {
    const tail = this.#sqTail;
    if (((tail - this.#sqHead) | 0) >= this.sqEntries && this.#isFull(tail)) return null;
    this.#sqTail = (tail + 1) | 0;
    const sqe = this.#sqes[tail & this.#sqMask]!;
    sqe.clear();
    return sqe;
  }

  #isFull(tail: number): boolean {
    this.assertOpen();
    this.#sqHead = Atomics.load(this.#sqWords, this.#sqHeadAt);
    return ((tail - this.#sqHead) | 0) >= this.sqEntries;
  }

  /** How many entries wait to be submitted or, with SQPOLL, to be consumed. */
  sqReady(): number {
    this.assertOpen();
    if (this.#sqpoll) this.#sqHead = Atomics.load(this.#sqWords, this.#sqHeadAt);
    return (this.#sqTail - this.#sqHead) | 0;
  }

  /** How many entries `getSqe` will still give out. */
  sqSpaceLeft(): number {
    return this.sqEntries - this.sqReady();
  }

  /** How many entries the kernel dropped because their index was invalid: always 0 through this class. */
  sqDropped(): number {
    return Atomics.load(this.#sqWords, this.#sqDroppedAt) >>> 0;
  }

  /** Tells the kernel of new entries without waiting: `io_uring_submit`. Returns how many it took. */
  submit(): number {
    return this.#submit(0, 0);
  }

  /**
   * Submits and waits for at least `waitNr` completions: `io_uring_submit_and_wait`. Returns how many entries the
   * kernel took. A signal can end the wait early once something was submitted.
   */
  submitAndWait(waitNr: number): number {
    return this.#submit(waitNr, IORING_ENTER_GETEVENTS);
  }

  /** Submits and runs the kernel's deferred work for this ring: `io_uring_submit_and_get_events`. */
  submitAndGetEvents(): number {
    return this.#submit(0, IORING_ENTER_GETEVENTS);
  }

  /** Runs the kernel's deferred work and flushes an overflow, without submitting: `io_uring_get_events`. */
  getEvents(): void {
    this.#enter(0, 0, IORING_ENTER_GETEVENTS);
  }

  /**
   * Submits and waits for `waitNr` completions or until the time is over: `io_uring_submit_and_wait_timeout`, Linux
   * 5.11. Returns how many entries were taken, whether the time ran out or not: `cqReady()` tells.
   *
   * @param waitNr How many completions to wait for.
   * @param timeout How long, or null for ever.
   * @param options `absolute`: the time is a point of the ring's clock (Linux 6.12). `minWaitUsec`: microseconds to
   * wait for all of `waitNr`; after these one completion is enough (Linux 6.12).
   */
  submitAndWaitTimeout(
    waitNr: number,
    timeout: Timespec | null,
    options: { absolute?: boolean; minWaitUsec?: number } = {},
  ): number {
    const toSubmit = this.#flush();
    const absolute = options.absolute === true ? IORING_ENTER_ABS_TIMER : 0;
    const flags = IORING_ENTER_GETEVENTS | absolute;
    const usec = options.minWaitUsec ?? 0;
    const submitted = this.#enterTimed(toSubmit, waitNr, flags | this.#wakeFlag(), timeout, usec);
    // A timeout that fires ends the wait, and with SQPOLL that is a moment before its completion is there.
    while (timeout === null && waitNr > 0 && this.cqReady() === 0) this.#enterTimed(0, 1, flags, null, 0);
    return Math.max(submitted, 0);
  }

  /**
   * {@link RingQueues.submitAndWaitTimeout} as a registered wait says: `io_uring_submit_and_wait_reg`, Linux 6.13. The
   * kernel reads the time limit from memory that it has mapped, which is cheaper than to copy it for every call.
   *
   * @param waitNr How many completions to wait for.
   * @param regIndex Which of the waits in the ring's memory region (`ring.registerWaitReg`).
   */
  submitAndWaitReg(waitNr: number, regIndex: number): number {
    // Before anything is published: what is queued stays queued.
    if ((this.features & IORING_FEAT_EXT_ARG) === 0) this.#fail(EINVAL, IORING_ENTER_EXT_ARG_REG);
    const toSubmit = this.#flush();
    const flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | IORING_ENTER_EXT_ARG_REG;
    const all = flags | this.#wakeFlag() | this.enterFlags;
    const size = io_uring_reg_wait.size;
    const result = this.#system.enterOffset(this.enterFd, toSubmit, waitNr, all, regIndex * size, size);
    if (result === ETIME || result === EINTR) return 0;
    if (result < 0) this.#fail(result, all);
    if (!this.#sqpoll) this.#sqHead = (this.#sqHead + result) | 0;
    return result;
  }

  /** Waits until the SQPOLL thread has consumed an entry: `io_uring_sqring_wait`, Linux 5.10. */
  sqringWait(): void {
    // The kernel may return early, when other work of this thread's is to be done.
    while (this.#sqpoll && this.sqSpaceLeft() === 0) this.#enter(0, 0, IORING_ENTER_SQ_WAIT);
  }

  /** How many completions are there. */
  cqReady(): number {
    this.assertOpen();
    return (Atomics.load(this.#cqWords, this.#cqTailAt) - this.#cqHead) | 0;
  }

  /** Whether completions wait in the kernel for room in the queue: `io_uring_cq_has_overflow`. */
  cqHasOverflow(): boolean {
    this.assertOpen();
    return (Atomics.load(this.#sqWords, this.#sqFlagsAt) & IORING_SQ_CQ_OVERFLOW) !== 0;
  }

  /** How many completions were lost; 0 on a kernel with `IORING_FEAT_NODROP`, which keeps them. */
  cqOverflowed(): number {
    return Atomics.load(this.#cqWords, this.#cqOverflowAt) >>> 0;
  }

  /** Whether an enter is needed to see completions: overflow, or deferred work announced by `IORING_SQ_TASKRUN`. */
  cqNeedsEnter(): boolean {
    const flags = Atomics.load(this.#sqWords, this.#sqFlagsAt);
    return this.#mustEnter || (flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) !== 0;
  }

  /** Whether completions signal the registered eventfd: `io_uring_cq_eventfd_enabled`. */
  cqEventfdEnabled(): boolean {
    return (Atomics.load(this.#cqWords, this.#cqFlagsAt) & IORING_CQ_EVENTFD_DISABLED) === 0;
  }

  /** Switches the registered eventfd on and off without a system call: `io_uring_cq_eventfd_toggle`, Linux 5.8. */
  cqEventfdToggle(enabled: boolean): void {
    const flags = this.#cqWords[this.#cqFlagsAt]!;
    const next = enabled ? flags & ~IORING_CQ_EVENTFD_DISABLED : flags | IORING_CQ_EVENTFD_DISABLED;
    Atomics.store(this.#cqWords, this.#cqFlagsAt, next);
  }

  /** The oldest completion, or null when there is none: `io_uring_peek_cqe`. It stays until advanced past. */
  peekCqe(): Cqe | null {
    if (this.cqReady() === 0) {
      if (!this.cqNeedsEnter()) return null;
      this.getEvents();
    }
    this.#skipFiller();
    return this.cqReady() === 0 ? null : this.#cqes[this.#cqHead & this.#cqMask]!;
  }

  /**
   * Puts up to `cqes.length` completions into `cqes`, oldest first, and returns how many: `io_uring_peek_batch_cqe`. On a
   * mixed ring the fillers (`IORING_CQE_F_SKIP`) are among them.
   */
  peekBatchCqe(cqes: (Cqe | undefined)[]): number {
    this.assertOpen();
    if (this.cqReady() === 0 && this.cqNeedsEnter()) this.getEvents();
    let count = 0;
    let head = this.#cqHead;
    const tail = Atomics.load(this.#cqWords, this.#cqTailAt);
    while (count < cqes.length && head !== tail) {
      const cqe = this.#cqes[head & this.#cqMask]!;
      cqes[count++] = cqe;
      head = (head + this.#slots(cqe)) | 0;
    }
    return count;
  }

  /** The oldest completion, waited for: `io_uring_wait_cqe`. */
  waitCqe(): Cqe {
    return this.waitCqeNr(1);
  }

  /** Waits until `waitNr` completions are there and returns the oldest: `io_uring_wait_cqe_nr`. */
  waitCqeNr(waitNr: number): Cqe {
    while (this.cqReady() < waitNr) this.#enter(0, waitNr, IORING_ENTER_GETEVENTS);
    return this.peekCqe()!;
  }

  /** The oldest completion, or null when none came in time: `io_uring_wait_cqe_timeout`, Linux 5.11. */
  waitCqeTimeout(timeout: Timespec): Cqe | null {
    // 0 and no completion: a timeout has fired, and the SQPOLL thread is about to post it.
    while (this.cqReady() === 0) {
      if (this.#enterTimed(0, 1, IORING_ENTER_GETEVENTS, timeout, 0) < 0) break;
    }
    return this.peekCqe();
  }

  /** Marks one completion as done: `io_uring_cqe_seen`. */
  cqeSeen(cqe: Cqe): void {
    this.cqAdvance(this.#slots(cqe));
  }

  /** Marks the `count` oldest completions as done, in queue slots (a big one of a mixed ring takes two). */
  cqAdvance(count: number): void {
    this.assertOpen();
    if (count === 0) return;
    this.#cqHead = (this.#cqHead + count) | 0;
    Atomics.store(this.#cqWords, this.#cqHeadAt, this.#cqHead);
  }

  /**
   * Visits every completion that is there, oldest first, advances past those visited, and returns how many they were:
   * `io_uring_for_each_cqe` and `io_uring_cq_advance`. When `visit` throws, the one it threw at counts as visited.
   *
   * All visits get the same object, which moves along: read it, do not keep it, and do not call this from within `visit`.
   */
  forEachCqe(visit: (cqe: Cqe) => void): number {
    const first = this.#cqHead;
    let tail = ORDERED ? this.#cqWords[this.#cqTailAt]! : first;
    // An engine may keep a plain load's value through a polling loop, so "nothing there" is only believed from Atomics.
    if (((tail - first) | 0) <= 0) tail = this.#cqTail();
    if (this.#mixed) return this.#forEachMixed(visit, tail);
    // One object that moves along stays in the cache; one per slot would not.
    const cursor = this.#cursor;
    const at = this.#cqesAt;
    const shift = this.#cqeShift;
    const mask = this.#cqMask;
    let head = first;
    try {
      while (head !== tail) {
        cursor.moveTo((at + ((head & mask) << shift)) | 0);
        head = (head + 1) | 0;
        visit(cursor);
      }
    } finally {
      this.#cqHead = head;
      if (ORDERED) this.#cqWords[this.#cqHeadAt] = head;
      else Atomics.store(this.#cqWords, this.#cqHeadAt, head);
    }
    return (head - first) | 0;
  }

  #cqTail(): number {
    this.assertOpen();
    return Atomics.load(this.#cqWords, this.#cqTailAt);
  }

  #forEachMixed(visit: (cqe: Cqe) => void, tail: number): number {
    let visited = 0;
    try {
      while (this.#cqHead !== tail) {
        const cqe = this.#cqes[this.#cqHead & this.#cqMask]!;
        this.#cqHead = (this.#cqHead + this.#slots(cqe)) | 0;
        if ((cqe.flags & IORING_CQE_F_SKIP) !== 0) continue;
        visited++;
        visit(cqe);
      }
    } finally {
      Atomics.store(this.#cqWords, this.#cqHeadAt, this.#cqHead);
    }
    return visited;
  }

  // A mixed ring fills the last slot with a filler when a big completion would wrap.
  #skipFiller(): void {
    if (!this.#mixed) return;
    while (this.cqReady() > 0) {
      const cqe = this.#cqes[this.#cqHead & this.#cqMask]!;
      if ((cqe.flags & IORING_CQE_F_SKIP) === 0) return;
      this.cqAdvance(1);
    }
  }

  #slots(cqe: Cqe): number {
    return this.#mixed && (cqe.flags & IORING_CQE_F_32) !== 0 ? 2 : 1;
  }

  #submit(waitNr: number, flags: number): number {
    if (this.#sqpoll) return this.#submitToThread(waitNr, flags);
    const words = this.#sqWords;
    const tail = this.#sqTail;
    // Without a kernel thread, only the system call that follows on this very thread reads the tail.
    words[this.#sqTailAt] = tail;
    const toSubmit = (tail - this.#sqHead) | 0;
    const all = flags | this.#fetchFlag(words[this.#sqFlagsAt]!);
    return toSubmit === 0 && all === 0 ? 0 : this.#enter(toSubmit, waitNr, all);
  }

  /** As in liburing, what waits for an enter is fetched on the way. What a plain load misses, the next one sees. */
  #fetchFlag(sqFlags: number): number {
    const pending = (sqFlags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) !== 0 || this.#mustEnter;
    return pending ? IORING_ENTER_GETEVENTS : 0;
  }

  #submitToThread(waitNr: number, flags: number): number {
    const toSubmit = this.#flush();
    const all = this.#wakeFlag() | this.#fetchFlag(this.#sqWords[this.#sqFlagsAt]!);
    if (all !== 0 || waitNr !== 0) this.#enter(toSubmit, waitNr, flags | all);
    return toSubmit;
  }

  /** Publishes the entries handed out so far and returns how many the kernel has not taken yet. */
  #flush(): number {
    this.assertOpen();
    const tail = this.#sqTail;
    Atomics.store(this.#sqWords, this.#sqTailAt, tail);
    if (this.#sqpoll) this.#sqHead = Atomics.load(this.#sqWords, this.#sqHeadAt);
    return (tail - this.#sqHead) | 0;
  }

  #wakeFlag(): number {
    if (!this.#sqpoll) return 0;
    return (Atomics.load(this.#sqWords, this.#sqFlagsAt) & IORING_SQ_NEED_WAKEUP) !== 0
      ? IORING_ENTER_SQ_WAKEUP
      : 0;
  }

  #enter(toSubmit: number, minComplete: number, flags: number): number {
    const result = this.#system.enter(this.enterFd, toSubmit, minComplete, flags | this.enterFlags);
    if (result < 0) return this.#enterAnew(result, toSubmit, minComplete, flags);
    if (!this.#sqpoll) this.#sqHead = (this.#sqHead + result) | 0;
    return result;
  }

  /** After a failure: a signal that came before anything was done is nobody's business. */
  #enterAnew(result: number, toSubmit: number, minComplete: number, flags: number): number {
    this.assertOpen();
    return result === EINTR ? this.#enter(toSubmit, minComplete, flags) : this.#fail(result, flags);
  }

  /** Returns how many entries were taken, `ETIME` or `EINTR`; throws for every other failure. */
  #enterTimed(
    toSubmit: number,
    waitNr: number,
    flags: number,
    timeout: Timespec | null,
    minWaitUsec: number,
  ): number {
    if ((this.features & IORING_FEAT_EXT_ARG) === 0) {
      this.#fail(EINVAL, IORING_ENTER_EXT_ARG);
    }
    if (minWaitUsec !== 0 && (this.features & IORING_FEAT_MIN_TIMEOUT) === 0) {
      throw new UringError(EINVAL, "io_uring_enter", { hint: "a minimum wait needs Linux 6.12" });
    }
    const size = io_uring_getevents_arg.size;
    const arg = this.#waitArg ??= pinned(size + __kernel_timespec.size);
    const view = new DataView(arg.bytes.buffer);
    view.setUint32(io_uring_getevents_arg.min_wait_usec, minWaitUsec, true);
    view.setBigUint64(io_uring_getevents_arg.ts, timeout === null ? 0n : BigInt(arg.address + size), true);
    if (timeout !== null) {
      view.setBigInt64(size + __kernel_timespec.tv_sec, BigInt(timeout.sec), true);
      view.setBigInt64(size + __kernel_timespec.tv_nsec, BigInt(timeout.nsec), true);
    }
    const all = flags | IORING_ENTER_EXT_ARG | this.enterFlags;
    const result = this.#system.enterArg(this.enterFd, toSubmit, waitNr, all, arg, size);
    if (result === ETIME || result === EINTR) return result;
    if (result < 0) this.#fail(result, all);
    if (!this.#sqpoll) this.#sqHead = (this.#sqHead + result) | 0;
    return result;
  }

  #fail(result: number, flags: number): never {
    // What a failing call has consumed all the same is only to be seen in the shared word.
    if (this.ringFd >= 0) this.#sqHead = Atomics.load(this.#sqWords, this.#sqHeadAt);
    const hint = result === EINVAL ? lackingFlags(ENTER_FLAGS, flags) : undefined;
    throw new UringError(result, "io_uring_enter", { hint });
  }
}
