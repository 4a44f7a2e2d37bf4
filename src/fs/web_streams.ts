/**
 * Files as web streams.
 *
 * @module
 */
import { Uring } from "../mod.ts";
import { chunkMemory } from "./chunk_memory.ts";
import { writeAll } from "./transfer.ts";

/** A file as the streams need it. */
export interface StreamFile {
  /** Does something with the descriptor, which stays open meanwhile; a failure is told as that of `syscall`. */
  use<T>(syscall: string, use: (fd: number) => Promise<T>): Promise<T>;
  /** Closes the file. */
  close(): Promise<void>;
  /** Listens to the file being closed. */
  on(event: "close", listener: () => void): unknown;
  /** Ends that. */
  off(event: "close", listener: () => void): unknown;
}

/** Where a stream reads or writes. */
export interface StreamRange {
  /** Where to begin in bytes; default: where the file is. */
  start?: number | undefined;
  /** Whether the file is closed at the end. */
  autoClose?: boolean | undefined;
}

/** What a read-ahead, or a write-behind, holds in bytes. */
const CHUNK = 256 * 1024;

/** Reads a file in order, one chunk ahead of whoever wants it, into memory of its own. */
class ReadAhead {
  readonly #file: StreamFile;
  #at: number;
  #next: Promise<Uint8Array<ArrayBuffer>> | null = null;
  #rest: Uint8Array<ArrayBuffer> | null = null;
  /** Memory of chunks that nobody was given. */
  readonly #spare: Uint8Array<ArrayBuffer>[] = [];

  constructor(file: StreamFile, start: number | undefined) {
    this.#file = file;
    this.#at = start ?? -1;
  }

  #fetch(): Promise<Uint8Array<ArrayBuffer>> {
    const buffer = this.#spare.pop() ?? chunkMemory(CHUNK);
    const next = this.#file.use("read", async (fd) => {
      const count = await Uring.shared.read(fd, buffer, { offset: this.#at });
      if (this.#at >= 0) this.#at += count;
      return buffer.subarray(0, count);
    });
    // Whoever takes it sees its failure.
    next.catch(() => {});
    return next;
  }

  /** The next chunk, which is the caller's from then on; empty at the end. The one after it is on its way. */
  async take(): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#rest !== null) {
      const rest = this.#rest;
      this.#rest = null;
      return rest;
    }
    const chunk = await (this.#next ?? this.#fetch());
    this.#next = chunk.length === 0 ? null : this.#fetch();
    return chunk;
  }

  /** Whether nothing was read that nobody has taken yet. */
  get empty(): boolean {
    return this.#rest === null && this.#next === null;
  }

  /** Reads straight into memory, when {@link ReadAhead.empty}: then nothing is read ahead. */
  async into(view: ArrayBufferView): Promise<number> {
    const count = await this.#file.use("read", (fd) => Uring.shared.read(fd, view, { offset: this.#at }));
    if (this.#at >= 0) this.#at += count;
    return count;
  }

  /** Takes back a chunk that was copied, up to what of it was not. */
  keep(rest: Uint8Array<ArrayBuffer>): void {
    if (rest.length > 0) this.#rest = rest;
    else this.#spare.push(new Uint8Array(rest.buffer));
  }

  /** Waits for what is on its way. */
  async stop(): Promise<void> {
    await this.#next?.catch(() => {});
    this.#next = null;
  }
}

/** A byte stream of a file, for `getReader()` and `getReader({ mode: "byob" })`. */
export function readableOf(
  file: StreamFile,
  options: StreamRange,
  done: () => void,
): ReadableStream<Uint8Array> {
  const ahead = new ReadAhead(file, options.start);
  let ended = false;
  let filling = false;
  let cancelled = false;
  let closed = (): void => {};
  const end = async (): Promise<void> => {
    ended = true;
    file.off("close", closed);
    done();
    if (options.autoClose === true) await file.close();
  };
  const finish = (
    controller: ReadableByteStreamController,
    request: ReadableStreamBYOBRequest | null,
  ): void => {
    controller.close();
    request?.respond(0);
  };
  return new ReadableStream({
    type: "bytes",
    start(controller): void {
      // Whoever closes the file ends the stream; memory that is being filled goes back to its owner after that.
      closed = (): void => {
        ended = true;
        if (!filling) finish(controller, controller.byobRequest);
        done();
      };
      file.on("close", closed);
    },
    async pull(controller): Promise<void> {
      const request = controller.byobRequest;
      const view = request?.view ?? null;
      let count: number;
      let chunk: Uint8Array<ArrayBuffer> | null = null;
      try {
        if (view !== null && ahead.empty) {
          filling = true;
          count = await ahead.into(view);
        } else count = (chunk = await ahead.take()).length;
      } catch (error) {
        if (ended) return;
        await end();
        throw error;
      } finally {
        const shut = filling && ended && !cancelled;
        filling = false;
        if (shut) finish(controller, request);
      }
      if (ended) return;
      if (count === 0) {
        finish(controller, request);
        await end();
      } else if (chunk === null) request!.respond(count);
      else if (view !== null) {
        count = Math.min(view.byteLength, count);
        new Uint8Array(view.buffer, view.byteOffset, count).set(chunk.subarray(0, count));
        ahead.keep(chunk.subarray(count));
        request!.respond(count);
      } else controller.enqueue(chunk);
    },
    async cancel(): Promise<void> {
      cancelled = true;
      await ahead.stop();
      await end();
    },
  });
}

/** A stream into a file. What is written is copied, so that the writer can go on while the kernel works. */
export function writableOf(
  file: StreamFile,
  options: StreamRange,
  done: () => void,
): WritableStream<Uint8Array | string> {
  const behind = new WriteBehind(file, options.start);
  const encoder = new TextEncoder();
  const end = async (): Promise<void> => {
    done();
    if (options.autoClose === true) await file.close();
  };
  return new WritableStream<Uint8Array | string>({
    async write(chunk): Promise<void> {
      await behind.add(typeof chunk === "string" ? encoder.encode(chunk) : chunk);
    },
    async close(): Promise<void> {
      try {
        await behind.finish();
      } finally {
        await end();
      }
    },
    async abort(): Promise<void> {
      await behind.finish().catch(() => {});
      await end();
    },
  });
}

/** Collects small chunks and writes them in large ones, one of which is on its way while the next is collected. */
export class WriteBehind {
  readonly #file: StreamFile;
  #at: number;
  #full: Uint8Array<ArrayBuffer> = new Uint8Array(CHUNK);
  #empty: Uint8Array<ArrayBuffer> = new Uint8Array(CHUNK);
  #length = 0;
  #writing: Promise<void> | null = null;

  /**
   * @param file Where it goes.
   * @param start Where to begin in bytes; default: where the file is.
   */
  constructor(file: StreamFile, start: number | undefined) {
    this.#file = file;
    this.#at = start ?? -1;
  }

  /** Takes bytes; waits when both buffers are full. */
  async add(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.length;) {
      const count = Math.min(CHUNK - this.#length, bytes.length - from);
      this.#full.set(bytes.subarray(from, from + count), this.#length);
      this.#length += count;
      from += count;
      if (this.#length === CHUNK) await this.#flush();
    }
    // Nobody should wait for more data to see the first: what is there goes when the kernel has nothing else to do.
    if (this.#writing === null && this.#length > 0) await this.#flush();
  }

  async #flush(): Promise<void> {
    await this.#writing;
    const chunk = this.#full.subarray(0, this.#length);
    [this.#full, this.#empty] = [this.#empty, this.#full];
    this.#length = 0;
    const at = this.#at;
    if (at >= 0) this.#at += chunk.length;
    const writing = this.#file.use("write", (fd) => writeAll(fd, chunk, undefined, at));
    this.#writing = writing;
    // Whoever comes next sees its failure.
    writing.then(() => {
      if (this.#writing === writing) this.#writing = null;
    }, () => {});
  }

  /** Writes what is left, and waits until all is written. */
  async finish(): Promise<void> {
    if (this.#length > 0) await this.#flush();
    await this.#writing;
  }
}
