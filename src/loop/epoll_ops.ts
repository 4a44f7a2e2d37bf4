/**
 * Operations on epoll descriptors.
 *
 * @module
 */
import { EPOLL_CLOEXEC, EPOLL_CTL_DEL } from "../ffi/abi.ts";
import { epoll_event } from "../ffi/arch.ts";
import { check } from "../ffi/errors.ts";
import { pinned } from "../ffi/pin.ts";
import { system } from "../ffi/system.ts";
import { high32, join32, low32, type U64 } from "../ring/sqe_base.ts";
import type { Piece } from "./arena.ts";
import type { Fd } from "./direct.ts";
import { checkBits, checkU32, type OperationOptions } from "./options.ts";
import { PipeOperations } from "./pipe_ops.ts";

/** What an epoll descriptor watches for, or has seen. */
export interface EpollEvent {
  /** `EPOLL*` bits: `EPOLLIN`, `EPOLLOUT`, `EPOLLET`… */
  readonly events: number;
  /** What comes back with the event, 64 bits: the descriptor, say. A number up to 2^53 − 1, otherwise a bigint. */
  readonly data: U64;
}

/** Options of {@link EpollOperations.epollWait}. */
export interface EpollWaitOptions extends OperationOptions {
  /** How many events there may be at once, from 1 to 65536; default 64. More wait for the next call. */
  maxEvents?: number;
}

const MOST_EVENTS = 65536;
const MOST_DATA = 2n ** 64n - 1n;

/** Makes an epoll descriptor: `epoll_create1(2)`, called directly. It is closed with `uring.close`. */
export function epollCreate(): number {
  return check(system().rare.epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
}

/** Operations on epoll descriptors, each one entry of the submission queue. */
export abstract class EpollOperations extends PipeOperations {
  /**
   * Has an epoll descriptor watch `fd` for events, or watch it otherwise, or no more (`EPOLL_CTL_ADD`, `EPOLL_CTL_MOD`,
   * `EPOLL_CTL_DEL`, which takes no event): `io_uring_prep_epoll_ctl`, Linux 5.6. Both are descriptors of the process.
   */
  epollCtl(
    epfd: number,
    op: number,
    fd: number,
    event?: EpollEvent,
    options?: OperationOptions,
  ): Promise<void> {
    this.check(options);
    checkU32("op", op);
    if (event === undefined && op !== EPOLL_CTL_DEL) {
      throw new TypeError("An event is needed, unless it is EPOLL_CTL_DEL");
    }
    const ep = processFd(epfd);
    const watched = processFd(fd);
    const event32 = event === undefined
      ? null
      : { events: checkBits("events", event.events), data: event.data };
    if (event32 !== null) checkData(event32.data);
    const piece = event32 === null ? null : this.#encode(event32);
    const operation = this.begin("epoll_ctl");
    operation.pins = piece?.owner;
    operation.sqe!.prepEpollCtl(ep, watched, op, piece?.address ?? 0);
    return this.promise(operation, options);
  }

  #encode({ events, data }: EpollEvent): Piece {
    const piece = this.driver.arena.take(epoll_event.size);
    piece.bytes.fill(0);
    const view = new DataView(piece.bytes.buffer, piece.bytes.byteOffset, epoll_event.size);
    view.setUint32(epoll_event.events, events, true);
    view.setInt32(epoll_event.data, low32(data), true);
    view.setInt32(epoll_event.data + 4, high32(data), true);
    return piece;
  }

  /**
   * Waits until an epoll descriptor has seen something, and resolves with what: `io_uring_prep_epoll_wait`, Linux 6.15.
   *
   * @example
   * ```ts
   * const epfd = epollCreate();
   * await uring.epollCtl(epfd, EPOLL_CTL_ADD, fd, { events: EPOLLIN, data: fd });
   * for (const { events, data } of await uring.epollWait(epfd)) console.log(data, events);
   * ```
   */
  epollWait(epfd: Fd, options?: EpollWaitOptions): Promise<EpollEvent[]> {
    this.check(options);
    const most = options?.maxEvents ?? 64;
    if (!Number.isInteger(most) || most < 1 || most > MOST_EVENTS) {
      throw new RangeError(`maxEvents must be an integer from 1 to ${MOST_EVENTS}, not ${most}`);
    }
    const number = this.number(epfd);
    const memory = pinned(most * epoll_event.size);
    const address = this.both(memory.bytes);
    const op = this.begin("epoll_wait");
    op.pins = memory;
    op.finish = (count) => decode(memory.bytes, count);
    op.sqe!.prepEpollWait(number, address, most, 0);
    this.markFd(op, epfd);
    return this.promise(op, options);
  }
}

function processFd(fd: number): number {
  if (typeof fd !== "number" || fd !== (fd | 0)) {
    throw new TypeError("epollCtl takes descriptors of the process, which are 32-bit integers");
  }
  return fd;
}

function checkData(data: U64): void {
  const ok = typeof data === "bigint"
    ? data >= 0n && data <= MOST_DATA
    : Number.isSafeInteger(data) && data >= 0;
  if (!ok) throw new RangeError(`data must be an integer from 0 to 2^64 - 1, not ${data}`);
}

function decode(bytes: Uint8Array, count: number): EpollEvent[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: count }, (_, i) => {
    const at = i * epoll_event.size;
    const low = view.getInt32(at + epoll_event.data, true);
    const high = view.getInt32(at + epoll_event.data + 4, true);
    const rounded = join32(low, high);
    const data = Number.isSafeInteger(rounded) ? rounded : view.getBigUint64(at + epoll_event.data, true);
    return { events: view.getUint32(at + epoll_event.events, true), data };
  });
}
