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
  IORING_OP_RECVMSG,
  IORING_OP_SEND,
  IORING_OP_SEND_ZC,
  IORING_OP_SENDMSG,
  IORING_OP_SENDMSG_ZC,
  IORING_OP_SHUTDOWN,
  IORING_OP_SOCKET,
  IORING_RECV_MULTISHOT,
  IORING_RECVSEND_BUNDLE,
  IORING_RECVSEND_FIXED_BUF,
} from "../ffi/abi.ts";
import type { U64 } from "./sqe_base.ts";
import { SqeCmd } from "./sqe_cmd.ts";

/** Preps for sockets. Addresses are numbers; the memory behind them must stay until the completion. */
export class SqeNet extends SqeCmd {
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

  /**
   * Sends what lies in provided buffers of a group, as many as `len` bytes (0: all) ask for. Set `IOSQE_BUFFER_SELECT` and
   * {@link SqeNet.bufGroup}: `io_uring_prep_send_bundle`, Linux 6.10.
   */
  prepSendBundle(sockfd: number, len: number, flags: number): void {
    this.prepSend(sockfd, 0, len, flags);
    this.ioprio |= IORING_RECVSEND_BUNDLE;
  }

  /** Gives a send or zero-copy send its destination, a `struct sockaddr`: `io_uring_prep_send_set_addr`, Linux 6.0. */
  prepSendSetAddr(destAddr: U64, addrLen: number): void {
    this.off = destAddr;
    this.setAddrLen(addrLen);
  }

  /** Sends to a `struct sockaddr`: `io_uring_prep_sendto`, Linux 6.1. */
  prepSendto(sockfd: number, buf: U64, len: number, flags: number, addr: U64, addrlen: number): void {
    this.prepSend(sockfd, buf, len, flags);
    this.prepSendSetAddr(addr, addrlen);
  }

  /**
   * Sends without copying (`IORING_RECVSEND_*` and `IORING_SEND_ZC_*` in `zcFlags`). Two completions: the result with
   * `IORING_CQE_F_MORE`, then one with `IORING_CQE_F_NOTIF` when `buf` may be used again:
   * `io_uring_prep_send_zc`, Linux 6.0.
   */
  prepSendZc(sockfd: number, buf: U64, len: number, flags: number, zcFlags: number): void {
    this.prepRw(IORING_OP_SEND_ZC, sockfd, buf, len, 0);
    this.opFlags = flags;
    this.ioprio = zcFlags;
  }

  /** {@link SqeNet.prepSendZc} out of the registered buffer `bufIndex`: `io_uring_prep_send_zc_fixed`, Linux 6.0. */
  prepSendZcFixed(
    sockfd: number,
    buf: U64,
    len: number,
    flags: number,
    zcFlags: number,
    bufIndex: number,
  ): void {
    this.prepSendZc(sockfd, buf, len, flags, zcFlags);
    this.ioprio |= IORING_RECVSEND_FIXED_BUF;
    this.bufIndex = bufIndex;
  }

  /** Sends a `struct msghdr`: `io_uring_prep_sendmsg`, Linux 5.3. */
  prepSendmsg(fd: number, msg: U64, flags: number): void {
    this.prepRw(IORING_OP_SENDMSG, fd, msg, 1, 0);
    this.opFlags = flags;
  }

  /** {@link SqeNet.prepSendmsg} without copying: `io_uring_prep_sendmsg_zc`, Linux 6.1. */
  prepSendmsgZc(fd: number, msg: U64, flags: number): void {
    this.prepSendmsg(fd, msg, flags);
    this.opcode = IORING_OP_SENDMSG_ZC;
  }

  /**
   * {@link SqeNet.prepSendmsgZc} whose vectors lie in the registered buffer `bufIndex`:
   * `io_uring_prep_sendmsg_zc_fixed`, Linux 6.15.
   */
  prepSendmsgZcFixed(fd: number, msg: U64, flags: number, bufIndex: number): void {
    this.prepSendmsgZc(fd, msg, flags);
    this.ioprio |= IORING_RECVSEND_FIXED_BUF;
    this.bufIndex = bufIndex;
  }

  /** Receives into a `struct msghdr`: `io_uring_prep_recvmsg`, Linux 5.3. */
  prepRecvmsg(fd: number, msg: U64, flags: number): void {
    this.prepRw(IORING_OP_RECVMSG, fd, msg, 1, 0);
    this.opFlags = flags;
  }

  /**
   * Receives messages until cancelled, each into a provided buffer that begins with a `struct io_uring_recvmsg_out`
   * (set `IOSQE_BUFFER_SELECT` and {@link SqeNet.bufGroup}): `io_uring_prep_recvmsg_multishot`, Linux 6.0.
   */
  prepRecvmsgMultishot(fd: number, msg: U64, flags: number): void {
    this.prepRecvmsg(fd, msg, flags);
    this.ioprio |= IORING_RECV_MULTISHOT;
  }

  /** Shuts a connection down in part: `io_uring_prep_shutdown`, Linux 5.11. */
  prepShutdown(fd: number, how: number): void {
    this.prepRw(IORING_OP_SHUTDOWN, fd, 0, how, 0);
  }
}
