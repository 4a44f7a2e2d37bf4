/**
 * Operations on sockets.
 *
 * @module
 */
import {
  IORING_ACCEPT_DONTWAIT,
  IORING_ACCEPT_POLL_FIRST,
  IORING_RECVSEND_POLL_FIRST,
  MSG_NOSIGNAL,
  SOCK_CLOEXEC,
} from "../ffi/abi.ts";
import { pinned } from "../ffi/pin.ts";
import { sockaddr_storage } from "../ffi/structs.ts";
import type { DirectDescriptor, Fd } from "./direct.ts";
import type { Op } from "./op.ts";
import { checkLength, checkU32, checkView, type OperationOptions } from "./options.ts";
import { ProcessOperations } from "./process_ops.ts";
import { decodeAddress, encodeAddress, type SocketAddress } from "./sockaddr.ts";

/** Options of {@link NetOperations.send} and {@link NetOperations.recv}. */
export interface MessageOptions extends OperationOptions {
  /** `MSG_*` bits. */
  flags?: number;
  /** How many bytes; default: the whole buffer. */
  length?: number;
  /** Wait until the socket is ready before trying (`IORING_RECVSEND_POLL_FIRST`, Linux 5.19). */
  pollFirst?: boolean;
}

/** Options of operations that make a descriptor. */
export interface SocketOptions extends OperationOptions {
  /** `SOCK_NONBLOCK` and the like; `SOCK_CLOEXEC` is always set. */
  flags?: number;
}

/** {@link SocketOptions} for a direct descriptor. */
export interface SocketDirectOptions extends SocketOptions {
  /** `true` for a direct descriptor, or one reserved with `chain.direct()`. */
  direct: true | DirectDescriptor;
}

/** Options of {@link NetOperations.accept}. */
export interface AcceptOptions extends SocketOptions {
  /** Fail with `EAGAIN` when no connection waits (`IORING_ACCEPT_DONTWAIT`, Linux 6.10). */
  dontWait?: boolean;
  /** Wait for a connection before trying to accept one (`IORING_ACCEPT_POLL_FIRST`, Linux 6.10). */
  pollFirst?: boolean;
}

/** {@link AcceptOptions} for a direct descriptor. */
export interface AcceptDirectOptions extends AcceptOptions, SocketDirectOptions {}

/** The `IORING_ACCEPT_*` bits of options. @internal */
export function acceptFlags(options: AcceptOptions | undefined): number {
  if (options === undefined) return 0;
  return (options.dontWait === true ? IORING_ACCEPT_DONTWAIT : 0) |
    (options.pollFirst === true ? IORING_ACCEPT_POLL_FIRST : 0);
}

/** A connection with the address of its other end. */
export interface Accepted {
  /** The connection's descriptor. */
  readonly fd: number;
  /** Where it comes from. */
  readonly address: SocketAddress;
}

/** Socket operations, each one entry of the submission queue. */
export abstract class NetOperations extends ProcessOperations {
  /** Makes a socket as a direct descriptor: `io_uring_prep_socket_direct`, Linux 5.19. */
  socket(
    domain: number,
    type: number,
    protocol: number,
    options: SocketDirectOptions,
  ): Promise<DirectDescriptor>;
  /** Makes a socket (`AF_*`, `SOCK_*`, `IPPROTO_*` or 0): `io_uring_prep_socket`, Linux 5.19. */
  socket(domain: number, type: number, protocol?: number, options?: SocketOptions): Promise<number>;
  socket(
    domain: number,
    type: number,
    protocol = 0,
    options?: SocketOptions | SocketDirectOptions,
  ): Promise<number | DirectDescriptor> {
    this.check(options);
    checkU32("domain", domain);
    checkU32("type", type);
    checkU32("protocol", protocol);
    const flags = checkU32("flags", options?.flags ?? 0);
    const target = this.#directTarget(options);
    const op = this.begin("socket");
    if (target === null) {
      op.sqe!.prepSocket(domain, type | flags | SOCK_CLOEXEC, protocol, 0);
      this.closeIfLate(op, options);
    } else {
      op.sqe!.prepSocketDirect(domain, (type | flags) & ~SOCK_CLOEXEC, protocol, target.slot, 0);
      this.intoDirect(op, target);
    }
    return this.promise(op, options);
  }

  #directTarget(options: SocketOptions | SocketDirectOptions | undefined): DirectDescriptor | null {
    return options !== undefined && "direct" in options ? this.target(options.direct) : null;
  }

  /** Gives a socket an address of its own: `io_uring_prep_bind`, Linux 6.11. */
  bind(fd: Fd, address: SocketAddress, options?: OperationOptions): Promise<void> {
    return this.#addressed("bind", fd, address, options);
  }

  /** Connects a socket: `io_uring_prep_connect`, Linux 5.5. */
  connect(fd: Fd, address: SocketAddress, options?: OperationOptions): Promise<void> {
    return this.#addressed("connect", fd, address, options);
  }

  #addressed(
    name: "bind" | "connect",
    fd: Fd,
    address: SocketAddress,
    options: OperationOptions | undefined,
  ): Promise<void> {
    this.check(options);
    const number = this.number(fd);
    const bytes = encodeAddress(address);
    const piece = this.driver.arena.take(bytes.length);
    piece.bytes.set(bytes);
    const op = this.begin(name);
    op.pins = piece.owner;
    if (name === "bind") op.sqe!.prepBind(number, piece.address, bytes.length);
    else op.sqe!.prepConnect(number, piece.address, bytes.length);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /** Has a socket take connections: `io_uring_prep_listen`, Linux 6.11. `backlog`: how many may wait (default 511). */
  listen(fd: Fd, backlog = 511, options?: OperationOptions): Promise<void> {
    this.check(options);
    checkU32("backlog", backlog);
    const number = this.number(fd);
    const op = this.begin("listen");
    op.sqe!.prepListen(number, backlog);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /** Accepts a connection as a direct descriptor: `io_uring_prep_accept_direct`, Linux 5.15. */
  accept(fd: Fd, options: AcceptDirectOptions): Promise<DirectDescriptor>;
  /** Accepts a connection and resolves with its descriptor: `io_uring_prep_accept`, Linux 5.5. */
  accept(fd: Fd, options?: AcceptOptions): Promise<number>;
  accept(fd: Fd, options?: AcceptOptions | AcceptDirectOptions): Promise<number | DirectDescriptor> {
    this.check(options);
    const flags = checkU32("flags", options?.flags ?? 0);
    const number = this.number(fd);
    const target = this.#directTarget(options);
    const op = this.begin("accept");
    if (target === null) {
      op.sqe!.prepAccept(number, 0, 0, flags | SOCK_CLOEXEC);
      this.closeIfLate(op, options);
    } else {
      op.sqe!.prepAcceptDirect(number, 0, 0, flags & ~SOCK_CLOEXEC, target.slot);
      this.intoDirect(op, target);
    }
    op.sqe!.ioprio |= acceptFlags(options);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /** {@link NetOperations.accept} that tells who connected. */
  acceptFrom(fd: Fd, options?: AcceptOptions): Promise<Accepted> {
    this.check(options);
    const flags = checkU32("flags", options?.flags ?? 0);
    const number = this.number(fd);
    const LENGTH = sockaddr_storage.size;
    const memory = pinned(LENGTH + 8);
    const view = new DataView(memory.bytes.buffer);
    view.setUint32(LENGTH, LENGTH, true);
    const address = this.both(memory.bytes);
    const op = this.begin("accept");
    op.pins = memory;
    op.finish = (res): Accepted => ({
      fd: res,
      address: decodeAddress(memory.bytes, view.getUint32(LENGTH, true)),
    });
    op.sqe!.prepAccept(number, address, address + LENGTH, flags | SOCK_CLOEXEC);
    op.sqe!.ioprio |= acceptFlags(options);
    this.closeIfLate(op, options);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /**
   * Sends from `buffer` and resolves with the number of bytes taken, which may be fewer (`MSG_WAITALL`: all of them).
   * A peer that is gone gives `EPIPE`, never a signal. liburing: `io_uring_prep_send`, Linux 5.6.
   */
  send(fd: Fd, buffer: ArrayBufferView, options?: MessageOptions): Promise<number> {
    return this.#message("send", fd, buffer, options);
  }

  /** Receives into `buffer` and resolves with the number of bytes; 0: the peer has finished. Linux 5.6. */
  recv(fd: Fd, buffer: ArrayBufferView, options?: MessageOptions): Promise<number> {
    return this.#message("recv", fd, buffer, options);
  }

  #message(
    name: "send" | "recv",
    fd: Fd,
    buffer: ArrayBufferView,
    options: MessageOptions | undefined,
  ): Promise<number> {
    checkView(buffer);
    this.check(options);
    const length = checkLength(buffer, options?.length);
    const flags = checkU32("flags", options?.flags ?? 0);
    const number = this.number(fd);
    const address = name === "send" ? this.from(buffer, length) : this.into(buffer, length);
    const op: Op = this.begin(name);
    op.view = buffer;
    if (name === "send") op.sqe!.prepSend(number, address, length, flags | MSG_NOSIGNAL);
    else op.sqe!.prepRecv(number, address, length, flags);
    if (options?.pollFirst === true) op.sqe!.ioprio |= IORING_RECVSEND_POLL_FIRST;
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /** Ends one or both directions of a connection (`SHUT_RD`, `SHUT_WR`, `SHUT_RDWR`): Linux 5.11. */
  shutdown(fd: Fd, how: number, options?: OperationOptions): Promise<void> {
    this.check(options);
    checkU32("how", how);
    const number = this.number(fd);
    const op = this.begin("shutdown");
    op.sqe!.prepShutdown(number, how);
    this.markLateFd(op, fd);
    return this.promise(op, options);
  }
}
