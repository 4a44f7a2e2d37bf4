/**
 * Advice to the kernel on how files and memory will be used.
 *
 * @module
 */
import {
  MADV_COLD,
  MADV_COLLAPSE,
  MADV_DODUMP,
  MADV_DOFORK,
  MADV_DONTDUMP,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_FREE,
  MADV_HUGEPAGE,
  MADV_KEEPONFORK,
  MADV_MERGEABLE,
  MADV_NOHUGEPAGE,
  MADV_NORMAL,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_RANDOM,
  MADV_REMOVE,
  MADV_SEQUENTIAL,
  MADV_UNMERGEABLE,
  MADV_WILLNEED,
  MADV_WIPEONFORK,
} from "../ffi/abi.ts";
import { CommandOperations } from "./command_ops.ts";
import { pageSize } from "../ffi/kernel.ts";
import { Mapping } from "../ffi/memory.ts";
import { addressOf } from "../ffi/pin.ts";
import type { U64 } from "../ring/sqe_base.ts";
import type { Fd } from "./direct.ts";
import { checkSize, checkU32, checkView, type OperationOptions } from "./options.ts";

/** Options of {@link AdviceOperations.madvise}. */
export interface MadviseOptions extends OperationOptions {
  /** Where the part begins that is meant, in bytes from the beginning of the memory; default 0. */
  offset?: number;
  /** How many bytes are meant; default: to the end of the memory. */
  length?: number;
}

/** Advice that leaves the content of memory as it is, for this process and for its children. */
const HINTS: ReadonlySet<number> = new Set([
  MADV_NORMAL,
  MADV_RANDOM,
  MADV_SEQUENTIAL,
  MADV_WILLNEED,
  MADV_COLD,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_MERGEABLE,
  MADV_UNMERGEABLE,
  MADV_HUGEPAGE,
  MADV_NOHUGEPAGE,
  MADV_COLLAPSE,
  MADV_DONTDUMP,
  MADV_DODUMP,
]);

/** Advice that has pages lose their content, or a child not have them: for pages that belong to the caller alone. */
const DISCARDS: ReadonlySet<number> = new Set([
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_FREE,
  MADV_REMOVE,
  MADV_DONTFORK,
  MADV_DOFORK,
  MADV_WIPEONFORK,
  MADV_KEEPONFORK,
]);

const MOST_32 = 0xffff_ffff;

/** What is known of the memory that a `madvise` is about. */
interface Range {
  readonly address: number;
  readonly length: number;
}

/** Advice, each one entry of the submission queue. */
export abstract class AdviceOperations extends CommandOperations {
  /**
   * Says how a range of a file will be used (`POSIX_FADV_*`): `io_uring_prep_fadvise`, Linux 5.6.
   *
   * @param fd The file.
   * @param offset Where the range begins, in bytes.
   * @param length Its length in bytes; 0: to the end of the file. Beyond 4 GiB it takes Linux 6.11.
   * @param advice `POSIX_FADV_WILLNEED`, `POSIX_FADV_DONTNEED`…
   * @param options What every operation accepts.
   */
  fadvise(fd: Fd, offset: U64, length: U64, advice: number, options?: OperationOptions): Promise<void> {
    this.check(options);
    checkSize("offset", offset);
    checkSize("length", length);
    checkU32("advice", advice);
    const number = this.number(fd);
    const op = this.begin("fadvise");
    if (length > MOST_32) op.sqe!.prepFadvise64(number, offset, length, advice);
    else op.sqe!.prepFadvise(number, offset, Number(length), advice);
    this.markLateFd(op, fd);
    return this.promise(op, options);
  }

  /**
   * Says how memory will be used (`MADV_*`): `io_uring_prep_madvise`, Linux 5.6.
   *
   * On a view, it is about all pages that the view has a part of, and only advice that leaves their content alone will do.
   * What has pages lose their content (`MADV_DONTNEED`, `MADV_FREE`, `MADV_REMOVE`), or a child of the process not have
   * them, takes a {@link Mapping}, in which `offset` is a multiple of the page size. The kernel rounds the length up to whole
   * pages. Pages that are registered as buffers keep what they hold for the kernel.
   *
   * @throws RangeError for advice that would take the memory away or poison it, and for a part that is not in the memory.
   */
  madvise(memory: Mapping | ArrayBufferView, advice: number, options?: MadviseOptions): Promise<void> {
    this.check(options);
    const mapping = memory instanceof Mapping ? memory : null;
    if (mapping === null) checkView(memory);
    const discards = DISCARDS.has(advice);
    if (!discards && !HINTS.has(advice)) {
      throw new RangeError(`advice must be one of MADV_* that leave the memory usable, not ${advice}`);
    }
    if (discards && mapping === null) {
      throw new RangeError("This advice has pages lose what others may keep there: it takes a Mapping");
    }
    const { address, length } = rangeOf(memory, options);
    const op = this.begin("madvise");
    // Something else must not be mapped there by the time that the kernel comes to it.
    op.pins = mapping === null ? memory : new Uint8Array(mapping.buffer);
    if (length > MOST_32) op.sqe!.prepMadvise64(address, length, advice);
    else op.sqe!.prepMadvise(address, length, advice);
    return this.promise(op, options);
  }
}

/** Which addresses a caller means. */
function rangeOf(memory: Mapping | ArrayBufferView, options: MadviseOptions | undefined): Range {
  const most = memory.byteLength;
  const offset = options?.offset ?? 0;
  const length = options?.length ?? most - offset;
  const ok = Number.isInteger(offset) && Number.isInteger(length) && offset >= 0 && length >= 0 &&
    offset + length <= most;
  if (!ok) throw new RangeError(`${length} bytes at ${offset} are not in memory of ${most} bytes`);
  if (memory instanceof Mapping) {
    if (memory.buffer.byteLength === 0) throw new TypeError("The memory is unmapped");
    return { address: memory.address + offset, length };
  }
  const from = addressOf(memory) + offset;
  const page = pageSize();
  const first = from - from % page;
  return { address: first, length: length === 0 ? 0 : from + length - first };
}
