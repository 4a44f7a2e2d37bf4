/**
 * Registered files: a table of open files that operations name by index (`IOSQE_FIXED_FILE`).
 *
 * @module
 */
import {
  IORING_REGISTER_FILE_ALLOC_RANGE,
  IORING_REGISTER_FILES,
  IORING_REGISTER_FILES2,
  IORING_REGISTER_FILES_UPDATE,
  IORING_REGISTER_FILES_UPDATE2,
  IORING_RSRC_REGISTER_SPARSE,
  IORING_UNREGISTER_FILES,
} from "../ffi/abi.ts";
import {
  io_uring_file_index_range,
  io_uring_files_update,
  io_uring_rsrc_register,
  io_uring_rsrc_update2,
} from "../ffi/structs.ts";
import { Argument, flagHints, type Hints, RingRegisterBase } from "./register_base.ts";
import type { U64 } from "./sqe_base.ts";

const INT = 4;
const TAG = 8;

const HINTS: Hints = {
  EBUSY: "files are registered already",
  EMFILE: "more files than RLIMIT_NOFILE allows (ulimit -n)",
  ENXIO: "no files are registered",
};

/** The register calls for files. */
export class RingRegisterFiles extends RingRegisterBase {
  /**
   * Registers descriptors (−1 leaves a slot empty), to be named by index with `IOSQE_FIXED_FILE`:
   * `io_uring_register_files`, Linux 5.1.
   */
  registerFiles(fds: ArrayLike<number>): void {
    this.register(IORING_REGISTER_FILES, Int32Array.from(fds), fds.length, HINTS);
  }

  /**
   * {@link RingRegisterFiles.registerFiles} with a tag per slot: `io_uring_register_files_tags`, Linux 5.13. When a slot
   * that has a tag other than 0 was emptied, replaced or unregistered, and no operation uses its file any more, a completion
   * comes with the tag as its `user_data`.
   *
   * @param fds The descriptors.
   * @param tags As many tags, or fewer: the rest are 0.
   */
  registerFilesTags(fds: ArrayLike<number>, tags: ArrayLike<U64>): void {
    const { size } = io_uring_rsrc_register;
    const arg = withFilesAndTags(size, fds, tags);
    arg.set32(io_uring_rsrc_register.nr, fds.length);
    arg.setPointer(io_uring_rsrc_register.data, filesAt(size));
    arg.setPointer(io_uring_rsrc_register.tags, tagsAt(size, fds.length));
    this.register(IORING_REGISTER_FILES2, arg.bytes, size, HINTS);
  }

  /** Registers a table of `count` empty slots: `io_uring_register_files_sparse`, Linux 5.19. */
  registerFilesSparse(count: number): void {
    const arg = new Argument(io_uring_rsrc_register.size);
    arg.set32(io_uring_rsrc_register.nr, count);
    arg.set32(io_uring_rsrc_register.flags, IORING_RSRC_REGISTER_SPARSE);
    const hints = flagHints("IORING_RSRC_REGISTER_SPARSE", "5.19");
    this.register(IORING_REGISTER_FILES2, arg.bytes, arg.bytes.length, { ...HINTS, ...hints });
  }

  /**
   * Replaces slots from `offset` on: `io_uring_register_files_update`, Linux 5.5. −1 empties a slot,
   * `IORING_REGISTER_FILES_SKIP` leaves it as it is. Returns how many were done.
   */
  registerFilesUpdate(offset: number, fds: ArrayLike<number>): number {
    const { size } = io_uring_files_update;
    const arg = withFilesAndTags(size, fds, []);
    arg.set32(io_uring_files_update.offset, offset);
    arg.setPointer(io_uring_files_update.fds, filesAt(size));
    return this.register(IORING_REGISTER_FILES_UPDATE, arg.bytes, fds.length, HINTS);
  }

  /**
   * {@link RingRegisterFiles.registerFilesUpdate} with a tag for each file that is put in:
   * `io_uring_register_files_update_tag`, Linux 5.13. Returns how many slots were done.
   *
   * @param offset The first slot.
   * @param fds The descriptors, −1 or `IORING_REGISTER_FILES_SKIP`. The latter two have no tag.
   * @param tags As many tags, or fewer: the rest are 0. See {@link RingRegisterFiles.registerFilesTags}.
   */
  registerFilesUpdateTag(offset: number, fds: ArrayLike<number>, tags: ArrayLike<U64>): number {
    const { size } = io_uring_rsrc_update2;
    const arg = withFilesAndTags(size, fds, tags);
    arg.set32(io_uring_rsrc_update2.offset, offset);
    arg.set32(io_uring_rsrc_update2.nr, fds.length);
    arg.setPointer(io_uring_rsrc_update2.data, filesAt(size));
    arg.setPointer(io_uring_rsrc_update2.tags, tagsAt(size, fds.length));
    return this.register(IORING_REGISTER_FILES_UPDATE2, arg.bytes, size, HINTS);
  }

  /** Empties and frees the table of registered files: `io_uring_unregister_files`, Linux 5.1. */
  unregisterFiles(): void {
    this.register(IORING_UNREGISTER_FILES, null, 0, HINTS);
  }

  /** Limits the slots that `IORING_FILE_INDEX_ALLOC` picks from: `io_uring_register_file_alloc_range`, Linux 6.0. */
  registerFileAllocRange(offset: number, length: number): void {
    const arg = new Argument(io_uring_file_index_range.size);
    arg.set32(io_uring_file_index_range.off, offset);
    arg.set32(io_uring_file_index_range.len, length);
    this.register(IORING_REGISTER_FILE_ALLOC_RANGE, arg.bytes, 0);
  }
}

function filesAt(size: number): number {
  return size;
}

function tagsAt(size: number, count: number): number {
  return size + Math.ceil(count * INT / TAG) * TAG;
}

/** A struct of `size` bytes, behind it the descriptors, behind these the tags. */
function withFilesAndTags(size: number, fds: ArrayLike<number>, tags: ArrayLike<U64>): Argument {
  if (tags.length > fds.length) throw new RangeError(`${tags.length} tags for ${fds.length} files`);
  const arg = new Argument(tagsAt(size, fds.length) + TAG * fds.length);
  for (let i = 0; i < fds.length; i++) arg.view.setInt32(filesAt(size) + INT * i, fds[i]!, true);
  const first = tagsAt(size, fds.length);
  for (let i = 0; i < tags.length; i++) arg.set64(first + TAG * i, tags[i]!);
  return arg;
}
