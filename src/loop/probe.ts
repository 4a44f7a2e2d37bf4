/**
 * Whether io_uring can be used here.
 *
 * @module
 */
import { type UnavailableReason, UringUnavailableError } from "../ffi/errors.ts";
import { kernelVersion } from "../ffi/kernel.ts";
import { system } from "../ffi/system.ts";
import { FEATURES, OPCODE_NAME } from "../ffi/versions.ts";
import { CoreRing } from "../ring/core_ring.ts";

/** What {@link probe} found where io_uring works. */
export interface Available {
  /** io_uring can be used. */
  readonly available: true;
  /** The kernel's version: `"6.18"`. */
  readonly kernel: string;
  /** What makes the system calls. */
  readonly library: "liburing" | "libc";
  /** The kernel's features by name: `"IORING_FEAT_EXT_ARG"`… */
  readonly features: ReadonlySet<string>;
  /** The operations that the kernel supports, by name: `"IORING_OP_READ"`… */
  readonly operations: ReadonlySet<string>;
}

/** What {@link probe} found where it does not. */
export interface Unavailable {
  /** io_uring cannot be used. */
  readonly available: false;
  /** What stands in the way. */
  readonly reason: UnavailableReason;
  /** The same as a sentence, with what to do about it. */
  readonly message: string;
}

/**
 * Tells whether io_uring can be used here, and if not, why and what to do: for a program that can fall back to
 * `node:fs/promises`. It never throws. It makes a tiny ring to find out, so a seccomp filter that kills sees it.
 *
 * @example
 * ```ts
 * import { probe } from "uring";
 * const found = probe();
 * if (!found.available) console.warn(found.message);
 * ```
 */
export function probe(): Available | Unavailable {
  try {
    using ring = new CoreRing(1);
    const [major, minor] = kernelVersion();
    const operations = new Set<string>();
    try {
      const found = ring.getProbe();
      OPCODE_NAME.forEach((name, op) => found.opcodeSupported(op) && operations.add(name));
    } catch {
      // Before Linux 5.6 there is nothing to ask; those kernels have the first fourteen operations or so.
    }
    const features = FEATURES.filter(([bit]) => (ring.features & bit) !== 0).map(([, name]) => name);
    return {
      available: true,
      kernel: `${major}.${minor}`,
      library: system().library,
      features: new Set(features),
      operations,
    };
  } catch (error) {
    const known = error instanceof UringUnavailableError ? error : unavailable(error);
    return { available: false, reason: known.reason, message: known.message };
  }
}

function unavailable(error: unknown): UringUnavailableError {
  const code = (error as { code?: unknown }).code;
  const reason = code === "ENOMEM"
    ? "memlock"
    : code === "EMFILE" || code === "ENFILE"
    ? "descriptors"
    : "kernel";
  return new UringUnavailableError(reason, { cause: error });
}
