/**
 * How much memory a ring takes, before there is one.
 *
 * @module
 */
import { IORING_FEAT_NATIVE_WORKERS } from "../ffi/abi.ts";
import { kernelHas } from "../ffi/kernel.ts";
import { io_uring_params } from "../ffi/structs.ts";
import { system } from "../ffi/system.ts";
import { checkOptions, type RingOptions } from "./setup.ts";
import { queueSizes } from "./sizes.ts";

/**
 * How many bytes the queues of such a ring take, in whole pages: `io_uring_memory_size_params`, `io_uring_memory_size`.
 * `memory` of {@link RingOptions} must have as many.
 *
 * @param entries As for a ring.
 * @param options As for a ring: the flags and the entries of the completion queue matter.
 * @throws RangeError for what a ring cannot be made with.
 */
export function memorySize(entries: number, options: RingOptions = {}): number {
  const flags = checkOptions(entries, options);
  const { sqes, ring } = queueSizes(entries, options.cqEntries ?? 0, flags);
  return sqes + ring;
}

/**
 * How many bytes of `RLIMIT_MEMLOCK` such a ring takes of a user without `CAP_IPC_LOCK`: `io_uring_mlock_size_params`,
 * `io_uring_mlock_size`. From Linux 5.12 to 6.13 none; liburing's answer for later kernels is 0 as well, but there the
 * queues count again.
 *
 * @param entries As for a ring.
 * @param options As for a ring.
 * @throws RangeError for what a ring cannot be made with.
 */
export function mlockSize(entries: number, options: RingOptions = {}): number {
  const size = memorySize(entries, options);
  if (kernelHas("6.14")) return size;
  const params = new Uint8Array(new ArrayBuffer(io_uring_params.size));
  const fd = system().setup(1, params);
  if (fd < 0) return size;
  system().close(fd);
  const features = new DataView(params.buffer).getUint32(io_uring_params.features, true);
  return (features & IORING_FEAT_NATIVE_WORKERS) !== 0 ? 0 : size;
}
