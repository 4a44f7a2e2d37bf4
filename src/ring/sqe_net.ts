/**
 * The socket operations of a submission queue entry.
 *
 * @module
 */
import {
  IORING_ACCEPT_MULTISHOT,
  IORING_FILE_INDEX_ALLOC,
  IORING_OP_ACCEPT,
  IORING_OP_BIND,
  IORING_OP_CONNECT,
  IORING_OP_LISTEN,
  IORING_OP_RECV,
  IORING_OP_SEND,
  IORING_OP_SHUTDOWN,
  IORING_OP_SOCKET,
  IORING_RECV_MULTISHOT,
} from "../ffi/abi.ts";
import type { U64 } from "./sqe_base.ts";
import { SqeFiles } from "./sqe_files.ts";

/** Preps for sockets. Addresses are numbers; the memory behind them must stay until the completion. */
export class SqeNet extends SqeFiles {
  /** Makes a socket: `io_uring_prep_socket`, Linux 5.19. */
  prepSocket(domain: number, type: number, protocol: number, flags: number): void {
    this.prepRw(IORING_OP_SOCKET, domain, 0, protocol, type);
    this.opFlags = flags;
  }

  /** Makes a socket as a direct descriptor: `io_uring_prep_socket_direct`, Linux 5.19. */
  prepSocketDirect(domain: number, type: number, protocol: number, fileIndex: number, flags: number): void {
    this.prepSocket(domain, type, protocol, flags);
    this.setTargetFixedFile(fileIndex);
  }

  /** Makes a socket in a slot that the kernel picks: `io_uring_prep_socket_direct_alloc`, Linux 5.19. */
  prepSocketDirectAlloc(domain: number, type: number, protocol: number, flags: number): void {
    this.prepSocketDirect(domain, type, protocol, IORING_FILE_INDEX_ALLOC, flags);
  }

  /** Binds to a `struct sockaddr`: `io_uring_prep_bind`, Linux 6.11. */
  prepBind(fd: number, addr: U64, addrlen: number): void {
    this.prepRw(IORING_OP_BIND, fd, addr, 0, addrlen);
  }

  /** Listens: `io_uring_prep_listen`, Linux 6.11. */
  prepListen(fd: number, backlog: number): void {
    this.prepRw(IORING_OP_LISTEN, fd, 0, backlog, 0);
  }

  /** Accepts one connection: `io_uring_prep_accept`, Linux 5.5. */
  prepAccept(fd: number, addr: U64, addrlen: U64, flags: number): void {
    this.prepRw(IORING_OP_ACCEPT, fd, addr, 0, addrlen);
    this.opFlags = flags;
  }

  /** Accepts one connection as a direct descriptor: `io_uring_prep_accept_direct`, Linux 5.15. */
  prepAcceptDirect(fd: number, addr: U64, addrlen: U64, flags: number, fileIndex: number): void {
    this.prepAccept(fd, addr, addrlen, flags);
    this.setTargetFixedFile(fileIndex);
  }

  /** Accepts until cancelled, a completion each: `io_uring_prep_multishot_accept`, Linux 5.19. */
  prepMultishotAccept(fd: number, addr: U64, addrlen: U64, flags: number): void {
    this.prepAccept(fd, addr, addrlen, flags);
    this.ioprio |= IORING_ACCEPT_MULTISHOT;
  }

  /** Accepts until cancelled into slots that the kernel picks: `io_uring_prep_multishot_accept_direct`, Linux 5.19. */
  prepMultishotAcceptDirect(fd: number, addr: U64, addrlen: U64, flags: number): void {
    this.prepMultishotAccept(fd, addr, addrlen, flags);
    this.setTargetFixedFile(IORING_FILE_INDEX_ALLOC);
  }

  /** Connects to a `struct sockaddr`: `io_uring_prep_connect`, Linux 5.5. */
  prepConnect(fd: number, addr: U64, addrlen: number): void {
    this.prepRw(IORING_OP_CONNECT, fd, addr, 0, addrlen);
  }

  /** Sends: `io_uring_prep_send`, Linux 5.6. */
  prepSend(sockfd: number, buf: U64, len: number, flags: number): void {
    this.prepRw(IORING_OP_SEND, sockfd, buf, len, 0);
    this.opFlags = flags;
  }

  /** Receives: `io_uring_prep_recv`, Linux 5.6. */
  prepRecv(sockfd: number, buf: U64, len: number, flags: number): void {
    this.prepRw(IORING_OP_RECV, sockfd, buf, len, 0);
    this.opFlags = flags;
  }

  /**
   * Receives until cancelled, into provided buffers (set `IOSQE_BUFFER_SELECT` and {@link SqeNet.bufGroup}):
   * `io_uring_prep_recv_multishot`, Linux 6.0.
   */
  prepRecvMultishot(sockfd: number, buf: U64, len: number, flags: number): void {
    this.prepRecv(sockfd, buf, len, flags);
    this.ioprio |= IORING_RECV_MULTISHOT;
  }

  /** Shuts a connection down in part: `io_uring_prep_shutdown`, Linux 5.11. */
  prepShutdown(fd: number, how: number): void {
    this.prepRw(IORING_OP_SHUTDOWN, fd, 0, how, 0);
  }
}
