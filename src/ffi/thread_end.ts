/**
 * Giving back what a Worker's thread has when it ends, also when the Worker is terminated and runs no JavaScript any more:
 * a descriptor stays open in the process, and a ring with it that has lost its program but not its work.
 *
 * The C library calls functions with one argument each at the end of a thread. liburing has one that closes a ring by what
 * stands in a `struct io_uring`, which is written here. Without liburing, or with a C library that is not glibc, nothing is
 * given back.
 *
 * @module
 */
import { Mapping } from "./memory.ts";
import { adapter, system } from "./system.ts";

/** What is given back at the end of the thread. */
export interface Belongings {
  /** A descriptor; −1 for none. */
  readonly fd: number;
  /** The memory of a ring, each piece once. The memory of the entries comes first. */
  readonly mappings?: readonly Mapping[];
  /** How many entries there are, and how large they are in bytes: 64 or 128. */
  readonly entries?: number;
  readonly entrySize?: number;
}

/** The place of what is to be given back. */
export interface Place {
  /** Something else is to be given back in its place; null: nothing. */
  set(belongings: Belongings | null): void;
}

/** Where the fields of a `struct io_uring` are that `io_uring_queue_exit` looks at, the same since liburing 2.3. */
export const FIELDS = {
  "sq.sqes": 56,
  "sq.ring_sz": 72,
  "sq.ring_ptr": 80,
  "sq.ring_entries": 92,
  "sq.sqes_sz": 96,
  "cq.ring_sz": 160,
  "cq.ring_ptr": 168,
  "flags": 192,
  "ring_fd": 196,
} as const;
/** The size of a `struct io_uring`. */
export const STRUCT_SIZE = 216;

const PAGE = 4096;
const SETUP_SQE128 = 1024;
const RTLD_NOW = 2;
const TABLE = {
  // int __cxa_thread_atexit_impl(void (*function)(void *), void *argument, void *library)
  __cxa_thread_atexit_impl: { result: "i32", args: ["word", "word", "word"] },
  // void *dlopen(const char *file, int mode)
  dlopen: { result: "word", args: ["bytes", "i32"] },
  // void *dlsym(void *handle, const char *symbol)
  dlsym: { result: "word", args: ["word", "bytes"] },
} as const;

const cString = (text: string): Uint8Array => new TextEncoder().encode(`${text}\0`);

/** Has a `struct io_uring` at an address closed at the end of the thread; null when that cannot be had. */
let schedule: ((address: number) => boolean) | null | undefined;

function openSchedule(): ((address: number) => boolean) | null {
  if (system().library !== "liburing") return null;
  try {
    const { __cxa_thread_atexit_impl: atEnd, dlopen, dlsym } = adapter.open(system().libc, TABLE);
    // Opened once more and never closed: the runtime may close it before the thread ends.
    const library = dlopen(cString("liburing.so.2"), RTLD_NOW);
    const exit = library === 0 ? 0 : dlsym(library, cString("io_uring_queue_exit"));
    return exit === 0 ? null : (address) => atEnd(exit, address, exit) === 0;
  } catch {
    // Another C library, or one whose dlopen is in a library of its own.
    return null;
  }
}

// What the structs are in, and what stands in them: reachable for good, so that no memory is unmapped which is mentioned.
let page: Mapping | null = null;
let used = 0;
const idle: Struct[] = [];
const set = new Set<Struct>();

class Struct implements Place {
  readonly #words: DataView;
  /** What must not be unmapped by itself. */
  held: readonly Mapping[] = [];

  constructor(words: DataView) {
    this.#words = words;
    this.#clear();
  }

  #clear(): void {
    for (let at = 0; at < STRUCT_SIZE; at += 4) this.#words.setUint32(at, 0, true);
    this.#words.setInt32(FIELDS.ring_fd, -1, true);
  }

  set(belongings: Belongings | null): void {
    this.#clear();
    this.held = belongings?.mappings ?? [];
    if (belongings === null) {
      if (set.delete(this)) idle.push(this);
      return;
    }
    set.add(this);
    const [sqes, ring, cqRing] = this.held;
    const { fd, entries = 0, entrySize = 0 } = belongings;
    this.#memory(FIELDS["sq.ring_ptr"], FIELDS["sq.ring_sz"], ring);
    this.#memory(FIELDS["cq.ring_ptr"], FIELDS["cq.ring_sz"], cqRing ?? ring);
    if (sqes !== undefined) {
      this.#words.setBigUint64(FIELDS["sq.sqes"], BigInt(sqes.address), true);
      this.#words.setUint32(FIELDS["sq.sqes_sz"], sqes.byteLength, true);
      // Before liburing 2.4 the size was computed.
      this.#words.setUint32(FIELDS["sq.ring_entries"], entries, true);
      this.#words.setUint32(FIELDS.flags, entrySize > 64 ? SETUP_SQE128 : 0, true);
    }
    this.#words.setInt32(FIELDS.ring_fd, fd, true);
  }

  #memory(pointer: number, size: number, mapping: Mapping | undefined): void {
    if (mapping === undefined) return;
    this.#words.setBigUint64(pointer, BigInt(mapping.address), true);
    this.#words.setBigUint64(size, BigInt(mapping.byteLength), true);
  }
}

function makeStruct(): Struct | null {
  if (page === null || used + STRUCT_SIZE > PAGE) {
    page = Mapping.anonymous(PAGE);
    used = 0;
    pages.push(page);
  }
  const { address, buffer } = page;
  const struct = new Struct(new DataView(buffer, used, STRUCT_SIZE));
  if (!schedule!(address + used)) return null;
  used += STRUCT_SIZE;
  return struct;
}

const pages: Mapping[] = [];

/** Has something given back at the end of this thread; null where that is not called for or cannot be had. */
export function atThreadEnd(belongings: Belongings): Place | null {
  if (schedule === undefined) schedule = openSchedule();
  if (schedule === null) return null;
  const struct = idle.pop() ?? makeStruct();
  struct?.set(belongings);
  return struct;
}
