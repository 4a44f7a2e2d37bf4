/**
 * `io_uring_register`: all that a ring holds on to. The calls are in files by subject: `register_files.ts`,
 * `register_buffers.ts`, `register_buf_ring.ts`, `register_wait.ts` (eventfd, regions, clock, busy polling, cancellation),
 * `register_limits.ts` (personality, restrictions, filters, workers), `register_zcrx.ts`; what needs no ring is in
 * `query.ts`, `probe.ts`, `restrictions.ts` and `register_sync_msg.ts`.
 *
 * @module
 */
import {
  IORING_ENTER_REGISTERED_RING,
  IORING_FEAT_REG_REG_RING,
  IORING_REGISTER_RING_FDS,
  IORING_UNREGISTER_RING_FDS,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { io_uring_rsrc_update } from "../ffi/structs.ts";
import { system } from "../ffi/system.ts";
import { type Probe, registerProbe } from "./probe.ts";
import { type Query, type QueryResult, registerQuery } from "./query.ts";
import { Argument } from "./register_base.ts";
import { RingRegisterZcrx } from "./register_zcrx.ts";

const EBADF = 9;
const EINVAL = 22;
const EOPNOTSUPP = 95;

/** The register calls of a ring. */
export class RingRegister extends RingRegisterZcrx {
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

  /** Asks the kernel through this ring, as `registerQuery` does without one: `IORING_REGISTER_QUERY`, Linux 6.18. */
  registerQuery(queries: readonly Query[]): QueryResult[] {
    return registerQuery(queries, (opcode, arg, count) => this.register(opcode, arg, count));
  }
}
