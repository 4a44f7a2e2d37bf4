/**
 * Where datagrams arrive.
 *
 * @module
 */
import { Mapping } from "../ffi/memory.ts";
import { io_uring_recvmsg_out } from "../ffi/structs.ts";
import type { Driver } from "../loop/driver.ts";
import { type BufRing, bufRingAdd, bufRingAdvance, bufRingMask } from "../ring/buf_ring.ts";
import type { CoreRing } from "../ring/core_ring.ts";

const MOST_GROUPS = 0x1_0000;
const LINE = 64;
const PAGE = 4096;

// The groups that datagram sockets have taken of each ring: from the end, since pools take theirs from the beginning.
const groups = new WeakMap<CoreRing, Set<number>>();

function takeGroup(ring: CoreRing): number {
  let taken = groups.get(ring);
  if (taken === undefined) groups.set(ring, taken = new Set());
  let bgid = MOST_GROUPS - 1;
  while (taken.has(bgid)) bgid--;
  taken.add(bgid);
  return bgid;
}

/** A ring of provided buffers, each of which takes one message: a header, an address, control messages, data. */
export class DatagramBuffers {
  /** The group. */
  readonly bgid: number;
  /** How far a buffer is from the next one. */
  readonly stride: number;
  /** The memory. */
  readonly bytes: Uint8Array;
  /** The memory in words. */
  readonly words: Int32Array;
  /** Where a message's address begins in its buffer. */
  readonly nameAt: number;
  /** Where its control messages begin. */
  readonly controlAt: number;
  /** Where its data begins. */
  readonly dataAt: number;
  readonly #driver: Driver;
  readonly #memory: Mapping;
  readonly #bufRing: BufRing;
  readonly #mask: number;
  readonly #length: number;
  // A view of each buffer's data, as long as the data was the last time.
  readonly #views: Uint8Array[];
  #released = false;

  /**
   * @param driver The engine of the ring.
   * @param count How many buffers: a power of two.
   * @param size The longest datagram.
   * @param nameRoom How many bytes there are for the address.
   * @param controlRoom How many bytes there are for control messages.
   */
  constructor(driver: Driver, count: number, size: number, nameRoom: number, controlRoom: number) {
    this.#driver = driver;
    this.nameAt = io_uring_recvmsg_out.size;
    this.controlAt = this.nameAt + nameRoom;
    this.dataAt = this.controlAt + controlRoom;
    this.#length = this.dataAt + size;
    // Buffers that begin at the same place of their pages would share few lines of the processor's caches.
    const stride = Math.ceil(this.#length / LINE) * LINE;
    this.stride = stride % PAGE === 0 ? stride + LINE : stride;
    this.#mask = bufRingMask(count);
    this.bgid = takeGroup(driver.ring);
    try {
      this.#bufRing = driver.ring.setupBufRing(count, this.bgid);
    } catch (error) {
      groups.get(driver.ring)!.delete(this.bgid);
      throw error;
    }
    this.#memory = Mapping.anonymous(count * this.stride);
    this.bytes = new Uint8Array(this.#memory.buffer);
    this.words = new Int32Array(this.#memory.buffer);
    this.#views = Array.from({ length: count }, () => this.bytes.subarray(0, 0));
    for (let id = 0; id < count; id++) this.#add(id, id);
    bufRingAdvance(this.#bufRing, count);
  }

  #add(id: number, offset: number): void {
    const address = this.#memory.address + id * this.stride;
    bufRingAdd(this.#bufRing, address, this.#length, id, this.#mask, offset);
  }

  /** The data of a buffer: a view that is used again for the next message in it. */
  view(id: number, length: number): Uint8Array {
    const view = this.#views[id]!;
    if (view.length === length && length > 0) return view;
    const at = id * this.stride + this.dataAt;
    return this.#views[id] = this.bytes.subarray(at, at + length);
  }

  /** Gives a buffer back to the kernel. */
  recycle(id: number): void {
    if (this.#released) return;
    this.#add(id, 0);
    bufRingAdvance(this.#bufRing, 1);
  }

  /** Gives the memory back: nothing receives into it any more. Every view of it becomes empty. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    const { ring, abandoned } = this.#driver;
    if (abandoned) {
      // What the kernel may have in its hands for ever stays.
      kept.push(this.#memory);
      return;
    }
    if (!ring.closed) {
      ring.freeBufRing(this.#bufRing);
      groups.get(ring)!.delete(this.bgid);
    }
    this.#memory.unmap();
  }
}

const kept: Mapping[] = [];
