/**
 * `spawn`.
 *
 * @module
 */
import { AT_FDCWD } from "../ffi/abi.ts";
import { cString } from "../ffi/cstring.ts";
import { ownEnvironment } from "../ffi/environment.ts";
import { UringError } from "../ffi/errors.ts";
import { system } from "../ffi/system.ts";
import { Uring } from "../mod.ts";
import { ChildProcess, type Input, type Pipes, type Reading } from "./child.ts";
import { openPipe, readableOf, writableOf } from "./pipes.ts";
import { aboveStreams, type Program, start, type Started, type Stream, variable } from "./posix_spawn.ts";
import { type Signal, signalNumber } from "./signals.ts";

/**
 * What a standard stream of a child is: a pipe to this process, nothing (`/dev/null`), what this process's is, or a
 * descriptor of this process, which stays open here.
 */
export type Stdio = "pipe" | "ignore" | "inherit" | number;

/** Options of {@link spawn}. */
export interface SpawnOptions {
  /** Standard input; default `"ignore"`. */
  stdin?: Stdio | undefined;
  /** Standard output; default `"pipe"`. */
  stdout?: Stdio | undefined;
  /** Standard error; default `"inherit"`. */
  stderr?: Stdio | undefined;
  /** Where it runs; default: where this process does. */
  cwd?: string | undefined;
  /** Its environment, all of it; variables that are undefined are left out. Default: this process's. */
  env?: Readonly<Record<string, string | undefined>> | undefined;
  /** What it sees as its own name; default: the command. */
  argv0?: string | undefined;
  /** Whether it leads a session of its own, away from this one's terminal and its signals; default false. */
  detached?: boolean | undefined;
  /** Ends the child when it aborts. */
  signal?: AbortSignal | undefined;
  /** Ends the child after so many milliseconds. */
  timeout?: number | undefined;
  /** What `signal` and `timeout` send; default `"SIGTERM"`. */
  killSignal?: Signal | number | undefined;
}

type Has<O, Name extends keyof SpawnOptions, Default> = O extends Readonly<Record<Name, infer Given>>
  ? Given extends undefined ? Default : Given
  : Default;
type Piped<Given, Pipe> = [Given] extends ["pipe"] ? Pipe : "pipe" extends Given ? Pipe | null : null;

/** A child whose pipes are there as the options say. */
export type Spawned<O extends SpawnOptions> = ChildProcess<
  Piped<Has<O, "stdin", "ignore">, Input>,
  Piped<Has<O, "stdout", "pipe">, Reading>,
  Piped<Has<O, "stderr", "inherit">, Reading>
>;

/** Where programs are when nothing says so. */
const PATH = "/usr/local/bin:/usr/bin:/bin";
const NAMES = ["stdin", "stdout", "stderr"] as const;
const F_OK = 0;
const ENOENT = -2;
const EACCES = -13;
const ENOTDIR = -20;
const LONGEST = 0x7fff_ffff;

/**
 * Starts a program, without a shell. A command without a slash is looked for in the child's `PATH`.
 *
 * The child is made by `posix_spawn`; its end is awaited by `IORING_OP_WAITID` (Linux 6.7) and its pipes are read and written
 * by the ring of this thread. Of this process's descriptors it gets its standard streams alone (with a C library other than glibc
 * 2.34 and later: those without `O_CLOEXEC`, too).
 *
 * @throws UringError with `syscall` "spawn" and `path` when the program cannot be started: `ENOENT`, `EACCES`, `ENOEXEC`…;
 * TypeError for options that make no sense.
 *
 * @example
 * ```ts
 * import { spawn } from "uring/process";
 * await using child = spawn("sort", ["-u"], { stdin: "pipe" });
 * const writer = child.stdin.getWriter();
 * await writer.write(new TextEncoder().encode("b\na\nb\n"));
 * await writer.close();
 * const { code, stdout } = await child.output();
 * console.log(code, new TextDecoder().decode(stdout));
 * ```
 */
export function spawn<const O extends SpawnOptions = Record<never, never>>(
  command: string,
  args: readonly string[] = [],
  options?: O,
): Spawned<O> {
  const given: SpawnOptions = options ?? {};
  checkArguments(command, args, given);
  const killSignal = signalNumber(given.killSignal ?? "SIGTERM");
  given.signal?.throwIfAborted();
  // A child that nobody could wait for is not started.
  void Uring.shared;
  const env = given.env === undefined ? ownEnvironment() : entriesOf(given.env);
  const { cwd, detached = false } = given;
  const files = command.includes("/") ? [command] : found(command, cwd, pathIn(env));
  const streams = new Streams(given);
  let child: ChildProcess;
  try {
    const argv = [given.argv0 ?? command, ...args];
    const started = startFirst(command, files, { argv, env, cwd, streams: streams.theirs, detached });
    child = new ChildProcess(started, streams.ours());
  } catch (error) {
    streams.discard();
    throw error;
  }
  streams.closeTheirs();
  endsBy(child, given, killSignal);
  return child as Spawned<O>;
}

function checkArguments(command: string, args: readonly string[], options: SpawnOptions): void {
  if (typeof command !== "string" || command === "") {
    throw new TypeError("The command is a string, and not empty");
  }
  if (!Array.isArray(args) || args.some((arg) => typeof arg !== "string")) {
    throw new TypeError("The arguments are an array of strings");
  }
  for (const name of ["cwd", "argv0"] as const) {
    if (options[name] !== undefined && typeof options[name] !== "string") {
      throw new TypeError(`${name} is a string`);
    }
  }
  const { timeout, signal } = options;
  if (timeout !== undefined && !(typeof timeout === "number" && timeout >= 0 && timeout <= LONGEST)) {
    throw new RangeError(`A timeout is a number of milliseconds from 0 to ${LONGEST}, not ${timeout}`);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new TypeError("signal is an AbortSignal");
  }
}

function entriesOf(env: Readonly<Record<string, string | undefined>>): string[] {
  const entries: string[] = [];
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined) continue;
    if (name === "" || name.includes("=")) {
      throw new TypeError(`A variable cannot be named ${JSON.stringify(name)}`);
    }
    entries.push(`${name}=${value}`);
  }
  return entries;
}

/** Where the child's programs are. */
function pathIn(env: readonly string[] | null): string {
  if (env === null) return variable("PATH") ?? PATH;
  return env.find((entry) => entry.startsWith("PATH="))?.slice("PATH=".length) ?? PATH;
}

/** The files in the directories of a `PATH` that may be what is meant, in order. */
function found(command: string, cwd: string | undefined, path: string): string[] {
  const files = path.split(":").map((directory) => `${directory === "" ? "." : directory}/${command}`);
  return files.filter((file) => {
    const here = file.startsWith("/") || cwd === undefined ? file : `${cwd}/${file}`;
    return system().files.faccessat(AT_FDCWD, cString(here), F_OK, 0) === 0;
  });
}

/** Starts the first of some files that can be started. */
function startFirst(command: string, files: readonly string[], program: Omit<Program, "file">): Started {
  let errno = ENOENT;
  for (const file of files) {
    try {
      return start({ ...program, file });
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      errno = error.errno;
      // Another directory of that name, or a file that is not for this user: a shell goes on, too.
      if (errno !== EACCES && errno !== ENOTDIR) break;
    }
  }
  throw new UringError(errno, "spawn", { path: command });
}

/** The standard streams of a child to be. */
class Streams {
  /** What the child gets. */
  readonly theirs: Stream[] = [];
  /** The ends of pipes that are ours, in the order of the streams. */
  readonly #ours: (number | null)[] = [];
  /** What is to be closed here when the child has it. */
  readonly #lent: number[] = [];

  constructor({ stdin = "ignore", stdout = "pipe", stderr = "inherit" }: SpawnOptions) {
    try {
      for (const [i, stdio] of [stdin, stdout, stderr].entries()) this.#add(NAMES[i]!, stdio, i === 0);
    } catch (error) {
      this.discard();
      throw error;
    }
  }

  #add(name: string, stdio: Stdio, input: boolean): void {
    if (stdio === "pipe") {
      const { reader, writer } = openPipe();
      this.#lend(input ? reader : writer);
      this.#ours.push(input ? writer : reader);
    } else if (typeof stdio === "number") {
      if (!Number.isInteger(stdio) || stdio < 0 || stdio > LONGEST) {
        throw new RangeError(`${name} is no descriptor: ${stdio}`);
      }
      this.#lend(aboveStreams(stdio));
      this.#ours.push(null);
    } else {
      if (stdio !== "ignore" && stdio !== "inherit") {
        throw new TypeError(
          `${name} is "pipe", "ignore", "inherit" or a descriptor, not ${JSON.stringify(stdio)}`,
        );
      }
      this.theirs.push(stdio);
      this.#ours.push(null);
    }
  }

  #lend(fd: number): void {
    this.theirs.push({ fd });
    this.#lent.push(fd);
  }

  /** Our ends as streams. */
  ours(): Pipes {
    const [stdin, stdout, stderr] = this.#ours as [number | null, number | null, number | null];
    const input = stdin === null ? null : writableOf(stdin);
    const output = stdout === null ? null : readableOf(stdout);
    const errors = stderr === null ? null : readableOf(stderr);
    this.#ours.length = 0;
    return {
      stdin: input?.stream ?? null,
      stdout: output?.stream ?? null,
      stderr: errors?.stream ?? null,
      ends: [input, output, errors].flatMap((pipe) => pipe === null ? [] : [pipe.end]),
    };
  }

  /** Closes here what the child has. */
  closeTheirs(): void {
    for (const fd of this.#lent) system().close(fd);
    this.#lent.length = 0;
  }

  /** Closes everything: there is no child. */
  discard(): void {
    this.closeTheirs();
    for (const fd of this.#ours) if (fd !== null) system().close(fd);
  }
}

/** Sends the signal in time, and leaves nothing behind when the child has ended. */
function endsBy(child: ChildProcess, { signal, timeout }: SpawnOptions, killSignal: number): void {
  if (signal === undefined && timeout === undefined) return;
  const kill = (): void => void child.kill(killSignal);
  const timer = timeout === undefined ? undefined : setTimeout(kill, timeout);
  signal?.addEventListener("abort", kill, { once: true });
  const done = (): void => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", kill);
  };
  child.exited.then(done, done);
}
