/**
 * Operations with many completions: the methods of `Uring` that give async iterables.
 *
 * @module
 */
import {
  IORING_RECVSEND_BUNDLE,
  IORING_TIMEOUT_MULTISHOT,
  IOSQE_BUFFER_SELECT,
  SOCK_CLOEXEC,
} from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import { closeDirect, type DirectDescriptor, type Fd } from "./direct.ts";
import { Multishot, type MultishotOptions } from "./multishot.ts";
import { Operations } from "./operations.ts";
import { checkTimeout, checkU32 } from "./options.ts";
import { SendQueue, type SendQueueOptions } from "./send_queue.ts";
import { BufferPool, type BufferPoolOptions } from "./pool.ts";
import { poolChunks } from "./pool_chunks.ts";

/** Options of {@link MultishotOperations.acceptMultishot}. */
export interface AcceptMultishotOptions extends MultishotOptions {
  /** `SOCK_NONBLOCK` and the like for the connections; `SOCK_CLOEXEC` is always set. */
  flags?: number;
  /** How many accepted connections may wait before accepting pauses; default 256. */
  limit?: number;
}

/** Options of {@link MultishotOperations.recvMultishot}. */
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
  /**
   * Let one completion tell of as many buffers as there is data for (`IORING_RECVSEND_BUNDLE`, Linux 6.10), which is
   * cheaper where much arrives at once. Copies then are as long as what had arrived.
   */
  bundle?: boolean;
}

/** Options of {@link MultishotOperations.readMultishot}. */
export interface ReadMultishotOptions extends MultishotOptions {
  /** Where the data arrives; default: a pool that this `Uring` shares among its receives and reads. */
  pool?: BufferPool;
  /**
   * Give out views of the pool's memory instead of copies. A chunk is then valid until the next one is asked for: after
   * that the kernel writes something else there.
   */
  borrow?: boolean;
}

const ETIME = -62;

/** Operations that go on giving results until they are ended; they have no place in a chain. */
export abstract class MultishotOperations extends Operations {
  /** @internal */
  protected readonly pools: (BufferPool | SendQueue | null)[] = [];
  #pool: BufferPool | null = null;

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
    this.checkMultishot(options);
    const flags = checkU32("flags", options.flags ?? 0);
    const limit = options.limit ?? 256;
    if (!Number.isInteger(limit) || limit < 1) {
      throw new RangeError(`limit must be an integer from 1 on, not ${limit}`);
    }
    const number = this.number(fd);
    const { driver, directs } = this;
    if (options.direct === true) {
      directs.shareWithKernel();
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
    this.checkMultishot(options);
    const flags = checkU32("flags", options.flags ?? 0);
    const number = this.number(fd);
    const pool = this.poolOf(options.pool);
    return new Multishot<Uint8Array>(this.driver, {
      name: "recv",
      prepare: (op) => {
        op.sqe!.prepRecvMultishot(number, 0, 0, flags);
        if (options.bundle === true) op.sqe!.ioprio |= IORING_RECVSEND_BUNDLE;
        op.sqe!.flags |= IOSQE_BUFFER_SELECT;
        op.sqe!.bufGroup = pool.bgid;
        this.markFd(op, fd);
      },
      ...poolChunks(pool, options.borrow === true),
    }, options);
  }

  /**
   * What can be read from a pipe, a terminal, a socket, an eventfd… in chunks, until it ends:
   * `io_uring_prep_read_multishot`, Linux 6.7. The kernel picks buffers of a pool as data comes, and waits when all are in
   * use. A file that cannot be polled, as one on a disk, gives `EBADFD`.
   */
  readMultishot(fd: Fd, options: ReadMultishotOptions = {}): Multishot<Uint8Array> {
    this.checkMultishot(options);
    const number = this.number(fd);
    const pool = this.poolOf(options.pool);
    return new Multishot<Uint8Array>(this.driver, {
      name: "read",
      prepare: (op) => {
        op.sqe!.prepReadMultishot(number, 0, -1, pool.bgid);
        this.markFd(op, fd);
      },
      ...poolChunks(pool, options.borrow === true),
    }, options);
  }

  /** `POLL*` events as they come: `io_uring_prep_poll_multishot`, Linux 5.13. Level-triggered it is not. */
  pollMultishot(fd: Fd, events: number, options: MultishotOptions = {}): Multishot<number> {
    this.checkMultishot(options);
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
    this.checkMultishot(options);
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

  /** @internal */
  protected checkMultishot(options: MultishotOptions): void {
    this.check(options);
  }

  /**
   * Makes a pool of buffers for {@link MultishotOperations.recvMultishot} and {@link MultishotOperations.readMultishot},
   * Linux 5.19.
   */
  bufferPool(options: BufferPoolOptions = {}): BufferPool {
    this.driver.assertOpen();
    const bgid = this.#freeGroup();
    const pool = new BufferPool(this.driver, bgid, options, () => this.pools[bgid] = null);
    this.pools[bgid] = pool;
    return pool;
  }

  /** A group that nothing has. */
  #freeGroup(): number {
    const free = this.pools.indexOf(null);
    return free >= 0 ? free : this.pools.length;
  }

  /** The pool that was given, or the one for all. @internal */
  protected poolOf(given: BufferPool | undefined): BufferPool {
    const pool = given ?? (this.#pool ??= this.bufferPool());
    if (!(pool instanceof BufferPool)) throw new TypeError("The pool is one of uring.bufferPool");
    if (pool.driver !== this.driver) throw new TypeError("The pool belongs to another ring");
    if (pool.disposed) throw new TypeError("The pool is disposed of");
    return pool;
  }

  /** Makes a queue for `sendBundle`, Linux 6.10. */
  sendQueue(options: SendQueueOptions = {}): SendQueue {
    this.driver.assertOpen();
    const bgid = this.#freeGroup();
    const queue = new SendQueue(this.driver.ring, bgid, options);
    this.pools[bgid] = queue;
    return queue;
  }
}
