/**
 * Appending records, several of them with one write and one sync.
 *
 * @module
 */
import {
  AT_EMPTY_PATH,
  F_GETFL,
  O_ACCMODE,
  O_APPEND,
  O_CLOEXEC,
  O_RDONLY,
  O_WRONLY,
  RWF_DSYNC,
  STATX_SIZE,
} from "../ffi/abi.ts";
import { O_DIRECT } from "../ffi/arch.ts";
import { addressOf } from "../ffi/pin.ts";
import { system } from "../ffi/system.ts";
import { waker } from "../loop/waker.ts";
import { Uring, UringError } from "../mod.ts";

/** Options of `FileHandle.append`. */
export interface AppendOptions {
  /** Have it on its device, with what is needed to find it, before the promise resolves; default false. */
  durable?: boolean | undefined;
}

interface Record {
  readonly bytes: Uint8Array;
  readonly durable: boolean;
  readonly resolve: (offset: number) => void;
  readonly reject: (error: unknown) => void;
}

/** The most buffers that one write takes: the kernel's `UIO_MAXIOV`. */
const MOST_RECORDS = 1024;
/** How many bytes of records go into one write: a group that is larger would only make its first wait. */
const MOST_BYTES = 8 * 1024 * 1024;
const EIO = 5;
/** What places, lengths and memory of direct writes are multiples of: what every device can do. */
const SECTOR = 4096;
/** The most that goes past the page cache at a time; it is copied before. */
const MOST_DIRECT = 1024 * 1024;
/** {@link Appender} knows no other descriptor: not yet, or there is none. */
const UNKNOWN = -1;
const NONE = -2;

/** The file, as the records' way to its end needs it. */
export interface AppendFile {
  /** Does something with the descriptor, which stays open meanwhile. */
  use<T>(syscall: string, use: (fd: number) => Promise<T>): Promise<T>;
  /** A failure of one of its system calls in words for whoever has asked. */
  explained(error: unknown, syscall: string): unknown;
}

/** The records that go to the end of one file. */
export class Appender {
  readonly #file: AppendFile;
  #queue: Record[] = [];
  #running = false;
  #end = -1;
  #direct = UNKNOWN;
  #aligned: Uint8Array = new Uint8Array(0);

  /** @param file Where they go; it stays open while any of them is under way. */
  constructor(file: AppendFile) {
    this.#file = file;
  }

  /** Appends a record after those before it, and tells where it begins. */
  add(bytes: Uint8Array, durable: boolean): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ bytes, durable, resolve, reject });
      if (this.#running) return;
      this.#running = true;
      this.#file.use("write", (fd) => this.#run(fd)).catch((error) => {
        // The file is closed.
        this.#running = false;
        for (const record of this.#queue.splice(0)) record.reject(error);
      });
    });
  }

  async #run(fd: number): Promise<void> {
    // Whatever else is appended in this turn goes along.
    await undefined;
    while (this.#queue.length > 0) {
      const group = this.#take();
      try {
        let offset = await this.#write(fd, group);
        for (const { bytes, resolve } of group) {
          resolve(offset);
          offset += bytes.length;
        }
      } catch (error) {
        // How much of it is there must be looked up before anything follows it.
        this.#end = -1;
        const reason = this.#file.explained(error, "write");
        for (const { reject } of group) reject(reason);
      }
    }
    this.#running = false;
  }

  #take(): Record[] {
    let count = 0;
    for (let bytes = 0; count < this.#queue.length && count < MOST_RECORDS; count++) {
      bytes += this.#queue[count]!.bytes.length;
      if (count > 0 && bytes > MOST_BYTES) break;
    }
    return this.#queue.splice(0, count);
  }

  /** Writes a group, and tells where it begins. */
  async #write(fd: number, group: readonly Record[]): Promise<number> {
    const uring = Uring.shared;
    if (this.#end < 0) {
      this.#end = (await uring.statx("", { dirfd: fd, flags: AT_EMPTY_PATH, mask: STATX_SIZE })).size;
    }
    const start = this.#end;
    const durable = group.some((record) => record.durable);
    let rest = group.map(({ bytes }) => bytes).filter(({ length }) => length > 0);
    if (durable) {
      const length = rest.reduce((sum, bytes) => sum + bytes.length, 0);
      if (length > 0 && length <= MOST_DIRECT && (length | start % SECTOR) % SECTOR === 0) {
        rest = await this.#writeDirect(fd, rest, length);
      }
    }
    while (rest.length > 0) {
      if (durable) waker.expectLong();
      const options = { offset: this.#end, flags: durable ? RWF_DSYNC : 0 };
      const count = rest.length === 1
        ? await uring.write(fd, rest[0]!, options)
        : await uring.writev(fd, rest, options);
      if (count === 0) throw new UringError(EIO, "write", { hint: "nothing was written" });
      this.#end += count;
      rest = without(rest, count);
    }
    return start;
  }

  /**
   * Writes whole sectors past the page cache: the fastest way to the device, which spares the kernel from writing back what
   * it was given first. Tells what is left to be written the usual way.
   */
  async #writeDirect(fd: number, records: Uint8Array[], length: number): Promise<Uint8Array[]> {
    if (this.#direct === UNKNOWN) this.#direct = await openDirect(fd);
    if (this.#direct === NONE) return records;
    if (this.#aligned.length < length) this.#aligned = alignedMemory(length);
    let at = 0;
    for (const bytes of records) {
      this.#aligned.set(bytes, at);
      at += bytes.length;
    }
    const options = { offset: this.#end, flags: RWF_DSYNC };
    // The device takes its time: looking for the end again and again would only keep the processor from it.
    waker.expectLong();
    try {
      const count = await Uring.shared.write(this.#direct, this.#aligned.subarray(0, length), options);
      this.#end += count;
      return without(records, count);
    } catch (error) {
      if (!(error instanceof UringError) || error.code !== "EINVAL") throw error;
      // A file system, or a device, that wants something else of direct writes; nothing was written.
      this.#closeDirect();
      return records;
    }
  }

  #closeDirect(): void {
    if (this.#direct >= 0) system().close(this.#direct);
    this.#direct = NONE;
  }

  /** Looks the end of the file up again before the next record: it has moved. */
  forgetEnd(): void {
    this.#end = -1;
  }

  /** Lets go of what it has opened; nothing may be under way. */
  close(): void {
    this.#closeDirect();
  }
}

/** The same file once more, for direct writes. */
async function openDirect(fd: number): Promise<number> {
  const how = system().files.fcntl(fd, F_GETFL, 0);
  if (how < 0 || (how & O_ACCMODE) === O_RDONLY) return NONE;
  const flags = O_WRONLY | O_DIRECT | O_CLOEXEC | how & O_APPEND;
  // No /proc, no right to open it again, no descriptor left, a file system without direct writes: there is another way.
  return await Uring.shared.openat(`/proc/self/fd/${fd}`, { flags }).catch(() => NONE);
}

function alignedMemory(length: number): Uint8Array {
  const memory = new Uint8Array(new ArrayBuffer(length + SECTOR));
  const start = (SECTOR - addressOf(memory) % SECTOR) % SECTOR;
  return memory.subarray(start, start + length);
}

/** What is left after so many bytes. */
function without(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  for (const buffer of buffers) {
    if (count >= buffer.length) count -= buffer.length;
    else {
      rest.push(count === 0 ? buffer : buffer.subarray(count));
      count = 0;
    }
  }
  return rest;
}
