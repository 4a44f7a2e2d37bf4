/**
 * Mounting and unmounting.
 *
 * @module
 */
import { AT_EMPTY_PATH, AT_STATX_DONT_SYNC, O_CLOEXEC, O_NONBLOCK, O_PATH, O_RDWR } from "../ffi/abi.ts";
import { cString } from "../ffi/cstring.ts";
import { UringError } from "../ffi/errors.ts";
import { statx } from "../ffi/structs.ts";
import { system } from "../ffi/system.ts";
import type { Place } from "../ffi/thread_end.ts";
import { atThreadEnd } from "../ring/core_ring.ts";
import { MNT_DETACH, MNT_FORCE, MS_NODEV, MS_NOSUID, MS_RDONLY } from "./abi.ts";
import { mountCall, umountCall } from "./calls.ts";
import type { MountOptions } from "./mount_types.ts";

const DEVICE = "/dev/fuse";
const EPERM = -1;
const ENOENT = -2;
const ENODEV = -19;
const NOTHING = cString("");

/** A file system's number, out of its major and its minor one. */
export type DeviceNumber = number;

const MINORS = 0x10_0000;

/** `/dev/fuse`, open: a connection with the kernel, which cuts it when nothing has the device open any more. */
export class DeviceFile {
  readonly fd: number;
  // A Worker may be terminated: clients must not wait for a thread that is no more.
  readonly #end: Place | null;

  constructor() {
    this.fd = openDevice();
    this.#end = atThreadEnd({ fd: this.fd });
  }

  close(): void {
    this.#end?.set(null);
    system().close(this.fd);
  }
}

function openDevice(): number {
  const fd = system().rare.open(cString(DEVICE), O_RDWR | O_CLOEXEC | O_NONBLOCK, 0);
  if (fd >= 0) return fd;
  const hint = fd === ENOENT || fd === ENODEV
    ? "this kernel has no FUSE, or its module is not loaded: modprobe fuse"
    : undefined;
  throw new UringError(fd, "open", { path: DEVICE, hint });
}

/** Mounts what is served through a device. */
export function mountDevice(fd: number, mountpoint: string, options: MountOptions): void {
  const { source = "uring", subtype } = options;
  const data = ["rootmode=40000", "user_id=0", "group_id=0", `fd=${fd}`];
  if (options.allowOther === true) data.push("allow_other");
  if (options.defaultPermissions === true) data.push("default_permissions");
  const flags = (options.readOnly === true ? MS_RDONLY : 0) | (options.suid === true ? 0 : MS_NOSUID) |
    (options.dev === true ? 0 : MS_NODEV);
  const type = subtype === undefined ? "fuse" : `fuse.${subtype}`;
  const result = mountCall(
    cString(source),
    cString(mountpoint),
    cString(type),
    flags,
    cString(data.join(",")),
  );
  if (result >= 0) return;
  const hint = result === EPERM
    ? "mounting needs CAP_SYS_ADMIN: run as root (fusermount3 is not used)"
    : result === ENODEV
    ? "this kernel has no FUSE, or its module is not loaded: modprobe fuse"
    : undefined;
  throw new UringError(result, "mount", { path: mountpoint, hint });
}

/** The number of the file system that is open, without asking it. */
function deviceOf(fd: number): DeviceNumber | null {
  const out = new Uint8Array(new ArrayBuffer(statx.size));
  const flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
  if (system().files.statx(fd, NOTHING, flags, 0, out) < 0) return null;
  const view = new DataView(out.buffer);
  return view.getUint32(statx.stx_dev_major, true) * MINORS + view.getUint32(statx.stx_dev_minor, true);
}

function openPath(mountpoint: string): number {
  return system().rare.open(cString(mountpoint), O_PATH | O_CLOEXEC, 0);
}

/** The number of the file system at a path, without asking it. */
export function deviceAt(mountpoint: string): DeviceNumber | null {
  const fd = openPath(mountpoint);
  if (fd < 0) return null;
  const device = deviceOf(fd);
  system().close(fd);
  return device;
}

/**
 * Takes a file system away from its mount point, at once, where it is still there. Returns a descriptor that holds
 * it, or −1: whoever closes that last may have to wait until the kernel has written back what it has cached, which
 * the server has to answer. So the thread that serves must not.
 */
export function detach(mountpoint: string, device: DeviceNumber, force = false): number {
  const holder = openPath(mountpoint);
  if (holder < 0) return -1;
  if (deviceOf(holder) === device) {
    umountCall(cString(mountpoint), force ? MNT_DETACH | MNT_FORCE : MNT_DETACH);
  }
  return holder;
}

/** Takes away what a server that was killed has left at a mount point. */
export function detachStale(mountpoint: string): void {
  umountCall(cString(mountpoint), MNT_DETACH);
}

/** Has the kernel cut a connection, where it offers that; whether it did. */
export function abortConnection(device: DeviceNumber): boolean {
  const { rare, write, close } = system();
  const O_WRONLY = 1;
  const path = `/sys/fs/fuse/connections/${device % MINORS}/abort`;
  const fd = rare.open(cString(path), O_WRONLY | O_CLOEXEC, 0);
  if (fd < 0) return false;
  const result = write(fd, cString("1"), 1);
  close(fd);
  return result > 0;
}
