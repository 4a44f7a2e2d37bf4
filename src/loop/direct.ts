/**
 * Direct descriptors: files that live in the ring's own table and never become descriptors of the process.
 *
 * @module
 */
import { UringError } from "../ffi/errors.ts";
import { kernelHas } from "../ffi/kernel.ts";
import type { Driver } from "./driver.ts";
import type { Op } from "./op.ts";

const ENFILE = 23;
/** A table that is smaller than this is of no use. */
const LEAST = 4;

/**
 * A file in the ring's table (a "registered" or "fixed" file): what operations that were asked for `direct` and
 * `registerFile` give, and what every operation on a descriptor accepts. It belongs to its `Uring`; close it with that
 * one's `close`, or have `await using` do so. What has been submitted on it goes on and ends on the same file.
 */
export class DirectDescriptor implements Disposable, AsyncDisposable {
  /** Its index in the table. */
  readonly slot: number;
  /** @internal */
  readonly table: DirectTable;
  /** @internal */
  state: "reserved" | "open" | "closing" | "closed" = "reserved";
  // How many operations the kernel may look its slot up for later than it was told to, and whether the slot waits for them.
  #late = 0;
  #slotWaits = false;
  #waiting: (() => void)[] = [];

  /** @internal */
  constructor(table: DirectTable, slot: number) {
    this.table = table;
    this.slot = slot;
  }

  /** Whether it can be used no more. */
  get closed(): boolean {
    return this.state === "closed" || this.state === "closing";
  }

  /** Closes it, if it is open, without waiting for that. */
  [Symbol.dispose](): void {
    if (this.state !== "open") return;
    this.state = "closing";
    closeDirect(this.table.driver, this);
  }

  /** Closes it, if it is open, and resolves when it is closed. */
  [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
    if (this.state !== "closing") return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /**
   * Keeps its slot from being used again while an operation lasts: the kernel looks the slot up when it gets to the
   * operation, which is later than it closes the file where that waits for its turn. @internal
   */
  hold(op: Op): void {
    this.#late++;
    const before = op.released;
    op.released = () => {
      before?.();
      if (--this.#late === 0 && this.#slotWaits) this.table.giveBack(this);
    };
  }

  /** It is closed now. Whether its slot can be used again. @internal */
  finish(): boolean {
    this.state = "closed";
    for (const resolve of this.#waiting.splice(0)) resolve();
    this.#slotWaits = this.#late > 0;
    return !this.#slotWaits;
  }
}

/** Closes a direct descriptor that nobody waits for. @internal */
export function closeDirect(driver: Driver, descriptor: DirectDescriptor): void {
  if (driver.closed) {
    // The table goes with the ring.
    descriptor.table.release(descriptor);
    return;
  }
  const op = driver.begin("close");
  op.sqe!.prepCloseDirect(descriptor.slot);
  driver.launch(op, { complete: () => descriptor.table.release(descriptor) });
}

/** A descriptor of the process, or a direct one. */
export type Fd = number | DirectDescriptor;

/**
 * The ring's table of files. Half of it is given out here, so that a chain can name a slot before it is filled; the
 * kernel picks from the other half for multishot accepts and for what other rings send.
 *
 * The kernel (Linux 6.18) looks for a free slot from where one was filled or closed last, be that inside of its range or
 * not: below its range it would find ours, above it only once its range is full. So its half is the lower one, ours is
 * given out from the top down, and a slot of ours that it has picked all the same is taken until it is closed.
 */
export class DirectTable {
  /** The ring's engine. */
  readonly driver: Driver;
  // How many slots the kernel picks from, which are the lower ones, and how many are given out here.
  #kernels: number;
  #ours: number;
  #registered = false;
  #shared = false;
  #inUse = 0;
  #adopted = 0;
  // The slots of our half: the lowest that was ever given out, what was given back, and what the kernel has picked.
  #lowest: number;
  #free: number[] = [];
  readonly #picked = new Set<number>();

  /**
   * @param driver The ring's engine.
   * @param size How many slots; an even number.
   */
  constructor(driver: Driver, size: number) {
    this.driver = driver;
    this.#kernels = size / 2;
    this.#ours = size / 2;
    this.#lowest = size;
  }

  get #size(): number {
    return this.#kernels + this.#ours;
  }

  /** How many slots the kernel has left to pick from. */
  get left(): number {
    return this.#kernels - this.#adopted;
  }

  /** Has the kernel pick from so many slots, if they are not fewer than it has and no slot is in use. */
  grow(kernels: number): void {
    if (kernels <= this.#kernels || this.#inUse > 0) return;
    if (this.#registered) {
      // Before Linux 6.13 the kernel would wait for what is in flight.
      if (this.driver.inFlight > 0 && !kernelHas("6.13")) return;
      this.driver.ring.unregisterFiles();
    }
    this.#registered = false;
    this.#shared = false;
    this.#kernels = kernels;
    this.#lowest = this.#size;
    this.#free = [];
  }

  /** A slot to be filled. */
  reserve(): DirectDescriptor {
    this.register();
    let slot = this.#free.pop();
    while (slot === undefined && this.#lowest > this.#kernels) {
      this.#lowest--;
      if (!this.#picked.has(this.#lowest)) slot = this.#lowest;
    }
    if (slot === undefined) {
      throw new UringError(ENFILE, "direct descriptor", { hint: `all ${this.#ours} slots are in use` });
    }
    this.#inUse++;
    return new DirectDescriptor(this, slot);
  }

  /** Two slots next to each other to be filled. */
  reservePair(): readonly [DirectDescriptor, DirectDescriptor] {
    this.register();
    let first = this.#free.find((slot) => this.#free.includes(slot + 1));
    if (first === undefined) {
      first = this.#lowest - 2;
      if (first < this.#kernels || this.#picked.has(first) || this.#picked.has(first + 1)) {
        const hint = `no two adjacent ones of the ${this.#ours} slots are free`;
        throw new UringError(ENFILE, "direct descriptor", { hint });
      }
      this.#lowest = first;
    } else {
      const pair = [first, first + 1];
      this.#free = this.#free.filter((slot) => !pair.includes(slot));
    }
    this.#inUse += 2;
    return [new DirectDescriptor(this, first), new DirectDescriptor(this, first + 1)];
  }

  /** A slot that the kernel has picked. */
  adopt(slot: number): DirectDescriptor {
    const descriptor = new DirectDescriptor(this, slot);
    descriptor.state = "open";
    this.#inUse++;
    if (slot < this.#kernels) this.#adopted++;
    else {
      this.#picked.add(slot);
      this.#free = this.#free.filter((free) => free !== slot);
    }
    return descriptor;
  }

  /** Gives a slot back whose file is closed, or that was never filled. */
  release(descriptor: DirectDescriptor): void {
    // A chain may close what is being closed already because it was aborted: the slot is given back once.
    if (descriptor.state === "closed") return;
    const unused = descriptor.finish();
    this.#picked.delete(descriptor.slot);
    if (descriptor.slot < this.#kernels) this.#adopted--;
    if (unused) this.giveBack(descriptor);
  }

  /** Has a slot used again that no operation will be looked up by. @internal */
  giveBack({ slot }: DirectDescriptor): void {
    this.#inUse--;
    // One below the lowest comes up by itself, one that the kernel has picked when that is closed.
    if (slot >= this.#lowest && !this.#picked.has(slot)) this.#free.push(slot);
  }

  /** Registers the table, at first use: as large as was asked for, or as `RLIMIT_NOFILE` allows. */
  register(): void {
    if (this.#registered) return;
    for (;;) {
      try {
        this.#registerAll();
        break;
      } catch (error) {
        if (!(error instanceof UringError) || error.code !== "EMFILE" || this.#size <= LEAST) throw error;
        this.#kernels = this.#kernels > this.#ours
          ? Math.max(this.#ours, this.#kernels >>> 1)
          : this.#ours = Math.max(LEAST / 2, this.#ours >>> 1);
        this.#lowest = this.#size;
      }
    }
    this.#registered = true;
  }

  #registerAll(): void {
    const { ring } = this.driver;
    if (kernelHas("5.19")) ring.registerFilesSparse(this.#size);
    else ring.registerFiles(new Int32Array(this.#size).fill(-1));
  }

  /** Has the kernel pick slots for {@link DirectTable.adopt} where none is reserved. */
  shareWithKernel(): void {
    if (this.#shared) return;
    this.register();
    this.driver.ring.registerFileAllocRange(0, this.#kernels);
    this.#shared = true;
  }

  /** The index behind a descriptor for the submission. */
  slotOf(descriptor: DirectDescriptor): number {
    if (descriptor.table !== this) throw new TypeError("The direct descriptor belongs to another ring");
    if (descriptor.closed) throw new TypeError("The direct descriptor is closed");
    return descriptor.slot;
  }
}
