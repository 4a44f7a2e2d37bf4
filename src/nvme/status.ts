/**
 * What an NVMe device says when a command has failed.
 *
 * @module
 */
import { NVME_STATUS, NVME_STATUS_DNR, NVME_STATUS_MASK } from "./abi.ts";

/**
 * A command that an NVMe device has refused or could not carry out:
 * `NVME_SC_LBA_RANGE: blocks beyond the namespace's end, nvme_read (status 0x4080)`. What Linux itself refuses is a
 * `UringError`.
 */
export class NvmeError extends Error {
  /** Always `"NvmeError"`. */
  override readonly name: string = "NvmeError";
  /** The status as Linux calls it: `"NVME_SC_LBA_RANGE"`; `"NVME_SC_1C0"` for one without a name. */
  readonly code: string;
  /** The status with its type, 11 bits: `0x080`. */
  readonly status: number;
  /** Whether it makes sense to try the same command again. */
  readonly retryable: boolean;
  /** The command: `"nvme_read"`. */
  readonly command: string;

  /**
   * @param result The status field of the completion, with its flags.
   * @param command What has failed.
   */
  constructor(result: number, command: string) {
    const status = result & NVME_STATUS_MASK;
    const hex = (value: number): string => value.toString(16).toUpperCase();
    const [code, message] = NVME_STATUS[status] ?? [`NVME_SC_${hex(status)}`, "a status without a name"];
    super(`${code}: ${message}, ${command} (status 0x${result.toString(16)})`);
    this.code = code;
    this.status = status;
    this.retryable = (result & NVME_STATUS_DNR) === 0;
    this.command = command;
  }
}
