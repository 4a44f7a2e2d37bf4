/**
 * `Uring`: io_uring with promises.
 *
 * @module
 */
import {
  IORING_CQE_BUFFER_SHIFT,
  IORING_CQE_F_BUFFER,
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_TASKRUN_FLAG,
  IORING_TIMEOUT_MULTISHOT,
  IOSQE_BUFFER_SELECT,
  SOCK_CLOEXEC,
} from "../ffi/abi.ts";
import { check, UringError, UringUnavailableError } from "../ffi/errors.ts";
import { sockaddr_storage } from "../ffi/structs.ts";
import { system } from "../ffi/system.ts";
import { Ring } from "../ring/ring.ts";
import type { RingOptions } from "../ring/setup.ts";
import { Chain, type LinkOptions } from "./chain.ts";
import { type DirectDescriptor, DirectTable, type Fd } from "./direct.ts";
import { Driver } from "./driver.ts";
import { Multishot, type MultishotOptions, type Shot } from "./multishot.ts";
import type { Op } from "./op.ts";
import { Operations } from "./operations.ts";
import { checkOptions, checkTimeout, checkU32, type OperationOptions } from "./options.ts";
import { BufferPool, type BufferPoolOptions } from "./pool.ts";
import { decodeAddress, type SocketAddress } from "./sockaddr.ts";
import { closeDirect } from "./submitter.ts";
import { waker } from "./waker.ts";

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
   * has of it.
   */
  flags?: number;
  /** How many direct descriptors there can be, half of them for multishot accepts; an even number. Default: 512. */
  directDescriptors?: number;
}

/** Options of {@link Uring.acceptMultishot}. */
export interface AcceptMultishotOptions extends MultishotOptions {
  /** `SOCK_NONBLOCK` and the like for the connections; `SOCK_CLOEXEC` is always set. */
  flags?: number;
  /** How many accepted connections may wait before accepting pauses; default 256. */
  limit?: number;
}

/** Options of {@link Uring.recvMultishot}. */
export interface RecvMultishotOptions extends MultishotOptions {
  /** Where the data arrives; default: a pool that this `Uring` shares among its receives. */
  pool?: BufferPool;
  /** `MSG_*` bits. */
  flags?: number;
  /**
   * Give out views of the pool's memory instead of copies. A chunk is then valid until the next one is asked for: after
   * that the kernel writes something else there.
   */
  borrow?: boolean;
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

const EINVAL = -22;
const ENOMEM = -12;
const ENOBUFS = -105;
const ETIME = -62;

let shared: Uring | undefined;

// Pools of rings that were given up: the kernel may still write into them, so they are never unmapped.
const abandonedPools: BufferPool[] = [];

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
export class Uring extends Operations implements AsyncDisposable {
  readonly #pools: BufferPool[] = [];
  #pool: BufferPool | null = null;

  /**
   * @param options Size and flags; the defaults suit nearly everyone.
   * @throws RangeError for options that cannot be, `UringUnavailableError` where io_uring cannot be used.
   */
  constructor(options: UringOptions = {}) {
    const directDescriptors = options.directDescriptors ?? 512;
    if (!Number.isInteger(directDescriptors) || directDescriptors < 2 || directDescriptors % 2 !== 0) {
      throw new RangeError(`directDescriptors must be an even integer from 2 on, not ${directDescriptors}`);
    }
    if (((options.flags ?? 0) & IORING_SETUP_R_DISABLED) !== 0) {
      throw new RangeError("IORING_SETUP_R_DISABLED is for Ring: a Uring is enabled from the start");
    }
    const ring = makeRing(options);
    try {
      ring.registerRingFd();
    } catch {
      // Before Linux 5.18, or all of the thread's 16 places are taken: a little slower, otherwise the same.
    }
    super(new Driver(ring), new DirectTable(ring, directDescriptors));
  }

  /** A ring of this thread that is shared by whoever wants it; made when first asked for, anew when it was closed. */
  static get shared(): Uring {
    if (shared === undefined || shared.closed) shared = new Uring();
    return shared;
  }

  /** The ring below. It is driven by this object: look at its numbers, leave its queues alone. */
  get ring(): Ring {
    return this.driver.ring;
  }

  /** Whether it was closed or is closing. */
  get closed(): boolean {
    return this.driver.closed;
  }

  /** Counters. */
  get stats(): UringStats {
    return { inFlight: this.driver.inFlight, enters: this.driver.enters, wakeUps: waker.wakeUps };
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
    this.driver.referenced = true;
    waker.update();
    return this;
  }

  /** Lets the process exit although work is in flight. */
  unref(): this {
    this.driver.referenced = false;
    waker.update();
    return this;
  }

  /**
   * Submits a chain: steps that run one after the other in the kernel, in one system call. Resolves with their results
   * in order; rejects, when all have ended, with the failure that broke the chain. `linkSettled` tells each step's own.
   * A read or write of less than was asked for breaks a chain too, unless it is `{ hard: true }`.
   *
   * The kernel breaks a chain at a failing read, write, open, close, send, receive, accept or connect. It goes on past a
   * failing `statx`, `fallocate`, `fsync`, `fdatasync`, `ftruncate`, `unlinkat`, `renameat`, `mkdirat` or `shutdown`
   * (measured on Linux 6.18), although `link` rejects all the same: what must not happen after one of these has failed
   * (a rename after a sync, say) belongs behind an `await`, not into the same chain. A step whose turn has not come
   * cannot be cancelled by itself; aborting it has its promise reject, but it may still run.
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
   * The connections of a listening socket, as they come: `io_uring_prep_multishot_accept`, Linux 5.19. Connections that
   * were accepted and not taken are closed at the end.
   */
  acceptMultishot(fd: Fd, options: AcceptMultishotOptions & { direct: true }): Multishot<DirectDescriptor>;
  /** The connections of a listening socket, as they come. */
  acceptMultishot(fd: Fd, options?: AcceptMultishotOptions): Multishot<number>;
  acceptMultishot(
    fd: Fd,
    options: AcceptMultishotOptions & { direct?: true } = {},
  ): Multishot<number> | Multishot<DirectDescriptor> {
    this.#checkMultishot(options);
    const flags = checkU32("flags", options.flags ?? 0);
    const limit = options.limit ?? 256;
    if (!Number.isInteger(limit) || limit < 1) {
      throw new RangeError(`limit must be an integer from 1 on, not ${limit}`);
    }
    const number = this.number(fd);
    const { driver, directs } = this;
    if (options.direct === true) {
      directs.register();
      return new Multishot<DirectDescriptor>(driver, {
        name: "accept",
        limit,
        prepare: (op) => {
          op.sqe!.prepMultishotAcceptDirect(number, 0, 0, flags & ~SOCK_CLOEXEC);
          this.markFd(op, fd);
        },
        shot: (res) => res < 0 ? undefined : { kind: "value", value: directs.adopt(res) },
        discard: (descriptor) => closeDirect(driver, descriptor),
      }, options);
    }
    return new Multishot<number>(driver, {
      name: "accept",
      limit,
      prepare: (op) => {
        op.sqe!.prepMultishotAccept(number, 0, 0, flags | SOCK_CLOEXEC);
        this.markFd(op, fd);
      },
      shot: (res) => res < 0 ? undefined : { kind: "value", value: res },
      discard: (connection) => void system().close(connection),
    }, options);
  }

  /**
   * What arrives on a connection, in chunks, until its other end finishes: `io_uring_prep_recv_multishot`, Linux 6.0. The
   * kernel picks buffers of a pool as data comes; when all are in use it waits, and so does the sender.
   */
  recvMultishot(fd: Fd, options: RecvMultishotOptions = {}): Multishot<Uint8Array> {
    this.#checkMultishot(options);
    const flags = checkU32("flags", options.flags ?? 0);
    const number = this.number(fd);
    const pool = options.pool ?? (this.#pool ??= this.bufferPool());
    if (!this.#pools.includes(pool)) throw new TypeError("The pool belongs to another ring");
    const borrow = options.borrow === true;
    const lent: number[] = [];
    const ids = new WeakMap<Uint8Array, number>();
    return new Multishot<Uint8Array>(this.driver, {
      name: "recv",
      // What waits for the consumer is bounded by the pool.
      limit: borrow ? Infinity : pool.count,
      prepare: (op) => {
        op.sqe!.prepRecvMultishot(number, 0, 0, flags);
        op.sqe!.flags |= IOSQE_BUFFER_SELECT;
        op.sqe!.bufGroup = pool.bgid;
        this.markFd(op, fd);
      },
      shot: (res, cqeFlags): Shot<Uint8Array> | undefined => {
        if (res === ENOBUFS) return { kind: "again", ready: pool.available() };
        if (res < 0) return undefined;
        if ((cqeFlags & IORING_CQE_F_BUFFER) === 0) return { kind: "end" };
        const id = cqeFlags >>> IORING_CQE_BUFFER_SHIFT;
        const view = pool.take(id, res);
        if (res === 0) {
          pool.recycle(id);
          return { kind: "end" };
        }
        if (!borrow) {
          const copy = new Uint8Array(view);
          pool.recycle(id);
          return { kind: "value", value: copy };
        }
        ids.set(view, id);
        return { kind: "value", value: view };
      },
      handOut: (chunk) => {
        const id = ids.get(chunk);
        if (id !== undefined) lent.push(id);
      },
      discard: (chunk) => {
        const id = ids.get(chunk);
        if (id !== undefined) pool.recycle(id);
      },
      advance: () => {
        for (const id of lent.splice(0)) pool.recycle(id);
      },
    }, options);
  }

  /** `POLL*` events as they come: `io_uring_prep_poll_multishot`, Linux 5.13. Level-triggered it is not. */
  pollMultishot(fd: Fd, events: number, options: MultishotOptions = {}): Multishot<number> {
    this.#checkMultishot(options);
    checkU32("events", events);
    const number = this.number(fd);
    return new Multishot<number>(this.driver, {
      name: "poll",
      limit: 256,
      prepare: (op) => {
        op.sqe!.prepPollMultishot(number, events);
        this.markFd(op, fd);
      },
      shot: (res) => res < 0 ? undefined : { kind: "value", value: res },
      discard: () => {},
    }, options);
  }

  /**
   * Counts up from 1 every so many milliseconds, `count` times (default: for ever): `io_uring_prep_timeout` with
   * `IORING_TIMEOUT_MULTISHOT`, Linux 6.4.
   */
  timeoutMultishot(
    milliseconds: number,
    options: MultishotOptions & { count?: number } = {},
  ): Multishot<number> {
    this.#checkMultishot(options);
    checkTimeout(milliseconds);
    const count = checkU32("count", options.count ?? 0);
    const { arena } = this.driver;
    let seen = 0;
    return new Multishot<number>(this.driver, {
      name: "timeout",
      limit: Infinity,
      prepare: (op) => {
        const span = arena.timespec(milliseconds);
        op.pins = span.owner;
        op.sqe!.prepTimeout(span.address, count === 0 ? 0 : count - seen, IORING_TIMEOUT_MULTISHOT);
      },
      shot: (res) => res === ETIME ? { kind: "value", value: ++seen, last: seen === count } : undefined,
      discard: () => {},
    }, options);
  }

  /** Where a socket is: `getsockname(2)`, called directly. After binding to port 0 it tells the port. */
  localAddress(fd: number): SocketAddress {
    return socketAddress("getsockname", fd);
  }

  /** Where a socket's other end is: `getpeername(2)`, called directly. */
  remoteAddress(fd: number): SocketAddress {
    return socketAddress("getpeername", fd);
  }

  /** Sets a socket option (`SOL_SOCKET`, `SO_REUSEADDR`, 1): `setsockopt(2)`, called directly; a number is a C `int`. */
  setsockopt(fd: number, level: number, name: number, value: number | Uint8Array): void {
    const bytes = typeof value === "number" ? new Uint8Array(Int32Array.of(value).buffer) : value;
    check(system().rare.setsockopt(fd, level, name, bytes, bytes.length), "setsockopt");
  }

  #checkMultishot(options: MultishotOptions): void {
    this.driver.assertOpen();
    checkOptions(options);
  }

  /** Makes a pool of buffers for {@link Uring.recvMultishot}, Linux 5.19. */
  bufferPool(options: BufferPoolOptions = {}): BufferPool {
    this.driver.assertOpen();
    const pool = new BufferPool(this.ring, this.#pools.length, options);
    this.#pools.push(pool);
    return pool;
  }

  /**
   * Refuses new work, cancels what is in flight, waits until the kernel has let go of every buffer, and closes the ring.
   * Every promise settles: with `ECANCELED` where the operation had not ended by itself.
   */
  async disposeAsync(): Promise<void> {
    await this.driver.close();
    if (this.driver.abandoned) abandonedPools.push(...this.#pools);
    else for (const pool of this.#pools) pool.release();
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
    hint: "a step before it transferred less than asked for, which ends a chain unless it is { hard: true }",
  });
}

/** Makes the ring: as asked for, or as good as this kernel and its limits allow. */
function makeRing(options: UringOptions): Ring {
  let entries = options.entries ?? DEFAULT_ENTRIES;
  if (entries === 1) entries = PAIR;
  const candidates = options.flags === undefined ? [...DEFAULT_FLAGS] : [options.flags];
  for (;;) {
    const flags = candidates[0]!;
    try {
      return new Ring(entries, { ...options, flags });
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
