/**
 * Allowing and denying operations by name, without writing BPF programs.
 *
 * @module
 */
import {
  BPF_K,
  BPF_RET,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_CLOSE,
  IORING_OP_LINK_TIMEOUT,
  IORING_OP_NOP,
  IORING_OP_READ,
  IORING_OP_SEND,
} from "../ffi/abi.ts";
import { kernelHas } from "../ffi/kernel.ts";
import { OPCODE_NAME } from "../ffi/versions.ts";
import { queryOpcodes } from "./query.ts";
import type { BpfFilter, BpfInstruction } from "./restrictions.ts";

/**
 * What may be done, by `IORING_OP_*`: nothing but `allow`, or all but `deny`. Operations that the kernel does not have may
 * be among them: nobody can do these anyway.
 */
export type OperationFilter =
  | { readonly allow: readonly number[]; readonly deny?: undefined }
  | { readonly deny: readonly number[]; readonly allow?: undefined };

/** The operations that a `Uring` does for itself: to cancel, to keep time limits, to close what nobody takes. @internal */
export const RING_OPERATIONS: readonly number[] = [
  IORING_OP_NOP,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_LINK_TIMEOUT,
  IORING_OP_CLOSE,
];

/**
 * The operations that `Uring` and what stands on it need on a thread, also where nobody asks for them: to cancel, to keep
 * time limits, to close what nobody takes, and to wake the event loop.
 */
export const LOOP_OPERATIONS: readonly number[] = [...RING_OPERATIONS, IORING_OP_READ, IORING_OP_SEND];

const MOST_OPCODE = 255;
/** Returns 0, which denies. */
const DENIAL: readonly BpfInstruction[] = [{ code: BPF_RET | BPF_K, jt: 0, jf: 0, k: 0 }];

function checkOpcodes(name: string, opcodes: unknown): readonly number[] {
  if (!Array.isArray(opcodes)) throw new TypeError(`${name} must be an array of IORING_OP_*`);
  for (const opcode of opcodes) {
    if (!Number.isInteger(opcode) || opcode < 0 || opcode > MOST_OPCODE) {
      throw new RangeError(`${name} must hold IORING_OP_*, not ${opcode}`);
    }
  }
  return opcodes;
}

/** How many operations the kernel has. */
function countOpcodes(): number {
  // What has filters can be asked; what has none says so when the first one is registered.
  return kernelHas("7.0") ? queryOpcodes().requestOpcodes : OPCODE_NAME.length;
}

/**
 * Which of the kernel's operations a filter denies.
 *
 * @throws TypeError for what is no filter, RangeError for what is no operation.
 */
export function deniedOperations(filter: OperationFilter): number[] {
  if (typeof filter !== "object" || filter === null) throw new TypeError("A filter is an object");
  const { allow, deny } = filter;
  if ((allow === undefined) === (deny === undefined)) {
    throw new TypeError("A filter has either allow or deny");
  }
  const named = new Set(checkOpcodes(allow === undefined ? "deny" : "allow", allow ?? deny));
  const denied: number[] = [];
  const count = countOpcodes();
  for (let opcode = 0; opcode < count; opcode++) {
    if (named.has(opcode) === (deny !== undefined)) denied.push(opcode);
  }
  return denied;
}

/**
 * Has each operation denied that a filter denies. Each gets a filter of its own, also with `allow`: the kernel's
 * `IO_URING_BPF_FILTER_DENY_REST` would pass over operations that have a filter already, which may allow them.
 * @internal
 */
export function applyOperationFilter(filter: OperationFilter, register: (filter: BpfFilter) => void): void {
  for (const opcode of deniedOperations(filter)) register({ opcode, program: DENIAL });
}
