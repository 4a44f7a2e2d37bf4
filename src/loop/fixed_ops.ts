/**
 * Operations on registered buffers.
 *
 * @module
 */
import { iovec } from "../ffi/structs.ts";
import type { U64 } from "../ring/sqe_base.ts";
import type { Piece } from "./arena.ts";
import type { Fd } from "./direct.ts";
import { FileOperations } from "./file_ops.ts";
import { checkOffset, checkU32, type OperationOptions } from "./options.ts";
import { RegisteredBuffer } from "./registered_buffer.ts";

/** Options of {@link FixedOperations.readFixed} and {@link FixedOperations.writeFixed}. */
export interface FixedOptions extends OperationOptions {
  /** The offset in the file in bytes; default: the file's own position, which moves on (−1 says the same). */
  offset?: U64;
  /** The first byte of the buffer that is used; default 0. */
  start?: number;
  /** How many bytes; default: all to the buffer's end. */
  length?: number;
  /** `RWF_*` bits: `RWF_DSYNC`… */
  flags?: number;
}

/** Options of {@link FixedOperations.readvFixed} and {@link FixedOperations.writevFixed}. */
export interface FixedVectorOptions extends OperationOptions {
  /** The offset in the file in bytes; default: the file's own position. */
  offset?: U64;
  /** `RWF_*` bits. */
  flags?: number;
}

/** A part of a registered buffer. */
export interface BufferRange {
  /** Its first byte. */
  readonly start: number;
  /** How many bytes. */
  readonly length: number;
}

const MOST_RANGES = 1024;

/** Operations on registered buffers, each one entry of the submission queue. */
export abstract class FixedOperations extends FileOperations {
  /**
   * Reads into a registered buffer and resolves with the number of bytes read; 0: the file has ended. Cheaper than
   * `read` by what finding the memory's pages takes, most of all with `O_DIRECT`. liburing: `io_uring_prep_read_fixed`,
   * Linux 5.1 (5.19 for `registerBuffer`).
   */
  readFixed(fd: Fd, buffer: RegisteredBuffer, options?: FixedOptions): Promise<number> {
    return this.#whole("read_fixed", fd, buffer, options);
  }

  /**
   * Writes from a registered buffer and resolves with the number of bytes written, which may be fewer than asked for.
   * liburing: `io_uring_prep_write_fixed`, Linux 5.1 (5.19 for `registerBuffer`).
   */
  writeFixed(fd: Fd, buffer: RegisteredBuffer, options?: FixedOptions): Promise<number> {
    return this.#whole("write_fixed", fd, buffer, options);
  }

  /**
   * Reads into parts of a registered buffer in order, at most 1024 of them, and resolves with the number of bytes:
   * `io_uring_prep_readv_fixed`, Linux 6.15.
   */
  readvFixed(
    fd: Fd,
    buffer: RegisteredBuffer,
    ranges: readonly BufferRange[],
    options?: FixedVectorOptions,
  ): Promise<number> {
    return this.#vectored("readv_fixed", fd, buffer, ranges, options);
  }

  /**
   * Writes parts of a registered buffer in order, at most 1024 of them, and resolves with the number of bytes:
   * `io_uring_prep_writev_fixed`, Linux 6.15.
   */
  writevFixed(
    fd: Fd,
    buffer: RegisteredBuffer,
    ranges: readonly BufferRange[],
    options?: FixedVectorOptions,
  ): Promise<number> {
    return this.#vectored("writev_fixed", fd, buffer, ranges, options);
  }

  #whole(
    name: "read_fixed" | "write_fixed",
    fd: Fd,
    buffer: RegisteredBuffer,
    options: FixedOptions | undefined,
  ): Promise<number> {
    const view = this.useRegistered(buffer);
    this.check(options);
    const offset = checkOffset(options?.offset);
    const start = checkStart(buffer, options?.start);
    const length = checkRest(buffer, start, options?.length);
    const flags = checkU32("flags", options?.flags ?? 0);
    const number = this.number(fd);
    const op = this.begin(name);
    const address = buffer.address + start;
    op.view = view;
    if (name === "read_fixed") op.sqe!.prepReadFixed(number, address, length, offset, buffer.slot);
    else op.sqe!.prepWriteFixed(number, address, length, offset, buffer.slot);
    if (flags !== 0) op.sqe!.opFlags = flags;
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  #vectored(
    name: "readv_fixed" | "writev_fixed",
    fd: Fd,
    buffer: RegisteredBuffer,
    ranges: readonly BufferRange[],
    options: FixedVectorOptions | undefined,
  ): Promise<number> {
    const view = this.useRegistered(buffer);
    this.check(options);
    const offset = checkOffset(options?.offset);
    const flags = checkU32("flags", options?.flags ?? 0);
    const number = this.number(fd);
    const vectors = rangeVectors(buffer, ranges, (byteLength) => this.driver.arena.take(byteLength));
    const op = this.begin(name);
    op.view = view;
    op.pins = vectors.owner;
    if (name === "readv_fixed") {
      op.sqe!.prepReadvFixed(number, vectors.address, ranges.length, offset, flags, buffer.slot);
    } else op.sqe!.prepWritevFixed(number, vectors.address, ranges.length, offset, flags, buffer.slot);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /** A registered buffer's memory, to be kept as `op.view` by the operation that names its slot. @internal */
  protected useRegistered(buffer: RegisteredBuffer): Uint8Array {
    if (!(buffer instanceof RegisteredBuffer)) {
      throw new TypeError("The buffer must be one of uring.registerBuffer; others take any memory");
    }
    return buffer.use(this.driver);
  }
}

/** Checks where in a registered buffer an operation begins. @internal */
export function checkStart(buffer: RegisteredBuffer, start: number | undefined): number {
  if (start === undefined) return 0;
  if (!Number.isInteger(start) || start < 0 || start > buffer.size) {
    throw new RangeError(
      `start must be an integer from 0 to the buffer's ${buffer.size} bytes, not ${start}`,
    );
  }
  return start;
}

/** Checks how much of a registered buffer is meant. @internal */
export function checkRest(buffer: RegisteredBuffer, start: number, length: number | undefined): number {
  const most = buffer.size - start;
  if (length === undefined) return most;
  if (!Number.isInteger(length) || length < 0 || length > most) {
    throw new RangeError(
      `length must be an integer from 0 to the ${most} bytes that are left, not ${length}`,
    );
  }
  return length;
}

/** Checks parts of a registered buffer. @internal */
export function rangesOf(buffer: RegisteredBuffer, ranges: readonly BufferRange[]): readonly BufferRange[] {
  if (!Array.isArray(ranges)) throw new TypeError("The parts of a buffer are an array");
  if (ranges.length > MOST_RANGES) {
    throw new RangeError(`At most ${MOST_RANGES} parts, not ${ranges.length}`);
  }
  return (ranges as readonly BufferRange[]).map((range) => {
    const start = checkStart(buffer, range.start);
    return { start, length: checkRest(buffer, start, range.length) };
  });
}

/** An array of `struct iovec` for parts of a registered buffer. */
function rangeVectors(
  buffer: RegisteredBuffer,
  ranges: readonly BufferRange[],
  take: (byteLength: number) => Piece,
): Piece {
  const checked = rangesOf(buffer, ranges);
  const piece = take(ranges.length * iovec.size);
  const out = new DataView(piece.bytes.buffer, piece.bytes.byteOffset, piece.bytes.byteLength);
  checked.forEach(({ start, length }, i) => {
    out.setBigUint64(i * iovec.size + iovec.iov_base, BigInt(buffer.address + start), true);
    out.setBigUint64(i * iovec.size + iovec.iov_len, BigInt(length), true);
  });
  return piece;
}
