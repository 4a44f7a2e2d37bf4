/**
 * `io_uring_register`: files, buffers, eventfds and the rest that a ring holds on to.
 *
 * @module
 */
import {
  IORING_ENTER_REGISTERED_RING,
  IORING_REGISTER_BUFFERS,
  IORING_REGISTER_ENABLE_RINGS,
  IORING_REGISTER_EVENTFD,
  IORING_REGISTER_EVENTFD_ASYNC,
  IORING_REGISTER_FILE_ALLOC_RANGE,
  IORING_REGISTER_FILES,
  IORING_REGISTER_FILES2,
  IORING_REGISTER_FILES_UPDATE,
  IORING_REGISTER_IOWQ_MAX_WORKERS,
  IORING_REGISTER_RING_FDS,
  IORING_REGISTER_SYNC_CANCEL,
  IORING_REGISTER_USE_REGISTERED_RING,
  IORING_RSRC_REGISTER_SPARSE,
  IORING_UNREGISTER_BUFFERS,
  IORING_UNREGISTER_EVENTFD,
  IORING_UNREGISTER_FILES,
  IORING_UNREGISTER_RING_FDS,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { kernelHas } from "../ffi/kernel.ts";
import { addressOf } from "../ffi/pin.ts";
import {
  io_uring_file_index_range,
  io_uring_files_update,
  io_uring_rsrc_register,
  io_uring_rsrc_update,
  io_uring_sync_cancel_reg,
  iovec,
} from "../ffi/structs.ts";
import { system } from "../ffi/system.ts";
import { REGISTER_KERNEL, REGISTER_NAME } from "../ffi/versions.ts";
import { RingQueues, type Timespec } from "./queues.ts";
import type { U64 } from "./sqe_base.ts";

/** A piece of memory by address, or a view of it (whose buffer must then stay alive while registered). */
export type Memory = ArrayBufferView | { readonly address: number; readonly length: number };

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

const EINVAL = -22;

function struct(size: number): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(new ArrayBuffer(size));
  return { bytes, view: new DataView(bytes.buffer) };
}

/** The register calls of a ring. */
export class RingRegister extends RingQueues {
  // Registered views: the kernel has their pages, JavaScript must not give the memory to something else.
  #buffers: readonly Memory[] = [];

  /**
   * `io_uring_register` itself, for what has no method here.
   *
   * @param opcode An `IORING_REGISTER_*` or `IORING_UNREGISTER_*`.
   * @param arg Its argument as bytes, or null.
   * @param count Its count.
   */
  register(opcode: number, arg: Uint8Array | Int32Array | null, count: number): number {
    this.assertOpen();
    const viaIndex = this.ringFd < 0 ? IORING_REGISTER_USE_REGISTERED_RING : 0;
    const fd = this.ringFd < 0 ? this.enterFd : this.ringFd;
    const result = system().register(fd, (opcode | viaIndex) >>> 0, arg, count);
    if (result >= 0) return result;
    const name = REGISTER_NAME[opcode] ?? `IORING_REGISTER_${opcode}`;
    const since = REGISTER_KERNEL[opcode];
    const lacking = result === EINVAL && since !== undefined && !kernelHas(since);
    throw new UringError(result, "io_uring_register", {
      hint: lacking ? `${name} needs Linux ${since}` : name,
    });
  }

  /**
   * Registers the ring's own descriptor, which makes every enter cheaper: `io_uring_register_ring_fd`, Linux 5.18.
   * Returns false when it was registered before.
   */
  registerRingFd(): boolean {
    if ((this.enterFlags & IORING_ENTER_REGISTERED_RING) !== 0) return false;
    const { bytes, view } = struct(io_uring_rsrc_update.size);
    view.setUint32(io_uring_rsrc_update.offset, 0xffff_ffff, true);
    view.setBigUint64(io_uring_rsrc_update.data, BigInt(this.ringFd), true);
    this.register(IORING_REGISTER_RING_FDS, bytes, 1);
    this.enterFd = view.getUint32(io_uring_rsrc_update.offset, true);
    this.enterFlags |= IORING_ENTER_REGISTERED_RING;
    return true;
  }

  /**
   * Takes the registration of the ring's descriptor back: `io_uring_unregister_ring_fd`, Linux 5.18. A ring made with
   * `IORING_SETUP_REGISTERED_FD_ONLY` is closed by that.
   */
  unregisterRingFd(): void {
    if ((this.enterFlags & IORING_ENTER_REGISTERED_RING) === 0) return;
    const { bytes, view } = struct(io_uring_rsrc_update.size);
    view.setUint32(io_uring_rsrc_update.offset, this.enterFd, true);
    this.register(IORING_UNREGISTER_RING_FDS, bytes, 1);
    this.enterFd = this.ringFd;
    this.enterFlags &= ~IORING_ENTER_REGISTERED_RING;
  }

  /** Starts a ring made with `IORING_SETUP_R_DISABLED`: `io_uring_enable_rings`, Linux 5.10. */
  enableRings(): void {
    this.register(IORING_REGISTER_ENABLE_RINGS, null, 0);
  }

  /** Registers memory for the fixed reads and writes: `io_uring_register_buffers`, Linux 5.1. */
  registerBuffers(buffers: readonly Memory[]): void {
    const { bytes, view } = struct(iovec.size * buffers.length);
    buffers.forEach((buffer, i) => {
      const isView = ArrayBuffer.isView(buffer);
      const address = isView ? addressOf(buffer) : buffer.address;
      view.setBigUint64(i * iovec.size + iovec.iov_base, BigInt(address), true);
      view.setBigUint64(
        i * iovec.size + iovec.iov_len,
        BigInt(isView ? buffer.byteLength : buffer.length),
        true,
      );
    });
    this.register(IORING_REGISTER_BUFFERS, bytes, buffers.length);
    this.#buffers = [...buffers];
  }

  /** Takes all registered buffers back: `io_uring_unregister_buffers`, Linux 5.1. */
  unregisterBuffers(): void {
    this.register(IORING_UNREGISTER_BUFFERS, null, 0);
    this.#buffers = [];
  }

  /** How many buffers are registered. */
  get registeredBuffers(): number {
    return this.#buffers.length;
  }

  /** Registers descriptors (−1 leaves a slot empty), to be named by index with `IOSQE_FIXED_FILE`: Linux 5.1. */
  registerFiles(fds: ArrayLike<number>): void {
    this.register(IORING_REGISTER_FILES, Int32Array.from(fds), fds.length);
  }

  /** Registers a table of `count` empty slots: `io_uring_register_files_sparse`, Linux 5.19. */
  registerFilesSparse(count: number): void {
    const { bytes, view } = struct(io_uring_rsrc_register.size);
    view.setUint32(io_uring_rsrc_register.nr, count, true);
    view.setUint32(io_uring_rsrc_register.flags, IORING_RSRC_REGISTER_SPARSE, true);
    this.register(IORING_REGISTER_FILES2, bytes, bytes.length);
  }

  /** Replaces slots from `offset` on (−1 empties one): `io_uring_register_files_update`, Linux 5.5. Returns how many. */
  registerFilesUpdate(offset: number, fds: ArrayLike<number>): number {
    const list = Int32Array.from(fds);
    const { bytes, view } = struct(io_uring_files_update.size);
    view.setUint32(io_uring_files_update.offset, offset, true);
    view.setBigUint64(io_uring_files_update.fds, BigInt(addressOf(list)), true);
    const count = this.register(IORING_REGISTER_FILES_UPDATE, bytes, list.length);
    // Reading it after the call keeps the list alive through it: only its address was passed.
    return list.length === 0 ? 0 : count;
  }

  /** Empties and frees the table of registered files: `io_uring_unregister_files`, Linux 5.1. */
  unregisterFiles(): void {
    this.register(IORING_UNREGISTER_FILES, null, 0);
  }

  /** Limits the slots that `IORING_FILE_INDEX_ALLOC` picks from: `io_uring_register_file_alloc_range`, Linux 6.0. */
  registerFileAllocRange(offset: number, length: number): void {
    const { bytes, view } = struct(io_uring_file_index_range.size);
    view.setUint32(io_uring_file_index_range.off, offset, true);
    view.setUint32(io_uring_file_index_range.len, length, true);
    this.register(IORING_REGISTER_FILE_ALLOC_RANGE, bytes, 0);
  }

  /** Has every completion signal an eventfd: `io_uring_register_eventfd`, Linux 5.2. */
  registerEventfd(fd: number): void {
    this.register(IORING_REGISTER_EVENTFD, Int32Array.of(fd), 1);
  }

  /** The same for completions that do not happen inside submit only: `io_uring_register_eventfd_async`, Linux 5.6. */
  registerEventfdAsync(fd: number): void {
    this.register(IORING_REGISTER_EVENTFD_ASYNC, Int32Array.of(fd), 1);
  }

  /** Stops signalling: `io_uring_unregister_eventfd`, Linux 5.2. */
  unregisterEventfd(): void {
    this.register(IORING_UNREGISTER_EVENTFD, null, 0);
  }

  /**
   * Limits the worker threads for files and devices (`bounded`) and for all else; 0 leaves a limit as it is. Returns
   * the limits before: `io_uring_register_iowq_max_workers`, Linux 5.15.
   */
  registerIowqMaxWorkers(bounded: number, unbounded: number): readonly [bounded: number, unbounded: number] {
    const limits = Int32Array.of(bounded, unbounded);
    this.register(IORING_REGISTER_IOWQ_MAX_WORKERS, limits, 2);
    return [limits[0]!, limits[1]!];
  }

  /**
   * Cancels and waits for the end of what was cancelled: `io_uring_register_sync_cancel`, Linux 6.0. Returns the count
   * with `IORING_ASYNC_CANCEL_ALL`, otherwise 0; throws `ENOENT` when nothing matches and `ETIME` when it took too long.
   */
  registerSyncCancel(options: SyncCancelOptions): number {
    const { bytes, view } = struct(io_uring_sync_cancel_reg.size);
    view.setBigUint64(io_uring_sync_cancel_reg.addr, BigInt.asUintN(64, BigInt(options.userData ?? 0)), true);
    view.setInt32(io_uring_sync_cancel_reg.fd, options.fd ?? -1, true);
    view.setUint32(io_uring_sync_cancel_reg.flags, options.flags ?? 0, true);
    view.setBigInt64(io_uring_sync_cancel_reg.timeout, BigInt(options.timeout?.sec ?? -1), true);
    view.setBigInt64(io_uring_sync_cancel_reg.timeout + 8, BigInt(options.timeout?.nsec ?? -1), true);
    view.setUint8(io_uring_sync_cancel_reg.opcode, options.opcode ?? 0);
    return this.register(IORING_REGISTER_SYNC_CANCEL, bytes, 1);
  }
}
