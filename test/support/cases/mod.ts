/**
 * The table of operations: every method of `Uring` that is one, with a small proof that it works on the ring that it is
 * given. `test/loop/ops_kinds.test.ts` runs all of it on every kind of ring; `test/loop/errors_lacking.test.ts` on kernels
 * that pass for older ones, where each must fail by name.
 *
 * A new method of `Uring` gets an entry in the file of its subject: its name, its `IORING_OP_*`, the Linux version that it
 * takes if it is younger than the operation, and what it does. `ops_kinds.test.ts` fails for a method without an entry.
 *
 * @module
 */
import type { OperationCase } from "./case.ts";
import { COMMAND_CASES } from "./commands.ts";
import { FILE_CASES } from "./files.ts";
import { OTHER_CASES } from "./others.ts";
import { PATH_CASES } from "./paths.ts";
import { SOCKET_CASES } from "./sockets.ts";

export type { OperationCase } from "./case.ts";

/** All of them. */
export const OPERATION_CASES: readonly OperationCase[] = [
  ...FILE_CASES,
  ...PATH_CASES,
  ...SOCKET_CASES,
  ...COMMAND_CASES,
  ...OTHER_CASES,
];

/** What to call an entry in the name of a test. */
export function titleOf({ method, what }: OperationCase): string {
  return what === undefined ? method : `${method} ${what}`;
}
