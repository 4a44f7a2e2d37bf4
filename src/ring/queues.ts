/**
 * The two queues of a ring: getting entries, submitting, and taking completions. Waiting with conditions is in
 * `waits.ts`.
 *
 * @module
 */
import { ARCH } from "../ffi/arch.ts";
import {
  IORING_CQE_F_SKIP,
  IORING_ENTER_GETEVENTS,
  IORING_ENTER_REGISTERED_RING,
  IORING_ENTER_SQ_WAKEUP,
  IORING_SETUP_CQE_MIXED,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SQ_REWIND,
  IORING_SETUP_SQE128,
  IORING_SETUP_SQE_MIXED,
  IORING_SETUP_SQPOLL,
  IORING_SQ_CQ_OVERFLOW,
  IORING_SQ_NEED_WAKEUP,
  IORING_SQ_TASKRUN,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_IO_HARDLINK,
  IOSQE_IO_LINK,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { io_uring_params } from "../ffi/structs.ts";
import { type System, system } from "../ffi/system.ts";
import { ENTER_FLAGS } from "../ffi/versions.ts";
import { Cqe, cqeNr } from "./cqe.ts";
import { lackingFlags } from "./lacking.ts";
import {
  copyCompletions,
  copySubmissions,
  layOut,
  type RingLayout,
  splitsCompletion,
  splitsSubmission,
} from "./layout.ts";
import type { RingParts } from "./setup.ts";
import type { Sqe } from "./sqe.ts";

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
  /** Where everything lies. @internal */
  protected layout!: RingLayout;
  #sqWords!: Int32Array;
  #cqWords!: Int32Array;
  #sqHeadAt!: number;
  #sqTailAt!: number;
  #sqFlagsAt!: number;
  #cqHeadAt!: number;
  #cqTailAt!: number;
  #sqMask!: number;
  #cqMask!: number;
  #sqes: Sqe[] = [];
  #cqes: Cqe[] = [];
  #cursor!: Cqe;
  #cqesAt = 0;
  #cqeShift = 0;
  readonly #sqpoll: boolean;
  readonly #rewinds: boolean;
  // Whether the queue of submissions is another than the usual one: all of that is out of the way of the hot path.
  readonly #special: boolean;
  readonly #mustEnter: boolean;
  readonly #mixed: boolean;
  // What the kernel has consumed as far as is known, and what was handed out by getSqe.
  #sqHead = 0;
  #sqTail = 0;
  // Where the big entry that was handed out last ends.
  #bigEnd = -1;
  #cqHead = 0;

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
    this.#rewinds = (flags & IORING_SETUP_SQ_REWIND) !== 0;
    this.#special = this.#sqpoll || this.#rewinds;
    this.#mustEnter = (flags & (IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL)) === IORING_SETUP_IOPOLL;
    this.#mixed = (flags & IORING_SETUP_CQE_MIXED) !== 0;
    this.#layOver(parts);
  }

  #layOver(parts: RingParts): void {
    const layout = layOut(parts);
    this.layout = layout;
    (this as { sqEntries: number }).sqEntries = layout.sqEntries;
    (this as { cqEntries: number }).cqEntries = layout.cqEntries;
    this.#sqWords = layout.sqWords;
    this.#cqWords = layout.cqWords;
    this.#sqHeadAt = layout.sqHeadAt;
    this.#sqTailAt = layout.sqTailAt;
    this.#sqFlagsAt = layout.sqFlagsAt;
    this.#cqHeadAt = layout.cqHeadAt;
    this.#cqTailAt = layout.cqTailAt;
    this.#sqMask = layout.sqEntries - 1;
    this.#cqMask = layout.cqEntries - 1;
    this.#cqesAt = layout.cqesAt;
    this.#cqeShift = layout.cqeShift;
    this.#sqes = layout.sqes;
    this.#cqes = layout.cqes;
    this.#cursor = new Cqe(layout.cqWords, layout.cqesAt);
  }

  /** Shows the kernel every entry handed out so far, so that a resize takes them along. @internal */
  protected publish(): void {
    Atomics.store(this.#sqWords, this.#sqTailAt, this.#sqTail);
  }

  /** Whether something in the queues that takes two slots would wrap around in queues of this size. @internal */
  protected wouldSplit(sqEntries: number, cqEntries: number): boolean {
    const { layout } = this;
    if ((this.flags & IORING_SETUP_SQE_MIXED) !== 0) {
      if (splitsSubmission(layout, sqEntries, this.#sqHead, this.#sqTail)) return true;
    }
    const tail = Atomics.load(this.#cqWords, this.#cqTailAt);
    return this.#mixed && splitsCompletion(layout, cqEntries, this.#cqHead, tail);
  }

  /** Moves the queues into the memory that a resize has made, with all that is in them. @internal */
  protected moveInto(parts: RingParts): void {
    const before = this.layout;
    const cqTail = Atomics.load(before.cqWords, before.cqTailAt);
    this.#layOver(parts);
    copySubmissions(before, this.layout, this.#sqHead, this.#sqTail);
    copyCompletions(before, this.layout, this.#cqHead, cqTail);
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

  /**
   * The next free submission entry of 128 bytes, cleared as {@link RingQueues.getSqe}'s is, or null when there is no room:
   * `io_uring_get_sqe128`. On a ring with `IORING_SETUP_SQE_MIXED` (Linux 6.19) it takes two slots, for an operation with
   * that size in its name (`prepNop128`, `prepUringCmd128`). With `IORING_SETUP_SQE128` (Linux 5.19) every entry is one.
   *
   * An entry cannot wrap around: when only the last slot is left before the queue's end, a NOP without a completion fills
   * it. It carries a link on, and when that chain is cancelled its completion does come: `user_data` 0.
   *
   * @throws TypeError on a ring with neither flag.
   */
  getSqe128(): Sqe | null {
    if ((this.flags & IORING_SETUP_SQE128) !== 0) return this.getSqe();
    if ((this.flags & IORING_SETUP_SQE_MIXED) === 0) {
      throw new TypeError("Entries of 128 bytes need IORING_SETUP_SQE_MIXED or IORING_SETUP_SQE128");
    }
    const wraps = (this.#sqTail & this.#sqMask) === this.#sqMask;
    if (this.sqSpaceLeft() < (wraps ? 3 : 2)) return null;
    if (wraps) this.#fill();
    const slot = this.#sqTail & this.#sqMask;
    this.#sqTail = this.#bigEnd = (this.#sqTail + 2) | 0;
    // Both views of the slots must not take them for clean afterwards.
    this.#sqes[slot]!.soil();
    this.#sqes[slot + 1]!.soil();
    const sqe = this.layout.bigSqes[slot]!;
    sqe.soil();
    sqe.clear();
    return sqe;
  }

  /** Takes the queue's last slot for a NOP, which is linked as the entry before it is. */
  #fill(): void {
    const tail = this.#sqTail;
    const before = (tail - (tail === this.#bigEnd ? 2 : 1)) & this.#sqMask;
    const link = this.sqReady() === 0 ? 0 : this.#sqes[before]!.flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK);
    const filler = this.getSqe()!;
    filler.prepNop();
    filler.userData = 0;
    filler.flags = IOSQE_CQE_SKIP_SUCCESS | link;
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

  /** How many completions are there. */
  cqReady(): number {
    this.assertOpen();
    return (Atomics.load(this.#cqWords, this.#cqTailAt) - this.#cqHead) | 0;
  }

  /** Whether an enter is needed to see completions: overflow, or deferred work announced by `IORING_SQ_TASKRUN`. */
  cqNeedsEnter(): boolean {
    const flags = Atomics.load(this.#sqWords, this.#sqFlagsAt);
    return this.#mustEnter || (flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) !== 0;
  }

  /** The oldest completion, or null when there is none: `io_uring_peek_cqe`. It stays until advanced past. */
  peekCqe(): Cqe | null {
    return this.#fetch() === 0 ? null : this.#cqes[this.#cqHead & this.#cqMask]!;
  }

  /**
   * Puts up to `cqes.length` completions into `cqes`, oldest first, and returns how many: `io_uring_peek_batch_cqe`. On a
   * mixed ring a filler (`IORING_CQE_F_SKIP`) ends the batch; the next call skips it.
   */
  peekBatchCqe(cqes: (Cqe | undefined)[]): number {
    const ready = this.#fetch();
    let count = 0;
    let taken = 0;
    while (count < cqes.length && taken !== ready) {
      const cqe = this.#cqes[(this.#cqHead + taken) & this.#cqMask]!;
      if (this.#mixed && (cqe.flags & IORING_CQE_F_SKIP) !== 0) break;
      cqes[count++] = cqe;
      taken += this.#slots(cqe);
    }
    return count;
  }

  /** How many slots of the queue are taken, the oldest by no filler, after a look into the kernel when there were none. */
  #fetch(): number {
    let ready = this.#readyAfterFiller();
    if (ready === 0 && this.cqNeedsEnter()) {
      this.getEvents();
      ready = this.#readyAfterFiller();
    }
    return ready;
  }

  /** Marks one completion as done: `io_uring_cqe_seen`. */
  cqeSeen(cqe: Cqe): void {
    this.cqAdvance(this.#slots(cqe));
  }

  /**
   * Marks the `count` oldest completions as done, in queue slots: `io_uring_cq_advance`. A big one of a mixed ring takes
   * two ({@link cqeNr}).
   */
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

  /**
   * How many slots are taken, once the filler is skipped that a mixed ring puts into the last one when a big completion would
   * wrap. What comes in the meantime is not counted: it may begin with another.
   */
  #readyAfterFiller(): number {
    let ready = this.cqReady();
    if (!this.#mixed) return ready;
    for (; ready > 0; ready--) {
      const cqe = this.#cqes[this.#cqHead & this.#cqMask]!;
      if ((cqe.flags & IORING_CQE_F_SKIP) === 0) break;
      this.cqAdvance(1);
    }
    return ready;
  }

  #slots(cqe: Cqe): number {
    return this.#mixed ? cqeNr(cqe) : 1;
  }

  #submit(waitNr: number, flags: number): number {
    if (this.#special) return this.#submitSpecially(waitNr, flags);
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

  #submitSpecially(waitNr: number, flags: number): number {
    const toSubmit = this.flush();
    const all = this.wakeFlag() | this.#fetchFlag(this.#sqWords[this.#sqFlagsAt]!);
    if (!this.#sqpoll) {
      return toSubmit === 0 && (flags | all) === 0 ? 0 : this.#enter(toSubmit, waitNr, flags | all);
    }
    if (all !== 0 || waitNr !== 0) this.#enter(toSubmit, waitNr, flags | all);
    return toSubmit;
  }

  /** Publishes the entries handed out so far and returns how many the kernel has not taken yet. @internal */
  protected flush(): number {
    this.assertOpen();
    const tail = this.#sqTail;
    // Where each submission begins at the first entry, the kernel looks at neither index.
    if (this.#rewinds) return tail;
    Atomics.store(this.#sqWords, this.#sqTailAt, tail);
    if (this.#sqpoll) this.#sqHead = Atomics.load(this.#sqWords, this.#sqHeadAt);
    return (tail - this.#sqHead) | 0;
  }

  /** The flag that wakes a kernel thread that sleeps. @internal */
  protected wakeFlag(): number {
    if (!this.#sqpoll) return 0;
    return (Atomics.load(this.#sqWords, this.#sqFlagsAt) & IORING_SQ_NEED_WAKEUP) !== 0
      ? IORING_ENTER_SQ_WAKEUP
      : 0;
  }

  /** Counts what an enter has taken. @internal */
  protected taken(count: number): void {
    if (this.#sqpoll || count === 0) return;
    if (!this.#rewinds) {
      this.#sqHead = (this.#sqHead + count) | 0;
      return;
    }
    // The next submission begins at the first entry again: what was left over has to stand there.
    const left = this.#sqTail - count;
    const { sqeWords, sqeSlot } = this.layout;
    sqeWords.copyWithin(0, count * sqeSlot, this.#sqTail * sqeSlot);
    for (let i = 0; i < left; i++) this.#sqes[i]!.soil();
    if (this.#bigEnd === this.#sqTail) this.#bigEnd = left;
    this.#sqTail = left;
  }

  /** `io_uring_enter`, again when a signal came before anything was done. @internal */
  protected enterAgain(toSubmit: number, minComplete: number, flags: number): number {
    return this.#enter(toSubmit, minComplete, flags);
  }

  #enter(toSubmit: number, minComplete: number, flags: number): number {
    const result = this.#system.enter(this.enterFd, toSubmit, minComplete, flags | this.enterFlags);
    if (result < 0) return this.#enterAnew(result, toSubmit, minComplete, flags);
    if (this.#special) this.taken(result);
    else this.#sqHead = (this.#sqHead + result) | 0;
    return result;
  }

  /** After a failure: a signal that came before anything was done is nobody's business. */
  #enterAnew(result: number, toSubmit: number, minComplete: number, flags: number): number {
    this.assertOpen();
    return result === EINTR ? this.#enter(toSubmit, minComplete, flags) : this.fail(result, flags);
  }

  /** Throws for a failed enter. @internal */
  protected fail(result: number, flags: number): never {
    // What a failing call has consumed all the same is only to be seen in the shared word.
    if (this.enterFd >= 0) this.#sqHead = Atomics.load(this.#sqWords, this.#sqHeadAt);
    const hint = result === EINVAL ? lackingFlags(ENTER_FLAGS, flags) : undefined;
    throw new UringError(result, "io_uring_enter", { hint });
  }
}
