/**
 * `constants`.
 *
 * @module
 */
import * as abi from "../ffi/abi.ts";
import { O_DIRECT, O_DIRECTORY, O_NOFOLLOW } from "../ffi/arch.ts";

/** Node's `fs.constants`, as far as something here takes or gives them. */
export const constants: {
  /** For `copyFile`: fail when there is a file already. */
  readonly COPYFILE_EXCL: number;
  /** For `copyFile`: share blocks where the file system can. */
  readonly COPYFILE_FICLONE: number;
  /** For `copyFile`: share blocks or fail. */
  readonly COPYFILE_FICLONE_FORCE: number;
  readonly O_RDONLY: number;
  readonly O_WRONLY: number;
  readonly O_RDWR: number;
  readonly O_CREAT: number;
  readonly O_EXCL: number;
  readonly O_NOCTTY: number;
  readonly O_TRUNC: number;
  readonly O_APPEND: number;
  readonly O_DIRECTORY: number;
  readonly O_NOATIME: number;
  readonly O_NOFOLLOW: number;
  readonly O_SYNC: number;
  readonly O_DSYNC: number;
  readonly O_DIRECT: number;
  readonly O_NONBLOCK: number;
  readonly S_IFMT: number;
  readonly S_IFREG: number;
  readonly S_IFDIR: number;
  readonly S_IFCHR: number;
  readonly S_IFBLK: number;
  readonly S_IFIFO: number;
  readonly S_IFLNK: number;
  readonly S_IFSOCK: number;
} = Object.freeze({
  COPYFILE_EXCL: 1,
  COPYFILE_FICLONE: 2,
  COPYFILE_FICLONE_FORCE: 4,
  O_RDONLY: abi.O_RDONLY,
  O_WRONLY: abi.O_WRONLY,
  O_RDWR: abi.O_RDWR,
  O_CREAT: abi.O_CREAT,
  O_EXCL: abi.O_EXCL,
  O_NOCTTY: abi.O_NOCTTY,
  O_TRUNC: abi.O_TRUNC,
  O_APPEND: abi.O_APPEND,
  O_DIRECTORY,
  O_NOATIME: abi.O_NOATIME,
  O_NOFOLLOW,
  O_SYNC: abi.O_SYNC,
  O_DSYNC: abi.O_DSYNC,
  O_DIRECT,
  O_NONBLOCK: abi.O_NONBLOCK,
  S_IFMT: abi.S_IFMT,
  S_IFREG: abi.S_IFREG,
  S_IFDIR: abi.S_IFDIR,
  S_IFCHR: abi.S_IFCHR,
  S_IFBLK: abi.S_IFBLK,
  S_IFIFO: abi.S_IFIFO,
  S_IFLNK: abi.S_IFLNK,
  S_IFSOCK: abi.S_IFSOCK,
});
