/**
 * `io_uring_register` itself, with a ring and without one.
 *
 * @module
 */
import { IORING_REGISTER_USE_REGISTERED_RING, IORING_SETUP_SINGLE_ISSUER } from "../ffi/abi.ts";
import { errnoCode } from "../ffi/errno.ts";
import { UringError } from "../ffi/errors.ts";
import { kernelHas } from "../ffi/kernel.ts";
import { addressOf } from "../ffi/pin.ts";
import { system } from "../ffi/system.ts";
import { REGISTER_KERNEL, REGISTER_NAME } from "../ffi/versions.ts";
import { RingWaits } from "./waits.ts";
import { high32, low32, type U64 } from "./sqe_base.ts";

/** What to say about an error of `io_uring_register`, by its code. */
export type Hints = Readonly<Record<string, string>>;

/** A struct to be given to the kernel, and what stands behind it in the same memory. */
export class Argument {
  /** The memory, zeroed at first. */
  readonly bytes: Uint8Array;
  /** A view of it. */
  readonly view: DataView;
  readonly #address: number;

  /** @param size Its size in bytes. */
  constructor(size: number) {
    this.bytes = new Uint8Array(new ArrayBuffer(size));
    this.view = new DataView(this.bytes.buffer);
    this.#address = addressOf(this.bytes);
  }

  /** Writes 32 bits. */
  set32(at: number, value: number): void {
    this.view.setUint32(at, value, true);
  }

  /** Writes 64 bits. */
  set64(at: number, value: U64): void {
    this.view.setInt32(at, low32(value), true);
    this.view.setInt32(at + 4, high32(value), true);
  }

  /** Reads 32 bits. */
  get32(at: number): number {
    return this.view.getUint32(at, true);
  }

  /** Reads 64 bits; rounded beyond 2⁵³. */
  get64(at: number): number {
    return this.get32(at) + this.get32(at + 4) * 0x1_0000_0000;
  }

  /** Writes the address of a place in this very memory. */
  setPointer(at: number, target: number): void {
    this.set64(at, this.#address + target);
  }
}

const EINVAL = -22;

/** Whether the running kernel is too old for a register operation. */
function isLacking(opcode: number): boolean {
  const since = REGISTER_KERNEL[opcode];
  return since !== undefined && !kernelHas(since);
}

/**
 * `io_uring_register(2)` by a descriptor, or −1 for what needs no ring.
 *
 * @param fd The descriptor.
 * @param opcode An `IORING_REGISTER_*` or `IORING_UNREGISTER_*`, with `IORING_REGISTER_USE_REGISTERED_RING` or not.
 * @param arg Its argument as bytes, or null.
 * @param count Its count.
 * @param hints What to say about its errors.
 * @throws UringError that names the operation, and the Linux version that brought it where the kernel is older.
 */
export function ioUringRegister(
  fd: number,
  opcode: number,
  arg: Uint8Array | Int32Array | null,
  count: number,
  hints: Hints = {},
): number {
  const result = system().register(fd, opcode >>> 0, arg, count);
  if (result >= 0) return result;
  const operation = (opcode & ~IORING_REGISTER_USE_REGISTERED_RING) >>> 0;
  const name = REGISTER_NAME[operation] ?? `IORING_REGISTER_${operation}`;
  if (result === EINVAL && isLacking(operation)) {
    throw new UringError(result, "io_uring_register", {
      hint: `${name} needs Linux ${REGISTER_KERNEL[operation]}`,
    });
  }
  const hint = hints[errnoCode(-result)];
  throw new UringError(result, "io_uring_register", { hint: hint === undefined ? name : `${name}: ${hint}` });
}

/** What to say of `EINVAL` where the kernel is too old for a flag of the call. */
export function flagHints(flag: string, since: string): Hints {
  return kernelHas(since) ? {} : { EINVAL: `${flag} needs Linux ${since}` };
}

/** What all register calls of a ring go through. */
export class RingRegisterBase extends RingWaits {
  /**
   * `io_uring_register` itself, for what has no method here.
   *
   * @param opcode An `IORING_REGISTER_*` or `IORING_UNREGISTER_*`.
   * @param arg Its argument as bytes, or null.
   * @param count Its count.
   * @param hints What to say about its errors.
   */
  register(
    opcode: number,
    arg: Uint8Array | Int32Array | null,
    count: number,
    hints?: Hints,
  ): number {
    this.assertOpen();
    const viaIndex = this.ringFd < 0 ? IORING_REGISTER_USE_REGISTERED_RING : 0;
    const fd = this.ringFd < 0 ? this.enterFd : this.ringFd;
    const single = (this.flags & IORING_SETUP_SINGLE_ISSUER) !== 0;
    const common = single ? { ...COMMON_HINTS, EEXIST: OTHER_THREAD } : COMMON_HINTS;
    return ioUringRegister(fd, opcode | viaIndex, arg, count, { ...common, ...hints });
  }
}

const OTHER_THREAD = "only the thread that the ring belongs to may do this";
const COMMON_HINTS: Hints = { EACCES: "the ring's restrictions do not allow it" };
