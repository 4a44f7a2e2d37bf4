/**
 * `io_uring_register`: all that a ring holds on to. The calls are in files by subject: `register_files.ts`,
 * `register_buffers.ts`, `register_buf_ring.ts`, here (the ring's descriptor, eventfd, personality, cancellation, probe),
 * and, with `Ring` alone, `register_wait.ts` (regions, clock, busy polling), `register_limits.ts` (restrictions, filters,
 * workers), `register_zcrx.ts`; what needs no ring is in `query.ts`, `probe.ts`, `restrictions.ts` and
 * `register_sync_msg.ts`.
 *
 * @module
 */
import {
  IORING_ENTER_REGISTERED_RING,
  IORING_FEAT_REG_REG_RING,
  IORING_REGISTER_EVENTFD,
  IORING_REGISTER_EVENTFD_ASYNC,
  IORING_REGISTER_PERSONALITY,
  IORING_REGISTER_RING_FDS,
  IORING_REGISTER_SYNC_CANCEL,
  IORING_UNREGISTER_EVENTFD,
  IORING_UNREGISTER_PERSONALITY,
  IORING_UNREGISTER_RING_FDS,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { io_uring_rsrc_update, io_uring_sync_cancel_reg } from "../ffi/structs.ts";
import { system } from "../ffi/system.ts";
import type { Timespec } from "./queues.ts";
import { type Probe, registerProbe } from "./probe.ts";
import { Argument } from "./register_base.ts";
import { RingRegisterBufRing } from "./register_buf_ring.ts";
import type { U64 } from "./sqe_base.ts";

const EBADF = 9;
const EINVAL = 22;
const EOPNOTSUPP = 95;

/** Which operations {@link RingRegister.registerSyncCancel} cancels. */
export interface SyncCancelOptions {
  /** The `user_data` of the target. */
  userData?: U64;
  /** The target's descriptor, with `IORING_ASYNC_CANCEL_FD`. */
  fd?: number;
  /** `IORING_ASYNC_CANCEL_*`. */
  flags?: number;
  /** How long to wait for the target to end; default: for ever. */
  timeout?: Timespec;
  /** The operation, with `IORING_ASYNC_CANCEL_OP`. */
  opcode?: number;
}

/** The register calls that most rings have a use for. */
export class RingRegister extends RingRegisterBufRing {
  /**
   * Registers the ring's own descriptor, which makes every enter cheaper: `io_uring_register_ring_fd`, Linux 5.18.
   * Returns false when it was registered before.
   */
  registerRingFd(): boolean {
    if ((this.enterFlags & IORING_ENTER_REGISTERED_RING) !== 0) return false;
    const arg = new Argument(io_uring_rsrc_update.size);
    arg.set32(io_uring_rsrc_update.offset, 0xffff_ffff);
    arg.set64(io_uring_rsrc_update.data, this.ringFd);
    this.register(IORING_REGISTER_RING_FDS, arg.bytes, 1, { EBUSY: "a thread has room for 16" });
    this.enterFd = arg.get32(io_uring_rsrc_update.offset);
    this.enterFlags |= IORING_ENTER_REGISTERED_RING;
    return true;
  }

  /**
   * Takes the registration of the ring's descriptor back: `io_uring_unregister_ring_fd`, Linux 5.18. A ring that has no
   * other (`IORING_SETUP_REGISTERED_FD_ONLY`, {@link RingRegister.closeRingFd}) is closed by that.
   */
  unregisterRingFd(): void {
    if ((this.enterFlags & IORING_ENTER_REGISTERED_RING) === 0) return;
    const arg = new Argument(io_uring_rsrc_update.size);
    arg.set32(io_uring_rsrc_update.offset, this.enterFd);
    this.register(IORING_UNREGISTER_RING_FDS, arg.bytes, 1);
    this.enterFd = this.ringFd;
    this.enterFlags &= ~IORING_ENTER_REGISTERED_RING;
  }

  /**
   * Closes the ring's descriptor and goes on with the registered one alone: `io_uring_close_ring_fd`, Linux 6.3. From then
   * on the ring takes no place among the process's descriptors, and only its thread can use it.
   *
   * @throws UringError `EINVAL` when the descriptor is not registered, `EBADF` when it was closed before.
   */
  closeRingFd(): void {
    this.assertOpen();
    const refuse = (errno: number, hint: string): never => {
      throw new UringError(errno, "io_uring_close_ring_fd", { hint });
    };
    if ((this.features & IORING_FEAT_REG_REG_RING) === 0) refuse(EOPNOTSUPP, "needs Linux 6.3");
    if ((this.enterFlags & IORING_ENTER_REGISTERED_RING) === 0) refuse(EINVAL, "registerRingFd goes before");
    if (this.ringFd < 0) refuse(EBADF, "it is closed already");
    system().close(this.ringFd);
    this.ringFd = -1;
  }

  /** Which operations this kernel supports: `io_uring_get_probe_ring`, Linux 5.6. */
  getProbe(): Probe {
    return registerProbe(this, 256);
  }

  /** The same for the operations below `count`, at most 256; with 0 `lastOp` alone: `io_uring_register_probe`, Linux 5.6. */
  registerProbe(count: number): Probe {
    if (!Number.isInteger(count) || count < 0 || count > 256) {
      throw new RangeError(`count must be from 0 to 256, not ${count}`);
    }
    return registerProbe(this, count);
  }

  /** Has every completion signal an eventfd: `io_uring_register_eventfd`, Linux 5.2. */
  registerEventfd(fd: number): void {
    this.register(IORING_REGISTER_EVENTFD, Int32Array.of(fd), 1, {
      EBUSY: "an eventfd is registered already",
    });
  }

  /** The same for completions that do not happen inside submit only: `io_uring_register_eventfd_async`, Linux 5.6. */
  registerEventfdAsync(fd: number): void {
    const hints = { EBUSY: "an eventfd is registered already" };
    this.register(IORING_REGISTER_EVENTFD_ASYNC, Int32Array.of(fd), 1, hints);
  }

  /** Stops signalling: `io_uring_unregister_eventfd`, Linux 5.2. */
  unregisterEventfd(): void {
    this.register(IORING_UNREGISTER_EVENTFD, null, 0, { ENXIO: "no eventfd is registered" });
  }

  /**
   * Takes down the credentials that the thread has now, and returns the number for `sqe.personality` to act with them:
   * `io_uring_register_personality`, Linux 5.6.
   */
  registerPersonality(): number {
    return this.register(IORING_REGISTER_PERSONALITY, null, 0);
  }

  /** Forgets credentials: `io_uring_unregister_personality`, Linux 5.6. */
  unregisterPersonality(id: number): void {
    this.register(IORING_UNREGISTER_PERSONALITY, null, id, { EINVAL: "there is no such personality" });
  }

  /**
   * Cancels and waits for the end of what was cancelled: `io_uring_register_sync_cancel`, Linux 6.0. Returns the count
   * with `IORING_ASYNC_CANCEL_ALL`, otherwise 0; throws `ENOENT` when nothing matches and `ETIME` when it took too long.
   */
  registerSyncCancel(options: SyncCancelOptions): number {
    const arg = new Argument(io_uring_sync_cancel_reg.size);
    arg.set64(io_uring_sync_cancel_reg.addr, options.userData ?? 0);
    arg.view.setInt32(io_uring_sync_cancel_reg.fd, options.fd ?? -1, true);
    arg.set32(io_uring_sync_cancel_reg.flags, options.flags ?? 0);
    arg.set64(io_uring_sync_cancel_reg.timeout, options.timeout?.sec ?? -1);
    arg.set64(io_uring_sync_cancel_reg.timeout + 8, options.timeout?.nsec ?? -1);
    arg.view.setUint8(io_uring_sync_cancel_reg.opcode, options.opcode ?? 0);
    return this.register(IORING_REGISTER_SYNC_CANCEL, arg.bytes, 1);
  }
}
