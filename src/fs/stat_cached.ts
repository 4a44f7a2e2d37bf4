/**
 * What the kernel knows of a file without asking a disk or a server.
 *
 * The ring hands every `statx` to a thread of the kernel's. For one by itself that takes three times as long as the call; for
 * many at once it does not matter. So the first of a turn is looked up among the paths in the kernel's memory
 * (`RESOLVE_CACHED`), which never waits, and asked directly when it is found there. What is not found goes by the ring, as
 * do all others of the turn.
 *
 * @module
 */
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  O_CLOEXEC,
  O_PATH,
  RESOLVE_CACHED,
  STATX_BASIC_STATS,
  STATX_BTIME,
  SYS_openat2,
} from "../ffi/abi.ts";
import { O_NOFOLLOW } from "../ffi/arch.ts";
import { cString } from "../ffi/cstring.ts";
import * as structs from "../ffi/structs.ts";
import { type System, system } from "../ffi/system.ts";
import { Statx } from "../loop/statx.ts";

const MASK = STATX_BASIC_STATS | STATX_BTIME;
const EMPTY = new Uint8Array(new ArrayBuffer(1));
// Whether there was a first one in this turn.
let turn = false;
const endTurn = (): void => {
  turn = false;
};
const resolved = Promise.resolve();
// Linux 5.12 brought RESOLVE_CACHED; seccomp profiles may know no openat2.
let works = true;

function howTo(flags: number): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(structs.open_how.size));
  const view = new DataView(bytes.buffer);
  view.setBigUint64(structs.open_how.flags, BigInt(flags), true);
  view.setBigUint64(structs.open_how.resolve, BigInt(RESOLVE_CACHED), true);
  return bytes;
}

const FOLLOW = howTo(O_PATH | O_CLOEXEC);
const NOFOLLOW = howTo(O_PATH | O_CLOEXEC | O_NOFOLLOW);
const EAGAIN = -11;
const EINVAL = -22;
const ENOSYS = -38;
const EPERM = -1;

/**
 * What is known of a path, or null when that has to be asked by the ring: it is not the turn's first, the path is not in the
 * kernel's memory, is not there, or there is no such call.
 */
export function statCached(path: string | Uint8Array, flags: number): Statx | null {
  if (!works || turn) return null;
  turn = true;
  resolved.then(endTurn);
  const { files, close } = system();
  const fd = lookUp(files, path, flags);
  if (fd < 0) return null;
  const bytes = new Uint8Array(new ArrayBuffer(structs.statx.size));
  const result = files.statx(fd, EMPTY, AT_EMPTY_PATH, MASK, bytes);
  close(fd);
  return result < 0 ? null : new Statx(bytes);
}

function lookUp(files: System["files"], path: string | Uint8Array, flags: number): number {
  const how = (flags & AT_SYMLINK_NOFOLLOW) !== 0 ? NOFOLLOW : FOLLOW;
  let fd: number;
  try {
    fd = files.syscall(SYS_openat2, AT_FDCWD, cString(path), how, how.length);
  } catch {
    // A C library without the functions.
    fd = ENOSYS;
  }
  if (fd === EINVAL || fd === ENOSYS || fd === EPERM) works = false;
  // Failures are the ring's to tell, too: it may be that only the cache does not know.
  return fd < 0 ? EAGAIN : fd;
}
