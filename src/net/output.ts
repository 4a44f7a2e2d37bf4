/**
 * What one connection has to send: in order, gathered, one send at a time.
 *
 * @module
 */
import {
  IORING_SEND_ZC_REPORT_USAGE,
  IOSQE_CQE_SKIP_SUCCESS,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_WAITALL,
} from "../ffi/abi.ts";
import { isMapped } from "../ffi/memory.ts";
import { addressOf } from "../ffi/pin.ts";
import { iovec, msghdr } from "../ffi/structs.ts";
import type { CompletionSink, Op } from "../loop/op.ts";
import { registeredSlot } from "../loop/registered_buffer.ts";
import { shadowing } from "../loop/shadow.ts";
import type { Engine } from "./engine.ts";
import { closedError } from "./errors.ts";
import { BORROWED, type Job, LENT, Piece } from "./pieces.ts";
import type { AnySocket } from "./socket.ts";
import { type ZeroCopyOwner, ZeroCopySend } from "./zero_copy.ts";

/** Up to here a send is first tried without waiting, which costs no completion. */
const PROMPT = 16 << 10;

/** Up to here the bytes of a buffer that data arrives in are copied rather than sent from there behind others. */
const COPIED = 1024;

/** How many stretches of memory one send takes. */
const MOST_PIECES = 64;

/** A promise for the time when so many bytes were sent. */
interface Waiter {
  readonly at: number;
  readonly value: number;
  readonly resolve: (value: number | Promise<never>) => void;
}

const FLAGS = MSG_NOSIGNAL | MSG_WAITALL;
// All or nothing that would be told: what is sent in part, or not at all for want of room, counts as failed.
const PROMPT_FLAGS = FLAGS | MSG_DONTWAIT;
const EAGAIN = -11;
const ENOMEM = -12;
const ENOBUFS = -105;

const encoder = new TextEncoder();

// One executor for all promises: a closure per promise would cost as much as the promise.
let resolveNext: Waiter["resolve"];
const executor = (resolve: Waiter["resolve"]): void => {
  resolveNext = resolve;
};

/** The queue of a connection. */
export class Output implements CompletionSink, ZeroCopyOwner {
  /** How many bytes wait or are being sent. */
  queued = 0;
  /** How many operations are in flight. */
  inFlight = 0;
  /** From how many bytes on memory of the program's is sent without being copied. */
  zeroCopy: number = Infinity;
  // What was sent without a copy and is not the program's again, in order.
  #lent: ZeroCopySend[] = [];
  readonly #socket: AnySocket;
  readonly #engine: Engine;
  #first: Piece | null = null;
  #last: Piece | null = null;
  #op: Op | null = null;
  #job: Job | null = null;
  #listed = false;
  // How many bytes are being sent without a completion, and how that has failed.
  #prompt = 0;
  #failure = 0;
  #insists = false;
  // How many bytes were ever queued, and how many of them were sent.
  #added = 0;
  #sent = 0;
  // Who waits for some of it to be sent: the first, which mostly is the only one, and those behind it.
  #resolve: Waiter["resolve"] | null = null;
  #at = 0;
  #value = 0;
  #waiters: Waiter[] = [];

  /** @internal */
  constructor(socket: AnySocket, engine: Engine) {
    this.#socket = socket;
    this.#engine = engine;
  }

  /** Whether there is nothing to do. */
  get empty(): boolean {
    return this.#first === null && !this.#busy;
  }

  get #busy(): boolean {
    return this.#op !== null || this.#prompt > 0 || this.#job !== null;
  }

  /** Copies bytes to the end. */
  add(bytes: Uint8Array, from: number, to: number): void {
    const length = to - from;
    for (let at = from; at < to;) {
      const piece = this.#room(to - at);
      const count = Math.min(to - at, piece.size - piece.end);
      piece.bytes!.set(count === bytes.length ? bytes : bytes.subarray(at, at + count), piece.end);
      piece.end += count;
      at += count;
    }
    this.#count(length);
  }

  /** Adds text as UTF-8; returns how many bytes that are. */
  addText(text: string): number {
    const { length } = text;
    if (length === 0) return 0;
    if (length <= 64) {
      const piece = this.#room(length);
      const { bytes, end } = piece;
      if (piece.size - end >= length) {
        let i = 0;
        for (; i < length; i++) {
          const unit = text.charCodeAt(i);
          if (unit > 0x7f) break;
          bytes![end + i] = unit;
        }
        if (i === length) {
          piece.end = end + length;
          this.#count(length);
          return length;
        }
      }
    }
    const bytes = encoder.encode(text);
    this.add(bytes, 0, bytes.length);
    return bytes.length;
  }

  /** Adds the view that a handler is being called with, without a copy; false when it should be copied. */
  lend(view: Uint8Array): boolean {
    const engine = this.#engine;
    const { pool } = engine;
    const { length } = view;
    if (this.#first !== null && length <= COPIED) return false;
    // What a slow reader holds back must not be the memory that others receive into.
    if (length > PROMPT && (pool.free <= pool.count >> 1 || this.#op !== null)) return false;
    const piece = engine.pieces.lend(pool.address + pool.borrowedAt, length, engine.currentId);
    pool.retain(engine.currentId);
    this.#append(piece);
    this.#count(length);
    return true;
  }

  /** Adds memory of the caller's, which must stay as it is until it is sent. */
  borrow(view: Uint8Array): void {
    if (view.length === 0) return;
    if (shadowing && !isMapped(view.buffer)) {
      this.add(view, 0, view.length);
      return;
    }
    const piece = new Piece(null, addressOf(view), view.length, -1, view);
    piece.end = view.length;
    if (isMapped(view.buffer)) {
      const { driver, memory } = this.#engine;
      piece.slot = registeredSlot(view.buffer, driver);
      piece.hold = memory.begin(view);
    }
    this.#append(piece);
    this.#count(view.length);
  }

  /** Adds something that is to run when all before it was sent. */
  addJob(job: Job): void {
    const piece = new Piece(null, 0, 0, -1, null);
    piece.job = job;
    this.#append(piece);
    // So that who waits for all that was added waits for it, too.
    this.#added++;
    this.#list();
  }

  /** Resolves with `value` when all that was added by now is sent. */
  sent(value: number): Promise<number> {
    if (this.#sent === this.#added && this.#lent.length === 0) return Promise.resolve(value);
    const promise = new Promise<number>(executor);
    if (this.#resolve === null) this.#wait(this.#added, value, resolveNext);
    else this.#waiters.push({ at: this.#added, value, resolve: resolveNext });
    return promise;
  }

  /** Has somebody be the first who waits. */
  #wait(at: number, value: number, resolve: Waiter["resolve"]): void {
    this.#at = at;
    this.#value = value;
    this.#resolve = resolve;
  }

  /** Has those behind the first one move up; gives that. */
  #moveUp(): Waiter["resolve"] {
    const first = this.#resolve!;
    if (this.#waiters.length === 0) this.#resolve = null;
    else {
      const { at, value, resolve } = this.#waiters.shift()!;
      this.#wait(at, value, resolve);
    }
    return first;
  }

  #room(wanted: number): Piece {
    const last = this.#last;
    if (last !== null && last.kind >= 0 && last.end < last.size) return last;
    const piece = this.#engine.pieces.take(wanted);
    this.#append(piece);
    return piece;
  }

  #append(piece: Piece): void {
    if (this.#last === null) this.#first = piece;
    else this.#last.next = piece;
    this.#last = piece;
  }

  #count(length: number): void {
    this.queued += length;
    this.#added += length;
    this.#list();
  }

  #list(): void {
    if (this.#listed || this.#busy) return;
    this.#listed = true;
    this.#engine.send(this);
  }

  /** Puts what there is into the ring: called before a submission. */
  gather(): void {
    this.#listed = false;
    const first = this.#first;
    if (first === null || this.#busy || this.#socket.dead) return;
    if (first.job !== null) {
      this.#run(first.job);
      return;
    }
    const { driver } = this.#engine;
    const next = first.next;
    const length = first.end - first.start;
    if (
      length <= PROMPT && !this.#insists && first.kind !== BORROWED && this.#standsAlone(next)
    ) {
      const sqe = this.#engine.promptEntry(this);
      if (sqe !== null) {
        this.#prompt = length;
        this.inFlight++;
        sqe.prepSend(this.#socket.fd, first.address + first.start, length, PROMPT_FLAGS);
        sqe.flags = IOSQE_CQE_SKIP_SUCCESS | this.#socket.fixed;
        return;
      }
    }
    this.#insists = false;
    const op = driver.begin("send");
    this.#op = op;
    this.inFlight++;
    if (first.kind === BORROWED && length >= this.zeroCopy) {
      this.#lend(op, first, length);
      return;
    }
    if (this.#standsAlone(next)) {
      op.sqe!.prepSend(this.#socket.fd, first.address + first.start, length, FLAGS);
      op.pins = first.owner;
    } else this.#gatherMany(op, first);
    op.sqe!.flags |= this.#socket.fixed;
    driver.launch(op, this);
  }

  /** Sends without a copy. */
  #lend(op: Op, piece: Piece, length: number): void {
    const sqe = op.sqe!;
    const { fd, fixed } = this.#socket;
    const address = piece.address + piece.start;
    if (piece.slot < 0) sqe.prepSendZc(fd, address, length, FLAGS, IORING_SEND_ZC_REPORT_USAGE);
    else sqe.prepSendZcFixed(fd, address, length, FLAGS, IORING_SEND_ZC_REPORT_USAGE, piece.slot);
    sqe.flags |= fixed;
    op.pins = piece.owner;
    const send = new ZeroCopySend(this, this.#sent);
    this.#lent.push(send);
    this.#engine.driver.launch(op, send);
  }

  /** The kernel has queued it, and more can follow. @internal */
  zeroCopySent(res: number): void {
    this.#op = null;
    if (res > 0) this.#taken(res);
    // An ordinary user may not have so much memory locked: what is copied needs none.
    else if (res === ENOBUFS || res === ENOMEM) this.zeroCopy = Infinity;
    else if (res < 0) this.#socket.sendFailed(res);
    this.#goOn();
  }

  /** The kernel is done with the memory. @internal */
  zeroCopyEnded(send: ZeroCopySend, copied: boolean): void {
    this.inFlight--;
    this.#lent.splice(this.#lent.indexOf(send), 1);
    if (copied) this.zeroCopy = Infinity;
    this.#wake();
    this.#goOn();
  }

  /** Whether what comes next, if anything does, is not to be sent together with what is before it. */
  #standsAlone(next: Piece | null): boolean {
    return next === null || next.job !== null ||
      (next.kind === BORROWED && next.end - next.start >= this.zeroCopy);
  }

  #gatherMany(op: Op, first: Piece): void {
    const owners: unknown[] = [];
    let count = 0;
    let piece: Piece | null = first;
    do {
      count++;
      owners.push(piece!.owner);
      piece = piece!.next;
    } while (!this.#standsAlone(piece) && count < MOST_PIECES);
    const memory = this.#engine.driver.arena.take(msghdr.size + count * iovec.size);
    memory.bytes.fill(0);
    const view = new DataView(memory.bytes.buffer, memory.bytes.byteOffset, memory.bytes.length);
    const set = (at: number, value: number): void => {
      view.setUint32(at, value, true);
      view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
    };
    set(msghdr.msg_iov, memory.address + msghdr.size);
    set(msghdr.msg_iovlen, count);
    let at = msghdr.size;
    for (let piece = first, i = 0; i < count; i++, piece = piece.next!, at += iovec.size) {
      set(at + iovec.iov_base, piece.address + piece.start);
      set(at + iovec.iov_len, piece.end - piece.start);
    }
    owners.push(memory.owner);
    op.pins = owners;
    op.sqe!.prepSendmsg(this.#socket.fd, memory.address, FLAGS);
  }

  #run(job: Job): void {
    this.#job = job;
    this.inFlight++;
    this.#socket.side?.hold();
    job.run((piece, sent) => {
      this.#job = null;
      this.inFlight--;
      this.#socket.side?.letGo();
      if (this.#first?.job === job) this.#shift();
      this.#sent++;
      if (piece !== undefined) this.#insert(piece, sent!);
      this.#wake();
      this.#goOn();
    });
  }

  /** Puts something before everything else. */
  #insert(piece: Piece, sent: PromiseWithResolvers<number>): void {
    const length = piece.end - piece.start;
    piece.next = this.#first;
    this.#first = piece;
    if (piece.next === null) this.#last = piece;
    this.queued += length;
    // As if it had been there from the start, for who waits for what comes after it.
    this.#sent -= length;
    const at = this.#sent + length;
    if (this.#resolve !== null) {
      this.#waiters.unshift({ at: this.#at, value: this.#value, resolve: this.#resolve });
    }
    this.#wait(at, length, sent.resolve);
  }

  /** A send without completion has failed, or was done in part. */
  failed(res: number): void {
    this.#failure = res;
  }

  /** It is known how a send without completion has ended. */
  settled(): void {
    const length = this.#prompt;
    const failure = this.#failure;
    this.#prompt = 0;
    this.inFlight--;
    if (failure === 0) this.#taken(length);
    else {
      this.#failure = 0;
      if (failure > 0) this.#taken(failure);
      else if (failure !== EAGAIN) this.#socket.sendFailed(failure);
      this.#insist();
    }
    this.#goOn();
  }

  /** Has the next send wait for room, from memory that nobody else waits for. */
  #insist(): void {
    this.#insists = true;
    const first = this.#first;
    if (first === null || first.kind !== LENT || this.#socket.dead) return;
    const { pieces, pool } = this.#engine;
    const copy = pieces.take(first.end - first.start);
    const bytes = pool.at(first.address + first.start, first.end - first.start);
    copy.bytes!.set(bytes);
    copy.end = bytes.length;
    copy.next = first.next;
    this.#first = copy;
    if (this.#last === first) this.#last = copy;
    this.#give(first);
  }

  /** The ring is gone. */
  abandon(): void {
    if (this.#prompt > 0) {
      this.#prompt = 0;
      this.inFlight--;
    }
    this.#socket.destroy(closedError("send"));
    this.#socket.settle();
  }

  /** A send has ended. @internal */
  complete(res: number): void {
    this.#op = null;
    this.inFlight--;
    if (res > 0) this.#taken(res);
    if (res < 0) this.#socket.sendFailed(res);
    this.#goOn();
  }

  #goOn(): void {
    const socket = this.#socket;
    if (socket.dead) {
      socket.settle();
      return;
    }
    if (this.#first !== null) this.#list();
    else socket.outputEmpty();
    socket.sentSome();
  }

  #taken(length: number): void {
    this.queued -= length;
    this.#sent += length;
    for (let left = length; left > 0;) {
      const piece = this.#first!;
      const count = Math.min(left, piece.end - piece.start);
      piece.start += count;
      left -= count;
      if (piece.start === piece.end) this.#shift();
    }
    if (this.#resolve !== null) this.#wake();
  }

  #wake(): void {
    // What was sent is done, up to what the kernel still has in its hands.
    const done = this.#lent.length === 0 ? this.#sent : Math.min(this.#sent, this.#lent[0]!.start);
    while (this.#resolve !== null && this.#at <= done) {
      const value = this.#value;
      this.#moveUp()(value);
    }
  }

  #shift(): void {
    const piece = this.#first!;
    this.#first = piece.next;
    if (piece.next === null) this.#last = null;
    this.#give(piece);
  }

  #give(piece: Piece): void {
    if (piece.kind === LENT) this.#engine.pool.recycle(piece.buffer);
    else if (piece.hold !== null) this.#engine.memory.end(piece.hold);
    this.#engine.pieces.give(piece);
  }

  /** Has what is in flight cancelled. */
  cancel(error: Error): void {
    if (this.#op !== null) this.#engine.driver.cancelOp(this.#op);
    this.#job?.cancel(error);
  }

  /** Gives up what was not sent. Only when nothing is in flight. */
  discard(error: Error): void {
    while (this.#first !== null) {
      const { job } = this.#first;
      this.#shift();
      job?.cancel(error);
    }
    this.queued = 0;
    while (this.#resolve !== null) this.#moveUp()(Promise.reject(error));
  }
}
