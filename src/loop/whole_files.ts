/**
 * Reading whole small files by chains: open, read, look for the end, in one system call for as many files as there are.
 *
 * @module
 */
import {
  AT_FDCWD,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  IOSQE_IO_HARDLINK,
  IOSQE_IO_LINK,
  O_CLOEXEC,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { lastingPiece } from "./arena.ts";
import type { DirectDescriptor, DirectTable } from "./direct.ts";
import type { Driver } from "./driver.ts";
import { wasCancelled } from "./failure.ts";
import type { CompletionSink } from "./op.ts";
import type { OperationOptions } from "./options.ts";
import { shadowing } from "./shadow.ts";

/** What reads on: the `Uring` that the file is open in. */
export interface WholeFileReader {
  /** `Uring.read`. */
  read(file: DirectDescriptor, buffer: ArrayBufferView, options?: OperationOptions): Promise<number>;
}

/** A file to be read, and what takes its content. Exactly one of its functions is called, once. */
export interface WholeFile {
  /** Where it is. */
  readonly path: string | Uint8Array;
  /** How to open it: `O_*`. */
  readonly flags: number;
  /** The permissions of a file that is created. */
  readonly mode: number;
  /** All of it; valid during the call only. */
  whole(bytes: Uint8Array): void;
  /**
   * Its beginning, which is valid during the call only; the rest is to be read from `file` `by` its ring, from the offset on that the
   * beginning ends at for what has offsets. The file is closed when the promise settles.
   */
  more(beginning: Uint8Array, file: DirectDescriptor, by: WholeFileReader): Promise<void>;
  /** A failure of one of the system calls. */
  failed(error: UringError): void;
}

/** How much of a file is read at first. Most are smaller. */
const FIRST = 64 * 1024;
/** How much of what comes after a short read: `/proc` gives its files in pieces. */
const AFTER = 4 * 1024;
/** How many files at once; each has a slot of the table of direct descriptors, and memory. */
const MOST = 64;
/** How many may wait before a second ring helps. */
const CROWD = 32;
const STEPS = 3;
const ECANCELED = -125;

/** A ring that files are read by. */
export interface Lane {
  /** Its engine. */
  readonly driver: Driver;
  /** Its table of direct descriptors. */
  readonly directs: DirectTable;
  /** What reads what is more than a chain reads. */
  readonly reader: WholeFileReader;
}

/** The files that one ring reads whole; where they are many, a second one helps, whose chains run on other cores. */
export class WholeFiles {
  readonly #main: Slots;
  readonly #openHelper: () => Lane | null;
  #helper: Slots | null | undefined = undefined;
  #queue: WholeFile[] = [];
  #first = 0;
  #taken = 0;

  /**
   * @param main The ring.
   * @param openHelper Makes the second one; null where there is none.
   */
  constructor(main: Lane, openHelper: () => Lane | null) {
    this.#main = new Slots(main, false, this);
    this.#openHelper = openHelper;
  }

  /** Reads a file; the path and the flags have been checked. */
  read(file: WholeFile): void {
    const slot = this.#main.take();
    if (slot !== undefined) slot.start(file);
    else {
      this.#queue.push(file);
      if (this.#queue.length - this.#first > CROWD) this.#askForHelp();
    }
  }

  #askForHelp(): void {
    if (this.#helper === null) return;
    if (this.#helper === undefined) {
      const lane = this.#openHelper();
      this.#helper = lane === null ? null : new Slots(lane, true, this);
      if (this.#helper === null) return;
    }
    const { driver } = this.#helper.lane;
    if (driver.closed) return;
    let slot = this.#helper.take();
    let started = false;
    for (; slot !== undefined; slot = this.#helper.take()) {
      const file = this.next();
      if (file === undefined) {
        this.#helper.rest(slot);
        break;
      }
      slot.start(file);
      started = true;
    }
    // At once: it works while this thread goes on.
    if (started) driver.flush();
  }

  /** Called when the main ring has read a file: the helper must not wait until all of a flush are done. @internal */
  proceed(): void {
    if (this.#helper === undefined || this.#helper === null || (++this.#taken & 15) !== 0) return;
    const { driver } = this.#helper.lane;
    if (driver.inFlight > 0 && driver.reap()) driver.flush();
  }

  /** The next file that waits. @internal */
  next(): WholeFile | undefined {
    const waiting = this.#queue[this.#first];
    if (waiting === undefined) return undefined;
    this.#first++;
    if (this.#first === this.#queue.length) {
      this.#queue = [];
      this.#first = 0;
    }
    return waiting;
  }

  /** Fails the files that wait: the ring closes. @internal */
  giveUp(): void {
    for (let waiting = this.next(); waiting !== undefined; waiting = this.next()) {
      waiting.failed(new UringError(ECANCELED, "openat"));
    }
  }
}

/** The slots of one ring. */
class Slots {
  readonly lane: Lane;
  readonly async: boolean;
  readonly files: WholeFiles;
  readonly #idle: Slot[] = [];
  #made = 0;

  constructor(lane: Lane, async: boolean, files: WholeFiles) {
    this.lane = lane;
    this.async = async;
    this.files = files;
  }

  /** A slot that is not in use. */
  take(): Slot | undefined {
    return this.#idle.pop() ?? this.#make();
  }

  #make(): Slot | undefined {
    if (this.#made === MOST) return undefined;
    try {
      const slot = new Slot(this, this.lane.directs.reserve());
      this.#made++;
      return slot;
    } catch (error) {
      // The others of the table are in use: those that there are do.
      if (this.#made > 0 && error instanceof UringError && error.code === "ENFILE") return undefined;
      throw error;
    }
  }

  /** Takes a slot back. */
  rest(slot: Slot): void {
    this.#idle.push(slot);
  }
}

/** A direct descriptor and the memory for what is read from it. */
class Slot implements CompletionSink {
  readonly #driver: Driver;
  readonly #direct: DirectDescriptor;
  readonly #slots: Slots;
  readonly #files: WholeFiles;
  readonly #bytes: Uint8Array;
  readonly #after: Uint8Array;
  readonly #owner: unknown;
  readonly #address: number;
  readonly #afterAddress: number;
  readonly #closed: CompletionSink = { complete: () => this.#onClosed() };
  #wanted: WholeFile | null = null;
  #step = 0;
  #length = 0;
  #failure = 0;
  #call = "openat";
  // Whether the descriptor may have a file: that of the chain before stays until it is replaced or closed.
  #occupied = false;

  constructor(slots: Slots, direct: DirectDescriptor) {
    this.#slots = slots;
    this.#driver = slots.lane.driver;
    this.#direct = direct;
    this.#files = slots.files;
    const { bytes: memory, address, owner } = lastingPiece(FIRST + AFTER);
    this.#owner = owner;
    this.#address = address;
    this.#afterAddress = this.#address + FIRST;
    this.#bytes = memory.subarray(0, FIRST);
    this.#after = memory.subarray(FIRST);
  }

  start(file: WholeFile): void {
    const driver = this.#driver;
    const { slot } = this.#direct;
    this.#wanted = file;
    this.#step = this.#length = this.#failure = 0;
    this.#call = "openat";
    const piece = driver.arena.cString(file.path);
    const inRing = driver.hasRoom(STEPS);
    // One operation has the three completions, which come in the chain's order.
    const op = inRing ? driver.begin("openat") : driver.beginChained("openat");
    // The kernel writes there until the chain has ended.
    if (piece.owner !== null || shadowing) op.pins = [piece.owner, this.#owner];
    op.view = this.#bytes;
    const open = op.sqe!;
    open.prepOpenatDirect(AT_FDCWD, piece.address, file.flags & ~O_CLOEXEC, file.mode, slot);
    // Each of them: what has to wait for a pipe then gives its thread back.
    const async = this.#slots.async ? IOSQE_ASYNC : 0;
    open.flags = IOSQE_IO_LINK | async;
    const read = inRing ? driver.ring.getSqe()! : driver.looseEntry();
    read.prepRead(slot, this.#address, FIRST, -1);
    read.setUserData(op.slot, op.generation);
    // A short read is what is hoped for, not a reason to stop.
    read.flags = IOSQE_FIXED_FILE | IOSQE_IO_HARDLINK | async;
    const end = inRing ? driver.ring.getSqe()! : driver.looseEntry();
    end.prepRead(slot, this.#afterAddress, AFTER, -1);
    end.setUserData(op.slot, op.generation);
    end.flags = IOSQE_FIXED_FILE | async;
    driver.launch(op, this, STEPS);
    if (inRing) driver.chainInRing();
    else driver.submitChain([open, read, end]);
  }

  /** The end of a step. */
  complete(res: number): void {
    const step = this.#step++;
    if (this.#driver.gone) this.#abandon(res);
    else if (step === 0) {
      if (res < 0) this.#failure = res;
      else this.#occupied = true;
    } else {
      if (res < 0 && this.#failure === 0) {
        this.#failure = res;
        this.#call = "read";
      }
      if (step === 1) this.#length = res;
      else this.#onEnded(res);
    }
  }

  /** The ring was given up: nothing more comes. */
  #abandon(res: number): void {
    const file = this.#wanted;
    this.#wanted = null;
    file?.failed(new UringError(res, this.#call));
    this.#files.giveUp();
  }

  #onEnded(res: number): void {
    const file = this.#wanted!;
    if (this.#failure !== 0) {
      const error = this.#error(file);
      this.#done();
      file.failed(error);
    } else if (res === 0) {
      const bytes = this.#bytes.subarray(0, this.#length);
      // The next file's bytes come with the next submission, which is later.
      this.#done();
      file.whole(bytes);
      if (!this.#slots.async) this.#files.proceed();
    } else this.#goOn(file, res);
  }

  #error({ path: name }: WholeFile): UringError {
    // A thread that is told to stop says it was interrupted.
    if (this.#driver.closed && wasCancelled(this.#failure)) this.#failure = ECANCELED;
    if (this.#call === "read") return new UringError(this.#failure, "read");
    const path = typeof name === "string" ? name : new TextDecoder().decode(name);
    return new UringError(this.#failure, "openat", { path });
  }

  /** There is more than the chain has read. */
  #goOn(file: WholeFile, after: number): void {
    const beginning = new Uint8Array(this.#length + after);
    beginning.set(this.#bytes.subarray(0, this.#length));
    beginning.set(this.#after.subarray(0, after), this.#length);
    this.#direct.state = "open";
    const done = (): void => {
      this.#direct.state = "reserved";
      this.#done();
    };
    file.more(beginning, this.#direct, this.#slots.lane.reader).then(done, done);
  }

  /** Goes on with the next file, which takes this one's place; without one, closes it. */
  #done(): void {
    this.#wanted = null;
    if (this.#driver.closed) {
      // The table goes with the ring.
      this.#files.giveUp();
      return;
    }
    const next = this.#files.next();
    if (next !== undefined) this.start(next);
    else if (this.#occupied) {
      const op = this.#driver.begin("close");
      op.sqe!.prepCloseDirect(this.#direct.slot);
      this.#driver.launch(op, this.#closed);
    } else this.#slots.rest(this);
  }

  #onClosed(): void {
    this.#occupied = false;
    const next = this.#driver.closed ? undefined : this.#files.next();
    if (next === undefined) this.#slots.rest(this);
    else this.start(next);
  }
}
