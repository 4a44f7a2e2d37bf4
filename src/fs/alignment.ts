/**
 * What direct I/O wants.
 *
 * @module
 */
import { UringError } from "../mod.ts";
import { named } from "./errors.ts";

/** What direct I/O wants of whoever does it. */
export interface Alignment {
  /** Memory begins at a multiple of this many bytes. */
  readonly memory: number;
  /** Places in the file and lengths are multiples of this many bytes. */
  readonly offset: number;
}

/** The failure of a transfer; an `EINVAL` of direct I/O with what it is most likely about. */
export function misaligned(error: unknown, syscall: string, { memory, offset }: Alignment): unknown {
  if (!(error instanceof UringError) || error.code !== "EINVAL") return named(error, syscall);
  const hint =
    `direct I/O wants places and lengths that are multiples of ${offset}, and memory aligned to ${memory} bytes`;
  return new UringError(error.errno, syscall, { hint, cause: error });
}
