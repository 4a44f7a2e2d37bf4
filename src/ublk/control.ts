/**
 * `/dev/ublk-control`: the commands that make and remove devices.
 *
 * @module
 */
import {
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQE128,
  IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_TASKRUN_FLAG,
  O_RDONLY,
  O_RDWR,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { kernelHas } from "../ffi/kernel.ts";
import { system } from "../ffi/system.ts";
import { Uring } from "../loop/uring.ts";
import {
  UBLK_FEATURES,
  UBLK_FEATURES_LEN,
  UBLK_U_CMD_GET_DEV_INFO,
  UBLK_U_CMD_GET_FEATURES,
  ublksrv_ctrl_cmd,
  ublksrv_ctrl_dev_info,
} from "./abi.ts";
import { openDevice } from "./calls.ts";

const PATH = "/dev/ublk-control";
const ENTRIES = 4;
const NO_QUEUE = 0xffff;
// The commands' struct has 32 bytes, which only an entry of 128 has room for.
const FLAGS = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
  IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL;
/** The kernel whose driver can be asked for its features, and knows the commands by the numbers used here. */
const OLDEST = "6.5";

const EPERM = 1;
const ENOENT = 2;
const ENXIO = 6;
const EACCES = 13;
const ENODEV = 19;
const EINVAL = 22;
const EOPNOTSUPP = 95;

const NO_DRIVER =
  "the kernel's ublk driver is not loaded (modprobe ublk_drv), or this kernel was built without it; it needs Linux " +
  `${OLDEST} with CONFIG_BLK_DEV_UBLK`;
const ROOT = "making and serving ublk devices needs root (CAP_SYS_ADMIN)";
const TOO_OLD = `the driver is too old; it needs Linux ${OLDEST}`;

/** A command for a device. */
export interface Command {
  /** The device's number. */
  readonly id: number;
  /** What the command is about beside that. */
  readonly data?: number;
  /** Memory that it reads or fills. */
  readonly memory?: Uint8Array;
  /** Milliseconds that it may take. */
  readonly timeout?: number;
  /** What an error of this code means here. */
  readonly hints?: Readonly<Record<number, string>>;
}

/** What the kernel says of a device. */
export interface DeviceInfo {
  readonly id: number;
  readonly queues: number;
  readonly depth: number;
  readonly state: number;
  readonly maxRequest: number;
  readonly pid: number;
  readonly flags: number;
}

/** Makes the error of a command. */
function commandError(errno: number, name: string, hint: string | undefined, cause?: unknown): UringError {
  return new UringError(errno, `ublk ${name}`, { hint, cause });
}

/** An open control device and a ring for its commands. */
export class Control implements AsyncDisposable {
  readonly #fd: number;
  readonly #uring: Uring;

  private constructor(fd: number, uring: Uring) {
    this.#fd = fd;
    this.#uring = uring;
  }

  /**
   * Opens the control device.
   *
   * @throws `UringError` `ENOENT` where there is no driver, `EACCES` for others than root; `UringUnavailableError`.
   */
  static open(): Control {
    const fd = openDevice(PATH, O_RDWR);
    if (fd < 0) {
      const missing = fd === -ENOENT || fd === -ENXIO || fd === -ENODEV;
      const hint = missing ? NO_DRIVER : fd === -EACCES || fd === -EPERM ? ROOT : undefined;
      throw new UringError(fd, "open", { path: PATH, hint });
    }
    try {
      return new Control(fd, new Uring({ entries: ENTRIES, flags: FLAGS }));
    } catch (error) {
      system().close(fd);
      throw error;
    }
  }

  /** Hands the driver a command and resolves with its result. */
  async command(
    name: string,
    cmdOp: number,
    { id, data = 0, memory, timeout, hints }: Command,
  ): Promise<number> {
    const command = new Uint8Array(ublksrv_ctrl_cmd.size);
    const view = new DataView(command.buffer);
    view.setUint32(ublksrv_ctrl_cmd.dev_id, id, true);
    view.setUint16(ublksrv_ctrl_cmd.queue_id, NO_QUEUE, true);
    view.setUint16(ublksrv_ctrl_cmd.len, memory?.byteLength ?? 0, true);
    view.setBigUint64(ublksrv_ctrl_cmd.data, BigInt(data), true);
    const pointed = memory === undefined ? [] : [{ at: ublksrv_ctrl_cmd.addr, view: memory }];
    try {
      const limit = timeout === undefined ? {} : { timeout };
      return await this.#uring.uringCmd(this.#fd, cmdOp, { command, memory: pointed, ...limit });
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      const errno = -error.errno;
      throw commandError(errno, name, hints?.[errno] ?? HINTS[errno]?.(id), error);
    }
  }

  /** The `UBLK_F_*` bits that the driver knows. */
  async features(): Promise<number> {
    const memory = new Uint8Array(UBLK_FEATURES_LEN);
    const hints = { [EINVAL]: TOO_OLD, [EOPNOTSUPP]: TOO_OLD, [ENODEV]: TOO_OLD };
    await this.command("GET_FEATURES", UBLK_U_CMD_GET_FEATURES, { id: 0, memory, hints });
    return new DataView(memory.buffer).getUint32(0, true);
  }

  /** What the kernel says of a device. */
  async info(id: number): Promise<DeviceInfo> {
    const memory = new Uint8Array(ublksrv_ctrl_dev_info.size);
    await this.command("GET_DEV_INFO", UBLK_U_CMD_GET_DEV_INFO, { id, memory });
    return readInfo(memory);
  }

  /** Opens a device and closes it, without this thread's waiting for whoever holds it. */
  async touch(path: string): Promise<void> {
    try {
      const fd = await this.#uring.openat(path, { flags: O_RDONLY, async: true });
      await this.#uring.close(fd, { async: true });
    } catch (error) {
      // It is gone again, say: whoever uses it is told.
      if (!(error instanceof UringError)) throw error;
    }
  }

  /** Closes it all. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#uring.disposeAsync();
    system().close(this.#fd);
  }
}

const HINTS: Readonly<Record<number, (id: number) => string>> = {
  [EPERM]: () => ROOT,
  [ENODEV]: (id) => `there is no ublk device ${id}`,
};

/** Reads a `struct ublksrv_ctrl_dev_info`. */
export function readInfo(memory: Uint8Array): DeviceInfo {
  const view = new DataView(memory.buffer, memory.byteOffset);
  const at = ublksrv_ctrl_dev_info;
  return {
    id: view.getUint32(at.dev_id, true),
    queues: view.getUint16(at.nr_hw_queues, true),
    depth: view.getUint16(at.queue_depth, true),
    state: view.getUint16(at.state, true),
    maxRequest: view.getUint32(at.max_io_buf_bytes, true),
    pid: view.getInt32(at.ublksrv_pid, true),
    // What is known so far fits 32 bits.
    flags: view.getUint32(at.flags, true),
  };
}

/** Throws unless all of the features are among what the driver knows. */
export function requireFeatures(name: string, known: number, wanted: number): void {
  const lacking = wanted & ~known;
  if (lacking === 0) return;
  const [, flag, kernel] = UBLK_FEATURES.find(([bit]) => (bit & lacking) !== 0)!;
  const why = kernelHas(kernel) ? "this driver lacks it" : `it needs Linux ${kernel}`;
  throw commandError(EOPNOTSUPP, name, `${flag}: ${why}`);
}
