/**
 * `uring/fs`: the functions of `node:fs/promises` that io_uring has operations for, with the same names, arguments,
 * results and errors. Swap the import:
 *
 * ```ts
 * import { readFile, stat } from "uring/fs";
 * const texts = await Promise.all(["/etc/hostname", "/etc/hosts"].map((path) => readFile(path, "utf8")));
 * ```
 *
 * They share one ring, `Uring.shared`; what is asked for in one turn of the event loop goes to the kernel in one system
 * call. Failures are `UringError`s with `code`, `errno`, `syscall`, `path` and message as Node has them.
 *
 * What is missing compared with Node is missing because io_uring has no operation for it: `access`, `chmod`, `readdir`…
 * go on using `node:fs/promises` for those.
 *
 * @module
 */
export { type FlagString, UringError } from "../mod.ts";
export { type Flags, type Mode, type PathLike } from "./arguments.ts";
export { constants } from "./constants.ts";
export { copyFile } from "./copy_file.ts";
export { mkdir, type MkdirOptions, rmdir } from "./directories.ts";
export { type Data, type Encoding } from "./encoding.ts";
export { AbortError } from "./errors.ts";
export {
  FileHandle,
  open,
  type Position,
  type ReadResult,
  type ReadVectorResult,
  type TransferOptions,
  type WriteResult,
  type WriteVectorResult,
} from "./file_handle.ts";
export { rename, unlink } from "./names.ts";
export { readFile, type ReadFileOptions } from "./read_file.ts";
export { lstat, stat, type StatOptions } from "./stat.ts";
export { BigIntStats, Stats, type StatsBase, type StatsFields } from "./stats.ts";
export { truncate } from "./truncate.ts";
export { appendFile, writeFile, type WriteFileOptions } from "./write_file.ts";
