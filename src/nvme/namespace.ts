/**
 * NVMe namespaces: blocks, and zones.
 *
 * @module
 */
import { O_RDONLY, O_RDWR } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { adapter, system } from "../ffi/system.ts";
import { checkSize } from "../loop/options.ts";
import type { RegisteredBuffer } from "../loop/registered_buffer.ts";
import type { RegisterBufferOptions } from "../loop/resources.ts";
import type { Cqe } from "../ring/cqe.ts";
import { high32, low32, type U64 } from "../ring/sqe_base.ts";
import {
  nvme_cmd_compare,
  nvme_cmd_dsm,
  nvme_cmd_flush,
  nvme_cmd_read,
  nvme_cmd_write,
  nvme_cmd_write_zeroes,
  nvme_cmd_zone_append,
  nvme_cmd_zone_mgmt_recv,
  nvme_cmd_zone_mgmt_send,
  NVME_DSM_MAX_RANGES,
  nvme_dsm_range,
  NVME_DSMGMT_AD,
  NVME_IOCTL_ID,
  NVME_REPORT_ZONE_PARTIAL,
  NVME_URING_CMD_IO,
  NVME_ZONE_CLOSE,
  NVME_ZONE_FINISH,
  NVME_ZONE_OPEN,
  NVME_ZONE_RESET,
  NVME_ZONE_SELECT_ALL,
  NVME_ZRA_ZONE_REPORT,
} from "./abi.ts";
import {
  type CommandData,
  CommandQueue,
  type NvmeCommand,
  type NvmeMemory,
  type Polling,
  type QueueOptions,
} from "./command.ts";
import { nothing, NvmeController, result64 } from "./controller.ts";
import type { NamespaceInfo } from "./identify.ts";
import { blockWords, makeTransfer, MOST_BLOCKS, type TransferOptions } from "./transfer.ts";
import { parseReport, reportSize, type Zone } from "./zones.ts";

/** How a namespace is opened. */
export interface NamespaceOptions extends QueueOptions {
  /**
   * Whether completions are polled for: `IORING_SETUP_IOPOLL`, Linux 6.1, and the driver needs queues for it
   * (`nvme.poll_queues`). A core is busy as long as commands are in flight. `"hybrid"`: `IORING_SETUP_HYBRID_IOPOLL`,
   * Linux 6.13. Default: false.
   */
  poll?: Polling;
  /** The controller; default: `/dev/nvme0` for `/dev/ng0n1`. */
  controller?: string;
  /** Open it for reading alone. Default: false. */
  readOnly?: boolean;
}

/** A range of blocks. */
export interface BlockRange {
  /** The first block. */
  readonly block: U64;
  /** How many. */
  readonly blocks: number;
}

const GENERIC = /ng(\d+)n\d+$/;
const REPORT_ZONES = 1024;
const DWORD = 4;
const ENOTTY = 25;

/** The number of an open namespace. */
function namespaceNumber(fd: number, path: string): number {
  const { ioctl } = adapter.open(system().libc, { ioctl: { result: "i32", args: ["i32", "word", "word"] } });
  const nsid = ioctl(fd, NVME_IOCTL_ID, 0);
  if (nsid > 0) return nsid;
  throw new UringError(ENOTTY, "ioctl", {
    path,
    hint: "not the character device of an NVMe namespace (/dev/ng0n1)",
  });
}

function appendedBlock(cqe: Cqe | undefined): number {
  return Number(result64(cqe));
}

/**
 * An NVMe namespace, `/dev/ng0n1`: reads, writes and zones without the block layer between. Everything asked for in one
 * turn of the event loop goes to the device with one system call. Memory that is given is the device's until the promise
 * settles. Commands of one turn have no order among them.
 *
 * @example
 * ```ts
 * import { NvmeNamespace } from "uring/nvme";
 * await using disk = await NvmeNamespace.open("/dev/ng0n1", { poll: "hybrid" });
 * using buffer = disk.registerBuffer(1 << 16);
 * await disk.read(buffer, { block: 0, length: 4096 });
 * ```
 */
export class NvmeNamespace implements AsyncDisposable {
  /** Its path. */
  readonly path: string;
  /** What it is, as it was when it was opened. */
  readonly info: NamespaceInfo;
  /** The controller, open as long as the namespace is. */
  readonly controller: NvmeController;
  /** The most bytes of one read or write. */
  readonly maxTransfer: number;
  /** The most bytes of one zone append. */
  readonly maxAppend: number;
  readonly #fd: number;
  readonly #queue: CommandQueue;
  #closing: Promise<void> | null = null;

  private constructor(parts: {
    path: string;
    info: NamespaceInfo;
    controller: NvmeController;
    maxTransfer: number;
    maxAppend: number;
    fd: number;
    queue: CommandQueue;
  }) {
    this.path = parts.path;
    this.info = parts.info;
    this.controller = parts.controller;
    this.maxTransfer = parts.maxTransfer;
    this.maxAppend = parts.maxAppend;
    this.#fd = parts.fd;
    this.#queue = parts.queue;
  }

  /**
   * Opens a namespace and has it identified.
   *
   * @throws UringError as `openat`; `ENOTTY` for what is no namespace.
   */
  static async open(path: string, options: NamespaceOptions = {}): Promise<NvmeNamespace> {
    const { poll = false, readOnly = false } = options;
    const number = GENERIC.exec(path)?.[1];
    const controllerPath = options.controller ?? (number === undefined ? undefined : `/dev/nvme${number}`);
    if (controllerPath === undefined) {
      throw new TypeError(`The controller of ${path} is to be named: its name is not like /dev/ng0n1`);
    }
    const controller = await NvmeController.open(controllerPath, options);
    let fd = -1;
    let queue = controller.queue;
    try {
      fd = await queue.uring.openat(path, { flags: readOnly ? O_RDONLY : O_RDWR });
      const nsid = namespaceNumber(fd, path);
      const { maxTransfer } = controller.info;
      const info = await controller.identifyNamespace(nsid);
      const maxAppend = info.zones === null ? 0 : await controller.appendLimit(maxTransfer);
      if (poll !== false) queue = new CommandQueue(poll, options);
      return new NvmeNamespace({ path, info, controller, maxTransfer, maxAppend, fd, queue });
    } catch (error) {
      await controller[Symbol.asyncDispose]();
      if (fd >= 0) system().close(fd);
      throw error;
    }
  }

  #submit<T>(
    name: string,
    command: NvmeCommand,
    data: CommandData | null,
    finish: (cqe: Cqe | undefined) => T,
  ): Promise<T> {
    return this.#queue.submit(name, this.#fd, NVME_URING_CMD_IO, command, data, finish);
  }

  /** Memory that is registered with the ring, for commands of this namespace: nothing is mapped for each of them. */
  registerBuffer(size: number, options?: RegisterBufferOptions): RegisteredBuffer {
    return this.#queue.uring.registerBuffer(size, options);
  }

  /** Reads blocks. */
  read(memory: NvmeMemory, options: TransferOptions): Promise<void> {
    const { command, data } = makeTransfer(this.info, this.maxTransfer, nvme_cmd_read, memory, options);
    return this.#submit("nvme_read", command, data, nothing);
  }

  /** Writes blocks. */
  write(memory: NvmeMemory, options: TransferOptions): Promise<void> {
    const { command, data } = makeTransfer(this.info, this.maxTransfer, nvme_cmd_write, memory, options);
    return this.#submit("nvme_write", command, data, nothing);
  }

  /** Compares blocks with memory: `NVME_SC_COMPARE_FAILED` where they differ. */
  compare(memory: NvmeMemory, options: TransferOptions): Promise<void> {
    const { command, data } = makeTransfer(this.info, this.maxTransfer, nvme_cmd_compare, memory, options);
    return this.#submit("nvme_compare", command, data, nothing);
  }

  /** Has what was written survive a loss of power. */
  flush(): Promise<void> {
    return this.#submit("nvme_flush", { opcode: nvme_cmd_flush, nsid: this.info.nsid }, null, nothing);
  }

  /** Makes blocks all zero, without sending any: at most 65,536. */
  writeZeroes(range: BlockRange): Promise<void> {
    const { block, blocks } = range;
    checkCount(blocks, MOST_BLOCKS);
    const command = { opcode: nvme_cmd_write_zeroes, ...blockWords(block), cdw12: blocks - 1 };
    return this.#submit("nvme_write_zeroes", { ...command, nsid: this.info.nsid }, null, nothing);
  }

  /** Says that blocks are needed no more: at most 256 ranges. */
  deallocate(ranges: readonly BlockRange[]): Promise<void> {
    if (ranges.length < 1 || ranges.length > NVME_DSM_MAX_RANGES) {
      throw new RangeError(`There must be 1 to ${NVME_DSM_MAX_RANGES} ranges, not ${ranges.length}`);
    }
    const memory = new Uint8Array(new ArrayBuffer(ranges.length * nvme_dsm_range.size));
    const view = new DataView(memory.buffer);
    ranges.forEach(({ block, blocks }, i) => {
      checkSize("block", block);
      checkCount(blocks, 0xffff_ffff);
      const at = i * nvme_dsm_range.size;
      view.setUint32(at + nvme_dsm_range.nlb, blocks, true);
      view.setInt32(at + nvme_dsm_range.slba, low32(block), true);
      view.setInt32(at + nvme_dsm_range.slba + 4, high32(block), true);
    });
    const command = {
      opcode: nvme_cmd_dsm,
      nsid: this.info.nsid,
      cdw10: ranges.length - 1,
      cdw11: NVME_DSMGMT_AD,
    };
    return this.#submit("nvme_dsm", command, { memory }, nothing);
  }

  /**
   * Writes blocks behind what is in a zone, and resolves with the first one's number. Many may be under way in one zone:
   * the device finds the place.
   *
   * @param options `block` is the first block of the zone.
   */
  zoneAppend(memory: NvmeMemory, options: TransferOptions): Promise<number> {
    this.#checkZoned();
    const { command, data } = makeTransfer(this.info, this.maxAppend, nvme_cmd_zone_append, memory, options);
    return this.#submit("nvme_zone_append", command, data, appendedBlock);
  }

  /** The zones from one on; default: all. */
  async zones(from: U64 = 0, count: number = Infinity): Promise<Zone[]> {
    const { blocks: zoneBlocks } = this.#checkZoned();
    checkSize("from", from);
    if (count !== Infinity) checkSize("count", count);
    const most = Math.min(REPORT_ZONES, Math.floor(this.maxTransfer / reportSize(1)));
    const end = this.info.blocks;
    const found: Zone[] = [];
    for (let start = Number(from); start < end && found.length < count;) {
      const zones = Math.min(most, Math.ceil((end - start) / zoneBlocks) + 1, count - found.length);
      const memory = new Uint8Array(new ArrayBuffer(reportSize(zones)));
      const command = {
        opcode: nvme_cmd_zone_mgmt_recv,
        nsid: this.info.nsid,
        ...blockWords(start),
        cdw12: memory.length / DWORD - 1,
        cdw13: NVME_ZRA_ZONE_REPORT | NVME_REPORT_ZONE_PARTIAL,
      };
      await this.#submit("nvme_zone_report", command, { memory }, nothing);
      const part = parseReport(memory);
      if (part.length === 0) break;
      found.push(...part);
      start = part.at(-1)!.start + zoneBlocks;
    }
    return found;
  }

  /** Empties a zone, by its first block, or all of them: what was there is lost. */
  resetZone(zone: U64 | "all"): Promise<void> {
    return this.#manage(NVME_ZONE_RESET, zone);
  }

  /** Opens a zone, by its first block, or all that are closed. */
  openZone(zone: U64 | "all"): Promise<void> {
    return this.#manage(NVME_ZONE_OPEN, zone);
  }

  /** Closes a zone, by its first block, or all that are open. */
  closeZone(zone: U64 | "all"): Promise<void> {
    return this.#manage(NVME_ZONE_CLOSE, zone);
  }

  /** Makes a zone full, by its first block, or all that are open or closed. */
  finishZone(zone: U64 | "all"): Promise<void> {
    return this.#manage(NVME_ZONE_FINISH, zone);
  }

  #manage(action: number, zone: U64 | "all"): Promise<void> {
    this.#checkZoned();
    const all = zone === "all";
    const command = {
      opcode: nvme_cmd_zone_mgmt_send,
      nsid: this.info.nsid,
      ...blockWords(all ? 0 : zone),
      cdw13: action | (all ? NVME_ZONE_SELECT_ALL : 0),
    };
    return this.#submit("nvme_zone_management", command, null, nothing);
  }

  /**
   * Any command, as it is; resolves with its result. The data's length must be what the command transfers: the device goes
   * by the command, and would write beyond it.
   */
  command(command: NvmeCommand, data: CommandData | null = null): Promise<bigint> {
    return this.#submit("nvme_command", { nsid: this.info.nsid, ...command }, data, result64);
  }

  #checkZoned(): { readonly blocks: number } {
    if (this.info.zones === null) throw new TypeError(`${this.path} has no zones`);
    return this.info.zones;
  }

  /** Waits for all commands and closes the namespace and its controller. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    await Promise.all([this.#queue.close(), this.controller[Symbol.asyncDispose]()]);
    system().close(this.#fd);
  }
}

function checkCount(count: number, most: number): void {
  if (!Number.isInteger(count) || count < 1 || count > most) {
    throw new RangeError(`blocks must be an integer from 1 to ${most}, not ${count}`);
  }
}
