/**
 * Files as Node's streams. `node:stream` and `node:readline` are loaded when the first is made.
 *
 * @module
 */
import type { ReadStream, WriteStream } from "node:fs";
import type { Interface } from "node:readline";
import { Uring } from "../mod.ts";
import { checkFlag, integer, signalOf } from "./arguments.ts";
import { chunkMemory } from "./chunk_memory.ts";
import { asBuffer, checkEncoding, type Encoding } from "./encoding.ts";
import { AbortError, outOfRange } from "./errors.ts";
import { writeAll } from "./transfer.ts";
import type { StreamFile } from "./web_streams.ts";

/** Options of {@link readStreamOf}. */
export interface ReadStreamOptions {
  /** Text in this encoding instead of `Buffer`s. */
  encoding?: Encoding | null | undefined;
  /** Close the file at the end; default true. */
  autoClose?: boolean | undefined;
  /** Whether there is a `close` event at the end; default true. */
  emitClose?: boolean | undefined;
  /** Where to begin in bytes; default: where the file is. */
  start?: number | undefined;
  /** The last byte to read; default: the file's last. */
  end?: number | undefined;
  /** How many bytes are read ahead, and at a time; default 64 KiB. */
  highWaterMark?: number | undefined;
  /** Ends the stream with an `AbortError`. */
  signal?: AbortSignal | undefined;
}

/** Options of {@link writeStreamOf}. */
export interface WriteStreamOptions {
  /** What text becomes; default `"utf8"`. */
  encoding?: Encoding | null | undefined;
  /** Close the file at the end; default true. */
  autoClose?: boolean | undefined;
  /** Whether there is a `close` event at the end; default true. */
  emitClose?: boolean | undefined;
  /** Where to begin in bytes; default: where the file is. */
  start?: number | undefined;
  /** How many bytes may wait before `write` says false; default 16 KiB. */
  highWaterMark?: number | undefined;
  /** Have everything on its device (`fsync`) before it is closed. */
  flush?: boolean | undefined;
}

const READ_AHEAD = 64 * 1024;
const WRITE_AHEAD = 16 * 1024;

type Builtins = {
  "node:stream": typeof import("node:stream");
  "node:readline": typeof import("node:readline");
};

/** A module of the runtime's own, at once: these methods are no promises. */
function builtin<N extends keyof Builtins>(name: N): Builtins[N] {
  const { process } = globalThis as unknown as { process: { getBuiltinModule(name: string): unknown } };
  return process.getBuiltinModule(name) as Builtins[N];
}

type Done = (error?: Error | null) => void;

/** What both kinds of stream do at their end. */
function destroyer(file: StreamFile, autoClose: boolean, idle: () => Promise<unknown>, done: () => void) {
  return (error: Error | null, callback: Done): void => {
    const end = async (): Promise<void> => {
      await idle();
      done();
      if (autoClose) await file.close();
    };
    end().then(() => callback(error), (failure) => callback(error ?? failure as Error));
  };
}

/** A readable stream of a file. */
export function readStreamOf(
  file: StreamFile,
  fd: number,
  options: ReadStreamOptions,
  done: () => void,
): ReadStream {
  const { encoding, autoClose = true, emitClose = true, start, end = Infinity, signal } = options;
  checkEncoding(encoding);
  signalOf(signal);
  if (start !== undefined) integer("start", start, Number.MAX_SAFE_INTEGER);
  if (end !== Infinity) integer("end", end, Number.MAX_SAFE_INTEGER);
  if (start !== undefined && start > end) throw outOfRange("start", `<= "end" (here: ${end})`, start);
  const { Readable } = builtin("node:stream");
  let at = start ?? -1;
  let left = end === Infinity ? Infinity : end - (start ?? 0) + 1;
  let reading: Promise<unknown> = Promise.resolve();
  const highWaterMark = options.highWaterMark ?? READ_AHEAD;
  const stream = new Readable({
    ...(typeof encoding === "string" ? { encoding } : {}),
    emitClose,
    highWaterMark,
    // The file may be one that is read from elsewhere, too: what Node ends at once, this ends in order.
    autoDestroy: autoClose,
    read(size: number): void {
      const length = Math.min(size, left);
      if (length <= 0) {
        this.push(null);
        return;
      }
      const buffer = chunkMemory(length);
      const read = file.use("read", (fd) => Uring.shared.read(fd, buffer, { offset: at }));
      reading = read.catch(() => {});
      read.then((count) => {
        if (at >= 0) at += count;
        left -= count;
        stream.bytesRead += count;
        this.push(count === 0 ? null : asBuffer(buffer.subarray(0, count)));
      }, (error) => this.destroy(error as Error));
    },
    destroy: destroyer(file, autoClose, () => reading, done),
  }) as unknown as ReadStream & { fd: number };
  Object.assign(stream, { fd, bytesRead: 0, pending: false, path: undefined, start, end, autoClose });
  stream.close = (callback): void => closeStream(stream, callback);
  // Whoever closes the file ends the stream.
  const closed = (): void => void stream.destroy();
  file.on("close", closed);
  const forget = (): void => void file.off("close", closed);
  stream.once("end", forget).once("close", forget);
  forgetFd(stream, autoClose);
  abortWith(signal, stream);
  return stream;
}

/** A writable stream into a file. */
export function writeStreamOf(
  file: StreamFile,
  fd: number,
  options: WriteStreamOptions,
  done: () => void,
): WriteStream {
  const { encoding, autoClose = true, emitClose = true, start, flush = false } = options;
  checkEncoding(encoding);
  if (start !== undefined) integer("start", start, Number.MAX_SAFE_INTEGER);
  checkFlag("flush", flush ?? false);
  const { Writable } = builtin("node:stream");
  let at = start ?? -1;
  let writing: Promise<unknown> = Promise.resolve();
  const put = (bytes: Uint8Array, callback: Done): void => {
    const from = at;
    if (at >= 0) at += bytes.length;
    const write = file.use("write", (fd) => writeAll(fd, bytes, undefined, from));
    writing = write.catch(() => {});
    write.then(() => {
      stream.bytesWritten += bytes.length;
      callback();
    }, (error) => callback(error as Error));
  };
  const stream = new Writable({
    ...(typeof encoding === "string" ? { defaultEncoding: encoding } : {}),
    emitClose,
    highWaterMark: options.highWaterMark ?? WRITE_AHEAD,
    autoDestroy: autoClose,
    write(chunk: Uint8Array, _encoding, callback): void {
      put(chunk, callback);
    },
    writev(chunks: { chunk: Uint8Array }[], callback): void {
      put(joined(chunks.map(({ chunk }) => chunk)), callback);
    },
    final(callback): void {
      if (!flush) return callback();
      file.use("fsync", (fd) => Uring.shared.fsync(fd)).then(
        () => callback(),
        (error) => callback(error as Error),
      );
    },
    destroy: destroyer(file, autoClose, () => writing, done),
  }) as unknown as WriteStream & { fd: number };
  Object.assign(stream, { fd, bytesWritten: 0, pending: false, path: undefined, start, autoClose });
  forgetFd(stream, autoClose);
  stream.close = (callback): void => {
    if (!autoClose) stream.on("finish", () => stream.destroy());
    closeStream(stream, callback, () => stream.end());
  };
  return stream;
}

/** A stream that has closed its file has no descriptor. */
function forgetFd(stream: ReadStream | WriteStream, autoClose: boolean): void {
  if (autoClose) stream.once("close", () => Object.assign(stream, { fd: null, pending: true }));
}

/** The lines of a file: `node:readline` over a stream of it. */
export function linesOf(input: ReadStream): Interface {
  return builtin("node:readline").createInterface({ input, crlfDelay: Infinity });
}

function closeStream(
  stream: ReadStream | WriteStream,
  callback?: (error?: NodeJS.ErrnoException | null) => void,
  close: () => void = () => stream.destroy(),
): void {
  if (callback !== undefined) {
    if (stream.closed) callback();
    else stream.once("close", () => callback());
  }
  close();
}

function abortWith(signal: AbortSignal | undefined, stream: ReadStream): void {
  if (signal === undefined) return;
  const abort = (): void => void stream.destroy(new AbortError(signal.reason));
  if (signal.aborted) return abort();
  signal.addEventListener("abort", abort, { once: true });
  stream.once("close", () => signal.removeEventListener("abort", abort));
}

function joined(chunks: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}
