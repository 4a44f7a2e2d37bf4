/**
 * Settling promises.
 *
 * @module
 */
import type { CoreRing } from "../ring/core_ring.ts";
import { operationError } from "./failure.ts";
import type { Op, OpTable, Resolve } from "./op.ts";

/** Rejects a promise whose `resolve` alone was kept. */
export function reject(resolve: Resolve | null, reason: unknown): void {
  resolve?.(Promise.reject(reason) as never);
}

/** Settles an operation's promise by its result, and gives its slot back. Whether it was fulfilled. */
export function settle(ring: CoreRing, table: OpTable, op: Op, res: number): boolean {
  const { resolve, view, finish } = op;
  let failure: { reason: unknown } | null = null;
  let value: unknown = res;
  if (view !== null && view.byteLength === 0 && (view.buffer as ArrayBuffer).detached) {
    failure = { reason: new TypeError("The buffer was detached while the kernel was working on it") };
  } else if (res < 0 && (finish === null || !takes(finish, res))) {
    failure = { reason: operationError(ring, res, op) };
  } else if (finish !== null) {
    try {
      value = finish(res, op);
    } catch (reason) {
      failure = { reason };
    }
  }
  table.release(op);
  if (failure === null) resolve!(value as never);
  else reject(resolve, failure.reason);
  return failure === null;
}

const errorFinishers = new WeakMap<object, readonly number[]>();

/** Marks a {@link Finish} that wants negative results too: these, or all of them when none is named. */
export function takesErrors<F extends object>(finish: F, ...results: readonly number[]): F {
  errorFinishers.set(finish, results);
  return finish;
}

function takes(finish: object, res: number): boolean {
  const results = errorFinishers.get(finish);
  return results !== undefined && (results.length === 0 || results.includes(res));
}
