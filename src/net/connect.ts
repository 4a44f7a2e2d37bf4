/**
 * `connect`.
 *
 * @module
 */
import { SOCK_STREAM } from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import { type SocketAddress, Uring } from "../mod.ts";
import { checkEndpoint, domainOf, type Endpoint, withPort } from "./address.ts";
import { Conn, CONN_HANDLERS } from "./conn.ts";
import { currentEngine } from "./engine.ts";
import { at } from "./errors.ts";
import { checkHandlers, type SocketHandlers, type SocketOptions } from "./handlers.ts";
import { dial } from "./dial.ts";
import { resolve, type ResolvedAddress } from "./resolve.ts";
import { Socket } from "./socket.ts";
import { checkSocketOptions, setTcpOptions } from "./socket_calls.ts";

/** Options of {@link connect}. */
export interface ConnectOptions extends Endpoint, SocketOptions {
  /** 4 or 6 for addresses of one family; default 0, both. */
  family?: 0 | 4 | 6 | undefined;
  /** Gives up when it aborts; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds after which it fails with `ETIMEDOUT`. */
  timeout?: number | undefined;
}

/** Options of {@link connect} in the handler style. */
export interface HandlerConnectOptions<T> extends ConnectOptions {
  /** What the connection calls. */
  socket: SocketHandlers<T>;
  /** What {@link Socket.data} is at first. */
  data?: T | undefined;
}

/**
 * Connects to a port of a host (default: this machine) or to a Unix socket. Of several addresses of a host, the one wins
 * that answers first ("happy eyeballs", RFC 8305). With `socket` the connection calls its
 * handlers, `open` first, and the promise gives a {@link Socket}.
 *
 * @throws AddressError (rejects) with `code` (`ECONNREFUSED`…), `syscall` `"connect"`, `address` and `port`; NameError
 * (`ENOTFOUND`) for a name that there is not; DialError where a host has several addresses and none could be connected to;
 * the signal's reason.
 *
 * @example
 * ```ts
 * import { connect } from "uring/net";
 * await using conn = await connect({ hostname: "127.0.0.1", port: 8080, timeout: 1000 });
 * await conn.write("ping\n");
 * const buffer = new Uint8Array(1024);
 * const length = await conn.read(buffer);
 * ```
 */
export function connect<T = undefined>(options: HandlerConnectOptions<T>): Promise<Socket<T>>;
/** In the stream style. */
export function connect(options: ConnectOptions): Promise<Conn>;
export async function connect(
  options: ConnectOptions | HandlerConnectOptions<unknown>,
): Promise<Conn | Socket<unknown>> {
  const target = checkEndpoint(options, "localhost");
  checkSocketOptions(options);
  const handlers = "socket" in options ? checkHandlers(options.socket) : null;
  const { family = 0, signal, timeout } = options;
  signal?.throwIfAborted();
  const began = performance.now();
  if ("path" in target) return wrap(await connectTo({ family: "unix", path: target.path }, options));
  const { port } = target;
  const addresses = await resolve(target.hostname, { family, signal });
  const attempt = (ip: ResolvedAddress, signal: AbortSignal): Promise<Connected> =>
    connectTo(withPort(ip, port), { ...options, signal, timeout: left() });
  const discard = ({ fd }: Connected): void => void system().close(fd);
  return wrap(await dial(addresses, attempt, { signal, discard }));

  function left(): number | undefined {
    return timeout === undefined ? undefined : Math.max(0, timeout - (performance.now() - began));
  }

  function wrap({ fd, address }: Connected): Conn | Socket<unknown> {
    const engine = currentEngine();
    if (handlers === null) {
      const make = (conn: Conn): Socket<Conn> =>
        new Socket(engine, fd, CONN_HANDLERS, options, conn, null, address, true);
      return new Conn(make, options.highWaterMark);
    }
    const { data } = options as HandlerConnectOptions<unknown>;
    const socket = new Socket(engine, fd, handlers, options, data, null, address);
    socket.start();
    return socket;
  }
}

/** A descriptor and where it leads. */
interface Connected {
  readonly fd: number;
  readonly address: SocketAddress;
}

async function connectTo(address: SocketAddress, options: ConnectOptions): Promise<Connected> {
  const uring = Uring.shared;
  const fd = await uring.socket(domainOf(address), SOCK_STREAM);
  try {
    const { signal, timeout } = options;
    if (address.family !== "unix") setTcpOptions(fd, options);
    await uring.connect(fd, address, {
      ...(signal === undefined ? {} : { signal }),
      ...(timeout === undefined ? {} : { timeout }),
    });
    return { fd, address };
  } catch (error) {
    await Uring.shared.close(fd);
    throw at(error, address);
  }
}
