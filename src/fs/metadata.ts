/**
 * Permissions, owners and times: `access`, `chmod`, `chown`, `utimes` and their kin. io_uring has no operation for
 * these, so they are system calls of their own.
 *
 * @module
 */
import { AT_FDCWD, AT_SYMLINK_NOFOLLOW } from "../ffi/abi.ts";
import { cString } from "../ffi/cstring.ts";
import { timespec } from "../ffi/structs.ts";
import { integer, type Mode, modeOf, type PathLike, pathOf } from "./arguments.ts";
import { call, directly, onPath } from "./calls.ts";
import { outOfRange, typeError } from "./errors.ts";

/** A moment: a `Date`, seconds since 1970 as a number (fractions count), or such a number as text. */
export type TimeLike = string | number | Date;

const MOST_ACCESS = 7;
const MOST_ID = 0xffff_ffff;

/**
 * Whether the process may do with a file what `mode` says (`constants.F_OK`, `R_OK | W_OK`…, with the real user's rights):
 * resolves when it may, rejects with `EACCES`, `ENOENT`… otherwise.
 *
 * @example
 * ```ts
 * import { access, constants } from "uring/fs";
 * await access("/etc/hostname", constants.R_OK);
 * ```
 */
export async function access(path: PathLike, mode: number | null = 0): Promise<void> {
  const name = pathOf(path);
  const bits = integer("mode", mode ?? 0, MOST_ACCESS);
  await onPath(
    name,
    0,
    () => call("access", name, (files) => files.faccessat(AT_FDCWD, cString(name), bits, 0)),
  );
}

/** Sets a file's permissions. */
export async function chmod(path: PathLike, mode: Mode): Promise<void> {
  const name = pathOf(path);
  const bits = permissions(mode);
  await onPath(
    name,
    0,
    () => call("chmod", name, (files) => files.fchmodat(AT_FDCWD, cString(name), bits, 0)),
  );
}

/** Linux has no permissions of symbolic links: always rejects with `ERR_METHOD_NOT_IMPLEMENTED`, as Node's does here. */
export function lchmod(_path: PathLike, _mode: Mode): Promise<void> {
  return directly(() => {
    throw Object.assign(new Error("The lchmod() method is not implemented"), {
      code: "ERR_METHOD_NOT_IMPLEMENTED",
    });
  });
}

/** Gives a file to another user and group; −1 leaves one as it is. */
export async function chown(path: PathLike, uid: number, gid: number): Promise<void> {
  const name = pathOf(path);
  const [user, group] = [idOf("uid", uid), idOf("gid", gid)];
  await onPath(
    name,
    0,
    () => call("chown", name, (files) => files.fchownat(AT_FDCWD, cString(name), user, group, 0)),
  );
}

/** {@link chown} of a symbolic link itself. */
export async function lchown(path: PathLike, uid: number, gid: number): Promise<void> {
  const name = pathOf(path);
  const [user, group] = [idOf("uid", uid), idOf("gid", gid)];
  await onPath(name, AT_SYMLINK_NOFOLLOW, () =>
    call(
      "lchown",
      name,
      (files) => files.fchownat(AT_FDCWD, cString(name), user, group, AT_SYMLINK_NOFOLLOW),
    ));
}

/** Sets when a file was last read and changed. */
export async function utimes(path: PathLike, atime: TimeLike, mtime: TimeLike): Promise<void> {
  const name = pathOf(path);
  const times = timesOf(atime, mtime);
  await onPath(
    name,
    0,
    () => call("utime", name, (files) => files.utimensat(AT_FDCWD, cString(name), times, 0)),
  );
}

/** {@link utimes} of a symbolic link itself. */
export async function lutimes(path: PathLike, atime: TimeLike, mtime: TimeLike): Promise<void> {
  const name = pathOf(path);
  const times = timesOf(atime, mtime);
  await onPath(
    name,
    AT_SYMLINK_NOFOLLOW,
    () =>
      call("lutime", name, (files) => files.utimensat(AT_FDCWD, cString(name), times, AT_SYMLINK_NOFOLLOW)),
  );
}

/** {@link chmod} of an open file. @internal */
export function fchmod(fd: number, mode: Mode): void {
  const bits = permissions(mode);
  call("fchmod", null, (files) => files.fchmod(fd, bits));
}

/** {@link chown} of an open file. @internal */
export function fchown(fd: number, uid: number, gid: number): void {
  const [user, group] = [idOf("uid", uid), idOf("gid", gid)];
  call("fchown", null, (files) => files.fchown(fd, user, group));
}

/** {@link utimes} of an open file. @internal */
export function futimes(fd: number, atime: TimeLike, mtime: TimeLike): void {
  const times = timesOf(atime, mtime);
  call("futime", null, (files) => files.futimens(fd, times));
}

/** Permissions that must be there. */
function permissions(mode: Mode): number {
  if (mode === undefined || mode === null) {
    throw typeError("ERR_INVALID_ARG_TYPE", `The "mode" argument must be of type number. Received ${mode}`);
  }
  return modeOf(mode, 0);
}

function idOf(name: string, id: number): number {
  if (id === -1) return MOST_ID;
  if (typeof id === "number" && Number.isInteger(id) && (id < -1 || id > MOST_ID)) {
    throw outOfRange(name, `>= -1 && <= ${MOST_ID}`, id);
  }
  return integer(name, id, MOST_ID);
}

function timesOf(atime: TimeLike, mtime: TimeLike): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(2 * timespec.size));
  const view = new DataView(bytes.buffer);
  [secondsOf("atime", atime), secondsOf("mtime", mtime)].forEach((seconds, i) => {
    // A double holds today's time to the microsecond and no better.
    const microseconds = Math.round(seconds * 1e6);
    const whole = Math.floor(microseconds / 1e6);
    view.setBigInt64(i * timespec.size + timespec.tv_sec, BigInt(whole), true);
    view.setBigInt64(i * timespec.size + timespec.tv_nsec, BigInt((microseconds - whole * 1e6) * 1000), true);
  });
  return bytes;
}

function secondsOf(name: string, time: TimeLike): number {
  const seconds = time instanceof Date ? time.getTime() / 1000 : typeof time === "string" ? +time : time;
  if (typeof seconds === "number" && Number.isFinite(seconds) && time !== "") return seconds;
  throw typeError(
    "ERR_INVALID_ARG_TYPE",
    `The "${name}" argument must be an instance of Date or a time in seconds. Received ${String(time)}`,
  );
}
