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
import type { Engine, Outgoing, Prompt } from "./engine.ts";

/** The longest datagram that IP can carry, and with it the most that is sent at once in segments. */
export const MOST_DATA = 65535;

const encoder = new TextEncoder();

/** The bytes of what is to be sent. */
export function bytesOf(data: Uint8Array | string): Uint8Array {
  const bytes = typeof data === "string" ? encoder.encode(data) : data;
  if (!(bytes instanceof Uint8Array)) throw new TypeError("data must be a Uint8Array or a string");
  if (bytes.length > MOST_DATA) {
    throw new RangeError(`A datagram has at most ${MOST_DATA} bytes, not ${bytes.length}`);
  }
  return bytes;
}

/** Checks the length of segments. */
export function checkSegment(segmentSize: number): number {
  if (!Number.isInteger(segmentSize) || segmentSize < 0 || segmentSize > MOST_DATA) {
    throw new RangeError(`segmentSize must be an integer from 0 to ${MOST_DATA}, not ${segmentSize}`);
  }
  return segmentSize;
}

/** What is told when a datagram was taken by the kernel, or was not. */
export type Sent = (error: UringError | null, length: number) => void;

/** What hears of the sends that nobody waits for. */
export interface SenderSink {
  /** One has failed; `address` is the `struct sockaddr` of its destination, empty on a connected socket. */
  sendFailed(error: UringError, address: Uint8Array): void;
  /** There is room again, after {@link DatagramSender.send} had found none. */
  drained(): void;
}

/** The most datagrams that the kernel cuts one send into, on all versions, and the most bytes. */
const MOST_SEGMENTS = 64;
const MOST_RUN = 64_000;
/** What the kernel says when it cannot cut: `EIO`, `EINVAL`, `EMSGSIZE`. */
const UNCUT: ReadonlySet<number> = new Set([-5, -22, -90]);

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
class Slot implements CompletionSink, Prompt {
  readonly store: Store;
  readonly index: number;
  readonly at: number;
  readonly address: number;
  op: Op | null = null;
  length = 0;
  segmentSize = 0;
  nameLength = 0;
  result = 0;
  /** Those that are sent with it. */
  members: readonly Slot[] | null = null;
  sent: Sent | null = null;

  constructor(store: Store, index: number) {
    this.store = store;
    this.index = index;
    this.at = index * store.size;
    this.address = store.memory.address + this.at;
  }

  complete(res: number): void {
    this.op = null;
    this.store.sender.runEnded(this, res);
  }

  failed(res: number): void {
    this.result = res;
  }

  settled(): void {
    this.store.sender.runEnded(this, this.result);
  }

  abandon(): void {
    this.store.sender.runEnded(this, ECANCELED);
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
  readonly slots: Slot[] = [];
  readonly #free: Int32Array;
  #freeCount = 0;
  // Room for the vectors of a run, for each slot.
  #vectors: { readonly memory: Mapping; readonly words: Int32Array } | null = null;

  constructor(sender: DatagramSender, { count, size }: { count: number; size: number }) {
    this.sender = sender;
    this.size = size;
    this.count = count;
    this.memory = Mapping.anonymous(count * size);
    this.bytes = new Uint8Array(this.memory.buffer);
    this.words = new Int32Array(this.memory.buffer);
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

  /** Writes where the data of a run is, and returns where that stands. */
  vectors(slots: readonly Slot[], from: number, count: number): number {
    if (this.#vectors === null) {
      const memory = Mapping.anonymous(this.count * MOST_SEGMENTS * iovec.size);
      this.#vectors = { memory, words: new Int32Array(memory.buffer) };
    }
    const { memory, words } = this.#vectors;
    const at = slots[from]!.index * MOST_SEGMENTS * iovec.size;
    for (let i = 0; i < count; i++) {
      const { address, length } = slots[from + i]!;
      const word = (at + i * iovec.size) >> 2;
      words[word] = address + HEADER;
      words[word + 1] = Math.floor((address + HEADER) / 0x1_0000_0000);
      words[word + (iovec.iov_len >> 2)] = length;
    }
    return memory.address + at;
  }

  /** What the kernel reads while it sends. */
  get pins(): readonly unknown[] {
    return this.#vectors === null ? [this.bytes] : [this.bytes, this.#vectors.words];
  }

  release(): void {
    this.memory.unmap();
    this.#vectors?.memory.unmap();
  }
}

/** Sends the datagrams of one socket. */
export class DatagramSender implements Outgoing {
  readonly #engine: Engine;
  readonly #driver: Driver;
  readonly #fd: number;
  readonly #sink: SenderSink;
  #small: Store | null = null;
  #large: Store | null = null;
  #inFlight = 0;
  // What goes into the ring with the next submission.
  #pending: Slot[] = [];
  #listed = false;
  // The longest datagrams that are sent in runs.
  #longest: number;
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
   * @param runs Whether datagrams of one length to one destination may go out as one, to be cut (`UDP_SEGMENT`).
   */
  constructor(engine: Engine, fd: number, sink: SenderSink, runs: boolean) {
    this.#longest = runs ? MOST_DATA : 0;
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
    else this.#enqueue(slot);
    return true;
  }

  #enqueue(slot: Slot): void {
    this.#pending.push(slot);
    if (this.#listed) return;
    this.#listed = true;
    this.#engine.send(this);
  }

  /** Puts what waits into the ring: before a submission. @internal */
  gather(): void {
    this.#listed = false;
    const pending = this.#pending;
    for (let i = 0; i < pending.length;) {
      const count = this.#run(pending, i);
      this.#submit(pending, i, count);
      i += count;
    }
    pending.length = 0;
  }

  /** The ring is closed. @internal */
  abandon(): void {
    for (const slot of this.#pending.splice(0)) this.ended(slot, ECANCELED);
  }

  /** How many datagrams from here on can be sent as one: of one length but the last, and to one destination. */
  #run(pending: readonly Slot[], from: number): number {
    const first = pending[from]!;
    const { length } = first;
    if (length === 0 || length > this.#longest || first.segmentSize > 0 || first.store !== this.#small) {
      return 1;
    }
    const most = Math.min(pending.length - from, MOST_SEGMENTS, Math.floor(MOST_RUN / length));
    let count = 1;
    while (count < most) {
      const next = pending[from + count]!;
      if (next.length > length || next.length === 0 || next.segmentSize > 0 || !sameName(first, next)) break;
      count++;
      if (next.length < length) break;
    }
    return count;
  }

  #submit(pending: readonly Slot[], from: number, count: number): void {
    const slot = pending[from]!;
    slot.result = 0;
    if (count > 1) slot.members = pending.slice(from + 1, from + count);
    const prompt = this.#engine.promptEntry(slot);
    if (prompt !== null) {
      this.#prepare(prompt, pending, from, count);
      prompt.flags = IOSQE_CQE_SKIP_SUCCESS;
      return;
    }
    const op = this.#driver.begin(count > 1 || slot.segmentSize > 0 ? "sendmsg" : "sendto");
    slot.op = op;
    this.#prepare(op.sqe!, pending, from, count);
    // What has the memory kept until the kernel is done with it.
    op.pins = slot.store.pins;
    this.#driver.launch(op, slot);
  }

  #prepare(sqe: Sqe, pending: readonly Slot[], from: number, count: number): void {
    const slot = pending[from]!;
    const { store, length, segmentSize, nameLength, address } = slot;
    if (count > 1) {
      writeMessage(slot, store.vectors(pending, from, count), count, length);
      sqe.prepSendmsg(this.#fd, address, FLAGS);
    } else if (segmentSize > 0) {
      const iov = (slot.at + IOV_AT) >> 2;
      store.words[iov] = address + HEADER;
      store.words[iov + 1] = Math.floor((address + HEADER) / 0x1_0000_0000);
      store.words[iov + (iovec.iov_len >> 2)] = length;
      writeMessage(slot, address + IOV_AT, 1, segmentSize);
      sqe.prepSendmsg(this.#fd, address, FLAGS);
    } else {
      const name = nameLength === 0 ? 0 : address + NAME_AT;
      sqe.prepSendto(this.#fd, address + HEADER, length, FLAGS, name, nameLength);
    }
  }

  /** A datagram, or several that were sent as one, have ended. @internal */
  runEnded(slot: Slot, res: number): void {
    const { members } = slot;
    slot.members = null;
    if (members === null) {
      this.ended(slot, res);
    } else if (UNCUT.has(res)) {
      // What cannot be cut here, or is too long for the network, goes by itself.
      this.#longest = Math.min(this.#longest, slot.length - 1);
      this.#enqueue(slot);
      for (const member of members) this.#enqueue(member);
    } else {
      this.ended(slot, res);
      for (const member of members) {
        // An error that was waiting at the socket is one datagram's alone.
        if (res < 0 && res !== EAGAIN && res !== ECANCELED && !this.#driver.closed) this.#enqueue(member);
        else this.ended(member, res);
      }
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
      else this.#enqueue(slot);
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
    sent?.(error, slot.length);
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
      if (this.#driver.closed) this.abandon();
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
    this.#small?.release();
    this.#large?.release();
    this.#small = this.#large = null;
  }
}

/** How long until what was cancelled and has not ended is cancelled anew, in milliseconds. */
const AGAIN = 50;

const SEGMENT_SPACE = cmsgSpace(2);
const segment = new Uint8Array(2);

/** Writes a message that is to be cut into segments. */
function writeMessage(slot: Slot, vectors: number, count: number, segmentSize: number): void {
  const { at, address, nameLength, store } = slot;
  const { words } = store;
  const pointer = (field: number, to: number): void => {
    words[(at + field) >> 2] = to;
    words[((at + field) >> 2) + 1] = Math.floor(to / 0x1_0000_0000);
  };
  pointer(msghdr.msg_name, nameLength === 0 ? 0 : address + NAME_AT);
  words[(at + msghdr.msg_namelen) >> 2] = nameLength;
  pointer(msghdr.msg_iov, vectors);
  words[(at + msghdr.msg_iovlen) >> 2] = count;
  pointer(msghdr.msg_control, address + CONTROL_AT);
  words[(at + msghdr.msg_controllen) >> 2] = SEGMENT_SPACE;
  segment[0] = segmentSize;
  segment[1] = segmentSize >>> 8;
  cmsgPut(store.bytes, at + CONTROL_AT, SOL_UDP, UDP_SEGMENT, segment);
}

/** Whether two datagrams go to the same destination. */
function sameName(a: Slot, b: Slot): boolean {
  if (a.nameLength !== b.nameLength) return false;
  const ours = a.store.words;
  const theirs = b.store.words;
  const from = (a.at + NAME_AT) >> 2;
  const to = (b.at + NAME_AT) >> 2;
  for (let i = 0; i < a.nameLength >> 2; i++) if (ours[from + i] !== theirs[to + i]) return false;
  return true;
}
