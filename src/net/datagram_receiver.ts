/**
 * Receiving datagrams, as many as come, with one entry of the submission queue.
 *
 * @module
 */
import {
  IORING_CQE_BUFFER_SHIFT,
  IORING_CQE_F_BUFFER,
  IOSQE_BUFFER_SELECT,
  MSG_CMSG_CLOEXEC,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { addressOf } from "../ffi/pin.ts";
import { io_uring_recvmsg_out } from "../ffi/structs.ts";
import { lastingPiece } from "../loop/arena.ts";
import type { Driver } from "../loop/driver.ts";
import { operationError } from "../loop/failure.ts";
import { makeMessage, type MessageMemory } from "../loop/msghdr.ts";
import type { CompletionSink, Op } from "../loop/op.ts";
import { DatagramBuffers } from "./datagram_buffers.ts";

/** What takes the datagrams. */
export interface DatagramSink {
  /** A message is in a buffer, which is the kernel's again when this returns. `length`: of the data. */
  arrived(id: number, length: number): void;
  /** Receiving has failed, and goes on. */
  failed(error: UringError): void;
  /** Nothing is being received any more, and nothing will be until {@link DatagramReceiver.start}. */
  idle(): void;
}

/** How much room a message gets. */
export interface DatagramRoom {
  /** How many buffers. */
  readonly count: number;
  /** The longest datagram. */
  readonly size: number;
  /** For the address. */
  readonly nameRoom: number;
  /** For control messages. */
  readonly controlRoom: number;
}

const ENOBUFS = -105;
const ECANCELED = -125;
/** Errors that say something about the receive and nothing about the socket: ICMP's, about datagrams that were sent. */
const PASSING: ReadonlySet<number> = new Set([-111, -113, -101, -112, -71, -92, -90, -12]);

/** A multishot `recvmsg`, armed anew whenever the kernel ends it. */
export class DatagramReceiver implements CompletionSink {
  /** Where datagrams arrive. */
  readonly buffers: DatagramBuffers;
  readonly #driver: Driver;
  readonly #fd: number;
  readonly #sink: DatagramSink;
  readonly #message: MessageMemory;
  #op: Op | null = null;
  #wanted = false;
  #referenced = true;
  #cancelled = false;
  #released = false;

  /**
   * @param driver The engine of the ring.
   * @param fd The socket.
   * @param room How much room a message gets.
   * @param sink What takes the datagrams.
   */
  constructor(driver: Driver, fd: number, room: DatagramRoom, sink: DatagramSink) {
    this.#driver = driver;
    this.#fd = fd;
    this.#sink = sink;
    const { nameRoom, controlRoom } = room;
    this.#message = makeMessage({ views: [], nameRoom, controlRoom }, lastingPiece, addressOf);
    this.buffers = new DatagramBuffers(driver, room.count, room.size, nameRoom, controlRoom);
  }

  /** Whether something is being received. */
  get active(): boolean {
    return this.#op !== null;
  }

  /** Whether receiving keeps the process alive. */
  set referenced(referenced: boolean) {
    if (this.#referenced === referenced) return;
    this.#referenced = referenced;
    if (this.#op !== null) this.#driver.quiet(referenced ? -1 : 1);
  }

  /** Receives, until {@link DatagramReceiver.stop}. */
  start(): void {
    this.#wanted = true;
    if (this.#op === null && !this.#released && !this.#driver.closed) this.#arm();
  }

  /** Ends it; what has arrived by then still comes. */
  stop(): void {
    this.#wanted = false;
    if (this.#op === null || this.#cancelled) return;
    this.#cancelled = true;
    this.#driver.cancelOp(this.#op);
  }

  /** Gives the memory back; only when nothing is being received. */
  release(): void {
    this.#released = true;
    this.buffers.release();
  }

  #arm(): void {
    const op = this.#driver.begin("recvmsg");
    op.pins = [this.#message.owner, this.buffers.bytes];
    const sqe = op.sqe!;
    sqe.prepRecvmsgMultishot(this.#fd, this.#message.address, MSG_CMSG_CLOEXEC);
    sqe.flags |= IOSQE_BUFFER_SELECT;
    sqe.bufGroup = this.buffers.bgid;
    this.#op = op;
    this.#cancelled = false;
    this.#driver.launch(op, this);
    if (!this.#referenced) this.#driver.quiet(1);
  }

  /** A completion. @internal */
  complete(res: number, flags: number, more: boolean): void {
    if (!more) {
      this.#op = null;
      if (!this.#referenced) this.#driver.quiet(-1);
    }
    if ((flags & IORING_CQE_F_BUFFER) !== 0) {
      const id = flags >>> IORING_CQE_BUFFER_SHIFT;
      if (res >= this.buffers.dataAt) this.#sink.arrived(id, res - this.buffers.dataAt);
      this.buffers.recycle(id);
    } else if (res < 0 && res !== ENOBUFS && !(res === ECANCELED && this.#cancelled)) this.#fail(res);
    if (more || this.#op !== null) return;
    if (this.#wanted && !this.#driver.closed) this.#arm();
    else this.#sink.idle();
  }

  #fail(res: number): void {
    // What is not about a datagram would come again and again.
    if (!PASSING.has(res)) this.#wanted = false;
    const about = { name: "recvmsg", variant: "multishot", path: undefined, dest: undefined };
    this.#sink.failed(operationError(this.#driver.ring, res, about));
  }

  /** How long the address of the message in a buffer is. */
  nameLength(id: number): number {
    const { words, stride, controlAt, nameAt } = this.buffers;
    const length = words[(id * stride + io_uring_recvmsg_out.namelen) >> 2]!;
    return Math.min(length, controlAt - nameAt);
  }

  /** The control messages that came with it. */
  control(id: number): Uint8Array {
    const { bytes, words, stride, controlAt, dataAt } = this.buffers;
    const length = words[(id * stride + io_uring_recvmsg_out.controllen) >> 2]!;
    const at = id * stride + controlAt;
    return bytes.subarray(at, at + Math.min(length, dataAt - controlAt));
  }

  /** `MSG_*` of the message in a buffer. */
  messageFlags(id: number): number {
    const { words, stride } = this.buffers;
    return words[(id * stride + io_uring_recvmsg_out.flags) >> 2]!;
  }
}
