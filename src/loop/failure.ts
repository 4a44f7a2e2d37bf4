/**
 * Turning a failed completion into an error that says what is wrong.
 *
 * @module
 */
import {
  IORING_OP_ACCEPT,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_FSYNC,
  IORING_OP_MSG_RING,
  IORING_OP_OPENAT,
  IORING_OP_OPENAT2,
  IORING_OP_POLL_ADD,
  IORING_OP_READ,
  IORING_OP_READ_MULTISHOT,
  IORING_OP_RECV,
  IORING_OP_RECVMSG,
  IORING_OP_SEND,
  IORING_OP_SEND_ZC,
  IORING_OP_SENDMSG_ZC,
  IORING_OP_TIMEOUT,
  IORING_OP_URING_CMD,
  IORING_OP_WRITE,
  IORING_SETUP_IOPOLL,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { kernelHas } from "../ffi/kernel.ts";
import { OPCODE_KERNEL, OPCODE_NAME, PREP_KERNEL } from "../ffi/versions.ts";
import type { Probe } from "../ring/probe.ts";
import type { CoreRing } from "../ring/core_ring.ts";

/** An operation, and the Linux version that brought what is asked of it, where that is younger than the operation. */
type Known = readonly [opcode: number, kernel?: string | undefined];

/** The Linux version that brought `IORING_RW_ATTR_FLAG_PI`. */
const INTEGRITY_KERNEL = "6.14";

/** The operations whose names for errors are not those of their opcodes, and what is younger than its operation. */
const OTHERS: Readonly<Record<string, Known>> = {
  fdatasync: [IORING_OP_FSYNC],
  poll: [IORING_OP_POLL_ADD],
  cancel: [IORING_OP_ASYNC_CANCEL, PREP_KERNEL["cancel_fd"]],
  sendto: [IORING_OP_SEND, PREP_KERNEL["sendto"]],
  send_bundle: [IORING_OP_SEND, PREP_KERNEL["send_bundle"]],
  send_zc_fixed: [IORING_OP_SEND_ZC],
  sendmsg_zc_fixed: [IORING_OP_SENDMSG_ZC, PREP_KERNEL["sendmsg_zc_fixed"]],
  msg_ring_fd: [IORING_OP_MSG_RING, PREP_KERNEL["msg_ring_fd"]],
  siocinq: [IORING_OP_URING_CMD, "6.5"],
  siocoutq: [IORING_OP_URING_CMD, "6.5"],
  "multishot tx_timestamp": [IORING_OP_URING_CMD, "6.17"],
  getsockopt: [IORING_OP_URING_CMD, PREP_KERNEL["cmd_sock"]],
  setsockopt: [IORING_OP_URING_CMD, PREP_KERNEL["cmd_sock"]],
  getsockname: [IORING_OP_URING_CMD, PREP_KERNEL["cmd_getsockname"]],
  getpeername: [IORING_OP_URING_CMD, PREP_KERNEL["cmd_getsockname"]],
  discard: [IORING_OP_URING_CMD, PREP_KERNEL["cmd_discard"]],
  zone_reset_all: [IORING_OP_URING_CMD, PREP_KERNEL["cmd_zone_reset_all"]],
  read_integrity: [IORING_OP_READ, INTEGRITY_KERNEL],
  write_integrity: [IORING_OP_WRITE, INTEGRITY_KERNEL],
  "direct openat": [IORING_OP_OPENAT, PREP_KERNEL["openat_direct"]],
  "direct openat2": [IORING_OP_OPENAT2, PREP_KERNEL["openat2_direct"]],
  "direct accept": [IORING_OP_ACCEPT, PREP_KERNEL["accept_direct"]],
  "multishot poll": [IORING_OP_POLL_ADD, PREP_KERNEL["poll_multishot"]],
  "multishot timeout": [IORING_OP_TIMEOUT, "6.4"],
  "multishot accept": [IORING_OP_ACCEPT, PREP_KERNEL["multishot_accept"]],
  "multishot recv": [IORING_OP_RECV, PREP_KERNEL["recv_multishot"]],
  "multishot read": [IORING_OP_READ_MULTISHOT],
  "multishot recvmsg": [IORING_OP_RECVMSG, PREP_KERNEL["recvmsg_multishot"]],
};

/** The operation that goes by this name in errors, or undefined. */
function known(name: string): Known | undefined {
  const opcode = OPCODE_NAME.indexOf(`IORING_OP_${name.toUpperCase()}`);
  return opcode >= 0 ? [opcode] : OTHERS[name];
}

const NO_INTEGRITY: Readonly<Record<number, string>> = {
  22:
    "only a block device that keeps protection information, opened with O_DIRECT, takes it; one tuple per block",
  84: "the device found the protection information wrong",
  95: "the file must be opened with O_DIRECT",
};

/** What an error says that its code alone does not, by operation and errno. */
const REASONS: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  "multishot read": { 77: "the file cannot be polled, as files on a disk cannot; read them with read" },
  discard: {
    22: "the range must be whole blocks of the device, within it",
    95: "the file is no block device, or its device cannot discard",
  },
  zone_reset_all: { 95: "the file is no block device, or its device has no zones" },
  uring_cmd: { 95: "the driver behind the file knows no such command" },
  read_integrity: NO_INTEGRITY,
  write_integrity: NO_INTEGRITY,
};

const EINTR = -4;
const EINVAL = -22;
/** What the kernel says of a command that it does not know. */
const EOPNOTSUPP = -95;
const ECANCELED = -125;
/** What an interrupted system call tells the kernel itself; `openat` in a worker thread lets it through. */
const ERESTARTSYS = -512;

/** Whether an operation ended with `res` because it was cancelled. */
export function wasCancelled(res: number): boolean {
  return res === ECANCELED || res === EINTR || res === ERESTARTSYS;
}

const probes = new WeakMap<CoreRing, Probe | null>();

/** What an operation tells about itself for its error. */
export interface Failed {
  /** Its name. */
  readonly name: string;
  /** What it is beyond its name, such as `multishot` or `direct`, which an older kernel may lack. */
  readonly variant?: string | undefined;
  /** Its path. */
  readonly path: string | undefined;
  /** Its second path. */
  readonly dest: string | undefined;
}

/** The error of an operation that ended with `res`. */
export function operationError(ring: CoreRing, res: number, op: Failed): UringError {
  const unknown = res === EINVAL || res === EOPNOTSUPP;
  const reason = REASONS[fullName(op)]?.[-res];
  return new UringError(res === ERESTARTSYS ? EINTR : res, op.name, {
    path: op.path,
    dest: op.dest,
    hint: (unknown && !ring.closed ? lackingHint(ring, res, op) : undefined) ?? reason ??
      pollingHint(ring, res),
  });
}

/** What a ring that polls for completions is lacking: it does nothing but reads, writes and commands, and not of every file. */
function pollingHint(ring: CoreRing, res: number): string | undefined {
  if ((ring.flags & IORING_SETUP_IOPOLL) === 0) return undefined;
  if (res === EOPNOTSUPP) {
    return "IORING_SETUP_IOPOLL needs a file opened with O_DIRECT on a disk that can be polled for, such as an NVMe disk " +
      "with nvme.poll_queues set";
  }
  return res === EINVAL ? "a ring with IORING_SETUP_IOPOLL does not have every operation" : undefined;
}

function fullName({ name, variant }: Failed): string {
  return variant === undefined ? name : `${variant} ${name}`;
}

/** Says so when the kernel does not know an operation, which it tells by EINVAL only, or a command, by EOPNOTSUPP. */
function lackingHint(ring: CoreRing, res: number, op: Failed): string | undefined {
  const { name } = op;
  const full = fullName(op);
  const [opcode, kernel] = known(full) ?? known(name) ?? [];
  if (opcode === undefined || (res === EOPNOTSUPP && opcode !== IORING_OP_URING_CMD)) return undefined;
  const lacks = (what: string, since: string): string => `this kernel lacks ${what}; it needs Linux ${since}`;
  if (!supports(ring, opcode)) {
    return lacks(known(name)?.[0] === opcode ? name : full, OPCODE_KERNEL[opcode]!);
  }
  return kernel === undefined || kernelHas(kernel) ? undefined : lacks(full, kernel);
}

function supports(ring: CoreRing, opcode: number): boolean {
  let probe = probes.get(ring);
  if (probe === undefined) {
    try {
      probe = ring.getProbe();
    } catch {
      // Before Linux 5.6 there is nothing to ask.
      probe = null;
    }
    probes.set(ring, probe);
  }
  return probe === null ? kernelHas(OPCODE_KERNEL[opcode]!) : probe.opcodeSupported(opcode);
}
