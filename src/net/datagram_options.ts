/**
 * Options that all datagram sockets have, and making such a socket.
 *
 * @module
 */
import { SO_RCVBUF, SO_SNDBUF, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOL_SOCKET } from "../ffi/abi.ts";
import { check } from "../ffi/errors.ts";
import { system } from "../ffi/system.ts";
import { encodeAddress } from "../loop/sockaddr.ts";
import { type SocketAddress, Uring } from "../mod.ts";
import { at } from "./errors.ts";
import { setSocketOption } from "./socket_option.ts";

/** Options of every datagram socket. */
export interface DatagramOptions {
  /**
   * The longest datagram that is expected, in bytes; of a longer one the end is lost. With the option `gro` it is the
   * longest run of datagrams that come as one. Default 65,535, which nothing exceeds; the memory is taken only when it is
   * used, but smaller buffers that fit the processor's caches are faster.
   */
  maxSize?: number | undefined;
  /** How many datagrams may arrive in one turn of the event loop without a detour; a power of two, default 128. */
  buffers?: number | undefined;
  /**
   * How many datagrams may wait for `receive` before the rest stays with the kernel, which drops what exceeds
   * `receiveBufferSize`; default 256.
   */
  limit?: number | undefined;
  /** Bytes that the kernel keeps for what arrives (`SO_RCVBUF`); it grants no more than `net.core.rmem_max`. */
  receiveBufferSize?: number | undefined;
  /** Bytes that the kernel keeps for what is sent (`SO_SNDBUF`). */
  sendBufferSize?: number | undefined;
  /** Closes the socket when it aborts; what waits for a datagram rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** The ring that works for the socket; default `Uring.shared`. */
  uring?: Uring | undefined;
}

/** {@link DatagramOptions}, checked. */
export interface CheckedOptions {
  readonly count: number;
  readonly size: number;
  readonly limit: number;
  readonly uring: Uring;
}

const MOST_SIZE = 1 << 24;

function checkInteger(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} must be an integer from ${least} to ${most}, not ${value}`);
  }
  return value;
}

/** Checks a port. */
export function checkPort(port: number, least = 0): number {
  return checkInteger("port", port, least, 0xffff);
}

/** Checks what all datagram sockets have. */
export function checkDatagramOptions(options: DatagramOptions): CheckedOptions {
  if (typeof options !== "object" || options === null) throw new TypeError("options must be an object");
  const { maxSize = 65535, buffers = 128, limit = 256, uring = Uring.shared, signal } = options;
  const count = checkInteger("buffers", buffers, 1, 32768);
  if ((count & (count - 1)) !== 0) throw new RangeError(`buffers must be a power of two, not ${count}`);
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new TypeError("signal must be an AbortSignal");
  }
  signal?.throwIfAborted();
  if (!(uring instanceof Uring)) throw new TypeError("uring must be a Uring");
  for (const name of ["receiveBufferSize", "sendBufferSize"] as const) {
    const value = options[name];
    if (value !== undefined) checkInteger(name, value, 1, 0x3fff_ffff);
  }
  return {
    count,
    size: checkInteger("maxSize", maxSize, 1, MOST_SIZE),
    limit: checkInteger("limit", limit, 1, 0x7fff_ffff),
    uring,
  };
}

/** Makes a datagram socket; `prepare` sets what has to be set before it is bound. */
export function openDatagram(
  domain: number,
  address: SocketAddress | null,
  options: DatagramOptions,
  prepare: (fd: number) => void,
): number {
  const { net } = system();
  const fd = check(net.socket(domain, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket");
  try {
    const { receiveBufferSize, sendBufferSize } = options;
    if (receiveBufferSize !== undefined) setSocketOption(fd, SOL_SOCKET, SO_RCVBUF, receiveBufferSize);
    if (sendBufferSize !== undefined) setSocketOption(fd, SOL_SOCKET, SO_SNDBUF, sendBufferSize);
    prepare(fd);
    if (address !== null) withAddress("bind", fd, address);
    return fd;
  } catch (error) {
    system().close(fd);
    throw error;
  }
}

/** Binds or connects: the system call itself, which waits for nothing here. */
export function withAddress(name: "bind" | "connect", fd: number, address: SocketAddress): void {
  const bytes = encodeAddress(address);
  try {
    check(system().net[name](fd, bytes, bytes.length), name);
  } catch (error) {
    throw at(error, address);
  }
}

/** What `make` makes of a descriptor, which is closed when that fails. */
export function opened<T>(fd: number, make: () => T): T {
  try {
    return make();
  } catch (error) {
    system().close(fd);
    throw error;
  }
}
