/**
 * Requests over `/dev/fuse` itself: all of them without io_uring, otherwise those that are not for its slots.
 *
 * @module
 */
import { POLLIN } from "../ffi/abi.ts";
import { pageSize } from "../ffi/kernel.ts";
import { Mapping } from "../ffi/memory.ts";
import { system } from "../ffi/system.ts";
import { join32 } from "../ring/sqe_base.ts";
import {
  FUSE_BATCH_FORGET,
  fuse_batch_forget_in,
  FUSE_FORGET,
  fuse_forget_in,
  fuse_forget_one,
  fuse_in_header,
  FUSE_INTERRUPT,
  FUSE_NOTIFY_REPLY,
  fuse_out_header,
  fuse_write_in,
} from "./abi.ts";
import type { Engine } from "./engine.ts";
import { Slot } from "./slot.ts";
import type { Receiver, Transport } from "./transport.ts";

const EINTR = -4;
const ENOENT = -2;
const EAGAIN = -11;

const HEADER_WORDS = fuse_in_header.size >> 2;
const OUT_WORDS = fuse_out_header.size >> 2;
/** How many requests may be there at a time. */
const MOST_SLOTS = 1024;
/** How many are read before something else gets a turn. */
const MOST_READ = 32;
/** Beside what is written, a request has its header, its struct, and names. */
const REQUEST_ROOM = 4096;

/** A slot, and where its messages lie. */
interface Place {
  readonly slot: Slot;
  readonly message: Uint8Array;
  /** The reply's header, right in front of its output. */
  readonly outHeader: Int32Array;
  readonly reply: Uint8Array;
  readonly mappings: readonly Mapping[];
}

/** The device. */
export class Device implements Transport {
  readonly fd: number;
  readonly #engine: Engine;
  readonly #to: Receiver;
  readonly #structSize: (opcode: number) => number;
  readonly #largest: number;
  readonly #free: Place[] = [];
  readonly #places: (Place | null)[] = [];
  #count = 0;
  #polling = false;
  #full = false;
  #closed = false;

  /**
   * @param fd The descriptor, non-blocking.
   * @param largest The largest write, and reply, in bytes.
   * @param structSize The size of a request's struct by its opcode.
   */
  constructor(
    engine: Engine,
    to: Receiver,
    fd: number,
    largest: number,
    structSize: (opcode: number) => number,
  ) {
    this.fd = fd;
    this.#engine = engine;
    this.#to = to;
    this.#largest = largest;
    this.#structSize = structSize;
  }

  /** Waits for requests. */
  wait(): void {
    if (this.#polling || this.#closed) return;
    this.#polling = true;
    this.#engine.begin((sqe) => sqe.prepPollAdd(this.fd, POLLIN), () => {
      this.#polling = false;
      // What has come to slots comes first: an interruption may be of one of those.
      this.#engine.look = true;
    });
  }

  /** Reads requests until there are none. */
  read(): void {
    for (let i = 0; i < MOST_READ && !this.#closed; i++) {
      const place = this.#take();
      if (place === null) return;
      const length = system().read(this.fd, place.message, place.message.length);
      if (length < 0) {
        this.#free.push(place);
        if (length === EINTR || length === ENOENT) continue;
        if (length === EAGAIN) this.wait();
        else this.#to.over();
        return;
      }
      this.#dispatch(place, length);
    }
    this.#engine.look = true;
  }

  #take(): Place | null {
    const place = this.#free.pop();
    if (place !== undefined) return place;
    if (this.#count < MOST_SLOTS) return this.#make();
    this.#full = true;
    return null;
  }

  #make(): Place {
    const page = pageSize();
    const round = (size: number): number => Math.ceil(size / page) * page;
    // What is written, and what is read, begins at a page: direct I/O asks for that.
    const before = page - fuse_in_header.size - fuse_write_in.size;
    const input = Mapping.anonymous(page + round(this.#largest + REQUEST_ROOM));
    const output = Mapping.anonymous(page + round(this.#largest));
    const message = new Uint8Array(input.buffer, before);
    const index = this.#places.indexOf(null);
    const slot = new Slot(index < 0 ? this.#places.length : index, {
      words: new Int32Array(input.buffer, before, (message.length) >> 2),
      opAt: HEADER_WORDS,
      input: message,
      output: new Uint8Array(output.buffer, page),
    });
    const outHeader = new Int32Array(output.buffer, page - fuse_out_header.size, OUT_WORDS);
    const reply = new Uint8Array(output.buffer, page - fuse_out_header.size);
    const place = { slot, message, outHeader, reply, mappings: [input, output] };
    this.#places[slot.index] = place;
    this.#count++;
    return place;
  }

  #dispatch(place: Place, length: number): void {
    const { slot } = place;
    switch (slot.opcode) {
      case FUSE_FORGET:
        this.#to.forget(slot.node, slot.u64(fuse_forget_in.nlookup));
        break;
      case FUSE_BATCH_FORGET:
        this.#forgetMany(slot);
        break;
      case FUSE_INTERRUPT:
        this.#to.interrupt(slot.words[HEADER_WORDS]!, slot.words[HEADER_WORDS + 1]!);
        break;
      case FUSE_NOTIFY_REPLY:
        break;
      default:
        slot.inAt = fuse_in_header.size + this.#structSize(slot.opcode);
        slot.inEnd = length;
        this.#to.request(slot, this);
        return;
    }
    this.#free.push(place);
  }

  #forgetMany(slot: Slot): void {
    const { words } = slot;
    const count = slot.u32(fuse_batch_forget_in.count);
    let at = HEADER_WORDS + (fuse_batch_forget_in.size >> 2);
    for (let i = 0; i < count; i++, at += fuse_forget_one.size >> 2) {
      this.#to.forget(join32(words[at]!, words[at + 1]!), join32(words[at + 2]!, words[at + 3]!));
    }
  }

  reply(slot: Slot, error: number, length: number): void {
    const place = this.#places[slot.index]!;
    this.#write(place, slot, error, length);
    this.#giveBack(place);
  }

  abandon(slot: Slot, error: number): void {
    const place = this.#places[slot.index]!;
    this.#write(place, slot, error, 0);
    slot.detach();
    // The handler keeps the memory; views keep it mapped.
    this.#places[slot.index] = null;
    this.#count--;
    this.#resume();
  }

  #write({ outHeader, reply }: Place, slot: Slot, error: number, length: number): void {
    if (this.#closed) return;
    outHeader[fuse_out_header.len >> 2] = fuse_out_header.size + length;
    outHeader[fuse_out_header.error >> 2] = error;
    outHeader[fuse_out_header.unique >> 2] = slot.uniqueLow;
    outHeader[(fuse_out_header.unique >> 2) + 1] = slot.uniqueHigh;
    // A request that was aborted meanwhile wants no answer, and without a connection nobody does.
    system().write(this.fd, reply, fuse_out_header.size + length);
  }

  #giveBack(place: Place): void {
    this.#free.push(place);
    this.#resume();
  }

  #resume(): void {
    if (!this.#full) return;
    this.#full = false;
    this.#engine.look = true;
    this.#engine.schedule();
  }

  /** Reads and writes no more. */
  close(): void {
    this.#closed = true;
  }

  /** Gives the memory back. */
  release(): void {
    for (const place of this.#places) for (const mapping of place?.mappings ?? []) mapping.unmap();
    this.#places.length = 0;
    this.#free.length = 0;
  }
}
