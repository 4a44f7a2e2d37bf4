/**
 * The operations of a submission queue entry that hand a command to a driver or a socket.
 *
 * @module
 */
import {
  BLOCK_URING_CMD_DISCARD,
  BLOCK_URING_CMD_ZONE_RESET_ALL,
  IORING_OP_URING_CMD,
  IORING_OP_URING_CMD128,
  SOCKET_URING_OP_GETSOCKNAME,
} from "../ffi/abi.ts";
import type { U64 } from "./sqe_base.ts";
import { SqePipes } from "./sqe_pipes.ts";

/** Preps for `IORING_OP_URING_CMD`. What a driver wants beside its command goes into {@link SqeCmd.cmd}. */
export class SqeCmd extends SqePipes {
  /** A command of the file's driver: `io_uring_prep_uring_cmd`, Linux 5.19. */
  prepUringCmd(cmdOp: number, fd: number): void {
    this.fillBare(IORING_OP_URING_CMD, fd);
    this.off = cmdOp >>> 0;
  }

  /**
   * {@link SqeCmd.prepUringCmd} with a command of 80 bytes on a ring of mixed entries, in an entry of 128 bytes:
   * `io_uring_prep_uring_cmd128`, Linux 6.19.
   */
  prepUringCmd128(cmdOp: number, fd: number): void {
    this.fillBare(IORING_OP_URING_CMD128, fd);
    this.off = cmdOp >>> 0;
  }

  /**
   * A socket's `SOCKET_URING_OP_*`, with a socket option's level, name, value and length where it is one:
   * `io_uring_prep_cmd_sock`, Linux 6.7.
   */
  prepCmdSock(
    cmdOp: number,
    fd: number,
    level: number,
    optname: number,
    optval: U64,
    optlen: number,
  ): void {
    this.prepUringCmd(cmdOp, fd);
    this.addr3 = optval;
    this.setAddrWords(level, optname);
    this.fileIndex = optlen;
  }

  /**
   * Writes a socket's own address (`peer` 0) or its other end's (1) to `sockaddr`, whose size is at `sockaddrLen` and is
   * replaced by the address's: `io_uring_prep_cmd_getsockname`, Linux 6.19.
   */
  prepCmdGetsockname(fd: number, sockaddr: U64, sockaddrLen: U64, peer: number): void {
    this.prepUringCmd(SOCKET_URING_OP_GETSOCKNAME, fd);
    this.addr = sockaddr;
    this.addr3 = sockaddrLen;
    this.fileIndex = peer;
  }

  /** Has a block device forget a range: `io_uring_prep_cmd_discard`, Linux 6.12. */
  prepCmdDiscard(fd: number, offset: U64, nbytes: U64): void {
    this.prepUringCmd(BLOCK_URING_CMD_DISCARD, fd);
    this.addr = offset;
    this.addr3 = nbytes;
  }

  /** Resets all zones of a zoned block device: `io_uring_prep_cmd_zone_reset_all`; Linux 7.2 does not have it yet. */
  prepCmdZoneResetAll(fd: number): void {
    this.prepUringCmd(BLOCK_URING_CMD_ZONE_RESET_ALL, fd);
  }
}
