/**
 * errno numbers, names and messages.
 *
 * @module
 */
import { ERRNO_TABLE } from "./errno_table.ts";

/** The name of an errno (positive): `2` → `"ENOENT"`; `"E513"` for one that has none. */
export function errnoCode(errno: number): string {
  return ERRNO_TABLE[errno]?.[0] ?? `E${errno}`;
}

/** The message of an errno (positive), worded as both runtimes word it: `"no such file or directory"`. */
export function errnoMessage(errno: number): string {
  return ERRNO_TABLE[errno]?.[1] ?? "unknown error";
}
