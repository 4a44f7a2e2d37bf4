/**
 * A mounted file system, until it is no more.
 *
 * @module
 */
import { IOSQE_ASYNC } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { pageSize } from "../ffi/kernel.ts";
import { Mapping } from "../ffi/memory.ts";
import {
  FUSE_NOTIFY_INVAL_ENTRY,
  fuse_notify_inval_entry_out,
  FUSE_NOTIFY_INVAL_INODE,
  fuse_notify_inval_inode_out,
  fuse_out_header,
} from "./abi.ts";
import type { Device } from "./device.ts";
import type { Engine } from "./engine.ts";
import { atExit } from "./exit.ts";
import { abortConnection, detach, type DeviceFile, type DeviceNumber } from "./mounting.ts";
import type { NameCodec } from "./names.ts";
import { checkNode } from "./replies.ts";
import type { Server } from "./server.ts";
import type { Mount, MountStats, Transport, UnmountOptions } from "./mount_types.ts";
import type { Name, NodeId } from "./types.ts";
import type { UringQueues } from "./uring_queues.ts";

const ENOENT = -2;
const ENODEV = 19;
const DEFAULT_TIMEOUT = 5000;
const MOST_MILLISECONDS = 2 ** 31 - 1;
/** How long handlers may take that nobody waits for any more. */
const DRAIN_LIMIT = 1000;
/** How long the kernel may take to give back what it has, once the connection is cut, in milliseconds. */
const IDLE_LIMIT = 2000;
const NAME_MOST = 1024;

/** What a session is made of. */
export interface Parts {
  readonly mountpoint: string;
  readonly transport: Transport;
  readonly maxWrite: number;
  readonly file: DeviceFile;
  readonly number: DeviceNumber;
  readonly engine: Engine;
  readonly server: Server;
  readonly device: Device;
  readonly queues: UringQueues | null;
  readonly names: NameCodec;
  readonly unmountOnExit: boolean;
}

/** A mounted file system. */
export class Session implements Mount {
  readonly mountpoint: string;
  readonly transport: Transport;
  readonly maxWrite: number;
  readonly finished: Promise<void>;
  readonly #parts: Parts;
  readonly #finish: () => void;
  readonly #stay: () => void;
  #phase: "mounted" | "unmounting" | "ending" = "mounted";
  #deadline: ReturnType<typeof setTimeout> | null = null;
  #ends = Infinity;
  #cut = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.mountpoint = parts.mountpoint;
    this.transport = parts.transport;
    this.maxWrite = parts.maxWrite;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.finished = promise;
    this.#finish = resolve;
    const { mountpoint, number } = parts;
    // The descriptor that this leaves open goes with the process, last of all.
    this.#stay = parts.unmountOnExit ? atExit(() => void detach(mountpoint, number, true)) : () => {};
  }

  get stats(): MountStats {
    return this.#parts.server.stats;
  }

  async unmount(options: UnmountOptions = {}): Promise<void> {
    const { timeout = DEFAULT_TIMEOUT } = options;
    if (!(timeout >= 0 && timeout <= MOST_MILLISECONDS)) {
      throw new RangeError(`timeout must be milliseconds from 0 to ${MOST_MILLISECONDS}, not ${timeout}`);
    }
    if (this.#phase === "mounted") {
      this.#phase = "unmounting";
      this.#detach();
    }
    const ends = performance.now() + timeout;
    if (ends < this.#ends && this.#phase === "unmounting") {
      this.#ends = ends;
      if (this.#deadline !== null) clearTimeout(this.#deadline);
      this.#deadline = setTimeout(() => this.#force(), timeout);
    }
    await this.finished;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unmount();
  }

  /** Takes it away from its mount point. */
  #detach(): void {
    const { engine, mountpoint, number } = this.#parts;
    const holder = detach(mountpoint, number);
    if (holder < 0) return;
    // On another thread: whoever closes it last waits until what is cached was written, here.
    engine.begin((sqe) => {
      sqe.prepClose(holder);
      sqe.flags = IOSQE_ASYNC;
    }, () => {});
    engine.flush();
  }

  /** Time is over. */
  #force(): void {
    const { engine, number, server } = this.#parts;
    this.#deadline = null;
    this.#ends = 0;
    server.abortAll();
    if (abortConnection(number)) return;
    // Nobody else can cut the connection: the kernel does when nothing has the device open any more.
    this.#cut = true;
    this.#parts.device.close();
    engine.close();
    this.#parts.file.close();
    this.over();
  }

  /** There is no connection any more. */
  over(): void {
    if (this.#phase === "ending") return;
    const mounted = this.#phase === "mounted";
    this.#phase = "ending";
    queueMicrotask(() => void this.#end(mounted));
  }

  async #end(mounted: boolean): Promise<void> {
    const { device, engine, file, queues, server } = this.#parts;
    this.#stay();
    if (mounted) this.#detach();
    server.abortAll();
    await server.drained(Math.max(0, Math.min(this.#ends - performance.now(), DRAIN_LIMIT)));
    if (this.#deadline !== null) clearTimeout(this.#deadline);
    this.#deadline = null;
    server.close();
    try {
      await (server.fs as Partial<Server["fs"]>).destroy?.();
    } catch (error) {
      server.report(error, "destroy", 1);
    }
    if (!this.#cut) {
      await engine.idle(IDLE_LIMIT);
      device.close();
      engine.close();
      file.close();
    }
    device.release();
    queues?.release(!this.#cut && queues.held === 0);
    this.#finish();
  }

  async invalidate(node: NodeId, offset = 0, length = 0): Promise<void> {
    checkNode(node);
    for (const value of [offset, length]) {
      if (!Number.isSafeInteger(value)) throw new RangeError(`A range is integers, not ${value}`);
    }
    await this.#notify(FUSE_NOTIFY_INVAL_INODE, fuse_notify_inval_inode_out.size, (view, at) => {
      view.setBigUint64(at + fuse_notify_inval_inode_out.ino, BigInt(node), true);
      view.setBigInt64(at + fuse_notify_inval_inode_out.off, BigInt(offset), true);
      view.setBigInt64(at + fuse_notify_inval_inode_out.len, BigInt(length), true);
    });
  }

  async invalidateEntry(parent: NodeId, name: Name): Promise<void> {
    checkNode(parent);
    const bytes = new Uint8Array(NAME_MOST);
    const length = this.#parts.names.encode(name, bytes, 0, NAME_MOST);
    if (length < 0) throw new RangeError(`A name has at most ${NAME_MOST} bytes`);
    const { size, parent: parentAt, namelen } = fuse_notify_inval_entry_out;
    await this.#notify(FUSE_NOTIFY_INVAL_ENTRY, size + length + 1, (view, at) => {
      view.setBigUint64(at + parentAt, BigInt(parent), true);
      view.setUint32(at + namelen, length, true);
      new Uint8Array(view.buffer).set(bytes.subarray(0, length), at + size);
    });
  }

  async #notify(code: number, size: number, fill: (view: DataView, at: number) => void): Promise<void> {
    const { engine, file } = this.#parts;
    if (this.#phase === "ending") throw new UringError(ENODEV, "invalidate", { path: this.mountpoint });
    const memory = Mapping.anonymous(pageSize());
    const view = new DataView(memory.buffer);
    const length = fuse_out_header.size + size;
    view.setUint32(fuse_out_header.len, length, true);
    view.setInt32(fuse_out_header.error, code, true);
    fill(view, fuse_out_header.size);
    // On another thread: it waits for pages that are being read, here.
    const res = await engine.operation((sqe) => {
      sqe.prepWrite(file.fd, memory.address, length, 0);
      sqe.flags = IOSQE_ASYNC;
    });
    memory.unmap();
    // What the kernel does not know, it has not cached.
    if (res < 0 && res !== ENOENT) throw new UringError(res, "invalidate", { path: this.mountpoint });
  }
}
