/**
 * From what handlers throw to what clients get.
 *
 * @module
 */
import { ERRNO_NUMBER } from "../ffi/errno_table.ts";

export const ENOENT = 2;
export const EINTR = 4;
export const EIO = 5;
export const EBADF = 9;
export const EEXIST = 17;
export const ENODEV = 19;
export const EINVAL = 22;
export const EFBIG = 27;
export const ERANGE = 34;
export const ENOSYS = 38;
export const ENODATA = 61;
export const EILSEQ = 84;
export const ECONNABORTED = 103;
export const ENOTCONN = 107;
export const ETIMEDOUT = 110;

/** Beyond these the kernel has codes of its own that no client may see. */
const LAST_ERRNO = 511;

/** The number of an error's name, or undefined. */
export function errnoNumber(code: string): number | undefined {
  return Object.hasOwn(ERRNO_NUMBER, code) ? ERRNO_NUMBER[code] : undefined;
}

/** The errno that something thrown stands for, or 0 when it is no system error. */
export function errnoOf(error: unknown): number {
  if (typeof error !== "object" || error === null) return 0;
  const { code, errno, name } = error as Readonly<Record<"code" | "errno" | "name", unknown>>;
  if (typeof code === "string") {
    const number = errnoNumber(code);
    if (number !== undefined) return number;
  }
  if (typeof errno === "number" && Number.isInteger(errno) && errno !== 0 && Math.abs(errno) <= LAST_ERRNO) {
    return Math.abs(errno);
  }
  return name === "AbortError" ? EINTR : 0;
}

/** An error for a client alone: nobody else is told of it. */
export class Refusal {
  /** The errno, positive. */
  readonly errno: number;

  /** @param errno The errno, positive. */
  constructor(errno: number) {
    this.errno = errno;
  }
}

/** Throws what a client gets as this errno (positive). */
export function refuse(errno: number): never {
  throw new Refusal(errno);
}

/** What a handler has answered makes no sense. */
export class AnswerError extends TypeError {
  /** Always `"AnswerError"`. */
  override readonly name: string = "AnswerError";
}
