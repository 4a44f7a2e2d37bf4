/**
 * System calls on connections.
 *
 * @module
 */
import {
  IPPROTO_TCP,
  SHUT_WR,
  SO_KEEPALIVE,
  SO_LINGER,
  SOL_SOCKET,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_NODELAY,
} from "../ffi/abi.ts";
import { check } from "../ffi/errors.ts";
import { system } from "../ffi/system.ts";
import { sockaddr_storage } from "../ffi/structs.ts";
import { decodeAddress } from "../loop/sockaddr.ts";
import type { SocketAddress } from "../mod.ts";
import type { SocketOptions } from "./handlers.ts";
import { setSocketOption } from "./socket_option.ts";
import type { AnySocket } from "./socket.ts";

/** The address of what has none, or is there no more. */
export const NOWHERE: SocketAddress = { family: "unix", path: "" };

/** Sets what a TCP connection, or the listener that its own inherit from, was asked for. */
export function setTcpOptions(fd: number, { noDelay = true, keepAlive = false }: SocketOptions): void {
  if (noDelay) setSocketOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  if (keepAlive === false) return;
  setSocketOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  if (keepAlive === true) return;
  setSocketOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, keepAlive);
  setSocketOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, Math.max(1, Math.min(keepAlive, 60)));
}

/** Checks the options that all connections have. */
export function checkSocketOptions(options: SocketOptions): void {
  const { keepAlive, highWaterMark, idleTimeout, zeroCopy } = options;
  if (typeof keepAlive === "number" && (!Number.isInteger(keepAlive) || keepAlive < 1 || keepAlive > 32767)) {
    throw new RangeError(`keepAlive must be whole seconds from 1 to 32767, or a boolean, not ${keepAlive}`);
  }
  if (highWaterMark !== undefined && (!Number.isSafeInteger(highWaterMark) || highWaterMark < 1)) {
    throw new RangeError(`highWaterMark must be an integer from 1 on, not ${highWaterMark}`);
  }
  if (zeroCopy !== undefined && !(typeof zeroCopy === "number" && zeroCopy >= 0)) {
    throw new RangeError(`zeroCopy must be a number of bytes, not ${zeroCopy}`);
  }
  if (idleTimeout !== undefined && (typeof idleTimeout !== "number" || !(idleTimeout >= 0))) {
    throw new RangeError(`idleTimeout must be milliseconds from 0 on, not ${idleTimeout}`);
  }
}

/** Has a connection be what its options say. */
export function setUp(socket: AnySocket, { idleTimeout = 0 }: SocketOptions): void {
  if (idleTimeout > 0) socket.timeout(idleTimeout / 1000);
}

/** The address of a socket's own end. */
export function localAddressOf(fd: number, closed: boolean): SocketAddress {
  return closed ? NOWHERE : addressOfEnd("getsockname", fd);
}

/** The address of a connection's other end, if it is still there. */
export function remoteAddressOf(fd: number): SocketAddress {
  return addressOfEnd("getpeername", fd);
}

const room = new Uint8Array(new ArrayBuffer(sockaddr_storage.size));
const roomLength = new Int32Array(new ArrayBuffer(4));

/** The address of one end of a connection, if it is still there. */
export function addressOfEnd(name: "getsockname" | "getpeername", fd: number): SocketAddress {
  roomLength[0] = room.length;
  if (system().rare[name](fd, room, roomLength) < 0) return NOWHERE;
  return decodeAddress(room, roomLength[0]!);
}

/** Says that nothing more will be written: `shutdown(2)`, called directly, as io_uring would hand it to a worker thread. */
export function shutdownWrite(fd: number): number {
  return system().net.shutdown(fd, SHUT_WR);
}

/** Has closing reset a TCP connection. */
export function resetOnClose(fd: number): void {
  const linger = new Uint8Array(Int32Array.of(1, 0).buffer);
  // A Unix socket has no such thing, and a connection that is gone needs it no more.
  system().rare.setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, linger.length);
}

/** Closes a connection's descriptor; what is in flight on it keeps it open until it ends. */
export function closeSocket(socket: AnySocket, closed: () => void): void {
  const { driver } = socket.engine;
  if (socket.side !== null) {
    socket.side.close(closed);
    return;
  }
  if (driver.closed) {
    check(system().close(socket.fd), "close");
    queueMicrotask(closed);
    return;
  }
  const op = driver.begin("close");
  op.sqe!.prepClose(socket.fd);
  driver.launch(op, { complete: closed });
}
