/**
 * Reads and writes with protection information.
 *
 * @module
 */
import {
  IO_INTEGRITY_CHK_APPTAG,
  IO_INTEGRITY_CHK_GUARD,
  IO_INTEGRITY_CHK_REFTAG,
  IORING_RW_ATTR_FLAG_PI,
} from "../ffi/abi.ts";
import { pinned } from "../ffi/pin.ts";
import { io_uring_attr_pi } from "../ffi/structs.ts";
import type { U64 } from "../ring/sqe_base.ts";
import type { Fd } from "./direct.ts";
import { DirectOperations } from "./direct_ops.ts";
import { checkLength, checkOffset, checkU32, checkView, type TransferOptions } from "./options.ts";

/** The protection information that goes with the blocks of a transfer: `struct io_uring_attr_pi`. */
export interface Integrity {
  /** The blocks' metadata, one tuple per block, in the format of the device: written from, or read into. */
  metadata: ArrayBufferView;
  /** What is checked: `IO_INTEGRITY_CHK_GUARD`, `IO_INTEGRITY_CHK_REFTAG`, `IO_INTEGRITY_CHK_APPTAG`; default 0. */
  flags?: number;
  /** The application tag that every tuple is to have, 16 bits; default 0. */
  appTag?: number;
  /** The reference tag of the first block; default 0. */
  seed?: U64;
}

const CHECKS = IO_INTEGRITY_CHK_GUARD | IO_INTEGRITY_CHK_REFTAG | IO_INTEGRITY_CHK_APPTAG;
const MOST_U64 = 2n ** 64n - 1n;

/** Reads and writes with protection information, each one entry of the submission queue. */
export abstract class IntegrityOperations extends DirectOperations {
  /**
   * Reads blocks with their protection information, from a block device that keeps such (opened with `O_DIRECT`). What the
   * device finds wrong gives `EILSEQ`; a file without it, `EINVAL`. liburing: `io_uring_prep_read` with
   * `IORING_RW_ATTR_FLAG_PI`, Linux 6.14.
   */
  readIntegrity(
    fd: Fd,
    buffer: ArrayBufferView,
    integrity: Integrity,
    options?: TransferOptions,
  ): Promise<number> {
    return this.#transfer("read_integrity", fd, buffer, integrity, options);
  }

  /**
   * Writes blocks with their protection information, to a block device that keeps such (opened with `O_DIRECT`). What the
   * device finds wrong gives `EILSEQ`; a file without it, `EINVAL`. liburing: `io_uring_prep_write` with
   * `IORING_RW_ATTR_FLAG_PI`, Linux 6.14.
   */
  writeIntegrity(
    fd: Fd,
    buffer: ArrayBufferView,
    integrity: Integrity,
    options?: TransferOptions,
  ): Promise<number> {
    return this.#transfer("write_integrity", fd, buffer, integrity, options);
  }

  #transfer(
    name: "read_integrity" | "write_integrity",
    fd: Fd,
    buffer: ArrayBufferView,
    integrity: Integrity,
    options: TransferOptions | undefined,
  ): Promise<number> {
    checkView(buffer);
    this.check(options);
    const offset = checkOffset(options?.offset);
    const length = checkLength(buffer, options?.length);
    const number = this.number(fd);
    const attributes = encode(integrity, (metadata) => this.both(metadata));
    const attributesAt = this.from(attributes);
    const address = name === "read_integrity" ? this.into(buffer, length) : this.from(buffer, length);
    const op = this.begin(name);
    op.view = buffer;
    op.pins = [attributes, integrity.metadata];
    if (name === "read_integrity") op.sqe!.prepRead(number, address, length, offset);
    else op.sqe!.prepWrite(number, address, length, offset);
    op.sqe!.addr3 = attributesAt;
    op.sqe!.attrTypeMask = IORING_RW_ATTR_FLAG_PI;
    this.markFd(op, fd);
    return this.promise(op, options);
  }
}

/** A `struct io_uring_attr_pi`; `find` tells where the metadata is. */
function encode(integrity: Integrity, find: (metadata: ArrayBufferView) => number): Uint8Array {
  if (typeof integrity !== "object" || integrity === null) throw new TypeError("integrity must be an object");
  const { metadata, flags = 0, appTag = 0, seed = 0 } = integrity;
  checkView(metadata);
  if (!Number.isInteger(flags) || (flags & ~CHECKS) !== 0) {
    throw new RangeError(`flags must be IO_INTEGRITY_CHK_ bits, not ${flags}`);
  }
  if (checkU32("appTag", appTag) > 0xffff) throw new RangeError(`appTag must be 16 bits, not ${appTag}`);
  const start = typeof seed === "bigint" || Number.isSafeInteger(seed) ? BigInt(seed) : -1n;
  if (start < 0n || start > MOST_U64) throw new RangeError(`seed must be 64 bits, not ${seed}`);
  const { bytes } = pinned(io_uring_attr_pi.size);
  const view = new DataView(bytes.buffer);
  view.setUint16(io_uring_attr_pi.flags, flags, true);
  view.setUint16(io_uring_attr_pi.app_tag, appTag, true);
  view.setUint32(io_uring_attr_pi.len, metadata.byteLength, true);
  view.setBigUint64(io_uring_attr_pi.addr, BigInt(find(metadata)), true);
  view.setBigUint64(io_uring_attr_pi.seed, start, true);
  return bytes;
}
