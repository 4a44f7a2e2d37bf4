/**
 * Commands to NVMe devices: entries of 128 bytes, completions of 32, promises.
 *
 * @module
 */
import {
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_CQE32,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_HYBRID_IOPOLL,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQE128,
  IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_TASKRUN_FLAG,
  IORING_URING_CMD_FIXED,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { addressOf } from "../ffi/pin.ts";
import type { Driver } from "../loop/driver.ts";
import type { CompletionSink } from "../loop/op.ts";
import { checkU32, checkView } from "../loop/options.ts";
import { RegisteredBuffer } from "../loop/registered_buffer.ts";
import { BOTH, lend, READS, shadowing, takeBack } from "../loop/shadow.ts";
import { Uring, type UringOptions } from "../loop/uring.ts";
import type { Cqe } from "../ring/cqe.ts";
import { nvme_uring_cmd } from "./abi.ts";
import { NvmeError } from "./status.ts";

/** How completions are looked for: `true` polls (`IORING_SETUP_IOPOLL`), `"hybrid"` sleeps for a part of the time. */
export type Polling = boolean | "hybrid";

/** How the ring of a device is made. */
export interface QueueOptions {
  /** How many commands go to the kernel in one system call; default: 64. More than that may be in flight. */
  entries?: number;
}

/** Memory that a command reads or writes: the caller's, which is borrowed until the end, or registered with the ring. */
export type NvmeMemory = ArrayBufferView | RegisteredBuffer;

/** A command as NVMe has it: double words by their numbers. What is not given is 0. */
export interface NvmeCommand {
  /** Its number. The lowest two bits say which way data goes: 1 to the device, 2 from it. */
  readonly opcode: number;
  /** The namespace. */
  readonly nsid?: number;
  /** Double word 2. */
  readonly cdw2?: number;
  /** Double word 3. */
  readonly cdw3?: number;
  /** Double word 10. */
  readonly cdw10?: number;
  /** Double word 11. */
  readonly cdw11?: number;
  /** Double word 12. */
  readonly cdw12?: number;
  /** Double word 13. */
  readonly cdw13?: number;
  /** Double word 14. */
  readonly cdw14?: number;
  /** Double word 15. */
  readonly cdw15?: number;
  /** Milliseconds after which the driver has the command aborted; default: the driver's own limit. */
  readonly timeout?: number;
}

/** The data of a command. */
export interface CommandData {
  /** The memory. */
  readonly memory: NvmeMemory;
  /** Where in it, in bytes; default: 0. */
  readonly offset?: number | undefined;
  /** How many bytes; default: the rest. */
  readonly length?: number | undefined;
  /** Memory for what the device keeps beside the blocks. */
  readonly metadata?: ArrayBufferView | undefined;
}

const LARGE = IORING_SETUP_SQE128 | IORING_SETUP_CQE32;
const MODES: readonly number[] = [
  IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
  IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
];
const DEFAULT_ENTRIES = 64;
/** A bit of the opcode: the device writes memory. */
const FROM_DEVICE = 2;
const EINVAL = -22;

const HINTS: Readonly<Record<number, string>> = {
  4: "aborted, as after its time limit",
  13: "the command needs CAP_SYS_ADMIN, or a descriptor that may write",
  22:
    "more than the device transfers at once, a namespace that is not its own, or memory that is not aligned to 4 bytes",
  25: "the file is no NVMe device's",
  95: "the file is no NVMe device's, or what it does cannot be polled for",
};

/** The ring that the commands of a device go through. */
export class CommandQueue {
  /** The ring. */
  readonly uring: Uring;
  readonly #driver: Driver;

  /** Makes the ring. */
  constructor(polling: Polling, { entries = DEFAULT_ENTRIES }: QueueOptions) {
    this.uring = makeUring(polling, entries);
    this.#driver = this.uring.engine;
  }

  /**
   * Submits a command. What is wrong with its arguments throws; nothing reaches the kernel then.
   *
   * @param name What it is called in errors.
   * @param fd The device.
   * @param cmdOp `NVME_URING_CMD_*`.
   * @param finish Turns the command's result, 64 bits, into the promise's value.
   */
  submit<T>(
    name: string,
    fd: number,
    cmdOp: number,
    command: NvmeCommand,
    data: CommandData | null,
    finish: (cqe: Cqe | undefined) => T,
  ): Promise<T> {
    const driver = this.#driver;
    driver.assertOpen();
    if (shadowing) takeBack();
    const use = (command.opcode & FROM_DEVICE) !== 0 ? BOTH : READS;
    const find = (view: ArrayBufferView): number => shadowing ? lend(view, use) : addressOf(view);
    checkCommand(command);
    const view = data === null ? null : part(data, driver);
    const metadata = data?.metadata;
    if (metadata !== undefined) checkView(metadata);
    const address = view === null ? 0 : find(view);
    const metadataAt = metadata === undefined ? 0 : find(metadata);
    const op = driver.begin(name);
    const sqe = op.sqe!;
    sqe.prepUringCmd(cmdOp, fd);
    op.view = view;
    op.pins = metadata;
    if (data !== null && data.memory instanceof RegisteredBuffer) {
      sqe.opFlags = IORING_URING_CMD_FIXED;
      sqe.bufIndex = data.memory.slot;
    }
    const words = encode(sqe.cmd, command);
    setAddress(words, nvme_uring_cmd.addr, address);
    words.setUint32(nvme_uring_cmd.data_len, view?.byteLength ?? 0, true);
    setAddress(words, nvme_uring_cmd.metadata, metadataAt);
    words.setUint32(nvme_uring_cmd.metadata_len, metadata?.byteLength ?? 0, true);
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    driver.launch(op, new Pending(name, view, finish, resolve, reject));
    return promise;
  }

  /** Waits for all commands and closes the ring. */
  close(): Promise<void> {
    return this.uring.disposeAsync();
  }
}

/** A command that the device has. */
class Pending<T> implements CompletionSink {
  readonly #name: string;
  readonly #view: ArrayBufferView | null;
  readonly #finish: (cqe: Cqe | undefined) => T;
  readonly #resolve: (value: T) => void;
  readonly #reject: (reason: unknown) => void;

  constructor(
    name: string,
    view: ArrayBufferView | null,
    finish: (cqe: Cqe | undefined) => T,
    resolve: (value: T) => void,
    reject: (reason: unknown) => void,
  ) {
    this.#name = name;
    this.#view = view;
    this.#finish = finish;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  complete(res: number, _flags: number, _more: boolean, cqe?: Cqe): void {
    if (res > 0) this.#reject(new NvmeError(res, this.#name));
    else if (res < 0) this.#reject(new UringError(res, this.#name, { hint: HINTS[-res] }));
    else if (this.#view !== null && this.#view.byteLength === 0) {
      this.#reject(new TypeError("The buffer was detached while the device was working on it"));
    } else {
      try {
        this.#resolve(this.#finish(cqe));
      } catch (error) {
        this.#reject(error);
      }
    }
  }
}

/** The part of memory that a command works on. */
function part({ memory, offset = 0, length }: CommandData, driver: Driver): Uint8Array {
  const fixed = memory instanceof RegisteredBuffer;
  if (!fixed) checkView(memory);
  const whole = fixed ? memory.use(driver) : memory;
  const size = whole.byteLength;
  if (!Number.isInteger(offset) || offset < 0 || offset > size) {
    throw new RangeError(`offset must be an integer from 0 to the buffer's ${size} bytes, not ${offset}`);
  }
  const count = length ?? size - offset;
  if (!Number.isInteger(count) || count < 1 || count > size - offset) {
    throw new RangeError(`length must be an integer from 1 to the ${size - offset} bytes left, not ${count}`);
  }
  // Touched first, for an array that lies elsewhere until then.
  const { buffer } = whole;
  return new Uint8Array(buffer, whole.byteOffset + offset, count);
}

const WORDS = ["cdw2", "cdw3", "cdw10", "cdw11", "cdw12", "cdw13", "cdw14", "cdw15"] as const;

function checkCommand(command: NvmeCommand): void {
  const { opcode, nsid = 0, timeout = 0 } = command;
  if (!Number.isInteger(opcode) || opcode < 0 || opcode > 0xff) {
    throw new RangeError(`opcode must be an integer from 0 to 255, not ${opcode}`);
  }
  checkU32("nsid", nsid);
  checkU32("timeout", timeout);
  for (const word of WORDS) checkU32(word, command[word] ?? 0);
}

/** Fills in a `struct nvme_uring_cmd` but for its addresses. */
function encode(bytes: Uint8Array, command: NvmeCommand): DataView {
  bytes.fill(0);
  bytes[nvme_uring_cmd.opcode] = command.opcode;
  const view = new DataView(bytes.buffer, bytes.byteOffset, nvme_uring_cmd.size);
  view.setUint32(nvme_uring_cmd.nsid, command.nsid ?? 0, true);
  for (const word of WORDS) view.setUint32(nvme_uring_cmd[word], command[word] ?? 0, true);
  view.setUint32(nvme_uring_cmd.timeout_ms, command.timeout ?? 0, true);
  return view;
}

function setAddress(view: DataView, at: number, address: number): void {
  view.setUint32(at, address >>> 0, true);
  view.setUint32(at + 4, Math.floor(address / 0x1_0000_0000), true);
}

/** A ring for commands, as good as the kernel has it. */
function makeUring(polling: Polling, entries: number): Uring {
  const make = (flags: number): Uring => {
    const options: UringOptions = { entries, flags: flags | LARGE };
    return new Uring(options);
  };
  if (polling !== false) {
    const hybrid = polling === "hybrid" ? IORING_SETUP_HYBRID_IOPOLL : 0;
    return make(IORING_SETUP_IOPOLL | IORING_SETUP_SUBMIT_ALL | hybrid);
  }
  const [best, fallback] = MODES;
  try {
    return make(best!);
  } catch (error) {
    if (!(error instanceof UringError) || error.errno !== EINVAL) throw error;
    return make(fallback!);
  }
}
