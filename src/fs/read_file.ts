/**
 * `readFile`.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { type Flags, optionsOf, type PathLike, signalOf } from "./arguments.ts";
import { asBuffer, checkEncoding, decode, type Encoding } from "./encoding.ts";
import { throwIfAborted, unlessAborted } from "./errors.ts";
import { FileHandle } from "./file_handle.ts";
import { reading } from "./limit.ts";
import { readAll, withFile } from "./transfer.ts";

/** Options of {@link readFile}. */
export interface ReadFileOptions {
  /** Text in this encoding instead of a `Buffer`. */
  encoding?: Encoding | null | undefined;
  /** How to open it; default `"r"`. */
  flag?: Flags | undefined;
  /** Ends the reading; the promise then rejects with an `AbortError`. */
  signal?: AbortSignal | null | undefined;
}

/**
 * The content of a file, as a `Buffer` or, with an encoding, as text. From a `FileHandle`: from where it is to the end.
 *
 * Thousands may be asked for in one turn: 128 are open at a time, and each step of all of them is one system call.
 *
 * @throws UringError (rejects) with Node's `code`, `syscall` and `path`; `AbortError`.
 *
 * @example
 * ```ts
 * import { readFile } from "uring/fs";
 * console.log(await readFile("/etc/hostname", "utf8"));
 * ```
 */
export function readFile(
  path: PathLike | FileHandle,
  options: Encoding | ReadFileOptions & { encoding: Encoding },
): Promise<string>;
/** The content of a file as a `Buffer`. */
export function readFile(
  path: PathLike | FileHandle,
  options?: ReadFileOptions & { encoding?: null | undefined } | null,
): Promise<Buffer>;
/** The content of a file as a `Buffer` or as text. */
export function readFile(
  path: PathLike | FileHandle,
  options?: Encoding | ReadFileOptions | null,
): Promise<string | Buffer>;
export async function readFile(
  path: PathLike | FileHandle,
  options?: Encoding | ReadFileOptions | null,
): Promise<string | Buffer> {
  if (path instanceof FileHandle) return await path.readFile(options);
  const { encoding, flag = "r", signal } = optionsOf<ReadFileOptions>(options);
  checkEncoding(encoding);
  const abort = signalOf(signal);
  throwIfAborted(abort);
  await reading.enter();
  try {
    throwIfAborted(abort);
    return await withFile(path, flag, 0o666, (fd) =>
      readAll(fd, abort, (bytes, borrowed) =>
        // Text is a copy anyway.
        typeof encoding === "string" ? decode(bytes, encoding) : asBuffer(borrowed ? bytes.slice() : bytes)));
  } catch (error) {
    throw unlessAborted(error, abort);
  } finally {
    reading.leave();
  }
}
