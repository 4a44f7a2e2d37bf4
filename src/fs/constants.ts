/**
 * `constants`.
 *
 * @module
 */
import * as abi from "../ffi/abi.ts";
import { O_DIRECT, O_DIRECTORY, O_NOFOLLOW } from "../ffi/arch.ts";

/** Node's `fs.constants`, as far as something here takes or gives them. */
export const constants: {
  /** For `access`: whether it is there. */
  readonly F_OK: number;
  /** For `access`: whether it may be read. */
  readonly R_OK: number;
  /** For `access`: whether it may be written. */
  readonly W_OK: number;
  /** For `access`: whether it may be run. */
  readonly X_OK: number;
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
  readonly S_IRWXU: number;
  readonly S_IRUSR: number;
  readonly S_IWUSR: number;
  readonly S_IXUSR: number;
  readonly S_IRWXG: number;
  readonly S_IRGRP: number;
  readonly S_IWGRP: number;
  readonly S_IXGRP: number;
  readonly S_IRWXO: number;
  readonly S_IROTH: number;
  readonly S_IWOTH: number;
  readonly S_IXOTH: number;
  /** macOS has it; here it is 0. */
  readonly O_SYMLINK: number;
  /** Windows has it; here it is 0. */
  readonly UV_FS_O_FILEMAP: number;
  readonly UV_FS_SYMLINK_DIR: number;
  readonly UV_FS_SYMLINK_JUNCTION: number;
  readonly UV_DIRENT_UNKNOWN: number;
  readonly UV_DIRENT_FILE: number;
  readonly UV_DIRENT_DIR: number;
  readonly UV_DIRENT_LINK: number;
  readonly UV_DIRENT_FIFO: number;
  readonly UV_DIRENT_SOCKET: number;
  readonly UV_DIRENT_CHAR: number;
  readonly UV_DIRENT_BLOCK: number;
  readonly UV_FS_COPYFILE_EXCL: number;
  readonly UV_FS_COPYFILE_FICLONE: number;
  readonly UV_FS_COPYFILE_FICLONE_FORCE: number;
} = Object.freeze({
  F_OK: abi.F_OK,
  R_OK: abi.R_OK,
  W_OK: abi.W_OK,
  X_OK: abi.X_OK,
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
  S_IRWXU: abi.S_IRWXU,
  S_IRUSR: abi.S_IRUSR,
  S_IWUSR: abi.S_IWUSR,
  S_IXUSR: abi.S_IXUSR,
  S_IRWXG: abi.S_IRWXG,
  S_IRGRP: abi.S_IRGRP,
  S_IWGRP: abi.S_IWGRP,
  S_IXGRP: abi.S_IXGRP,
  S_IRWXO: abi.S_IRWXO,
  S_IROTH: abi.S_IROTH,
  S_IWOTH: abi.S_IWOTH,
  S_IXOTH: abi.S_IXOTH,
  O_SYMLINK: 0,
  UV_FS_O_FILEMAP: 0,
  UV_FS_SYMLINK_DIR: 1,
  UV_FS_SYMLINK_JUNCTION: 2,
  UV_DIRENT_UNKNOWN: 0,
  UV_DIRENT_FILE: 1,
  UV_DIRENT_DIR: 2,
  UV_DIRENT_LINK: 3,
  UV_DIRENT_FIFO: 4,
  UV_DIRENT_SOCKET: 5,
  UV_DIRENT_CHAR: 6,
  UV_DIRENT_BLOCK: 7,
  UV_FS_COPYFILE_EXCL: 1,
  UV_FS_COPYFILE_FICLONE: 2,
  UV_FS_COPYFILE_FICLONE_FORCE: 4,
});
