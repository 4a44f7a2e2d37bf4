/**
 * `Stats`.
 *
 * @module
 */
import type { Statx } from "../mod.ts";
import { FileType } from "../loop/file_type.ts";

/** Nanoseconds in a millisecond. */
const NANOSECONDS = 1_000_000n;

/** The fields of {@link Stats} and {@link BigIntStats}, in Node's order. */
export interface StatsFields<N extends number | bigint> {
  /** The device that the file is on. */
  readonly dev: N;
  /** Type and permissions. */
  readonly mode: N;
  /** The number of hard links. */
  readonly nlink: N;
  /** The owner. */
  readonly uid: N;
  /** The group. */
  readonly gid: N;
  /** The device that a special file is. */
  readonly rdev: N;
  /** The preferred size of a transfer in bytes. */
  readonly blksize: N;
  /** The inode number. */
  readonly ino: N;
  /** The size in bytes. */
  readonly size: N;
  /** How many blocks of 512 bytes are allocated. */
  readonly blocks: N;
  /** When it was last read, in milliseconds since 1970. */
  readonly atimeMs: N;
  /** When its content last changed, in milliseconds since 1970. */
  readonly mtimeMs: N;
  /** When its metadata last changed, in milliseconds since 1970. */
  readonly ctimeMs: N;
  /** When it was made, in milliseconds since 1970; 0 where the file system does not know. */
  readonly birthtimeMs: N;
}

/** What {@link Stats} and {@link BigIntStats} have in common. */
export abstract class StatsBase<N extends number | bigint> extends FileType implements StatsFields<N> {
  /** The device that the file is on. */
  readonly dev: N;
  /** Type and permissions. */
  readonly mode: N;
  /** The number of hard links. */
  readonly nlink: N;
  /** The owner. */
  readonly uid: N;
  /** The group. */
  readonly gid: N;
  /** The device that a special file is. */
  readonly rdev: N;
  /** The preferred size of a transfer in bytes. */
  readonly blksize: N;
  /** The inode number. */
  readonly ino: N;
  /** The size in bytes. */
  readonly size: N;
  /** How many blocks of 512 bytes are allocated. */
  readonly blocks: N;
  /** When it was last read, in milliseconds since 1970. */
  readonly atimeMs: N;
  /** When its content last changed, in milliseconds since 1970. */
  readonly mtimeMs: N;
  /** When its metadata last changed, in milliseconds since 1970. */
  readonly ctimeMs: N;
  /** When it was made, in milliseconds since 1970; 0 where the file system does not know. */
  readonly birthtimeMs: N;

  /** @internal */
  protected constructor(fields: StatsFields<N>) {
    super();
    this.dev = fields.dev;
    this.mode = fields.mode;
    this.nlink = fields.nlink;
    this.uid = fields.uid;
    this.gid = fields.gid;
    this.rdev = fields.rdev;
    this.blksize = fields.blksize;
    this.ino = fields.ino;
    this.size = fields.size;
    this.blocks = fields.blocks;
    this.atimeMs = fields.atimeMs;
    this.mtimeMs = fields.mtimeMs;
    this.ctimeMs = fields.ctimeMs;
    this.birthtimeMs = fields.birthtimeMs;
  }

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

  /** When it was last read, as a `Temporal.Instant`. */
  get atimeInstant(): Temporal.Instant {
    return instantOf(this.atimeMs);
  }

  /** When its content last changed, as a `Temporal.Instant`. */
  get mtimeInstant(): Temporal.Instant {
    return instantOf(this.mtimeMs);
  }

  /** When its metadata last changed, as a `Temporal.Instant`. */
  get ctimeInstant(): Temporal.Instant {
    return instantOf(this.ctimeMs);
  }

  /** When it was made, as a `Temporal.Instant`. */
  get birthtimeInstant(): Temporal.Instant {
    return instantOf(this.birthtimeMs);
  }
}

/** What is known of a file, in numbers: Node's `Stats`, field by field, without loading `node:fs` for it. */
export class Stats extends StatsBase<number> {
  /** @internal */
  constructor(about: Statx) {
    super({
      dev: about.device,
      mode: about.mode,
      nlink: about.nlink,
      uid: about.uid,
      gid: about.gid,
      rdev: about.specialDevice,
      blksize: about.blksize,
      ino: about.inode,
      size: about.size,
      blocks: about.blocks,
      atimeMs: about.atimeMs,
      mtimeMs: about.mtimeMs,
      ctimeMs: about.ctimeMs,
      birthtimeMs: about.birthtimeMs,
    });
  }
}

/** What is known of a file, in bigints and with times in nanoseconds, too: Node's `BigIntStats`. */
export class BigIntStats extends StatsBase<bigint> {
  /** {@link StatsBase.atimeMs} in nanoseconds. */
  readonly atimeNs: bigint;
  /** {@link StatsBase.mtimeMs} in nanoseconds. */
  readonly mtimeNs: bigint;
  /** {@link StatsBase.ctimeMs} in nanoseconds. */
  readonly ctimeNs: bigint;
  /** {@link StatsBase.birthtimeMs} in nanoseconds. */
  readonly birthtimeNs: bigint;

  /** @internal */
  constructor(about: Statx) {
    super({
      dev: BigInt(about.device),
      mode: BigInt(about.mode),
      nlink: BigInt(about.nlink),
      uid: BigInt(about.uid),
      gid: BigInt(about.gid),
      rdev: BigInt(about.specialDevice),
      blksize: BigInt(about.blksize),
      ino: about.ino,
      size: BigInt(about.size),
      blocks: BigInt(about.blocks),
      atimeMs: about.atimeNs / NANOSECONDS,
      mtimeMs: about.mtimeNs / NANOSECONDS,
      ctimeMs: about.ctimeNs / NANOSECONDS,
      birthtimeMs: about.birthtimeNs / NANOSECONDS,
    });
    this.atimeNs = about.atimeNs;
    this.mtimeNs = about.mtimeNs;
    this.ctimeNs = about.ctimeNs;
    this.birthtimeNs = about.birthtimeNs;
  }
}

function dateOf(milliseconds: number | bigint): Date {
  // Rounded as Node does it.
  return new Date(Math.round(Number(milliseconds)));
}

function instantOf(milliseconds: number | bigint): Temporal.Instant {
  return Temporal.Instant.fromEpochMilliseconds(Math.floor(Number(milliseconds)));
}
