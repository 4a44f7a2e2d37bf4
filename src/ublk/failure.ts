/**
 * From what handlers throw to what clients are told.
 *
 * @module
 */
import { ERRNO_NUMBER } from "../ffi/errno_table.ts";

const EIO = 5;
const MOST_ERRNO = 4095;

/** The error number, positive, that a client gets for what a handler has thrown. */
export function errnoOf(error: unknown): number {
  if (typeof error !== "object" || error === null) return EIO;
  const { code, errno } = error as { code?: unknown; errno?: unknown };
  const named = typeof code === "string" ? ERRNO_NUMBER[code] : undefined;
  if (named !== undefined) return named;
  if (typeof errno !== "number" || !Number.isInteger(errno)) return EIO;
  const number = Math.abs(errno);
  return number >= 1 && number <= MOST_ERRNO ? number : EIO;
}
