/**
 * Open files.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import type { ReadStream, WriteStream } from "node:fs";
import type { Interface } from "node:readline";
import type { ReadableStream } from "node:stream/web";
import { type RegisteredBuffer, Uring, UringError } from "../mod.ts";
import { type Advice, adviceOf, SYNC_ALL } from "./advice.ts";
import { type Alignment, misaligned } from "./alignment.ts";
import { Appender, type AppendOptions } from "./append.ts";
import { checkFlag, type Mode, optionsOf, positionOf, signalOf } from "./arguments.ts";
import { directly } from "./calls.ts";
import {
  asBuffer,
  checkEncoding,
  chunksOf,
  type Contents,
  type Data,
  encode,
  type Encoding,
} from "./encoding.ts";
import { named, throwIfAborted, typeError, unlessAborted } from "./errors.ts";
import {
  checkPull,
  FileWriter,
  pullFrom,
  type PullOptions,
  type Transform,
  type WriterOptions,
} from "./iter_streams.ts";
import { Emitter } from "./emitter.ts";
import { fchmod, fchown, futimes, type TimeLike } from "./metadata.ts";
import {
  linesOf,
  readStreamOf,
  type ReadStreamOptions,
  writeStreamOf,
  type WriteStreamOptions,
} from "./node_streams.ts";
import { Page } from "./page_pool.ts";
import { checkReadChunks, chunksFrom, type ReadChunksOptions } from "./read_chunks.ts";
import type { AnyReadFileOptions, BufferOf, ReadFileIntoOptions, ReadFileOptions } from "./read_file.ts";
import { fstat, type StatOptions } from "./stat.ts";
import type { BigIntStats, Stats } from "./stats.ts";
import { readAll, readInto, writeChunks, writeSome } from "./transfer.ts";
import {
  checkView,
  checkViews,
  fixedTransfer,
  lengthOf,
  type Position,
  type ReadResult,
  type ReadVectorResult,
  transferOf,
  type TransferOptions,
  transferOptions,
  type WriteResult,
  type WriteVectorResult,
} from "./transfer_arguments.ts";
import { readableOf, type StreamRange, writableOf } from "./web_streams.ts";
import type { WriteFileOptions } from "./write_file.ts";

/** An open file: a {@link FileHandle}, or one of `node:fs/promises`, whose own methods are then called. */
export interface FileLike {
  /** Its descriptor. */
  readonly fd: number;
}

/** Whether something is an open file and no path. @internal */
export function isFile(path: unknown): path is FileHandle {
  return typeof path === "object" && path !== null && "fd" in path && "readFile" in path;
}

const EBADF = 9;
const READ_SIZE = 16 * 1024;

/** An open file: what {@link open} gives. Close it; nothing else does. There is a `close` event when that begins. */
export class FileHandle extends Emitter implements AsyncDisposable {
  /** What direct I/O wants, in a file that was opened for it; otherwise null. */
  readonly alignment: Alignment | null;
  #fd: number;
  #users = 0;
  #streams = 0;
  #appender: Appender | null = null;
  #idle: (() => void) | null = null;
  #closing: Promise<void> | null = null;

  /** @internal */
  constructor(fd: number, alignment: Alignment | null = null) {
    super();
    this.#fd = fd;
    this.alignment = alignment;
  }

  /** The descriptor; −1 once it is closed. */
  get fd(): number {
    return this.#fd;
  }

  /** Does something with the descriptor, which stays open meanwhile. @internal */
  async use<T>(syscall: string, use: (fd: number) => Promise<T>): Promise<T> {
    this.#enter(syscall);
    try {
      return await use(this.#fd);
    } catch (error) {
      throw this.explained(error, syscall);
    } finally {
      this.#leave();
    }
  }

  /** Keeps the file open until as many calls of `#leave`. */
  #enter(syscall: string): void {
    this.#assertOpen(syscall);
    this.#users++;
  }

  #leave(): void {
    if (--this.#users === 0) this.#idle?.();
  }

  /** A failure in Node's words. @internal */
  explained(error: unknown, syscall: string): unknown {
    return this.alignment === null ? named(error, syscall) : misaligned(error, syscall, this.alignment);
  }

  /** Reads into a buffer. */
  read<T extends ArrayBufferView>(
    buffer: T,
    offset?: number | null,
    length?: number | null,
    position?: Position,
  ): Promise<ReadResult<T>>;
  /** Reads into a buffer. */
  read<T extends ArrayBufferView>(buffer: T, options?: TransferOptions | null): Promise<ReadResult<T>>;
  /** Reads into a buffer among the options; without one, into a new one of 16 KiB. */
  read<T extends ArrayBufferView = Buffer>(
    options?: TransferOptions & { buffer?: T } | null,
  ): Promise<ReadResult<T>>;
  async read(
    first?: ArrayBufferView | TransferOptions & { buffer?: ArrayBufferView } | null,
    second?: number | TransferOptions | null,
    length?: number | null,
    position?: Position,
  ): Promise<ReadResult<ArrayBufferView>> {
    const options = ArrayBuffer.isView(first) ? transferOptions(second, length, position) : first ?? {};
    const buffer = ArrayBuffer.isView(first)
      ? first
      : (first?.buffer === undefined ? asBuffer(new Uint8Array(READ_SIZE)) as ArrayBufferView : first.buffer);
    checkView("buffer", typeof (first ?? {}) === "object" ? buffer : first);
    if (buffer.byteLength === 0 && (options.length ?? 0) > 0) {
      throw typeError("ERR_INVALID_ARG_VALUE", "The argument 'buffer' is empty and cannot be written.");
    }
    const [view, place] = transferOf(buffer, options);
    if (view.length === 0) return { bytesRead: 0, buffer };
    this.#enter("read");
    try {
      return { bytesRead: await Uring.shared.read(this.#fd, view, { offset: place }), buffer };
    } catch (error) {
      throw this.explained(error, "read");
    } finally {
      this.#leave();
    }
  }

  /** Writes from a buffer; what is not written by then is up to the caller. */
  write<T extends ArrayBufferView>(
    buffer: T,
    offset?: number | null,
    length?: number | null,
    position?: Position,
  ): Promise<WriteResult<T>>;
  /** Writes from a buffer. */
  write<T extends ArrayBufferView>(buffer: T, options?: TransferOptions | null): Promise<WriteResult<T>>;
  /** Writes text. */
  write(text: string, position?: Position, encoding?: Encoding | null): Promise<WriteResult<string>>;
  async write(
    data: Data,
    second?: Position | TransferOptions,
    third?: number | Encoding | null,
    position?: Position,
  ): Promise<WriteResult<Data>> {
    let view: Uint8Array;
    let place: number | bigint;
    if (typeof data === "string") {
      checkEncoding(third as Encoding | null | undefined);
      if (third === "hex" && data.length % 2 === 1) {
        throw typeError(
          "ERR_INVALID_ARG_VALUE",
          `The argument 'encoding' is invalid for data of length ${data.length}. Received 'hex'`,
        );
      }
      view = encode(data, third as Encoding | null | undefined);
      place = positionOf(second as Position | undefined);
    } else {
      checkView("buffer", data);
      const options = transferOptions(
        second as number | TransferOptions | null,
        third as number | null,
        position,
      );
      [view, place] = transferOf(data, options);
    }
    const bytesWritten = await this.use("write", (fd) => writeSome(fd, view, { offset: place }));
    return { bytesWritten, buffer: data };
  }

  /** Reads into several buffers in order. */
  async readv<T extends readonly ArrayBufferView[]>(
    buffers: T,
    position?: Position,
  ): Promise<ReadVectorResult<T>> {
    checkViews(buffers);
    const offset = positionOf(position);
    const bytesRead = await this.use("read", (fd) => Uring.shared.readv(fd, buffers, { offset }));
    return { bytesRead, buffers };
  }

  /** Writes several buffers in order. */
  async writev<T extends readonly ArrayBufferView[]>(
    buffers: T,
    position?: Position,
  ): Promise<WriteVectorResult<T>> {
    checkViews(buffers);
    const offset = positionOf(position);
    if (buffers.length === 0) return { bytesWritten: 0, buffers };
    const bytesWritten = await this.use("write", (fd) => Uring.shared.writev(fd, buffers, { offset }));
    return { bytesWritten, buffers };
  }

  /** Reads from where the file is to its end, into memory that is there. */
  readFile<T extends ArrayBufferView>(options: ReadFileIntoOptions<T>): Promise<BufferOf<T>>;
  /** Reads from where the file is to its end, as a `Buffer`. */
  readFile(options?: ReadFileOptions & { encoding?: null | undefined } | null): Promise<Buffer<ArrayBuffer>>;
  /** Reads from where the file is to its end, as text. */
  readFile(options: Encoding | ReadFileOptions & { encoding: Encoding }): Promise<string>;
  /** Reads from where the file is to its end. */
  readFile(options?: Encoding | ReadFileOptions | null): Promise<string | Buffer<ArrayBuffer>>;
  async readFile(
    options?: Encoding | AnyReadFileOptions | null,
  ): Promise<unknown> {
    const { encoding, signal, buffer } = optionsOf<AnyReadFileOptions>(options);
    checkEncoding(encoding);
    const abort = signalOf(signal);
    throwIfAborted(abort);
    try {
      return await this.use<string | Buffer>(
        "read",
        (fd) => buffer !== undefined ? readInto(fd, buffer, abort) : readAll(fd, abort, encoding),
      );
    } catch (error) {
      throw unlessAborted(error, abort);
    }
  }

  /** Writes all of `data` from where the file is. */
  async writeFile(data: Contents, options?: Encoding | WriteFileOptions | null): Promise<void> {
    const { encoding, signal, flush } = optionsOf<WriteFileOptions>(options);
    checkFlag("flush", flush ?? false);
    checkEncoding(encoding);
    const abort = signalOf(signal);
    throwIfAborted(abort);
    const chunks = chunksOf(data, encoding);
    try {
      await this.use("write", (fd) => writeChunks(fd, chunks, abort));
    } catch (error) {
      throw unlessAborted(error, abort);
    }
    if (flush === true) await this.sync();
  }

  /** The same as {@link FileHandle.writeFile}: whether it goes to the end is up to how the file was opened. */
  async appendFile(data: Contents, options?: Encoding | WriteFileOptions | null): Promise<void> {
    await this.writeFile(data, options);
  }

  /**
   * Reads into a page of a pool or a registered buffer: what costs the kernel least, and what direct I/O is made for.
   * `offset` and `length` are within it; by default all of it.
   */
  readFixed<T extends Page | RegisteredBuffer>(
    buffer: T,
    options: TransferOptions = {},
  ): Promise<ReadResult<T>> {
    return this.#transferFixed("read", buffer, options, (bytesRead) => ({ bytesRead, buffer }));
  }

  /** Writes from a page of a pool or a registered buffer; what is not written by then is up to the caller. */
  writeFixed<T extends Page | RegisteredBuffer>(
    buffer: T,
    options: TransferOptions = {},
  ): Promise<WriteResult<T>> {
    return this.#transferFixed("write", buffer, options, (bytesWritten) => ({ bytesWritten, buffer }));
  }

  async #transferFixed<R>(
    name: "read" | "write",
    buffer: Page | RegisteredBuffer,
    options: TransferOptions,
    result: (count: number) => R,
  ): Promise<R> {
    const { buffer: memory, options: place } = fixedTransfer(buffer, options);
    const page = buffer instanceof Page ? buffer : null;
    this.#assertOpen(name);
    page?.hold();
    this.#enter(name);
    try {
      const uring = Uring.shared;
      return result(
        await (name === "read"
          ? uring.readFixed(this.#fd, memory, place)
          : uring.writeFixed(this.#fd, memory, place)),
      );
    } catch (error) {
      throw this.explained(error, name);
    } finally {
      page?.letGo();
      this.#leave();
    }
  }

  /**
   * Appends a record to the file and tells where it begins, in bytes, as long as nobody else appends. Appends never mix,
   * in whichever order they end: they are written in the order in which they were asked for, all that wait by then with
   * one write, and with `durable` with one sync (group commit). Leave the bytes alone until the promise settles. After a
   * failure nobody knows how much of the record is there.
   */
  async append(data: Data, options: AppendOptions = {}): Promise<number> {
    const bytes = encode(data);
    this.#assertOpen("write");
    return await (this.#appender ??= new Appender(this)).add(bytes, options.durable === true);
  }

  /** Allocates or frees a range of the file: `fallocate(2)`, `mode` of `FALLOC_FL_*` bits (default 0). */
  async fallocate(offset: number, length: number, mode: number = 0): Promise<void> {
    await this.use("fallocate", (fd) => Uring.shared.fallocate(fd, mode, offset, length));
  }

  /**
   * Has a range written to the device, without the metadata that is needed to find it: `sync_file_range(2)`. Not for
   * safety, but for an even flow: by default it starts writing and waits for that.
   */
  async syncRange(offset: number, length: number, flags: number = SYNC_ALL): Promise<void> {
    await this.use("sync_file_range", (fd) => Uring.shared.syncFileRange(fd, offset, length, flags));
  }

  /** Tells the kernel how a range will be used: `posix_fadvise(2)`; a length of 0 is the rest of the file. */
  async advise(advice: Advice, offset: number = 0, length: number = 0): Promise<void> {
    const bits = adviceOf(advice);
    await this.use("fadvise", (fd) => Uring.shared.fadvise(fd, offset, length, bits));
  }

  /** Sets the file's permissions. */
  async chmod(mode: Mode): Promise<void> {
    await this.use("fchmod", (fd) => directly(() => fchmod(fd, mode)));
  }

  /** Gives the file to another user and group; −1 leaves one as it is. */
  async chown(uid: number, gid: number): Promise<void> {
    await this.use("fchown", (fd) => directly(() => fchown(fd, uid, gid)));
  }

  /** Sets when the file was last read and changed. */
  async utimes(atime: TimeLike, mtime: TimeLike): Promise<void> {
    await this.use("futime", (fd) => directly(() => futimes(fd, atime, mtime)));
  }

  /** A byte stream of the file, from where it is on, that reads ahead. One at a time. */
  readableWebStream(options: StreamRange = {}): ReadableStream<Uint8Array> {
    return readableOf(this, options, this.#lock()) as unknown as ReadableStream<Uint8Array>;
  }

  /**
   * The file's chunks, from `start` or from where it is on, each valid until the next one is asked for: then its memory is
   * used again, so that nothing is allocated; the next one is read meanwhile. Keep copies (`slice()`) of what is to stay.
   * `for await (const chunk of file.readChunks({ autoClose: true })) …`
   */
  readChunks(options: ReadChunksOptions = {}): AsyncGenerator<Uint8Array<ArrayBuffer>, undefined> {
    checkReadChunks(options);
    // Refused at once when somebody else reads; taken for good with the first chunk.
    this.#lock()();
    return chunksFrom(this, options, () => this.#lock());
  }

  /** A stream into the file, from where it is on, that gathers what it is given. One at a time. */
  writableWebStream(options: StreamRange = {}): WritableStream<Uint8Array | string> {
    return writableOf(this, options, this.#lock());
  }

  /** A Node stream of the file. It closes the file at its end, unless `autoClose` is false. */
  createReadStream(options: ReadStreamOptions = {}): ReadStream {
    this.#assertOpen("createReadStream");
    return readStreamOf(this, this.#fd, options, () => {});
  }

  /** A Node stream into the file. It closes the file at its end, unless `autoClose` is false. */
  createWriteStream(options: WriteStreamOptions = {}): WriteStream {
    this.#assertOpen("createWriteStream");
    return writeStreamOf(this, this.#fd, options, () => {});
  }

  /** The file's lines, as an async iterable: `node:readline` over {@link FileHandle.createReadStream}. */
  readLines(options: ReadStreamOptions = {}): Interface {
    return linesOf(this.createReadStream(options));
  }

  /** The file's content in batches, through transforms: a stream of `node:stream/iter`. */
  pull(
    ...args: [...transforms: Transform[], options: PullOptions] | Transform[]
  ): AsyncGenerator<Uint8Array[], undefined> {
    const last = args.at(-1);
    const isOptions = typeof last === "object" && last !== null && !("transform" in last);
    const options = isOptions ? last as PullOptions : {};
    checkPull(options);
    // Refused at once when somebody else reads; taken for good with the first batch.
    this.#lock()();
    const transforms = (isOptions ? args.slice(0, -1) : args) as Transform[];
    return pullFrom(this, transforms, options, () => this.#lock());
  }

  /** A writer of `node:stream/iter` into the file. */
  writer(options: WriterOptions = {}): FileWriter {
    return new FileWriter(this, this.#fd, options, this.#lock());
  }

  /** Keeps the file for a stream; the function that is returned ends that. */
  #lock(): () => void {
    if (this.#fd < 0) {
      throw Object.assign(new Error("Invalid state: The FileHandle is closed"), {
        code: "ERR_INVALID_STATE",
      });
    }
    if (this.#streams > 0) {
      throw Object.assign(new Error("Invalid state: The FileHandle is locked"), {
        code: "ERR_INVALID_STATE",
      });
    }
    this.#streams++;
    let locked = true;
    return (): void => {
      if (locked) this.#streams--;
      locked = false;
    };
  }

  #assertOpen(syscall: string): void {
    if (this.#fd < 0) throw new UringError(EBADF, syscall, { hint: "the file is closed" });
  }

  /** What is known of the file, in numbers. */
  stat(options?: StatOptions & { bigint?: false | undefined }): Promise<Stats>;
  /** What is known of the file, in bigints. */
  stat(options: StatOptions & { bigint: true }): Promise<BigIntStats>;
  /** What is known of the file. */
  stat(options?: StatOptions): Promise<Stats | BigIntStats>;
  async stat(options?: StatOptions): Promise<Stats | BigIntStats> {
    return await this.use("fstat", (fd) => fstat(fd, options));
  }

  /** Sets the file's length in bytes; Linux 6.9. */
  async truncate(length: number | null = 0): Promise<void> {
    const size = lengthOf(length);
    await this.use("ftruncate", (fd) => Uring.shared.ftruncate(fd, size));
    this.#appender?.forgetEnd();
  }

  /** Has data and metadata written to the device: `fsync`. */
  async sync(): Promise<void> {
    await this.use("fsync", (fd) => Uring.shared.fsync(fd));
  }

  /** Has data, and what is needed to find it, written to the device: `fdatasync`. */
  async datasync(): Promise<void> {
    await this.use("fdatasync", (fd) => Uring.shared.fdatasync(fd));
  }

  /** Closes the file, after what is still being done with it. Calling it again is no error. */
  close(): Promise<void> {
    if (this.#closing !== null) return this.#closing;
    this.#closing = this.#close();
    this.emit("close");
    return this.#closing;
  }

  async #close(): Promise<void> {
    const fd = this.#fd;
    this.#fd = -1;
    if (this.#users > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    this.#appender?.close();
    await Uring.shared.close(fd);
  }

  /** The same as {@link FileHandle.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
