/**
 * `listen`.
 *
 * @module
 */
import { type SocketAddress, Uring, UringError } from "../mod.ts";
import { addressesOf, type Endpoint } from "./address.ts";
import { listenAt } from "./bound.ts";
import { Conn } from "./conn.ts";
import { at, closedError } from "./errors.ts";
import { Socket } from "./socket.ts";

/** Options of {@link listen}. */
export interface ListenOptions extends Endpoint {
  /** How many connections may wait to be accepted; default 511. */
  backlog?: number | undefined;
  /** Take an address whose last connections are not all forgotten yet (`SO_REUSEADDR`); default true. */
  reuseAddr?: boolean | undefined;
  /** Share the port with other sockets that ask for it, too (`SO_REUSEPORT`); default false. */
  reusePort?: boolean | undefined;
  /** Have connections send small pieces at once (`TCP_NODELAY`); default true. */
  noDelay?: boolean | undefined;
  /** Closes the listener when it aborts; what waits for a connection rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** The ring of a listener that keeps no process alive: accepts are all it does. */
const OWN_ENTRIES = 4;

/** A socket that listens: what {@link listen} gives. */
export class Listener implements AsyncIterableIterator<Conn, undefined, undefined>, AsyncDisposable {
  /** Where it listens, with the port that the kernel picked for 0. */
  readonly addr: SocketAddress;
  readonly #socket: Socket;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort: () => void = () => void this.close();
  /** The ring for accepts while they keep no process alive. */
  #own: Uring | null = null;
  /** Under way from one ring to the other. */
  #moving: Promise<void> | null = null;
  #moves = 0;

  /** @internal */
  constructor(fd: number, addr: SocketAddress, signal: AbortSignal | undefined) {
    this.addr = addr;
    this.#socket = new Socket(fd);
    this.#signal = signal;
    signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** Whether it is closed or closing. */
  get closed(): boolean {
    return this.#socket.closed;
  }

  /**
   * The next connection. Many may be asked for at once.
   *
   * @throws UringError (rejects) with `ECANCELED` when the listener is closed; the reason when its signal aborts.
   */
  async accept(): Promise<Conn> {
    for (;;) {
      while (this.#moving !== null) await this.#moving;
      if (this.#socket.closed) throw this.#reason();
      const moves = this.#moves;
      const uring = this.#own ?? Uring.shared;
      try {
        return await this.#socket.use("accept", uring, (fd) => this.#accept(uring, fd));
      } catch (error) {
        if (this.#socket.closed) throw this.#reason();
        const code = error instanceof UringError ? error.code : "";
        // A client that has gone already is no failure of the listener's.
        if (code !== "ECONNABORTED" && !(code === "ECANCELED" && moves !== this.#moves)) throw error;
      }
    }
  }

  async #accept(uring: Uring, listener: number): Promise<Conn> {
    const { fd, address } = await uring.acceptFrom(listener);
    const shared = Uring.shared;
    if (this.#socket.closed) {
      await shared.close(fd);
      throw closedError("accept");
    }
    try {
      return new Conn(shared, fd, shared.localAddress(fd), address);
    } catch (error) {
      await shared.close(fd);
      throw error;
    }
  }

  #reason(): unknown {
    return this.#signal?.aborted === true ? this.#signal.reason : closedError("accept");
  }

  /** The next connection; the end when the listener is closed. Rejects when its signal aborts. */
  async next(): Promise<IteratorResult<Conn, undefined>> {
    try {
      return { done: false, value: await this.accept() };
    } catch (error) {
      if (this.closed && this.#signal?.aborted !== true) return { done: true, value: undefined };
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
    this.#move(null);
    return this;
  }

  /** Lets the process exit although a connection is waited for. */
  unref(): this {
    if (this.#own === null && !this.closed) this.#move(new Uring({ entries: OWN_ENTRIES }).unref());
    return this;
  }

  /** Moves accepts to another ring: only a whole ring keeps a process alive or does not. */
  #move(to: Uring | null): void {
    const from = this.#own;
    if (from === to || this.closed) return;
    this.#own = to;
    this.#moves++;
    const moving: Promise<void> = this.#leave(from, this.#moving).then(() => {
      if (this.#moving === moving) this.#moving = null;
    });
    this.#moving = moving;
  }

  async #leave(ring: Uring | null, before: Promise<void> | null): Promise<void> {
    await before;
    await this.#socket.interrupt();
    await ring?.disposeAsync();
  }

  /**
   * Stops listening; connections that were accepted stay. What waits for one rejects, `for await` ends. A Unix socket's
   * path is removed. Again is no error.
   */
  close(): Promise<void> {
    return this.#socket.close(async () => {
      this.#signal?.removeEventListener("abort", this.#onAbort);
      await this.#moving;
      await this.#socket.interrupt();
      await this.#own?.disposeAsync();
      const { addr } = this;
      if (addr.family === "unix" && !addr.path.startsWith("\0")) {
        await Uring.shared.unlinkat(addr.path).catch(() => {});
      }
    });
  }

  /** The same as {@link Listener.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Listens at a port (0: one that the kernel picks) of an IP address (default: every IPv4 address of this machine), or at
 * a Unix socket; "localhost" is 127.0.0.1. It listens when this returns; Linux 6.11. While nobody waits for a connection, those that come wait in
 * the kernel, and nothing keeps the process alive.
 *
 * @throws AddressError with `code` (`EADDRINUSE`…), `address` and `port`; `TypeError` for a name that would have to be
 * looked up.
 *
 * @example
 * ```ts
 * import { listen } from "uring/net";
 * for await (const conn of listen({ port: 8080 })) {
 *   conn.readable.pipeTo(conn.writable).catch(() => {});
 * }
 * ```
 */
export function listen(options: ListenOptions): Listener {
  const address = addressesOf(options, "0.0.0.0")[0]!;
  const { backlog = 511, reuseAddr = true, reusePort = false, noDelay = true, signal } = options;
  if (!Number.isInteger(backlog) || backlog < 0 || backlog > 0x7fff_ffff) {
    throw new RangeError(`backlog must be an integer from 0 to 2^31 - 1, not ${backlog}`);
  }
  signal?.throwIfAborted();
  let fd: number;
  try {
    fd = listenAt(address, { backlog, reuseAddr, reusePort, noDelay });
  } catch (error) {
    throw at(error, address);
  }
  return new Listener(fd, Uring.shared.localAddress(fd), signal);
}
