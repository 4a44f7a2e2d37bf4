/**
 * Files as the streams of `node:stream/iter`: iterables of batches of bytes, and a writer.
 *
 * @module
 */
import { system } from "../ffi/system.ts";
import { Uring, UringError } from "../mod.ts";
import { checkFlag, integer, signalOf } from "./arguments.ts";
import { chunkMemory } from "./chunk_memory.ts";
import { AbortError, typeError } from "./errors.ts";
import { writeAll } from "./transfer.ts";
import type { StreamFile } from "./web_streams.ts";

/** Options of {@link pullFrom}. */
export interface PullOptions {
  /** Close the file at the end; default false. */
  autoClose?: boolean | undefined;
  /** Where to begin in bytes; default: where the file is. */
  start?: number | undefined;
  /** How many bytes at most; default: all. */
  limit?: number | undefined;
  /** How many bytes at a time; default 128 KiB. */
  chunkSize?: number | undefined;
  /** Ends it with an `AbortError`. */
  signal?: AbortSignal | undefined;
}

/** Options of {@link writerOf}. */
export interface WriterOptions {
  /** Close the file at the end; default false. */
  autoClose?: boolean | undefined;
  /** Where to begin in bytes; default: where the file is. */
  start?: number | undefined;
  /** How many bytes at most; more is refused. Default: any number. */
  limit?: number | undefined;
  /** The largest write that `writeSync` does at once, in bytes; default 128 KiB. */
  chunkSize?: number | undefined;
}

/** What a step of a pull may give: bytes, text, or iterables of them. */
type Result = string | ArrayBufferLike | ArrayBufferView | Iterable<Result> | AsyncIterable<Result> | null;

interface Context {
  signal: AbortSignal;
}

/** A step of a pull: a function of each batch (`null` at the end), or one of the whole. */
export type Transform =
  | ((chunks: Uint8Array[] | null, options: Context) => Promise<unknown> | unknown)
  | { transform(source: AsyncIterable<Uint8Array[] | null>, options: Context): AsyncIterable<unknown> };

const CHUNK = 128 * 1024;
const MOST_CHUNK = 0x7fff_f000;
const encoder = new TextEncoder();

/** A file's content in batches, through transforms. */
export async function* pullFrom(
  file: StreamFile,
  transforms: readonly Transform[],
  options: PullOptions,
  lock: () => () => void,
): AsyncGenerator<Uint8Array[], undefined> {
  const done = lock();
  const stop = new AbortController();
  const abort = (): void => stop.abort(options.signal?.reason);
  options.signal?.addEventListener("abort", abort, { once: true });
  let source: AsyncIterable<Uint8Array[]> = batches(file, options);
  for (const transform of transforms) source = through(source, transform, stop.signal);
  try {
    if (options.signal?.aborted === true) throw new AbortError(options.signal.reason);
    yield* source;
  } finally {
    options.signal?.removeEventListener("abort", abort);
    stop.abort();
    done();
    if (options.autoClose === true) await file.close();
  }
  return undefined;
}

/** Checks the options of a pull. */
export function checkPull(options: PullOptions): void {
  checkFlag("autoClose", options.autoClose ?? false);
  signalOf(options.signal);
  if (options.start !== undefined) integer("options.start", options.start, Number.MAX_SAFE_INTEGER);
  if (options.limit !== undefined) integer("options.limit", options.limit, Number.MAX_SAFE_INTEGER);
  if (options.chunkSize !== undefined) integer("options.chunkSize", options.chunkSize, MOST_CHUNK);
}

async function* batches(file: StreamFile, options: PullOptions): AsyncGenerator<Uint8Array[]> {
  const { chunkSize = CHUNK, limit = Infinity, signal } = options;
  let at = options.start ?? -1;
  for (let left = limit; left > 0;) {
    if (signal?.aborted === true) throw new AbortError(signal.reason);
    const buffer = chunkMemory(Math.min(chunkSize, left));
    const count = await file.use("read", (fd) => Uring.shared.read(fd, buffer, { offset: at }));
    if (count === 0) return;
    if (at >= 0) at += count;
    left -= count;
    yield [buffer.subarray(0, count)];
  }
}

async function* through(
  source: AsyncIterable<Uint8Array[]>,
  transform: Transform,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array[]> {
  if (typeof transform === "function") {
    for await (const chunks of source) {
      const out = await flattened(await transform(chunks, { signal }) as Result);
      if (out.length > 0) yield out;
    }
    const last = await flattened(await transform(null, { signal }) as Result);
    if (last.length > 0) yield last;
    return;
  }
  for await (const result of transform.transform(ended(source), { signal })) {
    const out = await flattened(result as Result);
    if (out.length > 0) yield out;
  }
}

async function* ended(source: AsyncIterable<Uint8Array[]>): AsyncGenerator<Uint8Array[] | null> {
  yield* source;
  yield null;
}

async function flattened(result: Result): Promise<Uint8Array[]> {
  if (result === null || result === undefined) return [];
  if (typeof result === "string") return [encoder.encode(result)];
  if (ArrayBuffer.isView(result)) {
    return [new Uint8Array(result.buffer, result.byteOffset, result.byteLength)];
  }
  if (!(Symbol.iterator in result) && !(Symbol.asyncIterator in result)) {
    return [new Uint8Array(result as ArrayBufferLike)];
  }
  const all: Uint8Array[] = [];
  for await (const part of result as AsyncIterable<Result>) all.push(...await flattened(part));
  return all;
}

/** How a {@link FileWriter}'s writes can be ended early. */
export interface WriteOptions {
  /** Has the promise reject with an `AbortError` when it is aborted before the write begins. */
  signal?: AbortSignal;
}

/** Writes a file in order. */
export class FileWriter implements Disposable, AsyncDisposable {
  readonly #file: StreamFile;
  readonly #fd: number;
  readonly #options: WriterOptions;
  readonly #done: () => void;
  #at: number;
  #total = 0;
  #pending = 0;
  #last: Promise<unknown> = Promise.resolve();
  #ended = false;
  #failure: unknown = undefined;

  /** @internal */
  constructor(file: StreamFile, fd: number, options: WriterOptions, done: () => void) {
    this.#file = file;
    this.#fd = fd;
    this.#options = options;
    this.#done = done;
    this.#at = options.start ?? -1;
  }

  /** Whether more can be written; null once it has ended or failed. */
  get canWrite(): boolean | null {
    return this.#ended ? null : true;
  }

  /** Writes a chunk after those before it. */
  write(chunk: Uint8Array | string, options?: WriteOptions): Promise<void> {
    return this.writev([chunk], options);
  }

  /** Writes several chunks. */
  async writev(chunks: (Uint8Array | string)[], options?: WriteOptions): Promise<void> {
    if (options?.signal?.aborted === true) throw new AbortError(options.signal.reason);
    this.#assertOpen();
    const bytes = chunks.map(bytesOfChunk);
    const length = this.#reserve(bytes);
    this.#pending++;
    const previous = this.#last;
    const write = (async (): Promise<void> => {
      await previous;
      for (const part of bytes) {
        const at = this.#at;
        if (at >= 0) this.#at += part.length;
        await this.#file.use("write", (fd) => writeAll(fd, part, undefined, at));
      }
      this.#total += length;
    })().finally(() => this.#pending--);
    this.#last = write.catch(() => {});
    await write;
  }

  #reserved = 0;

  #reserve(bytes: readonly Uint8Array[]): number {
    const length = bytes.reduce((sum, part) => sum + part.length, 0);
    const { limit = Infinity } = this.#options;
    if (this.#reserved + length > limit) {
      throw Object.assign(new RangeError(`More than the limit of ${limit} bytes`), {
        code: "ERR_OUT_OF_RANGE",
      });
    }
    this.#reserved += length;
    return length;
  }

  /** Writes a chunk at once; false when it cannot be: something is being written, or it is too large. */
  writeSync(chunk: Uint8Array | string): boolean {
    return this.writevSync([chunk]);
  }

  /** {@link FileWriter.writeSync} of several chunks. */
  writevSync(chunks: (Uint8Array | string)[]): boolean {
    if (this.#ended || this.#pending > 0) return false;
    const bytes = chunks.map(bytesOfChunk);
    const length = bytes.reduce((sum, part) => sum + part.length, 0);
    if (length > (this.#options.chunkSize ?? CHUNK)) return false;
    // A place of its own in the file needs a call that this layer does not make.
    if (this.#at >= 0) return false;
    this.#reserve(bytes);
    for (const part of bytes) {
      for (let written = 0; written < part.length;) {
        const rest = part.subarray(written);
        const count = system().write(this.#fd, rest, rest.length);
        if (count < 0) throw new UringError(count, "write");
        written += count;
      }
    }
    this.#total += length;
    return true;
  }

  /** Ends it after what is being written, and gives the number of bytes. */
  async end(options?: WriteOptions): Promise<number> {
    if (options?.signal?.aborted === true) throw new AbortError(options.signal.reason);
    this.#assertOpen();
    this.#ended = true;
    await this.#last;
    await this.#finish();
    return this.#total;
  }

  /** Ends it at once; −1 when something is still being written, or the file is to be closed. */
  endSync(): number {
    if (this.#ended || this.#pending > 0 || this.#options.autoClose === true) return -1;
    this.#ended = true;
    this.#done();
    return this.#total;
  }

  /** Gives it up. What was written stays. */
  fail(reason?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = reason;
    void this.#last.then(() => this.#finish());
  }

  async #finish(): Promise<void> {
    this.#done();
    if (this.#options.autoClose === true) await this.#file.close();
  }

  #assertOpen(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#ended) throw typeError("ERR_INVALID_STATE", "Invalid state: The writer is closed");
  }

  /** The same as {@link FileWriter.fail}, unless it has ended. */
  [Symbol.dispose](): void {
    this.fail();
  }

  /** Ends it, unless it has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ended) await this.end();
  }
}

function bytesOfChunk(chunk: Uint8Array | string): Uint8Array {
  if (typeof chunk === "string") return encoder.encode(chunk);
  if (chunk instanceof Uint8Array) return chunk;
  throw typeError(
    "ERR_INVALID_ARG_TYPE",
    'The "chunk" argument must be of type string or an instance of Uint8Array.',
  );
}
