/**
 * Operations on paths.
 *
 * @module
 */
import { AT_REMOVEDIR, O_CLOEXEC, O_CREAT, STATX_BASIC_STATS } from "../ffi/abi.ts";
import { O_DIRECTORY, O_TMPFILE } from "../ffi/arch.ts";
import { pinned } from "../ffi/pin.ts";
import { open_how, statx } from "../ffi/structs.ts";
import type { Piece } from "./arena.ts";
import type { DirectDescriptor } from "./direct.ts";
import type { Op } from "./op.ts";
import { type FlagString, openFlags } from "./open_flags.ts";
import { checkU32, type OperationOptions } from "./options.ts";
import { checkPath, dirfdOf, type Path, textOf } from "./paths.ts";
import { Statx } from "./statx.ts";
import { Submitter } from "./submitter.ts";

/** Options of operations on a path. */
export interface PathOptions extends OperationOptions {
  /** The directory that a relative path starts from, as a descriptor; default: the working directory. */
  dirfd?: number;
}

/** Options of {@link PathOperations.openat}. */
export interface OpenOptions extends PathOptions {
  /** `O_*` bits or Node's letters (`"r"`, `"w+"`, `"ax"`…); default `"r"`. `O_CLOEXEC` is always set. */
  flags?: number | FlagString;
  /** The permissions of a file that is created; default `0o666`, less the umask. */
  mode?: number;
}

/** {@link OpenOptions} for a direct descriptor. */
export interface OpenDirectOptions extends OpenOptions {
  /** `true` for a direct descriptor (Linux 5.15), or one reserved with `chain.direct()`. */
  direct: true | DirectDescriptor;
}

/** Options of {@link PathOperations.openat2}. */
export interface Open2Options extends OpenOptions {
  /**
   * `RESOLVE_*` bits, which restrict how the path is looked up. `RESOLVE_BENEATH`: nothing outside `dirfd` (`EXDEV`).
   * `RESOLVE_IN_ROOT`: `dirfd` is the root, also for absolute paths and `..`. `RESOLVE_NO_SYMLINKS` and
   * `RESOLVE_NO_MAGICLINKS`: `ELOOP` for these. `RESOLVE_NO_XDEV`: no other mount (`EXDEV`). `RESOLVE_CACHED`: only what
   * can be opened without waiting (`EAGAIN`), Linux 5.12.
   */
  resolve?: number;
}

/** {@link Open2Options} for a direct descriptor. */
export interface Open2DirectOptions extends Open2Options {
  /** `true` for a direct descriptor (Linux 5.15), or one reserved with `chain.direct()`. */
  direct: true | DirectDescriptor;
}

/** Options of {@link PathOperations.statx}. */
export interface StatxOptions extends PathOptions {
  /** `AT_*` bits: `AT_SYMLINK_NOFOLLOW`, `AT_EMPTY_PATH`… */
  flags?: number;
  /** `STATX_*`: which fields are wanted; default `STATX_BASIC_STATS`. */
  mask?: number;
}

/** Options of {@link PathOperations.renameat}. */
export interface RenameOptions extends PathOptions {
  /** The directory that a relative new path starts from. */
  newDirfd?: number;
  /** `RENAME_*` bits. */
  flags?: number;
}

/** Options of {@link PathOperations.linkat}. */
export interface LinkatOptions extends PathOptions {
  /** The directory that a relative new path starts from. */
  newDirfd?: number;
  /** `AT_SYMLINK_FOLLOW`: link to what a symbolic link leads to. `AT_EMPTY_PATH`: link to `dirfd` itself, as root. */
  flags?: number;
}

/** Operations that take a path, each one entry of the submission queue. */
export abstract class PathOperations extends Submitter {
  /** Opens a file into a direct descriptor: `io_uring_prep_openat_direct`, Linux 5.15. */
  openat(path: Path, options: OpenDirectOptions): Promise<DirectDescriptor>;
  /** Opens a file and resolves with its descriptor: `io_uring_prep_openat`, Linux 5.6. */
  openat(path: Path, options?: OpenOptions): Promise<number>;
  openat(path: Path, options?: OpenOptions | OpenDirectOptions): Promise<number | DirectDescriptor> {
    this.check(options);
    const flags = openFlags(options?.flags ?? "r");
    const mode = checkU32("mode", options?.mode ?? 0o666);
    const dirfd = dirfdOf(options?.dirfd);
    checkPath(path);
    const target = this.#openTarget(options);
    const { op, sqe, address } = this.beginPath("openat", path);
    if (target !== null) {
      // The kernel refuses O_CLOEXEC for what no exec can inherit.
      sqe.prepOpenatDirect(dirfd, address, flags & ~O_CLOEXEC, mode, target.slot);
      this.intoDirect(op, target);
    } else {
      sqe.prepOpenat(dirfd, address, flags | O_CLOEXEC, mode);
      this.closeIfLate(op, options);
    }
    return this.promise(op, options);
  }

  #openTarget(options: OpenOptions | OpenDirectOptions | undefined): DirectDescriptor | null {
    const direct = options !== undefined && "direct" in options ? options.direct : undefined;
    return direct === undefined ? null : this.target(direct);
  }

  /** {@link PathOperations.openat2} into a direct descriptor: `io_uring_prep_openat2_direct`, Linux 5.15. */
  openat2(path: Path, options: Open2DirectOptions): Promise<DirectDescriptor>;
  /**
   * Opens a file by a path that is looked up as `resolve` demands, and resolves with its descriptor:
   * `io_uring_prep_openat2`, Linux 5.6. Unlike `openat` it refuses flags that the kernel does not know, and a `mode` where
   * nothing is created (`EINVAL`).
   */
  openat2(path: Path, options?: Open2Options): Promise<number>;
  openat2(path: Path, options?: Open2Options | Open2DirectOptions): Promise<number | DirectDescriptor> {
    this.check(options);
    const flags = openFlags(options?.flags ?? "r");
    const creates = (flags & O_CREAT) !== 0 || (flags & O_TMPFILE & ~O_DIRECTORY) !== 0;
    const mode = checkU32("mode", options?.mode ?? (creates ? 0o666 : 0));
    const resolve = checkU32("resolve", options?.resolve ?? 0);
    const dirfd = dirfdOf(options?.dirfd);
    checkPath(path);
    const target = this.#openTarget(options);
    const { op, sqe, address } = this.beginPath("openat2", path);
    const how = this.#openHow(target === null ? flags | O_CLOEXEC : flags & ~O_CLOEXEC, mode, resolve);
    op.pins = [op.pins, how.owner];
    if (target !== null) {
      sqe.prepOpenat2Direct(dirfd, address, how.address, target.slot);
      this.intoDirect(op, target);
    } else {
      sqe.prepOpenat2(dirfd, address, how.address);
      this.closeIfLate(op, options);
    }
    return this.promise(op, options);
  }

  #openHow(flags: number, mode: number, resolve: number): Piece {
    const piece = this.driver.arena.take(open_how.size);
    piece.bytes.fill(0);
    const view = new DataView(piece.bytes.buffer, piece.bytes.byteOffset, open_how.size);
    view.setUint32(open_how.flags, flags, true);
    view.setUint32(open_how.mode, mode, true);
    view.setUint32(open_how.resolve, resolve, true);
    return piece;
  }

  /** What is known of a file: `io_uring_prep_statx`, Linux 5.6. The kernel always hands it to a worker thread. */
  statx(path: Path, options?: StatxOptions): Promise<Statx> {
    this.check(options);
    const flags = checkU32("flags", options?.flags ?? 0);
    const mask = checkU32("mask", options?.mask ?? STATX_BASIC_STATS);
    const dirfd = dirfdOf(options?.dirfd);
    checkPath(path);
    const out = pinned(statx.size);
    const outAddress = this.both(out.bytes);
    const { op, sqe, address } = this.beginPath("statx", path);
    op.pins = [op.pins, out];
    op.finish = () => new Statx(out.bytes);
    sqe.prepStatx(dirfd, address, flags, mask, outAddress);
    return this.promise(op, options);
  }

  /** Removes a file, or a directory with `{ directory: true }`: `io_uring_prep_unlinkat`, Linux 5.11. */
  unlinkat(path: Path, options?: PathOptions & { directory?: boolean }): Promise<void> {
    this.check(options);
    const dirfd = dirfdOf(options?.dirfd);
    checkPath(path);
    const { op, sqe, address } = this.beginPath("unlinkat", path);
    sqe.prepUnlinkat(dirfd, address, options?.directory === true ? AT_REMOVEDIR : 0);
    return this.promise(op, options);
  }

  /** Renames a file: `io_uring_prep_renameat`, Linux 5.11. */
  renameat(path: Path, newPath: Path, options?: RenameOptions): Promise<void> {
    this.check(options);
    const dirfd = dirfdOf(options?.dirfd);
    const newDirfd = dirfdOf(options?.newDirfd);
    const flags = checkU32("flags", options?.flags ?? 0);
    const { op, sqe, address, second } = this.#beginPaths("renameat", path, newPath);
    sqe.prepRenameat(dirfd, address, newDirfd, second, flags);
    return this.promise(op, options);
  }

  /** Makes a directory with permissions `mode` (default `0o777`, less the umask): `io_uring_prep_mkdirat`, Linux 5.15. */
  mkdirat(path: Path, options?: PathOptions & { mode?: number }): Promise<void> {
    this.check(options);
    const dirfd = dirfdOf(options?.dirfd);
    const mode = checkU32("mode", options?.mode ?? 0o777);
    checkPath(path);
    const { op, sqe, address } = this.beginPath("mkdirat", path);
    sqe.prepMkdirat(dirfd, address, mode);
    return this.promise(op, options);
  }

  /** Gives the file `path` a second name, `newPath` (a hard link): `io_uring_prep_linkat`, Linux 5.15. */
  linkat(path: Path, newPath: Path, options?: LinkatOptions): Promise<void> {
    this.check(options);
    const dirfd = dirfdOf(options?.dirfd);
    const newDirfd = dirfdOf(options?.newDirfd);
    const flags = checkU32("flags", options?.flags ?? 0);
    const { op, sqe, address, second } = this.#beginPaths("linkat", path, newPath);
    sqe.prepLinkat(dirfd, address, newDirfd, second, flags);
    return this.promise(op, options);
  }

  /**
   * Makes `path` a symbolic link that says `target`, which need not exist: `io_uring_prep_symlinkat`, Linux 5.15. `dirfd`
   * is where `path` starts from; a relative `target` starts from the directory of the link, whoever follows it.
   */
  symlinkat(target: Path, path: Path, options?: PathOptions): Promise<void> {
    this.check(options);
    const dirfd = dirfdOf(options?.dirfd);
    const { op, sqe, address, second } = this.#beginPaths("symlinkat", target, path);
    sqe.prepSymlinkat(address, dirfd, second);
    return this.promise(op, options);
  }

  /** Begins an operation on a path, which has been checked. @internal */
  protected beginPath(name: string, path: Path): { op: Op; sqe: NonNullable<Op["sqe"]>; address: number } {
    const piece = this.driver.arena.cString(path);
    const op = this.begin(name);
    op.path = textOf(path);
    op.pins = piece.owner;
    return { op, sqe: op.sqe!, address: piece.address };
  }

  /** Checks two paths and begins an operation on them. */
  #beginPaths(
    name: string,
    path: Path,
    dest: Path,
  ): { op: Op; sqe: NonNullable<Op["sqe"]>; address: number; second: number } {
    checkPath(path);
    checkPath(dest);
    const { op, sqe, address } = this.beginPath(name, path);
    const piece = this.driver.arena.cString(dest);
    op.pins = [op.pins, piece.owner];
    op.dest = textOf(dest);
    return { op, sqe, address, second: piece.address };
  }
}
