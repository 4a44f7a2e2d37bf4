/**
 * Requests over io_uring: slots that the kernel fills, and takes back with the answer.
 *
 * @module
 */
import { UringError } from "../ffi/errors.ts";
import { pageSize, readSmallFile } from "../ffi/kernel.ts";
import { Mapping } from "../ffi/memory.ts";
import { io_uring_sqe, iovec } from "../ffi/structs.ts";
import type { Sqe } from "../ring/sqe.ts";
import { high32, low32 } from "../ring/sqe_base.ts";
import {
  FUSE_IO_URING_CMD_COMMIT_AND_FETCH,
  FUSE_IO_URING_CMD_REGISTER,
  fuse_out_header,
  fuse_uring_cmd_req,
  fuse_uring_ent_in_out,
  fuse_uring_req_header,
} from "./abi.ts";
import type { Engine } from "./engine.ts";
import { LentMemory } from "./lent_memory.ts";
import { Slot } from "./slot.ts";
import type { Receiver, Transport } from "./transport.ts";

const OP_IN = fuse_uring_req_header.op_in >> 2;
const PAYLOAD_SIZE = (fuse_uring_req_header.ring_ent_in_out + fuse_uring_ent_in_out.payload_sz) >> 2;
const ERROR = fuse_out_header.error >> 2;
const COMMIT_ID = fuse_uring_cmd_req.commit_id >> 2;
const QID = fuse_uring_cmd_req.qid >> 2;
const CMD = io_uring_sqe.addr3 >> 2;
/** A slot's header and, at the first, its two iovecs. */
const HEADER_ROOM = 512;
const IOVECS_AT = fuse_uring_req_header.size;
const IOVECS = 2;

/** How many processors there can be, each of which has a queue. */
export function possibleProcessors(): number {
  const text = readSmallFile("/sys/devices/system/cpu/possible") ?? "";
  const last = /(\d+)\s*$/.exec(text)?.[1];
  return last === undefined ? navigator.hardwareConcurrency : Number(last) + 1;
}

/** How the queues are laid out. */
export interface QueueOptions {
  /** The device. */
  readonly fd: number;
  readonly queues: number;
  /** Slots of each. */
  readonly depth: number;
  /** The memory of each slot for what follows a request's struct, and for the reply. */
  readonly payload: number;
}

/** The queues of all processors. */
export class UringQueues implements Transport {
  readonly #engine: Engine;
  readonly #to: Receiver;
  readonly #options: QueueOptions;
  readonly #headers: Mapping;
  readonly #payloads: LentMemory[] = [];
  readonly #slots: Slot[] = [];
  readonly #commands = new Map<Sqe, number>();
  /** How many slots the kernel has. */
  held = 0;
  /** What the kernel has said of the first slot that it would not have. */
  failure = 0;

  constructor(engine: Engine, to: Receiver, options: QueueOptions) {
    this.#engine = engine;
    this.#to = to;
    this.#options = options;
    const count = options.queues * options.depth;
    const page = pageSize();
    this.#headers = Mapping.anonymous(Math.ceil((count * HEADER_ROOM) / page) * page);
    const { sqes, sqeSlot } = engine.ring.entries;
    sqes.forEach((sqe, i) => this.#commands.set(sqe, i * sqeSlot + CMD));
    try {
      for (let i = 0; i < count; i++) {
        this.#payloads.push(new LentMemory(options.payload));
        this.#slots.push(this.#makeSlot(i));
      }
    } catch (error) {
      this.release();
      throw error;
    }
  }

  #makeSlot(index: number): Slot {
    const at = index * HEADER_ROOM;
    const payload = new Uint8Array(this.#payloads[index]!.buffer);
    return new Slot(index, {
      words: new Int32Array(this.#headers.buffer, at, fuse_uring_req_header.size >> 2),
      opAt: OP_IN,
      input: payload,
      output: payload,
    });
  }

  /** Hands all slots to the kernel; those that it does not take come back with an error. */
  register(): void {
    const view = new DataView(this.#headers.buffer);
    const put = (at: number, value: number): void => {
      view.setInt32(at, low32(value), true);
      view.setInt32(at + 4, high32(value), true);
    };
    for (let i = 0; i < this.#slots.length; i++) {
      const header = i * HEADER_ROOM;
      const iovecs = header + IOVECS_AT;
      put(iovecs + iovec.iov_base, this.#headers.address + header);
      put(iovecs + iovec.iov_len, fuse_uring_req_header.size);
      put(iovecs + iovec.size + iovec.iov_base, this.#payloads[i]!.address);
      put(iovecs + iovec.size + iovec.iov_len, this.#options.payload);
      const sqe = this.#command(FUSE_IO_URING_CMD_REGISTER, i, 0, 0);
      sqe.addr = this.#headers.address + iovecs;
      sqe.len = IOVECS;
    }
    this.#engine.ring.submit();
  }

  #command(command: number, index: number, idLow: number, idHigh: number): Sqe {
    const engine = this.#engine;
    const sqe = engine.sqe();
    sqe.prepUringCmd(command, this.#options.fd);
    sqe.setUserData(index, 0);
    const at = this.#commands.get(sqe)!;
    const words = engine.ring.entries.sqeWords;
    words[at] = 0;
    words[at + 1] = 0;
    words[at + COMMIT_ID] = idLow;
    words[at + COMMIT_ID + 1] = idHigh;
    words[at + QID] = (index / this.#options.depth) | 0;
    words[at + QID + 1] = 0;
    // What was written past the entry's own functions is theirs to clear.
    sqe.soil();
    engine.inFlight++;
    this.held++;
    return sqe;
  }

  /** A slot has come back: with a request, or lost with an errno. */
  completed(index: number, res: number): void {
    this.held--;
    if (res < 0) {
      if (this.failure === 0) this.failure = res;
      this.#to.over();
      return;
    }
    const slot = this.#slots[index]!;
    slot.inAt = 0;
    slot.inEnd = slot.words[PAYLOAD_SIZE]!;
    this.#to.request(slot, this);
  }

  reply(slot: Slot, error: number, length: number): void {
    if (this.#engine.closed) return;
    const { words, index } = slot;
    words[0] = fuse_out_header.size + length;
    words[ERROR] = error;
    words[PAYLOAD_SIZE] = length;
    this.#command(FUSE_IO_URING_CMD_COMMIT_AND_FETCH, index, slot.uniqueLow, slot.uniqueHigh);
    this.#engine.schedule();
  }

  abandon(slot: Slot, error: number): void {
    const { index } = slot;
    // Where there is no memory or descriptor for that, it is tried again later.
    this.#payloads[index]!.replace();
    slot.detach();
    const fresh = this.#makeSlot(index);
    this.#slots[index] = fresh;
    this.reply(fresh, error, 0);
  }

  /** Gives the memory back: the kernel's side, too, where it is done with it. */
  release(kernel = true): void {
    for (const payload of this.#payloads) {
      if (kernel) payload.unmapKernel();
      payload.unmap();
    }
    if (kernel) this.#headers.unmap();
    else kept.push(this.#headers);
  }

  /** Why the kernel has not taken the slots. */
  error(): UringError {
    return new UringError(this.failure, "FUSE_IO_URING_CMD_REGISTER");
  }
}

/** Memory that the kernel may still look at. */
const kept: Mapping[] = [];
