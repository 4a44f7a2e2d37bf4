/**
 * What a runtime has to offer: one implementation per runtime (`bun.ts`, `deno.ts`), chosen in `system.ts`.
 *
 * @module
 */
import type { Functions, SymbolTable } from "./symbols.ts";

/** Bytes that stay where they are for as long as this object is held. */
export interface Pinned {
  /** The memory. */
  readonly bytes: Uint8Array;
  /** Where it lies. */
  readonly address: number;
}

/** `io_uring_enter`, in the forms that the hot path uses; all return the kernel's result or `-errno`. */
export interface EnterCalls {
  /** `io_uring_enter(fd, toSubmit, minComplete, flags, NULL, 0)`. */
  enter(fd: number, toSubmit: number, minComplete: number, flags: number): number;
  /** `io_uring_enter2(fd, toSubmit, minComplete, flags, arg, size)`. */
  enterArg(
    fd: number,
    toSubmit: number,
    minComplete: number,
    flags: number,
    arg: Pinned,
    size: number,
  ): number;
  /** The same with an offset into a registered region in place of an address (`IORING_ENTER_EXT_ARG_REG`). */
  enterOffset(
    fd: number,
    toSubmit: number,
    minComplete: number,
    flags: number,
    offset: number,
    size: number,
  ): number;
}

/** Looking files up, for those who look up thousands; the results are C's, and failures −1. */
export interface LookUpCalls {
  /** `syscall(number, dirfd, path, how, size)`: `openat2`, which C libraries lack. */
  openat2(number: number, dirfd: number, path: Pinned, how: Pinned): number;
  /** `statx(dirfd, path, flags, mask, out)`. */
  statx(dirfd: number, path: Pinned, flags: number, mask: number, out: Pinned): number;
  /** `getdents64(fd, entries, size)`. */
  getdents64(fd: number, entries: Pinned): number;
  /** `close(fd)`. */
  close(fd: number): number;
}

/** Reading what is in memory, for those who are asked for it all the time; the results are C's, and failures −1. */
export interface ReadCalls {
  /** `preadv2(fd, vector, 1, offset, flags)`. */
  preadv2(fd: number, vector: Pinned, offset: number, flags: number): number;
}

/**
 * System calls on a thread of the runtime's. Why one has failed only its thread knows, so that the caller has to ask again.
 */
export interface ThreadCalls {
  /** `getdents64(fd, entries, size)`: the entries, or null when it failed. */
  getdents64(fd: number, size: number): Promise<Uint8Array | null>;
  /** `statfs(path, out)`; the path ends with a NUL. */
  statfs(path: Uint8Array, out: Uint8Array): Promise<number>;
}

/** A socket that the runtime's own event loop watches. */
export interface Watched {
  /** Keeps the process alive (as at the start) until {@link Watched.unref}. */
  ref(): void;
  /** Lets the process exit although the socket is watched. */
  unref(): void;
  /** Stops watching and closes the descriptor, which the runtime owns. */
  close(): void;
}

/** Waits for an eventfd on a thread of the runtime's: the fallback where no socket can be watched. */
export interface EventReader {
  /** Resolves when the eventfd was signalled; one at a time. */
  read(): Promise<void>;
  /** Keeps the process alive while a read is pending. */
  ref(): void;
  /** Lets the process exit although a read is pending; false when the runtime cannot. */
  unref(): boolean;
  /** Ends the thread; no read may be pending. */
  close(): void;
}

/** What `getaddrinfo` said of a name. */
export interface NameAddresses {
  /** 0, or one of C's `EAI_*`. */
  readonly status: number;
  /** The addresses in `getaddrinfo`'s order, as text; those that need it with a zone: `"fe80::1%eth0"`. */
  readonly addresses: readonly string[];
}

/** One runtime's way of calling C and of touching memory. */
export interface Adapter {
  /** Which runtime this is. */
  readonly name: "bun" | "deno";
  /** The machine's architecture, as the kernel names it. */
  readonly arch: "x86_64" | "aarch64";
  /** Whether this is a Worker's thread, which may end before the process does. */
  readonly isWorker: boolean;
  /** How many macrotask turns are worth spinning before sleeping; more only burns CPU. */
  readonly spinTurns: number;
  /** Opens a shared library and returns its functions; throws when the library or a symbol is missing. */
  open<T extends SymbolTable>(library: string, table: T): Functions<T>;
  /** `io_uring_enter` out of liburing. */
  openEnter(library: string): EnterCalls;
  /** `io_uring_enter` through libc's `syscall`, whose failures are looked up in `errno`. */
  openEnterSyscall(library: string, errno: () => number): EnterCalls;
  /** Looking files up. */
  openLookUp(library: string): LookUpCalls;
  /** Reading; throws where the C library has no such function. */
  openReads(library: string): ReadCalls;
  /** The address that libc's `__errno_location` returns on this thread. */
  errnoAddress(library: string): number;
  /** The function that tells where a view's memory lies (its `buffer` must have been touched before). */
  openAddress(library: string): (view: ArrayBufferView) => number;
  /** Memory of this size whose content does not matter, made in the cheapest way. */
  uninitialized(byteLength: number): Uint8Array<ArrayBuffer>;
  /** After how much memory for others to keep {@link Adapter.hurryCollector} is worth a call, in bytes. */
  readonly hurryAfter: number;
  /** Has the collector look for young memory that is dead soon; nothing waits for it. */
  hurryCollector(): void;
  /** Memory at an address as an ArrayBuffer that the garbage collector does not free. */
  bufferAt(address: number, byteLength: number): ArrayBuffer;
  /** Has the event loop watch one end of a socketpair; calls `onReadable` when bytes arrived (and were read). */
  watch(fd: number, onReadable: () => void): Promise<Watched>;
  /** Waits for an eventfd without the event loop's help; it is read into 8 bytes at the address `memory`. */
  openEventReader(library: string, fd: number, memory: number): EventReader;
  /** System calls on a thread of the runtime's; null where its FFI has none. */
  openThreadCalls(library: string): ThreadCalls | null;
  /** Looks a host name up (`getaddrinfo`, `AF_UNSPEC`, `AF_INET` or `AF_INET6`) on a thread of the runtime's. */
  lookup(library: string, hostname: string, family: number): Promise<NameAddresses>;
}
