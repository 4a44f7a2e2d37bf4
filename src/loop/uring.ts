/**
 * `Uring`: io_uring with promises.
 *
 * @module
 */
import {
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_TASKRUN_FLAG,
} from "../ffi/abi.ts";
import { check, UringError, UringUnavailableError } from "../ffi/errors.ts";
import { sockaddr_storage } from "../ffi/structs.ts";
import { adapter, system } from "../ffi/system.ts";
import { CoreRing } from "../ring/core_ring.ts";
import type { OperationFilter } from "../ring/operation_filter.ts";
import type { RingOptions } from "../ring/setup.ts";
import { Chain, type LinkOptions } from "./chain.ts";
import { DirectTable } from "./direct.ts";
import { Driver } from "./driver.ts";
import { checkTableSize } from "./registered_buffer.ts";
import { rights, severalCores } from "./process.ts";
import { Resources } from "./resources.ts";
import type { Op } from "./op.ts";
import type { OperationOptions } from "./options.ts";
import { decodeAddress, type SocketAddress } from "./sockaddr.ts";
import { waker } from "./waker.ts";
import { type Lane, type WholeFile, WholeFiles } from "./whole_files.ts";

/** How a {@link Uring} is made. */
export interface UringOptions extends RingOptions {
  /**
   * Entries of the submission queue: how many operations go to the kernel in one system call. More than that may be in
   * flight. Default: 256, or fewer (down to 16) where `RLIMIT_MEMLOCK` does not allow so many. 1 means 2, since a time
   * limit takes the entry after its operation's.
   */
  entries?: number;
  /**
   * `IORING_SETUP_*` bits. Default: `SINGLE_ISSUER | DEFER_TASKRUN | TASKRUN_FLAG | SUBMIT_ALL`, or what an older kernel
   * has of it. With `IORING_SETUP_IOPOLL` the event loop does not sleep while something is in flight, and only what can be
   * polled for works.
   */
  flags?: number;
  /** How many direct descriptors there can be, half of them for multishot accepts; an even number. Default: 512. */
  directDescriptors?: number;
  /** How many registered buffers there can be, at most 16384; default: 1024. */
  registeredBuffers?: number;
}

/** What {@link Uring.stats} tells. */
export interface UringStats {
  /** How many completions are awaited. */
  readonly inFlight: number;
  /** How many times the kernel was entered. */
  readonly enters: number;
  /** How many times this thread's event loop was woken for a completion. */
  readonly wakeUps: number;
}

const DEFAULT_ENTRIES = 256;
const LEAST_ENTRIES = 16;
/** An operation and the timeout linked to it. */
const PAIR = 2;
const DEFAULT_FLAGS: readonly number[] = [
  IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
  IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_SUBMIT_ALL,
  0,
];

/** For the second ring of whole files: 128 chains of three. */
const HELPER: UringOptions = {
  entries: 512,
  directDescriptors: 256,
  flags: IORING_SETUP_SQPOLL | IORING_SETUP_SUBMIT_ALL,
  // Its thread goes to sleep at once when there is nothing more to do: no longer than the scheduler's next tick.
  sqThreadIdle: 1,
};

const EINVAL = -22;
const ENOMEM = -12;

let shared: Uring | undefined;

// Pools of rings that were given up: the kernel may still write into them, so they are never unmapped.
const abandonedPools: unknown[] = [];

/**
 * An io_uring instance whose operations are promises. Everything asked for in one turn of the event loop goes to the
 * kernel in one system call; the process stays alive while something is in flight and costs nothing while it waits.
 *
 * It belongs to the thread that made it. Results are the kernel's; failures reject with `UringError`. Wrong arguments
 * throw at once, before anything reaches the kernel.
 *
 * @example
 * ```ts
 * import { Uring } from "uring";
 * await using uring = new Uring();
 * const fd = await uring.openat("/etc/hostname");
 * const buffer = new Uint8Array(4096);
 * const length = await uring.read(fd, buffer, { offset: 0 });
 * await uring.close(fd);
 * ```
 */
export class Uring extends Resources implements AsyncDisposable {
  #wholeFiles: WholeFiles | null = null;
  #helper: Uring | null = null;
  #filtered = false;
  #helperRights: readonly [user: number, group: number] | null = null;
  readonly #ownLane: Lane;

  /**
   * @param options Size and flags; the defaults suit nearly everyone.
   * @throws RangeError for options that cannot be, `UringUnavailableError` where io_uring cannot be used.
   */
  constructor(options: UringOptions = {}) {
    const directDescriptors = options.directDescriptors ?? 512;
    if (!Number.isInteger(directDescriptors) || directDescriptors < 2 || directDescriptors % 2 !== 0) {
      throw new RangeError(`directDescriptors must be an even integer from 2 on, not ${directDescriptors}`);
    }
    const registeredBuffers = checkTableSize(options.registeredBuffers ?? 1024);
    if (((options.flags ?? 0) & IORING_SETUP_R_DISABLED) !== 0) {
      throw new RangeError("IORING_SETUP_R_DISABLED is for Ring: a Uring is enabled from the start");
    }
    const ring = makeRing(options);
    try {
      ring.registerRingFd();
    } catch {
      // Before Linux 5.18, or all of the thread's 16 places are taken: a little slower, otherwise the same.
    }
    const driver = new Driver(ring);
    super(driver, new DirectTable(driver, directDescriptors), registeredBuffers);
    this.#ownLane = { driver: this.driver, directs: this.directs, reader: this };
  }

  /** A ring of this thread that is shared by whoever wants it; made when first asked for, anew when it was closed. */
  static get shared(): Uring {
    if (shared === undefined || shared.closed) shared = new Uring();
    return shared;
  }

  /** The ring below. It is driven by this object: look at its numbers, leave its queues alone. */
  get ring(): CoreRing {
    return this.driver.ring;
  }

  /** What drives it. @internal */
  get engine(): Driver {
    return this.driver;
  }

  /** Its table of direct descriptors. @internal */
  get table(): DirectTable {
    return this.directs;
  }

  /** Whether it was closed or is closing. */
  get closed(): boolean {
    return this.driver.closed;
  }

  /** Counters. */
  get stats(): UringStats {
    const helper = this.#helper?.driver;
    const inFlight = this.driver.inFlight + (helper?.inFlight ?? 0);
    return { inFlight, enters: this.driver.enters + (helper?.enters ?? 0), wakeUps: waker.wakeUps };
  }

  /** Reads a whole file with as few calls as can be; the path and the flags have been checked. @internal */
  wholeFile(file: WholeFile): void {
    this.driver.assertOpen();
    this.#wholeFiles ??= new WholeFiles(this.#ownLane, {
      // Where this thread may end before the process, that one would outlive it.
      possible: !adapter.isWorker,
      open: () => this.#openHelper(),
    });
    this.#wholeFiles.read(file);
  }

  /** A second ring, for whole files, whose thread runs on another core. */
  #openHelper(): Lane | null {
    // What this ring is not allowed, the other one would do.
    if (this.#filtered) return null;
    const [user, group] = rights();
    if (this.#helper !== null && this.#helperRights![0] === user && this.#helperRights![1] === group) {
      return this.#helper.#ownLane;
    }
    this.#helper?.disposeAsync();
    this.#helper = null;
    // Its thread would take turns with this one.
    if (!severalCores()) return null;
    try {
      this.#helper = new Uring(HELPER);
    } catch {
      // No memory may be locked, say.
      return null;
    }
    // Whatever this thread may do later, that one opens files as who made it.
    this.#helperRights = [user, group];
    if (!this.driver.wanted) this.#helper.unref();
    return this.#helper.#ownLane;
  }

  /** @internal */
  protected override begin(name: string): Op {
    return this.driver.begin(name);
  }

  /** @internal */
  protected override promise<T>(op: Op, options: OperationOptions | undefined): Promise<T> {
    return this.driver.promise(op, options);
  }

  /** Has work in flight keep the process alive, as at the start. */
  ref(): this {
    this.driver.wanted = true;
    waker.update();
    this.#helper?.ref();
    return this;
  }

  /** Lets the process exit although work is in flight. */
  unref(): this {
    this.driver.wanted = false;
    waker.update();
    this.#helper?.unref();
    return this;
  }

  /**
   * Submits a chain: steps that run one after the other in the kernel, in one system call. Resolves with their results
   * in order; rejects, when all have ended, with the failure that broke the chain. `linkSettled` tells each step's own.
   * A read or write of less than was asked for breaks a chain too, unless it is `{ hard: true }`.
   *
   * The kernel breaks a chain at a failing read, write, open, close, send, receive, accept, connect, splice or wait, also
   * where a futex was not what was expected. It goes on past a failing `statx`, `fallocate`, `fsync`, `fdatasync`,
   * `syncFileRange`, `ftruncate`, `unlinkat`, `renameat`, `mkdirat`, `linkat`, `symlinkat`, `madvise`, `shutdown`, and past
   * extended attributes (measured on Linux 6.18), although `link` rejects all the same: what must not happen after one of
   * these has failed (a rename after a sync, say) belongs behind an `await`, not into the same chain. A step whose turn
   * has not come cannot be cancelled by itself; aborting it has its promise reject, but it may still run.
   *
   * @example
   * ```ts
   * const [written] = await uring.link((l) => [l.write(fd, record), l.fdatasync(fd)]);
   * ```
   */
  async link<const T extends readonly Promise<unknown>[]>(
    build: (l: Chain) => T,
    options: LinkOptions = {},
  ): Promise<{ -readonly [I in keyof T]: Awaited<T[I]> }> {
    const results = await this.#link(build, options);
    const failures = results.filter((result) => result.status === "rejected").map((result) => result.reason);
    if (failures.length > 0) {
      // The first real failure is the cause; the steps after it were only cancelled.
      const cause = failures.find((reason) => !(reason instanceof UringError && reason.code === "ECANCELED"));
      throw cause ?? shortStep(failures[0] as UringError, options);
    }
    return results.map((result) => (result as PromiseFulfilledResult<unknown>).value) as never;
  }

  /** {@link Uring.link} that resolves with the outcome of every step, as `Promise.allSettled` does. */
  async linkSettled<const T extends readonly Promise<unknown>[]>(
    build: (l: Chain) => T,
    options: LinkOptions = {},
  ): Promise<{ -readonly [I in keyof T]: PromiseSettledResult<Awaited<T[I]>> }> {
    return await this.#link(build, options) as never;
  }

  async #link(
    build: (l: Chain) => readonly Promise<unknown>[],
    options: LinkOptions,
  ): Promise<PromiseSettledResult<unknown>[]> {
    this.driver.assertOpen();
    const chain = new Chain(this.driver, this.directs, options);
    let steps: readonly Promise<unknown>[];
    try {
      steps = build(chain);
      if (!Array.isArray(steps)) throw new TypeError("The callback of a chain returns an array of its steps");
      const { sqEntries } = this.ring;
      if (chain.length > sqEntries) {
        throw new RangeError(`A chain of ${chain.length} entries does not fit a ring of ${sqEntries}`);
      }
    } catch (error) {
      chain.abandon(error);
      throw error;
    }
    chain.submit();
    const results = await Promise.allSettled(steps);
    await chain.finish();
    return results;
  }

  /**
   * Lets only what `allow` names work on this ring from then on, or all but what `deny` names (`IORING_OP_*`): BPF filters,
   * `io_uring_register_bpf_filter`, Linux 7.0. What is denied rejects with `EACCES`. There is no way back; further filters
   * only deny more. What the ring does for itself (cancelling, time limits, closing what nobody takes) stays allowed.
   *
   * @example
   * ```ts
   * await uring.filterOperations({ deny: [IORING_OP_OPENAT, IORING_OP_OPENAT2] });
   * ```
   *
   * Rejects with RangeError for what is no operation or cannot be denied, with `EINVAL` where the kernel is older.
   */
  async filterOperations(filter: OperationFilter): Promise<void> {
    this.driver.assertOpen();
    const { filterRings } = await import("./operation_filter.ts");
    this.driver.assertOpen();
    // A second ring that is made later would have no filters.
    this.#filtered = true;
    filterRings(this.#helper === null ? [this.ring] : [this.ring, this.#helper.ring], filter);
  }

  /** Where a socket is: `getsockname(2)`, called directly. After binding to port 0 it tells the port. */
  localAddress(fd: number): SocketAddress {
    return socketAddress("getsockname", fd);
  }

  /** Where a socket's other end is: `getpeername(2)`, called directly. */
  remoteAddress(fd: number): SocketAddress {
    return socketAddress("getpeername", fd);
  }

  /**
   * Refuses new work, cancels what is in flight, waits until the kernel has let go of every buffer, and closes the ring.
   * Every promise settles: with `ECANCELED` where the operation had not ended by itself.
   */
  async disposeAsync(): Promise<void> {
    await Promise.all([this.driver.close(), this.#helper?.disposeAsync()]);
    if (this.driver.abandoned) abandonedPools.push(...this.pools);
    else for (const pool of this.pools) pool?.release();
  }

  /** The same as {@link Uring.disposeAsync}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.disposeAsync();
  }
}

function socketAddress(name: "getsockname" | "getpeername", fd: number): SocketAddress {
  const bytes = new Uint8Array(new ArrayBuffer(sockaddr_storage.size));
  const length = Int32Array.of(bytes.length);
  check(system().rare[name](fd, bytes, length), name);
  return decodeAddress(bytes, length[0]!);
}

/** The error of a chain that broke although no step failed. */
function shortStep(cancelled: UringError, options: LinkOptions): UringError {
  if (options.hard === true) return cancelled;
  return new UringError(cancelled.errno, cancelled.syscall, {
    path: cancelled.path,
    dest: cancelled.dest,
    cause: cancelled,
    hint:
      "a step before it transferred less than asked for (or found a futex changed), which ends a chain unless it is " +
      "{ hard: true }",
  });
}

/** Makes the ring: as asked for, or as good as this kernel and its limits allow. */
function makeRing(options: UringOptions): CoreRing {
  let entries = options.entries ?? DEFAULT_ENTRIES;
  if (entries === 1) entries = PAIR;
  const candidates = options.flags === undefined ? [...DEFAULT_FLAGS] : [options.flags];
  for (;;) {
    const flags = candidates[0]!;
    try {
      return new CoreRing(entries, { ...options, flags });
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      if (error.errno === EINVAL && candidates.length > 1) candidates.shift();
      else if (error.errno === ENOMEM && options.entries === undefined) {
        if (entries === LEAST_ENTRIES) {
          throw new UringUnavailableError("memlock", { errno: ENOMEM, cause: error });
        }
        entries /= 2;
      } else throw error;
    }
  }
}
