/**
 * Sockets made without the library.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  AF_INET,
  AF_UNIX,
  SO_ERROR,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
} from "../../src/ffi/abi.ts";
import { check } from "../../src/ffi/errors.ts";
import { sockaddr_in } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import { Fd } from "./descriptors.ts";
import { libc } from "./libc.ts";
import { type Block, block } from "./rings.ts";

/** The size of {@link loopback}'s address. */
export const ADDRESS_SIZE: number = sockaddr_in.size;

/** `127.0.0.1:port` as a `struct sockaddr_in`. */
export function loopback(port = 0): Block {
  const made = block(ADDRESS_SIZE);
  made.view.setUint16(sockaddr_in.sin_family, AF_INET, true);
  made.view.setUint16(sockaddr_in.sin_port, port, false);
  made.bytes.set([127, 0, 0, 1], sockaddr_in.sin_addr);
  return made;
}

/** The port that a socket is bound to. */
export function portOf(fd: number): number {
  const address = new Uint8Array(new ArrayBuffer(ADDRESS_SIZE));
  check(system().rare.getsockname(fd, address, Int32Array.of(ADDRESS_SIZE)), "getsockname");
  return new DataView(address.buffer).getUint16(sockaddr_in.sin_port, false);
}

/** The port of a socket's other end. */
export function peerPortOf(fd: number): number {
  const address = new Uint8Array(new ArrayBuffer(ADDRESS_SIZE));
  check(system().rare.getpeername(fd, address, Int32Array.of(ADDRESS_SIZE)), "getpeername");
  return new DataView(address.buffer).getUint16(sockaddr_in.sin_port, false);
}

/** A TCP socket; blocking unless `flags` has `SOCK_NONBLOCK`. */
export function tcp(flags = 0): Fd {
  return new Fd(check(libc().socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), "socket"));
}

/** A socket that is bound to a free port, and its address. */
export class Bound extends Fd {
  readonly port: number;
  readonly address: Block;

  constructor(fd: number) {
    super(fd);
    check(libc().bind(fd, loopback().bytes, ADDRESS_SIZE), "bind");
    this.port = portOf(fd);
    this.address = loopback(this.port);
  }

  /** A TCP socket that does not listen. */
  static tcp(flags = 0): Bound {
    return new Bound(check(libc().socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), "socket"));
  }

  /** A UDP socket. */
  static udp(): Bound {
    return new Bound(check(libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
  }

  /** A TCP socket that listens. */
  static listening(flags = 0, backlog = 128): Bound {
    const made = Bound.tcp(flags);
    check(libc().listen(made.fd, backlog), "listen");
    return made;
  }

  /** Connects to it: the connection waits to be accepted. */
  dial(flags = 0): Fd {
    const client = tcp(flags);
    check(libc().connect(client.fd, this.address.bytes, ADDRESS_SIZE), "connect");
    return client;
  }
}

/** The two ends of a connection; blocking unless `flags` has `SOCK_NONBLOCK`. */
export class Connection implements Disposable {
  readonly a: Fd;
  readonly b: Fd;

  private constructor(a: number, b: number) {
    this.a = new Fd(a);
    this.b = new Fd(b);
  }

  /** Over Unix sockets. */
  static unix(flags = 0, type: number = SOCK_STREAM): Connection {
    const fds = new Int32Array(new ArrayBuffer(8));
    check(system().socketpair(AF_UNIX, type | SOCK_CLOEXEC | flags, 0, fds), "socketpair");
    return new Connection(fds[0]!, fds[1]!);
  }

  /** Over TCP: `a` has connected, `b` was accepted. */
  static tcp(flags = 0): Connection {
    using listener = Bound.listening();
    const client = listener.dial(flags & ~SOCK_NONBLOCK);
    const accepted = check(libc().accept4(listener.fd, null, null, SOCK_CLOEXEC | flags), "accept4");
    return new Connection(client.fd, accepted);
  }

  /** Two UDP sockets that send to each other. */
  static udp(): Connection {
    const a = Bound.udp();
    const b = Bound.udp();
    check(libc().connect(a.fd, b.address.bytes, ADDRESS_SIZE), "connect");
    check(libc().connect(b.fd, a.address.bytes, ADDRESS_SIZE), "connect");
    return new Connection(a.fd, b.fd);
  }

  [Symbol.dispose](): void {
    this.a.close();
    this.b.close();
  }
}

/** Sets a socket option that is an integer. */
export function setOption(fd: number, level: number, name: number, value: number): void {
  const bytes = new Uint8Array(Int32Array.of(value).buffer);
  check(system().rare.setsockopt(fd, level, name, bytes, 4), "setsockopt");
}

/** The error that waits on a socket, negative, and takes it. */
export function takeError(fd: number): number {
  const value = new Uint8Array(new ArrayBuffer(4));
  check(system().rare.getsockopt(fd, SOL_SOCKET, SO_ERROR, value, Int32Array.of(4)), "getsockopt");
  return 0 - new DataView(value.buffer).getInt32(0, true);
}

/** Sends all of it without the library. */
export function send(fd: number, data: Uint8Array): void {
  assert.equal(libc().send(fd, data, data.length, 0), data.length);
}

/** What can be received without waiting. */
export function receive(fd: number, most = 65536): Uint8Array {
  const MSG_DONTWAIT = 0x40;
  const buffer = new Uint8Array(new ArrayBuffer(most));
  return buffer.subarray(0, Math.max(0, libc().recv(fd, buffer, most, MSG_DONTWAIT)));
}
