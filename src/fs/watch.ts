/**
 * `watch`.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import {
  AT_SYMLINK_NOFOLLOW,
  DT_DIR,
  IN_ATTRIB,
  IN_CLOEXEC,
  IN_CREATE,
  IN_DELETE,
  IN_DELETE_SELF,
  IN_IGNORED,
  IN_ISDIR,
  IN_MODIFY,
  IN_MOVE_SELF,
  IN_MOVED_FROM,
  IN_MOVED_TO,
  IN_NONBLOCK,
  IN_Q_OVERFLOW,
  STATX_TYPE,
} from "../ffi/abi.ts";
import { cString } from "../ffi/cstring.ts";
import { inotify_event } from "../ffi/structs.ts";
import { system } from "../ffi/system.ts";
import { Uring, UringError } from "../mod.ts";
import { checkFlag, integer, optionsOf, type PathLike, pathOf, signalOf } from "./arguments.ts";
import { bytesOfText, shown, textOfBytes } from "./byte_names.ts";
import { call, textOf } from "./calls.ts";
import { checkNameEncoding, type Encoding, type NameEncoding, nameOf } from "./encoding.ts";
import { AbortError, typeError } from "./errors.ts";
import { entriesAt, type Entry, join, pathIn } from "./scan.ts";
import { type Ignore, type Ignored, ignoredBy } from "./watch_ignore.ts";

/** Options of {@link watch}. */
export interface WatchOptions {
  /** How names are given; default UTF-8. */
  encoding?: Encoding | "buffer" | null | undefined;
  /** Whether watching keeps the process alive; default true. */
  persistent?: boolean | undefined;
  /** Everything below a directory, too, also what is made later. */
  recursive?: boolean | undefined;
  /** Ends the watching; the iterator then throws an `AbortError`. */
  signal?: AbortSignal | undefined;
  /** How many events may wait for their consumer; default 2048. */
  maxQueue?: number | undefined;
  /** What happens to more than that: they are dropped (`"ignore"`, the default), or the iterator throws. */
  overflow?: "ignore" | "throw" | undefined;
  /** What is not told, and with `recursive` not watched: by its path from the watched directory on. */
  ignore?: Ignore | readonly Ignore[] | undefined;
}

/** A change of a watched file or directory. */
export interface FileChangeInfo<T extends string | Buffer> {
  /** `"rename"`: a name has come or gone; `"change"`: content or metadata have changed. */
  eventType: "rename" | "change";
  /** Which name: in a watched directory, or of the watched file. */
  filename: T | null;
}

const CHANGES = IN_ATTRIB | IN_MODIFY;
const NAMES = IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_MOVED_FROM | IN_MOVED_TO;
const BUFFER = 64 * 1024;
const MOST_QUEUED = 2048;

/**
 * The changes of a file, or of what is in a directory, as they come, by inotify. It watches from the first `next()` on.
 *
 * @example
 * ```ts
 * import { watch } from "uring/fs";
 * for await (const { eventType, filename } of watch("/tmp", { signal: AbortSignal.timeout(1000) })) {
 *   console.log(eventType, filename);
 * }
 * ```
 */
export function watch(
  filename: PathLike,
  options: (WatchOptions & { encoding: "buffer" }) | "buffer",
): AsyncGenerator<FileChangeInfo<Buffer<ArrayBuffer>>, undefined>;
/** The changes of a file, or of what is in a directory. */
export function watch(
  filename: PathLike,
  options?: (WatchOptions & { encoding?: Encoding | undefined }) | Encoding,
): AsyncGenerator<FileChangeInfo<string>, undefined>;
/** The changes of a file, or of what is in a directory. */
export function watch(
  filename: PathLike,
  options?: WatchOptions | Encoding | "buffer",
): AsyncGenerator<FileChangeInfo<string | Buffer<ArrayBuffer>>, undefined>;
export async function* watch(
  filename: PathLike,
  options?: WatchOptions | string,
): AsyncGenerator<FileChangeInfo<string | Buffer<ArrayBuffer>>, undefined> {
  const { encoding, signal, ...rest } = optionsOf<WatchOptions>(options);
  checkNameEncoding(encoding as NameEncoding);
  const { maxQueue = MOST_QUEUED, overflow = "ignore", recursive = false, persistent = true } = rest;
  checkFlag("persistent", persistent);
  checkFlag("recursive", recursive);
  integer("options.maxQueue", maxQueue, Number.MAX_SAFE_INTEGER);
  if (overflow !== "ignore" && overflow !== "throw") {
    throw typeError(
      "ERR_INVALID_ARG_VALUE",
      `The property 'options.overflow' is invalid. Received '${overflow}'`,
    );
  }
  const ignored = ignoredBy(rest.ignore);
  const abort = signalOf(signal);
  if (abort?.aborted === true) throw new AbortError(abort.reason);
  // Watching that shall not keep the process alive has a ring of its own, which does not.
  const uring = persistent ? Uring.shared : new Uring({ entries: 4 }).unref();
  const watcher = new Watcher(uring, pathOf(filename, "filename"), recursive, ignored);
  try {
    await watcher.start();
    for await (const { eventType, name } of changesOf(watcher, maxQueue, overflow, abort)) {
      yield { eventType, filename: nameOf(name, encoding as NameEncoding) };
    }
  } finally {
    watcher.close();
    if (!persistent) await uring.disposeAsync();
  }
  return undefined;
}

interface Change {
  readonly eventType: "rename" | "change";
  readonly name: Uint8Array;
}

/** An inotify descriptor and what it watches. */
class Watcher {
  readonly #uring: Uring;
  readonly #root: string | Uint8Array;
  readonly #recursive: boolean;
  readonly #ignored: Ignored;
  /** By watch number: the directory from the root on (see `byte_names.ts`), or null for a file that is watched itself. */
  readonly #watched = new Map<number, string | null>();
  readonly #buffer = new Uint8Array(new ArrayBuffer(BUFFER));
  #fd = -1;

  constructor(uring: Uring, root: string | Uint8Array, recursive: boolean, ignored: Ignored) {
    this.#uring = uring;
    this.#root = root;
    this.#recursive = recursive;
    this.#ignored = ignored;
  }

  async start(): Promise<void> {
    this.#fd = call("watch", this.#root, (files) => files.inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    const about = await this.#uring.statx(this.#root, { mask: STATX_TYPE }).catch((error: unknown) => {
      throw error instanceof UringError
        ? new UringError(error.errno, "watch", { path: textOf(this.#root) })
        : error;
    });
    if (about.isDirectory()) await this.#add("");
    else this.#watch(this.#root, null);
  }

  #watch(path: string | Uint8Array, below: string | null): void {
    const id = call(
      "watch",
      path,
      (files) => files.inotify_add_watch(this.#fd, cString(path), CHANGES | NAMES),
    );
    this.#watched.set(id, below);
  }

  #pathOf(below: string): string | Uint8Array {
    if (below === "") return this.#root;
    const path = bytesOfText(below);
    return pathIn(
      this.#root,
      typeof path === "string" ? { text: path, bytes: null } : { text: "", bytes: path },
    );
  }

  /** Watches a directory and, where that was asked for, those in it. */
  async #add(below: string): Promise<void> {
    this.#watch(this.#pathOf(below), below);
    if (!this.#recursive) return;
    for (const entry of await entriesAt("watch", this.#pathOf(below))) {
      if (entry.type === DT_DIR) await this.#addLater(join(below, textOfEntry(entry)));
    }
  }

  /** {@link Watcher.#add} of what may be gone by now, unless it is left out. */
  async #addLater(below: string): Promise<void> {
    if (this.#ignored(shown(below))) return;
    try {
      const path = this.#pathOf(below);
      const about = await this.#uring.statx(path, { flags: AT_SYMLINK_NOFOLLOW, mask: STATX_TYPE });
      if (about.isDirectory()) await this.#add(below);
    } catch (error) {
      if (!(error instanceof UringError) || !["ENOENT", "ENOTDIR", "EACCES"].includes(error.code)) {
        throw error;
      }
    }
  }

  /** The next changes. */
  async next(signal: AbortSignal | undefined): Promise<{ changes: Change[]; lost: boolean }> {
    const length = await this.#uring.read(this.#fd, this.#buffer, signal === undefined ? {} : { signal });
    const changes: Change[] = [];
    const made: string[] = [];
    let lost = false;
    const view = new DataView(this.#buffer.buffer);
    for (let at = 0; at < length;) {
      const id = view.getInt32(at + inotify_event.wd, true);
      const mask = view.getUint32(at + inotify_event.mask, true);
      const size = view.getUint32(at + inotify_event.len, true);
      const start = at + inotify_event.name;
      at = start + size;
      if ((mask & IN_Q_OVERFLOW) !== 0) lost = true;
      const below = this.#watched.get(id);
      if (below === undefined) continue;
      if ((mask & IN_IGNORED) !== 0) {
        this.#watched.delete(id);
        continue;
      }
      const name = nameAt(this.#buffer, start, size);
      const eventType = (mask & NAMES) !== 0 ? "rename" : "change";
      changes.push({ eventType, name: this.#tell(below, name) });
      if (this.#recursive && (mask & IN_ISDIR) !== 0 && (mask & (IN_CREATE | IN_MOVED_TO)) !== 0) {
        made.push(join(below ?? "", textOfBytes(name)));
      }
    }
    for (const below of made) {
      await this.#addLater(below);
      if (!this.#ignored(shown(below))) changes.push(...await this.#inside(below));
    }
    const decoder = new TextDecoder();
    return { changes: changes.filter(({ name }) => !this.#ignored(decoder.decode(name))), lost };
  }

  /** What was put into a directory before it could be watched is told, too. */
  async #inside(below: string): Promise<Change[]> {
    try {
      const changes: Change[] = [];
      for (const entry of await entriesAt("watch", this.#pathOf(below))) {
        const path = join(below, textOfEntry(entry));
        changes.push({ eventType: "rename", name: bytesOfName(path) });
        if (entry.type === DT_DIR && !this.#ignored(shown(path))) changes.push(...await this.#inside(path));
      }
      return changes;
    } catch (error) {
      if (error instanceof UringError) return [];
      throw error;
    }
  }

  #tell(below: string | null, name: Uint8Array): Uint8Array {
    if (below !== null && name.length > 0) return below === "" ? name : bytesOfJoin(below, name);
    // The watched one itself.
    const root = typeof this.#root === "string" ? this.#root : textOfBytes(this.#root);
    const path = root.replace(/\/+$/, "");
    const own = path.slice(path.lastIndexOf("/") + 1);
    return bytesOfName(below === null || below === "" ? own : below);
  }

  close(): void {
    if (this.#fd >= 0) system().close(this.#fd);
    this.#fd = -1;
  }
}

function nameAt(bytes: Uint8Array, start: number, size: number): Uint8Array {
  const padded = bytes.subarray(start, start + size);
  const end = padded.indexOf(0);
  return padded.slice(0, end < 0 ? size : end);
}

function textOfEntry({ text, bytes }: Entry): string {
  return bytes === null ? text : textOfBytes(bytes);
}

function bytesOfName(text: string): Uint8Array {
  const path = bytesOfText(text);
  return typeof path === "string" ? new TextEncoder().encode(path) : path;
}

function bytesOfJoin(below: string, name: Uint8Array): Uint8Array {
  const path = pathIn(bytesOfName(below), { text: "", bytes: name });
  return path as Uint8Array;
}

/** The changes until the signal ends them. What no consumer has asked for yet waits in the kernel. */
async function* changesOf(
  watcher: Watcher,
  most: number,
  overflow: "ignore" | "throw",
  signal: AbortSignal | undefined,
): AsyncGenerator<Change> {
  try {
    for (;;) {
      const { changes, lost } = await watcher.next(signal);
      if (overflow === "throw" && (lost || changes.length > most)) {
        throw Object.assign(new Error(`More than ${most} events wait to be taken`), {
          code: "ERR_FS_WATCH_QUEUE_OVERFLOW",
        });
      }
      yield* changes.slice(0, most);
    }
  } catch (error) {
    throw signal?.aborted === true && error === signal.reason ? new AbortError(error) : error;
  }
}
