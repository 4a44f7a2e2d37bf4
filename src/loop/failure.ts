/**
 * Turning a failed completion into an error that says what is wrong.
 *
 * @module
 */
import {
  IORING_OP_ACCEPT,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_BIND,
  IORING_OP_CLOSE,
  IORING_OP_CONNECT,
  IORING_OP_EPOLL_CTL,
  IORING_OP_EPOLL_WAIT,
  IORING_OP_FADVISE,
  IORING_OP_FALLOCATE,
  IORING_OP_FGETXATTR,
  IORING_OP_FIXED_FD_INSTALL,
  IORING_OP_FSETXATTR,
  IORING_OP_FSYNC,
  IORING_OP_FTRUNCATE,
  IORING_OP_FUTEX_WAIT,
  IORING_OP_FUTEX_WAITV,
  IORING_OP_FUTEX_WAKE,
  IORING_OP_GETXATTR,
  IORING_OP_LINKAT,
  IORING_OP_LISTEN,
  IORING_OP_MADVISE,
  IORING_OP_MKDIRAT,
  IORING_OP_NOP,
  IORING_OP_OPENAT,
  IORING_OP_OPENAT2,
  IORING_OP_PIPE,
  IORING_OP_POLL_ADD,
  IORING_OP_READ,
  IORING_OP_READ_FIXED,
  IORING_OP_READV,
  IORING_OP_READV_FIXED,
  IORING_OP_RECV,
  IORING_OP_RENAMEAT,
  IORING_OP_SEND,
  IORING_OP_SETXATTR,
  IORING_OP_SHUTDOWN,
  IORING_OP_SOCKET,
  IORING_OP_SPLICE,
  IORING_OP_STATX,
  IORING_OP_SYMLINKAT,
  IORING_OP_SYNC_FILE_RANGE,
  IORING_OP_TEE,
  IORING_OP_TIMEOUT,
  IORING_OP_UNLINKAT,
  IORING_OP_WAITID,
  IORING_OP_WRITE,
  IORING_OP_WRITE_FIXED,
  IORING_OP_WRITEV,
  IORING_OP_WRITEV_FIXED,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { OPCODE_KERNEL } from "../ffi/versions.ts";
import type { Probe } from "../ring/probe.ts";
import type { Ring } from "../ring/ring.ts";

/** The operations by the name that errors give them. */
export const OPCODES: Readonly<Record<string, number>> = {
  nop: IORING_OP_NOP,
  read: IORING_OP_READ,
  write: IORING_OP_WRITE,
  readv: IORING_OP_READV,
  writev: IORING_OP_WRITEV,
  read_fixed: IORING_OP_READ_FIXED,
  write_fixed: IORING_OP_WRITE_FIXED,
  readv_fixed: IORING_OP_READV_FIXED,
  writev_fixed: IORING_OP_WRITEV_FIXED,
  openat: IORING_OP_OPENAT,
  close: IORING_OP_CLOSE,
  statx: IORING_OP_STATX,
  fallocate: IORING_OP_FALLOCATE,
  fsync: IORING_OP_FSYNC,
  fdatasync: IORING_OP_FSYNC,
  ftruncate: IORING_OP_FTRUNCATE,
  unlinkat: IORING_OP_UNLINKAT,
  renameat: IORING_OP_RENAMEAT,
  mkdirat: IORING_OP_MKDIRAT,
  openat2: IORING_OP_OPENAT2,
  linkat: IORING_OP_LINKAT,
  symlinkat: IORING_OP_SYMLINKAT,
  getxattr: IORING_OP_GETXATTR,
  fgetxattr: IORING_OP_FGETXATTR,
  setxattr: IORING_OP_SETXATTR,
  fsetxattr: IORING_OP_FSETXATTR,
  fadvise: IORING_OP_FADVISE,
  madvise: IORING_OP_MADVISE,
  sync_file_range: IORING_OP_SYNC_FILE_RANGE,
  splice: IORING_OP_SPLICE,
  tee: IORING_OP_TEE,
  pipe: IORING_OP_PIPE,
  fixed_fd_install: IORING_OP_FIXED_FD_INSTALL,
  epoll_ctl: IORING_OP_EPOLL_CTL,
  epoll_wait: IORING_OP_EPOLL_WAIT,
  futex_wait: IORING_OP_FUTEX_WAIT,
  futex_wake: IORING_OP_FUTEX_WAKE,
  futex_waitv: IORING_OP_FUTEX_WAITV,
  waitid: IORING_OP_WAITID,
  socket: IORING_OP_SOCKET,
  bind: IORING_OP_BIND,
  listen: IORING_OP_LISTEN,
  accept: IORING_OP_ACCEPT,
  connect: IORING_OP_CONNECT,
  send: IORING_OP_SEND,
  recv: IORING_OP_RECV,
  shutdown: IORING_OP_SHUTDOWN,
  poll: IORING_OP_POLL_ADD,
  timeout: IORING_OP_TIMEOUT,
  cancel: IORING_OP_ASYNC_CANCEL,
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
