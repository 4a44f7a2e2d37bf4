/**
 * A request of the kernel's, and the place in a queue that it comes by.
 *
 * @module
 */
import type { Mapping } from "../ffi/memory.ts";
import {
  UBLK_IO_F_FUA,
  UBLK_IO_F_NOUNMAP,
  UBLK_IO_OP_DISCARD,
  UBLK_IO_OP_FLUSH,
  UBLK_IO_OP_READ,
  UBLK_IO_OP_WRITE,
  UBLK_IO_OP_WRITE_ZEROES,
  ublksrv_io_desc,
} from "./abi.ts";
import { SECTOR } from "./options.ts";
import type { DiskRequest, FileLike, RequestKind } from "./types.ts";

const OP_FLAGS = ublksrv_io_desc.op_flags >> 2;
const SECTORS = ublksrv_io_desc.nr_sectors >> 2;
const START = ublksrv_io_desc.start_sector >> 2;
/** 32-bit words of a descriptor. */
export const DESCRIPTOR_WORDS: number = ublksrv_io_desc.size >> 2;

const OP_MASK = 0xff;
const MOST_DESCRIPTOR = 0x7fff_ffff;
const TWO_32 = 0x1_0000_0000;

/** Operations by number. */
export const KIND_OF: readonly (RequestKind | undefined)[] = (() => {
  const kinds: (RequestKind | undefined)[] = [];
  kinds[UBLK_IO_OP_READ] = "read";
  kinds[UBLK_IO_OP_WRITE] = "write";
  kinds[UBLK_IO_OP_FLUSH] = "flush";
  kinds[UBLK_IO_OP_DISCARD] = "discard";
  kinds[UBLK_IO_OP_WRITE_ZEROES] = "writeZeroes";
  return kinds;
})();

/** Who has a place: `fetching`, the kernel; `serving`, a handler; `expired`, a handler from whom it was taken. */
export type PlaceState = "fetching" | "serving" | "expired" | "gone";

/** What a request needs of its server. */
export interface Carrier {
  /** Starts a transfer; all has been checked. */
  transfer(request: Place, fd: number, position: number): Promise<void>;
  /** Copies between memory and a request that has no memory of this program's. */
  copy(request: Place, memory: Uint8Array, at: number): void;
}

/** A place for a request, which it is while one is being served. */
export class Place implements DiskRequest {
  kind: RequestKind = "read";
  offset = 0;
  length = 0;
  fua = false;
  mayUnmap = false;
  readonly queue: number;
  readonly tag: number;
  /** Its number among all places of the disk. */
  readonly index: number;
  /** The operation's number. */
  op = 0;
  state: PlaceState = "fetching";
  /** When the handler began that has not ended yet, in ticks of the server's. */
  began = 0;
  /** The memory for its data; null on a disk without copies. */
  readonly memory: Mapping | null;
  readonly #carrier: Carrier;
  #view: Uint8Array | null = null;
  #abort: AbortController | null = null;

  constructor(carrier: Carrier, index: number, queue: number, tag: number, memory: Mapping | null) {
    this.#carrier = carrier;
    this.index = index;
    this.queue = queue;
    this.tag = tag;
    this.memory = memory;
  }

  /** Becomes the request that a descriptor tells of: 32-bit words from `at` on. */
  begin(words: Int32Array, at: number): void {
    const opFlags = words[at + OP_FLAGS]!;
    const op = opFlags & OP_MASK;
    this.op = op;
    this.kind = KIND_OF[op] ?? "flush";
    const sectors = words[at + SECTORS]! >>> 0;
    this.length = sectors * SECTOR;
    // A flush, which is about the whole disk, begins nowhere.
    this.offset = sectors === 0
      ? 0
      : ((words[at + START]! >>> 0) + (words[at + START + 1]! >>> 0) * TWO_32) * SECTOR;
    this.fua = (opFlags & UBLK_IO_F_FUA) !== 0;
    this.mayUnmap = (opFlags & UBLK_IO_F_NOUNMAP) === 0;
    this.#abort = null;
    this.state = "serving";
  }

  /** What the kernel is told when all went well. */
  get success(): number {
    return this.op <= UBLK_IO_OP_WRITE ? this.length : 0;
  }

  /** Whether it has data. */
  get hasData(): boolean {
    return this.op <= UBLK_IO_OP_WRITE;
  }

  get data(): Uint8Array {
    this.#assertData();
    const { memory, length } = this;
    if (memory === null) {
      throw new TypeError("A disk with zeroCopy has no data here: use transfer or copy of the request");
    }
    let view = this.#view;
    if (view === null || view.byteLength !== length) {
      view = this.#view = new Uint8Array(memory.buffer, 0, length);
    }
    return view;
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    return this.#abort.signal;
  }

  /** Takes the request from its handler. */
  expire(reason: unknown): void {
    this.state = "expired";
    // Whoever asks for the signal later finds it aborted, too.
    this.#abort ??= new AbortController();
    this.#abort.abort(reason);
  }

  transfer(file: FileLike, position: number = this.offset): Promise<void> {
    this.#assertData();
    const fd = typeof file === "object" && file !== null ? file.fd : file;
    if (!Number.isInteger(fd) || fd < 0 || fd > MOST_DESCRIPTOR) {
      throw new RangeError(`file must be a descriptor or have one, not ${fd}`);
    }
    if (!Number.isSafeInteger(position) || position < 0) {
      throw new RangeError(`position must be an integer from 0 on, not ${position}`);
    }
    return this.#carrier.transfer(this, fd, position);
  }

  copy(memory: Uint8Array, at: number = 0): void {
    this.#assertData();
    if (!(memory instanceof Uint8Array)) throw new TypeError("memory must be a Uint8Array");
    if (!Number.isInteger(at) || at < 0 || at + memory.byteLength > this.length) {
      throw new RangeError(
        `${memory.byteLength} bytes at ${at} are not within the request's ${this.length} bytes`,
      );
    }
    if (memory.byteLength === 0) return;
    if (this.memory === null) this.#carrier.copy(this, memory, at);
    else if (this.op === UBLK_IO_OP_READ) this.data.set(memory, at);
    else memory.set(this.data.subarray(at, at + memory.byteLength));
  }

  #assertData(): void {
    if (this.state !== "serving") throw new TypeError("The request has ended");
    if (!this.hasData) throw new TypeError(`A ${this.kind} has no data`);
  }
}
