/**
 * `Stats`.
 *
 * @module
 */
import type { Statx } from "../mod.ts";
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from "../ffi/abi.ts";

/** What {@link Stats} and {@link BigIntStats} have in common. */
export abstract class StatsBase<N extends number | bigint> {
  /** The device that the file is on. */
  abstract readonly dev: N;
  /** Type and permissions. */
  abstract readonly mode: N;
  /** The number of hard links. */
  abstract readonly nlink: N;
  /** The owner. */
  abstract readonly uid: N;
  /** The group. */
  abstract readonly gid: N;
  /** The device that a special file is. */
  abstract readonly rdev: N;
  /** The preferred size of a transfer in bytes. */
  abstract readonly blksize: N;
  /** The inode number. */
  abstract readonly ino: N;
  /** The size in bytes. */
  abstract readonly size: N;
  /** How many blocks of 512 bytes are allocated. */
  abstract readonly blocks: N;
  /** When it was last read, in milliseconds since 1970. */
  abstract readonly atimeMs: N;
  /** When its content last changed, in milliseconds since 1970. */
  abstract readonly mtimeMs: N;
  /** When its metadata last changed, in milliseconds since 1970. */
  abstract readonly ctimeMs: N;
  /** When it was made, in milliseconds since 1970; 0 where the file system does not know. */
  abstract readonly birthtimeMs: N;

  /** When it was last read. */
  get atime(): Date {
    return dateOf(this.atimeMs);
  }
  /** When its content last changed. */
  get mtime(): Date {
    return dateOf(this.mtimeMs);
  }
  /** When its metadata last changed. */
  get ctime(): Date {
    return dateOf(this.ctimeMs);
  }
  /** When it was made. */
  get birthtime(): Date {
    return dateOf(this.birthtimeMs);
  }

  #is(type: number): boolean {
    return (Number(this.mode) & S_IFMT) === type;
  }
  /** Whether it is a regular file. */
  isFile(): boolean {
    return this.#is(S_IFREG);
  }
  /** Whether it is a directory. */
  isDirectory(): boolean {
    return this.#is(S_IFDIR);
  }
  /** Whether it is a symbolic link; only `lstat` tells. */
  isSymbolicLink(): boolean {
    return this.#is(S_IFLNK);
  }
  /** Whether it is a FIFO. */
  isFIFO(): boolean {
    return this.#is(S_IFIFO);
  }
  /** Whether it is a socket. */
  isSocket(): boolean {
    return this.#is(S_IFSOCK);
  }
  /** Whether it is a block device. */
  isBlockDevice(): boolean {
    return this.#is(S_IFBLK);
  }
  /** Whether it is a character device. */
  isCharacterDevice(): boolean {
    return this.#is(S_IFCHR);
  }
}

/** What is known of a file, in numbers: Node's `Stats`, field by field, without loading `node:fs` for it. */
export class Stats extends StatsBase<number> {
  override readonly dev: number;
  override readonly mode: number;
  override readonly nlink: number;
  override readonly uid: number;
  override readonly gid: number;
  override readonly rdev: number;
  override readonly blksize: number;
  override readonly ino: number;
  override readonly size: number;
  override readonly blocks: number;
  override readonly atimeMs: number;
  override readonly mtimeMs: number;
  override readonly ctimeMs: number;
  override readonly birthtimeMs: number;

  /** @param about What the kernel said. */
  constructor(about: Statx) {
    super();
    this.dev = deviceNumber(about.dev);
    this.mode = about.mode;
    this.nlink = about.nlink;
    this.uid = about.uid;
    this.gid = about.gid;
    this.rdev = deviceNumber(about.rdev);
    this.blksize = about.blksize;
    this.ino = Number(about.ino);
    this.size = about.size;
    this.blocks = about.blocks;
    this.atimeMs = about.atimeMs;
    this.mtimeMs = about.mtimeMs;
    this.ctimeMs = about.ctimeMs;
    this.birthtimeMs = about.birthtimeMs;
  }
}

/** What is known of a file, in bigints and with times in nanoseconds, too: Node's `BigIntStats`. */
export class BigIntStats extends StatsBase<bigint> {
  override readonly dev: bigint;
  override readonly mode: bigint;
  override readonly nlink: bigint;
  override readonly uid: bigint;
  override readonly gid: bigint;
  override readonly rdev: bigint;
  override readonly blksize: bigint;
  override readonly ino: bigint;
  override readonly size: bigint;
  override readonly blocks: bigint;
  override readonly atimeMs: bigint;
  override readonly mtimeMs: bigint;
  override readonly ctimeMs: bigint;
  override readonly birthtimeMs: bigint;
  /** {@link BigIntStats.atimeMs} in nanoseconds. */
  readonly atimeNs: bigint;
  /** {@link BigIntStats.mtimeMs} in nanoseconds. */
  readonly mtimeNs: bigint;
  /** {@link BigIntStats.ctimeMs} in nanoseconds. */
  readonly ctimeNs: bigint;
  /** {@link BigIntStats.birthtimeMs} in nanoseconds. */
  readonly birthtimeNs: bigint;

  /** @param about What the kernel said. */
  constructor(about: Statx) {
    super();
    this.dev = BigInt(deviceNumber(about.dev));
    this.mode = BigInt(about.mode);
    this.nlink = BigInt(about.nlink);
    this.uid = BigInt(about.uid);
    this.gid = BigInt(about.gid);
    this.rdev = BigInt(deviceNumber(about.rdev));
    this.blksize = BigInt(about.blksize);
    this.ino = about.ino;
    this.size = BigInt(about.size);
    this.blocks = BigInt(about.blocks);
    this.atimeNs = about.atimeNs;
    this.mtimeNs = about.mtimeNs;
    this.ctimeNs = about.ctimeNs;
    this.birthtimeNs = about.birthtimeNs;
    this.atimeMs = this.atimeNs / 1_000_000n;
    this.mtimeMs = this.mtimeNs / 1_000_000n;
    this.ctimeMs = this.ctimeNs / 1_000_000n;
    this.birthtimeMs = this.birthtimeNs / 1_000_000n;
  }
}

/** A device's number as glibc's `makedev` composes it. */
function deviceNumber([major, minor]: readonly [number, number]): number {
  const low = (major & 0xfff) * 0x100 + (minor & 0xff) + (minor >>> 8) * 0x10_0000;
  return low + (major >>> 12) * 2 ** 44;
}

function dateOf(milliseconds: number | bigint): Date {
  // Rounded as Node does it.
  return new Date(Math.round(Number(milliseconds)));
}
