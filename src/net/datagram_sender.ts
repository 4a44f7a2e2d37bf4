/**
 * Sending datagrams: out of memory of the library's own, into which they are copied.
 *
 * @module
 */
import {
  IOSQE_CQE_SKIP_SUCCESS,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  POLLOUT,
  SOL_UDP,
  UDP_SEGMENT,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { Mapping } from "../ffi/memory.ts";
import { iovec, msghdr } from "../ffi/structs.ts";
import type { Driver } from "../loop/driver.ts";
import { operationError } from "../loop/failure.ts";
import type { CompletionSink, Op } from "../loop/op.ts";
import type { Sqe } from "../ring/sqe.ts";
import { cmsgPut, cmsgSpace } from "../ring/cmsg.ts";
import type { SocketBytes } from "./datagram_address.ts";
import type { Engine, Outgoing } from "./engine.ts";

/** The longest datagram that IP can carry, and with it the most that is sent at once in segments. */
export const MOST_DATA = 65535;

/** What is told when a datagram was taken by the kernel, or was not. */
export type Sent = (error: UringError | null, length: number) => void;

/** What hears of the sends that nobody waits for. */
export interface SenderSink {
  /** One has failed; `address` is the `struct sockaddr` of its destination, empty on a connected socket. */
  sendFailed(error: UringError, address: Uint8Array): void;
  /** There is room again, after {@link DatagramSender.send} had found none. */
  drained(): void;
}

const IOV_AT = msghdr.size;
const NAME_AT = IOV_AT + iovec.size;
const NAME_ROOM = 112;
const CONTROL_AT = NAME_AT + NAME_ROOM;
const HEADER = 256;

// A socket that is full must not be waited for by the kernel: what it has taken of a datagram in vain is missing when it
// tries again (Linux 6.18), and a shorter or an empty one goes out.
const FLAGS = MSG_NOSIGNAL | MSG_DONTWAIT;
const EAGAIN = -11;
const ECANCELED = -125;
/** How long until a full socket is tried again that can be written to, as it says: at most so many milliseconds. */
const MOST_DELAY = 32;

const SMALL = { count: 1024, size: 2048 };
const LARGE = { count: 16, size: 65536 + HEADER + 64 };

/** Memory for one datagram: a `struct msghdr` and what it points to. */
class Slot implements CompletionSink, Outgoing {
  readonly store: Store;
  readonly index: number;
  readonly at: number;
  readonly address: number;
  op: Op | null = null;
  length = 0;
  segmentSize = 0;
  nameLength = 0;
  result = 0;
  sent: Sent | null = null;

  constructor(store: Store, index: number) {
    this.store = store;
    this.index = index;
    this.at = index * store.size;
    this.address = store.memory.address + this.at;
    const { view } = store;
    const pointer = (field: number, to: number): void => {
      view.setBigUint64(this.at + field, BigInt(this.address + to), true);
    };
    pointer(msghdr.msg_iov, IOV_AT);
    view.setUint32(this.at + msghdr.msg_iovlen, 1, true);
    pointer(IOV_AT + iovec.iov_base, HEADER);
  }

  complete(res: number): void {
    this.op = null;
    this.store.sender.ended(this, res);
  }

  gather(): void {
    this.store.sender.submit(this);
  }

  failed(res: number): void {
    this.result = res;
  }

  settled(): void {
    this.store.sender.ended(this, this.result);
  }

  abandon(): void {
    this.store.sender.ended(this, ECANCELED);
  }
}

/** Slots of one size, made when they are first needed. */
class Store {
  readonly sender: DatagramSender;
  readonly size: number;
  readonly count: number;
  readonly memory: Mapping;
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  readonly view: DataView;
  readonly slots: Slot[] = [];
  readonly #free: Int32Array;
  #freeCount = 0;

  constructor(sender: DatagramSender, { count, size }: { count: number; size: number }) {
    this.sender = sender;
    this.size = size;
    this.count = count;
    this.memory = Mapping.anonymous(count * size);
    this.bytes = new Uint8Array(this.memory.buffer);
    this.words = new Int32Array(this.memory.buffer);
    this.view = new DataView(this.memory.buffer);
    this.#free = new Int32Array(count);
  }

  take(): Slot | null {
    if (this.#freeCount > 0) return this.slots[this.#free[--this.#freeCount]!]!;
    if (this.slots.length === this.count) return null;
    const slot = new Slot(this, this.slots.length);
    this.slots.push(slot);
    return slot;
  }

  give(slot: Slot): void {
    this.#free[this.#freeCount++] = slot.index;
  }
}

/** Sends the datagrams of one socket. */
export class DatagramSender {
  readonly #engine: Engine;
  readonly #driver: Driver;
  readonly #fd: number;
  readonly #sink: SenderSink;
  #small: Store | null = null;
  #large: Store | null = null;
  #inFlight = 0;
  // Those that found the socket full and wait for it, what they wait by, and how often in vain.
  #blocked: Slot[] = [];
  #poll: Op | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #vain = 0;
  #ending = false;
  readonly #writable: CompletionSink = { complete: () => this.#retry() };
  // Whether somebody was sent away and waits for room.
  #awaited = false;
  #quiet: (() => void) | null = null;

  /**
   * @param engine What sends it.
   * @param fd The socket.
   * @param sink What hears of failures.
   */
  constructor(engine: Engine, fd: number, sink: SenderSink) {
    this.#engine = engine;
    this.#driver = engine.driver;
    this.#fd = fd;
    this.#sink = sink;
  }

  /** How many datagrams the kernel has not taken yet. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * Copies a datagram and has it sent with the next submission; false, and nothing is copied, when too many are on their
   * way.
   *
   * @param data At most {@link MOST_DATA} bytes.
   * @param address The destination; null on a connected socket.
   * @param segmentSize The length of the datagrams that `data` is cut into; 0 for one.
   * @param sent Called at the end; null has a failure go to the sink.
   */
  send(data: Uint8Array, address: SocketBytes | null, segmentSize: number, sent: Sent | null): boolean {
    const slot = this.#take(data.length);
    if (slot === null) {
      this.#awaited = true;
      return false;
    }
    const { store, at } = slot;
    const { bytes, words } = store;
    bytes.set(data, at + HEADER);
    slot.nameLength = 0;
    if (address !== null) {
      const from = address.words;
      const to = (at + NAME_AT) >> 2;
      for (let i = 0; i < from.length; i++) words[to + i] = from[i]!;
      slot.nameLength = address.length;
    }
    slot.length = data.length;
    slot.segmentSize = segmentSize;
    slot.sent = sent;
    this.#inFlight++;
    // Not before those that wait already.
    if (this.#blocked.length > 0) this.#blocked.push(slot);
    else this.#engine.send(slot);
    return true;
  }

  /** Puts a datagram into the ring: before a submission. @internal */
  submit(slot: Slot): void {
    slot.result = slot.length;
    const prompt = this.#engine.promptEntry(slot);
    if (prompt !== null) {
      this.#prepare(prompt, slot);
      prompt.flags = IOSQE_CQE_SKIP_SUCCESS;
      return;
    }
    const op = this.#driver.begin(slot.segmentSize > 0 ? "sendmsg" : "sendto");
    // What has the memory kept until the kernel is done with it.
    op.pins = slot.store.bytes;
    slot.op = op;
    this.#prepare(op.sqe!, slot);
    this.#driver.launch(op, slot);
  }

  #prepare(sqe: Sqe, slot: Slot): void {
    const { store, length, segmentSize, nameLength, address } = slot;
    if (segmentSize > 0) {
      writeMessage(store.words, slot, length, segmentSize);
      sqe.prepSendmsg(this.#fd, address, FLAGS);
    } else {
      const name = nameLength === 0 ? 0 : address + NAME_AT;
      sqe.prepSendto(this.#fd, address + HEADER, length, FLAGS, name, nameLength);
    }
  }

  #take(length: number): Slot | null {
    if (length > SMALL.size - HEADER) return (this.#large ??= new Store(this, LARGE)).take();
    return (this.#small ??= new Store(this, SMALL)).take();
  }

  /** Waits until the socket can be written to; when it says so falsely, a little longer each time. */
  #wait(): void {
    if (this.#poll !== null || this.#timer !== undefined || this.#driver.closed) return;
    if (this.#vain++ > 0) {
      this.#timer = setTimeout(() => this.#retry(), Math.min(2 ** this.#vain / 4, MOST_DELAY));
      return;
    }
    const op = this.#driver.begin("poll");
    op.sqe!.prepPollAdd(this.#fd, POLLOUT);
    this.#poll = op;
    this.#driver.launch(op, this.#writable);
  }

  #retry(): void {
    this.#poll = null;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const ended = this.#ending || this.#driver.closed;
    for (const slot of this.#blocked.splice(0)) {
      if (ended) this.ended(slot, ECANCELED);
      else this.#engine.send(slot);
    }
  }

  /** A send has ended. @internal */
  ended(slot: Slot, res: number): void {
    if (res === EAGAIN && !this.#ending && !this.#driver.closed) {
      this.#blocked.push(slot);
      this.#wait();
      return;
    }
    if (res >= 0) this.#vain = 0;
    const { sent, store, at, nameLength } = slot;
    slot.sent = null;
    let error: UringError | null = null;
    if (res < 0) {
      const about = { name: "send", variant: undefined, path: undefined, dest: undefined };
      error = operationError(this.#driver.ring, res, about);
    }
    if (sent === null && error !== null) {
      this.#sink.sendFailed(error, store.bytes.slice(at + NAME_AT, at + NAME_AT + nameLength));
    }
    store.give(slot);
    this.#inFlight--;
    sent?.(error, res);
    if (this.#awaited && this.#inFlight <= store.count >> 1) {
      this.#awaited = false;
      this.#sink.drained();
    }
    if (this.#inFlight === 0) this.#quiet?.();
  }

  /** Resolves when nothing is on its way; what is not within so many milliseconds is given up. */
  async finish(milliseconds: number): Promise<void> {
    for (let patience = milliseconds; this.#inFlight > 0; patience = AGAIN) {
      await this.#quietWithin(patience);
      this.#ending = true;
      if (this.#poll === null) this.#retry();
      else this.#driver.cancelOp(this.#poll);
      for (const store of [this.#small, this.#large]) {
        for (const { op } of store?.slots ?? []) if (op !== null) this.#driver.cancelOp(op);
      }
    }
  }

  async #quietWithin(milliseconds: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, milliseconds);
    this.#quiet = resolve;
    await promise;
    this.#quiet = null;
    clearTimeout(timer);
  }

  /** Gives the memory back; only when nothing is on its way. */
  release(): void {
    this.#small?.memory.unmap();
    this.#large?.memory.unmap();
    this.#small = this.#large = null;
  }
}

/** How long until what was cancelled and has not ended is cancelled anew, in milliseconds. */
const AGAIN = 50;

const SEGMENT_SPACE = cmsgSpace(2);
const segment = new Uint8Array(2);

/** Writes what varies of a message in segments. */
function writeMessage(words: Int32Array, slot: Slot, length: number, segmentSize: number): void {
  const { at, address, nameLength, store } = slot;
  const word = (field: number): number => (at + field) >> 2;
  const name = nameLength === 0 ? 0 : address + NAME_AT;
  words[word(msghdr.msg_name)] = name;
  words[word(msghdr.msg_name) + 1] = Math.floor(name / 0x1_0000_0000);
  words[word(msghdr.msg_namelen)] = nameLength;
  words[word(IOV_AT + iovec.iov_len)] = length;
  store.view.setBigUint64(at + msghdr.msg_control, BigInt(address + CONTROL_AT), true);
  words[word(msghdr.msg_controllen)] = SEGMENT_SPACE;
  segment[0] = segmentSize;
  segment[1] = segmentSize >>> 8;
  cmsgPut(store.bytes, at + CONTROL_AT, SOL_UDP, UDP_SEGMENT, segment);
}
