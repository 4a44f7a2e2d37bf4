/**
 * How a range of a file will be used.
 *
 * @module
 */
import {
  POSIX_FADV_DONTNEED,
  POSIX_FADV_NOREUSE,
  POSIX_FADV_NORMAL,
  POSIX_FADV_RANDOM,
  POSIX_FADV_SEQUENTIAL,
  POSIX_FADV_WILLNEED,
  SYNC_FILE_RANGE_WAIT_AFTER,
  SYNC_FILE_RANGE_WAIT_BEFORE,
  SYNC_FILE_RANGE_WRITE,
} from "../ffi/abi.ts";
import { typeError } from "./errors.ts";

/** How a range of a file will be used. */
export type Advice = "normal" | "sequential" | "random" | "willneed" | "dontneed" | "noreuse";

const ADVICE: Readonly<Record<Advice, number>> = {
  normal: POSIX_FADV_NORMAL,
  sequential: POSIX_FADV_SEQUENTIAL,
  random: POSIX_FADV_RANDOM,
  willneed: POSIX_FADV_WILLNEED,
  dontneed: POSIX_FADV_DONTNEED,
  noreuse: POSIX_FADV_NOREUSE,
};

/** To have a range written, and to wait for that. */
export const SYNC_ALL: number = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
  SYNC_FILE_RANGE_WAIT_AFTER;

/** It as the kernel takes it. */
export function adviceOf(advice: Advice): number {
  const bits = ADVICE[advice];
  if (bits !== undefined) return bits;
  throw typeError("ERR_INVALID_ARG_VALUE", `The argument 'advice' is invalid. Received '${String(advice)}'`);
}
