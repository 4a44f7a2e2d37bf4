/**
 * `uring/ublk`: block devices in TypeScript. The kernel's ublk driver hands the requests for `/dev/ublkbN` to this program
 * by a ring, and the disk's handlers do them. Needs Linux 6.5 with the module `ublk_drv`, and root.
 *
 * @example
 * ```ts
 * import { createDisk } from "uring/ublk";
 * const memory = new Uint8Array(64 << 20);
 * await using disk = await createDisk({ size: memory.length }, {
 *   read: ({ data, offset, length }) => data.set(memory.subarray(offset, offset + length)),
 *   write: ({ data, offset }) => memory.set(data, offset),
 * });
 * console.log(disk.path); // /dev/ublkb0
 * ```
 *
 * @module
 */
export { UringError, type UringErrorDetails, UringUnavailableError } from "../ffi/errors.ts";
export { deleteDisk, diskInfo, ublkFeatures } from "./devices.ts";
export { createDisk, Disk, recoverDisk } from "./disk.ts";
export type {
  DiskHandler,
  DiskHandlers,
  DiskInfo,
  DiskOptions,
  DiskRequest,
  DiskState,
  DiskStats,
  FileLike,
  RecoverOptions,
  Recovery,
  RequestKind,
  ServeOptions,
  StopOptions,
  UblkFeatures,
} from "./types.ts";
