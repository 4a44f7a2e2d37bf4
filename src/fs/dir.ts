/**
 * `opendir`: a directory read entry by entry.
 *
 * @module
 */
import { DT_DIR } from "../ffi/abi.ts";
import { integer, optionsOf, type PathLike, pathOf } from "./arguments.ts";
import { textOf } from "./calls.ts";
import { Dirent } from "./dirent.ts";
import { checkNameEncoding, encode, type Encoding, type NameEncoding, nameOf } from "./encoding.ts";
import { typeError } from "./errors.ts";
import { type Entry, pathIn, Scan, typeOf } from "./scan.ts";

/** Options of {@link opendir}. */
export interface OpenDirOptions {
  /** How names are given; default UTF-8. */
  encoding?: Encoding | "buffer" | null | undefined;
  /** Kept for Node's sake: entries come from the kernel in batches of 16 or 64 KiB whatever it says. */
  bufferSize?: number | undefined;
  /** Everything below it, too. */
  recursive?: boolean | undefined;
}

type Callback<T> = (error: Error | null, value?: T) => void;

const MOST_BUFFERED = 0xffff_ffff;

/** An open directory: what {@link opendir} gives. Iterating over it closes it at the end. */
export class Dir implements AsyncIterable<Dirent>, Disposable, AsyncDisposable {
  /** The directory, as it was asked for. */
  readonly path: string;
  readonly #encoding: NameEncoding;
  readonly #recursive: boolean;
  readonly #below: (string | Uint8Array)[] = [];
  #scan: Scan | null;
  #batch: Entry[] = [];
  #at = 0;
  #closed = false;
  #reads = 0;
  // Reads take turns, as each goes on where the one before has stopped.
  #last: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor(scan: Scan, encoding: NameEncoding, recursive: boolean) {
    this.path = textOf(scan.path);
    this.#scan = scan;
    this.#encoding = encoding;
    this.#recursive = recursive;
  }

  /** The next entry, in the directory's own order; `null` at the end. */
  read(): Promise<Dirent | null>;
  /** The next entry, to a callback. */
  read(callback: (error: Error | null, entry: Dirent | null) => void): void;
  read(callback?: (error: Error | null, entry: Dirent | null) => void): Promise<Dirent | null> | void {
    checkCallback(callback);
    const next = this.#read();
    if (callback === undefined) return next;
    next.then((entry) => callback(null, entry), (error) => callback(error as Error, null));
  }

  async #read(): Promise<Dirent | null> {
    this.#assertOpen();
    const next = this.#last.then(() => this.#next());
    this.#last = next.catch(() => {});
    this.#reads++;
    try {
      return await next;
    } finally {
      this.#reads--;
    }
  }

  async #next(): Promise<Dirent | null> {
    for (;;) {
      const entry = this.#batch[this.#at];
      if (entry !== undefined) {
        this.#at++;
        return await this.#direntOf(entry);
      }
      this.#batch = await this.#scan?.more("scandir") ?? [];
      this.#at = 0;
      if (this.#batch.length > 0) continue;
      if (!(await this.#descend())) return null;
    }
  }

  async #direntOf(entry: Entry): Promise<Dirent> {
    const { path } = this.#scan!;
    const type = entry.type === 0 ? await typeOf(path, entry) : entry.type;
    if (this.#recursive && type === DT_DIR) this.#below.push(pathIn(path, entry));
    const plain = this.#encoding === undefined || this.#encoding === null || this.#encoding === "utf8";
    const name = plain ? entry.text : nameOf(entry.bytes ?? encode(entry.text), this.#encoding);
    return new Dirent(name as string, textOf(path), type);
  }

  /** Goes on with the next directory below; false when there is none left. */
  async #descend(): Promise<boolean> {
    const below = this.#below.shift();
    if (below === undefined) return false;
    this.#scan!.close();
    this.#scan = await Scan.open("opendir", below);
    return true;
  }

  /** The next entry at once; what `recursive` asks for needs {@link Dir.read}. */
  readSync(): Dirent | null {
    this.#assertOpen();
    this.#assertIdle();
    if (this.#recursive) {
      throw new TypeError("A directory that is read with everything below it is read asynchronously");
    }
    if (this.#at === this.#batch.length) {
      this.#batch = this.#scan!.next("scandir");
      this.#at = 0;
    }
    const entry = this.#batch[this.#at++];
    if (entry === undefined) {
      this.#at = 0;
      return null;
    }
    const plain = this.#encoding === undefined || this.#encoding === null || this.#encoding === "utf8";
    const name = plain ? entry.text : nameOf(entry.bytes ?? encode(entry.text), this.#encoding);
    return new Dirent(name as string, this.path, entry.type);
  }

  /** Closes it; rejects with `ERR_DIR_CLOSED` when it is closed. */
  close(): Promise<void>;
  /** Closes it, and tells a callback. */
  close(callback: (error: Error | null) => void): void;
  close(callback?: (error: Error | null) => void): Promise<void> | void {
    checkCallback(callback);
    const closing = this.#close();
    if (callback === undefined) return closing;
    closing.then(() => callback(null), (error) => (callback as Callback<void>)(error as Error));
  }

  async #close(): Promise<void> {
    this.#assertOpen();
    this.#closed = true;
    await this.#last;
    this.#scan?.close();
    this.#scan = null;
  }

  /** Closes it at once; fails with `ERR_DIR_CONCURRENT_OPERATION` while it is being read. */
  closeSync(): void {
    this.#assertOpen();
    this.#assertIdle();
    this.#closed = true;
    this.#scan?.close();
    this.#scan = null;
  }

  /** The same as iterating over it. */
  entries(): AsyncGenerator<Dirent, undefined> {
    return this[Symbol.asyncIterator]();
  }

  /** The entries, one after the other; it is closed at the end, also by `break`. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Dirent, undefined> {
    try {
      for (let entry = await this.read(); entry !== null; entry = await this.read()) yield entry;
    } finally {
      if (!this.#closed) await this.#close();
    }
    return undefined;
  }

  /** The same as {@link Dir.closeSync}, if it is not closed. */
  [Symbol.dispose](): void {
    if (!this.#closed) this.closeSync();
  }

  /** Closes it, if it is not closed. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed) await this.#close();
  }

  #assertIdle(): void {
    if (this.#reads === 0) return;
    const message = "Cannot do synchronous work on directory handle with concurrent asynchronous operations";
    throw Object.assign(new Error(message), { code: "ERR_DIR_CONCURRENT_OPERATION" });
  }

  #assertOpen(): void {
    if (this.#closed) {
      throw Object.assign(new Error("Directory handle was closed"), { code: "ERR_DIR_CLOSED" });
    }
  }
}

function checkCallback(callback: unknown): void {
  if (callback === undefined || typeof callback === "function") return;
  throw typeError("ERR_INVALID_ARG_TYPE", 'The "callback" argument must be of type function.');
}

/**
 * Opens a directory, to be read entry by entry: for those too large to hold.
 *
 * @throws UringError (rejects) with Node's `code`, `syscall` and `path`.
 *
 * @example
 * ```ts
 * import { opendir } from "uring/fs";
 * for await (const { name } of await opendir("/etc")) console.log(name);
 * ```
 */
export async function opendir(path: PathLike, options?: OpenDirOptions): Promise<Dir> {
  const { encoding, recursive = false, bufferSize } = optionsOf<OpenDirOptions>(options);
  checkNameEncoding(encoding as NameEncoding);
  if (bufferSize !== undefined) integer("options.bufferSize", bufferSize, MOST_BUFFERED, 1);
  const scan = await Scan.open("opendir", pathOf(path));
  return new Dir(scan, encoding as NameEncoding, recursive);
}
