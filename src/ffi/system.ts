/**
 * The system calls of this thread, opened at first use: liburing's when it is installed, otherwise the same three
 * through libc's `syscall`.
 *
 * @module
 */
import type { Adapter, EnterCalls } from "./adapter.ts";
import { UringUnavailableError } from "./errors.ts";
import {
  type Functions,
  LIBC,
  LIBC_FILES,
  LIBC_LATER,
  LIBC_NET,
  LIBC_PROCESS,
  LIBC_RARE,
  LIBURING,
  type SymbolTable,
  SYSCALL_REGISTER,
  SYSCALL_SETUP,
} from "./symbols.ts";

/** The runtime that this program runs in. */
export const adapter: Adapter = await loadAdapter();

async function loadAdapter(): Promise<Adapter> {
  if ("Bun" in globalThis) return (await import("./bun.ts")).adapter;
  if ("Deno" in globalThis) return (await import("./deno.ts")).adapter;
  throw new Error("uring runs in Bun and in Deno; this runtime is neither");
}

const LIBC_NAMES = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];
const LIBURING_NAMES = ["liburing.so.2"];
const SYS_IO_URING_SETUP = 425;
const SYS_IO_URING_REGISTER = 427;

/** The calls that the library makes; each returns the C result, or `-errno` where C would return −1. */
export interface System extends EnterCalls, Functions<typeof LIBC>, Functions<typeof LIBC_LATER> {
  /** The name that libc was opened by. */
  readonly libc: string;
  /** Which library `io_uring_*` comes from. */
  readonly library: "liburing" | "libc";
  /** `io_uring_setup(entries, params)`. */
  setup(entries: number, params: Uint8Array): number;
  /** `io_uring_register(fd, opcode, arg, count)`. */
  register(fd: number, opcode: number, arg: Uint8Array | Int32Array | null, count: number): number;
  /** Why the last call that returned −1 failed, negated. */
  errno(): number;
  /** The address of a view, unchecked: use `addressOf`. */
  address(view: ArrayBufferView): number;
  /** libc functions off the beaten track. */
  readonly rare: Functions<typeof LIBC_RARE>;
  /** libc functions on files that io_uring has no operation for. */
  readonly files: Functions<typeof LIBC_FILES>;
  /** libc functions about the process. */
  readonly process: Functions<typeof LIBC_PROCESS>;
  /** libc functions on networks. */
  readonly net: Functions<typeof LIBC_NET>;
}

let opened: System | undefined;

/** The system calls, opened when this is first called. */
export function system(): System {
  return opened ??= openSystem();
}

function openSystem(): System {
  const { library: libc, functions } = openFirst(LIBC_NAMES, (name) => adapter.open(name, LIBC));
  const errnoWord = new Int32Array(adapter.bufferAt(adapter.errnoAddress(libc), 4));
  const errno = (): number => errnoWord[0]!;
  const calls = withErrno(functions, errno);
  let rare: Functions<typeof LIBC_RARE> | undefined;
  return {
    ...calls,
    ...opensLater(() => withErrno(adapter.open(libc, LIBC_LATER), errno)),
    libc,
    ...openRings(libc, errno),
    errno: () => -errno(),
    address: adapter.openAddress(libc),
    get rare(): Functions<typeof LIBC_RARE> {
      return rare ??= withErrno(adapter.open(libc, LIBC_RARE), errno);
    },
    files: opensEach(LIBC_FILES, (table) => withErrno(adapter.open(libc, table), errno)),
    process: opensEach(LIBC_PROCESS, (table) => withErrno(adapter.open(libc, table), errno)),
    net: opensEach(LIBC_NET, (table) => withErrno(adapter.open(libc, table), errno)),
  };
}

/** Functions each of which is opened when it is first called: programs use few of them. */
function opensEach<T extends SymbolTable>(table: T, open: (table: SymbolTable) => object): Functions<T> {
  type Call = (...args: unknown[]) => number;
  const functions: Record<string, Call> = {};
  for (const [name, spec] of Object.entries(table)) {
    let opened: Call | undefined;
    functions[name] = (...args) => {
      opened ??= (open({ [name]: spec }) as Record<string, Call>)[name]!;
      return opened(...args);
    };
  }
  return functions as unknown as Functions<T>;
}

/** Functions that open their library when the first of them is called. */
function opensLater(open: () => Functions<typeof LIBC_LATER>): Functions<typeof LIBC_LATER> {
  let functions: Functions<typeof LIBC_LATER> | undefined;
  const all = (): Functions<typeof LIBC_LATER> => functions ??= open();
  return {
    eventfd: (initial, flags) => all().eventfd(initial, flags),
    socketpair: (domain, type, protocol, fds) => all().socketpair(domain, type, protocol, fds),
    read: (fd, bytes, count) => all().read(fd, bytes, count),
    write: (fd, bytes, count) => all().write(fd, bytes, count),
  };
}

type RingCalls = EnterCalls & Pick<System, "library" | "setup" | "register">;

function openRings(libc: string, errno: () => number): RingCalls {
  for (const library of LIBURING_NAMES) {
    const calls = openLiburing(library);
    if (calls !== null) return calls;
  }
  const setup = withErrno(adapter.open(libc, SYSCALL_SETUP), errno).syscall;
  const register = withErrno(adapter.open(libc, SYSCALL_REGISTER), errno).syscall;
  return {
    library: "libc",
    ...adapter.openEnterSyscall(libc, errno),
    setup: (entries, params) => setup(SYS_IO_URING_SETUP, entries, params),
    register: (fd, opcode, arg, count) => register(SYS_IO_URING_REGISTER, fd, opcode, arg, count),
  };
}

function openLiburing(library: string): RingCalls | null {
  try {
    const { io_uring_setup, io_uring_register } = adapter.open(library, LIBURING);
    return {
      library: "liburing",
      ...adapter.openEnter(library),
      setup: io_uring_setup,
      register: io_uring_register,
    };
  } catch {
    // Not installed, or older than 2.3 (which lacks the three calls): libc has them too.
    return null;
  }
}

function openFirst<R>(
  names: readonly string[],
  open: (name: string) => R,
): { library: string; functions: R } {
  let failure: unknown;
  for (const library of names) {
    try {
      return { library, functions: open(library) };
    } catch (error) {
      failure ??= error;
    }
  }
  throw new UringUnavailableError("ffi", { cause: failure });
}

function withErrno<T extends SymbolTable>(functions: Functions<T>, errno: () => number): Functions<T> {
  const wrapped: Record<string, (...args: never[]) => number> = {};
  for (const [name, call] of Object.entries(functions) as [string, (...args: never[]) => number][]) {
    wrapped[name] = (...args) => {
      const result = call(...args);
      // MAP_FAILED, the one failure that is not −1, arrives as 2⁶⁴ − 1.
      return result === -1 || result >= 2 ** 63 ? -errno() : result;
    };
  }
  return wrapped as unknown as Functions<T>;
}
