/**
 * The errors of every layer.
 *
 * @module
 */
import { errnoCode, errnoMessage } from "./errno.ts";

/** Where a failure happened, for {@link UringError}. */
export interface UringErrorDetails {
  /** The path the call was about. */
  path?: string | undefined;
  /** The second path of a rename or link. */
  dest?: string | undefined;
  /** Said after the message: what is needed, or what to do. */
  hint?: string | undefined;
  /** What led to this. */
  cause?: unknown;
}

/**
 * A system call or an operation that failed, in the shape that both runtimes give their system errors:
 * `ENOENT: no such file or directory, openat '/x'` with `code`, `errno` and `syscall`.
 */
export class UringError extends Error {
  /** Always `"UringError"`. */
  override readonly name: string = "UringError";
  /** The errno's name: `"ENOENT"`. */
  readonly code: string;
  /** The errno, negative as the kernel returns it: `-2`. */
  readonly errno: number;
  /** The operation or system call: `"openat"`, `"io_uring_enter"`. */
  readonly syscall: string;
  /** The path that the operation was about, where there is one. */
  declare readonly path?: string;
  /** The second path of an operation on two. */
  declare readonly dest?: string;

  /**
   * @param errno The errno, negative or positive.
   * @param syscall The operation that failed.
   * @param details A path, a hint, a cause.
   */
  constructor(errno: number, syscall: string, details: UringErrorDetails = {}) {
    const number = Math.abs(errno);
    const code = errnoCode(number);
    let message = `${code}: ${errnoMessage(number)}, ${syscall}`;
    if (details.path !== undefined) message += ` '${details.path}'`;
    if (details.dest !== undefined) message += ` -> '${details.dest}'`;
    if (details.hint !== undefined) message += ` (${details.hint})`;
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.errno = -number;
    this.syscall = syscall;
    if (details.path !== undefined) this.path = details.path;
    if (details.dest !== undefined) this.dest = details.dest;
  }
}

/**
 * Why io_uring cannot be used here.
 *
 * - `kernel`: the kernel is older than 5.1, or was built without io_uring.
 * - `sysctl`: `kernel.io_uring_disabled` forbids it.
 * - `seccomp`: a seccomp filter refuses the system call, as container runtimes' default profiles do.
 * - `memlock`: `RLIMIT_MEMLOCK` is too small for even a small ring.
 * - `descriptors`: no descriptor is left for a ring.
 * - `ffi`: the runtime cannot call C here (in Deno: no `--allow-ffi`).
 */
export type UnavailableReason = "kernel" | "sysctl" | "seccomp" | "memlock" | "descriptors" | "ffi";

const ADVICE: Record<UnavailableReason, string> = {
  kernel: "this kernel has no io_uring; Linux 5.1 is the oldest that has it",
  sysctl:
    "the sysctl kernel.io_uring_disabled forbids it; set it to 0 (sysctl -w kernel.io_uring_disabled=0), or, when it " +
    "is 1, join the group named by kernel.io_uring_group",
  seccomp:
    "a seccomp filter refuses io_uring_setup, as Docker's default profile does; run the container with a profile " +
    "that allows io_uring_setup, io_uring_enter and io_uring_register",
  memlock:
    "RLIMIT_MEMLOCK is too small for even 16 entries; raise it (ulimit -l, LimitMEMLOCK=) or close other rings",
  descriptors: "no descriptor is left for a ring; close some, or raise RLIMIT_NOFILE (ulimit -n)",
  ffi: "the runtime cannot call C functions here; in Deno run with --allow-ffi",
};

/** io_uring cannot be used on this machine; {@link UringUnavailableError.reason} and the message tell why and what to do. */
export class UringUnavailableError extends Error {
  /** Always `"UringUnavailableError"`. */
  override readonly name: string = "UringUnavailableError";
  /** Always `"ERR_URING_UNAVAILABLE"`. */
  readonly code: string = "ERR_URING_UNAVAILABLE";
  /** What stands in the way. */
  readonly reason: UnavailableReason;
  /** The errno of `io_uring_setup`, negative; 0 when it was not called. */
  readonly errno: number;

  /**
   * @param reason What stands in the way.
   * @param details The errno that showed it, and the cause.
   */
  constructor(reason: UnavailableReason, details: { errno?: number; cause?: unknown } = {}) {
    super(
      `io_uring is unavailable: ${ADVICE[reason]}`,
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.reason = reason;
    this.errno = details.errno ?? 0;
  }
}

/** Throws a {@link UringError} for a negative result, otherwise returns it. */
export function check(result: number, syscall: string, details?: UringErrorDetails): number {
  if (result < 0) throw new UringError(result, syscall, details);
  return result;
}
