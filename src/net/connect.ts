/**
 * `connect`.
 *
 * @module
 */
import { IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY } from "../ffi/abi.ts";
import { type SocketAddress, Uring, UringError } from "../mod.ts";
import { addressesOf, domainOf, type Endpoint } from "./address.ts";
import { Conn } from "./conn.ts";
import { at } from "./errors.ts";
import { setSocketOption } from "./socket_option.ts";

/** Options of {@link connect}. */
export interface ConnectOptions extends Endpoint {
  /** Send small pieces at once (`TCP_NODELAY`); default true. */
  noDelay?: boolean | undefined;
  /** Gives the attempt up when it aborts; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds after which the attempt fails with `ETIMEDOUT`. */
  timeout?: number | undefined;
}

/**
 * Connects to a port of an IP address (default: this machine) or to a Unix socket; Linux 5.19.
 *
 * @throws AddressError (rejects) with `code` (`ECONNREFUSED`…), `syscall` `"connect"`, `address` and `port`; the signal's
 * reason; `TypeError` for a name that would have to be looked up.
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
export async function connect(options: ConnectOptions): Promise<Conn> {
  const addresses = addressesOf(options, "localhost");
  const { signal } = options;
  let refused: unknown;
  for (const address of addresses) {
    signal?.throwIfAborted();
    try {
      return await connectTo(address, options);
    } catch (error) {
      // The other address of "localhost" is tried only where nobody listens at this one; what is told is the first.
      if (!(error instanceof UringError && error.code === "ECONNREFUSED")) throw refused ?? error;
      refused ??= error;
    }
  }
  throw refused;
}

async function connectTo(address: SocketAddress, options: ConnectOptions): Promise<Conn> {
  const uring = Uring.shared;
  const fd = await uring.socket(domainOf(address), SOCK_STREAM);
  try {
    const { signal, timeout, noDelay = true } = options;
    if (noDelay && address.family !== "unix") setSocketOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    await uring.connect(fd, address, {
      ...(signal === undefined ? {} : { signal }),
      ...(timeout === undefined ? {} : { timeout }),
    });
    return new Conn(uring, fd, uring.localAddress(fd), address);
  } catch (error) {
    await Uring.shared.close(fd);
    throw at(error, address);
  }
}
