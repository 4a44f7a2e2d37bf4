/**
 * Connections in the stream style.
 *
 * @module
 */
import { type RegisteredBuffer, type RingAddress, UringError } from "../mod.ts";
import type { Address } from "./address.ts";
import { ByteQueue } from "./byte_queue.ts";
import { receiveOver, SendDescriptors } from "./conn_descriptors.ts";
import { checkSend, type ReceivedDescriptors, type SendableDescriptor } from "./descriptors.ts";
import { closedError } from "./errors.ts";
import type { SocketHandlers } from "./handlers.ts";
import type { Job } from "./pieces.ts";
import type { FileSource } from "./send_file.ts";
import { HIGH_WATER_MARK, Socket } from "./socket.ts";
import { readableOf, writableOf } from "./streams.ts";
import { bytesOf } from "./zero_copy.ts";

const ETIMEDOUT = 110;

/** Up to here it is cheaper to copy what is written than to have the kernel read it where it is. */
const COPIED = 16 << 10;

/** From here on what nobody has asked for yet is not copied at once, while there are buffers enough. */
const LENT = 4 << 10;

/** How many microtasks may pass between the arrival of data and what is written in answer, to leave with all others. */
const PATIENCE = 8;

const encoder = new TextEncoder();

/** Options of {@link Conn.read} and {@link Conn.write}. */
export interface TransferOptions {
  /** Gives up when it aborts: the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds after which it gives up: the promise rejects with `ETIMEDOUT`. */
  timeout?: number | undefined;
}

/** Ends a promise; failures are promises that are rejected. */
type Resolve = (value: never) => void;

/** Somebody who waits for data. */
interface Reader {
  /** Where it goes; null: a chunk is wanted. */
  readonly into: Uint8Array | null;
  readonly resolve: Resolve;
}

// One executor for all promises: a closure per promise would cost as much as the promise.
let resolveNext: Resolve;
const executor = (resolve: Resolve): void => {
  resolveNext = resolve;
};

/** What connects a socket to its {@link Conn}. @internal */
export const CONN_HANDLERS: SocketHandlers<Conn> = {
  data: (socket, view) => socket.data.arrived(view),
  end: (socket) => socket.data.finished(),
  close: (socket, error) => socket.data.gone(error),
  error: () => {},
};

/**
 * A connection. Read it in one of three ways: `read` into memory of your own, `for await` over its chunks, or
 * `readable`. Write with `write` or `writable`.
 *
 * Close it, with `await using` best. Only when both streams were used and have ended, it closes itself.
 *
 * @example
 * ```ts
 * import { connect } from "uring/net";
 * await using conn = await connect({ hostname: "127.0.0.1", port: 8080 });
 * await conn.write("hello\n");
 * await conn.closeWrite();
 * for await (const chunk of conn) console.log(chunk.length);
 * ```
 */
export class Conn implements AsyncIterable<Uint8Array>, AsyncDisposable {
  /** The core. @internal */
  readonly socket: Socket<Conn>;
  readonly #limit: number;
  #localAddr: Address | null;
  readonly #queue = new ByteQueue();
  #watchers: (() => void)[] = [];
  // Who waits for data: the first, which mostly is the only one, and those behind it.
  #into: Uint8Array | null = null;
  #resolve: Resolve | null = null;
  #readers: Reader[] = [];
  #unreferenced = false;
  #waits = false;
  #paused = false;
  #ended = false;
  #failure: Error | null = null;
  #closing: PromiseWithResolvers<void> | null = null;
  #gone = false;
  #finished: Promise<void> | null = null;
  #readable: ReadableStream<Uint8Array> | null = null;
  #writable: WritableStream<Uint8Array> | null = null;

  /** @internal */
  constructor(make: (conn: Conn) => Socket<Conn>, highWaterMark: number | undefined) {
    this.#limit = highWaterMark ?? HIGH_WATER_MARK;
    this.socket = make(this);
    // It takes a detour to ask for a direct descriptor's.
    this.#localAddr = this.socket.side === null ? this.socket.localAddr : null;
  }

  /** The address of this end. */
  get localAddr(): Address {
    return this.#localAddr ??= this.socket.localAddr;
  }

  /** The address of the other end. */
  get remoteAddr(): Address {
    return this.socket.remoteAddr;
  }

  /** Whether it is closed or closing. */
  get closed(): boolean {
    return this.#closing !== null || this.socket.closed;
  }

  /**
   * Reads into `buffer` what is there, after waiting until something is: resolves with the number of bytes, at least 1,
   * or with `null` at the end. Many may be asked for at once, and are served in order. Giving up loses nothing: who reads
   * next gets it.
   *
   * @throws UringError (rejects): `ECONNRESET`…; `ECANCELED` when the connection is closed.
   */
  read(buffer: Uint8Array, options?: TransferOptions): Promise<number | null> {
    if (!(buffer instanceof Uint8Array)) return Promise.reject(new TypeError("buffer must be a Uint8Array"));
    if (this.#closing !== null) return Promise.reject(closedError("recv"));
    if (buffer.length === 0) return Promise.resolve(0);
    if (this.#queue.length > 0 && this.#resolve === null) {
      const count = this.#queue.take(buffer);
      this.#receive();
      return Promise.resolve(count);
    }
    return this.#wait(buffer, options);
  }

  /** The next chunk, in memory that is the caller's; null at the end. @internal */
  chunk(): Promise<Uint8Array | null> {
    if (this.#closing !== null) return Promise.reject(closedError("recv"));
    if (this.#queue.length > 0 && this.#resolve === null) {
      const chunk = this.#queue.shift();
      this.#receive();
      return Promise.resolve(chunk);
    }
    return this.#wait(null, undefined);
  }

  #wait<T>(into: Uint8Array | null, options: TransferOptions | undefined): Promise<T> {
    if (this.#ended) return Promise.resolve(null as T);
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (options !== undefined) return this.#waitLimited(into, options);
    const promise = this.#lineUp<T>(into);
    this.#receive();
    this.#count();
    return promise;
  }

  /** Has somebody wait behind those who do. */
  #lineUp<T>(into: Uint8Array | null): Promise<T> {
    const promise = new Promise<T>(executor as never);
    if (this.#resolve === null) {
      this.#into = into;
      this.#resolve = resolveNext;
    } else this.#readers.push({ into, resolve: resolveNext });
    return promise;
  }

  /** Has those behind the first one move up; gives that. */
  #moveUp(): Resolve {
    const first = this.#resolve!;
    const next = this.#readers.length === 0 ? undefined : this.#readers.shift();
    this.#into = next === undefined ? null : next.into;
    this.#resolve = next === undefined ? null : next.resolve;
    return first;
  }

  async #waitLimited<T>(into: Uint8Array | null, { signal, timeout }: TransferOptions): Promise<T> {
    signal?.throwIfAborted();
    const promise = this.#lineUp<T>(into);
    const resolve = resolveNext;
    const giveUp = (reason: unknown): void => {
      if (this.#resolve === resolve) this.#moveUp();
      else {
        const place = this.#readers.findIndex((other) => other.resolve === resolve);
        // It has just been served.
        if (place < 0) return;
        this.#readers.splice(place, 1);
      }
      this.#count();
      resolve(Promise.reject(reason) as never);
    };
    const end = limit("recv", { signal, timeout }, giveUp);
    this.#receive();
    this.#count();
    try {
      return await promise;
    } finally {
      end();
    }
  }

  /** Has the queue of what is to be sent run something when its turn comes. @internal */
  startJob(job: Job): void {
    const refusal = this.#refusal();
    if (refusal !== null) throw refusal;
    this.socket.output.addJob(job);
  }

  /** Whether the other end has finished, as far as is known. @internal */
  get atEnd(): boolean {
    return this.#ended;
  }

  /** Calls back when the connection is closed, or being closed; returns what ends that. @internal */
  whenClosed(callback: () => void): () => void {
    if (this.closed) callback();
    this.#watchers.push(callback);
    return () => void (this.#watchers = this.#watchers.filter((other) => other !== callback));
  }

  /** Stops receiving, and gives what has arrived: somebody else receives from now on. @internal */
  async handOver(): Promise<Uint8Array[]> {
    this.#paused = true;
    await this.socket.stopped();
    const chunks: Uint8Array[] = [];
    while (this.#queue.length > 0) chunks.push(this.#queue.shift());
    if (this.#failure !== null) throw this.#failure;
    return chunks;
  }

  /** Receives, unless too much waits already. */
  #receive(): void {
    if (this.#paused) {
      if (this.#queue.length > this.#limit / 2) return;
      this.#paused = false;
      this.socket.resume();
    } else this.socket.receive();
  }

  /** Has receiving keep the process alive while somebody waits. */
  #count(): void {
    const waits = this.#resolve !== null && !this.#unreferenced;
    if (waits === this.#waits) return;
    this.#waits = waits;
    if (waits) this.socket.ref();
    else this.socket.unref();
  }

  /** Data is there. @internal */
  arrived(view: Uint8Array): void {
    const { engine } = this.socket;
    engine.driver.patience = PATIENCE;
    const { length } = view;
    const into = this.#into;
    if (into !== null && into.length >= length) {
      into.set(view);
      this.#moveUp()(length as never);
    } else this.#handOut(view);
    if (this.#resolve !== null || !this.#waits) return;
    // Who had it will probably ask for more at once.
    engine.recount(this);
  }

  /** Gives what has arrived to as many as it is enough for, and keeps the rest. */
  #handOut(view: Uint8Array): void {
    let rest = view;
    while (this.#resolve !== null && rest.length > 0) {
      const into = this.#into;
      const resolve = this.#moveUp();
      if (into === null) {
        resolve(rest.slice() as never);
        return;
      }
      if (into.length === 0) {
        const error = new TypeError("The buffer was detached while it was to be read into");
        resolve(Promise.reject(error) as never);
        continue;
      }
      const count = Math.min(rest.length, into.length);
      into.set(count === rest.length ? rest : rest.subarray(0, count));
      rest = rest.subarray(count);
      resolve(count as never);
    }
    if (rest.length === 0) return;
    this.#keep(rest);
    if (this.#queue.length < this.#limit) return;
    this.#paused = true;
    this.socket.pause();
  }

  /** Keeps what nobody waits for: where it is, if it is much and enough buffers are left for others to receive into. */
  #keep(rest: Uint8Array): void {
    const { pool, currentId } = this.socket.engine;
    if (rest.length < LENT || pool.free <= pool.count >> 1) this.#queue.push(rest);
    else {
      pool.retain(currentId);
      this.#queue.lend(rest, pool, currentId);
    }
  }

  /** {@link Engine.recount}. @internal */
  recount(): void {
    this.#count();
  }

  /** The other end has finished. @internal */
  finished(): void {
    this.#ended = true;
    while (this.#resolve !== null) this.#moveUp()(null as never);
    this.#count();
  }

  /** The connection is closed. @internal */
  gone(error: Error | undefined): void {
    this.#gone = true;
    // The buffers may go with the ring, and others may need them.
    this.#queue.keep();
    for (const callback of this.#watchers) callback();
    this.#failure = error ?? closedError("recv");
    while (this.#resolve !== null) this.#moveUp()(Promise.reject(this.#failure) as never);
    this.#closing?.resolve();
  }

  /**
   * What arrives, in chunks. While nobody takes them, no more than `highWaterMark` bytes wait in memory; then the sender is
   * held back. Leaving the loop early loses nothing: whoever reads next goes on where it stopped.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, undefined, undefined> {
    for (;;) {
      const chunk = await this.chunk();
      if (chunk === null) return undefined;
      yield chunk;
    }
  }

  /**
   * Writes all of `data` (text as UTF-8), after what is being written already, and resolves with the number of bytes when
   * the kernel has them. The bytes must not change until then. What is written within one turn of the event loop leaves in
   * one send. With {@link SocketOptions.zeroCopy} they are sent where they lie; memory of {@link RegisteredBuffer} spares the
   * kernel finding its pages then, be it written whole or as a part of its `bytes`.
   *
   * A write that is given up has sent a part that nobody knows: the connection is closed then.
   *
   * @throws UringError (rejects): `EPIPE` when the other end is gone; `ECANCELED` when the connection is closed.
   */
  write(data: Uint8Array | string | RegisteredBuffer, options?: TransferOptions): Promise<number> {
    const bytes = typeof data === "string"
      ? encoder.encode(data)
      : data instanceof Uint8Array
      ? data
      : bytesOf(data);
    if (!(bytes instanceof Uint8Array)) return Promise.reject(bytes);
    const refusal = this.#refusal();
    if (refusal !== null) return Promise.reject(refusal);
    const { length } = bytes;
    const { output } = this.socket;
    try {
      if (length <= COPIED && length < output.zeroCopy && output.queued < HIGH_WATER_MARK) {
        output.add(bytes, 0, length);
      } else output.borrow(bytes);
    } catch (error) {
      return Promise.reject(error);
    }
    const sent = output.sent(length);
    return options === undefined ? sent : this.#sentInTime(sent, options);
  }

  async #sentInTime(sent: Promise<number>, options: TransferOptions): Promise<number> {
    let gaveUp: { reason: unknown } | null = null;
    const end = limit("send", options, (reason) => {
      gaveUp = { reason };
      this.socket.destroy();
    });
    try {
      return await sent;
    } catch (error) {
      throw gaveUp === null ? error : (gaveUp as { reason: unknown }).reason;
    } finally {
      end();
    }
  }

  /** Why nothing can be written, if so. */
  #refusal(): Error | null {
    if (this.#closing !== null) return closedError("send");
    if (this.socket.closed) return new UringError(EPIPE, "send", { cause: this.#failure });
    if (this.#finished !== null) return new UringError(EPIPE, "send", { hint: "closeWrite was called" });
    return null;
  }

  /**
   * Sends a part of a file after what is being written, as {@link Socket.sendFile} does, and resolves with the number of
   * bytes when the kernel has them; fewer than `length` when the file ends before. The file must stay open until then.
   *
   * @param file A descriptor, or something that has one, such as a `FileHandle`.
   * @param offset Where in the file to begin; default 0.
   * @param length How many bytes; default: up to the end.
   */
  sendFile(file: FileSource, offset = 0, length: number = Infinity): Promise<number> {
    const refusal = this.#refusal();
    if (refusal !== null) return Promise.reject(refusal);
    return this.socket.sendFile(file, offset, length);
  }

  /**
   * Hands the connection to another Worker, where a listener with an `inbox` takes it, and closes it here when what was
   * written is sent. Nothing may have arrived that was not read: hand a connection over before reading from it.
   *
   * @param to The other listener's {@link Listener.inbox}.
   * @throws TypeError (rejects) when something has arrived; UringError: `EBADF`, `EBADFD` when the inbox is closed. The
   * connection stays here then. Linux 6.8.
   */
  async transfer(to: RingAddress): Promise<void> {
    const refusal = this.#refusal();
    if (refusal !== null) throw refusal;
    if (this.#resolve !== null) throw new TypeError("The connection is being read");
    this.#paused = true;
    await this.socket.stopped();
    if (this.#queue.length > 0 || this.#ended) {
      throw new TypeError("Data has arrived that was not read, which cannot be handed over");
    }
    await this.socket.transfer(to);
    await this.close();
  }

  /**
   * Sends descriptors (`SCM_RIGHTS`), 1 to 253, over a Unix socket, after what was written before: the receiver gets
   * descriptors of its own, with the first byte of `data`. They stay open here; they must not be closed, and `data` must not
   * change, until the promise resolves with the number of bytes.
   *
   * @param data At least one byte, or text, which is sent as UTF-8.
   * @throws TypeError, RangeError (rejects) for what is no descriptor; UringError: `EPIPE`, `EINVAL` on a TCP connection…
   */
  async sendDescriptors(
    data: Uint8Array | string,
    descriptors: readonly SendableDescriptor[],
  ): Promise<number> {
    const bytes = typeof data === "string" ? encoder.encode(data) : data;
    checkSend(bytes, descriptors);
    const { engine, file } = this.socket;
    const job = new SendDescriptors(engine.uring, file, bytes, descriptors);
    this.startJob(job);
    return await job.sent.promise;
  }

  /**
   * Receives into `buffer`, with the descriptors that come along: objects that close what they have unless it is taken from
   * them. Only this way of reading takes descriptors; those that arrive while the connection is read otherwise are closed by
   * the kernel. The kernel writes into `buffer` until the promise settles.
   *
   * @param most How many descriptors there is room for, up to 253, which is the default; those beyond are closed.
   */
  async receiveDescriptors(buffer: Uint8Array, most?: number): Promise<ReceivedDescriptors> {
    if (!(buffer instanceof Uint8Array)) throw new TypeError("buffer must be a Uint8Array");
    if (this.#closing !== null) throw closedError("recvmsg");
    if (this.#resolve !== null) throw new TypeError("The connection is being read");
    this.#paused = true;
    await this.socket.stopped();
    if (this.#queue.length > 0) return { length: this.#queue.take(buffer), descriptors: [] };
    if (this.#failure !== null) throw this.#failure;
    if (this.#ended || buffer.length === 0) return { length: 0, descriptors: [] };
    const { engine, file } = this.socket;
    const source = { uring: engine.uring, fd: file, whenClosed: this.whenClosed.bind(this) };
    return await receiveOver(source, buffer, most);
  }

  /** Says that nothing more will be written, after what is being written; reading goes on. Again is no error. */
  closeWrite(): Promise<void> {
    if (this.#closing !== null) return Promise.reject(closedError("shutdown"));
    if (this.#finished === null) {
      this.socket.end();
      this.#finished = this.socket.closed ? Promise.resolve() : this.socket.output.sent(0).then(() => {});
    }
    return this.#finished;
  }

  /** What arrives, as a stream. */
  get readable(): ReadableStream<Uint8Array> {
    return this.#readable ??= readableOf(this);
  }

  /** Where to write, as a stream; closing it is {@link Conn.closeWrite}, aborting it {@link Conn.close}. */
  get writable(): WritableStream<Uint8Array> {
    return this.#writable ??= writableOf(this);
  }

  /** Has waiting for data keep the process alive, as at the start. */
  ref(): this {
    this.#unreferenced = false;
    this.#count();
    return this;
  }

  /** Lets the process exit although data is waited for. */
  unref(): this {
    this.#unreferenced = true;
    this.#count();
    return this;
  }

  /**
   * Closes it: what is in flight is cancelled, and its promises reject with `ECANCELED`. Resolves when the kernel has let
   * go of the memory. What the kernel has taken is still sent. Again is no error.
   */
  close(): Promise<void> {
    if (this.#closing !== null) return this.#closing.promise;
    this.#closing = Promise.withResolvers<void>();
    for (const callback of this.#watchers) callback();
    this.#queue.clear();
    if (this.#gone) this.#closing.resolve();
    else this.socket.destroy();
    return this.#closing.promise;
  }

  /** {@link Conn.close}, but what the kernel has not sent is lost, and TCP tells the other end so (`ECONNRESET`). */
  terminate(): Promise<void> {
    if (!this.#gone) this.socket.terminate();
    return this.close();
  }

  /** The same as {@link Conn.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

const EPIPE = 32;

/** Has `giveUp` called at the end of a time limit or of a signal; returns what ends that. */
function limit(syscall: string, options: TransferOptions, giveUp: (reason: unknown) => void): () => void {
  const { signal, timeout } = options;
  const onAbort = (): void => giveUp(signal!.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  const timer = timeout === undefined ? undefined : setTimeout(() => {
    giveUp(new UringError(ETIMEDOUT, syscall, { hint: `not done within ${timeout} ms` }));
  }, timeout);
  return () => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  };
}
