/**
 * Files of another file system, for file systems that keep theirs there: pass-through, encryption, layers.
 *
 * These are direct system calls, for what io_uring has no operation for and for what takes longer to hand to the ring
 * than to do: what is known of a file that is open, reading what is in memory. What could wait for a disk goes by the
 * `Uring` instead: {@link openCached} and {@link readCached} say when. All take descriptors, `O_PATH` ones too where
 * nothing else is said, and so mean the same file whatever it is called by then. Names are text or bytes. Failures
 * throw `UringError`.
 *
 * @module
 */
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  O_CLOEXEC,
  RESOLVE_CACHED,
  RWF_NOWAIT,
  SEEK_SET,
  STATX_BASIC_STATS,
  SYS_openat2,
} from "../ffi/abi.ts";
import type { LookUpCalls, Pinned, ReadCalls } from "../ffi/adapter.ts";
import { cString } from "../ffi/cstring.ts";
import { UringError } from "../ffi/errors.ts";
import { addressOf, pinned } from "../ffi/pin.ts";
import * as structs from "../ffi/structs.ts";
import type { Functions } from "../ffi/symbols.ts";
import { adapter, system } from "../ffi/system.ts";
import type { AttributeChanges, Attributes, FileSystemStats } from "./types.ts";

/** A name in a directory. */
export interface BackingEntry {
  /** Its bytes. */
  readonly name: Uint8Array<ArrayBuffer>;
  /** The number of the file; exact up to 2⁵³. */
  readonly ino: number;
  /** The type, in the bits of `st_mode`; 0 where the file system does not say. */
  readonly mode: number;
}

const CALLS = {
  // int openat(int dirfd, const char *path, int flags, mode_t mode)
  openat: { result: "i32", args: ["i32", "bytes", "i32", "u32"] },
  // int mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)
  mknodat: { result: "i32", args: ["i32", "bytes", "u32", "word"] },
  // int fstatfs(int fd, struct statfs *buf)
  fstatfs: { result: "i32", args: ["i32", "bytes"] },
  // ssize_t getxattr(const char *path, const char *name, void *value, size_t size)
  getxattr: { result: "i32", args: ["bytes", "bytes", "bytes", "word"] },
  // int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
  setxattr: { result: "i32", args: ["bytes", "bytes", "bytes", "word", "i32"] },
  // ssize_t listxattr(const char *path, char *list, size_t size)
  listxattr: { result: "i32", args: ["bytes", "bytes", "word"] },
  // int removexattr(const char *path, const char *name)
  removexattr: { result: "i32", args: ["bytes", "bytes"] },
  // mode_t umask(mode_t mask)
  umask: { result: "i32", args: ["u32"] },
  // int prlimit(pid_t pid, int resource, const struct rlimit *new_limit, struct rlimit *old_limit)
  prlimit: { result: "i32", args: ["i32", "i32", "bytes", "bytes"] },
} as const;

const PATH_MAX = 4096;
const XATTR_MOST = 65536;
const XATTR_LIKELY = 256;
const DIRECTORY_BATCH = 32 * 1024;
const RLIMIT_NOFILE = 7;
const EAGAIN = -11;
const EOPNOTSUPP = -95;
const EPERM = -1;
const ENODATA = -61;
const ERANGE = -34;
const UTIME_NOW = 0x3fff_ffff;
const UTIME_OMIT = 0x3fff_fffe;
const TYPE_SHIFT = 12;
const TWO_32 = 0x1_0000_0000;
const EMPTY = cString("");

const encoder = new TextEncoder();

/** The calls, and the memory that they use again and again. */
class Calls {
  readonly lookUp: LookUpCalls;
  readonly more: Functions<typeof CALLS>;
  readonly path: Pinned = pinned(PATH_MAX);
  readonly how: Pinned = pinned(structs.open_how.size);
  readonly howWords: Uint32Array = new Uint32Array(this.how.bytes.buffer);
  readonly empty: Pinned = pinned(1);
  readonly about: Pinned = pinned(structs.statx.size);
  readonly words: Uint32Array = new Uint32Array(this.about.bytes.buffer);
  readonly entries: Pinned = pinned(DIRECTORY_BATCH);

  constructor() {
    const { libc } = system();
    this.lookUp = adapter.openLookUp(libc);
    this.more = adapter.open(libc, CALLS);
    this.howWords[structs.open_how.resolve >> 2] = RESOLVE_CACHED;
  }

  /** Puts a name where the calls find it. */
  take(name: string | Uint8Array): void {
    const { bytes } = this.path;
    const given = typeof name === "string" ? encoder.encode(name) : name;
    if (given.length >= PATH_MAX) throw new UringError(ENAMETOOLONG, "open");
    if (given.includes(0)) throw new TypeError("A name must not contain a NUL byte");
    bytes.set(given);
    bytes[given.length] = 0;
  }
}

const ENAMETOOLONG = -36;

let opened: Calls | undefined;

function calls(): Calls {
  return opened ??= new Calls();
}

function checked(result: number, syscall: string): number {
  if (result >= 0) return result;
  throw new UringError(system().errno(), syscall);
}

/** Any open file by a path that always means it: calls that take no `O_PATH` descriptor take this. */
export function pathOf(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/**
 * Opens a name in a directory, provided that this waits for no disk; otherwise −`EAGAIN`, and the ring has to:
 * `Uring.openat`. Other failures are returned as negative errno, too, since a name that is not there is no exception.
 * Linux 5.12; before, always −`EAGAIN`.
 */
export function openCached(dirfd: number, name: string | Uint8Array, flags: number): number {
  const { lookUp, howWords, path, how } = calls();
  calls().take(name);
  howWords[structs.open_how.flags >> 2] = flags | O_CLOEXEC;
  const fd = lookUp.openat2(SYS_openat2, dirfd, path, how);
  if (fd >= 0) return fd;
  const error = system().errno();
  // Kernels and seccomp profiles that do not know it.
  return error === -38 || error === -22 || error === EPERM ? EAGAIN : error;
}

/**
 * Opens the file that a descriptor stands for once more, with other flags: as `O_PATH` is not enough for reading it.
 * Nothing has to be looked up for that.
 */
export function reopen(fd: number, flags: number): number {
  return checked(calls().more.openat(AT_FDCWD, cString(pathOf(fd)), flags | O_CLOEXEC, 0), "open");
}

/** Closes a descriptor at once. */
export function close(fd: number): void {
  calls().lookUp.close(fd);
}

/** What is known of a file: {@link Attributes}, and which file it is. */
export class BackingAttributes implements Attributes {
  readonly mode: number;
  readonly ino: number;
  /** The device that it is on; together with `ino` it tells files apart. */
  readonly device: number;
  readonly size: number;
  readonly blocks: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blksize: number;
  /** Whole seconds and the nanoseconds after them, three times: when it was last read, changed, and its metadata changed. @internal */
  readonly times: readonly [number, number, number, number, number, number];

  /** @param words A `struct statx`. */
  constructor(words: Uint32Array) {
    const { statx } = structs;
    this.mode = words[statx.stx_mode >> 2]! & 0xffff;
    this.ino = wide(words, statx.stx_ino);
    this.device = deviceOf(words, statx.stx_dev_major);
    this.size = wide(words, statx.stx_size);
    this.blocks = wide(words, statx.stx_blocks);
    this.nlink = words[statx.stx_nlink >> 2]!;
    this.uid = words[statx.stx_uid >> 2]!;
    this.gid = words[statx.stx_gid >> 2]!;
    this.rdev = deviceOf(words, statx.stx_rdev_major);
    this.blksize = words[statx.stx_blksize >> 2]!;
    const { stx_atime, stx_mtime, stx_ctime } = statx;
    const { tv_nsec } = structs.statx_timestamp;
    // BigInts take ten times as long, and the kernel wants none.
    this.times = [
      seconds(words, stx_atime),
      words[(stx_atime + tv_nsec) >> 2]!,
      seconds(words, stx_mtime),
      words[(stx_mtime + tv_nsec) >> 2]!,
      seconds(words, stx_ctime),
      words[(stx_ctime + tv_nsec) >> 2]!,
    ];
  }

  get atimeNs(): bigint {
    return nanoseconds(this.times[0], this.times[1]);
  }

  get mtimeNs(): bigint {
    return nanoseconds(this.times[2], this.times[3]);
  }

  get ctimeNs(): bigint {
    return nanoseconds(this.times[4], this.times[5]);
  }
}

function wide(words: Uint32Array, at: number): number {
  return words[at >> 2]! + words[(at >> 2) + 1]! * TWO_32;
}

/** As C's `makedev` composes it. */
function deviceOf(words: Uint32Array, at: number): number {
  const [major, minor] = [words[at >> 2]!, words[(at >> 2) + 1]!];
  return (major & 0xfff) * 0x100 + (minor & 0xff) + (minor >>> 8) * 0x10_0000 + (major >>> 12) * 2 ** 44;
}

function seconds(words: Uint32Array, at: number): number {
  return words[at >> 2]! + (words[(at >> 2) + 1]! | 0) * TWO_32;
}

function nanoseconds(whole: number, rest: number): bigint {
  return BigInt(whole) * BILLION + BigInt(rest);
}

/** What is known of the file that a descriptor stands for: `statx(2)`. */
export function stat(fd: number): BackingAttributes {
  const { lookUp, empty, about, words } = calls();
  checked(lookUp.statx(fd, empty, AT_EMPTY_PATH, STATX_BASIC_STATS, about), "stat");
  return new BackingAttributes(words);
}

/**
 * What is known of a name in a directory, symbolic links not followed; null when there is none. It may wait for a
 * disk.
 */
export function statAt(dirfd: number, name: string | Uint8Array): BackingAttributes | null {
  const { lookUp, path, about, words } = calls();
  calls().take(name);
  if (lookUp.statx(dirfd, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, about) < 0) {
    const error = system().errno();
    if (error === ENOENT) return null;
    throw new UringError(error, "stat");
  }
  return new BackingAttributes(words);
}

const ENOENT = -2;

/** Reading, and the memory for it. */
class Reads {
  readonly calls: ReadCalls = adapter.openReads(system().libc);
  readonly errno: () => number = system().errno;
  readonly vector: Pinned = pinned(structs.iovec.size);
  readonly words: Uint32Array = new Uint32Array(this.vector.bytes.buffer);
}

let reads: Reads | null | undefined;

function openReads(): Reads | null {
  try {
    return new Reads();
  } catch {
    // A C library without the function.
    return null;
  }
}

/**
 * Reads what is in memory, and returns how many bytes there were, which may be fewer than are in the file: then the
 * next one is not in memory, or it is the end. −`EAGAIN`: none is in memory, or the file system cannot tell; the ring
 * has to read. The descriptor is open for reading.
 */
export function readCached(fd: number, buffer: Uint8Array, offset: number): number {
  if (reads === undefined) reads = openReads();
  if (reads === null) return EAGAIN;
  const { calls, vector, words } = reads;
  const address = addressOf(buffer);
  words[0] = address;
  words[1] = address / TWO_32;
  words[2] = buffer.length;
  const count = calls.preadv2(fd, vector, offset, RWF_NOWAIT);
  if (count >= 0) return count;
  const error = reads.errno();
  if (error === EAGAIN || error === EOPNOTSUPP) return EAGAIN;
  throw new UringError(error, "read");
}

/** The next entries of an open directory without `.` and `..`; none at its end. It may wait for a disk. */
export function nextEntries(fd: number): BackingEntry[] {
  const { lookUp, entries } = calls();
  for (;;) {
    const length = checked(lookUp.getdents64(fd, entries), "readdir");
    if (length === 0) return [];
    const found = parse(entries.bytes, length);
    if (found.length > 0) return found;
  }
}

/** Goes back to the first entry. */
export function rewind(fd: number): void {
  system().files.lseek(fd, 0, SEEK_SET);
}

const DOT = 46;

function parse(bytes: Uint8Array, length: number): BackingEntry[] {
  const { d_ino, d_reclen, d_type, d_name } = structs.dirent64;
  const found: BackingEntry[] = [];
  for (let at = 0; at < length;) {
    const start = at + d_name;
    const low = word(bytes, at + d_ino);
    const ino = low + word(bytes, at + d_ino + 4) * TWO_32;
    const mode = bytes[at + d_type]! << TYPE_SHIFT;
    at += bytes[at + d_reclen]! + bytes[at + d_reclen + 1]! * 256;
    const end = bytes.indexOf(0, start);
    if (bytes[start] === DOT && (end === start + 1 || end === start + 2 && bytes[start + 1] === DOT)) {
      continue;
    }
    found.push({ name: bytes.slice(start, end) as Uint8Array<ArrayBuffer>, ino, mode });
  }
  return found;
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at]! + bytes[at + 1]! * 0x100 + bytes[at + 2]! * 0x1_0000 + bytes[at + 3]! * 0x100_0000;
}

/** What a symbolic link says; the descriptor is of the link itself (`O_PATH | O_NOFOLLOW`). */
export function readlink(fd: number): Uint8Array<ArrayBuffer> {
  const target = new Uint8Array(PATH_MAX);
  const length = system().files.readlinkat(fd, EMPTY, target, target.length);
  if (length < 0) throw new UringError(length, "readlink");
  return target.slice(0, length);
}

/** Makes a special file, or an empty one, with the mode that is given less the umask. */
export function mknod(dirfd: number, name: string | Uint8Array, mode: number, rdev: number): void {
  checked(calls().more.mknodat(dirfd, cString(name), mode, rdev), "mknod");
}

/** Changes the owner and the group; `undefined` leaves one as it is. */
export function chown(fd: number, uid: number | undefined, gid: number | undefined): void {
  const same = 0xffff_ffff;
  const { files } = system();
  const flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW;
  const result = files.fchownat(fd, EMPTY, uid ?? same, gid ?? same, flags);
  if (result < 0) throw new UringError(result, "chown");
}

/** Changes the permissions. */
export function chmod(fd: number, mode: number): void {
  const result = system().files.fchmodat(AT_FDCWD, cString(pathOf(fd)), mode & 0o7777, 0);
  if (result < 0) throw new UringError(result, "chmod");
}

/** Changes times as a client has asked for: what is `undefined` stays. */
export function utimes(
  fd: number,
  changes: Pick<AttributeChanges, "atimeNs" | "mtimeNs" | "atimeNow" | "mtimeNow">,
): void {
  const { timespec } = structs;
  const bytes = new Uint8Array(new ArrayBuffer(2 * timespec.size));
  const view = new DataView(bytes.buffer);
  const put = (at: number, ns: bigint | undefined, now: boolean): void => {
    const special = now ? UTIME_NOW : ns === undefined ? UTIME_OMIT : null;
    // Division rounds towards zero, and nanoseconds count from the second before.
    const part = ns === undefined ? 0n : (ns % BILLION + BILLION) % BILLION;
    if (special === null) view.setBigInt64(at + timespec.tv_sec, (ns! - part) / BILLION, true);
    view.setBigInt64(at + timespec.tv_nsec, special === null ? part : BigInt(special), true);
  };
  put(0, changes.atimeNs, changes.atimeNow);
  put(timespec.size, changes.mtimeNs, changes.mtimeNow);
  const result = system().files.utimensat(AT_FDCWD, cString(pathOf(fd)), bytes, 0);
  if (result < 0) throw new UringError(result, "utime");
}

const BILLION = 1_000_000_000n;

/** An extended attribute's value; null when there is none of that name. */
export function getxattr(fd: number, name: string | Uint8Array): Uint8Array<ArrayBuffer> | null {
  const [path, key] = [cString(pathOf(fd)), cString(name)];
  for (let size = XATTR_LIKELY;; size = XATTR_MOST) {
    const value = new Uint8Array(size);
    const length = calls().more.getxattr(path, key, value, size);
    if (length >= 0) return value.subarray(0, length);
    const error = system().errno();
    if (error === ENODATA) return null;
    if (error !== ERANGE || size === XATTR_MOST) throw new UringError(error, "getxattr");
  }
}

/** Sets an extended attribute; `flags`: `XATTR_CREATE` (1), `XATTR_REPLACE` (2). */
export function setxattr(
  fd: number,
  name: string | Uint8Array,
  value: Uint8Array,
  flags: number = 0,
): void {
  const path = cString(pathOf(fd));
  checked(calls().more.setxattr(path, cString(name), value, value.length, flags), "setxattr");
}

/** The names of the extended attributes. */
export function listxattr(fd: number): Uint8Array<ArrayBuffer>[] {
  const path = cString(pathOf(fd));
  for (let size = XATTR_LIKELY;; size = XATTR_MOST) {
    const list = new Uint8Array(size);
    const length = calls().more.listxattr(path, list, size);
    if (length >= 0) return namesIn(list.subarray(0, length));
    const error = system().errno();
    if (error !== ERANGE || size === XATTR_MOST) throw new UringError(error, "listxattr");
  }
}

function namesIn(list: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer>[] {
  const names: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 0; at < list.length;) {
    const end = list.indexOf(0, at);
    names.push(list.subarray(at, end));
    at = end + 1;
  }
  return names;
}

/** Removes an extended attribute. */
export function removexattr(fd: number, name: string | Uint8Array): void {
  checked(calls().more.removexattr(cString(pathOf(fd)), cString(name)), "removexattr");
}

/** Finds data (`SEEK_DATA`, 3) or a hole (`SEEK_HOLE`, 4) from `offset` on. The descriptor is no `O_PATH` one. */
export function seek(fd: number, offset: number, whence: number): number {
  const result = system().files.lseek(fd, offset, whence);
  if (result < 0) throw new UringError(result, "lseek");
  return result;
}

/**
 * Copies at most so many bytes within the kernel: `copy_file_range(2)`. It may wait for a disk: ask for a few MiB at
 * a time.
 */
export function copyFileRange(
  from: number,
  fromOffset: number,
  to: number,
  toOffset: number,
  length: number,
): number {
  const offsets = [fromOffset, toOffset].map((offset) =>
    new Uint8Array(BigInt64Array.of(BigInt(offset)).buffer)
  );
  const result = system().files.copy_file_range(from, offsets[0]!, to, offsets[1]!, length, 0);
  if (result < 0) throw new UringError(result, "copy_file_range");
  return result;
}

/** What is known of the file system that a file is on. */
export function statfs(fd: number): FileSystemStats {
  const bytes = new Uint8Array(new ArrayBuffer(structs.statfs.size));
  checked(calls().more.fstatfs(fd, bytes), "statfs");
  const words = new Uint32Array(bytes.buffer);
  const { f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree } = structs.statfs;
  return {
    bsize: wide(words, f_bsize),
    frsize: wide(words, f_frsize),
    blocks: wide(words, f_blocks),
    bfree: wide(words, f_bfree),
    bavail: wide(words, f_bavail),
    files: wide(words, f_files),
    ffree: wide(words, f_ffree),
  };
}

/**
 * Has files made with exactly the mode that is asked for: a client's umask was applied already. For the whole
 * process.
 */
export function clearUmask(): void {
  calls().more.umask(0);
}

/**
 * Raises the limit of open files, since each file that the kernel knows keeps a descriptor: as far as this user may,
 * and as root to `most`. Returns the limit that there is then.
 */
export function raiseFileLimit(most: number = 1_000_000): number {
  const { more } = calls();
  const now = new BigUint64Array(new ArrayBuffer(16));
  const bytes = new Uint8Array(now.buffer);
  checked(more.prlimit(0, RLIMIT_NOFILE, null, bytes), "prlimit");
  const [soft, hard] = [now[0]!, now[1]!];
  for (const wanted of [BigInt(most) > hard ? BigInt(most) : hard, hard]) {
    now[0] = wanted;
    now[1] = wanted > hard ? wanted : hard;
    if (more.prlimit(0, RLIMIT_NOFILE, bytes, null) === 0) return Number(wanted);
  }
  return Number(soft);
}
