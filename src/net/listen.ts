/**
 * `listen`.
 *
 * @module
 */
import { system } from "../ffi/system.ts";
import { type RingAddress, UringError } from "../mod.ts";
import { bindAddressOf, checkEndpoint, type Endpoint } from "./address.ts";
import { listenAt } from "./bound.ts";
import { currentEngine } from "./engine.ts";
import { at } from "./errors.ts";
import { checkHandlers, type SocketHandlers, type SocketOptions } from "./handlers.ts";
import { Listener } from "./listener.ts";
import { checkSocketOptions } from "./socket_calls.ts";

/** The highest number that a CPU can have. */
const MOST_CPU = 0xffff;

/** Options of {@link listen}. */
export interface ListenOptions extends Endpoint, SocketOptions {
  /** How many connections may wait to be accepted; default 511. */
  backlog?: number | undefined;
  /** Take an address whose last connections are not all forgotten yet (`SO_REUSEADDR`); default true. */
  reuseAddr?: boolean | undefined;
  /**
   * Share the port with other sockets that ask for it, too (`SO_REUSEPORT`): those of other Workers, say. The kernel
   * spreads connections over them. Default false.
   */
  reusePort?: boolean | undefined;
  /**
   * Of the listeners that share the port, be the one for connections that come in on this CPU (`SO_INCOMING_CPU`): what a
   * connection's messages are worked on by stays on few CPUs then, which makes them cheaper. Connections that come in on a CPU
   * that none of them names are spread over all. Linux 6.2; before, all are. Default: any CPU.
   */
  cpu?: number | undefined;
  /** At an IPv6 address, take no IPv4 connections; default false: `"::"` is every address of both kinds. */
  ipv6Only?: boolean | undefined;
  /**
   * Listen at no address, but take the connections that other Workers of this process hand over: {@link Listener.inbox} says
   * where to. One such listener can be open in a thread. Linux 6.8. Default false.
   */
  inbox?: boolean | undefined;
  /**
   * Hand each connection to one of these, in turn: the inboxes of listeners in other Workers. It is done by the kernel, from
   * ring to ring (`IORING_OP_MSG_RING`); this thread has nothing more to do with it. Those that are closed are left out.
   */
  handTo?: readonly RingAddress[] | undefined;
  /**
   * Keep the connections that are accepted in the ring's own table of files (`io_uring_prep_multishot_accept_direct`), where
   * they take no descriptor of the process. Up to 16384 at a time, fewer where `RLIMIT_NOFILE` is lower; those beyond become
   * ordinary descriptors, and so do all where direct descriptors of `Uring.shared` were in use before the first such
   * listener, and before Linux 6.8. Default: true with `inbox` and `handTo`, where that saves work, otherwise false: it is no faster.
   */
  direct?: boolean | undefined;
  /** Closes the listener when it aborts; what waits for a connection rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** Options of {@link listen} in the handler style. */
export interface HandlerListenOptions<T> extends ListenOptions {
  /** What connections call. */
  socket: SocketHandlers<T>;
  /** What {@link Socket.data} is at first. */
  data?: T | undefined;
}

/**
 * Listens at a port (0: one that the kernel picks) of an IP address (default: every IPv4 address of this machine), or at
 * a Unix socket; "localhost" is 127.0.0.1. It listens when this returns.
 *
 * With `socket`, connections are accepted at once and call its handlers, which is the fastest; the process stays alive
 * meanwhile. Without, they are taken with `for await` or `accept`. While nobody waits for one, those that come wait, and
 * nothing keeps the process alive.
 *
 * @throws AddressError with `code` (`EADDRINUSE`…), `address` and `port`; `RangeError` for a port that cannot be and a path
 * that is too long; `TypeError` for a name that would have to be looked up.
 *
 * @example
 * ```ts
 * import { listen } from "uring/net";
 * for await (const conn of listen({ port: 8080 })) {
 *   conn.readable.pipeTo(conn.writable).catch(() => {});
 * }
 * ```
 *
 * @example
 * ```ts
 * import { listen } from "uring/net";
 * listen({ port: 8080, socket: { data: (socket, view) => void socket.write(view) } });
 * ```
 */
export function listen<T = undefined>(options: HandlerListenOptions<T>): Listener;
/** In the stream style. */
export function listen(options: ListenOptions): Listener;
export function listen(options: ListenOptions | HandlerListenOptions<unknown>): Listener {
  checkSocketOptions(options);
  const { backlog = 511, reuseAddr = true, reusePort = false, ipv6Only = false, signal } = options;
  const address = options.inbox === true ? null : bindAddressOf(checkEndpoint(options, "0.0.0.0"));
  if (!Number.isInteger(backlog) || backlog < 0 || backlog > 0x7fff_ffff) {
    throw new RangeError(`backlog must be an integer from 0 to 2^31 - 1, not ${backlog}`);
  }
  const { cpu } = options;
  if (cpu !== undefined && !(Number.isInteger(cpu) && cpu >= 0 && cpu <= MOST_CPU)) {
    throw new RangeError(`cpu must be an integer from 0 to ${MOST_CPU}, not ${cpu}`);
  }
  const handlers = "socket" in options ? checkHandlers(options.socket) : null;
  const data = "socket" in options ? options.data : undefined;
  signal?.throwIfAborted();
  const engine = currentEngine();
  if (address === null) {
    if (options.port !== undefined || options.path !== undefined || options.handTo !== undefined) {
      throw new TypeError("A listener with an inbox has no address, and hands nothing on");
    }
    return new Listener(engine, -1, options, handlers, data);
  }
  if (options.handTo !== undefined && handlers !== null) {
    throw new TypeError("Give socket or handTo, not both");
  }
  let fd: number;
  try {
    fd = listenAt(address, { backlog, reuseAddr, reusePort, cpu, ipv6Only, connections: options });
  } catch (error) {
    throw error instanceof UringError ? at(error, address) : error;
  }
  try {
    return new Listener(engine, fd, options, handlers, data);
  } catch (error) {
    system().close(fd);
    throw error;
  }
}
