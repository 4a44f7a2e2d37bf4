/**
 * Sockets that listen.
 *
 * @module
 */
import { system } from "../ffi/system.ts";
import type { Fd } from "../loop/direct.ts";
import { type RingAddress, type SocketAddress, Uring } from "../mod.ts";
import { type Acceptable, Acceptor, type AcceptSink } from "./acceptor.ts";
import { type Address, publicAddress } from "./address.ts";
import { Conn, CONN_HANDLERS } from "./conn.ts";
import { DirectSide, prepareDirect } from "./direct_side.ts";
import type { Engine } from "./engine.ts";
import { closedError } from "./errors.ts";
import { closeFile, Dealer, HandedOver } from "./hand.ts";
import type { SocketHandlers, SocketOptions } from "./handlers.ts";
import { type AnySocket, Socket, type SocketOwner } from "./socket.ts";
import { localAddressOf, remoteAddressOf } from "./socket_calls.ts";

/** Addresses that stand for all of this machine's. */
const ANY: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);

/** How many accepted connections wait for somebody to take them before accepting pauses. */
const MOST_READY = 64;

interface Waiter {
  resolve(conn: Conn): void;
  reject(reason: unknown): void;
}

/** What a listener takes beside its engine. @internal */
export interface ListenerOptions extends SocketOptions {
  /** Closes it. */
  signal?: AbortSignal | undefined;
  /** Who gets the connections. */
  handTo?: readonly RingAddress[] | undefined;
  /** Whether they are direct descriptors. */
  direct?: boolean | undefined;
}

/** A socket that listens: what `listen` gives. */
export class Listener implements AsyncIterableIterator<Conn, undefined, undefined>, AsyncDisposable {
  /** Where it listens, with the port that the kernel picked for 0. */
  readonly addr: Address;
  /**
   * Where other Workers hand connections to, with `handTo` and {@link Conn.transfer}: it can be posted to them. Only where
   * `listen` was asked for an `inbox`.
   */
  readonly inbox: RingAddress | null;
  readonly #engine: Engine;
  readonly #fd: number;
  readonly #options: ListenerOptions;
  readonly #handlers: SocketHandlers<unknown> | null;
  readonly #data: unknown;
  readonly #acceptor: Acceptable;
  readonly #dealer: Dealer | null;
  /** The address of connections' own end, unless it is theirs alone. */
  readonly #local: SocketAddress | null;
  readonly #family: SocketAddress["family"] | null;
  readonly #onAbort: () => void = () => void this.close();
  readonly #owner: SocketOwner = { gone: (socket) => this.#unlink(socket) };
  #referenced = true;
  #accepting = false;
  #ready: Socket<Conn>[] = [];
  #waiters: Waiter[] = [];
  #failure: Error | null = null;
  #closing: PromiseWithResolvers<void> | null = null;
  // The connections that are open.
  #first: AnySocket | null = null;
  #connections = 0;
  #drained: (() => void)[] = [];

  /** @internal */
  constructor(
    engine: Engine,
    fd: number,
    options: ListenerOptions,
    handlers: SocketHandlers<unknown> | null,
    data: unknown,
  ) {
    this.#engine = engine;
    this.#fd = fd;
    this.#options = options;
    this.#handlers = handlers;
    this.#data = data;
    const local = localAddressOf(fd, fd < 0);
    this.addr = publicAddress(local);
    this.#family = fd < 0 ? null : local.family;
    this.#local = fd < 0 || local.family !== "unix" && ANY.has(local.address) ? null : local;
    this.#dealer = options.handTo === undefined ? null : new Dealer(engine, options.handTo);
    const sink: AcceptSink = {
      accepted: (file) => this.#accepted(file),
      failed: (error) => this.#failed(error),
      stopped: () => this.#stopped(),
    };
    // What comes by way of another ring's table, or goes there, is spared becoming a descriptor in between.
    const direct = (options.direct ?? (fd < 0 || this.#dealer !== null)) && prepareDirect(engine);
    if (fd < 0) {
      const handedOver = new HandedOver(engine, sink, direct);
      this.#acceptor = handedOver;
      this.inbox = handedOver.address;
    } else {
      this.#acceptor = new Acceptor(engine, fd, sink, direct);
      this.inbox = null;
    }
    options.signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (handlers !== null || this.#dealer !== null) this.#accept();
    else this.#count();
  }

  /** The port, 0 for a Unix socket. */
  get port(): number {
    return this.addr.transport === "unix" ? 0 : this.addr.port;
  }

  /** Whether it is closed or closing. */
  get closed(): boolean {
    return this.#closing !== null;
  }

  /** How many connections that it has accepted are open. */
  get connections(): number {
    return this.#connections;
  }

  #accept(): void {
    this.#accepting = true;
    this.#acceptor.start();
    this.#count();
  }

  #count(): void {
    const active = this.#handlers !== null || this.#dealer !== null || this.#waiters.length > 0;
    this.#acceptor.referenced = this.#referenced && active;
  }

  #accepted(file: Fd): void {
    if (this.#closing !== null) {
      closeFile(file);
      return;
    }
    if (this.#dealer !== null) {
      void this.#deal(this.#dealer, file);
      return;
    }
    const fd = typeof file === "number"
      ? file
      : new DirectSide(this.#engine, file, this.#local, this.#family);
    const remote = typeof file === "number" ? remoteAddressOf(file) : null;
    if (this.#handlers !== null) {
      const socket = new Socket(
        this.#engine,
        fd,
        this.#handlers,
        this.#options,
        this.#data,
        this.#owner,
        remote,
      );
      this.#link(socket as AnySocket);
      socket.start();
      return;
    }
    const make = (conn: Conn): Socket<Conn> =>
      new Socket(this.#engine, fd, CONN_HANDLERS, this.#options, conn, this.#owner, remote, true);
    const { socket } = new Conn(make, this.#options.highWaterMark);
    this.#link(socket as AnySocket);
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) {
      waiter.resolve(socket.data);
      this.#count();
      return;
    }
    this.#ready.push(socket);
    if (this.#ready.length < MOST_READY) return;
    this.#accepting = false;
    this.#acceptor.stop();
  }

  async #deal(dealer: Dealer, file: Fd): Promise<void> {
    try {
      await dealer.deal(file);
    } catch (error) {
      if (!dealer.alive) this.#failed(error as Error);
    }
  }

  #link(socket: AnySocket): void {
    this.#connections++;
    socket.after = this.#first;
    if (this.#first !== null) this.#first.before = socket;
    this.#first = socket;
  }

  #unlink(socket: AnySocket): void {
    this.#connections--;
    if (socket.before === null) this.#first = socket.after;
    else socket.before.after = socket.after;
    if (socket.after !== null) socket.after.before = socket.before;
    socket.before = null;
    socket.after = null;
    if (this.#connections === 0) { for (const resolve of this.#drained.splice(0)) resolve(); }
  }

  /**
   * The next connection. Many may be asked for at once.
   *
   * @throws UringError (rejects) with `ECANCELED` when the listener is closed; the reason when its signal aborts. TypeError
   * in the handler style, where nothing waits to be accepted.
   */
  accept(): Promise<Conn> {
    if (this.#handlers !== null || this.#dealer !== null) {
      return Promise.reject(new TypeError("A listener with handlers, or with handTo, has nothing to accept"));
    }
    if (this.#closing !== null) return Promise.reject(this.#reason());
    const socket = this.#ready.shift();
    if (socket !== undefined) {
      if (!this.#accepting) this.#accept();
      return Promise.resolve(socket.data);
    }
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      if (this.#accepting) this.#count();
      else this.#accept();
    });
  }

  #reason(): unknown {
    const { signal } = this.#options;
    return signal?.aborted === true ? signal.reason : this.#failure ?? closedError("accept");
  }

  /** The next connection; the end when the listener is closed. Rejects when its signal aborts. */
  async next(): Promise<IteratorResult<Conn, undefined>> {
    try {
      return { done: false, value: await this.accept() };
    } catch (error) {
      const ended = this.closed && this.#failure === null && this.#options.signal?.aborted !== true;
      if (ended && this.#handlers === null) return { done: true, value: undefined };
      throw error;
    }
  }

  /** Closes it: what leaving a `for await` does. */
  async return(): Promise<IteratorResult<Conn, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  /** Itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Has waiting for a connection keep the process alive, as at the start. */
  ref(): this {
    this.#referenced = true;
    this.#count();
    return this;
  }

  /** Lets the process exit although a connection is waited for. */
  unref(): this {
    this.#referenced = false;
    this.#count();
    return this;
  }

  /**
   * Stops listening; connections that were accepted stay. What waits for one rejects, `for await` ends. A Unix socket's
   * path is removed. Resolves when that is done; again is no error.
   */
  close(): Promise<void> {
    if (this.#closing !== null) return this.#closing.promise;
    this.#closing = Promise.withResolvers<void>();
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    for (const waiter of this.#waiters.splice(0)) waiter.reject(this.#reason());
    // Nobody will take these.
    for (const socket of this.#ready.splice(0)) socket.terminate();
    this.#acceptor.stop();
    return this.#closing.promise;
  }

  /**
   * Closes it, and resolves when all connections that it has accepted are closed, too. Those that are open `milliseconds`
   * later are terminated; 0: at once. Without a number they are waited for, however long they take.
   */
  async drain(milliseconds?: number): Promise<void> {
    if (milliseconds !== undefined && !(milliseconds >= 0)) {
      throw new RangeError(`milliseconds must be a number from 0 on, not ${milliseconds}`);
    }
    const closing = this.close();
    let timer: ReturnType<typeof setTimeout> | undefined;
    if (milliseconds === 0) this.#terminate();
    else if (milliseconds !== undefined && milliseconds < 2 ** 31) {
      timer = setTimeout(() => this.#terminate(), milliseconds);
    }
    await closing;
    if (this.#connections > 0) await new Promise<void>((resolve) => this.#drained.push(resolve));
    clearTimeout(timer);
  }

  #terminate(): void {
    for (let socket = this.#first; socket !== null; socket = socket.after) socket.terminate();
  }

  #failed(error: Error): void {
    if (this.#closing !== null) return;
    this.#failure = error;
    this.#accepting = false;
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
    // Nobody waits that could be told.
    if (this.#handlers !== null || this.#dealer !== null) reportError(error);
    void this.close();
  }

  #stopped(): void {
    if (this.#closing === null) {
      // It paused, and somebody has come meanwhile.
      if (this.#accepting) this.#acceptor.start();
      return;
    }
    if (this.#fd >= 0) system().close(this.#fd);
    this.#engine.closed();
    const { addr } = this;
    const closing = this.#closing;
    if (addr.transport !== "unix" || addr.path === "" || addr.path.startsWith("\0")) closing.resolve();
    else void Uring.shared.unlinkat(addr.path).then(() => closing.resolve(), () => closing.resolve());
  }

  /** The same as {@link Listener.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
