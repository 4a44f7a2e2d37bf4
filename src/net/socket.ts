/**
 * A connection: the core below both styles, and what handlers get.
 *
 * @module
 */
import { IORING_CQE_BUFFER_SHIFT, IOSQE_BUFFER_SELECT, IOSQE_FIXED_FILE } from "../ffi/abi.ts";
import type { Fd } from "../loop/direct.ts";
import type { CompletionSink, Op } from "../loop/op.ts";
import { tellsUsage } from "../loop/zero_copy_ops.ts";
import { type RegisteredBuffer, type RingAddress, type SocketAddress, UringError } from "../mod.ts";
import { type Address, publicAddress } from "./address.ts";
import type { Engine } from "./engine.ts";
import type { DirectSide } from "./direct_side.ts";
import { closedError } from "./errors.ts";
import { hand } from "./hand.ts";
import type { SocketHandlers, SocketOptions } from "./handlers.ts";
import { Output } from "./output.ts";
import { checkPart, type FileSource, SendFile } from "./send_file.ts";
import { closeSocket, localAddressOf, NOWHERE, resetOnClose, setUp, shutdownWrite } from "./socket_calls.ts";
import { bytesOf } from "./zero_copy.ts";

const ENOBUFS = -105;
const ECANCELED = -125;
const ETIMEDOUT = -110;
const ENOTCONN = -107;
const INVALID = -22;

/** {@link SocketOptions.highWaterMark} by default. */
export const HIGH_WATER_MARK: number = 256 << 10;

/** Receiving is paused: {@link Socket.pause}. */
const PAUSED = 1;
/** The other end has finished. */
const ENDED = 2;
/** This end will finish when all is sent. */
const ENDING = 4;
/** This end has finished. */
const FINISHED = 8;
/** It will be closed when all is sent. */
const CLOSING = 16;
/** It is being closed: nothing is sent or handed out any more. */
const DEAD = 32;
/** It is closed. */
const CLOSED = 64;
/** What was written did not all fit. */
const FULL = 128;
/** It keeps no process alive. */
const QUIET = 256;
/** Receiving counts as keeping no process alive right now. */
const QUIETED = 512;
/** It stays open when the other end has finished. */
const HALF_OPEN = 1024;
/** Receiving is being cancelled. */
const STOPPING = 2048;
/** Everybody knows that it is closed. */
const SETTLED = 4096;
/** It is closed by the program alone. */
const MANUAL = 8192;

/** A connection with whatever data. @internal */
export type AnySocket = Socket<never>;

/** Where a socket reports that it has come and gone. @internal */
export interface SocketOwner {
  /** It is closed. */
  gone(socket: AnySocket): void;
}

/**
 * A connection in the handler style: what {@link SocketHandlers} are called with. `write`, `end` and `close` may be called
 * at any time; what is written within one turn of the event loop leaves in one send.
 */
export class Socket<T = undefined> implements CompletionSink {
  /** Whatever the program wants to keep with the connection. */
  data: T;
  /** The descriptor, or the slot of a direct one. @internal */
  readonly fd: number;
  /** What it has as a direct descriptor; null when it is none. @internal */
  readonly side: DirectSide | null;
  /** The bit of entries that says which. @internal */
  readonly fixed: number;
  /** @internal */
  readonly engine: Engine;
  /** How long it may be silent, in milliseconds; 0: for ever. @internal */
  idleAfter = 0;
  /** When something happened last. @internal */
  activeAt = 0;
  /** Where the wheel has it. @internal */
  idleSlot = -1;
  /** When it was heard of last. @internal */
  epoch = -1;
  /** Its neighbours in the list of whoever owns it. @internal */
  before: AnySocket | null = null;
  /** @internal */
  after: AnySocket | null = null;

  readonly #handlers: SocketHandlers<T>;
  readonly #owner: SocketOwner | null;
  readonly #highWaterMark: number;
  #state = 0;
  #receiving: Op | null = null;
  #output: Output | null = null;
  #error: Error | undefined = undefined;
  #remote: SocketAddress | null;
  #onStopped: (() => void) | null = null;

  /** @internal */
  constructor(
    engine: Engine,
    file: number | DirectSide,
    handlers: SocketHandlers<T>,
    options: SocketOptions,
    data: T,
    owner: SocketOwner | null = null,
    remote: SocketAddress | null = null,
    manual = false,
  ) {
    this.engine = engine;
    const side = typeof file === "number" ? null : file;
    this.side = side;
    this.fd = side === null ? file as number : side.file.slot;
    this.fixed = side === null ? 0 : IOSQE_FIXED_FILE;
    this.data = data;
    this.#handlers = handlers;
    this.#owner = owner;
    this.#remote = remote;
    this.#highWaterMark = options.highWaterMark ?? HIGH_WATER_MARK;
    const tcp = side === null ? remote !== null && remote.family !== "unix" : !side.unix;
    if (options.zeroCopy !== undefined && tcp && tellsUsage()) {
      this.output.zeroCopy = options.zeroCopy;
    }
    if (options.allowHalfOpen === true) this.#state |= HALF_OPEN;
    if (manual) this.#state |= HALF_OPEN | MANUAL | QUIET;
    setUp(this as unknown as AnySocket, options);
  }

  /** Tells the program that it is there, and begins to receive. @internal */
  start(): void {
    const { open } = this.#handlers;
    if (open !== undefined) this.#call(() => open.call(this.#handlers, this));
    this.receive();
  }

  /** The address of this end. Empty once it is closed. */
  get localAddr(): Address {
    const dead = (this.#state & DEAD) !== 0;
    if (this.side !== null && !dead) return publicAddress(this.side.local);
    return publicAddress(localAddressOf(this.fd, dead));
  }

  /** The address of the other end. */
  get remoteAddr(): Address {
    return publicAddress(this.side?.remote ?? this.#remote ?? NOWHERE);
  }

  /** What operations of the ring's know it by. @internal */
  get file(): Fd {
    return this.side === null ? this.fd : this.side.file;
  }

  /** Whether it is closed or being closed. */
  get closed(): boolean {
    return (this.#state & (DEAD | CLOSED)) !== 0;
  }

  /** Whether the other end has finished writing. */
  get ended(): boolean {
    return (this.#state & ENDED) !== 0;
  }

  /** Whether it is being closed at once. @internal */
  get dead(): boolean {
    return (this.#state & DEAD) !== 0;
  }

  /** How many bytes wait to be sent. */
  get bufferedAmount(): number {
    return this.#output?.queued ?? 0;
  }

  /** How many bytes {@link Socket.write} takes before it takes no more. */
  get writableLength(): number {
    return Math.max(0, this.#highWaterMark - this.bufferedAmount);
  }

  /**
   * Sends a copy of `data` (text as UTF-8) after what was written before. Returns how many bytes it has taken: when they
   * are fewer than there are, so much waits already that the caller should keep the rest until `drain` is called. Text is
   * taken as a whole or not at all (0). −1: nothing can be written any more.
   *
   * @param data What to send.
   * @param start The first byte of it; default 0.
   * @param length How many bytes; default: all from there. Neither is for text.
   */
  write(data: Uint8Array | string, start?: number, length?: number): number {
    if ((this.#state & (DEAD | ENDING | CLOSING)) !== 0) return -1;
    const output = this.#output ??= new Output(this as unknown as AnySocket, this.engine);
    const room = this.#highWaterMark - output.queued;
    if (this.idleAfter !== 0) this.activeAt = this.engine.now();
    if (typeof data === "string") {
      if (room > 0) return output.addText(data);
      if (data !== "") this.#state |= FULL;
      return 0;
    }
    if (!(data instanceof Uint8Array)) throw new TypeError("data must be a Uint8Array or a string");
    const from = start ?? 0;
    const most = data.length - from;
    const wanted = length ?? most;
    if (from !== (from | 0) || wanted !== (wanted | 0) || from < 0 || wanted < 0 || wanted > most) {
      throw new RangeError(`start and length must lie within the ${data.length} bytes of data`);
    }
    if (wanted <= room) {
      if (data === this.engine.current && wanted === most && output.lend(data)) return wanted;
      if (wanted > 0) output.add(data, from, from + wanted);
      return wanted;
    }
    this.#state |= FULL;
    if (room <= 0) return 0;
    output.add(data, from, from + room);
    return room;
  }

  /**
   * Sends `data` where it lies, after what was written before, and resolves with the number of bytes when the memory may be
   * changed again: when the kernel has taken them or, with {@link SocketOptions.zeroCopy}, when the other end has
   * acknowledged them. It counts as waiting, but no limit holds for it. Content that is sent again and again belongs into
   * a {@link RegisteredBuffer}, as a whole or as parts of its `bytes`, which spares the kernel finding its pages.
   *
   * @throws TypeError (rejects) for something else; UringError: `EPIPE`…; `ECANCELED` when the connection is closed.
   */
  send(data: Uint8Array | RegisteredBuffer): Promise<number> {
    if ((this.#state & (DEAD | ENDING | CLOSING)) !== 0) return Promise.reject(closedError("send"));
    const bytes = data instanceof Uint8Array ? data : bytesOf(data);
    if (!(bytes instanceof Uint8Array)) return Promise.reject(bytes);
    if (this.idleAfter !== 0) this.activeAt = this.engine.now();
    const { output } = this;
    try {
      output.borrow(bytes);
    } catch (error) {
      return Promise.reject(error);
    }
    return output.sent(bytes.length);
  }

  /** The queue of what is to be sent. @internal */
  get output(): Output {
    return this.#output ??= new Output(this as unknown as AnySocket, this.engine);
  }

  /**
   * Sends a part of a file after what was written before: small ones are read, large ones moved by `splice` without a copy.
   * Resolves with the number of bytes when the kernel has them; fewer than `length` when the file ends before. The file must
   * stay open until then.
   *
   * @param file A descriptor, or something that has one, such as a `FileHandle`.
   * @param offset Where in the file to begin; default 0.
   * @param length How many bytes; default: up to the end.
   */
  sendFile(file: FileSource, offset = 0, length: number = Infinity): Promise<number> {
    const fd = checkPart(file, offset, length);
    if ((this.#state & (DEAD | ENDING | CLOSING)) !== 0) return Promise.reject(closedError("send"));
    const job = new SendFile(this.engine, fd, this.file, offset, length);
    this.output.addJob(job);
    return job.sent.promise;
  }

  /**
   * Hands the connection to another Worker, where a listener with an `inbox` takes it, and closes it here when what was
   * written is sent. What has arrived already is not handed over: in {@link SocketHandlers.open} nothing has.
   *
   * @param to The other listener's {@link Listener.inbox}.
   * @throws UringError (rejects): `EBADF`, `EBADFD` when that is closed; the connection stays here then, paused. Linux 6.8.
   */
  async transfer(to: RingAddress): Promise<void> {
    if ((this.#state & (DEAD | ENDING)) !== 0) throw closedError("transfer");
    await this.stopped();
    await this.#output?.sent(0);
    if ((this.#state & DEAD) !== 0) throw this.#error ?? closedError("transfer");
    this.side?.hold();
    try {
      await hand(this.engine, this.file, to);
    } finally {
      this.side?.letGo();
    }
    this.destroy();
  }

  /** Hands what was written to the kernel now, not at the end of this turn. */
  flush(): void {
    if (!this.engine.driver.closed) this.engine.driver.flush();
  }

  /**
   * Sends `data`, if there is any, and says that nothing more will be written. What the other end sends still arrives;
   * when both have finished, the connection is closed.
   */
  end(data?: Uint8Array | string): void {
    if ((this.#state & (DEAD | ENDING)) !== 0) return;
    if (data !== undefined) this.#append(data);
    this.#state |= ENDING;
    if (this.#output === null || this.#output.empty) this.outputEmpty();
  }

  /** Adds all of something, however much waits already. */
  #append(data: Uint8Array | string): void {
    if (typeof data === "string") this.output.addText(data);
    else if (data instanceof Uint8Array) this.output.add(data, 0, data.length);
    else throw new TypeError("data must be a Uint8Array or a string");
  }

  /** Sends what was written, and closes the connection: in both directions. */
  close(): void {
    if ((this.#state & DEAD) !== 0) return;
    this.#state |= ENDING | CLOSING;
    this.pause();
    if (this.#output === null || this.#output.empty) this.destroy();
  }

  /** Closes the connection at once; what was not sent is lost, and TCP tells the other end so (`ECONNRESET`). */
  terminate(): void {
    if ((this.#state & DEAD) !== 0) return;
    if (this.side === null) resetOnClose(this.fd);
    else if (!this.engine.driver.closed) this.engine.direct.resetOnClose(this.fd);
    this.destroy();
  }

  /** Receives nothing for a while; the sender is held back. */
  pause(): void {
    this.#state |= PAUSED;
    this.#stop();
  }

  /** Receives no more, and resolves when nothing is being received. @internal */
  async stopped(): Promise<void> {
    this.pause();
    while (this.#receiving !== null) await new Promise<void>((resolve) => this.#onStopped = resolve);
  }

  /** Receives again after {@link Socket.pause}. */
  resume(): void {
    if ((this.#state & CLOSING) !== 0) return;
    this.#state &= ~PAUSED;
    this.receive();
  }

  /**
   * Has {@link SocketHandlers.timeout} called when nothing has come or gone for so many seconds, to a sixteenth of one;
   * without that handler the connection is closed with `ETIMEDOUT`. 0: never.
   */
  timeout(seconds: number): void {
    if (typeof seconds !== "number" || !(seconds >= 0)) {
      throw new RangeError(`seconds must be a number from 0 on, not ${seconds}`);
    }
    if ((this.#state & DEAD) !== 0) return;
    this.idleAfter = seconds * 1000;
    if (seconds > 0 && seconds < Infinity) this.engine.idle.watch(this as unknown as AnySocket);
    else this.engine.idle.forget(this as unknown as AnySocket);
  }

  /** Has the connection keep the process alive, as at the start. */
  ref(): this {
    this.#state &= ~QUIET;
    this.#count();
    return this;
  }

  /** Lets the process exit although the connection is open. */
  unref(): this {
    this.#state |= QUIET;
    this.#count();
    return this;
  }

  /** Has receiving count as the state says. */
  #count(): void {
    const quiet = this.#receiving !== null && (this.#state & QUIET) !== 0;
    if (quiet === ((this.#state & QUIETED) !== 0)) return;
    this.#state ^= QUIETED;
    this.engine.driver.quiet(quiet ? 1 : -1);
  }

  /** Begins to receive, unless it does, or is not to. @internal */
  receive(): void {
    const stopped = PAUSED | ENDED | DEAD;
    if (this.#receiving !== null || (this.#state & stopped) !== 0) return;
    const { driver, pool } = this.engine;
    if (driver.closed) {
      this.destroy(closedError("recv"));
      return;
    }
    const op = driver.begin("recv");
    op.variant = "multishot";
    const sqe = op.sqe!;
    sqe.prepRecvMultishot(this.fd, 0, 0, 0);
    sqe.flags = IOSQE_BUFFER_SELECT | this.fixed;
    sqe.bufGroup = pool.bgid;
    this.#receiving = op;
    driver.launch(op, this);
    if ((this.#state & QUIET) !== 0) this.#count();
  }

  #stop(): void {
    if (this.#receiving === null || (this.#state & STOPPING) !== 0) return;
    this.#state |= STOPPING;
    this.engine.driver.cancelOp(this.#receiving);
  }

  /** Something was received, or receiving has ended. @internal */
  complete(res: number, flags: number, more: boolean): void {
    if (!more) {
      this.#receiving = null;
      this.#state &= ~STOPPING;
      if ((this.#state & QUIETED) !== 0) this.#count();
      this.#onStopped?.();
    }
    if (res > 0) {
      const { engine } = this;
      const { pool } = engine;
      const id = flags >>> IORING_CQE_BUFFER_SHIFT;
      const view = pool.borrow(id, res, flags);
      engine.arrived(this as unknown as AnySocket);
      if ((this.#state & DEAD) === 0) {
        engine.current = view;
        engine.currentId = id;
        this.#deliver(view);
        engine.current = null;
      }
      pool.recycle(id);
      if (!more) this.#receiveOn();
      return;
    }
    if ((this.#state & DEAD) !== 0) this.settle();
    else if (res === 0) this.#end();
    else if (res === ENOBUFS) this.engine.starve(this as unknown as AnySocket);
    else if (res === ECANCELED && !this.engine.driver.closed) this.#receiveOn();
    else this.destroy(this.#failure(res, "recv"));
  }

  #receiveOn(): void {
    if ((this.#state & DEAD) !== 0) this.settle();
    else this.receive();
  }

  #deliver(view: Uint8Array): void {
    if (this.idleAfter !== 0) this.activeAt = this.engine.now();
    const handlers = this.#handlers;
    try {
      const result = handlers.data?.(this, view);
      if (result !== undefined) this.#watch(result);
    } catch (error) {
      this.#thrown(error);
    }
  }

  #end(): void {
    this.#state |= ENDED;
    const { end } = this.#handlers;
    if (end !== undefined) this.#call(() => end.call(this.#handlers, this));
    if ((this.#state & DEAD) !== 0) return;
    if ((this.#state & HALF_OPEN) === 0) this.close();
    else if ((this.#state & (FINISHED | MANUAL)) === FINISHED) this.destroy();
  }

  /** All that was written is sent. @internal */
  outputEmpty(): void {
    const state = this.#state;
    if ((state & (DEAD | ENDING)) !== ENDING || (state & FINISHED) !== 0) return;
    if ((state & CLOSING) !== 0 || (state & (ENDED | MANUAL)) === ENDED) {
      this.destroy();
      return;
    }
    this.#state |= FINISHED;
    if (this.side === null) this.#hasShutDown(shutdownWrite(this.fd));
    else this.side.shutdown((res) => this.#hasShutDown(res));
  }

  #hasShutDown(res: number): void {
    if ((this.#state & DEAD) !== 0) return;
    // The other end has reset the connection: receiving tells.
    if (res < 0 && res !== ENOTCONN && res !== INVALID) this.destroy(this.#failure(res, "shutdown"));
  }

  /** Something was sent. @internal */
  sentSome(): void {
    if (this.idleAfter !== 0) this.activeAt = this.engine.now();
    if ((this.#state & FULL) === 0 || this.bufferedAmount > this.#highWaterMark / 2) return;
    this.#state &= ~FULL;
    const { drain } = this.#handlers;
    if (drain !== undefined) this.#call(() => drain.call(this.#handlers, this));
  }

  /** Sending has failed. @internal */
  sendFailed(res: number): void {
    if ((this.#state & DEAD) === 0) this.destroy(this.#failure(res, "send"));
  }

  /** Nothing has happened for long. @internal */
  idle(): void {
    const { timeout } = this.#handlers;
    if (timeout === undefined) {
      this.destroy(new UringError(ETIMEDOUT, "recv", { hint: `nothing came for ${this.idleAfter} ms` }));
      return;
    }
    this.engine.idle.watch(this as unknown as AnySocket);
    this.#call(() => timeout.call(this.#handlers, this));
  }

  #failure(res: number, syscall: string): Error {
    return res === ECANCELED ? closedError(syscall) : new UringError(res, syscall);
  }

  /** Calls a handler. */
  #call(handler: () => unknown): void {
    try {
      const result = handler();
      if (result !== undefined) this.#watch(result);
    } catch (error) {
      this.#thrown(error);
    }
  }

  /** What an `async` handler rejects with counts as thrown. */
  #watch(result: unknown): void {
    if (result instanceof Promise) result.catch((error: unknown) => this.#thrown(error));
  }

  #thrown(thrown: unknown): void {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
    if (this.#handlers.error === undefined) reportError(thrown);
    if ((this.#state & DEAD) === 0) this.destroy(error);
    else this.#report(error);
  }

  #report(error: Error): void {
    try {
      const result = this.#handlers.error?.(this, error);
      if (result instanceof Promise) result.catch(reportError);
    } catch (again) {
      reportError(again);
    }
  }

  /** Closes it at once. With an error: tells the program why. @internal */
  destroy(error?: Error): void {
    if ((this.#state & DEAD) !== 0) return;
    this.#state |= DEAD;
    this.#error = error;
    this.engine.idle.forget(this as unknown as AnySocket);
    if (error !== undefined) this.#report(error);
    this.#stop();
    this.#output?.cancel(error ?? closedError("send"));
    closeSocket(this as unknown as AnySocket, () => {
      this.#state |= CLOSED;
      this.engine.closed();
      this.settle();
    });
  }

  /** Tells that it is closed, when nothing of it is in flight any more. @internal */
  settle(): void {
    if ((this.#state & (CLOSED | SETTLED)) !== CLOSED || this.#receiving !== null) return;
    const output = this.#output;
    if (output !== null && output.inFlight > 0) return;
    this.#state |= SETTLED;
    this.side?.settle();
    output?.discard(this.#error ?? closedError("send"));
    this.#owner?.gone(this as unknown as AnySocket);
    const { close } = this.#handlers;
    if (close !== undefined) this.#call(() => close.call(this.#handlers, this, this.#error));
  }
}
