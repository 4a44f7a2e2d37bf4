/**
 * Reads and writes of blocks as NVMe has them.
 *
 * @module
 */
import { checkSize, checkU32, checkView } from "../loop/options.ts";
import { RegisteredBuffer } from "../loop/registered_buffer.ts";
import { high32, low32, type U64 } from "../ring/sqe_base.ts";
import {
  NVME_RW_FUA,
  NVME_RW_PRINFO_PRACT,
  NVME_RW_PRINFO_PRCHK_APP,
  NVME_RW_PRINFO_PRCHK_GUARD,
  NVME_RW_PRINFO_PRCHK_REF,
} from "./abi.ts";
import type { CommandData, NvmeCommand, NvmeMemory } from "./command.ts";
import type { NamespaceInfo } from "./identify.ts";

/** What is done about the protection information of blocks. */
export interface Protection {
  /** The controller makes it when writing, and takes it away when reading, if it is all the metadata there is: `PRACT`. */
  byController?: boolean;
  /** Check the checksum. */
  checkGuard?: boolean;
  /** Check the application tag. */
  checkAppTag?: boolean;
  /** Check the reference tag. */
  checkRefTag?: boolean;
  /** The application tag, 16 bits; default: 0. */
  appTag?: number;
  /** Which of its bits are checked; default: all. */
  appMask?: number;
  /** The reference tag of the first block; default: the lower 32 bits of the block's number, as types 1 and 2 want it. */
  refTag?: number;
}

/** Which blocks, and which part of the memory. */
export interface TransferOptions {
  /** The first block; for a zone append, the first one of the zone. */
  block: U64;
  /** Where in the memory, in bytes; default: 0. */
  offset?: number;
  /** How many bytes, whole blocks; default: the rest of the memory. */
  length?: number;
  /** Memory for what is kept beside the blocks: so many bytes for each as the namespace's format says. */
  metadata?: ArrayBufferView;
  /** What is done about protection information; default: nothing is checked. */
  protection?: Protection;
  /** Do not complete before the blocks are on the medium. */
  forceUnitAccess?: boolean;
  /** Milliseconds after which the driver has the command aborted; default: the driver's own limit. */
  timeout?: number;
}

/** A command and its data. */
export interface Transfer {
  readonly command: NvmeCommand;
  readonly data: CommandData;
}

/** The most blocks of one command. */
export const MOST_BLOCKS = 0x1_0000;
/** The size of the protection information of most formats. */
const TUPLE = 8;

/** Words 10 and 11: where it begins. */
export function blockWords(block: U64): { readonly cdw10: number; readonly cdw11: number } {
  checkSize("block", block);
  return { cdw10: low32(block) >>> 0, cdw11: high32(block) >>> 0 };
}

/**
 * Makes a read, a write, or what is like them.
 *
 * @param most The most bytes of one.
 * @throws TypeError, RangeError for what cannot be, above all for lengths that would have the device work on other memory.
 */
export function makeTransfer(
  info: NamespaceInfo,
  most: number,
  opcode: number,
  memory: NvmeMemory,
  options: TransferOptions,
): Transfer {
  if (typeof options !== "object" || options === null) {
    throw new TypeError("options must be an object with block");
  }
  const { block, offset = 0, metadata, protection = {}, timeout = 0 } = options;
  const fixed = memory instanceof RegisteredBuffer;
  if (!fixed) checkView(memory);
  const length = options.length ?? (fixed ? memory.size : memory.byteLength) - offset;
  // What is all protection information never leaves the controller.
  const stripped = protection.byController === true && info.protectionType !== 0 &&
    info.metadataSize === TUPLE;
  const beside = stripped ? 0 : info.metadataSize;
  const unit = info.blockSize + (info.extended ? beside : 0);
  const blocks = length / unit;
  if (!Number.isInteger(blocks) || blocks < 1 || blocks > MOST_BLOCKS) {
    throw new RangeError(`length must be 1 to ${MOST_BLOCKS} blocks of ${unit} bytes, not ${length} bytes`);
  }
  if (length > most) {
    throw new RangeError(`The device transfers at most ${most} bytes at once, not ${length}`);
  }
  checkMetadata(info.extended ? 0 : blocks * beside, metadata);
  const command = {
    opcode,
    nsid: info.nsid,
    ...blockWords(block),
    cdw12: (blocks - 1 + controlWord(options, protection)) >>> 0,
    cdw14: checkU32("refTag", protection.refTag ?? low32(block) >>> 0),
    cdw15: (check16("appMask", protection.appMask ?? 0xffff) * 0x1_0000 +
      check16("appTag", protection.appTag ?? 0)) >>>
      0,
    timeout,
  };
  return { command, data: { memory, offset, length, metadata } };
}

function checkMetadata(expected: number, metadata: ArrayBufferView | undefined): void {
  if (metadata !== undefined) checkView(metadata);
  const given = metadata?.byteLength ?? 0;
  if (given === expected) return;
  throw new RangeError(
    expected === 0
      ? "The metadata has no place: the blocks have none, or it is in the same memory"
      : `These blocks have ${expected} bytes of metadata, not ${given}`,
  );
}

function controlWord(options: TransferOptions, protection: Protection): number {
  const flag = (set: boolean | undefined, bit: number): number => set === true ? bit : 0;
  return flag(options.forceUnitAccess, NVME_RW_FUA) + flag(protection.byController, NVME_RW_PRINFO_PRACT) +
    flag(protection.checkGuard, NVME_RW_PRINFO_PRCHK_GUARD) +
    flag(protection.checkAppTag, NVME_RW_PRINFO_PRCHK_APP) +
    flag(protection.checkRefTag, NVME_RW_PRINFO_PRCHK_REF);
}

function check16(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff) {
    throw new RangeError(`${name} must be 16 bits, not ${value}`);
  }
  return value;
}
