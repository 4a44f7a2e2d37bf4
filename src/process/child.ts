/**
 * A child process.
 *
 * @module
 */
import { WEXITED, WNOWAIT } from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import { type ChildStatus, Uring } from "../mod.ts";
import type { Closable } from "./pipes.ts";
import { sendSignal, type Started } from "./posix_spawn.ts";
import { type Signal, signalName, signalNumber } from "./signals.ts";

/** How a child ended. */
export interface ExitStatus {
  /** The exit code; null when a signal ended it. */
  readonly code: number | null;
  /** The signal that ended it, otherwise null. */
  readonly signal: Signal | `${number}` | null;
}

/** How a child ended, and what it had written. */
export interface Output extends ExitStatus {
  /** What it wrote to standard output; empty when that was no pipe. */
  readonly stdout: Uint8Array<ArrayBuffer>;
  /** What it wrote to standard error; empty when that was no pipe. */
  readonly stderr: Uint8Array<ArrayBuffer>;
}

/** What a child reads, as its parent writes it. */
export type Input = WritableStream<Uint8Array>;

/** What a child writes, as its parent reads it. */
export type Reading = ReadableStream<Uint8Array<ArrayBuffer>>;

/** Our ends of a child's standard streams. @internal */
export interface Pipes {
  readonly stdin: Input | null;
  readonly stdout: Reading | null;
  readonly stderr: Reading | null;
  readonly ends: readonly Closable[];
}

/** A ring for the children that nobody waits for: it keeps no program alive. */
let quiet: Uring | undefined;
const SWITCH = Symbol("switch");

/** Somebody has waited for it first; nothing in this library does, nor do the runtimes. */
const GONE: ExitStatus = { code: null, signal: null };

/**
 * A program that was started with `spawn`. While it runs it keeps this program alive, unless {@link ChildProcess.unref} was
 * called.
 */
export class ChildProcess<
  In extends Input | null = Input | null,
  Out extends Reading | null = Reading | null,
  Err extends Reading | null = Reading | null,
> implements AsyncDisposable {
  /** Its number. */
  readonly pid: number;
  /** Its standard input with `stdin: "pipe"`, otherwise null. Close it to let the child see the end. */
  readonly stdin: In;
  /** Its standard output with `stdout: "pipe"`, otherwise null. */
  readonly stdout: Out;
  /** Its standard error with `stderr: "pipe"`, otherwise null. */
  readonly stderr: Err;
  /** Resolves when it has ended, with how. */
  readonly exited: Promise<ExitStatus>;
  readonly #pidfd: number;
  readonly #ends: readonly Closable[];
  #status: ExitStatus | null = null;
  #referenced = true;
  #switch: AbortController = new AbortController();

  /** @internal */
  constructor({ pid, pidfd }: Started, { stdin, stdout, stderr, ends }: Pipes) {
    this.pid = pid;
    this.stdin = stdin as In;
    this.stdout = stdout as Out;
    this.stderr = stderr as Err;
    this.#pidfd = pidfd;
    this.#ends = ends;
    this.exited = this.#wait();
  }

  /** The exit code; null while it runs, and when a signal ended it. */
  get exitCode(): number | null {
    return this.#status?.code ?? null;
  }

  /** The signal that ended it; null while it runs, and when it exited. */
  get signalCode(): Signal | `${number}` | null {
    return this.#status?.signal ?? null;
  }

  /**
   * Sends a signal. Returns false when the child has ended already; its number may be another's by then, which never
   * gets it. 0 only asks whether it is there.
   *
   * @throws TypeError when there is no such signal.
   */
  kill(signal: Signal | number = "SIGTERM"): boolean {
    const number = signalNumber(signal);
    return this.#status === null && sendSignal(this.#pidfd, number);
  }

  /**
   * Reads its standard output and error until their end, and waits for the child. Standard input is closed first, unless
   * somebody writes to it.
   */
  async output(): Promise<Output> {
    const { stdin } = this as { stdin: Input | null };
    const [stdout, stderr, status] = await Promise.all([
      collect(this.stdout),
      collect(this.stderr),
      this.exited,
      stdin === null || stdin.locked ? undefined : stdin.close().catch(() => {}),
    ]);
    return { ...status, stdout, stderr };
  }

  /** Lets this program end while the child runs. */
  unref(): void {
    this.#refer(false);
  }

  /** Undoes {@link ChildProcess.unref}. */
  ref(): void {
    this.#refer(true);
  }

  /** Ends it with `SIGKILL` if it still runs, closes its pipes and waits for it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGKILL");
    await Promise.all(this.#ends.map((end) => end.close()));
    await this.exited;
  }

  #refer(referenced: boolean): void {
    if (this.#referenced === referenced || this.#status !== null) return;
    this.#referenced = referenced;
    this.#switch.abort(SWITCH);
  }

  async #wait(): Promise<ExitStatus> {
    let status: ChildStatus | null = null;
    while (status === null) {
      try {
        // Looking only: what is seen while the ring is changed must be there to be seen again.
        const { signal } = this.#switch;
        await this.#ring().waitid({ pidfd: this.#pidfd }, { flags: WEXITED | WNOWAIT, signal });
      } catch (error) {
        if (error !== SWITCH) return this.#ended(GONE, error);
        this.#switch = new AbortController();
        continue;
      }
      status = await this.#ring().waitid({ pidfd: this.#pidfd }, { noHang: true });
    }
    return this.#ended({
      code: status.exitCode,
      signal: status.signal === null ? null : signalName(status.signal),
    });
  }

  #ended(status: ExitStatus, error?: unknown): ExitStatus {
    this.#status = status;
    system().close(this.#pidfd);
    if (error !== undefined) throw error;
    return status;
  }

  #ring(): Uring {
    if (this.#referenced) return Uring.shared;
    if (quiet === undefined) {
      quiet = new Uring({ entries: 8 });
      quiet.unref();
    }
    return quiet;
  }
}

async function collect(stream: Reading | null): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  if (stream !== null) {
    const reader = stream.getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      chunks.push(next.value);
      length += next.value.length;
    }
  }
  const all = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}
