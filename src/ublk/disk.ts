/**
 * A disk: a device and its server.
 *
 * @module
 */
import { O_RDWR } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import {
  UBLK_F_AUTO_BUF_REG,
  UBLK_F_QUIESCE,
  UBLK_F_SAFE_STOP_DEV,
  UBLK_F_SUPPORT_ZERO_COPY,
  UBLK_F_UPDATE_SIZE,
  UBLK_F_USER_RECOVERY,
  UBLK_U_CMD_END_USER_RECOVERY,
  UBLK_U_CMD_QUIESCE_DEV,
  UBLK_U_CMD_START_DEV,
  UBLK_U_CMD_START_USER_RECOVERY,
  UBLK_U_CMD_STOP_DEV,
  UBLK_U_CMD_TRY_STOP_DEV,
  UBLK_U_CMD_UPDATE_SIZE,
} from "./abi.ts";
import { openDevice, processId } from "./calls.ts";
import { Control, type DeviceInfo, requireFeatures } from "./control.ts";
import { addDevice, diskFlags, getSizes, recoveryOf, removeDevice, setParameters } from "./device.ts";
import {
  checkDisk,
  checkHandlers,
  checkId,
  checkServing,
  checkSize,
  checkStop,
  checkWait,
  SECTOR,
  type Serving,
} from "./options.ts";
import { Server } from "./server.ts";
import type { DiskHandlers, DiskOptions, DiskStats, RecoverOptions, Recovery, StopOptions } from "./types.ts";

/** Milliseconds that the driver may take to see that everything is there. */
const START_MS = 10_000;
/** Between attempts to take over a device whose server is ending. */
const RETRY_MS = 20;
/** How long the driver looks for a quiet moment of a device that is handed over. */
const QUIESCE_MS = 5000;

const ENODEV = 19;
const EBUSY = 16;
const EINVAL = 22;

/** How long the driver may take to look for partitions, and how often that is looked at. */
const SCAN_MS = 1000;
const LOOK_MS = 1;

const LEFT = "the device was taken away";

/** What a disk consists of. */
interface Parts {
  readonly control: Control;
  readonly device: DeviceInfo;
  readonly server: Server;
  readonly serving: Serving;
  readonly features: number;
  readonly size: number;
  readonly blockSize: number;
}

let makeDisk: (parts: Parts) => Disk;

/**
 * A block device whose requests this program serves: made by {@link createDisk} or {@link recoverDisk}. It belongs to the
 * thread that made it, whose event loop must go on for the device to.
 *
 * Nothing in that thread may wait for the device synchronously (`readFileSync` of its path, say): it would wait for itself
 * for ever. Use it in other processes. Where that cannot be, open it with `O_DIRECT`, and open and close it by a `Uring` with
 * the option `async`, which has a thread of the kernel's wait.
 */
export class Disk implements AsyncDisposable {
  /** The device's number. */
  readonly id: number;
  /** Its path: `/dev/ublkbN`. */
  readonly path: string;
  /** The least that can be read or written, in bytes. */
  readonly blockSize: number;
  /** How many queues it has, which may be fewer than were asked for. */
  readonly queues: number;
  /** How many requests a queue has under way at the most. */
  readonly depth: number;
  /** The most bytes of one request. */
  readonly maxRequest: number;
  /** What becomes of it when this server dies; null when it goes with it. */
  readonly recovery: Recovery | null;
  /** Whether data is not copied: by the kernel's own registrations (`true`) or by commands. */
  readonly zeroCopy: boolean | "commands";
  /**
   * Resolves when the disk is served no more: after {@link Disk.stop} or {@link Disk.detach}, or because somebody else has
   * stopped or removed the device.
   */
  readonly closed: Promise<void>;
  readonly #parts: Parts;
  #size: number;
  #stopping: Promise<void> | null = null;

  static {
    makeDisk = (parts) => new Disk(parts);
  }

  private constructor(parts: Parts) {
    const { device, server, blockSize, size } = parts;
    this.#parts = parts;
    this.#size = size;
    this.id = device.id;
    this.path = `/dev/ublkb${device.id}`;
    this.blockSize = blockSize;
    this.queues = device.queues;
    this.depth = device.depth;
    this.maxRequest = device.maxRequest;
    this.recovery = recoveryOf(device.flags);
    const commands = (device.flags & UBLK_F_SUPPORT_ZERO_COPY) !== 0 && "commands";
    this.zeroCopy = (device.flags & UBLK_F_AUTO_BUF_REG) !== 0 || commands;
    this.closed = server.ended;
  }

  /** Its size in bytes. */
  get size(): number {
    return this.#size;
  }

  /** Counters. */
  get stats(): DiskStats {
    return this.#parts.server.stats;
  }

  /** Has the disk keep the process alive, as at the start. */
  ref(): this {
    this.#parts.server.refer(true);
    return this;
  }

  /** Lets the process exit although it serves the disk. */
  unref(): this {
    this.#parts.server.refer(false);
    return this;
  }

  /**
   * Gives the disk another size, which its clients are told: `UBLK_U_CMD_UPDATE_SIZE`, Linux 6.16.
   *
   * @param size Bytes, a multiple of {@link Disk.blockSize}.
   * @throws RangeError for a size that cannot be. Rejects with `UringError`: `EOPNOTSUPP` before Linux 6.16, `ENODEV` when
   * the disk is served no more.
   */
  async resize(size: number): Promise<void> {
    const bytes = checkSize(size, this.blockSize);
    this.#assertServed("UPDATE_SIZE");
    const { control, features } = this.#parts;
    requireFeatures("UPDATE_SIZE", features, UBLK_F_UPDATE_SIZE);
    await control.command("UPDATE_SIZE", UBLK_U_CMD_UPDATE_SIZE, { id: this.id, data: bytes / SECTOR });
    this.#size = bytes;
  }

  #assertServed(name: string): void {
    if (this.#parts.server.open && this.#stopping === null) return;
    throw new UringError(ENODEV, `ublk ${name}`, { hint: "the disk is served no more" });
  }

  /**
   * Removes the device: file systems on it are synced, requests under way are done or fail, and `/dev/ublkbN` is gone when
   * the promise resolves. Clients that still have it open get errors, and keep its number from being used again. Called
   * again, it waits for the first call.
   *
   * @throws RangeError or TypeError for options that cannot be. Rejects with `UringError` `EBUSY` when it was to be stopped
   * only if unused: then it goes on.
   */
  stop(options: StopOptions = {}): Promise<void> {
    const { timeout, ifUnused } = checkStop(options, this.#parts.serving.timeout);
    if (this.#stopping !== null) return this.#stopping;
    const stopping = ifUnused ? this.#stopUnused(timeout) : this.#stop(timeout);
    this.#stopping = stopping;
    return stopping;
  }

  async #stopUnused(timeout: number): Promise<void> {
    try {
      requireFeatures("TRY_STOP_DEV", this.#parts.features, UBLK_F_SAFE_STOP_DEV);
      const hints = { [EBUSY]: `${this.path} is open` };
      await this.#end("TRY_STOP_DEV", UBLK_U_CMD_TRY_STOP_DEV, timeout, hints);
    } catch (error) {
      if (!isCode(error, ENODEV)) {
        this.#stopping = null;
        throw error;
      }
    }
    await this.#remove();
  }

  async #stop(timeout: number): Promise<void> {
    try {
      await this.#end("STOP_DEV", UBLK_U_CMD_STOP_DEV, timeout);
    } catch (error) {
      // Somebody else has removed it.
      if (!isCode(error, ENODEV)) throw error;
    } finally {
      await this.#parts.server.close();
    }
    await this.#remove();
  }

  /** A command that the driver ends when no request is under way any more. */
  async #end(
    name: string,
    cmdOp: number,
    timeout: number,
    hints?: Readonly<Record<number, string>>,
  ): Promise<void> {
    const { control, server } = this.#parts;
    // Again and again: what fails for its slowness may be tried once more.
    const timer = setInterval(() => server.expireAll(), timeout);
    try {
      await control.command(name, cmdOp, { id: this.id, ...(hints === undefined ? {} : { hints }) });
    } finally {
      clearInterval(timer);
    }
  }

  async #remove(): Promise<void> {
    const { control, server } = this.#parts;
    await server.close();
    try {
      await removeDevice(control, this.id);
    } finally {
      await control[Symbol.asyncDispose]();
    }
  }

  /**
   * Gives the disk up without removing it, so that {@link recoverDisk} can go on with it, in another process or in this one.
   * Its clients wait or fail until then, as `recovery` says. With Linux 6.16 the driver waits for the end of what is under
   * way; before, that is done again by the next server, or fails.
   *
   * @throws TypeError for a disk that was made without `recovery`.
   */
  detach(): Promise<void> {
    if (this.recovery === null) throw new TypeError("Only a disk made with `recovery` can be detached");
    if (this.#stopping !== null) return this.#stopping;
    return this.#stopping = this.#detach();
  }

  async #detach(): Promise<void> {
    const { control, device, server } = this.#parts;
    try {
      if ((device.flags & UBLK_F_QUIESCE) !== 0 && server.open) {
        await control.command("QUIESCE_DEV", UBLK_U_CMD_QUIESCE_DEV, { id: this.id, data: QUIESCE_MS });
        // It closes by itself with the last request; one that takes too long fails before.
        await server.ended;
      }
    } catch (error) {
      // No quiet moment, or nothing there: the driver copes with a server that just goes.
      if (!isCode(error, EBUSY) && !isCode(error, ENODEV)) throw error;
    } finally {
      await server.close();
      await control[Symbol.asyncDispose]();
    }
  }

  /** The same as {@link Disk.stop}; after {@link Disk.detach} it waits for that. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

function isCode(error: unknown, errno: number): boolean {
  return error instanceof UringError && error.errno === -errno;
}

/** Opens the device's `/dev/ublkcN`, of which there can be one, and serves it. */
function serve(device: DeviceInfo, handlers: DiskHandlers, serving: Serving): Server {
  const path = `/dev/ublkc${device.id}`;
  const fd = openDevice(path, O_RDWR);
  if (fd < 0) throw new UringError(fd, "open", { path });
  const server = new Server(device, fd, handlers, serving);
  server.start();
  return server;
}

/** A command that the driver ends when all requests are fetched; fails when the server does. */
async function go(control: Control, name: string, cmdOp: number, id: number, server: Server): Promise<void> {
  const started = control.command(name, cmdOp, { id, data: processId(), timeout: START_MS });
  const ended = server.ended.then(() => {
    throw new UringError(ENODEV, `ublk ${name}`, { hint: LEFT });
  });
  await Promise.race([started, ended]);
}

/**
 * Waits until the driver has looked for partitions, which it does on its own from Linux 7.0 on. It holds a lock of the device's
 * meanwhile, which the kernel also takes to close it: closed by this very thread, both would wait for each other.
 */
async function partitionsRead(control: Control, id: number, server: Server): Promise<void> {
  const limit = performance.now() + SCAN_MS;
  // It begins by reading.
  while (server.stats.requests === 0 && performance.now() < limit) await sleep(LOOK_MS);
  await control.touch(`/dev/ublkb${id}`);
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/**
 * Makes a block device, `/dev/ublkbN`, and serves it.
 *
 * @param options What the disk is. Only the size must be given.
 * @param handlers How it does what its clients ask for.
 * @returns The disk, once its device can be opened and the kernel has looked for partitions.
 * @throws RangeError and TypeError for options and handlers that cannot be. Rejects with `UringError`: `ENOENT` where the
 * kernel has no ublk driver (Linux 6.5 with the module `ublk_drv`), `EACCES` or `EPERM` for others than root, `EEXIST` when
 * there is a device with that number, `EOPNOTSUPP` for an option that needs a newer kernel, which it names; and with
 * `UringUnavailableError`.
 *
 * @example A disk in a file, without copying
 * ```ts
 * import { open } from "uring/fs";
 * import { createDisk } from "uring/ublk";
 * const file = await open("disk.img", "r+");
 * const { size } = await file.stat();
 * await using disk = await createDisk({ size, zeroCopy: true }, {
 *   read: (request) => request.transfer(file),
 *   write: (request) => request.transfer(file),
 *   flush: () => file.datasync(),
 * });
 * ```
 */
export function createDisk(options: DiskOptions, handlers: DiskHandlers): Promise<Disk> {
  const plan = checkDisk(options);
  const serving = checkServing(options);
  const checked = checkHandlers(handlers);
  return create(plan, checked, serving);
}

async function create(
  plan: ReturnType<typeof checkDisk>,
  handlers: DiskHandlers,
  serving: Serving,
): Promise<Disk> {
  const control = Control.open();
  let device: DeviceInfo | null = null;
  let server: Server | null = null;
  try {
    const features = await control.features();
    device = await addDevice(control, plan, diskFlags(plan, features));
    await setParameters(control, device, plan, handlers);
    server = serve(device, handlers, serving);
    await go(control, "START_DEV", UBLK_U_CMD_START_DEV, device.id, server);
    await partitionsRead(control, device.id, server);
    const { size, blockSize } = plan;
    return makeDisk({ control, device, server, serving, features, size, blockSize });
  } catch (error) {
    await server?.close();
    if (device !== null) await removeDevice(control, device.id);
    await control[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Goes on with a device whose server has died or has detached it: what its clients wait for is served by these handlers
 * from now on. The device is as it was made; it can do no more than it could then.
 *
 * @param id The device's number.
 * @param handlers How the disk does what its clients ask for.
 * @param options How it is served.
 * @throws RangeError and TypeError for what cannot be. Rejects with `UringError`: `ENODEV` when there is no such device,
 * `EINVAL` when it was made without `recovery`, `EBUSY` when its server goes on; and as {@link createDisk} does.
 */
export function recoverDisk(id: number, handlers: DiskHandlers, options: RecoverOptions = {}): Promise<Disk> {
  checkId(id);
  const serving = checkServing(options);
  const wait = checkWait(options);
  return recover(id, checkHandlers(handlers), serving, wait);
}

async function recover(id: number, handlers: DiskHandlers, serving: Serving, wait: number): Promise<Disk> {
  const control = Control.open();
  let server: Server | null = null;
  try {
    const features = await control.features();
    const device = await control.info(id);
    if ((device.flags & UBLK_F_USER_RECOVERY) === 0) {
      throw new UringError(EINVAL, "ublk START_USER_RECOVERY", {
        hint: "the disk was made without `recovery`",
      });
    }
    const sizes = await getSizes(control, id);
    await startRecovery(control, id, wait);
    server = serve(device, handlers, serving);
    await go(control, "END_USER_RECOVERY", UBLK_U_CMD_END_USER_RECOVERY, id, server);
    return makeDisk({ control, device, server, serving, features, ...sizes });
  } catch (error) {
    await server?.close();
    await control[Symbol.asyncDispose]();
    throw error;
  }
}

/** The former server's end takes a moment longer than its process: tries until it is over. */
async function startRecovery(control: Control, id: number, wait: number): Promise<void> {
  const hints = { [EBUSY]: "the disk is still being served" };
  const limit = performance.now() + wait;
  for (;;) {
    try {
      await control.command("START_USER_RECOVERY", UBLK_U_CMD_START_USER_RECOVERY, { id, hints });
      return;
    } catch (error) {
      if (!isCode(error, EBUSY) || performance.now() >= limit) throw error;
    }
    await sleep(RETRY_MS);
  }
}
