/**
 * Asking the kernel what it supports.
 *
 * @module
 */
import { IO_URING_OP_SUPPORTED, IORING_REGISTER_PROBE } from "../ffi/abi.ts";
import { io_uring_probe, io_uring_probe_op } from "../ffi/structs.ts";
import { OPCODE_KERNEL, OPCODE_NAME } from "../ffi/versions.ts";
import type { RingRegisterBase } from "./register_base.ts";

/** What `IORING_REGISTER_PROBE` found: liburing's `struct io_uring_probe`. */
export class Probe {
  /** The highest operation that the kernel knows. */
  readonly lastOp: number;
  readonly #supported: ReadonlySet<number>;

  /** @internal */
  constructor(lastOp: number, supported: ReadonlySet<number>) {
    this.lastOp = lastOp;
    this.#supported = supported;
  }

  /** Whether an `IORING_OP_*` is supported: `io_uring_opcode_supported`. */
  opcodeSupported(op: number): boolean {
    return this.#supported.has(op);
  }

  /**
   * Why an `IORING_OP_*` completes with `-EINVAL` whatever its arguments: `"IORING_OP_PIPE needs Linux 6.16"`, or
   * undefined where the kernel has it. For programs that drive a `Ring` and want to tell their users.
   */
  lacking(op: number): string | undefined {
    if (this.#supported.has(op)) return undefined;
    const name = OPCODE_NAME[op];
    return name === undefined ? `no kernel has operation ${op}` : `${name} needs Linux ${OPCODE_KERNEL[op]}`;
  }
}

/** Probes a ring for the operations below `count`. */
export function registerProbe(ring: RingRegisterBase, count: number): Probe {
  const bytes = new Uint8Array(new ArrayBuffer(io_uring_probe.size + count * io_uring_probe_op.size));
  const view = new DataView(bytes.buffer);
  ring.register(IORING_REGISTER_PROBE, bytes, count);
  const supported = new Set<number>();
  for (let i = 0; i < view.getUint8(io_uring_probe.ops_len); i++) {
    const at = io_uring_probe.size + i * io_uring_probe_op.size;
    const flags = view.getUint16(at + io_uring_probe_op.flags, true);
    if ((flags & IO_URING_OP_SUPPORTED) !== 0) supported.add(view.getUint8(at + io_uring_probe_op.op));
  }
  return new Probe(view.getUint8(io_uring_probe.last_op), supported);
}
