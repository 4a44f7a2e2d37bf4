/**
 * The content of one file on its way into another.
 *
 * @module
 */
import { AT_EMPTY_PATH, SEEK_DATA, SEEK_HOLE } from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import { type Statx, Uring } from "../mod.ts";
import { writeAll } from "./transfer.ts";

const CHUNK = 256 * 1024;
/** For what does not tell its size. */
const UNKNOWN = 64 * 1024;
/**
 * How many chunks of a file are under way at once. A worker thread of the kernel's writes them, one after the other; this
 * thread reads ahead of it, so that neither waits for the other.
 */
const AT_ONCE = 8;
/** How many chunks of all files may be under way beside the first of each, which bounds the memory of many copies. */
let spare = 32;
const ENXIO = -6;

/** Copies what is in one file. */
export class Contents {
  readonly #from: number;
  readonly #about: Statx;
  readonly #onProgress: ((bytes: number) => void) | undefined;
  /** What {@link Contents.begin} has read. */
  #first: Uint8Array = new Uint8Array(0);
  #to = -1;
  // The stretch that is being copied.
  #next = 0;
  #end = 0;
  #failed = false;
  #ended = false;

  /**
   * @param from The original's descriptor.
   * @param about What is known of the original.
   * @param onProgress Called with the number of bytes of each piece that was written.
   */
  constructor(from: number, about: Statx, onProgress: ((bytes: number) => void) | undefined) {
    this.#from = from;
    this.#about = about;
    this.#onProgress = onProgress;
  }

  /** Reads the beginning. */
  async begin(): Promise<void> {
    const { size } = this.#about;
    const view = new Uint8Array(size > 0 ? Math.min(size, CHUNK) : UNKNOWN);
    this.#first = view.subarray(0, await Uring.shared.read(this.#from, view));
  }

  /** Copies all of it into `to`. */
  async copyTo(to: number, target: Statx): Promise<void> {
    const { blocks, size } = this.#about;
    this.#to = to;
    if (!this.#about.isFile() || size === 0 || !target.isFile()) {
      return await this.#inOrder(-1, this.#first, new Uint8Array(CHUNK));
    }
    if (blocks * 512 >= size) {
      await this.#stretch(0, size);
      // It may have grown meanwhile.
      if (!this.#ended) await this.#inOrder(size, await this.#read(size, new Uint8Array(UNKNOWN)));
      return;
    }
    for (let at = 0; at < size;) {
      const [start, end] = this.#data(at);
      if (start >= size) break;
      await this.#stretch(start, end);
      at = end;
    }
    const copied = await Uring.shared.statx("", { dirfd: to, flags: AT_EMPTY_PATH });
    if (copied.size < size) await Uring.shared.ftruncate(to, size);
  }

  /** The next stretch of data from `at` on, between holes. */
  #data(at: number): readonly [start: number, end: number] {
    const { files } = system();
    const { size } = this.#about;
    const start = files.lseek(this.#from, at, SEEK_DATA);
    if (start === ENXIO) return [size, size];
    // A file system that knows of no holes.
    if (start < 0) return [at, size];
    const end = files.lseek(this.#from, start, SEEK_HOLE);
    return [start, end < 0 ? size : Math.min(end, size)];
  }

  /** Copies the bytes from `start` to `end`, several chunks at once. Settles when nothing is under way any more. */
  async #stretch(start: number, end: number): Promise<void> {
    this.#next = start;
    this.#end = end;
    const lanes: Promise<void>[] = [];
    let first: Uint8Array | undefined;
    if (start === 0) {
      // What was read at the beginning is of use only where there is data.
      first = this.#first.subarray(0, end);
      this.#next = first.length;
      this.#ended = first.length === 0;
    }
    const chunks = Math.ceil((end - this.#next) / CHUNK) + (first === undefined ? 0 : 1);
    const extra = Math.min(Math.max(chunks, 1), AT_ONCE, spare + 1) - 1;
    spare -= extra;
    try {
      for (let i = 0; i <= extra; i++) lanes.push(this.#lane(i === 0 ? first : undefined));
      const failed = (await Promise.allSettled(lanes)).find((lane) => lane.status === "rejected");
      if (failed !== undefined) throw failed.reason;
    } finally {
      spare += extra;
    }
  }

  /** Copies a chunk, then the next that nobody has taken. */
  async #lane(first: Uint8Array | undefined): Promise<void> {
    let buffer: Uint8Array | undefined;
    try {
      if (first !== undefined) await this.#write(first, 0);
      while (this.#next < this.#end && !this.#failed && !this.#ended) {
        const at = this.#next;
        const length = Math.min(CHUNK, this.#end - at);
        this.#next = at + length;
        buffer ??= new Uint8Array(length);
        for (let done = 0; done < length;) {
          const chunk = await this.#read(at + done, buffer.subarray(0, length - done));
          // It ends sooner than it said.
          if (chunk.length === 0) this.#ended = true;
          if (chunk.length === 0 || this.#failed) return;
          await this.#write(chunk, at + done);
          done += chunk.length;
        }
      }
    } catch (error) {
      this.#failed = true;
      throw error;
    }
  }

  /** Copies from a position on to the end, where `chunk` has been read; −1: from where both files are. */
  async #inOrder(
    position: number,
    chunk: Uint8Array,
    empty: Uint8Array = new Uint8Array(UNKNOWN),
  ): Promise<void> {
    for (let at = position; chunk.length > 0;) {
      const next = at < 0 ? at : at + chunk.length;
      // The kernel works on both buffers until both have ended, whether one fails or not.
      const [read, written] = await Promise.allSettled([this.#read(next, empty), this.#write(chunk, at)]);
      if (written.status === "rejected") throw written.reason;
      if (read.status === "rejected") throw read.reason;
      empty = new Uint8Array(chunk.buffer);
      chunk = read.value;
      at = next;
    }
  }

  async #read(at: number, buffer: Uint8Array): Promise<Uint8Array> {
    return buffer.subarray(0, await Uring.shared.read(this.#from, buffer, { offset: at }));
  }

  async #write(chunk: Uint8Array, at: number): Promise<void> {
    await writeAll(this.#to, chunk, undefined, at);
    if (chunk.length > 0) this.#onProgress?.(chunk.length);
  }
}
