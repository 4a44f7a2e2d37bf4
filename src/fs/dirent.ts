/**
 * `Dirent`: a name in a directory and what kind of file it is.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import {
  DT_BLK,
  DT_CHR,
  DT_DIR,
  DT_FIFO,
  DT_LNK,
  DT_REG,
  DT_SOCK,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from "../ffi/abi.ts";

const TYPES: ReadonlyMap<number, number> = new Map([
  [S_IFBLK, DT_BLK],
  [S_IFCHR, DT_CHR],
  [S_IFDIR, DT_DIR],
  [S_IFIFO, DT_FIFO],
  [S_IFLNK, DT_LNK],
  [S_IFREG, DT_REG],
  [S_IFSOCK, DT_SOCK],
]);

/** The type as a directory has it (`DT_*`), out of a mode. @internal */
export function typeOfMode(mode: number): number {
  return TYPES.get(mode & S_IFMT) ?? 0;
}

/** An entry of a directory. */
export class Dirent<Name extends string | Buffer = string> {
  /** The name, without the directory. */
  name: Name;
  /** The directory, as it was asked for. */
  parentPath: string;
  readonly #type: number;

  /** @internal */
  constructor(name: Name, parentPath: string, type: number) {
    this.name = name;
    this.parentPath = parentPath;
    this.#type = type;
  }

  /** Whether it is a regular file. */
  isFile(): boolean {
    return this.#type === DT_REG;
  }
  /** Whether it is a directory. */
  isDirectory(): boolean {
    return this.#type === DT_DIR;
  }
  /** Whether it is a symbolic link. */
  isSymbolicLink(): boolean {
    return this.#type === DT_LNK;
  }
  /** Whether it is a FIFO. */
  isFIFO(): boolean {
    return this.#type === DT_FIFO;
  }
  /** Whether it is a socket. */
  isSocket(): boolean {
    return this.#type === DT_SOCK;
  }
  /** Whether it is a block device. */
  isBlockDevice(): boolean {
    return this.#type === DT_BLK;
  }
  /** Whether it is a character device. */
  isCharacterDevice(): boolean {
    return this.#type === DT_CHR;
  }
}
