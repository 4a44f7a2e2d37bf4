/**
 * `writeFile` and `appendFile`.
 *
 * @module
 */
import { Uring } from "../mod.ts";
import { checkFlag, type Flags, type Mode, optionsOf, type PathLike, signalOf } from "./arguments.ts";
import { checkEncoding, chunksOf, type Contents, type Encoding } from "./encoding.ts";
import { throwIfAborted, unlessAborted } from "./errors.ts";
import { type FileLike, isFile } from "./file_handle.ts";
import { writing } from "./limit.ts";
import { withFile, writeChunks } from "./transfer.ts";

/** Options of {@link writeFile} and {@link appendFile}. */
export interface WriteFileOptions {
  /** What text becomes; default `"utf8"`. */
  encoding?: Encoding | null | undefined;
  /** The permissions of a file that is created; default `0o666`, less the umask. */
  mode?: Mode | undefined;
  /** How to open it; default `"w"`, for {@link appendFile} `"a"`. */
  flag?: Flags | undefined;
  /** Ends the writing; what was written by then stays. The promise then rejects with an `AbortError`. */
  signal?: AbortSignal | null | undefined;
  /** Have it on its device before the promise resolves (`fsync`). */
  flush?: boolean | undefined;
}

/**
 * Writes a file, which is made or emptied first. To a `FileHandle`: from where it is.
 *
 * @throws UringError (rejects) with Node's `code`, `syscall` and `path`; `AbortError`.
 *
 * @example
 * ```ts
 * import { writeFile } from "uring/fs";
 * await writeFile("/tmp/hello.txt", "hello\n", { flush: true });
 * ```
 */
export async function writeFile(
  path: PathLike | FileLike,
  data: Contents,
  options?: Encoding | WriteFileOptions | null,
): Promise<void> {
  if (isFile(path)) return await path.writeFile(data, options);
  const { encoding, mode, flag, signal, flush = false } = optionsOf<WriteFileOptions>(options);
  checkFlag("flush", flush ?? false);
  checkEncoding(encoding);
  const abort = signalOf(signal);
  throwIfAborted(abort);
  const chunks = chunksOf(data, encoding);
  await writing.enter();
  try {
    throwIfAborted(abort);
    await withFile(path as PathLike, flag ?? "w", mode, async (fd) => {
      await writeChunks(fd, chunks, abort);
      if (flush === true) await Uring.shared.fsync(fd);
    });
  } catch (error) {
    throw unlessAborted(error, abort);
  } finally {
    writing.leave();
  }
}

/**
 * Adds to the end of a file, which is made if it is not there.
 *
 * @example
 * ```ts
 * import { appendFile } from "uring/fs";
 * await appendFile("/tmp/log.txt", `${new Date().toISOString()} started\n`);
 * ```
 */
export async function appendFile(
  path: PathLike | FileLike,
  data: Contents,
  options?: Encoding | WriteFileOptions | null,
): Promise<void> {
  const { flag, ...rest } = optionsOf<WriteFileOptions>(options);
  await writeFile(path, data, { ...rest, flag: flag ?? "a" });
}
