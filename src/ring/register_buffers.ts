/**
 * Registered buffers: memory that the kernel has pinned, for the fixed reads and writes.
 *
 * @module
 */
import {
  IORING_FEAT_REG_REG_RING,
  IORING_REGISTER_BUFFERS,
  IORING_REGISTER_BUFFERS2,
  IORING_REGISTER_BUFFERS_UPDATE,
  IORING_REGISTER_CLONE_BUFFERS,
  IORING_REGISTER_SRC_REGISTERED,
  IORING_RSRC_REGISTER_SPARSE,
  IORING_UNREGISTER_BUFFERS,
} from "../ffi/abi.ts";
import { kernelHas } from "../ffi/kernel.ts";
import { addressOf } from "../ffi/pin.ts";
import {
  io_uring_clone_buffers,
  io_uring_rsrc_register,
  io_uring_rsrc_update2,
  iovec,
} from "../ffi/structs.ts";
import { Argument, flagHints, type Hints } from "./register_base.ts";
import { RingRegisterFiles } from "./register_files.ts";
import type { U64 } from "./sqe_base.ts";

/** A piece of memory by address, or a view of it (whose buffer must then stay alive while registered). */
export type Memory = ArrayBufferView | { readonly address: number; readonly length: number };

const TAG = 8;

const HINTS: Hints = {
  EBUSY: "buffers are registered already",
  ENOMEM: "the memory counts against RLIMIT_MEMLOCK (ulimit -l)",
  ENXIO: "no buffers are registered",
};

/** The register calls for buffers. */
export class RingRegisterBuffers extends RingRegisterFiles {
  // Registered views: the kernel has their pages, JavaScript must not give the memory to something else.
  #buffers: (Memory | null)[] = [];

  /** How many buffers, or slots for them, are registered. */
  get registeredBuffers(): number {
    return this.#buffers.length;
  }

  /** Registers memory for the fixed reads and writes (null leaves a slot empty): `io_uring_register_buffers`, Linux 5.1. */
  registerBuffers(buffers: readonly (Memory | null)[]): void {
    const arg = withVectorsAndTags(0, buffers, []);
    this.register(IORING_REGISTER_BUFFERS, arg.bytes, buffers.length, HINTS);
    this.#buffers = [...buffers];
  }

  /**
   * {@link RingRegisterBuffers.registerBuffers} with a tag per slot: `io_uring_register_buffers_tags`, Linux 5.13. When a
   * buffer that has a tag other than 0 was replaced or unregistered, and no operation uses it any more, a completion comes
   * with the tag as its `user_data`: until then the memory must stay.
   *
   * @param buffers The buffers.
   * @param tags As many tags, or fewer: the rest are 0. An empty slot has none.
   */
  registerBuffersTags(buffers: readonly (Memory | null)[], tags: ArrayLike<U64>): void {
    const { size } = io_uring_rsrc_register;
    const arg = withVectorsAndTags(size, buffers, tags);
    arg.set32(io_uring_rsrc_register.nr, buffers.length);
    arg.setPointer(io_uring_rsrc_register.data, size);
    arg.setPointer(io_uring_rsrc_register.tags, size + iovec.size * buffers.length);
    this.register(IORING_REGISTER_BUFFERS2, arg.bytes, size, HINTS);
    this.#buffers = [...buffers];
  }

  /** Registers a table of `count` empty slots: `io_uring_register_buffers_sparse`, Linux 5.19. */
  registerBuffersSparse(count: number): void {
    const arg = new Argument(io_uring_rsrc_register.size);
    arg.set32(io_uring_rsrc_register.nr, count);
    arg.set32(io_uring_rsrc_register.flags, IORING_RSRC_REGISTER_SPARSE);
    const hints = flagHints("IORING_RSRC_REGISTER_SPARSE", "5.19");
    this.register(IORING_REGISTER_BUFFERS2, arg.bytes, arg.bytes.length, { ...HINTS, ...hints });
    this.#buffers = new Array<null>(count).fill(null);
  }

  /**
   * Replaces buffers from slot `offset` on (null empties one): `io_uring_register_buffers_update_tag`, Linux 5.13. Returns
   * how many were done. The memory of a replaced buffer must stay until no operation uses it any more, which its tag tells.
   *
   * @param offset The first slot.
   * @param buffers The buffers.
   * @param tags As many tags, or fewer: the rest are 0. See {@link RingRegisterBuffers.registerBuffersTags}.
   */
  registerBuffersUpdateTag(
    offset: number,
    buffers: readonly (Memory | null)[],
    tags: ArrayLike<U64>,
  ): number {
    const { size } = io_uring_rsrc_update2;
    const arg = withVectorsAndTags(size, buffers, tags);
    arg.set32(io_uring_rsrc_update2.offset, offset);
    arg.set32(io_uring_rsrc_update2.nr, buffers.length);
    arg.setPointer(io_uring_rsrc_update2.data, size);
    arg.setPointer(io_uring_rsrc_update2.tags, size + iovec.size * buffers.length);
    const done = this.register(IORING_REGISTER_BUFFERS_UPDATE, arg.bytes, size, HINTS);
    this.#buffers.splice(offset, done, ...buffers.slice(0, done));
    return done;
  }

  /** Takes all registered buffers back: `io_uring_unregister_buffers`, Linux 5.1. */
  unregisterBuffers(): void {
    this.register(IORING_UNREGISTER_BUFFERS, null, 0, HINTS);
    this.#buffers = [];
  }

  /**
   * Registers all buffers of another ring here, which has none: `io_uring_clone_buffers`, Linux 6.12. They are the same
   * memory, pinned once, and stay when the other ring goes.
   *
   * @param source The ring that has them.
   * @param flags `IORING_REGISTER_SRC_REGISTERED`: name it by its registered descriptor, where it has one.
   * `IORING_REGISTER_DST_REPLACE` (Linux 6.13): replace what this ring has.
   */
  cloneBuffers(source: RingRegisterBuffers, flags: number = IORING_REGISTER_SRC_REGISTERED): void {
    this.cloneBuffersOffset(source, 0, 0, 0, flags);
  }

  /**
   * Registers some buffers of another ring here: `io_uring_clone_buffers_offset`, Linux 6.13. The table grows as needed;
   * slots that nothing was put into are empty. The other ring may be this one.
   *
   * @param source The ring that has them.
   * @param dstOff The first slot here.
   * @param srcOff The first slot there.
   * @param nr How many; 0 for all.
   * @param flags As in {@link RingRegisterBuffers.cloneBuffers}.
   */
  cloneBuffersOffset(
    source: RingRegisterBuffers,
    dstOff: number,
    srcOff: number,
    nr: number,
    flags: number = IORING_REGISTER_SRC_REGISTERED,
  ): void {
    source.assertOpen();
    const byIndex = source.ringFd < 0 ||
      ((flags & IORING_REGISTER_SRC_REGISTERED) !== 0 && source.enterFd !== source.ringFd &&
        (source.features & IORING_FEAT_REG_REG_RING) !== 0);
    const rest = flags & ~IORING_REGISTER_SRC_REGISTERED;
    const arg = new Argument(io_uring_clone_buffers.size);
    arg.set32(io_uring_clone_buffers.src_fd, byIndex ? source.enterFd : source.ringFd);
    arg.set32(io_uring_clone_buffers.flags, byIndex ? rest | IORING_REGISTER_SRC_REGISTERED : rest);
    arg.set32(io_uring_clone_buffers.src_off, srcOff);
    arg.set32(io_uring_clone_buffers.dst_off, dstOff);
    arg.set32(io_uring_clone_buffers.nr, nr);
    const plain = dstOff === 0 && srcOff === 0 && nr === 0 && rest === 0;
    const hints = plain || kernelHas("6.13") ? CLONE_HINTS : { ...CLONE_HINTS, EINVAL: CLONE_PARTS };
    this.register(IORING_REGISTER_CLONE_BUFFERS, arg.bytes, 1, hints);
    this.#take(source.#buffers.slice(srcOff, nr === 0 ? undefined : srcOff + nr), dstOff);
  }

  #take(buffers: readonly (Memory | null)[], offset: number): void {
    while (this.#buffers.length < offset) this.#buffers.push(null);
    this.#buffers.splice(offset, buffers.length, ...buffers);
  }
}

const CLONE_PARTS = "offsets, counts and IORING_REGISTER_DST_REPLACE need Linux 6.13";
const CLONE_HINTS: Hints = {
  EBUSY: "buffers are registered already, which IORING_REGISTER_DST_REPLACE replaces",
  ENXIO: "the other ring has no buffers",
};

/** A struct of `size` bytes, behind it the buffers as `struct iovec`, behind these the tags. */
function withVectorsAndTags(
  size: number,
  buffers: readonly (Memory | null)[],
  tags: ArrayLike<U64>,
): Argument {
  if (tags.length > buffers.length) throw new RangeError(`${tags.length} tags for ${buffers.length} buffers`);
  const arg = new Argument(size + (iovec.size + TAG) * buffers.length);
  buffers.forEach((buffer, i) => {
    if (buffer === null) return;
    const isView = ArrayBuffer.isView(buffer);
    const at = size + i * iovec.size;
    arg.set64(at + iovec.iov_base, isView ? addressOf(buffer) : buffer.address);
    arg.set64(at + iovec.iov_len, isView ? buffer.byteLength : buffer.length);
  });
  const first = size + iovec.size * buffers.length;
  for (let i = 0; i < tags.length; i++) arg.set64(first + TAG * i, tags[i]!);
  return arg;
}
