/**
 * The result of `statx`.
 *
 * @module
 */
import { statx, statx_timestamp } from "../ffi/structs.ts";
import { FileType } from "./file_type.ts";

/** What is known of a file: `struct statx`, with Node's `isFile()` and its kind. Times are in milliseconds since 1970. */
export class Statx extends FileType {
  readonly #view: DataView;

  /** @param bytes The bytes of a `struct statx`, kept. */
  constructor(bytes: Uint8Array) {
    super();
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  #u32(at: number): number {
    return this.#view.getUint32(at, true);
  }

  #number64(at: number): number {
    return this.#u32(at) + this.#u32(at + 4) * 0x1_0000_0000;
  }

  #nanoseconds(at: number): bigint {
    return this.#view.getBigInt64(at + statx_timestamp.tv_sec, true) * 1_000_000_000n +
      BigInt(this.#u32(at + statx_timestamp.tv_nsec));
  }

  #milliseconds(at: number): number {
    const seconds = this.#u32(at) + this.#view.getInt32(at + 4, true) * 0x1_0000_0000;
    return seconds * 1000 + this.#u32(at + statx_timestamp.tv_nsec) / 1e6;
  }

  /** Which fields the kernel filled in: `STATX_*`. */
  get mask(): number {
    return this.#u32(statx.stx_mask);
  }
  /** Type and permissions. */
  get mode(): number {
    return this.#view.getUint16(statx.stx_mode, true);
  }
  /** The size in bytes. */
  get size(): number {
    return this.#number64(statx.stx_size);
  }
  /** The preferred size of a transfer in bytes. */
  get blksize(): number {
    return this.#u32(statx.stx_blksize);
  }
  /** How many blocks of 512 bytes are allocated. */
  get blocks(): number {
    return this.#number64(statx.stx_blocks);
  }
  /** The number of hard links. */
  get nlink(): number {
    return this.#u32(statx.stx_nlink);
  }
  /** The owner. */
  get uid(): number {
    return this.#u32(statx.stx_uid);
  }
  /** The group. */
  get gid(): number {
    return this.#u32(statx.stx_gid);
  }
  /** The inode number. */
  get ino(): bigint {
    return this.#view.getBigUint64(statx.stx_ino, true);
  }
  /** {@link Statx.ino} as a number, exact up to 2⁵³. @internal */
  get inode(): number {
    return this.#number64(statx.stx_ino);
  }
  /** {@link Statx.dev} as glibc's `makedev` composes it. @internal */
  get device(): number {
    return deviceNumber(this.#u32(statx.stx_dev_major), this.#u32(statx.stx_dev_minor));
  }
  /** {@link Statx.rdev} likewise. @internal */
  get specialDevice(): number {
    return deviceNumber(this.#u32(statx.stx_rdev_major), this.#u32(statx.stx_rdev_minor));
  }
  /** The device that the file is on: major and minor number. */
  get dev(): readonly [major: number, minor: number] {
    return [this.#u32(statx.stx_dev_major), this.#u32(statx.stx_dev_minor)];
  }
  /** The device that a special file is: major and minor number. */
  get rdev(): readonly [major: number, minor: number] {
    return [this.#u32(statx.stx_rdev_major), this.#u32(statx.stx_rdev_minor)];
  }
  /** `STATX_ATTR_*` that are set. */
  get attributes(): bigint {
    return this.#view.getBigUint64(statx.stx_attributes, true);
  }
  /** `STATX_ATTR_*` that this file system knows. */
  get attributesMask(): bigint {
    return this.#view.getBigUint64(statx.stx_attributes_mask, true);
  }
  /** The mount, with `STATX_MNT_ID`. */
  get mntId(): bigint {
    return this.#view.getBigUint64(statx.stx_mnt_id, true);
  }
  /** The alignment in bytes of memory for direct I/O, with `STATX_DIOALIGN`; 0: no direct I/O. */
  get dioMemAlign(): number {
    return this.#u32(statx.stx_dio_mem_align);
  }
  /** The alignment in bytes of offsets and lengths for direct I/O, with `STATX_DIOALIGN`. */
  get dioOffsetAlign(): number {
    return this.#u32(statx.stx_dio_offset_align);
  }
  /** When it was last read. */
  get atimeMs(): number {
    return this.#milliseconds(statx.stx_atime);
  }
  /** When its content last changed. */
  get mtimeMs(): number {
    return this.#milliseconds(statx.stx_mtime);
  }
  /** When its metadata last changed. */
  get ctimeMs(): number {
    return this.#milliseconds(statx.stx_ctime);
  }
  /** When it was made, with `STATX_BTIME`. */
  get birthtimeMs(): number {
    return this.#milliseconds(statx.stx_btime);
  }
  /** {@link Statx.atimeMs} in nanoseconds. */
  get atimeNs(): bigint {
    return this.#nanoseconds(statx.stx_atime);
  }
  /** {@link Statx.mtimeMs} in nanoseconds. */
  get mtimeNs(): bigint {
    return this.#nanoseconds(statx.stx_mtime);
  }
  /** {@link Statx.ctimeMs} in nanoseconds. */
  get ctimeNs(): bigint {
    return this.#nanoseconds(statx.stx_ctime);
  }
  /** {@link Statx.birthtimeMs} in nanoseconds. */
  get birthtimeNs(): bigint {
    return this.#nanoseconds(statx.stx_btime);
  }
}

function deviceNumber(major: number, minor: number): number {
  const low = (major & 0xfff) * 0x100 + (minor & 0xff) + (minor >>> 8) * 0x10_0000;
  return low + (major >>> 12) * 2 ** 44;
}
