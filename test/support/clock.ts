/**
 * The kernel's clocks. `process.hrtime()` counts from the start of the process in Deno.
 *
 * @module
 */
import { check } from "../../src/ffi/errors.ts";
import { adapter, system } from "../../src/ffi/system.ts";

/** libc's function to read a clock. */
const CLOCK = {
  // int clock_gettime(clockid_t clock, struct timespec *time)
  clock_gettime: { result: "i32", args: ["i32", "bytes"] },
} as const;

const CLOCK_MONOTONIC = 1;

/** The monotonic clock, to which absolute timeouts refer by default: nanoseconds. */
export function monotonic(): bigint {
  const time = new Uint8Array(new ArrayBuffer(16));
  check(adapter.open(system().libc, CLOCK).clock_gettime(CLOCK_MONOTONIC, time), "clock_gettime");
  const view = new DataView(time.buffer);
  return view.getBigInt64(0, true) * 1_000_000_000n + view.getBigInt64(8, true);
}
