/**
 * `uring/nvme`: commands straight to NVMe devices, past the block layer and the file system, with promises.
 *
 * ```ts
 * import { NvmeNamespace } from "uring/nvme";
 * await using disk = await NvmeNamespace.open("/dev/ng0n1");
 * const buffer = new Uint8Array(disk.info.blockSize);
 * await disk.read(buffer, { block: 0 });
 * ```
 *
 * What the device refuses is an `NvmeError` with the status's name, what Linux refuses a `UringError`. It takes root, or
 * the right to use the device's file (Linux 6.2); `IORING_OP_URING_CMD` is there since Linux 5.19.
 *
 * @module
 */
export { UringError } from "../ffi/errors.ts";
export { RegisteredBuffer } from "../loop/registered_buffer.ts";
export {
  type CommandData,
  type NvmeCommand,
  type NvmeMemory,
  type Polling,
  type QueueOptions,
} from "./command.ts";
export { NvmeController } from "./controller.ts";
export { type BlockFormat, type ControllerInfo, type NamespaceInfo, type ZoneInfo } from "./identify.ts";
export { type BlockRange, type NamespaceOptions, NvmeNamespace } from "./namespace.ts";
export { NvmeError } from "./status.ts";
export { type Protection, type TransferOptions } from "./transfer.ts";
export { type Zone, type ZoneState } from "./zones.ts";
