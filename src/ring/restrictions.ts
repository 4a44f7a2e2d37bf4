/**
 * What a ring, or all further rings of a thread, may do: restrictions and BPF filters as the kernel takes them.
 *
 * @module
 */
import {
  BPF_JMP,
  BPF_RET,
  IO_URING_BPF_CMD_FILTER,
  IORING_REGISTER_BPF_FILTER,
  IORING_REGISTER_RESTRICTIONS,
  IORING_RESTRICTION_REGISTER_OP,
  IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
  IORING_RESTRICTION_SQE_FLAGS_REQUIRED,
  IORING_RESTRICTION_SQE_OP,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import {
  io_uring_bpf,
  io_uring_bpf_filter,
  io_uring_restriction,
  io_uring_task_restriction,
  sock_filter,
} from "../ffi/structs.ts";
import { applyOperationFilter, type OperationFilter } from "./operation_filter.ts";
import { Argument, type Hints, ioUringRegister } from "./register_base.ts";

/**
 * One line of an allow-list, `struct io_uring_restriction`: a register operation that is allowed, an operation that is
 * allowed, the `IOSQE_*` flags that an entry may have, or those that it must have.
 */
export type Restriction =
  | { readonly registerOp: number }
  | { readonly sqeOp: number }
  | { readonly sqeFlagsAllowed: number }
  | { readonly sqeFlagsRequired: number };

/** An instruction of classic BPF, `struct sock_filter`; {@link bpfStmt} and {@link bpfJump} make them. */
export interface BpfInstruction {
  /** `BPF_*`. */
  readonly code: number;
  /** How many instructions to skip when a jump's condition holds. */
  readonly jt: number;
  /** How many to skip when it does not. */
  readonly jf: number;
  /** The operand. */
  readonly k: number;
}

/** A filter for one operation: `struct io_uring_bpf_filter`. */
export interface BpfFilter {
  /** The `IORING_OP_*` that it judges. */
  opcode: number;
  /**
   * The program. It sees a `struct io_uring_bpf_ctx` (loads of aligned 32-bit words at absolute offsets), and denies the
   * operation, which then completes with `EACCES`, by returning 0.
   */
  program: readonly BpfInstruction[];
  /** `IO_URING_BPF_FILTER_*`: deny all operations without a filter; insist on the exact `pduSize`. Default: neither. */
  flags?: number;
  /**
   * How many bytes about the operation the program expects behind the first 16: 12 for `IORING_OP_SOCKET`, 24 for
   * `IORING_OP_OPENAT` and `IORING_OP_OPENAT2`. Default: 0.
   */
  pduSize?: number;
}

/** An instruction that does not jump: C's `BPF_STMT`. */
export function bpfStmt(code: number, k: number): BpfInstruction {
  return { code, jt: 0, jf: 0, k };
}

/** An instruction that does: C's `BPF_JUMP`. */
export function bpfJump(code: number, k: number, jt: number, jf: number): BpfInstruction {
  return { code, jt, jf, k };
}

function writeRestriction(arg: Argument, at: number, restriction: Restriction): void {
  const write = (kind: number, value: number): void => {
    arg.view.setUint16(at + io_uring_restriction.opcode, kind, true);
    arg.view.setUint8(at + io_uring_restriction.register_op, value);
  };
  if ("registerOp" in restriction) write(IORING_RESTRICTION_REGISTER_OP, restriction.registerOp);
  else if ("sqeOp" in restriction) write(IORING_RESTRICTION_SQE_OP, restriction.sqeOp);
  else if ("sqeFlagsAllowed" in restriction) {
    write(IORING_RESTRICTION_SQE_FLAGS_ALLOWED, restriction.sqeFlagsAllowed);
  } else write(IORING_RESTRICTION_SQE_FLAGS_REQUIRED, restriction.sqeFlagsRequired);
}

/** The restrictions as an array of structs, behind `header` bytes. @internal */
export function restrictionsArgument(restrictions: readonly Restriction[], header: number): Argument {
  // An empty list is one, too, and the kernel wants to see where it begins.
  const arg = new Argument(header + io_uring_restriction.size * Math.max(1, restrictions.length));
  restrictions.forEach((restriction, i) => {
    writeRestriction(arg, header + i * io_uring_restriction.size, restriction);
  });
  return arg;
}

const NOT_PRIVILEGED = "the thread needs no_new_privs (prctl) or CAP_SYS_ADMIN";

/**
 * Restricts every ring that this thread, and what it forks, will make: `IORING_REGISTER_RESTRICTIONS` without a ring, Linux
 * 7.0. There is no way back, and no second time (`EPERM`). What is refused completes with `EACCES`.
 *
 * @param restrictions What is allowed; nothing is, with an empty list. Register operations are restricted only when one is
 * named, and so are operations.
 * @throws UringError `EACCES` without `no_new_privs` and `CAP_SYS_ADMIN`.
 */
export function registerRestrictionsTask(restrictions: readonly Restriction[]): void {
  const arg = restrictionsArgument(restrictions, io_uring_task_restriction.size);
  arg.view.setUint16(io_uring_task_restriction.nr_res, restrictions.length, true);
  ioUringRegister(-1, IORING_REGISTER_RESTRICTIONS, arg.bytes, 1, {
    EACCES: NOT_PRIVILEGED,
    EINVAL: "restrictions of a whole thread need Linux 7.0",
    EBADF: "restrictions of a whole thread need Linux 7.0",
    EPERM: "the thread is restricted already",
  });
}

/** Registers a filter through `register`; tells what the kernel would have expected. @internal */
export function registerFilter(filter: BpfFilter, register: (arg: Uint8Array, hints: Hints) => void): void {
  const { opcode, program, flags = 0, pduSize = 0 } = filter;
  checkProgram(program);
  const at = io_uring_bpf.filter;
  const arg = new Argument(io_uring_bpf.size + sock_filter.size * program.length);
  arg.view.setUint16(io_uring_bpf.cmd_type, IO_URING_BPF_CMD_FILTER, true);
  arg.set32(at + io_uring_bpf_filter.opcode, opcode);
  arg.set32(at + io_uring_bpf_filter.flags, flags);
  arg.set32(at + io_uring_bpf_filter.filter_len, program.length);
  arg.view.setUint8(at + io_uring_bpf_filter.pdu_size, pduSize);
  arg.setPointer(at + io_uring_bpf_filter.filter_ptr, io_uring_bpf.size);
  program.forEach(({ code, jt, jf, k }, i) => {
    const to = io_uring_bpf.size + i * sock_filter.size;
    arg.view.setUint16(to + sock_filter.code, code, true);
    arg.view.setUint8(to + sock_filter.jt, jt);
    arg.view.setUint8(to + sock_filter.jf, jf);
    arg.set32(to + sock_filter.k, k);
  });
  try {
    register(arg.bytes, FILTER_HINTS);
  } catch (error) {
    if (!(error instanceof UringError) || error.code !== "EMSGSIZE") throw error;
    const size = arg.view.getUint8(at + io_uring_bpf_filter.pdu_size);
    throw new UringError(error.errno, error.syscall, {
      hint: `IORING_REGISTER_BPF_FILTER: this kernel's pduSize for the operation is ${size}`,
    });
  }
}

const FILTER_HINTS: Hints = {
  EINVAL: "a program may load aligned words, compute, jump ahead and return; the kernel needs CONFIG_BPF",
};

// The kernel would say no more than EINVAL.
function checkProgram(program: readonly BpfInstruction[]): void {
  const CLASS = 7;
  const last = program.at(-1);
  if (last === undefined || (last.code & CLASS) !== BPF_RET) {
    throw new RangeError("A BPF program must end by returning");
  }
  program.forEach(({ code, jt, jf }, i) => {
    if ((code & CLASS) === BPF_JMP && i + Math.max(jt, jf) + 1 >= program.length) {
      throw new RangeError(`Instruction ${i} of the BPF program jumps out of it`);
    }
  });
}

/**
 * Has a filter judge an operation on every ring that this thread, and what it forks, will make:
 * `io_uring_register_bpf_filter_task`, Linux 7.0. There is no way back; further filters only deny more.
 *
 * @throws UringError `EACCES` without `no_new_privs` and `CAP_SYS_ADMIN`.
 */
export function registerBpfFilterTask(filter: BpfFilter): void {
  registerFilter(filter, (arg, hints) => {
    ioUringRegister(-1, IORING_REGISTER_BPF_FILTER, arg, 1, { ...hints, EACCES: NOT_PRIVILEGED });
  });
}

/**
 * {@link registerBpfFilterTask} for those who want to name operations and nothing more: on every ring that this thread, and
 * what it forks, will make, only what `allow` names works, or all but what `deny` names, Linux 7.0. What is denied
 * completes with `EACCES`. There is no way back; further filters only deny more. A `Uring` needs what
 * `LOOP_OPERATIONS` names.
 *
 * @throws UringError `EACCES` without `no_new_privs` and `CAP_SYS_ADMIN`.
 */
export function filterOperationsTask(filter: OperationFilter): void {
  applyOperationFilter(filter, registerBpfFilterTask);
}
