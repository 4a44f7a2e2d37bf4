/**
 * `posix_spawn`: libc's way to start a program. It makes a process that shares this one's memory, and stops this thread,
 * only until the program is loaded; nothing of JavaScript's runs in between, as it would after a `fork`.
 *
 * @module
 */
import { F_DUPFD_CLOEXEC, O_RDWR, SIGKILL } from "../ffi/abi.ts";
import type { Pinned } from "../ffi/adapter.ts";
import { cString } from "../ffi/cstring.ts";
import { UringError } from "../ffi/errors.ts";
import { pinned } from "../ffi/pin.ts";
import type { Functions } from "../ffi/symbols.ts";
import { adapter, system } from "../ffi/system.ts";

const SPAWN = {
  // int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
  //                 char *const argv[], char *const envp[])
  posix_spawn: { result: "i32", args: ["bytes", "bytes", "bytes", "bytes", "bytes", "word"] },
  // int posix_spawn_file_actions_init(posix_spawn_file_actions_t *actions)
  posix_spawn_file_actions_init: { result: "i32", args: ["bytes"] },
  // int posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *actions)
  posix_spawn_file_actions_destroy: { result: "i32", args: ["bytes"] },
  // int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int fd, int target)
  posix_spawn_file_actions_adddup2: { result: "i32", args: ["bytes", "i32", "i32"] },
  // int posix_spawn_file_actions_addopen(posix_spawn_file_actions_t *actions, int fd, const char *path, int flags, mode_t)
  posix_spawn_file_actions_addopen: { result: "i32", args: ["bytes", "i32", "bytes", "i32", "u32"] },
  // int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path)
  posix_spawn_file_actions_addchdir_np: { result: "i32", args: ["bytes", "bytes"] },
  // int posix_spawnattr_init(posix_spawnattr_t *attributes)
  posix_spawnattr_init: { result: "i32", args: ["bytes"] },
  // int posix_spawnattr_destroy(posix_spawnattr_t *attributes)
  posix_spawnattr_destroy: { result: "i32", args: ["bytes"] },
  // int posix_spawnattr_setflags(posix_spawnattr_t *attributes, short flags)
  posix_spawnattr_setflags: { result: "i32", args: ["bytes", "i32"] },
  // int posix_spawnattr_setsigdefault(posix_spawnattr_t *attributes, const sigset_t *signals)
  posix_spawnattr_setsigdefault: { result: "i32", args: ["bytes", "bytes"] },
  // int posix_spawnattr_setsigmask(posix_spawnattr_t *attributes, const sigset_t *signals)
  posix_spawnattr_setsigmask: { result: "i32", args: ["bytes", "bytes"] },
  // int sigfillset(sigset_t *signals)
  sigfillset: { result: "i32", args: ["bytes"] },
} as const;

const PROCESSES = {
  // long syscall(SYS_pidfd_open, pid_t pid, unsigned flags), (SYS_pidfd_send_signal, int pidfd, int signal, siginfo_t *, unsigned)
  syscall: { result: "i32", args: ["i32", "i32", "i32", "word", "u32"] },
  // int kill(pid_t pid, int signal)
  kill: { result: "i32", args: ["i32", "i32"] },
  // pid_t waitpid(pid_t pid, int *status, int options)
  waitpid: { result: "i32", args: ["i32", "bytes", "i32"] },
  // char *getenv(const char *name)
  getenv: { result: "word", args: ["bytes"] },
  // size_t strlen(const char *text)
  strlen: { result: "word", args: ["word"] },
  // void *dlsym(void *handle, const char *name)
  dlsym: { result: "word", args: ["word", "bytes"] },
} as const;

/** glibc 2.34 brought it; other C libraries have none. */
const CLOSE_FROM = {
  // int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int fd)
  posix_spawn_file_actions_addclosefrom_np: { result: "i32", args: ["bytes", "i32"] },
} as const;

const SYS_PIDFD_SEND_SIGNAL = 424;
const SYS_PIDFD_OPEN = 434;

const POSIX_SPAWN_SETSIGDEF = 0x04;
const POSIX_SPAWN_SETSIGMASK = 0x08;
const POSIX_SPAWN_SETSID = 0x80;

/** More than any C library's `posix_spawn_file_actions_t`, `posix_spawnattr_t` and `sigset_t`, which are 80, 336 and 128 bytes. */
const ACTIONS_SIZE = 256;
const ATTRIBUTES_SIZE = 512;
const SIGNALS_SIZE = 256;
const POINTER_SIZE = 8;
/** What is open in every process: a descriptor from here on is no standard stream. */
const FIRST_FREE = 3;

type Calls = Functions<typeof SPAWN> & Functions<typeof PROCESSES>;

let opened: Calls | undefined;

function calls(): Calls {
  return opened ??= { ...adapter.open(system().libc, SPAWN), ...adapter.open(system().libc, PROCESSES) };
}

let closeFrom: Functions<typeof CLOSE_FROM> | null | undefined;

function openCloseFrom(): Functions<typeof CLOSE_FROM> | null {
  try {
    return adapter.open(system().libc, CLOSE_FROM);
  } catch {
    return null;
  }
}

/** What one of the child's standard streams is: this descriptor of ours, nothing at all, or what ours is. */
export type Stream = { readonly fd: number } | "ignore" | "inherit";

/** What to start. */
export interface Program {
  /** The file, with a slash in its path. */
  readonly file: string;
  /** What the program sees as its arguments, its name first. */
  readonly argv: readonly string[];
  /** `NAME=value` each; null: this process's own. */
  readonly env: readonly string[] | null;
  /** Where it runs; undefined: where this process does. */
  readonly cwd: string | undefined;
  /** Standard input, output and error. */
  readonly streams: readonly Stream[];
  /** Whether it leads a session of its own, away from this one's terminal. */
  readonly detached: boolean;
}

/** A process that was started. */
export interface Started {
  /** Its number. */
  readonly pid: number;
  /** A descriptor that stands for it, whoever gets its number later. */
  readonly pidfd: number;
}

/**
 * Starts a program.
 *
 * @throws UringError with `syscall` "spawn" when it cannot be started.
 */
export function start(program: Program): Started {
  const c = calls();
  const actions = new Uint8Array(new ArrayBuffer(ACTIONS_SIZE));
  const attributes = new Uint8Array(new ArrayBuffer(ATTRIBUTES_SIZE));
  // What the actions point to until they are carried out, libc copies.
  check(c.posix_spawn_file_actions_init(actions), program);
  try {
    addActions(c, actions, program);
    check(c.posix_spawnattr_init(attributes), program);
    try {
      setAttributes(c, attributes, program);
      const pid = new Int32Array(1);
      const argv = strings(program.argv);
      const env = program.env === null ? null : strings(program.env);
      const file = cString(program.file);
      const envp = env === null ? environment() : env.address;
      check(c.posix_spawn(new Uint8Array(pid.buffer), file, actions, attributes, argv.bytes, envp), program);
      return { pid: pid[0]!, pidfd: openPidfd(pid[0]!, program) };
    } finally {
      c.posix_spawnattr_destroy(attributes);
    }
  } finally {
    c.posix_spawn_file_actions_destroy(actions);
  }
}

function addActions(c: Calls, actions: Uint8Array, program: Program): void {
  if (program.cwd !== undefined) {
    check(c.posix_spawn_file_actions_addchdir_np(actions, cString(program.cwd)), program);
  }
  for (const [target, stream] of program.streams.entries()) {
    if (stream === "inherit") continue;
    const result = stream === "ignore"
      ? c.posix_spawn_file_actions_addopen(actions, target, cString("/dev/null"), O_RDWR, 0)
      : c.posix_spawn_file_actions_adddup2(actions, stream.fd, target);
    check(result, program);
  }
  // What others have opened without O_CLOEXEC is not for the child.
  if (closeFrom === undefined) closeFrom = openCloseFrom();
  closeFrom?.posix_spawn_file_actions_addclosefrom_np(actions, FIRST_FREE);
}

/** Signals are as they are in a program from a shell: the runtimes ignore `SIGPIPE`, and that would be inherited. */
function setAttributes(c: Calls, attributes: Uint8Array, { detached }: Program): void {
  const signals = new Uint8Array(new ArrayBuffer(SIGNALS_SIZE));
  c.posix_spawnattr_setsigmask(attributes, signals);
  c.sigfillset(signals);
  c.posix_spawnattr_setsigdefault(attributes, signals);
  const flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | (detached ? POSIX_SPAWN_SETSID : 0);
  c.posix_spawnattr_setflags(attributes, flags);
}

/** These functions return the error. */
function check(result: number, { file }: Program): void {
  if (result !== 0) throw new UringError(-result, "spawn", { path: file });
}

/** The child is there until it is waited for: its number can be no other's yet. */
function openPidfd(pid: number, { file }: Program): number {
  const c = calls();
  const pidfd = c.syscall(SYS_PIDFD_OPEN, pid, 0, 0, 0);
  if (pidfd >= 0) return pidfd;
  const errno = system().errno();
  // Nobody could wait for it, or stop it.
  c.kill(pid, SIGKILL);
  c.waitpid(pid, null, 0);
  throw new UringError(errno, "pidfd_open", { path: file });
}

/** Sends a signal; returns whether there is a process still. */
export function sendSignal(pidfd: number, signal: number): boolean {
  if (calls().syscall(SYS_PIDFD_SEND_SIGNAL, pidfd, signal, 0, 0) === 0) return true;
  const errno = system().errno();
  if (errno === ESRCH) return false;
  throw new UringError(errno, "pidfd_send_signal");
}

const ESRCH = -3;

/** A descriptor that no standard stream of a child can be laid over: a copy of this one. */
export function aboveStreams(fd: number): number {
  const copy = system().files.fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE);
  if (copy < 0) throw new UringError(copy, "fcntl");
  return copy;
}

/** A null-terminated array of strings of C's, with the strings behind it. */
function strings(values: readonly string[]): Pinned {
  const encoded = values.map(cString);
  const table = (values.length + 1) * POINTER_SIZE;
  const memory = pinned(table + encoded.reduce((sum, bytes) => sum + bytes.length, 0));
  const pointers = new BigUint64Array(memory.bytes.buffer, 0, values.length + 1);
  let at = table;
  for (const [i, bytes] of encoded.entries()) {
    memory.bytes.set(bytes, at);
    pointers[i] = BigInt(memory.address + at);
    at += bytes.length;
  }
  return memory;
}

/** Where this process's environment is: C's `environ`, which needs no permission to read it. */
function environment(): number {
  const variable = calls().dlsym(0, cString("environ"));
  if (!(variable > 0)) throw new Error("The C library has no environ");
  return Number(new BigUint64Array(adapter.bufferAt(variable, POINTER_SIZE))[0]!);
}

/** A variable of C's environment; null when there is none. */
export function variable(name: string): string | null {
  const c = calls();
  const value = c.getenv(cString(name));
  if (!(value > 0)) return null;
  const length = c.strlen(value);
  return length > 0 ? new TextDecoder().decode(new Uint8Array(adapter.bufferAt(value, length)).slice()) : "";
}
