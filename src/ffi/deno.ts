/**
 * The adapter for Deno, over `Deno.dlopen`; needs `--allow-ffi` and nothing else.
 *
 * @module
 */
import { NI_MAXHOST, NI_NUMERICHOST, SOCK_STREAM } from "./abi.ts";
import type {
  Adapter,
  EnterCalls,
  EventReader,
  LookUpCalls,
  NameAddresses,
  Pinned,
  ReadCalls,
  ThreadCalls,
  Watched,
} from "./adapter.ts";
import { addrinfo } from "./structs.ts";
import type { ArgType, Functions, SymbolTable } from "./symbols.ts";

const ARG = { i32: "i32", u32: "u32", word: "i64", bytes: "buffer" } as const satisfies Record<
  ArgType,
  Deno.NativeType
>;
const RESULT = { i32: "i32", word: "u64" } as const;

type Callable = (...args: unknown[]) => number | bigint;

function open<T extends SymbolTable>(library: string, table: T): Functions<T> {
  const native: Record<string, Deno.ForeignFunction> = {};
  for (const [name, spec] of Object.entries(table)) {
    native[name] = { parameters: spec.args.map((type) => ARG[type]), result: RESULT[spec.result] };
  }
  const symbols = Deno.dlopen(library, native).symbols as unknown as Record<string, Callable>;
  const functions: Record<string, (...args: unknown[]) => number> = {};
  for (const [name, spec] of Object.entries(table)) {
    const call = symbols[name]!;
    const words = spec.args.map((type) => type === "word");
    functions[name] = (...args) =>
      Number(call(...args.map((arg, i) => words[i] ? BigInt(arg as number) : arg)));
  }
  return functions as unknown as Functions<T>;
}

const ENTER = ["i32", "u32", "u32", "u32", "pointer"] as const;
const ENTER_ARG = ["i32", "u32", "u32", "u32", "buffer", "u32"] as const;
const ENTER_OFFSET = [...ENTER, "u32"] as const;

// An offset goes where C has a pointer. Making a pointer object costs more than the call, and there are few offsets.
const offsets = new Map<number, Deno.PointerValue>();

function offsetPointer(offset: number): Deno.PointerValue {
  let pointer = offsets.get(offset);
  if (pointer === undefined) {
    pointer = Deno.UnsafePointer.create(BigInt(offset));
    offsets.set(offset, pointer);
  }
  return pointer;
}

function openEnter(library: string): EnterCalls {
  const { enter, enterArg, enterOffset } = Deno.dlopen(library, {
    enter: { name: "io_uring_enter", parameters: ENTER, result: "i32" },
    enterArg: { name: "io_uring_enter2", parameters: ENTER_ARG, result: "i32" },
    enterOffset: { name: "io_uring_enter2", parameters: ENTER_OFFSET, result: "i32" },
  }).symbols;
  return {
    enter: (fd: number, toSubmit: number, minComplete: number, flags: number): number =>
      enter(fd, toSubmit, minComplete, flags, null),
    enterArg: (
      fd: number,
      toSubmit: number,
      minComplete: number,
      flags: number,
      arg: Pinned,
      size: number,
    ): number => enterArg(fd, toSubmit, minComplete, flags, arg.bytes as Uint8Array<ArrayBuffer>, size),
    enterOffset: (
      fd: number,
      toSubmit: number,
      minComplete: number,
      flags: number,
      offset: number,
      size: number,
    ): number => enterOffset(fd, toSubmit, minComplete, flags, offsetPointer(offset), size),
  };
}

function openEnterSyscall(library: string, errno: () => number): EnterCalls {
  const { enter, enterArg, enterOffset } = Deno.dlopen(library, {
    enter: { name: "syscall", parameters: ["i32", ...ENTER, "u32"], result: "i32" },
    // The seventh argument goes by the stack, where the upper half of a 64-bit value must be right.
    enterArg: {
      name: "syscall",
      parameters: ["i32", "i32", "u32", "u32", "u32", "buffer", "usize"],
      result: "i32",
    },
    enterOffset: { name: "syscall", parameters: ["i32", ...ENTER, "usize"], result: "i32" },
  }).symbols;
  const IO_URING_ENTER = 426;
  return {
    enter: (fd: number, toSubmit: number, minComplete: number, flags: number): number => {
      const result = enter(IO_URING_ENTER, fd, toSubmit, minComplete, flags, null, 0);
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
      const bytes = arg.bytes as Uint8Array<ArrayBuffer>;
      const result = enterArg(IO_URING_ENTER, fd, toSubmit, minComplete, flags, bytes, BigInt(size));
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
      const pointer = offsetPointer(offset);
      const result = enterOffset(IO_URING_ENTER, fd, toSubmit, minComplete, flags, pointer, BigInt(size));
      return result < 0 ? -errno() : result;
    },
  };
}

function openLookUp(library: string): LookUpCalls {
  const { syscall, statx, getdents64, close } = Deno.dlopen(library, {
    syscall: { parameters: ["i32", "i32", "buffer", "buffer", "usize"], result: "i32" },
    statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
    getdents64: { parameters: ["i32", "buffer", "usize"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
  }).symbols;
  type Bytes = Uint8Array<ArrayBuffer>;
  return {
    openat2: (number: number, dirfd: number, path: Pinned, how: Pinned): number =>
      syscall(number, dirfd, path.bytes as Bytes, how.bytes as Bytes, BigInt(how.bytes.length)),
    statx: (dirfd: number, path: Pinned, flags: number, mask: number, out: Pinned): number =>
      statx(dirfd, path.bytes as Bytes, flags, mask, out.bytes as Bytes),
    getdents64: (fd: number, entries: Pinned): number =>
      getdents64(fd, entries.bytes as Bytes, BigInt(entries.bytes.length)),
    close: (fd: number): number => close(fd),
  };
}

function openReads(library: string): ReadCalls {
  const { preadv2 } = Deno.dlopen(library, {
    preadv2: { parameters: ["i32", "buffer", "i32", "i64", "i32"], result: "i32" },
  }).symbols;
  return {
    preadv2: (fd: number, vector: Pinned, offset: number, flags: number): number =>
      preadv2(fd, vector.bytes as Uint8Array<ArrayBuffer>, 1, BigInt(offset), flags),
  };
}

function errnoAddress(library: string): number {
  const symbols = Deno.dlopen(library, { __errno_location: { parameters: [], result: "u64" } }).symbols;
  return Number(symbols.__errno_location());
}

// `memset` returns the pointer it was given: an address for a tenth of what UnsafePointer.of costs.
function openAddress(library: string): (view: ArrayBufferView) => number {
  const { memset } = Deno.dlopen(library, {
    memset: { parameters: ["buffer", "i32", "u32"], result: "u64" },
  }).symbols;
  // Storing the result spares making a BigInt of it.
  const result = new BigUint64Array(1);
  const halves = new Uint32Array(result.buffer);
  return (view: ArrayBufferView): number => {
    result[0] = memset(view as Uint8Array<ArrayBuffer>, 0, 0);
    return halves[0]! + halves[1]! * 0x1_0000_0000;
  };
}

async function watch(fd: number, onReadable: () => void): Promise<Watched> {
  const { Socket } = await import("node:net");
  const socket = new Socket({
    fd,
    readable: true,
    writable: false,
    onread: {
      buffer: new Uint8Array(64),
      callback: (): boolean => {
        onReadable();
        return true;
      },
    },
  });
  socket.on("error", () => {});
  return {
    ref: () => socket.ref(),
    unref: () => socket.unref(),
    close: () => socket.destroy(),
  };
}

function openEventReader(library: string, fd: number, memory: number): EventReader {
  const { read } = Deno.dlopen(library, {
    read: { parameters: ["i32", "pointer", "usize"], result: "i32", nonblocking: true },
  }).symbols;
  const LENGTH = 8n;
  const pointer = Deno.UnsafePointer.create(BigInt(memory));
  return {
    read: async () => {
      await read(fd, pointer, LENGTH);
    },
    ref: () => {},
    unref: () => false,
    close: () => {},
  };
}

const THREADED = {
  // void *calloc(size_t count, size_t size)
  calloc: { parameters: ["usize", "usize"], result: "pointer" },
  // void free(void *memory)
  free: { parameters: ["pointer"], result: "void" },
  // ssize_t getdents64(int fd, void *entries, size_t size)
  getdents64: { parameters: ["i32", "pointer", "usize"], result: "isize", nonblocking: true },
  // int statfs(const char *path, struct statfs *buf)
  statfs: { parameters: ["pointer", "pointer"], result: "i32", nonblocking: true },
} as const;

function openThreadCalls(library: string): ThreadCalls | null {
  let c: Deno.DynamicLibrary<typeof THREADED>["symbols"];
  try {
    c = Deno.dlopen(library, THREADED).symbols;
  } catch {
    // A C library without one of the functions.
    return null;
  }
  /** Calls with the input in front of the output, in C's memory: the call goes on when this thread, a Worker's, is ended. */
  async function inMemory(
    input: Uint8Array,
    out: Uint8Array,
    call: (input: Deno.PointerValue, out: Deno.PointerValue) => Promise<number | bigint>,
  ): Promise<number> {
    const inputSize = Math.ceil(input.length / 8) * 8;
    const memory = c.calloc(1n, BigInt(inputSize + out.length));
    if (memory === null) return -1;
    const bytes = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(memory, inputSize + out.length));
    bytes.set(input);
    const result = Number(await call(memory, Deno.UnsafePointer.offset(memory, inputSize)));
    if (result >= 0) out.set(bytes.subarray(inputSize));
    c.free(memory);
    return result;
  }
  const nothing = new Uint8Array(0);
  return {
    getdents64: async (fd: number, size: number): Promise<Uint8Array | null> => {
      const entries = new Uint8Array(size);
      const length = await inMemory(nothing, entries, (_, memory) => c.getdents64(fd, memory, BigInt(size)));
      return length < 0 ? null : entries.subarray(0, length);
    },
    statfs: (path: Uint8Array, out: Uint8Array): Promise<number> =>
      inMemory(path, out, (name, memory) => c.statfs(name, memory)),
  };
}

const NAMES = {
  // void *calloc(size_t count, size_t size)
  calloc: { parameters: ["usize", "usize"], result: "pointer" },
  // void free(void *memory)
  free: { parameters: ["pointer"], result: "void" },
  // int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
  getaddrinfo: {
    parameters: ["pointer", "pointer", "pointer", "pointer"],
    result: "i32",
    nonblocking: true,
  },
  // void freeaddrinfo(struct addrinfo *result)
  freeaddrinfo: { parameters: ["pointer"], result: "void" },
  // int getnameinfo(const struct sockaddr *address, socklen_t, char *host, socklen_t, char *service, socklen_t, int)
  getnameinfo: {
    parameters: ["pointer", "u32", "buffer", "u32", "pointer", "u32", "i32"],
    result: "i32",
  },
} as const;

let names: Deno.DynamicLibrary<typeof NAMES>["symbols"] | undefined;

async function lookup(library: string, hostname: string, family: number): Promise<NameAddresses> {
  const c = names ??= Deno.dlopen(library, NAMES).symbols;
  const node = new TextEncoder().encode(hostname);
  const resultAt = addrinfo.size;
  const nodeAt = resultAt + 8;
  const size = nodeAt + node.length + 1;
  // C's memory and not JavaScript's: the call goes on when this thread, a Worker's, is ended.
  const memory = c.calloc(1n, BigInt(size));
  if (memory === null) throw new RangeError("Out of memory");
  const bytes = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(memory, size));
  const view = new DataView(bytes.buffer);
  view.setInt32(addrinfo.ai_family, family, true);
  // One entry per address instead of one for each type of socket.
  view.setInt32(addrinfo.ai_socktype, SOCK_STREAM, true);
  bytes.set(node, nodeAt);
  const at = (offset: number): Deno.PointerValue => Deno.UnsafePointer.offset(memory, offset);
  try {
    const status = await c.getaddrinfo(at(nodeAt), null, memory, at(resultAt));
    if (status !== 0) return { status, addresses: [] };
    const list = Deno.UnsafePointer.create(view.getBigUint64(resultAt, true));
    try {
      return { status, addresses: addressTexts(list) };
    } finally {
      c.freeaddrinfo(list);
    }
  } finally {
    c.free(memory);
  }
}

/** The addresses of a list of `struct addrinfo` as text. */
function addressTexts(list: Deno.PointerValue): string[] {
  const texts: string[] = [];
  const host = new Uint8Array(NI_MAXHOST);
  for (let entry = list; entry !== null;) {
    const info = new Deno.UnsafePointerView(entry);
    const address = Deno.UnsafePointer.create(info.getBigUint64(addrinfo.ai_addr));
    const length = info.getUint32(addrinfo.ai_addrlen);
    if (names!.getnameinfo(address, length, host, host.length, null, 0, NI_NUMERICHOST) === 0) {
      texts.push(new TextDecoder().decode(host.subarray(0, host.indexOf(0))));
    }
    entry = Deno.UnsafePointer.create(info.getBigUint64(addrinfo.ai_next));
  }
  return texts;
}

// V8 collects what is young before it makes a buffer, when those that are young have twice its largest semi-space.
const PRESSURE = 2 * 32 * 1024 * 1024 + 4096;
let pressing = true;

/** Makes a buffer that nobody touches, and so takes no memory: with it V8 has enough of them, and collects before the next. */
function hurryCollector(): void {
  if (!pressing) return;
  try {
    void new ArrayBuffer(PRESSURE);
  } catch {
    // Where not even addresses are to be had, it would be a full collection each time.
    pressing = false;
  }
}

/** Deno. */
export const adapter: Adapter = {
  name: "deno",
  arch: Deno.build.arch,
  // The second is what the Workers of node:worker_threads have.
  isWorker: "WorkerGlobalScope" in globalThis || "DedicatedWorkerGlobalScope" in globalThis,
  spinTurns: 30,
  open,
  openEnter,
  openEnterSyscall,
  openLookUp,
  openReads,
  errnoAddress,
  openAddress,
  // There is nothing that is not zeroed.
  uninitialized: (byteLength: number): Uint8Array<ArrayBuffer> => new Uint8Array(byteLength),
  hurryAfter: 8 * 1024 * 1024,
  hurryCollector,
  bufferAt: (address: number, byteLength: number): ArrayBuffer =>
    Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(BigInt(address))!, byteLength),
  watch,
  openEventReader,
  openThreadCalls,
  lookup,
};
