/**
 * `readFiles`: many whole files, as they come.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { openFlags } from "../loop/open_flags.ts";
import type { FlagString, UringError } from "../mod.ts";
import { type Flags, integer, optionsOf, type PathLike, pathOf, signalOf } from "./arguments.ts";
import { checkEncoding, type Encoding } from "./encoding.ts";
import { AbortError, typeError } from "./errors.ts";
import { readWhole } from "./whole_file.ts";

/** Options of {@link readFiles}. */
export interface ReadFilesOptions {
  /** Text in this encoding instead of `Buffer`s. */
  encoding?: Encoding | null | undefined;
  /** How to open the files; default `"r"`. */
  flag?: Flags | undefined;
  /**
   * How many files may be under way or wait to be taken, which bounds the memory to this many files; default 256. No
   * more than 160 are open at a time.
   */
  concurrency?: number | undefined;
  /** Ends the iteration, which then throws an `AbortError`. */
  signal?: AbortSignal | null | undefined;
}

/** A file that was read, or that could not be. */
export type FileResult<T, P extends PathLike = PathLike> =
  | { readonly path: P; readonly data: T; readonly error?: undefined }
  | { readonly path: P; readonly error: UringError; readonly data?: undefined };

const CONCURRENCY = 256;
const MOST_CONCURRENCY = 1 << 20;

/**
 * The contents of many files, in the order in which they are there, each with its path or the reason why it could not
 * be read. Files are opened, read and closed by linked operations, for many of them in one system call, and are never
 * descriptors of the process; no more are read than are taken.
 *
 * @param paths The paths, any number of them: an iterable, or an async one (a generator that walks a tree, `glob`).
 *
 * @example
 * ```ts
 * import { glob, readFiles } from "uring/fs";
 * for await (const { path, data, error } of readFiles(glob("/etc/*.conf"), { encoding: "utf8" })) {
 *   console.log(path, error?.code ?? data?.length);
 * }
 * ```
 */
export function readFiles<P extends PathLike>(
  paths: Iterable<P> | AsyncIterable<P>,
  options: Encoding | (ReadFilesOptions & { encoding: Encoding }),
): AsyncGenerator<FileResult<string, P>, undefined>;
/** The contents of many files as `Buffer`s. */
export function readFiles<P extends PathLike>(
  paths: Iterable<P> | AsyncIterable<P>,
  options?: ReadFilesOptions & { encoding?: null | undefined },
): AsyncGenerator<FileResult<Buffer<ArrayBuffer>, P>, undefined>;
export async function* readFiles<P extends PathLike>(
  paths: Iterable<P> | AsyncIterable<P>,
  options?: Encoding | ReadFilesOptions,
): AsyncGenerator<FileResult<string | Buffer<ArrayBuffer>, P>, undefined> {
  const { encoding, flag = "r", concurrency = CONCURRENCY, signal } = optionsOf<ReadFilesOptions>(options);
  checkEncoding(encoding);
  integer("options.concurrency", concurrency, MOST_CONCURRENCY);
  if (concurrency === 0) throw typeError("ERR_OUT_OF_RANGE", "options.concurrency must be at least 1");
  const bits = openFlags(flag as FlagString);
  const abort = signalOf(signal);
  const results = new Results<FileResult<string | Buffer<ArrayBuffer>, P>>();
  const onAbort = (): void => results.fail(new AbortError(abort!.reason));
  if (abort?.aborted === true) onAbort();
  abort?.addEventListener("abort", onAbort, { once: true });
  const source = Symbol.asyncIterator in paths ? paths[Symbol.asyncIterator]() : paths[Symbol.iterator]();
  let ended = false;
  let asking = false;

  const start = (path: P): void => {
    results.expect();
    readWhole(pathOf(path), bits, encoding).then(
      (data) => results.add({ path, data }),
      (error) => results.add({ path, error: error as UringError }),
    );
  };
  /** Starts as many files as may be under way. Paths that come by and by are waited for in the background. */
  const fill = (): void => {
    while (!ended && !asking && results.outstanding < concurrency) {
      const next = source.next();
      if (next instanceof Promise) {
        asking = true;
        results.expect();
        next.then(({ done, value }) => {
          asking = false;
          if (done === true) ended = true;
          else start(value);
          results.forget();
          fill();
        }).catch((error) => results.fail(error));
      } else if (next.done === true) ended = true;
      else start(next.value);
    }
  };

  try {
    for (;;) {
      fill();
      const batch = results.take() ?? await results.wait();
      if (batch === null) return undefined;
      for (const result of batch) {
        yield result;
        results.forget();
        if (abort?.aborted === true) throw new AbortError(abort.reason);
      }
    }
  } finally {
    abort?.removeEventListener("abort", onAbort);
    ended = true;
    await source.return?.();
  }
}

/** Results between those who make them and the one who takes them. */
class Results<T> {
  /** How many are under way, or wait to be taken. */
  outstanding = 0;
  #ready: T[] = [];
  #failure: { error: unknown } | null = null;
  #wake: (() => void) | null = null;

  expect(): void {
    this.outstanding++;
  }

  forget(): void {
    this.outstanding--;
    if (this.outstanding === 0) this.#wakeUp();
  }

  add(result: T): void {
    this.#ready.push(result);
    this.#wakeUp();
  }

  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = null;
  }

  /** What is there; undefined when nothing is. */
  take(): T[] | undefined {
    if (this.#failure !== null) throw this.#failure.error;
    if (this.#ready.length === 0) return undefined;
    const ready = this.#ready;
    this.#ready = [];
    return ready;
  }

  /** Waits for results; null when none will come. */
  async wait(): Promise<T[] | null> {
    for (;;) {
      const ready = this.take();
      if (ready !== undefined) return ready;
      if (this.outstanding === 0) return null;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
