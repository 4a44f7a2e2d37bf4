/**
 * What kind of file something is.
 *
 * @module
 */
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from "../ffi/abi.ts";

/** The questions that Node's `Stats` answers about a file's kind. */
export abstract class FileType {
  /** Type and permissions: `st_mode`. */
  abstract readonly mode: number | bigint;

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
