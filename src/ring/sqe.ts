/**
 * A submission queue entry with every operation; this file has those that steer other operations.
 *
 * @module
 */
import {
  IORING_ASYNC_CANCEL_FD,
  IORING_FILE_INDEX_ALLOC,
  IORING_MSG_RING_FLAGS_PASS,
  IORING_MSG_SEND_FD,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_EPOLL_CTL,
  IORING_OP_EPOLL_WAIT,
  IORING_OP_FILES_UPDATE,
  IORING_OP_FIXED_FD_INSTALL,
  IORING_OP_FUTEX_WAIT,
  IORING_OP_FUTEX_WAITV,
  IORING_OP_FUTEX_WAKE,
  IORING_OP_LINK_TIMEOUT,
  IORING_OP_MSG_RING,
  IORING_OP_NOP,
  IORING_OP_NOP128,
  IORING_OP_POLL_ADD,
  IORING_OP_POLL_REMOVE,
  IORING_OP_PROVIDE_BUFFERS,
  IORING_OP_REMOVE_BUFFERS,
  IORING_OP_TIMEOUT,
  IORING_OP_TIMEOUT_REMOVE,
  IORING_OP_WAITID,
  IORING_POLL_ADD_MULTI,
  IORING_TIMEOUT_UPDATE,
  IOSQE_FIXED_FILE,
} from "../ffi/abi.ts";
import type { U64 } from "./sqe_base.ts";
import { SqeNet } from "./sqe_net.ts";

/**
 * A submission queue entry: `struct io_uring_sqe` and liburing's `io_uring_prep_*`, with the same arguments in the same
 * order (the entry itself left out) and the same bytes. It comes from `Ring.getSqe()` and is the caller's until the
 * next submit.
 *
 * The low layer trusts its caller: an address must be right, and what it points at must stay until the completion.
 */
export class Sqe extends SqeNet {
  /** Does nothing: `io_uring_prep_nop`, Linux 5.1. */
  prepNop(): void {
    this.fillBare(IORING_OP_NOP, -1);
  }

  /** {@link Sqe.prepNop} in an entry of 128 bytes on a ring of mixed entries: `io_uring_prep_nop128`, Linux 6.19. */
  prepNop128(): void {
    this.fillBare(IORING_OP_NOP128, -1);
  }

  /**
   * Completes when one of the `POLL*` events of `pollMask` is there; the completion's `res` has them:
   * `io_uring_prep_poll_add`, Linux 5.1.
   */
  prepPollAdd(fd: number, pollMask: number): void {
    this.fillBare(IORING_OP_POLL_ADD, fd);
    this.opFlags = pollMask;
  }

  /** A completion each time that the events come, until cancelled: `io_uring_prep_poll_multishot`, Linux 5.13. */
  prepPollMultishot(fd: number, pollMask: number): void {
    this.prepPollAdd(fd, pollMask);
    this.len = IORING_POLL_ADD_MULTI;
  }

  /** Removes a poll by its `user_data`: `io_uring_prep_poll_remove`, Linux 5.1. */
  prepPollRemove(userData: U64): void {
    this.prepRw(IORING_OP_POLL_REMOVE, -1, userData, 0, 0);
  }

  /** Changes a poll's events or `user_data` (`IORING_POLL_UPDATE_*`): `io_uring_prep_poll_update`, Linux 5.13. */
  prepPollUpdate(oldUserData: U64, newUserData: U64, pollMask: number, flags: number): void {
    this.prepRw(IORING_OP_POLL_REMOVE, -1, oldUserData, flags, newUserData);
    this.opFlags = pollMask;
  }

  /**
   * Completes with `-ETIME` after the `struct __kernel_timespec` at `ts`, or with 0 after `count` completions:
   * `io_uring_prep_timeout`, Linux 5.4.
   */
  prepTimeout(ts: U64, count: number, flags: number): void {
    this.prepRw(IORING_OP_TIMEOUT, -1, ts, 1, count >>> 0);
    this.opFlags = flags;
  }

  /** Removes a timeout by its `user_data`: `io_uring_prep_timeout_remove`, Linux 5.5. */
  prepTimeoutRemove(userData: U64, flags: number): void {
    this.prepRw(IORING_OP_TIMEOUT_REMOVE, -1, userData, 0, 0);
    this.opFlags = flags;
  }

  /** Sets a timeout anew: `io_uring_prep_timeout_update`, Linux 5.11. */
  prepTimeoutUpdate(ts: U64, userData: U64, flags: number): void {
    this.prepRw(IORING_OP_TIMEOUT_REMOVE, -1, userData, 0, ts);
    this.opFlags = flags | IORING_TIMEOUT_UPDATE;
  }

  /** Limits the time of the linked operation before it: `io_uring_prep_link_timeout`, Linux 5.5. */
  prepLinkTimeout(ts: U64, flags: number): void {
    this.prepRw(IORING_OP_LINK_TIMEOUT, -1, ts, 1, 0);
    this.opFlags = flags;
  }

  /** Cancels by `user_data`: `io_uring_prep_cancel64` (and `io_uring_prep_cancel`), Linux 5.5. */
  prepCancel64(userData: U64, flags: number): void {
    this.prepRw(IORING_OP_ASYNC_CANCEL, -1, userData, 0, 0);
    this.opFlags = flags;
  }

  /** The same as {@link Sqe.prepCancel64}; in C the two differ in the type of their argument only. */
  prepCancel(userData: U64, flags: number): void {
    this.prepCancel64(userData, flags);
  }

  /** Cancels what works on a descriptor: `io_uring_prep_cancel_fd`, Linux 5.19. */
  prepCancelFd(fd: number, flags: number): void {
    this.fillBare(IORING_OP_ASYNC_CANCEL, fd);
    this.opFlags = flags | IORING_ASYNC_CANCEL_FD;
  }

  /**
   * Waits for a child (`P_PID`, `P_PIDFD`, `P_PGID`, `P_ALL`; `WEXITED`…) and fills the `siginfo_t` at `infop`:
   * `io_uring_prep_waitid`, Linux 6.7.
   */
  prepWaitid(idtype: number, id: number, infop: U64, options: number, flags: number): void {
    this.prepRw(IORING_OP_WAITID, id, 0, idtype, infop);
    this.opFlags = flags;
    this.fileIndex = options;
  }

  /** Wakes up to `val` waiters of a futex (`FUTEX2_*` in `futexFlags`): `io_uring_prep_futex_wake`, Linux 6.7. */
  prepFutexWake(futex: U64, val: U64, mask: U64, futexFlags: number, flags: number): void {
    this.prepRw(IORING_OP_FUTEX_WAKE, futexFlags, futex, 0, val);
    this.opFlags = flags;
    this.addr3 = mask;
  }

  /** Waits while a futex holds `val` (`FUTEX2_*` in `futexFlags`): `io_uring_prep_futex_wait`, Linux 6.7. */
  prepFutexWait(futex: U64, val: U64, mask: U64, futexFlags: number, flags: number): void {
    this.prepRw(IORING_OP_FUTEX_WAIT, futexFlags, futex, 0, val);
    this.opFlags = flags;
    this.addr3 = mask;
  }

  /**
   * Waits for one of several futexes, an array of `struct futex_waitv`; `res` is the index of the one that was woken:
   * `io_uring_prep_futex_waitv`, Linux 6.7.
   */
  prepFutexWaitv(futex: U64, nrFutex: number, flags: number): void {
    this.prepRw(IORING_OP_FUTEX_WAITV, 0, futex, nrFutex, 0);
    this.opFlags = flags;
  }

  /** Changes what an epoll watches (`EPOLL_CTL_*`, a `struct epoll_event`): `io_uring_prep_epoll_ctl`, Linux 5.6. */
  prepEpollCtl(epfd: number, fd: number, op: number, ev: U64): void {
    this.prepRw(IORING_OP_EPOLL_CTL, epfd, ev, op, fd >>> 0);
  }

  /** Waits for an epoll's events, written to an array of `struct epoll_event`: `io_uring_prep_epoll_wait`, Linux 6.15. */
  prepEpollWait(fd: number, events: U64, maxevents: number, flags: number): void {
    this.prepRw(IORING_OP_EPOLL_WAIT, fd, events, maxevents, 0);
    this.opFlags = flags;
  }

  /**
   * Posts a completion on the ring `fd`: `res` is `len`, `user_data` is `data`: `io_uring_prep_msg_ring`, Linux 5.18.
   */
  prepMsgRing(fd: number, len: number, data: U64, flags: number): void {
    this.prepRw(IORING_OP_MSG_RING, fd, 0, len, data);
    this.opFlags = flags;
  }

  /** {@link Sqe.prepMsgRing} that gives the completion its flags, too: `io_uring_prep_msg_ring_cqe_flags`, Linux 6.3. */
  prepMsgRingCqeFlags(fd: number, len: number, data: U64, flags: number, cqeFlags: number): void {
    this.prepRw(IORING_OP_MSG_RING, fd, 0, len, data);
    this.opFlags = IORING_MSG_RING_FLAGS_PASS | flags;
    this.fileIndex = cqeFlags;
  }

  /**
   * Passes the direct descriptor `sourceFd` of this ring to the slot `targetFd` of the ring `fd`, which gets a
   * completion (unless `IORING_MSG_RING_CQE_SKIP`): `io_uring_prep_msg_ring_fd`, Linux 6.0.
   */
  prepMsgRingFd(fd: number, sourceFd: number, targetFd: number, data: U64, flags: number): void {
    this.prepRw(IORING_OP_MSG_RING, fd, IORING_MSG_SEND_FD, 0, data);
    this.addr3 = sourceFd;
    this.setTargetFixedFile(targetFd);
    this.opFlags = flags;
  }

  /** {@link Sqe.prepMsgRingFd} into a slot that the kernel picks: `io_uring_prep_msg_ring_fd_alloc`, Linux 6.0. */
  prepMsgRingFdAlloc(fd: number, sourceFd: number, data: U64, flags: number): void {
    this.prepMsgRingFd(fd, sourceFd, IORING_FILE_INDEX_ALLOC, data, flags);
  }

  /**
   * Makes a descriptor of the process from the direct one in slot `fd` (`IORING_FIXED_FD_NO_CLOEXEC`). It replaces the
   * entry's `IOSQE_*` bits: `io_uring_prep_fixed_fd_install`, Linux 6.8.
   */
  prepFixedFdInstall(fd: number, flags: number): void {
    this.fillBare(IORING_OP_FIXED_FD_INSTALL, fd);
    this.flags = IOSQE_FIXED_FILE;
    this.opFlags = flags;
  }

  /** Changes registered files from slot `offset` on: `io_uring_prep_files_update`, Linux 5.6. */
  prepFilesUpdate(fds: U64, nrFds: number, offset: number): void {
    this.prepRw(IORING_OP_FILES_UPDATE, -1, fds, nrFds, offset);
  }

  /**
   * Gives the kernel `nr` buffers of `len` bytes each, one after the other from `addr` on, as the group `bgid` with ids
   * from `bid` on: `io_uring_prep_provide_buffers`, Linux 5.7. Rings of provided buffers are faster.
   */
  prepProvideBuffers(addr: U64, len: number, nr: number, bgid: number, bid: number): void {
    this.prepRw(IORING_OP_PROVIDE_BUFFERS, nr, addr, len, bid);
    this.bufGroup = bgid;
  }

  /** Takes up to `nr` provided buffers back: `io_uring_prep_remove_buffers`, Linux 5.7. */
  prepRemoveBuffers(nr: number, bgid: number): void {
    this.fillBare(IORING_OP_REMOVE_BUFFERS, nr);
    this.bufGroup = bgid;
  }
}
