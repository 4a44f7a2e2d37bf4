/**
 * The register calls for rings of provided buffers.
 *
 * @module
 */
import {
  IORING_OFF_MMAP_MASK,
  IORING_OFF_PBUF_RING,
  IORING_OFF_PBUF_SHIFT,
  IORING_REGISTER_PBUF_RING,
  IORING_REGISTER_PBUF_STATUS,
  IORING_UNREGISTER_PBUF_RING,
  IOU_PBUF_RING_INC,
  IOU_PBUF_RING_MMAP,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { kernelHas } from "../ffi/kernel.ts";
import { Mapping } from "../ffi/memory.ts";
import { io_uring_buf, io_uring_buf_reg, io_uring_buf_status } from "../ffi/structs.ts";
import { BufRing } from "./buf_ring.ts";
import { Argument, type Hints } from "./register_base.ts";
import { RingRegisterBuffers } from "./register_buffers.ts";

/** How a ring of provided buffers is registered, beside its memory, its entries and its group. */
export interface BufRingOptions {
  /** `IOU_PBUF_RING_*`. */
  flags?: number;
  /**
   * With `IOU_PBUF_RING_INC`: a buffer with fewer bytes than this left is done with. Default: 1. Needs a kernel that knows
   * `min_left`.
   */
  minLeft?: number;
}

const EBADF = 9;
// As many as the offsets to map at can tell apart.
const MAPPED_GROUPS = (0x1_0000_0000 - IORING_OFF_MMAP_MASK) / 2 ** IORING_OFF_PBUF_SHIFT;
const PAGE = 4096;

function checkBufRing(entries: number, bgid: number, flags: number, known: number): void {
  if (!Number.isInteger(entries) || entries < 1 || entries > 32768 || (entries & (entries - 1)) !== 0) {
    throw new RangeError(`entries must be a power of two from 1 to 32768, not ${entries}`);
  }
  if (!Number.isInteger(bgid) || bgid < 0 || bgid > 0xffff) {
    throw new RangeError(`bgid must be 16 bits, not ${bgid}`);
  }
  if ((flags & ~known) !== 0) throw new RangeError(`Unknown buffer ring flags: ${flags}`);
}

function hintsFor(flags: number, minLeft: number): Hints {
  let lacking = minLeft === 0 ? "" : "minLeft needs IOU_PBUF_RING_INC, and a kernel that knows min_left";
  if ((flags & IOU_PBUF_RING_MMAP) !== 0 && !kernelHas("6.4")) lacking = "IOU_PBUF_RING_MMAP needs Linux 6.4";
  if ((flags & IOU_PBUF_RING_INC) !== 0 && !kernelHas("6.12")) lacking = "IOU_PBUF_RING_INC needs Linux 6.12";
  return { EEXIST: "the group has buffers already", ...(lacking === "" ? {} : { EINVAL: lacking }) };
}

/** The register calls for rings of provided buffers. */
export class RingRegisterBufRing extends RingRegisterBuffers {
  // By group: memory of ours goes with the ring.
  readonly #own = new Map<number, BufRing>();

  /**
   * Makes a ring of provided buffers: `io_uring_setup_buf_ring`, Linux 5.19.
   *
   * @param entries How many buffers it holds; a power of two, at most 32768.
   * @param bgid Its group, for `sqe.bufGroup`.
   * @param flags `IOU_PBUF_RING_INC` (Linux 6.12): buffers are used up bit by bit. `IOU_PBUF_RING_MMAP` (Linux 6.4): the
   * kernel allocates the memory, instead of pinning some of ours; the group must then be below 2048.
   */
  setupBufRing(entries: number, bgid: number, flags: number = 0): BufRing {
    checkBufRing(entries, bgid, flags, IOU_PBUF_RING_INC | IOU_PBUF_RING_MMAP);
    const ofKernel = (flags & IOU_PBUF_RING_MMAP) !== 0;
    const bufRing = ofKernel ? this.#setupMapped(entries, bgid, flags) : this.#setupOwn(entries, bgid, flags);
    this.#own.set(bgid, bufRing);
    return bufRing;
  }

  #setupOwn(entries: number, bgid: number, flags: number): BufRing {
    const memory = Mapping.anonymous(Math.max(PAGE, entries * io_uring_buf.size));
    try {
      return this.registerBufRing(memory, entries, bgid, { flags });
    } catch (error) {
      memory.unmap();
      throw error;
    }
  }

  #setupMapped(entries: number, bgid: number, flags: number): BufRing {
    this.assertOpen();
    if (bgid >= MAPPED_GROUPS) {
      throw new RangeError(`With IOU_PBUF_RING_MMAP bgid must be below ${MAPPED_GROUPS}, not ${bgid}`);
    }
    if (this.ringFd < 0) {
      throw new UringError(EBADF, "io_uring_register", {
        hint:
          "IORING_REGISTER_PBUF_RING: the memory is mapped through the ring's descriptor, which it has not",
      });
    }
    this.#registerBufRing(0, entries, bgid, { flags });
    try {
      const offset = IORING_OFF_PBUF_RING + bgid * 2 ** IORING_OFF_PBUF_SHIFT;
      const memory = Mapping.shared(entries * io_uring_buf.size, this.ringFd, offset);
      return new BufRing(memory, entries, bgid);
    } catch (error) {
      this.unregisterBufRing(bgid);
      throw error;
    }
  }

  /** Takes a ring of provided buffers back and unmaps it: `io_uring_free_buf_ring`. The buffers stay the caller's. */
  freeBufRing(bufRing: BufRing): void {
    this.unregisterBufRing(bufRing.bgid);
    bufRing.memory.unmap();
  }

  /**
   * Makes a ring of provided buffers in memory of the caller's: `io_uring_register_buf_ring`, Linux 5.19. The memory must
   * stay mapped until {@link RingRegisterBufRing.unregisterBufRing}, and must not be used otherwise.
   *
   * @param memory At least 16 bytes for each entry.
   * @param entries How many buffers it holds; a power of two, at most 32768.
   * @param bgid Its group, for `sqe.bufGroup`.
   * @param options Flags: `IOU_PBUF_RING_INC` (Linux 6.12).
   */
  registerBufRing(memory: Mapping, entries: number, bgid: number, options: BufRingOptions = {}): BufRing {
    checkBufRing(entries, bgid, options.flags ?? 0, IOU_PBUF_RING_INC);
    if (memory.byteLength < entries * io_uring_buf.size) {
      throw new RangeError(`${entries} entries need ${entries * io_uring_buf.size} bytes`);
    }
    // The kernel takes the tail for the program's from the start.
    const bufRing = new BufRing(memory, entries, bgid);
    this.#registerBufRing(memory.address, entries, bgid, options);
    return bufRing;
  }

  #registerBufRing(address: number, entries: number, bgid: number, options: BufRingOptions): void {
    const { flags = 0, minLeft = 0 } = options;
    const arg = new Argument(io_uring_buf_reg.size);
    arg.set64(io_uring_buf_reg.ring_addr, address);
    arg.set32(io_uring_buf_reg.ring_entries, entries);
    arg.view.setUint16(io_uring_buf_reg.bgid, bgid, true);
    arg.view.setUint16(io_uring_buf_reg.flags, flags, true);
    arg.set32(io_uring_buf_reg.min_left, minLeft);
    this.register(IORING_REGISTER_PBUF_RING, arg.bytes, 1, hintsFor(flags, minLeft));
  }

  /** Takes a ring of provided buffers back, whose memory stays: `io_uring_unregister_buf_ring`, Linux 5.19. */
  unregisterBufRing(bgid: number): void {
    const arg = new Argument(io_uring_buf_reg.size);
    arg.view.setUint16(io_uring_buf_reg.bgid, bgid, true);
    this.register(IORING_UNREGISTER_PBUF_RING, arg.bytes, 1, { ENOENT: "the group has no ring of buffers" });
    this.#own.delete(bgid);
  }

  /** How far the kernel has taken buffers out of a group's ring, 16 bits: `io_uring_buf_ring_head`, Linux 6.8. */
  bufRingHead(bgid: number): number {
    const arg = new Argument(io_uring_buf_status.size);
    arg.set32(io_uring_buf_status.buf_group, bgid);
    this.register(IORING_REGISTER_PBUF_STATUS, arg.bytes, 1, { ENOENT: "the group has no ring of buffers" });
    return arg.get32(io_uring_buf_status.head);
  }

  /** How many buffers the kernel has left in a ring of them: `io_uring_buf_ring_available`, Linux 6.8. */
  bufRingAvailable(bufRing: BufRing): number {
    return (bufRing.tail - this.bufRingHead(bufRing.bgid)) & 0xffff;
  }

  /** Unmaps what belongs to the ring. @internal */
  protected override retire(): void {
    super.retire();
    for (const bufRing of this.#own.values()) bufRing.memory.unmap();
    this.#own.clear();
  }
}
