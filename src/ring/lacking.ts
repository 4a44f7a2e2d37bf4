/**
 * What a kernel that answers `EINVAL` does not know.
 *
 * @module
 */
import { kernelHas } from "../ffi/kernel.ts";
import type { Flag } from "../ffi/versions.ts";

/** Names the flags among `flags` that the running kernel is too old for, or undefined when it has them all. */
export function lackingFlags(known: readonly Flag[], flags: number): string | undefined {
  const lacking = known.filter(([bit, , kernel]) => (flags & bit) !== 0 && !kernelHas(kernel));
  return lacking.length === 0
    ? undefined
    : lacking.map(([, name, kernel]) => `${name} needs Linux ${kernel}`).join(", ");
}
