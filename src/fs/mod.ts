/**
 * `uring/fs`: `node:fs/promises` on io_uring, with the same names, arguments, results and errors. Swap the import:
 *
 * ```ts
 * import { readFile, stat } from "uring/fs";
 * const texts = await Promise.all(["/etc/hostname", "/etc/hosts"].map((path) => readFile(path, "utf8")));
 * ```
 *
 * They share one ring, `Uring.shared`; what is asked for in one turn of the event loop goes to the kernel in one system
 * call. Failures are `UringError`s with `code`, `errno`, `syscall`, `path` and message as Node has them. What io_uring has
 * no operation for (`access`, `chmod`, `chown`, `utimes`, `readlink`, `statfs`, reading directories) is a system call of
 * its own, made at once.
 *
 * @module
 */
export { type FlagString, UringError } from "../mod.ts";
export { type Advice } from "./advice.ts";
export { type Alignment } from "./alignment.ts";
export { type AppendOptions } from "./append.ts";
export { type Flags, type Mode, type PathLike } from "./arguments.ts";
export { constants } from "./constants.ts";
export { copyFile, type CopyFileOptions } from "./copy_file.ts";
export { type CopyOptions, type CopyProgress, cp } from "./cp.ts";
export { Dir, opendir, type OpenDirOptions } from "./dir.ts";
export { Dirent } from "./dirent.ts";
export { mkdir, type MkdirOptions, rmdir, type RmdirOptions } from "./directories.ts";
export { type Contents, type Data, type Encoding, type NameEncoding, type NameOptions } from "./encoding.ts";
export { Emitter, type Listener } from "./emitter.ts";
export { AbortError } from "./errors.ts";
export { FileHandle, type FileLike } from "./file_handle.ts";
export { glob, type GlobOptions } from "./glob.ts";
export {
  FileWriter,
  type PullOptions,
  type Transform,
  type WriteOptions,
  type WriterOptions,
} from "./iter_streams.ts";
export { access, chmod, chown, lchmod, lchown, lutimes, type TimeLike, utimes } from "./metadata.ts";
export { link, rename, symlink, unlink } from "./names.ts";
export { type ReadStreamOptions, type WriteStreamOptions } from "./node_streams.ts";
export { open, type OpenOptions } from "./open.ts";
export { Page, PagePool, type PagePoolOptions } from "./page_pool.ts";
export { readlink, realpath } from "./paths.ts";
export { readdir, type ReaddirOptions } from "./readdir.ts";
export { type ReadChunksOptions } from "./read_chunks.ts";
export { type BufferOf, readFile, type ReadFileIntoOptions, type ReadFileOptions } from "./read_file.ts";
export { rm, type RmOptions } from "./rm.ts";
export { type FileResult, readFiles, type ReadFilesOptions } from "./read_files.ts";
export { lstat, stat, type StatOptions, type StatPathOptions } from "./stat.ts";
export { BigIntStats, Stats, type StatsBase, type StatsFields } from "./stats.ts";
export { type BigIntStatsFs, statfs, type StatFsOptions, type StatsFs, type StatsFsBase } from "./statfs.ts";
export { type DisposableTempDir, mkdtemp, mkdtempDisposable } from "./temporary.ts";
export {
  type Position,
  type ReadResult,
  type ReadVectorResult,
  type TransferOptions,
  type WriteResult,
  type WriteVectorResult,
} from "./transfer_arguments.ts";
export { truncate } from "./truncate.ts";
export { type FileChangeInfo, watch, type WatchOptions } from "./watch.ts";
export { type Ignore } from "./watch_ignore.ts";
export { type StreamRange } from "./web_streams.ts";
export { appendFile, writeFile, type WriteFileOptions } from "./write_file.ts";
