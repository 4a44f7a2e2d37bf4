/**
 * `readFile`.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { O_RDONLY } from "../ffi/abi.ts";
import { type Flags, flagsOf, optionsOf, type PathLike, pathOf, signalOf } from "./arguments.ts";
import { checkEncoding, type Encoding } from "./encoding.ts";
import { throwIfAborted, unlessAborted } from "./errors.ts";
import { type FileLike, isFile } from "./file_handle.ts";
import { reading } from "./limit.ts";
import { readAll, readInto, withFile } from "./transfer.ts";
import { readWhole } from "./whole_file.ts";

/** Options of {@link readFile}. */
export interface ReadFileOptions {
  /** Text in this encoding instead of a `Buffer`. */
  encoding?: Encoding | null | undefined;
  /** How to open it; default `"r"`. */
  flag?: Flags | undefined;
  /** Ends the reading; the promise then rejects with an `AbortError`. */
  signal?: AbortSignal | null | undefined;
}

/** {@link ReadFileOptions} for reading into memory that is there. */
export interface ReadFileIntoOptions<T extends ArrayBufferView> extends ReadFileOptions {
  /** None: the result is bytes. */
  encoding?: null | undefined;
  /** Where the content goes, or a function that gives such memory for a size in bytes. */
  buffer: T | ((size: number) => T);
}

/** What either kind of options may have. @internal */
export interface AnyReadFileOptions extends ReadFileOptions {
  buffer?: ArrayBufferView | ((size: number) => ArrayBufferView);
}

/** A `Buffer` on the memory of a view. */
export type BufferOf<T extends ArrayBufferView> = T extends ArrayBufferView<infer B> ? Buffer<B> : never;

/**
 * The content of a file, as a `Buffer` or, with an encoding, as text. From a `FileHandle`: from where it is to the end.
 *
 * Thousands may be asked for in one turn: 160 are open at a time.
 *
 * @throws UringError (rejects) with Node's `code`, `syscall` and `path`; `AbortError`.
 *
 * @example
 * ```ts
 * import { readFile } from "uring/fs";
 * console.log(await readFile("/etc/hostname", "utf8"));
 * ```
 */
export function readFile<T extends ArrayBufferView>(
  path: PathLike | FileLike,
  options: ReadFileIntoOptions<T>,
): Promise<BufferOf<T>>;
/** The content of a file as a `Buffer`. */
export function readFile(
  path: PathLike | FileLike,
  options?: ReadFileOptions & { encoding?: null | undefined } | null,
): Promise<Buffer<ArrayBuffer>>;
/** The content of a file as text. */
export function readFile(
  path: PathLike | FileLike,
  options: Encoding | ReadFileOptions & { encoding: Encoding },
): Promise<string>;
/** The content of a file as a `Buffer` or as text. */
export function readFile(
  path: PathLike | FileLike,
  options?: Encoding | ReadFileOptions | null,
): Promise<string | Buffer<ArrayBuffer>>;
export function readFile(
  path: PathLike | FileLike,
  options?: Encoding | AnyReadFileOptions | null,
): Promise<unknown> {
  try {
    // What is asked for thousands of times a turn takes no detour.
    if (options === undefined && typeof path === "string") {
      return readWhole(pathOf(path), O_RDONLY, undefined);
    }
    return readAs(path, options);
  } catch (error) {
    return Promise.reject(error);
  }
}

function readAs(
  path: PathLike | FileLike,
  options: Encoding | AnyReadFileOptions | null | undefined,
): Promise<unknown> {
  if (isFile(path)) return path.readFile(options as Encoding);
  const { encoding, flag = "r", signal, buffer } = optionsOf<AnyReadFileOptions>(options);
  checkEncoding(encoding);
  const abort = signalOf(signal);
  throwIfAborted(abort);
  if (abort === undefined && buffer === undefined) {
    return readWhole(pathOf(path as PathLike), flagsOf(flag, "r"), encoding);
  }
  return readStepwise(path as PathLike, flag, encoding, abort, buffer);
}

/** One operation after the other, each of which can be cancelled. */
async function readStepwise(
  path: PathLike,
  flag: Flags,
  encoding: Encoding | null | undefined,
  abort: AbortSignal | undefined,
  buffer: AnyReadFileOptions["buffer"],
): Promise<string | Buffer> {
  await reading.enter();
  try {
    throwIfAborted(abort);
    return await withFile<string | Buffer>(
      path,
      flag,
      0o666,
      (fd) => buffer !== undefined ? readInto(fd, buffer, abort) : readAll(fd, abort, encoding),
    );
  } catch (error) {
    throw unlessAborted(error, abort);
  } finally {
    reading.leave();
  }
}
