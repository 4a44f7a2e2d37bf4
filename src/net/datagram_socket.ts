/**
 * What UDP sockets and Unix datagram sockets have in common.
 *
 * @module
 */
import { MSG_DONTWAIT } from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import type { Driver } from "../loop/driver.ts";
import { decodeAddress } from "../loop/sockaddr.ts";
import { type SendmsgOptions, type Uring, UringError } from "../mod.ts";
import {
  addressBytes,
  AddressCache,
  type DatagramAddress,
  type DatagramTarget,
  type SocketBytes,
  socketBytes,
} from "./datagram_address.ts";
import { Arrival } from "./datagram_message.ts";
import { DatagramReceiver, type DatagramSink } from "./datagram_receiver.ts";
import { bytesOf, checkSegment, DatagramSender, type SenderSink } from "./datagram_sender.ts";
import type {
  Datagram,
  DatagramHandlers,
  DatagramSpec,
  OutgoingDatagram,
  ReceivedDatagram,
  ReceiveOptions,
} from "./datagram_types.ts";
import { type Engine, engineOf } from "./engine.ts";
import { at, closedError } from "./errors.ts";

interface Waiter {
  resolve(datagram: Datagram): void;
  reject(reason: unknown): void;
}

// Of all sockets of this thread.
let addresses: AddressCache | null = null;

/** How long until a message that found the socket full is tried again, at most: milliseconds. */
const MOST_DELAY = 32;

/** How long closing waits for what is being sent: milliseconds. */
const PATIENCE = 100;

/**
 * A socket for datagrams. Receive in one of two ways: with handlers, or with `receive` and `for await`.
 *
 * @template A Its addresses. @template T Its destinations. @template S Itself, as its handlers see it.
 */
export abstract class DatagramSocket<A extends DatagramAddress, T extends DatagramTarget, S>
  implements AsyncIterable<Datagram<A>>, AsyncDisposable, DatagramSink, SenderSink {
  /** @internal */
  protected readonly uring: Uring;
  /** The descriptor; −1 when it is closed. @internal */
  protected fd: number;
  readonly #driver: Driver;
  readonly #engine: Engine;
  readonly #spec: DatagramSpec<S>;
  readonly #handlers: DatagramHandlers<S, DatagramAddress>;
  readonly #receiver: DatagramReceiver;
  readonly #sender: DatagramSender;
  readonly #arrival: Arrival = new Arrival();
  // What has arrived and nobody has taken, who waits for it, and who waits for room to send.
  #queue: Datagram[] = [];
  readonly #waiters = new Set<Waiter>();
  #senders: (() => void)[] = [];
  #failure: { reason: unknown } | null = null;
  #closing: Promise<void> | null = null;
  #stopped: (() => void) | null = null;
  #referenced = true;
  readonly #onAbort: () => void = () => void this.close();

  /** @internal */
  constructor(spec: DatagramSpec<S>) {
    this.#spec = spec;
    this.uring = spec.uring;
    this.fd = spec.fd;
    this.#driver = spec.uring.engine;
    this.#engine = engineOf(spec.uring);
    this.#handlers = spec.handlers ?? {};
    this.#receiver = new DatagramReceiver(this.#driver, spec.fd, spec.room, this);
    this.#sender = new DatagramSender(this.#engine, spec.fd, this, spec.runs);
    spec.signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (spec.handlers !== undefined) this.#receiver.start();
  }

  /** Where it is bound, with the port or the name that the kernel picked. */
  abstract get addr(): A;

  /** Whether it is closed or closing. */
  get closed(): boolean {
    return this.#closing !== null;
  }

  /** A datagram is in a buffer. @internal */
  arrived(id: number, length: number): void {
    const { buffers } = this.#receiver;
    const flags = this.#receiver.messageFlags(id);
    const arrival = this.#arrival;
    arrival.set(flags, this.#spec.room.controlRoom === 0 ? null : this.#receiver.control(id));
    const at = id * buffers.stride + buffers.nameAt;
    const address = (addresses ??= new AddressCache()).get(
      buffers.bytes,
      buffers.words,
      at,
      this.#receiver.nameLength(id),
    );
    const view = buffers.view(id, length);
    this.#engine.arrived();
    if (this.#spec.handlers === undefined) this.#enqueue(view, address);
    else this.#hand(view, address);
  }

  /** Calls the handler, without making anything for it. */
  #hand(view: Uint8Array, address: DatagramAddress): void {
    const arrival = this.#arrival;
    try {
      const result = this.#handlers.data?.(this.#self, view, address, arrival);
      if (typeof result === "object" && result !== null) this.#watch("data", result);
    } catch (error) {
      this.#thrown("data", error);
    }
    const { descriptors } = arrival;
    for (let i = 0; i < descriptors.length; i++) descriptors[i]!.close();
  }

  get #self(): S {
    return this as unknown as S;
  }

  #enqueue(view: Uint8Array, address: DatagramAddress): void {
    const datagram = this.#arrival.datagram(view.slice(), address);
    if (this.#closing !== null) {
      discard(datagram);
      return;
    }
    const [waiter] = this.#waiters;
    if (waiter !== undefined) {
      this.#leave(waiter);
      waiter.resolve(datagram);
      return;
    }
    this.#queue.push(datagram);
    // Let the kernel hold the rest, and drop what is too much.
    if (this.#queue.length >= this.#spec.limit) this.#receiver.stop();
  }

  /** Calls a handler; what it throws goes to `error`. */
  #call(
    name: keyof DatagramHandlers<S, A>,
    run: (handlers: DatagramHandlers<S, DatagramAddress>) => unknown,
  ): void {
    try {
      const result = run(this.#handlers);
      if (typeof result === "object" && result !== null) this.#watch(name, result);
    } catch (error) {
      this.#thrown(name, error);
    }
  }

  /** What an asynchronous handler rejects with is like what another one throws. */
  #watch(name: string, result: object): void {
    if (!("then" in result)) return;
    (result as Promise<unknown>).then(undefined, (error) => this.#thrown(name, error));
  }

  #thrown(name: string, error: unknown): void {
    const { error: handler } = this.#handlers;
    if (handler === undefined || name === "error") {
      queueMicrotask(() => {
        throw error;
      });
      return;
    }
    const reason = error instanceof Error ? error : new Error(String(error), { cause: error });
    this.#call("error", () => handler(this.#self, reason));
  }

  /** Receiving has failed. @internal */
  failed(error: UringError): void {
    if (this.#spec.handlers !== undefined) {
      if (this.#handlers.error !== undefined) this.#call("error", (h) => h.error!(this.#self, error));
      return;
    }
    const [waiter] = this.#waiters;
    if (waiter === undefined) this.#failure = { reason: error };
    else {
      this.#leave(waiter);
      waiter.reject(error);
    }
  }

  /** Receiving has stopped. @internal */
  idle(): void {
    this.#stopped?.();
    if (this.#closing !== null) return;
    if (this.#driver.closed) void this.close();
    else if (this.#spec.handlers === undefined && this.#waiters.size > 0) this.#receiver.start();
  }

  /** A datagram of `trySend`'s was not sent. @internal */
  sendFailed(error: UringError, address: Uint8Array): void {
    if (this.#handlers.error === undefined) return;
    const reason = address.length === 0 ? error : at(error, decodeAddress(address, address.length));
    this.#call("error", (handlers) => handlers.error!(this.#self, reason as Error));
  }

  /** There is room to send. @internal */
  drained(): void {
    for (const go of this.#senders.splice(0)) go();
    if (this.#closing === null && this.#handlers.drain !== undefined) {
      this.#call("drain", (handlers) => handlers.drain!(this.#self));
    }
  }

  /**
   * Receives into `buffer`, cutting off what does not fit, and tells how long the datagram is and where it comes from.
   * `buffer` is written to when the promise resolves, not before.
   *
   * @throws UringError (rejects): `ECANCELED` when the socket is closed; what the network has reported, after which one can
   * go on receiving. The signal's reason. `TypeError` on a socket with handlers.
   */
  receive(buffer: Uint8Array, options?: ReceiveOptions): Promise<ReceivedDatagram<A>>;
  /** Receives the next datagram. */
  receive(options?: ReceiveOptions): Promise<Datagram<A>>;
  async receive(
    buffer?: Uint8Array | ReceiveOptions,
    options?: ReceiveOptions,
  ): Promise<Datagram<A> | ReceivedDatagram<A>> {
    if (!(buffer instanceof Uint8Array)) return await this.#next(buffer) as Datagram<A>;
    const { data, ...rest } = await this.#next(options) as Datagram<A>;
    const length = Math.min(data.length, buffer.length);
    buffer.set(length < data.length ? data.subarray(0, length) : data);
    return { ...rest, length, truncated: rest.truncated || length < data.length };
  }

  #next(options: ReceiveOptions = {}): Promise<Datagram> {
    if (this.#spec.handlers !== undefined) {
      return Promise.reject(new TypeError("What arrives on a socket with handlers goes to them"));
    }
    const { signal } = options;
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    if (this.#closing !== null) return Promise.reject(this.#closedReason());
    const datagram = this.#queue.shift();
    if (datagram !== undefined) return Promise.resolve(datagram);
    const failure = this.#failure;
    this.#failure = null;
    if (failure !== null) return Promise.reject(failure.reason);
    return this.#wait(signal);
  }

  #wait(signal: AbortSignal | undefined): Promise<Datagram> {
    const { promise, resolve, reject } = Promise.withResolvers<Datagram>();
    const waiter: Waiter = { resolve, reject };
    if (signal !== undefined) {
      const onAbort = (): void => {
        this.#leave(waiter);
        reject(signal.reason);
      };
      const ended = (): void => signal.removeEventListener("abort", onAbort);
      signal.addEventListener("abort", onAbort, { once: true });
      waiter.resolve = (datagram) => {
        ended();
        resolve(datagram);
      };
      waiter.reject = (reason) => {
        ended();
        reject(reason);
      };
    }
    this.#waiters.add(waiter);
    this.#receiver.referenced = this.#referenced;
    this.#receiver.start();
    return promise;
  }

  /** Somebody waits no more. What nobody waits for keeps no process alive. */
  #leave(waiter: Waiter): void {
    this.#waiters.delete(waiter);
    if (this.#waiters.size === 0) this.#receiver.referenced = false;
  }

  /** Has waiting for datagrams keep the process alive, as at the start. */
  ref(): this {
    return this.#refer(true);
  }

  /** Lets the process exit although datagrams are waited for. */
  unref(): this {
    return this.#refer(false);
  }

  #refer(referenced: boolean): this {
    this.#referenced = referenced;
    const waited = this.#spec.handlers !== undefined || this.#waiters.size > 0;
    this.#receiver.referenced = referenced && waited && this.#closing === null;
    return this;
  }

  /** The datagrams as they come, until the socket is closed. Leaving the loop early loses nothing that has arrived. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Datagram<A>, undefined, undefined> {
    // By hand: a generator would cost two promises more for each datagram.
    const ended = { done: true, value: undefined } as const;
    const value = (datagram: Datagram): IteratorResult<Datagram<A>, undefined> => {
      return { done: false, value: datagram as Datagram<A> };
    };
    const failed = (error: unknown): IteratorResult<Datagram<A>, undefined> => {
      if (this.#closing === null || this.#spec.signal?.aborted === true) throw error;
      return ended;
    };
    return {
      next: () => this.#next().then(value, failed),
      return: () => Promise.resolve(ended),
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /**
   * Sends a datagram without a promise: copies `data`, which may be used again at once, and has it sent with everything
   * else of this turn. False, and nothing is sent, when some hundred datagrams wait for the kernel already:
   * {@link DatagramHandlers.drain} tells when there is room. Failures go to {@link DatagramHandlers.error}.
   *
   * @param data A `Uint8Array`, or text, which is sent as UTF-8.
   * @param address Where to: an IP address; not on a connected socket. Names are not looked up here.
   * @param segmentSize Cut the data into datagrams of so many bytes (`UDP_SEGMENT`).
   * @throws TypeError, RangeError for wrong arguments, UringError `ECANCELED` on a closed socket.
   */
  trySend(data: Uint8Array | string, address?: T, segmentSize = 0): boolean {
    const bytes = bytesOf(data);
    checkSegment(segmentSize);
    this.assertOpen();
    return this.#sender.send(bytes, this.#targetBytes(address), segmentSize, null);
  }

  #targetBytes(address: T | undefined): SocketBytes | null {
    if (address === undefined) return null;
    const bytes = addressBytes(address);
    if (bytes !== undefined) return bytes;
    const { hostname } = address as { hostname: string };
    throw new TypeError(`"${hostname}" is no IP address; send() looks names up`);
  }

  /**
   * Sends a datagram: copies `data`, and resolves with its length when the kernel has taken it. Waits while too many are
   * on their way.
   *
   * @param data A `Uint8Array`, or text, which is sent as UTF-8.
   * @param address Where to; not on a connected socket. A name is looked up.
   * @throws UringError (rejects): `EMSGSIZE`, `ENETUNREACH`, `EDESTADDRREQ` without an address…, with the address;
   * `ECANCELED` when the socket is closed; `ENOTFOUND` for a name that is none.
   */
  send(data: Uint8Array | string, address?: T, options?: { segmentSize?: number }): Promise<number> {
    try {
      const bytes = bytesOf(data);
      const segmentSize = checkSegment(options?.segmentSize ?? 0);
      this.assertOpen();
      const name = address === undefined ? null : addressBytes(address);
      if (name !== undefined) return this.#submit(bytes, name, segmentSize);
      return this.lookUp(address!).then((found) => this.#submit(bytes, socketBytes(found), segmentSize));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The bytes of a destination that has to be looked up. @internal */
  protected abstract lookUp(address: T): Promise<Uint8Array>;

  #submit(bytes: Uint8Array, name: SocketBytes | null, segmentSize: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const sent = (error: UringError | null, length: number): void => {
        if (error === null) resolve(length);
        else reject(name === null ? error : at(error, decodeAddress(name.bytes, name.length)));
      };
      const go = (): void => {
        if (this.#closing !== null || this.#driver.closed) reject(this.#closedReason());
        else if (!this.#sender.send(bytes, name, segmentSize, sent)) this.#senders.push(go);
      };
      go();
    });
  }

  /**
   * Sends many datagrams, in as few system calls as can be, and resolves with the number of bytes when the kernel has
   * taken all of them. The destinations are IP addresses.
   *
   * @throws The first one's error (rejects) when the others have been sent or have failed.
   */
  async sendMany(datagrams: Iterable<OutgoingDatagram<T>>): Promise<number> {
    const batch = [...datagrams].map(({ data, address, segmentSize = 0 }) => ({
      bytes: bytesOf(data),
      name: this.#targetBytes(address),
      segmentSize: checkSegment(segmentSize),
    }));
    this.assertOpen();
    let sum = 0;
    let failure: { error: UringError; name: SocketBytes | null } | null = null;
    let left = batch.length;
    const done = Promise.withResolvers<void>();
    const end = (error: UringError | null, name: SocketBytes | null, length: number): void => {
      if (error === null) sum += length;
      else failure ??= { error, name };
      if (--left === 0) done.resolve();
    };
    for (const { bytes, name, segmentSize } of batch) {
      const sent = (error: UringError | null, length: number): void => end(error, name, length);
      while (
        this.#closing === null && !this.#driver.closed && !this.#sender.send(bytes, name, segmentSize, sent)
      ) {
        await new Promise<void>((resolve) => this.#senders.push(resolve));
      }
      if (this.#closing !== null || this.#driver.closed) end(closedError("send"), null, 0);
    }
    if (batch.length > 0) await done.promise;
    if (failure === null) return sum;
    const { error, name } = failure as { error: UringError; name: SocketBytes | null };
    throw name === null ? error : at(error, decodeAddress(name.bytes, name.length));
  }

  #closedReason(): unknown {
    const { signal } = this.#spec;
    return signal?.aborted === true ? signal.reason : closedError("recvmsg");
  }

  /**
   * Sends a message that has more to it than data and a destination, out of memory of the caller's. A full socket is tried
   * again from here: see `datagram_sender.ts`. @internal
   */
  protected async sendMessage(bytes: Uint8Array, options: SendmsgOptions): Promise<number> {
    for (let delay = 1;; delay = Math.min(2 * delay, MOST_DELAY)) {
      this.assertOpen();
      try {
        return await this.uring.sendmsg(this.fd, bytes, { ...options, flags: MSG_DONTWAIT });
      } catch (error) {
        if (!(error instanceof UringError && error.code === "EAGAIN")) {
          throw options.address === undefined ? error : at(error, options.address);
        }
      }
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }

  /** Fails when it is closed. @internal */
  protected assertOpen(): void {
    if (this.#closing !== null) throw this.#closedReason();
    this.#driver.assertOpen();
  }

  /**
   * Closes it. What was sent still goes out; what waits for a datagram rejects with `ECANCELED`, `for await` ends. Again is
   * no error.
   */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    const { signal, closed } = this.#spec;
    signal?.removeEventListener("abort", this.#onAbort);
    // From the next turn of microtasks on, when `#closing` is set.
    await null;
    const reason = this.#closedReason();
    for (const { reject } of this.#waiters) reject(reason);
    this.#waiters.clear();
    for (const go of this.#senders.splice(0)) go();
    for (const datagram of this.#queue.splice(0)) discard(datagram);
    this.#receiver.referenced = true;
    if (this.#receiver.active) {
      const stopped = new Promise<void>((resolve) => this.#stopped = resolve);
      this.#receiver.stop();
      await stopped;
    }
    await this.#sender.finish(PATIENCE);
    this.#receiver.release();
    this.#sender.release();
    const { fd } = this;
    this.fd = -1;
    system().close(fd);
    await closed();
    if (this.#handlers.close !== undefined) this.#call("close", (h) => h.close!(this.#self));
  }

  /** The same as {@link DatagramSocket.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function discard(datagram: Datagram): void {
  for (const descriptor of datagram.descriptors) descriptor.close();
}
