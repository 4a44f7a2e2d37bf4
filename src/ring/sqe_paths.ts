/**
 * The operations of a submission queue entry that take a path, and those on extended attributes.
 *
 * @module
 */
import {
  AT_FDCWD,
  IORING_OP_FGETXATTR,
  IORING_OP_FSETXATTR,
  IORING_OP_GETXATTR,
  IORING_OP_LINKAT,
  IORING_OP_MKDIRAT,
  IORING_OP_OPENAT,
  IORING_OP_OPENAT2,
  IORING_OP_RENAMEAT,
  IORING_OP_SETXATTR,
  IORING_OP_STATX,
  IORING_OP_SYMLINKAT,
  IORING_OP_UNLINKAT,
} from "../ffi/abi.ts";
import { open_how } from "../ffi/structs.ts";
import { SqeBase, type U64 } from "./sqe_base.ts";

/** Preps for paths, which are the addresses of C strings; they must stay until the completion. */
export class SqePaths extends SqeBase {
  /** Opens `path` (a C string's address) below `dfd`: `io_uring_prep_openat`, Linux 5.6. */
  prepOpenat(dfd: number, path: U64, flags: number, mode: number): void {
    this.prepRw(IORING_OP_OPENAT, dfd, path, mode, 0);
    this.opFlags = flags;
  }

  /** Opens into a direct descriptor (a slot, or `IORING_FILE_INDEX_ALLOC`): `io_uring_prep_openat_direct`, Linux 5.15. */
  prepOpenatDirect(dfd: number, path: U64, flags: number, mode: number, fileIndex: number): void {
    this.prepOpenat(dfd, path, flags, mode);
    this.setTargetFixedFile(fileIndex);
  }

  /** {@link SqePaths.prepOpenat} below the working directory: `io_uring_prep_open`. */
  prepOpen(path: U64, flags: number, mode: number): void {
    this.prepOpenat(AT_FDCWD, path, flags, mode);
  }

  /** {@link SqePaths.prepOpenatDirect} below the working directory: `io_uring_prep_open_direct`. */
  prepOpenDirect(path: U64, flags: number, mode: number, fileIndex: number): void {
    this.prepOpenatDirect(AT_FDCWD, path, flags, mode, fileIndex);
  }

  /** Opens by a `struct open_how` (`O_*`, mode, `RESOLVE_*`): `io_uring_prep_openat2`, Linux 5.6. */
  prepOpenat2(dfd: number, path: U64, how: U64): void {
    this.prepRw(IORING_OP_OPENAT2, dfd, path, open_how.size, how);
  }

  /** {@link SqePaths.prepOpenat2} into a direct descriptor: `io_uring_prep_openat2_direct`, Linux 5.15. */
  prepOpenat2Direct(dfd: number, path: U64, how: U64, fileIndex: number): void {
    this.prepOpenat2(dfd, path, how);
    this.setTargetFixedFile(fileIndex);
  }

  /** `statx` into `statxbuf`, a `struct statx`: `io_uring_prep_statx`, Linux 5.6. */
  prepStatx(dfd: number, path: U64, flags: number, mask: number, statxbuf: U64): void {
    this.prepRw(IORING_OP_STATX, dfd, path, mask, statxbuf);
    this.opFlags = flags;
  }

  /** Removes a name: `io_uring_prep_unlinkat`, Linux 5.11. */
  prepUnlinkat(dfd: number, path: U64, flags: number): void {
    this.prepRw(IORING_OP_UNLINKAT, dfd, path, 0, 0);
    this.opFlags = flags;
  }

  /** {@link SqePaths.prepUnlinkat} below the working directory: `io_uring_prep_unlink`. */
  prepUnlink(path: U64, flags: number): void {
    this.prepUnlinkat(AT_FDCWD, path, flags);
  }

  /** Renames: `io_uring_prep_renameat`, Linux 5.11. */
  prepRenameat(olddfd: number, oldpath: U64, newdfd: number, newpath: U64, flags: number): void {
    this.prepRw(IORING_OP_RENAMEAT, olddfd, oldpath, newdfd, newpath);
    this.opFlags = flags;
  }

  /** {@link SqePaths.prepRenameat} below the working directory: `io_uring_prep_rename`. */
  prepRename(oldpath: U64, newpath: U64): void {
    this.prepRenameat(AT_FDCWD, oldpath, AT_FDCWD, newpath, 0);
  }

  /** Makes a directory: `io_uring_prep_mkdirat`, Linux 5.15. */
  prepMkdirat(dfd: number, path: U64, mode: number): void {
    this.prepRw(IORING_OP_MKDIRAT, dfd, path, mode, 0);
  }

  /** {@link SqePaths.prepMkdirat} below the working directory: `io_uring_prep_mkdir`. */
  prepMkdir(path: U64, mode: number): void {
    this.prepMkdirat(AT_FDCWD, path, mode);
  }

  /** Makes a symbolic link that says `target`: `io_uring_prep_symlinkat`, Linux 5.15. */
  prepSymlinkat(target: U64, newdirfd: number, linkpath: U64): void {
    this.prepRw(IORING_OP_SYMLINKAT, newdirfd, target, 0, linkpath);
  }

  /** {@link SqePaths.prepSymlinkat} below the working directory: `io_uring_prep_symlink`. */
  prepSymlink(target: U64, linkpath: U64): void {
    this.prepSymlinkat(target, AT_FDCWD, linkpath);
  }

  /** Makes a hard link (`AT_SYMLINK_FOLLOW`, `AT_EMPTY_PATH`): `io_uring_prep_linkat`, Linux 5.15. */
  prepLinkat(olddfd: number, oldpath: U64, newdfd: number, newpath: U64, flags: number): void {
    this.prepRw(IORING_OP_LINKAT, olddfd, oldpath, newdfd, newpath);
    this.opFlags = flags;
  }

  /** {@link SqePaths.prepLinkat} below the working directory: `io_uring_prep_link`. */
  prepLink(oldpath: U64, newpath: U64, flags: number): void {
    this.prepLinkat(AT_FDCWD, oldpath, AT_FDCWD, newpath, flags);
  }

  /** Reads an extended attribute by path; `len` 0 asks for its size: `io_uring_prep_getxattr`, Linux 5.19. */
  prepGetxattr(name: U64, value: U64, path: U64, len: number): void {
    this.prepRw(IORING_OP_GETXATTR, 0, name, len, value);
    this.addr3 = path;
    this.opFlags = 0;
  }

  /** Sets an extended attribute by path (`XATTR_*`): `io_uring_prep_setxattr`, Linux 5.19. */
  prepSetxattr(name: U64, value: U64, path: U64, flags: number, len: number): void {
    this.prepRw(IORING_OP_SETXATTR, 0, name, len, value);
    this.addr3 = path;
    this.opFlags = flags;
  }

  /** Reads an extended attribute of an open file: `io_uring_prep_fgetxattr`, Linux 5.19. */
  prepFgetxattr(fd: number, name: U64, value: U64, len: number): void {
    this.prepRw(IORING_OP_FGETXATTR, fd, name, len, value);
    this.opFlags = 0;
  }

  /** Sets an extended attribute of an open file (`XATTR_*`): `io_uring_prep_fsetxattr`, Linux 5.19. */
  prepFsetxattr(fd: number, name: U64, value: U64, flags: number, len: number): void {
    this.prepRw(IORING_OP_FSETXATTR, fd, name, len, value);
    this.opFlags = flags;
  }
}
