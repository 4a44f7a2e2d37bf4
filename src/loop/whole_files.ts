/**
 * Reading whole small files by chains: open, read, look for the end, in one system call for as many files as there are.
 *
 * @module
 */
import { AT_FDCWD, IOSQE_FIXED_FILE, IOSQE_IO_HARDLINK, IOSQE_IO_LINK, O_CLOEXEC } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { addressOf } from "../ffi/pin.ts";
import type { DirectDescriptor, DirectTable } from "./direct.ts";
import type { Driver } from "./driver.ts";
import type { CompletionSink, Op } from "./op.ts";

/** What takes a file's content. Exactly one of its functions is called, once. */
export interface WholeFileSink {
  /** All of it; valid during the call only. */
  whole(bytes: Uint8Array): void;
  /**
   * Its beginning, which is valid during the call only; the rest is to be read from `file`, from the offset on that the
   * beginning ends at for what has offsets. The file is closed when the promise settles.
   */
  more(beginning: Uint8Array, file: DirectDescriptor): Promise<void>;
  /** A failure of one of the system calls. */
  failed(error: UringError): void;
}

/** A file that waits for its turn. */
interface Waiting {
  readonly path: string | Uint8Array;
  readonly flags: number;
  readonly mode: number;
  readonly sink: WholeFileSink;
}

/** How much of a file is read at first. Most are smaller. */
const FIRST = 64 * 1024;
/** How much of what comes after a short read: `/proc` gives its files in pieces. */
const AFTER = 4 * 1024;
/** How many files at once; each has a slot of the table of direct descriptors, and memory. */
const MOST = 64;
const STEPS = 3;
const ECANCELED = -125;

/** The files that one ring reads whole. */
export class WholeFiles {
  readonly #driver: Driver;
  readonly #directs: DirectTable;
  readonly #idle: Slot[] = [];
  #made = 0;
  #queue: Waiting[] = [];
  #first = 0;

  /**
   * @param driver The ring's engine.
   * @param directs Its table of direct descriptors.
   */
  constructor(driver: Driver, directs: DirectTable) {
    this.#driver = driver;
    this.#directs = directs;
  }

  /** Reads a file; the path and the flags have been checked. */
  read(path: string | Uint8Array, flags: number, mode: number, sink: WholeFileSink): void {
    const slot = this.#idle.pop() ?? this.#make();
    if (slot === undefined) this.#queue.push({ path, flags, mode, sink });
    else slot.start(path, flags, mode, sink);
  }

  #make(): Slot | undefined {
    if (this.#made === MOST) return undefined;
    try {
      const slot = new Slot(this.#driver, this.#directs.reserve(), this);
      this.#made++;
      return slot;
    } catch (error) {
      // The others of the table are in use: those that there are do.
      if (this.#made > 0 && error instanceof UringError && error.code === "ENFILE") return undefined;
      throw error;
    }
  }

  /** The next file that waits. @internal */
  next(): Waiting | undefined {
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
      waiting.sink.failed(new UringError(ECANCELED, "openat"));
    }
  }

  /** Takes a slot back. @internal */
  rest(slot: Slot): void {
    this.#idle.push(slot);
  }
}

/** A direct descriptor and the memory for what is read from it. */
class Slot {
  readonly #driver: Driver;
  readonly #file: DirectDescriptor;
  readonly #files: WholeFiles;
  readonly #bytes: Uint8Array;
  readonly #after: Uint8Array;
  readonly #address: number;
  readonly #afterAddress: number;
  readonly #opened: CompletionSink = { complete: (res) => this.#onOpened(res) };
  readonly #read: CompletionSink = { complete: (res) => this.#onRead(res) };
  readonly #ended: CompletionSink = { complete: (res) => this.#onEnded(res) };
  readonly #closed: CompletionSink = { complete: () => this.#onClosed() };
  #sink: WholeFileSink | null = null;
  #path: string | Uint8Array = "";
  #length = 0;
  #failure = 0;
  #call = "openat";
  // Whether the descriptor may have a file: that of the chain before stays until it is replaced or closed.
  #occupied = false;

  constructor(driver: Driver, file: DirectDescriptor, files: WholeFiles) {
    this.#driver = driver;
    this.#file = file;
    this.#files = files;
    const memory = new Uint8Array(new ArrayBuffer(FIRST + AFTER));
    this.#address = addressOf(memory);
    this.#afterAddress = this.#address + FIRST;
    this.#bytes = memory.subarray(0, FIRST);
    this.#after = memory.subarray(FIRST);
  }

  start(path: string | Uint8Array, flags: number, mode: number, sink: WholeFileSink): void {
    const driver = this.#driver;
    this.#sink = sink;
    this.#path = path;
    this.#length = this.#failure = 0;
    this.#call = "openat";
    const piece = driver.arena.cString(path);
    const inRing = driver.hasRoom(STEPS);
    const open = this.#begin("openat", inRing);
    open.pins = piece.owner;
    open.sqe!.prepOpenatDirect(AT_FDCWD, piece.address, flags & ~O_CLOEXEC, mode, this.#file.slot);
    open.sqe!.flags = IOSQE_IO_LINK;
    const read = this.#begin("read", inRing);
    read.sqe!.prepRead(this.#file.slot, this.#address, FIRST, -1);
    // A short read is what is hoped for, not a reason to stop.
    read.sqe!.flags = IOSQE_FIXED_FILE | IOSQE_IO_HARDLINK;
    const end = this.#begin("read", inRing);
    end.sqe!.prepRead(this.#file.slot, this.#afterAddress, AFTER, -1);
    end.sqe!.flags = IOSQE_FIXED_FILE;
    // The kernel writes there until the chain has ended.
    read.view = end.view = this.#bytes;
    const entries = inRing ? null : [open.sqe!, read.sqe!, end.sqe!];
    driver.launch(open, this.#opened);
    driver.launch(read, this.#read);
    driver.launch(end, this.#ended);
    if (entries === null) driver.chainInRing();
    else driver.submitChain(entries);
  }

  #begin(name: string, inRing: boolean): Op {
    return inRing ? this.#driver.begin(name) : this.#driver.beginChained(name);
  }

  #onOpened(res: number): void {
    if (res < 0) this.#failure = res;
    else this.#occupied = true;
  }

  #onRead(res: number): void {
    if (res >= 0) this.#length = res;
    else if (this.#failure === 0) {
      this.#failure = res;
      this.#call = "read";
    }
  }

  #onEnded(res: number): void {
    if (this.#failure === 0 && res < 0) {
      this.#failure = res;
      this.#call = "read";
    }
    const sink = this.#sink!;
    if (this.#failure !== 0) {
      const error = this.#error();
      this.#done();
      sink.failed(error);
    } else if (res === 0) {
      const bytes = this.#bytes.subarray(0, this.#length);
      // The next file's bytes come with the next submission, which is later.
      this.#done();
      sink.whole(bytes);
    } else this.#goOn(sink, res);
  }

  #error(): UringError {
    if (this.#call === "read") return new UringError(this.#failure, "read");
    const path = typeof this.#path === "string" ? this.#path : new TextDecoder().decode(this.#path);
    return new UringError(this.#failure, "openat", { path });
  }

  /** There is more than the chain has read. */
  #goOn(sink: WholeFileSink, after: number): void {
    const beginning = new Uint8Array(this.#length + after);
    beginning.set(this.#bytes.subarray(0, this.#length));
    beginning.set(this.#after.subarray(0, after), this.#length);
    this.#file.state = "open";
    const done = (): void => {
      this.#file.state = "reserved";
      this.#done();
    };
    sink.more(beginning, this.#file).then(done, done);
  }

  /** Goes on with the next file, which takes this one's place; without one, closes it. */
  #done(): void {
    this.#sink = null;
    if (this.#driver.closed) {
      // The table goes with the ring.
      this.#files.giveUp();
      return;
    }
    const next = this.#files.next();
    if (next !== undefined) this.start(next.path, next.flags, next.mode, next.sink);
    else if (this.#occupied) {
      const op = this.#driver.begin("close");
      op.sqe!.prepCloseDirect(this.#file.slot);
      this.#driver.launch(op, this.#closed);
    } else this.#files.rest(this);
  }

  #onClosed(): void {
    this.#occupied = false;
    const next = this.#driver.closed ? undefined : this.#files.next();
    if (next === undefined) this.#files.rest(this);
    else this.start(next.path, next.flags, next.mode, next.sink);
  }
}
