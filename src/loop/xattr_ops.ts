/**
 * Operations on extended attributes.
 *
 * @module
 */
import { UringError } from "../ffi/errors.ts";
import type { Fd } from "./direct.ts";
import type { Op } from "./op.ts";
import { checkU32, checkView, type OperationOptions } from "./options.ts";
import { PathOperations } from "./path_ops.ts";
import { checkPath, type Path } from "./paths.ts";

/** Options of {@link XattrOperations.getxattr} and {@link XattrOperations.fgetxattr}. */
export interface GetxattrOptions extends OperationOptions {
  /** How many bytes the value may have at most; `ERANGE` if it has more. Default: any number (the kernel has up to 65536). */
  size?: number;
}

/** Options of {@link XattrOperations.setxattr} and {@link XattrOperations.fsetxattr}. */
export interface SetxattrOptions extends OperationOptions {
  /** `XATTR_CREATE`: `EEXIST` if the file has it already. `XATTR_REPLACE`: `ENODATA` if it has not. */
  flags?: number;
}

/** {@link OperationOptions} with memory of the caller's for the value. */
interface IntoOptions extends OperationOptions {
  /** Where the value goes. */
  buffer: ArrayBufferView;
}

/** `XATTR_SIZE_MAX` of the kernel's `limits.h`. */
const MOST_BYTES = 65536;
/** What is set aside at first for a value of unknown length: nearly all are shorter, and clearing the most takes longer. */
const LIKELY_BYTES = 1024;

const ERANGE = -34;

const encoder = new TextEncoder();

/** Operations on extended attributes, each one entry of the submission queue. */
export abstract class XattrOperations extends PathOperations {
  /**
   * The length of the attribute `name` of the file `path`, whose value is put into `buffer`; an empty buffer asks for the
   * length alone. `ERANGE` when it does not fit.
   */
  getxattr(path: Path, name: Path, options: OperationOptions & { buffer: ArrayBufferView }): Promise<number>;
  /**
   * The value of the attribute `name` (`"user.comment"`) of the file `path`, symbolic links followed. `ENODATA`: it has
   * none of that name. liburing: `io_uring_prep_getxattr`, Linux 5.19. The kernel always hands it to a worker thread.
   */
  getxattr(path: Path, name: Path, options?: GetxattrOptions): Promise<Uint8Array<ArrayBuffer>>;
  getxattr(
    path: Path,
    name: Path,
    options?: GetxattrOptions | IntoOptions,
  ): Promise<number | Uint8Array<ArrayBuffer>> {
    this.check(options);
    checkPath(path);
    checkPath(name, "The name of an attribute");
    const memory = this.#valueMemory(options);
    const address = this.into(memory);
    const { op, sqe, address: pathAddress } = this.beginPath("getxattr", path);
    const nameAddress = this.#name(op, name);
    sqe.prepGetxattr(nameAddress, address, pathAddress, memory.byteLength);
    return this.#value(op, memory, options, (larger) => this.getxattr(path, name, larger));
  }

  /** {@link XattrOperations.getxattr} of an open file. */
  fgetxattr(fd: Fd, name: Path, options: OperationOptions & { buffer: ArrayBufferView }): Promise<number>;
  /** {@link XattrOperations.getxattr} of an open file: `io_uring_prep_fgetxattr`, Linux 5.19. */
  fgetxattr(fd: Fd, name: Path, options?: GetxattrOptions): Promise<Uint8Array<ArrayBuffer>>;
  fgetxattr(
    fd: Fd,
    name: Path,
    options?: GetxattrOptions | IntoOptions,
  ): Promise<number | Uint8Array<ArrayBuffer>> {
    this.check(options);
    checkPath(name, "The name of an attribute");
    const number = this.number(fd);
    const memory = this.#valueMemory(options);
    const address = this.into(memory);
    const op = this.begin("fgetxattr");
    const nameAddress = this.#name(op, name);
    op.sqe!.prepFgetxattr(number, nameAddress, address, memory.byteLength);
    this.markLateFd(op, fd);
    return this.#value(op, memory, options, (larger) => this.fgetxattr(fd, name, larger));
  }

  /** Where the value is to go. */
  #valueMemory(options: GetxattrOptions | IntoOptions | undefined): ArrayBufferView {
    if (options !== undefined && "buffer" in options) {
      checkView(options.buffer);
      return options.buffer;
    }
    // A step of a chain has no second try.
    const size = options?.size ?? (this.chained ? MOST_BYTES : LIKELY_BYTES);
    if (!Number.isInteger(size) || size < 1 || size > MOST_BYTES) {
      throw new RangeError(`size must be an integer from 1 to ${MOST_BYTES}, not ${size}`);
    }
    return new Uint8Array(new ArrayBuffer(size));
  }

  /** The promise of a value, in the caller's memory or in ours; `again` asks for one that did not fit. */
  #value(
    op: Op,
    memory: ArrayBufferView,
    options: GetxattrOptions | IntoOptions | undefined,
    again: (options: GetxattrOptions) => Promise<Uint8Array<ArrayBuffer>>,
  ): Promise<number | Uint8Array<ArrayBuffer>> {
    op.view = memory;
    if (options !== undefined && "buffer" in options) return this.promise(op, options);
    op.finish = (length) => new Uint8Array((memory as Uint8Array).subarray(0, length));
    const value: Promise<Uint8Array<ArrayBuffer>> = this.promise(op, options);
    if (this.chained || options?.size !== undefined) return value;
    return value.catch((error: unknown) => {
      if (!(error instanceof UringError) || error.errno !== ERANGE) throw error;
      return again({ ...options, size: MOST_BYTES });
    });
  }

  /**
   * Sets the attribute `name` of the file `path`, symbolic links followed; a text is stored as UTF-8.
   * liburing: `io_uring_prep_setxattr`, Linux 5.19. The kernel always hands it to a worker thread.
   */
  setxattr(
    path: Path,
    name: Path,
    value: string | ArrayBufferView,
    options?: SetxattrOptions,
  ): Promise<void> {
    this.check(options);
    checkPath(path);
    checkPath(name, "The name of an attribute");
    const flags = checkU32("flags", options?.flags ?? 0);
    const memory = viewOf(value);
    const address = this.from(memory);
    const { op, sqe, address: pathAddress } = this.beginPath("setxattr", path);
    op.view = memory;
    const nameAddress = this.#name(op, name);
    sqe.prepSetxattr(nameAddress, address, pathAddress, flags, memory.byteLength);
    return this.promise(op, options);
  }

  /** {@link XattrOperations.setxattr} of an open file: `io_uring_prep_fsetxattr`, Linux 5.19. */
  fsetxattr(fd: Fd, name: Path, value: string | ArrayBufferView, options?: SetxattrOptions): Promise<void> {
    this.check(options);
    checkPath(name, "The name of an attribute");
    const flags = checkU32("flags", options?.flags ?? 0);
    const number = this.number(fd);
    const memory = viewOf(value);
    const address = this.from(memory);
    const op = this.begin("fsetxattr");
    op.view = memory;
    const nameAddress = this.#name(op, name);
    op.sqe!.prepFsetxattr(number, nameAddress, address, flags, memory.byteLength);
    this.markLateFd(op, fd);
    return this.promise(op, options);
  }

  #name(op: Op, name: Path): number {
    const piece = this.driver.arena.cString(name);
    op.pins = [op.pins, piece.owner];
    return piece.address;
  }
}

function viewOf(value: string | ArrayBufferView): ArrayBufferView {
  if (typeof value === "string") return encoder.encode(value);
  checkView(value);
  return value;
}
