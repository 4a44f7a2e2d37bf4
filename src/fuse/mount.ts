/**
 * `mount`.
 *
 * @module
 */
import { AT_FDCWD, O_CLOEXEC, O_PATH } from "../ffi/abi.ts";
import { cString } from "../ffi/cstring.ts";
import { check, UringError } from "../ffi/errors.ts";
import { readSmallFile } from "../ffi/kernel.ts";
import { system } from "../ffi/system.ts";
import { Device } from "./device.ts";
import { Engine } from "./engine.ts";
import { type Agreement, answerInit, offersUring, readInit, type Wishes } from "./handshake.ts";
import { detach, deviceAt, DeviceFile, type DeviceNumber, mountDevice } from "./mounting.ts";
import { checkFileSystem, checkMountOptions, type Settings } from "./options.ts";
import { Server, structSize } from "./server.ts";
import { Session } from "./session.ts";
import { clearStale } from "./stale.ts";
import type { Failure, Mount, MountOptions } from "./mount_types.ts";
import type { FileSystem, Name } from "./types.ts";
import { possibleProcessors, UringQueues } from "./uring_queues.ts";

const ENOSYS = 38;
const EAGAIN = 11;
const ENABLE = "/sys/module/fuse/parameters/enable_uring";
/** How much later than the server itself the kernel loses its patience, in seconds; it looks every 15. */
const KERNEL_PATIENCE = 15;
const MS_PER_S = 1000;
const PATH_MOST = 4096;
const INIT_ATTEMPTS = 100;

/**
 * Mounts a file system on a directory. It is served by this thread, as long as its process lives; requests keep the
 * process alive. Only root can mount (`CAP_SYS_ADMIN`); neither libfuse nor fusermount3 is used. What a server that
 * was killed has left at the mount point is cleared up first.
 *
 * The thread that serves a file system must not use it, neither directly nor by a ring of its own: the answer would
 * have to come from the thread that waits for it, which nothing can end with FUSE over io_uring, not even `SIGKILL`.
 * Other threads and programs can.
 *
 * @param mountpoint A directory.
 * @param fileSystem Its handlers.
 * @throws RangeError, TypeError for options that cannot be; `UringError`: `EPERM` without the privilege, `ENOENT` and
 * `ENOTDIR` for the mount point, `ENODEV` without FUSE, `ENOSYS` where `transport: "uring"` was asked for and cannot
 * be had (Linux 6.14, and `fuse.enable_uring`).
 */
export function mount(
  mountpoint: string,
  fileSystem: FileSystem<Uint8Array>,
  options: MountOptions & { names: "bytes" },
): Promise<Mount>;
export function mount(mountpoint: string, fileSystem: FileSystem, options?: MountOptions): Promise<Mount>;
export async function mount(
  mountpoint: string,
  fileSystem: FileSystem<Name>,
  options: MountOptions = {},
): Promise<Mount> {
  checkFileSystem(fileSystem);
  const processors = possibleProcessors();
  const settings = checkMountOptions(options, processors);
  const where = resolve(mountpoint);
  const wide = settings.transport !== "classic";
  const engine = new Engine(wide ? processors * settings.queueDepth : 0, wide);
  try {
    await clearStale(engine, where);
    return new Mounting(engine, fileSystem, options, settings).at(where);
  } catch (error) {
    engine.close();
    throw error;
  }
}

/** The whole path of a directory: the current one may be another when it is unmounted. */
function resolve(mountpoint: string): string {
  const sys = system();
  const fd = check(sys.rare.open(cString(mountpoint), O_PATH | O_CLOEXEC, 0), "open", { path: mountpoint });
  try {
    const target = new Uint8Array(new ArrayBuffer(PATH_MOST));
    const link = cString(`/proc/self/fd/${fd}`);
    const length = check(sys.files.readlinkat(AT_FDCWD, link, target, PATH_MOST), "readlink");
    return new TextDecoder().decode(target.subarray(0, length));
  } finally {
    sys.close(fd);
  }
}

function printError(error: unknown, { operation, node }: Failure): void {
  console.error(`uring/fuse: ${operation} of node ${node} failed:`, error);
}

/** The steps of mounting, each of which may fail. */
class Mounting {
  readonly #engine: Engine;
  readonly #fs: FileSystem<Name>;
  readonly #options: MountOptions;
  readonly #settings: Settings;
  #session: Session | null = null;
  /** Whether the connection was lost before there was a session. */
  #lost = false;

  constructor(engine: Engine, fs: FileSystem<Name>, options: MountOptions, settings: Settings) {
    this.#engine = engine;
    this.#fs = fs;
    this.#options = options;
    this.#settings = settings;
  }

  at(mountpoint: string): Session {
    const file = new DeviceFile();
    let number: DeviceNumber | null = null;
    try {
      mountDevice(file.fd, mountpoint, this.#options);
      number = deviceAt(mountpoint);
      if (number === null) throw new UringError(system().errno(), "statx", { path: mountpoint });
      return this.#serve(mountpoint, file, number);
    } catch (error) {
      // Without a server, whoever uses it gets an error: nothing that is held up.
      file.close();
      const holder = number === null ? -1 : detach(mountpoint, number, true);
      this.#engine.close();
      if (holder >= 0) system().close(holder);
      throw error;
    }
  }

  #serve(mountpoint: string, file: DeviceFile, number: DeviceNumber): Session {
    const { fd } = file;
    const engine = this.#engine;
    const init = waitForInit(fd);
    const agreement = this.#agree(fd, init);
    const server = this.#makeServer();
    const device = new Device(engine, server, fd, agreement.payload, structSize);
    const completions = {
      slot: (index: number, res: number): void => queues?.completed(index, res),
      look: (): void => device.read(),
      died: (error: unknown): void => {
        server.report(error, "io_uring", 0);
        server.over();
      },
    };
    engine.attach(completions);
    let queues = agreement.uring ? this.#makeQueues(server, fd, agreement) : null;
    if (queues !== null) queues = this.#register(queues);
    this.#session = new Session({
      mountpoint,
      transport: queues === null ? "classic" : "uring",
      maxWrite: agreement.maxWrite,
      file,
      number,
      engine,
      server,
      device,
      queues,
      names: this.#settings.names,
      unmountOnExit: this.#options.unmountOnExit !== false,
    });
    device.wait();
    engine.flush();
    if (this.#lost) this.#session.over();
    return this.#session;
  }

  #makeServer(): Server {
    const { names, timeouts, requestTimeout } = this.#settings;
    return new Server(this.#engine, this.#fs, {
      names,
      timeouts,
      requestTimeout,
      onError: this.#options.onError ?? printError,
      onOver: () => {
        this.#lost = true;
        this.#session?.over();
      },
    });
  }

  #agree(fd: number, init: DataView): Agreement {
    const { transport, maxWrite, maxReadahead, maxBackground, requestTimeout } = this.#settings;
    const offered = offersUring(init);
    if (transport === "uring" && !offered) throw withoutUring();
    const options = this.#options;
    const wishes: Wishes = {
      uring: transport !== "classic",
      readdirplus: typeof this.#fs.readdirplus === "function",
      writebackCache: options.writebackCache === true,
      atomicTruncate: options.atomicTruncate === true,
      cacheSymlinks: options.cacheSymlinks === true,
      maxWrite,
      maxReadahead,
      maxBackground,
      cutAfter: requestTimeout === 0 ? 0 : Math.ceil(requestTimeout / MS_PER_S) + KERNEL_PATIENCE,
    };
    return answerInit(fd, init, wishes);
  }

  #makeQueues(server: Server, fd: number, { payload }: Agreement): UringQueues {
    const depth = this.#settings.queueDepth;
    return new UringQueues(this.#engine, server, { fd, queues: possibleProcessors(), depth, payload });
  }

  /** Hands the slots over; null where the kernel will not have them and nobody insists. */
  #register(queues: UringQueues): UringQueues | null {
    queues.register();
    this.#engine.poll();
    if (queues.failure === 0) return queues;
    const error = queues.error();
    queues.release(queues.held === 0);
    if (this.#settings.transport === "uring") throw error;
    // The kernel sends everything to the device then.
    this.#lost = false;
    return null;
  }
}

function waitForInit(fd: number): DataView {
  for (let i = 0; i < INIT_ATTEMPTS; i++) {
    const init = readInit(fd);
    if (init !== null) return init;
  }
  throw new UringError(EAGAIN, "FUSE_INIT");
}

function withoutUring(): UringError {
  const enabled = readSmallFile(ENABLE);
  const hint = enabled === null
    ? "FUSE over io_uring needs Linux 6.14 and CONFIG_FUSE_IO_URING"
    : `FUSE over io_uring is switched off: echo Y > ${ENABLE}`;
  return new UringError(ENOSYS, "mount", { hint });
}
