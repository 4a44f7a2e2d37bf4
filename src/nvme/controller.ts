/**
 * NVMe controllers: who they are, and which namespaces they have.
 *
 * @module
 */
import { O_RDWR } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { system } from "../ffi/system.ts";
import { checkU32 } from "../loop/options.ts";
import type { Cqe } from "../ring/cqe.ts";
import {
  nvme_admin_identify,
  NVME_CSI_ZNS,
  NVME_ID_CNS_CS_CTRL,
  NVME_ID_CNS_CS_NS,
  NVME_ID_CNS_CTRL,
  NVME_ID_CNS_NS,
  NVME_ID_CNS_NS_ACTIVE_LIST,
  NVME_ID_CNS_NS_DESC_LIST,
  nvme_id_ctrl,
  NVME_URING_CMD_ADMIN,
} from "./abi.ts";
import { type CommandData, CommandQueue, type NvmeCommand, type QueueOptions } from "./command.ts";
import {
  type ControllerInfo,
  type NamespaceInfo,
  parseAppendLimit,
  parseCommandSet,
  parseController,
  parseNamespace,
} from "./identify.ts";

const IDENTIFY_SIZE = 4096;
const LIST_ENTRY = 4;
const EACCES = 13;
const ENOTTY = 25;

/** A command's result, 64 bits. */
export function result64(cqe: Cqe | undefined): bigint {
  return cqe?.bigCqe[0] ?? 0n;
}

/** For commands without a result. */
export function nothing(): void {}

async function identify(
  queue: CommandQueue,
  fd: number,
  cns: number,
  nsid: number,
  commandSet: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const memory = new Uint8Array(new ArrayBuffer(IDENTIFY_SIZE));
  const command = { opcode: nvme_admin_identify, nsid, cdw10: cns, cdw11: (commandSet << 24) >>> 0 };
  await queue.submit("nvme_identify", fd, NVME_URING_CMD_ADMIN, command, { memory }, nothing);
  return memory;
}

/** What a file that was opened as a controller says it is. */
async function identifyController(queue: CommandQueue, fd: number, path: string): Promise<ControllerInfo> {
  let cause: unknown;
  try {
    const bytes = await identify(queue, fd, NVME_ID_CNS_CTRL, 0, 0);
    // /dev/null takes every command and does nothing; no controller has entries of no size.
    if (bytes[nvme_id_ctrl.sqes] !== 0) return parseController(bytes);
  } catch (error) {
    if (!(error instanceof UringError) || error.errno === -EACCES) throw error;
    cause = error;
  }
  const hint = "not the character device of an NVMe controller (/dev/nvme0)";
  throw new UringError(ENOTTY, "nvme_identify", { path, hint, cause });
}

/**
 * An NVMe controller, `/dev/nvme0`: commands to its administrative queue, without a system call of their own. It takes
 * root, and Linux 5.19.
 *
 * @example
 * ```ts
 * import { NvmeController } from "uring/nvme";
 * await using controller = await NvmeController.open("/dev/nvme0");
 * const { modelNumber, serialNumber } = await controller.identify();
 * ```
 */
export class NvmeController implements AsyncDisposable {
  /** Its path. */
  readonly path: string;
  /** What it is, as it was when it was opened. */
  readonly info: ControllerInfo;
  /** Where its commands go through. @internal */
  readonly queue: CommandQueue;
  readonly #fd: number;
  #closing: Promise<void> | null = null;

  private constructor(path: string, info: ControllerInfo, fd: number, queue: CommandQueue) {
    this.path = path;
    this.info = info;
    this.queue = queue;
    this.#fd = fd;
  }

  /**
   * Opens a controller and has it identify itself.
   *
   * @throws UringError as `openat`; `ENOTTY` for what is no controller, `EINVAL` where the kernel is older than Linux 5.19.
   */
  static async open(path: string, options: QueueOptions = {}): Promise<NvmeController> {
    const queue = new CommandQueue(false, options);
    let fd = -1;
    try {
      fd = await queue.uring.openat(path, { flags: O_RDWR });
      return new NvmeController(path, await identifyController(queue, fd, path), fd, queue);
    } catch (error) {
      await queue.close();
      if (fd >= 0) system().close(fd);
      throw error;
    }
  }

  /**
   * A command to the administrative queue, whatever it is; resolves with its result. The data's length must be what the
   * command transfers: the device goes by the command.
   */
  command(command: NvmeCommand, data: CommandData | null = null): Promise<bigint> {
    return this.queue.submit("nvme_admin", this.#fd, NVME_URING_CMD_ADMIN, command, data, result64);
  }

  /** What the controller is by now. */
  async identify(): Promise<ControllerInfo> {
    return parseController(await this.identifyRaw(NVME_ID_CNS_CTRL));
  }

  /**
   * What a namespace is.
   *
   * @throws NvmeError `NVME_SC_INVALID_NS` for one that cannot be; one that is not there has no blocks.
   */
  async identifyNamespace(nsid: number): Promise<NamespaceInfo> {
    checkU32("nsid", nsid);
    const [bytes, commandSet] = await Promise.all([
      this.identifyRaw(NVME_ID_CNS_NS, nsid),
      // Before NVMe 1.3 there was none but plain blocks.
      this.identifyRaw(NVME_ID_CNS_NS_DESC_LIST, nsid).then(parseCommandSet, () => 0),
    ]);
    const zoned = commandSet === NVME_CSI_ZNS
      ? await this.identifyRaw(NVME_ID_CNS_CS_NS, nsid, NVME_CSI_ZNS)
      : null;
    return parseNamespace(nsid, bytes, commandSet, zoned);
  }

  /** The numbers of the active namespaces, at most 1024. */
  async namespaces(): Promise<number[]> {
    const bytes = await this.identifyRaw(NVME_ID_CNS_NS_ACTIVE_LIST);
    const view = new DataView(bytes.buffer);
    const all = Array.from(
      { length: IDENTIFY_SIZE / LIST_ENTRY },
      (_, i) => view.getUint32(i * LIST_ENTRY, true),
    );
    return all.filter((nsid) => nsid !== 0);
  }

  /** The most bytes of one zone append. @internal */
  async appendLimit(maxTransfer: number): Promise<number> {
    return parseAppendLimit(await this.identifyRaw(NVME_ID_CNS_CS_CTRL, 0, NVME_CSI_ZNS), maxTransfer);
  }

  /**
   * The 4096 bytes of any `Identify` command.
   *
   * @param cns What to identify: `CNS`.
   * @param nsid The namespace, where it is about one.
   * @param commandSet The command set, where it is about one.
   */
  async identifyRaw(cns: number, nsid: number = 0, commandSet: number = 0): Promise<Uint8Array<ArrayBuffer>> {
    return await identify(this.queue, this.#fd, cns, nsid, commandSet);
  }

  /** Waits for all commands and closes the controller. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    await this.queue.close();
    system().close(this.#fd);
  }
}
