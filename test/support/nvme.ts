/**
 * Commands for NVMe disks, as `linux/nvme_ioctl.h` has them.
 *
 * @module
 */
import { check } from "../../src/ffi/errors.ts";
import { libc } from "./libc.ts";

/** Reads or writes one piece of memory: `NVME_URING_CMD_IO`. */
export const NVME_URING_CMD_IO = 0xc048_4e80;
/** The same with an array of `struct iovec`. */
export const NVME_URING_CMD_IO_VEC = 0xc048_4e81;
/** `nvme_cmd_write`. */
export const NVME_WRITE = 1;
/** `nvme_cmd_read`. */
export const NVME_READ = 2;
/** The size of `struct nvme_uring_cmd`. */
export const NVME_COMMAND_SIZE = 72;
/** Where in it the memory's address is. */
export const NVME_ADDRESS = 24;

/** A read or write. */
export interface NvmeCommand {
  readonly opcode: number;
  /** The namespace. */
  readonly nsid: number;
  /** The first block, and how many. */
  readonly block: number;
  readonly blocks: number;
  /** The memory, or the vectors. */
  readonly address: number;
  /** How many bytes, or vectors. */
  readonly length: number;
}

/** Writes a `struct nvme_uring_cmd`. */
export function encodeNvme(into: Uint8Array, command: NvmeCommand): void {
  const view = new DataView(into.buffer, into.byteOffset, NVME_COMMAND_SIZE);
  into.fill(0);
  view.setUint8(0, command.opcode);
  view.setUint32(4, command.nsid, true);
  view.setBigUint64(NVME_ADDRESS, BigInt(command.address), true);
  view.setUint32(36, command.length, true);
  view.setUint32(40, command.block, true);
  view.setUint32(48, command.blocks - 1, true);
}

/** The number of a disk's namespace. */
export function namespaceOf(fd: number): number {
  const NVME_IOCTL_ID = 0x4e40;
  return check(libc().ioctl(fd, NVME_IOCTL_ID, null), "ioctl");
}
