/**
 * Appending records, several of them with one write and one sync.
 *
 * @module
 */
import { AT_EMPTY_PATH, RWF_DSYNC, STATX_SIZE } from "../ffi/abi.ts";
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

/** The records that go to the end of one file. */
export class Appender {
  readonly #fd: number;
  #queue: Record[] = [];
  #running = false;
  #end = -1;

  /** @param fd Where they go; it stays open while any of them is under way. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Appends a record after those before it, and tells where it begins. */
  add(bytes: Uint8Array, durable: boolean): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ bytes, durable, resolve, reject });
      if (this.#running) return;
      this.#running = true;
      // Whatever else is appended in this turn goes along.
      queueMicrotask(() => void this.#run());
    });
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      const group = this.#take();
      try {
        let offset = await this.#write(group);
        for (const { bytes, resolve } of group) {
          resolve(offset);
          offset += bytes.length;
        }
      } catch (error) {
        // How much of it is there must be looked up before anything follows it.
        this.#end = -1;
        for (const { reject } of group) reject(error);
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
    const group = this.#queue.slice(0, count);
    this.#queue = this.#queue.slice(count);
    return group;
  }

  /** Writes a group, and tells where it begins. */
  async #write(group: readonly Record[]): Promise<number> {
    const uring = Uring.shared;
    const fd = this.#fd;
    if (this.#end < 0) {
      this.#end = (await uring.statx("", { dirfd: fd, flags: AT_EMPTY_PATH, mask: STATX_SIZE })).size;
    }
    const start = this.#end;
    const flags = group.some(({ durable }) => durable) ? RWF_DSYNC : 0;
    let rest = group.map(({ bytes }) => bytes).filter(({ length }) => length > 0);
    while (rest.length > 0) {
      const options = { offset: this.#end, flags };
      const count = rest.length === 1
        ? await uring.write(fd, rest[0]!, options)
        : await uring.writev(fd, rest, options);
      if (count === 0) throw new UringError(EIO, "write", { hint: "nothing was written" });
      this.#end += count;
      rest = without(rest, count);
    }
    return start;
  }
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
