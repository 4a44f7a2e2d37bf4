/**
 * Where submissions wait, as finished entries, for room in the ring.
 *
 * @module
 */
import { IOSQE_IO_HARDLINK, IOSQE_IO_LINK } from "../ffi/abi.ts";
import type { CoreRing } from "../ring/core_ring.ts";
import { sqeSize } from "../ring/sizes.ts";
import { Sqe } from "../ring/sqe.ts";
import { type Op, STAGED } from "./op.ts";

const CHUNK = 64;

/** A queue of entries outside the ring. */
export class Staging {
  readonly #ring: CoreRing;
  readonly #ops: readonly Op[];
  readonly #size: number;
  #queue: Sqe[] = [];
  #first = 0;
  readonly #free: Sqe[] = [];

  /**
   * @param ring The ring that the entries go to.
   * @param ops The in-flight table, whose operations are told where their entry went.
   */
  constructor(ring: CoreRing, ops: readonly Op[]) {
    this.#ring = ring;
    this.#ops = ops;
    this.#size = sqeSize(ring.flags);
  }

  /** How many entries wait. */
  get length(): number {
    return this.#queue.length - this.#first;
  }

  /** An entry at the end of the queue. */
  add(): Sqe {
    const sqe = this.loose();
    this.#queue.push(sqe);
    return sqe;
  }

  /** An entry in no queue. */
  loose(): Sqe {
    if (this.#free.length === 0) this.#grow();
    const sqe = this.#free.pop()!;
    sqe.clear();
    return sqe;
  }

  #grow(): void {
    const words = new Int32Array(new ArrayBuffer(CHUNK * this.#size));
    for (let i = 0; i < CHUNK; i++) this.#free.push(new Sqe(words, i * this.#size >> 2, this.#size));
  }

  /** Gives entries back that were in no queue. */
  discard(sqes: readonly Sqe[]): void {
    this.#free.push(...sqes);
  }

  /** Puts linked entries where they stay together: into the ring when there is room, else at the end of the queue. */
  addGroup(sqes: readonly Sqe[], batch: number): void {
    if (this.length === 0 && this.#ring.sqSpaceLeft() >= sqes.length) {
      for (const sqe of sqes) this.#place(sqe, batch);
    } else this.#queue.push(...sqes);
  }

  /** Moves as many entries into the ring as fit, linked ones together. */
  move(batch: number): void {
    let room = this.#ring.sqSpaceLeft();
    while (this.length > 0) {
      const size = this.#groupSize();
      if (size > room) break;
      for (let i = 0; i < size; i++) this.#place(this.#queue[this.#first++]!, batch);
      room -= size;
    }
    if (this.#first === this.#queue.length) {
      this.#queue = [];
      this.#first = 0;
    } else if (this.#first > 4096) {
      this.#queue = this.#queue.slice(this.#first);
      this.#first = 0;
    }
  }

  #groupSize(): number {
    let size = 1;
    for (let i = this.#first; i < this.#queue.length - 1; i++, size++) {
      if ((this.#queue[i]!.flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)) === 0) break;
    }
    return size;
  }

  #place(staged: Sqe, batch: number): void {
    const sqe = this.#ring.getSqe()!;
    sqe.copyFrom(staged);
    const op = this.#ops[staged.userDataLow];
    if (op !== undefined && op.sqe === staged && op.batch === STAGED) {
      op.sqe = sqe;
      op.batch = batch;
    }
    this.#free.push(staged);
  }
}
