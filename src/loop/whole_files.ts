/**
 * Reading whole small files by chains: open, read, look for the end, in one system call for as many files as there are.
 *
 * @module
 */
import {
  AT_FDCWD,
  IORING_REGISTER_FILES_SKIP,
  IOSQE_FIXED_FILE,
  IOSQE_IO_HARDLINK,
  IOSQE_IO_LINK,
  O_CLOEXEC,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { lastingPiece, type Piece } from "./arena.ts";
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
/** The longest path that the kernel takes, with its NUL. */
const PATH = 4 * 1024;
/** How many files at once, each of which has a slot of the table of direct descriptors, and memory: where nobody helps. */
const ALONE = 64;
/** With help: a flush with few of them soon gives the helper something to do again. */
const HELPED = 32;
/** And by the helper. */
const HELPING = 128;
/** How many wait before a second ring helps, and after how many more it is asked again. */
const CROWD = 32;
const SOME = 16;
/** After how many of them, at the latest, it is judged how long they took. */
const PERIOD = 1024;
/** After how many times the other way is tried again; the first time sooner, but when code is compiled. */
const RETRIAL = 32;
const FIRST_TRIAL = 8;
const STEPS = 3;
const ECANCELED = -125;

const encoder = new TextEncoder();
const resolved = Promise.resolve();

/** A ring that files are read by. */
export interface Lane {
  /** Its engine. */
  readonly driver: Driver;
  /** Its table of direct descriptors. */
  readonly directs: DirectTable;
  /** What reads what is more than a chain reads. */
  readonly reader: WholeFileReader;
}

/** Makes the second ring. */
export interface HelperSource {
  /** Whether there may be one. */
  readonly possible: boolean;
  /** The ring, anew when its thread would open files with rights that this one has no longer; null: there is none. */
  open(): Lane | null;
}

/**
 * The files that one ring reads whole; where they are many, a second one helps, whose chains run on another core. That is the
 * kernel's thread that submits them (`IORING_SETUP_SQPOLL`): its worker threads would take longer to be handed a chain than it
 * takes to run.
 */
export class WholeFiles {
  readonly #main: Slots;
  readonly #helpers: HelperSource;
  #helper: Slots | null = null;
  #queue: WholeFile[] = [];
  #first = 0;
  #taken = 0;
  #possible: boolean;
  readonly #trial: Trial = new Trial();
  /** Whether the helper helps with those that wait now, since when, and how many of them have been begun. */
  #helped = false;
  #since = 0;
  #counted = 0;

  /**
   * @param main The ring.
   * @param helpers Makes the second one.
   */
  constructor(main: Lane, helpers: HelperSource) {
    this.#main = new Slots(main, helpers.possible ? HELPED : ALONE, this);
    this.#helpers = helpers;
    this.#possible = helpers.possible;
  }

  /** Reads a file; the path and the flags have been checked. */
  read(file: WholeFile): void {
    const slot = this.#main.take();
    if (slot !== undefined) slot.start(file);
    else {
      const waiting = this.#queue.push(file) - this.#first;
      if (waiting >= CROWD && waiting % SOME === 0) this.#crowd();
    }
  }

  /** There are many. */
  #crowd(): void {
    if (!this.#possible) return;
    if (this.#since === 0) {
      this.#since = performance.now();
      this.#counted = 0;
      this.#helped = this.#trial.choose();
      this.#main.most = this.#helped ? HELPED : ALONE;
    }
    if (this.#helped) this.#askForHelp();
    else this.#goAlone();
  }

  #judge(): void {
    this.#trial.took(this.#helped, (performance.now() - this.#since) / this.#counted);
    this.#since = 0;
  }

  #askForHelp(): void {
    if (this.#helper === null || this.#helper.busy === 0) {
      const lane = this.#helpers.open();
      if (lane === null) {
        this.#possible = this.#helped = false;
        return this.#goAlone();
      }
      if (lane !== this.#helper?.lane) this.#helper = new Slots(lane, HELPING, this, true);
    }
    const helper = this.#helper;
    if (helper.lane.driver.closed) return;
    let started = false;
    while (this.offers(helper)) {
      const slot = helper.take();
      if (slot === undefined) break;
      slot.start(this.next()!);
      started = true;
    }
    // At once: it works while this thread goes on.
    if (started) helper.lane.driver.flush();
  }

  #goAlone(): void {
    this.#main.most = ALONE;
    while (this.offers(this.#main)) {
      const slot = this.#main.take();
      if (slot === undefined) return;
      slot.start(this.next()!);
    }
  }

  /** Called when the main ring has read a file: the helper must not wait until all of a flush are done. @internal */
  proceed(): void {
    if (this.#helper === null || ++this.#taken % SOME !== 0) return;
    const { driver } = this.#helper.lane;
    if (driver.inFlight > 0 && driver.reap()) driver.flush();
  }

  /** Whether these slots should take one of those that wait. The fewer there are, the fewer the helper gets: both end together. @internal */
  offers(slots: Slots): boolean {
    const waiting = this.#queue.length - this.#first;
    return waiting > 0 && (!slots.helping || this.#helped && slots.busy < 2 * waiting);
  }

  /** The next file that waits. @internal */
  next(): WholeFile | undefined {
    const waiting = this.#queue[this.#first];
    if (waiting === undefined) return undefined;
    this.#first++;
    this.#counted++;
    if (this.#first === this.#queue.length) {
      this.#queue = [];
      this.#first = 0;
    }
    if (this.#since !== 0 && (this.#first === 0 || this.#counted === PERIOD)) this.#judge();
    return waiting;
  }

  /** Fails the files that wait: the ring closes. @internal */
  giveUp(): void {
    for (let waiting = this.next(); waiting !== undefined; waiting = this.next()) {
      waiting.failed(new UringError(ECANCELED, "openat"));
    }
  }
}

/** Tells whether help helps: where other processes want the cores, too, it may not. */
class Trial {
  /** How long a file took of late, in milliseconds: 0 is not known. */
  #alone = 0;
  #helped = 0;
  #turn = 0;

  /** Whether to have help this time. Now and then the other way is tried. */
  choose(): boolean {
    const turn = this.#turn++ % RETRIAL;
    if (this.#helped === 0) return true;
    if (this.#alone === 0) return turn !== FIRST_TRIAL;
    return this.#helped <= this.#alone !== (turn === 0);
  }

  /** What came of it. */
  took(helped: boolean, time: number): void {
    if (helped) this.#helped += (time - this.#helped) / (this.#helped === 0 ? 1 : 4);
    else this.#alone += (time - this.#alone) / (this.#alone === 0 ? 1 : 4);
  }
}

/** The slots of one ring. */
class Slots {
  readonly lane: Lane;
  readonly files: WholeFiles;
  readonly helping: boolean;
  /** How many there may be. */
  most: number;
  /** How many are reading. */
  busy = 0;
  #idle: Slot[] = [];
  /** Those whose last file is still open: another may take its place. */
  #open: Slot[] = [];
  #made = 0;
  #closing = false;
  readonly #closeOpen: () => void = () => this.#close();

  constructor(lane: Lane, most: number, files: WholeFiles, helping: boolean = false) {
    this.lane = lane;
    this.most = most;
    this.files = files;
    this.helping = helping;
  }

  /** A slot that is not in use. */
  take(): Slot | undefined {
    const slot = this.#open.pop() ?? this.#idle.pop() ?? this.#make();
    if (slot !== undefined) this.busy++;
    return slot;
  }

  #make(): Slot | undefined {
    if (this.#made >= this.most) return undefined;
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

  /**
   * Takes a slot back. Its file is closed together with all others that have ended, and before anybody goes on who is told of
   * it: the microtask for that comes first.
   */
  rest(slot: Slot): void {
    this.busy--;
    (slot.occupied ? this.#open : this.#idle).push(slot);
    if (this.#closing || this.#open.length === 0) return;
    this.#closing = true;
    resolved.then(this.#closeOpen);
  }

  #close(): void {
    this.#closing = false;
    const { driver } = this.lane;
    // The helper's thread keeps the lock that this takes as long as it works. And the table goes with the ring.
    if (this.#open.length === 0 || this.helping && driver.inFlight > 0 || driver.closed) return;
    if (!this.#emptied(this.#open)) return;
    for (const slot of this.#open) {
      slot.occupied = false;
      this.#idle.push(slot);
    }
    this.#open = [];
  }

  /** Closes the files of slots with one call. */
  #emptied(slots: readonly Slot[]): boolean {
    const places = slots.map((slot) => slot.place);
    const first = Math.min(...places);
    const fds = new Int32Array(Math.max(...places) - first + 1).fill(IORING_REGISTER_FILES_SKIP);
    for (const place of places) fds[place - first] = -1;
    try {
      return this.lane.driver.ring.registerFilesUpdate(first, fds) === fds.length;
    } catch {
      return false;
    }
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
  readonly #path: Uint8Array;
  readonly #owner: unknown;
  readonly #address: number;
  #wanted: WholeFile | null = null;
  #step = 0;
  #length = 0;
  #failure = 0;
  #call = "openat";
  #long: Piece | null = null;
  /** Whether the descriptor may have a file: that of the chain before stays until it is replaced or closed. */
  occupied = false;

  constructor(slots: Slots, direct: DirectDescriptor) {
    this.#slots = slots;
    this.#driver = slots.lane.driver;
    this.#direct = direct;
    this.#files = slots.files;
    const { bytes: memory, address, owner } = lastingPiece(FIRST + AFTER + PATH);
    this.#owner = owner;
    this.#address = address;
    this.#bytes = memory.subarray(0, FIRST);
    this.#after = memory.subarray(FIRST, FIRST + AFTER);
    this.#path = memory.subarray(FIRST + AFTER, FIRST + AFTER + PATH);
  }

  /** Its place in the table. */
  get place(): number {
    return this.#direct.slot;
  }

  start(file: WholeFile): void {
    const driver = this.#driver;
    const { slot } = this.#direct;
    this.#wanted = file;
    this.#step = this.#length = this.#failure = 0;
    this.#call = "openat";
    const path = this.#put(file.path);
    const inRing = driver.hasRoom(STEPS);
    // One operation has the three completions, which come in the chain's order.
    const op = inRing ? driver.begin("openat") : driver.beginChained("openat");
    // The kernel writes there until the chain has ended.
    if (path === null || shadowing) op.pins = [this.#long, this.#owner];
    op.view = this.#bytes;
    const open = op.sqe!;
    open.prepOpenatDirect(AT_FDCWD, path ?? this.#long!.address, file.flags & ~O_CLOEXEC, file.mode, slot);
    open.flags = IOSQE_IO_LINK;
    const read = inRing ? driver.ring.getSqe()! : driver.looseEntry();
    read.prepRead(slot, this.#address, FIRST, -1);
    read.setUserData(op.slot, op.generation);
    // A short read is what is hoped for, not a reason to stop.
    read.flags = IOSQE_FIXED_FILE | IOSQE_IO_HARDLINK;
    const end = inRing ? driver.ring.getSqe()! : driver.looseEntry();
    end.prepRead(slot, this.#address + FIRST, AFTER, -1);
    end.setUserData(op.slot, op.generation);
    end.flags = IOSQE_FIXED_FILE;
    driver.launch(op, this, STEPS);
    if (inRing) driver.chainInRing();
    else driver.submitChain([open, read, end]);
  }

  /** Puts a path where the kernel finds it, and tells its address; null: it is {@link Slot.#long}. */
  #put(path: string | Uint8Array): number | null {
    const text = typeof path === "string";
    // A UTF-16 unit takes at most three bytes of UTF-8.
    if (path.length * (text ? 3 : 1) >= PATH) {
      const bytes = text ? encoder.encode(path) : path;
      this.#long = lastingPiece(bytes.length + 1);
      this.#long.bytes.set(bytes);
      this.#long.bytes[bytes.length] = 0;
      return null;
    }
    const room = this.#path;
    let length = path.length;
    if (text) length = encoder.encodeInto(path, room).written;
    else room.set(path);
    room[length] = 0;
    return this.#address + FIRST + AFTER;
  }

  /** The end of a step. */
  complete(res: number): void {
    const step = this.#step++;
    if (this.#driver.gone) this.#abandon(res);
    else if (step === 0) {
      if (res < 0) this.#failure = res;
      else this.occupied = true;
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
      if (!this.#slots.helping) this.#files.proceed();
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

  /** Goes on with the next file, which takes this one's place. */
  #done(): void {
    this.#wanted = null;
    // The table goes with the ring.
    if (this.#driver.closed) this.#files.giveUp();
    else if (this.#files.offers(this.#slots)) this.start(this.#files.next()!);
    else this.#slots.rest(this);
  }
}
