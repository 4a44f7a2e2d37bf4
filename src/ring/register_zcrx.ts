/**
 * The register calls for zero-copy receive: a network device puts what it receives right into memory of ours.
 *
 * @module
 */
import {
  IORING_REGISTER_ZCRX_CTRL,
  IORING_REGISTER_ZCRX_IFQ,
  IORING_ZCRX_AREA_DMABUF,
  ZCRX_CTRL_EXPORT,
  ZCRX_CTRL_FLUSH_RQ,
  ZCRX_REG_IMPORT,
} from "../ffi/abi.ts";
import { Mapping } from "../ffi/memory.ts";
import {
  io_uring_region_desc,
  io_uring_zcrx_area_reg,
  io_uring_zcrx_ifq_reg,
  io_uring_zcrx_offsets,
  io_uring_zcrx_rqe,
  zcrx_ctrl,
  zcrx_ctrl_export,
} from "../ffi/structs.ts";
import { Argument, type Hints } from "./register_base.ts";
import { RingRegisterLimits } from "./register_limits.ts";
import { ZcrxIfq } from "./zcrx.ts";

/** A device's receive queue, and the memory for what it receives: `struct io_uring_zcrx_ifq_reg`. */
export interface ZcrxIfqOptions {
  /** The network interface's index; with `ZCRX_REG_NODEV` it does not matter. */
  ifIdx?: number;
  /** The device's receive queue. */
  ifRxq?: number;
  /** Entries of the refill ring, by which buffers are given back; a power of two is best. */
  rqEntries: number;
  /** The memory that data is received into, whole pages; or part of a dma-buf (Linux 6.16), by its descriptor. */
  area: Mapping | { readonly dmabufFd: number; readonly offset: number; readonly length: number };
  /** `ZCRX_REG_NODEV` (Linux 6.19): no device; the kernel copies. Default: 0. */
  flags?: number;
  /** The size of the device's buffers (Linux 6.20), 0 for pages. */
  rxBufLen?: number;
}

const PAGE = 4096;
const IMPORT_KERNEL = "6.19";

const HINTS: Hints = {
  EPERM: "CAP_NET_ADMIN is needed",
  EINVAL:
    "the ring needs IORING_SETUP_DEFER_TASKRUN and IORING_SETUP_CQE32 or IORING_SETUP_CQE_MIXED, memory in whole pages, " +
    `and ZCRX_REG_NODEV and ZCRX_REG_IMPORT need Linux ${IMPORT_KERNEL}`,
  ENODEV: "there is no such network interface",
  ENOTSUP:
    "the network device lacks queues with header/data split and memory providers (ethtool -G IF tcp-data-split on), or " +
    "the kernel CONFIG_IO_URING_ZCRX",
  EEXIST: "the device's queue is in use",
  ENOMEM: "the memory counts against RLIMIT_MEMLOCK (ulimit -l)",
};

/** The register calls for zero-copy receive. */
export class RingRegisterZcrx extends RingRegisterLimits {
  readonly #refillRings: Mapping[] = [];

  /**
   * Registers a receive queue of a network device: `io_uring_register_ifq`, Linux 6.15. The ring needs
   * `IORING_SETUP_DEFER_TASKRUN` and big completions, the device header/data split and flow steering, the process
   * `CAP_NET_ADMIN`. The area must stay mapped as long as the ring is open.
   */
  registerIfq(options: ZcrxIfqOptions): ZcrxIfq {
    const { area, rqEntries, flags = 0 } = options;
    const refill = Mapping.anonymous(
      Math.ceil((PAGE + rqEntries * io_uring_zcrx_rqe.size) / PAGE) * PAGE,
    );
    const areaAt = io_uring_zcrx_ifq_reg.size;
    const regionAt = areaAt + io_uring_zcrx_area_reg.size;
    const arg = new Argument(regionAt + io_uring_region_desc.size);
    arg.set32(io_uring_zcrx_ifq_reg.if_idx, options.ifIdx ?? 0);
    arg.set32(io_uring_zcrx_ifq_reg.if_rxq, options.ifRxq ?? 0);
    arg.set32(io_uring_zcrx_ifq_reg.rq_entries, rqEntries);
    arg.set32(io_uring_zcrx_ifq_reg.flags, flags);
    arg.set32(io_uring_zcrx_ifq_reg.rx_buf_len, options.rxBufLen ?? 0);
    arg.setPointer(io_uring_zcrx_ifq_reg.area_ptr, areaAt);
    arg.setPointer(io_uring_zcrx_ifq_reg.region_ptr, regionAt);
    writeArea(arg, areaAt, area);
    arg.set64(regionAt + io_uring_region_desc.user_addr, refill.address);
    arg.set64(regionAt + io_uring_region_desc.size_, refill.byteLength);
    arg.set32(regionAt + io_uring_region_desc.flags, 1);
    try {
      this.register(IORING_REGISTER_ZCRX_IFQ, arg.bytes, 1, HINTS);
    } catch (error) {
      refill.unmap();
      throw error;
    }
    this.#refillRings.push(refill);
    const offsets = io_uring_zcrx_ifq_reg.offsets;
    return new ZcrxIfq({
      id: arg.get32(io_uring_zcrx_ifq_reg.zcrx_id),
      rqEntries: arg.get32(io_uring_zcrx_ifq_reg.rq_entries),
      areaToken: arg.view.getBigUint64(areaAt + io_uring_zcrx_area_reg.rq_area_token, true),
      rxBufLen: arg.get32(io_uring_zcrx_ifq_reg.rx_buf_len),
      refill,
      head: arg.get32(offsets + io_uring_zcrx_offsets.head),
      tail: arg.get32(offsets + io_uring_zcrx_offsets.tail),
      rqes: arg.get32(offsets + io_uring_zcrx_offsets.rqes),
    });
  }

  /**
   * Registers what another ring has exported by {@link RingRegisterZcrx.zcrxExport}: `io_uring_register_ifq` with
   * `ZCRX_REG_IMPORT`, Linux 6.19. Returns the id for `IORING_OP_RECV_ZC`. Buffers are given back through the refill ring
   * of the one that has exported it.
   */
  importIfq(zcrxFd: number): number {
    const arg = new Argument(io_uring_zcrx_ifq_reg.size);
    arg.set32(io_uring_zcrx_ifq_reg.if_idx, zcrxFd);
    arg.set32(io_uring_zcrx_ifq_reg.flags, ZCRX_REG_IMPORT);
    this.register(IORING_REGISTER_ZCRX_IFQ, arg.bytes, 1, { ...HINTS, EBADF: "not an exported queue" });
    return arg.get32(io_uring_zcrx_ifq_reg.zcrx_id);
  }

  /**
   * `io_uring_register_zcrx_ctrl`, Linux 6.19.
   *
   * @param zcrxId The queue's id.
   * @param op `ZCRX_CTRL_*`.
   * @returns The descriptor with `ZCRX_CTRL_EXPORT`, otherwise 0.
   */
  registerZcrxCtrl(zcrxId: number, op: number): number {
    const arg = new Argument(zcrx_ctrl.size);
    arg.set32(zcrx_ctrl.zcrx_id, zcrxId);
    arg.set32(zcrx_ctrl.op, op);
    this.register(IORING_REGISTER_ZCRX_CTRL, arg.bytes, 0, { ENXIO: "the ring has no such queue" });
    if (op !== ZCRX_CTRL_EXPORT) return 0;
    return arg.view.getInt32(zcrx_ctrl.zc_export + zcrx_ctrl_export.zcrx_fd, true);
  }

  /** Has the kernel take all buffers out of the refill ring now: `ZCRX_CTRL_FLUSH_RQ`, Linux 6.19. */
  zcrxFlush(zcrxId: number): void {
    this.registerZcrxCtrl(zcrxId, ZCRX_CTRL_FLUSH_RQ);
  }

  /** Makes a descriptor that gives another ring the same queue: `ZCRX_CTRL_EXPORT`, Linux 6.19. The caller closes it. */
  zcrxExport(zcrxId: number): number {
    return this.registerZcrxCtrl(zcrxId, ZCRX_CTRL_EXPORT);
  }

  /** Unmaps what belongs to the ring. @internal */
  protected override retire(): void {
    super.retire();
    for (const refill of this.#refillRings.splice(0)) refill.unmap();
  }
}

function writeArea(arg: Argument, at: number, area: ZcrxIfqOptions["area"]): void {
  if (!("dmabufFd" in area)) {
    arg.set64(at + io_uring_zcrx_area_reg.addr, area.address);
    arg.set64(at + io_uring_zcrx_area_reg.len, area.byteLength);
    return;
  }
  arg.set64(at + io_uring_zcrx_area_reg.addr, area.offset);
  arg.set64(at + io_uring_zcrx_area_reg.len, area.length);
  arg.set32(at + io_uring_zcrx_area_reg.flags, IORING_ZCRX_AREA_DMABUF);
  arg.set32(at + io_uring_zcrx_area_reg.dmabuf_fd, area.dmabufFd);
}
