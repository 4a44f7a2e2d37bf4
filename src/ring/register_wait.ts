/**
 * The register calls about waiting: memory regions with registered waits, the clock, busy polling.
 *
 * @module
 */
import {
  IO_URING_NAPI_REGISTER_OP,
  IO_URING_NAPI_TRACKING_DYNAMIC,
  IORING_MEM_REGION_REG_WAIT_ARG,
  IORING_MEM_REGION_TYPE_USER,
  IORING_REGISTER_CLOCK,
  IORING_REGISTER_MEM_REGION,
  IORING_REGISTER_NAPI,
  IORING_UNREGISTER_NAPI,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { Mapping } from "../ffi/memory.ts";
import {
  io_uring_clock_register,
  io_uring_mem_region_reg,
  io_uring_napi,
  io_uring_reg_wait,
  io_uring_region_desc,
} from "../ffi/structs.ts";
import { CoreRing } from "./core_ring.ts";
import { RegWaits } from "./reg_wait.ts";
import { Argument, type Hints } from "./register_base.ts";

/** How a ring polls the network devices of its sockets: `struct io_uring_napi`. */
export interface NapiOptions {
  /** Microseconds that a wait polls busily. */
  busyPollTo?: number;
  /** Whether to keep the device's interrupts off as long as polling goes on. */
  preferBusyPoll?: boolean;
  /** `IO_URING_NAPI_*_OP` or `_ID`: register, or add and remove a device by its id (Linux 6.13). Default: register. */
  opcode?: number;
  /** `IO_URING_NAPI_TRACKING_*` when registering, otherwise the device's NAPI id. */
  opParam?: number;
}

/** A ring's settings of busy polling, as they were before. */
export interface NapiSettings {
  /** Microseconds. */
  readonly busyPollTo: number;
  readonly preferBusyPoll: boolean;
  /** `IO_URING_NAPI_TRACKING_*` (Linux 6.13). */
  readonly tracking: number;
}

/** Memory to be shared with the kernel: `struct io_uring_region_desc`. */
export interface RegionOptions {
  /** Memory of ours, in whole pages; it must stay mapped. Without it the kernel allocates. */
  memory?: Mapping;
  /** The size in bytes of what the kernel allocates, in whole pages. */
  size?: number;
  /** `IORING_MEM_REGION_REG_WAIT_ARG`: it holds registered waits. */
  flags?: number;
}

const EBADF = 9;
const PAGE = 4096;

const NAPI_HINTS: Hints = {
  EINVAL:
    "busy polling excludes IORING_SETUP_IOPOLL, needs a kernel with CONFIG_NET_RX_BUSY_POLL, and ids and " +
    "tracking need Linux 6.13",
  ENOTSUP: "the kernel was built without CONFIG_NET_RX_BUSY_POLL",
};

const REGION_HINTS: Hints = {
  EBUSY: "the ring has a region already",
  EINVAL: "whole pages are needed, and waits only before a ring made with IORING_SETUP_R_DISABLED is enabled",
};

/** The register calls about waiting. */
export class RingRegisterWait extends CoreRing {
  #region: Mapping | null = null;

  /**
   * Shares memory with the kernel: `io_uring_register_region`, Linux 6.13. A ring has at most one region, for good. Of
   * registered waits, the last that fits is taken for the first by some kernels.
   *
   * @param region Memory, or how much of it the kernel is to allocate, and what it is for.
   * @returns The memory. What the kernel allocated is unmapped when the ring is closed.
   */
  registerRegion(region: RegionOptions): Mapping {
    const { memory, flags = 0 } = region;
    this.assertOpen();
    if (memory === undefined && this.ringFd < 0) {
      throw new UringError(EBADF, "io_uring_register", {
        hint:
          "IORING_REGISTER_MEM_REGION: the memory is mapped through the ring's descriptor, which it has not",
      });
    }
    const at = io_uring_mem_region_reg.size;
    const arg = new Argument(at + io_uring_region_desc.size);
    arg.setPointer(io_uring_mem_region_reg.region_uptr, at);
    arg.set64(io_uring_mem_region_reg.flags, flags);
    arg.set64(at + io_uring_region_desc.user_addr, memory?.address ?? 0);
    arg.set64(at + io_uring_region_desc.size_, memory?.byteLength ?? region.size ?? 0);
    arg.set32(at + io_uring_region_desc.flags, memory === undefined ? 0 : IORING_MEM_REGION_TYPE_USER);
    this.register(IORING_REGISTER_MEM_REGION, arg.bytes, 1, REGION_HINTS);
    if (memory !== undefined) return memory;
    const offset = arg.get64(at + io_uring_region_desc.mmap_offset);
    this.#region = Mapping.shared(region.size!, this.ringFd, offset);
    return this.#region;
  }

  /**
   * Registers waits for {@link RingRegisterWait.submitAndWaitReg}: a region with `IORING_MEM_REGION_REG_WAIT_ARG`, Linux
   * 6.13 (`io_uring_register_wait_reg` of old). The ring must have been made with `IORING_SETUP_R_DISABLED`, and not be
   * enabled yet.
   *
   * @param count How many; as many as fill the last page are added.
   */
  registerWaitReg(count: number): RegWaits {
    if (!Number.isInteger(count) || count < 1) throw new RangeError(`count must be at least 1, not ${count}`);
    const memory = Mapping.anonymous(Math.ceil((count + 1) * io_uring_reg_wait.size / PAGE) * PAGE);
    try {
      this.registerRegion({ memory, flags: IORING_MEM_REGION_REG_WAIT_ARG });
    } catch (error) {
      memory.unmap();
      throw error;
    }
    this.#region = memory;
    return new RegWaits(memory);
  }

  /**
   * Chooses the clock of the time limits of waits: `CLOCK_MONOTONIC`, as it is at first, or `CLOCK_BOOTTIME`, which goes on
   * while the machine sleeps. `io_uring_register_clock`, Linux 6.12.
   */
  registerClock(clockid: number): void {
    const arg = new Argument(io_uring_clock_register.size);
    arg.set32(io_uring_clock_register.clockid, clockid);
    this.register(IORING_REGISTER_CLOCK, arg.bytes, 0, {
      EINVAL: "the clock may be CLOCK_MONOTONIC or CLOCK_BOOTTIME",
    });
  }

  /**
   * Has waits poll the network devices that the ring's sockets receive from: `io_uring_register_napi`, Linux 6.9. Returns
   * how it was before.
   */
  registerNapi(options: NapiOptions): NapiSettings {
    const arg = napiArgument(options);
    this.register(IORING_REGISTER_NAPI, arg.bytes, 1, NAPI_HINTS);
    return napiSettings(arg);
  }

  /** Ends busy polling, and returns how it was: `io_uring_unregister_napi`, Linux 6.9. */
  unregisterNapi(): NapiSettings {
    const arg = napiArgument({});
    this.register(IORING_UNREGISTER_NAPI, arg.bytes, 1, NAPI_HINTS);
    return napiSettings(arg);
  }

  /** Unmaps what belongs to the ring. @internal */
  protected override retire(): void {
    super.retire();
    this.#region?.unmap();
    this.#region = null;
  }
}

function napiArgument(options: NapiOptions): Argument {
  const arg = new Argument(io_uring_napi.size);
  arg.set32(io_uring_napi.busy_poll_to, options.busyPollTo ?? 0);
  arg.view.setUint8(io_uring_napi.prefer_busy_poll, options.preferBusyPoll === true ? 1 : 0);
  arg.view.setUint8(io_uring_napi.opcode, options.opcode ?? IO_URING_NAPI_REGISTER_OP);
  arg.set32(io_uring_napi.op_param, options.opParam ?? IO_URING_NAPI_TRACKING_DYNAMIC);
  return arg;
}

function napiSettings(arg: Argument): NapiSettings {
  return {
    busyPollTo: arg.get32(io_uring_napi.busy_poll_to),
    preferBusyPoll: arg.view.getUint8(io_uring_napi.prefer_busy_poll) !== 0,
    tracking: arg.get32(io_uring_napi.op_param),
  };
}
