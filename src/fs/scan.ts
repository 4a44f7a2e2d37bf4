/**
 * Reading directories: names and types, batch by batch.
 *
 * @module
 */
import { AT_SYMLINK_NOFOLLOW, DT_UNKNOWN, O_RDONLY, STATX_TYPE } from "../ffi/abi.ts";
import { O_DIRECTORY } from "../ffi/arch.ts";
import { dirent64 } from "../ffi/structs.ts";
import type { LookUpCalls, Pinned } from "../ffi/adapter.ts";
import { pinned } from "../ffi/pin.ts";
import { adapter, system } from "../ffi/system.ts";
import { Uring, UringError } from "../mod.ts";
import { pause, textOf } from "./calls.ts";
import { typeOfMode } from "./dirent.ts";
import { openCached, statTurn } from "./stat_cached.ts";
import { threadCalls } from "./threads.ts";

/** A name in a directory; `text` is undefined when it is no UTF-8 and must be told by its bytes. */
export interface Entry {
  /** The name as text; what is no UTF-8 in it is replaced. */
  readonly text: string;
  /** The name's bytes where the text does not tell them. */
  readonly bytes: Uint8Array | null;
  /** `DT_*`. */
  readonly type: number;
}

const BATCH = 64 * 1024;
/** The most at a direct call, which the event loop waits for: a tenth of a millisecond when it is in memory. */
const DIRECT_BATCH = 16 * 1024;
/** How long a large directory is read, in milliseconds, before others have their turn. */
const TURN = 1;
/** The size of the largest entry, at least. */
const LARGEST = 320;
const DOT = ".".charCodeAt(0);

// One character per byte, whatever the byte: names of ASCII are cut out of one long string.
const bytewise = new TextDecoder("latin1");
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });
// deno-lint-ignore no-control-regex -- what is not in this range is not ASCII
const ASCII = /^[\x00-\x7f]*$/;

// Entries are copied out of it in the turn in which they are read.
let shared: { readonly calls: LookUpCalls; readonly memory: Pinned } | undefined;

function reader(): { readonly calls: LookUpCalls; readonly memory: Pinned } {
  return shared ??= { calls: adapter.openLookUp(system().libc), memory: pinned(DIRECT_BATCH) };
}

/** An open directory. */
export class Scan {
  readonly path: string | Uint8Array;
  readonly #fd: number;
  #open = true;
  // Whether reading it may take its time: it was not in the kernel's memory, or the last batch had no room for more.
  #slow: boolean;

  private constructor(path: string | Uint8Array, fd: number, slow: boolean) {
    this.path = path;
    this.#fd = fd;
    this.#slow = slow;
  }

  /** Opens a directory; a failure is told as that of `syscall`. */
  static async open(syscall: string, path: string | Uint8Array): Promise<Scan> {
    // A file system without openat2 aside, this is the rule; looking a directory up in the kernel's memory never waits.
    const turn = statTurn();
    if (turn !== undefined) await turn;
    const fd = openCached(path);
    if (fd >= 0) return new Scan(path, fd, false);
    try {
      return new Scan(path, await Uring.shared.openat(path, { flags: O_RDONLY | O_DIRECTORY }), true);
    } catch (error) {
      throw error instanceof UringError
        ? new UringError(error.errno, syscall, { path: textOf(path) })
        : error;
    }
  }

  /** The next entries, without `.` and `..`, in the directory's order; none at its end. */
  next(syscall: string): Entry[] {
    const { calls, memory } = reader();
    for (;;) {
      const length = calls.getdents64(this.#fd, memory);
      if (length < 0) throw new UringError(system().errno(), syscall, { path: textOf(this.path) });
      this.#slow = memory.bytes.length - length < LARGEST;
      if (length === 0) return [];
      const entries = entriesOf(memory.bytes.subarray(0, length));
      if (entries.length > 0) return entries;
    }
  }

  /** The same, on a thread of the runtime's where that may take its time and there are such calls. */
  async more(syscall: string): Promise<Entry[]> {
    for (;;) {
      const threads = this.#slow ? threadCalls() : null;
      if (threads === null) return this.next(syscall);
      const bytes = await threads.getdents64(this.#fd, BATCH);
      // Only a direct call tells why.
      if (bytes === null) return this.next(syscall);
      this.#slow = BATCH - bytes.length < LARGEST;
      if (bytes.length === 0) return [];
      const entries = entriesOf(bytes);
      if (entries.length > 0) return entries;
    }
  }

  /** Closes it: at once, for there is nothing that closing a directory would have to wait for. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    reader().calls.close(this.#fd);
  }
}

function entriesOf(bytes: Uint8Array): Entry[] {
  const text = bytewise.decode(bytes);
  const ascii = ASCII.test(text);
  const entries: Entry[] = [];
  for (let at = 0; at < bytes.length;) {
    const start = at + dirent64.d_name;
    const type = bytes[at + dirent64.d_type]!;
    at += bytes[at + dirent64.d_reclen]! + bytes[at + dirent64.d_reclen + 1]! * 256;
    const end = text.indexOf("\0", start);
    if (bytes[start] === DOT && (end === start + 1 || end === start + 2 && bytes[start + 1] === DOT)) {
      continue;
    }
    const name = text.slice(start, end);
    entries.push(
      ascii || ASCII.test(name) ? { text: name, bytes: null, type } : named(bytes.slice(start, end), type),
    );
  }
  return entries;
}

function named(name: Uint8Array, type: number): Entry {
  try {
    return { text: strict.decode(name), bytes: null, type };
  } catch {
    return { text: utf8.decode(name), bytes: name, type };
  }
}

/** All entries of a directory, sorted as Node sorts them. Other work gets its turn now and then. */
export async function entriesAt(syscall: string, path: string | Uint8Array): Promise<Entry[]> {
  const scan = await Scan.open(syscall, path);
  let all: Entry[] = [];
  let since = performance.now();
  try {
    for (let entries = await scan.more(syscall); entries.length > 0; entries = await scan.more(syscall)) {
      if (all.length === 0) all = entries;
      else {
        for (const entry of entries) all.push(entry);
        if (performance.now() - since > TURN) {
          await pause();
          since = performance.now();
        }
      }
    }
  } finally {
    scan.close();
  }
  return all.sort((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0));
}

/** What kind of file an entry is; some file systems do not say so in the directory. */
export async function typeOf(directory: string | Uint8Array, entry: Entry): Promise<number> {
  if (entry.type !== DT_UNKNOWN) return entry.type;
  const path = pathIn(directory, entry);
  try {
    const about = await Uring.shared.statx(path, { flags: AT_SYMLINK_NOFOLLOW, mask: STATX_TYPE });
    return typeOfMode(about.mode);
  } catch (error) {
    // It is gone already.
    if (error instanceof UringError && error.code === "ENOENT") return DT_UNKNOWN;
    throw error;
  }
}

const encoder = new TextEncoder();

/** The path of an entry. */
export function pathIn(
  directory: string | Uint8Array,
  entry: Pick<Entry, "text" | "bytes">,
): string | Uint8Array {
  if (typeof directory === "string" && entry.bytes === null) return join(directory, entry.text);
  const first = typeof directory === "string" ? encoder.encode(directory) : directory;
  const second = entry.bytes ?? encoder.encode(entry.text);
  const slash = first.length === 0 || first.at(-1) === SLASH ? 0 : 1;
  const path = new Uint8Array(first.length + slash + second.length);
  path.set(first);
  if (slash === 1) path[first.length] = SLASH;
  path.set(second, first.length + slash);
  return path;
}

const SLASH = "/".charCodeAt(0);

/** Two pieces of a path in one. */
export function join(directory: string, name: string): string {
  if (directory === "") return name;
  return directory.endsWith("/") ? directory + name : `${directory}/${name}`;
}
