/**
 * Turning a failed completion into an error that says what is wrong.
 *
 * @module
 */
import * as abi from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { OPCODE_KERNEL } from "../ffi/versions.ts";
import type { Probe } from "../ring/probe.ts";
import type { Ring } from "../ring/ring.ts";

/** The operations by the name that errors give them. */
const OPCODES: Readonly<Record<string, number>> = {
  nop: abi.IORING_OP_NOP,
  read: abi.IORING_OP_READ,
  write: abi.IORING_OP_WRITE,
  readv: abi.IORING_OP_READV,
  writev: abi.IORING_OP_WRITEV,
  openat: abi.IORING_OP_OPENAT,
  close: abi.IORING_OP_CLOSE,
  statx: abi.IORING_OP_STATX,
  fallocate: abi.IORING_OP_FALLOCATE,
  fsync: abi.IORING_OP_FSYNC,
  fdatasync: abi.IORING_OP_FSYNC,
  ftruncate: abi.IORING_OP_FTRUNCATE,
  unlinkat: abi.IORING_OP_UNLINKAT,
  renameat: abi.IORING_OP_RENAMEAT,
  mkdirat: abi.IORING_OP_MKDIRAT,
  socket: abi.IORING_OP_SOCKET,
  bind: abi.IORING_OP_BIND,
  listen: abi.IORING_OP_LISTEN,
  accept: abi.IORING_OP_ACCEPT,
  connect: abi.IORING_OP_CONNECT,
  send: abi.IORING_OP_SEND,
  recv: abi.IORING_OP_RECV,
  shutdown: abi.IORING_OP_SHUTDOWN,
  poll: abi.IORING_OP_POLL_ADD,
  timeout: abi.IORING_OP_TIMEOUT,
  cancel: abi.IORING_OP_ASYNC_CANCEL,
};

const EINTR = -4;
const EINVAL = -22;
const ECANCELED = -125;
/** What an interrupted system call tells the kernel itself; `openat` in a worker thread lets it through. */
const ERESTARTSYS = -512;

/** Whether an operation ended with `res` because it was cancelled. */
export function wasCancelled(res: number): boolean {
  return res === ECANCELED || res === EINTR || res === ERESTARTSYS;
}

const probes = new WeakMap<Ring, Probe>();

/** What an operation tells about itself for its error. */
export interface Failed {
  /** Its name. */
  readonly name: string;
  /** Its path. */
  readonly path: string | undefined;
  /** Its second path. */
  readonly dest: string | undefined;
}

/** The error of an operation that ended with `res`. */
export function operationError(ring: Ring, res: number, op: Failed): UringError {
  return new UringError(res === ERESTARTSYS ? EINTR : res, op.name, {
    path: op.path,
    dest: op.dest,
    hint: res === EINVAL ? lackingHint(ring, op.name) : undefined,
  });
}

/** Says so when the kernel does not know an operation, which it tells by EINVAL only. */
function lackingHint(ring: Ring, name: string): string | undefined {
  const opcode = OPCODES[name];
  if (opcode === undefined || ring.closed) return undefined;
  let probe = probes.get(ring);
  if (probe === undefined) {
    try {
      probe = ring.getProbe();
    } catch {
      return undefined;
    }
    probes.set(ring, probe);
  }
  return probe.opcodeSupported(opcode)
    ? undefined
    : `this kernel lacks ${name}; it needs Linux ${OPCODE_KERNEL[opcode]}`;
}
