/**
 * The adapter for Bun, over `bun:ffi`.
 *
 * @module
 */
import { dlopen, FFIType, ptr, toArrayBuffer } from "bun:ffi";
import type { Pointer } from "bun:ffi";
import { AF_INET, AF_UNSPEC, EAI_AGAIN, EAI_FAIL, EAI_MEMORY, EAI_NONAME } from "./abi.ts";
import type {
  Adapter,
  EnterCalls,
  EventReader,
  LookUpCalls,
  NameAddresses,
  Pinned,
  ReadCalls,
  Watched,
} from "./adapter.ts";
import type { ArgType, Functions, SymbolTable } from "./symbols.ts";

const ARG: Record<ArgType, FFIType> = {
  i32: FFIType.i32,
  u32: FFIType.u32,
  word: FFIType.ptr,
  bytes: FFIType.ptr,
};
const RESULT = { i32: FFIType.i32, word: FFIType.ptr } as const;

type Callable = (...args: (number | null)[]) => number | bigint | null;

function open<T extends SymbolTable>(library: string, table: T): Functions<T> {
  const native: Record<string, { args: FFIType[]; returns: FFIType }> = {};
  for (const [name, spec] of Object.entries(table)) {
    native[name] = { args: spec.args.map((type) => ARG[type]), returns: RESULT[spec.result] };
  }
  const symbols = dlopen(library, native).symbols as unknown as Record<string, Callable>;
  const functions: Record<string, (...args: (number | Uint8Array | null)[]) => number> = {};
  for (const name of Object.keys(table)) {
    const call = symbols[name]!;
    functions[name] = (...args) =>
      Number(call(...args.map((arg) => typeof arg === "object" ? pointerTo(arg) : arg)));
  }
  return functions as unknown as Functions<T>;
}

function pointerTo(view: ArrayBufferView | null): number | null {
  return view === null || view.byteLength === 0 ? null : address(view);
}

function address(view: ArrayBufferView): number {
  return ptr(view as Uint8Array) as number;
}

// The size is declared as a pointer: it is 64 bits wide in C, and wherever an argument goes by the stack that matters.
const ENTER_ARGS = [FFIType.i32, FFIType.u32, FFIType.u32, FFIType.u32, FFIType.ptr] as const;

function openEnter(library: string): EnterCalls {
  const { io_uring_enter, io_uring_enter2 } = dlopen(library, {
    io_uring_enter: { args: [...ENTER_ARGS], returns: FFIType.i32 },
    io_uring_enter2: { args: [...ENTER_ARGS, FFIType.ptr], returns: FFIType.i32 },
  }).symbols as unknown as Record<
    "io_uring_enter" | "io_uring_enter2",
    (...args: (number | null)[]) => number
  >;
  return {
    enter: (fd: number, toSubmit: number, minComplete: number, flags: number): number =>
      io_uring_enter(fd, toSubmit, minComplete, flags, null),
    enterArg: (
      fd: number,
      toSubmit: number,
      minComplete: number,
      flags: number,
      arg: Pinned,
      size: number,
    ): number => io_uring_enter2(fd, toSubmit, minComplete, flags, arg.address, size),
    enterOffset: (
      fd: number,
      toSubmit: number,
      minComplete: number,
      flags: number,
      offset: number,
      size: number,
    ): number => io_uring_enter2(fd, toSubmit, minComplete, flags, offset, size),
  };
}

function openEnterSyscall(library: string, errno: () => number): EnterCalls {
  const { syscall } = dlopen(library, {
    syscall: { args: [FFIType.i32, ...ENTER_ARGS, FFIType.ptr], returns: FFIType.i32 },
  }).symbols as unknown as { syscall: (...args: (number | null)[]) => number };
  const IO_URING_ENTER = 426;
  return {
    enter: (fd: number, toSubmit: number, minComplete: number, flags: number): number => {
      const result = syscall(IO_URING_ENTER, fd, toSubmit, minComplete, flags, null, 0);
      return result < 0 ? -errno() : result;
    },
    enterArg: (
      fd: number,
      toSubmit: number,
      minComplete: number,
      flags: number,
      arg: Pinned,
      size: number,
    ): number => {
      const result = syscall(IO_URING_ENTER, fd, toSubmit, minComplete, flags, arg.address, size);
      return result < 0 ? -errno() : result;
    },
    enterOffset: (
      fd: number,
      toSubmit: number,
      minComplete: number,
      flags: number,
      offset: number,
      size: number,
    ): number => {
      const result = syscall(IO_URING_ENTER, fd, toSubmit, minComplete, flags, offset, size);
      return result < 0 ? -errno() : result;
    },
  };
}

function openLookUp(library: string): LookUpCalls {
  const { ptr: pointer, i32, u32 } = FFIType;
  const { syscall, statx, getdents64, close } = dlopen(library, {
    syscall: { args: [pointer, i32, pointer, pointer, pointer], returns: i32 },
    statx: { args: [i32, pointer, i32, u32, pointer], returns: i32 },
    getdents64: { args: [i32, pointer, pointer], returns: i32 },
    close: { args: [i32], returns: i32 },
  }).symbols as unknown as Record<
    "syscall" | "statx" | "getdents64" | "close",
    (...args: number[]) => number
  >;
  return {
    openat2: (number: number, dirfd: number, path: Pinned, how: Pinned): number =>
      syscall(number, dirfd, path.address, how.address, how.bytes.length),
    statx: (dirfd: number, path: Pinned, flags: number, mask: number, out: Pinned): number =>
      statx(dirfd, path.address, flags, mask, out.address),
    getdents64: (fd: number, entries: Pinned): number =>
      getdents64(fd, entries.address, entries.bytes.length),
    close: (fd: number): number => close(fd),
  };
}

function openReads(library: string): ReadCalls {
  const { ptr: pointer, i32 } = FFIType;
  const { preadv2 } = dlopen(library, {
    preadv2: { args: [i32, pointer, i32, pointer, i32], returns: i32 },
  }).symbols as unknown as Record<"preadv2", (...args: number[]) => number>;
  return {
    preadv2: (fd: number, vector: Pinned, offset: number, flags: number): number =>
      preadv2(fd, vector.address, 1, offset, flags),
  };
}

function errnoAddress(library: string): number {
  const symbols = dlopen(library, { __errno_location: { args: [], returns: FFIType.ptr } }).symbols;
  return Number(symbols.__errno_location());
}

async function watch(fd: number, onReadable: () => void): Promise<Watched> {
  const socket = await Bun.connect({
    // Bun takes `fd` (a connected socket to adopt), which its type declarations leave out.
    ...({ fd } as unknown as { unix: string }),
    socket: {
      data(): void {
        onReadable();
      },
      error(): void {},
      close(): void {},
    },
  });
  return {
    ref: () => socket.ref(),
    unref: () => socket.unref(),
    close: () => socket.terminate(),
  };
}

function openEventReader(library: string, fd: number, memory: number): EventReader {
  const worker = new Worker(new URL("./bun_event_reader.ts", import.meta.url));
  // The web's Worker has no ref and unref; Bun's has.
  const lifetime = worker as unknown as { ref(): void; unref(): void };
  const loaded = Promise.withResolvers<void>();
  let finish: () => void = loaded.resolve;
  worker.onmessage = () => finish();
  return {
    read: async () => {
      // What is posted to a worker that is still loading is lost; it says when it has loaded.
      await loaded.promise;
      await new Promise<void>((resolve) => {
        finish = resolve;
        worker.postMessage({ library, fd, memory });
      });
    },
    ref: () => lifetime.ref(),
    unref: () => {
      lifetime.unref();
      return true;
    },
    close: () => worker.terminate(),
  };
}

const EAI: Readonly<Record<string, number>> = {
  DNS_ENOTFOUND: EAI_NONAME,
  DNS_ENODATA: EAI_NONAME,
  DNS_EAI_AGAIN: EAI_AGAIN,
  DNS_ENOMEM: EAI_MEMORY,
};

// Bun's calls of C are none that another thread could make; its own resolver has threads, and libc's answers.
async function lookup(_library: string, hostname: string, family: number): Promise<NameAddresses> {
  try {
    const found = await Bun.dns.lookup(hostname, {
      backend: "libc",
      family: family === AF_UNSPEC ? 0 : family === AF_INET ? 4 : 6,
      socketType: "tcp",
    });
    return { status: 0, addresses: found.map(({ address }) => address) };
  } catch (error) {
    return { status: EAI[(error as { code?: string }).code ?? ""] ?? EAI_FAIL, addresses: [] };
  }
}

/** Bun. */
export const adapter: Adapter = {
  name: "bun",
  arch: process.arch === "arm64" ? "aarch64" : "x86_64",
  isWorker: !Bun.isMainThread,
  spinTurns: 8,
  open,
  openEnter,
  openEnterSyscall,
  openLookUp,
  openReads,
  errnoAddress,
  openAddress: () => address,
  // Zeroing takes longer than most of what fills it.
  uninitialized: (byteLength: number): Uint8Array<ArrayBuffer> =>
    new Uint8Array(Buffer.allocUnsafeSlow(byteLength).buffer as ArrayBuffer),
  hurryAfter: 4 * 1024 * 1024,
  // Not now: the collector's own thread begins.
  hurryCollector: () => void Bun.gc(false),
  bufferAt: (address: number, byteLength: number): ArrayBuffer =>
    toArrayBuffer(address as Pointer, 0, byteLength),
  watch,
  openEventReader,
  openThreadCalls: () => null,
  lookup,
};
