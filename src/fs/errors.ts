/**
 * Errors as Node words them.
 *
 * @module
 */
import { UringError } from "../mod.ts";

const EINVAL = -22;

/**
 * The same failure under the name that Node gives the system call: `stat` for `statx`, `open` for `openat`. What the
 * ring has to say about an `EINVAL` (an operation that the kernel lacks) stays as the cause.
 */
export function named(error: unknown, syscall: string): unknown {
  if (!(error instanceof UringError) || error.syscall === syscall) return error;
  return new UringError(error.errno, syscall, {
    path: error.path,
    dest: error.dest,
    cause: error.errno === EINVAL ? error : undefined,
  });
}

/** What an operation rejects with when its signal aborts: Node's `AbortError`, whose cause is the signal's reason. */
export class AbortError extends Error {
  /** Always `"AbortError"`. */
  override readonly name: string = "AbortError";
  /** Always `"ABORT_ERR"`. */
  readonly code: string = "ABORT_ERR";

  /**
   * The error of what a signal has ended.
   *
   * @param cause The signal's reason.
   */
  constructor(cause: unknown) {
    super("The operation was aborted", { cause });
  }
}

/** Throws when a signal has aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new AbortError(signal.reason);
}

/** The error of what was asked for with a signal: Node's when it is the signal's doing. */
export function unlessAborted(error: unknown, signal: AbortSignal | undefined): unknown {
  return signal?.aborted === true && error === signal.reason ? new AbortError(error) : error;
}

/** A `TypeError` with a `code`: `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`… */
export function typeError(code: string, message: string): TypeError {
  return Object.assign(new TypeError(message), { code });
}

/** A `RangeError` whose code is `ERR_OUT_OF_RANGE`. */
export function outOfRange(name: string, range: string, value: unknown): RangeError {
  const message = `The value of "${name}" is out of range. It must be ${range}. Received ${String(value)}`;
  return Object.assign(new RangeError(message), { code: "ERR_OUT_OF_RANGE" });
}
