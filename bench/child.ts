/** The processes that are measured. */

import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";

/** A program that cannot be measured here, and why. */
export class MissingError extends Error {
  override readonly name = "MissingError";
}

/** What is run: a program and its arguments. */
export interface Command {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** What ends it; by default the end of its standard input. */
  readonly endedBy?: "SIGTERM";
}

/** The line of a program's complaints that says most: the first that names an error, or the last. */
export function complaint(stderr: string): string {
  // deno-lint-ignore no-control-regex
  const lines = stderr.replaceAll(/\x1b\[[0-9;]*m/g, "").split("\n").map((line) => line.trim());
  const telling = lines.find((line) => /error|cannot|not found|no such/i.test(line));
  return (telling ?? lines.filter((line) => line !== "").at(-1) ?? "it said nothing").slice(0, 160);
}

/** A child that answers each line it is told with one line, and sleeps in between. */
export class Child {
  readonly #process: ChildProcess;
  readonly #lines: string[] = [];
  #waiting: { resolve(line: string): void; reject(error: Error): void } | null = null;
  #stderr = "";
  #ended: Error | null = null;
  readonly #exit: Promise<void>;
  readonly #endedBy: "SIGTERM" | null;

  constructor(command: Command) {
    this.#endedBy = command.endedBy ?? null;
    this.#process = spawn(command.program, command.args, {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, ...command.env },
    });
    const { stdin, stdout, stderr } = this.#process;
    if (stdin === null || stdout === null || stderr === null) throw new Error("no pipes");
    stdin.on("error", () => {}); // The exit tells more.
    stderr.setEncoding("utf8").on("data", (text: string) => this.#stderr += text);
    createInterface({ input: stdout }).on("line", (line) => this.#receive(line));
    this.#exit = new Promise((resolve) => {
      this.#process.on("error", (error) => {
        this.#end(error);
        resolve();
      });
      this.#process.on("close", (code, signal) => {
        this.#end(new MissingError(`ended with ${signal ?? `code ${code}`}: ${complaint(this.#stderr)}`));
        resolve();
      });
    });
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  get stderr(): string {
    return this.#stderr;
  }

  #receive(line: string): void {
    const waiting = this.#waiting;
    if (waiting === null) {
      this.#lines.push(line);
      return;
    }
    this.#waiting = null;
    waiting.resolve(line);
  }

  #end(error: Error): void {
    this.#ended ??= error;
    this.#waiting?.reject(error);
    this.#waiting = null;
  }

  /** The next line the child prints. Rejects with a `MissingError` if it ends instead. */
  nextLine(): Promise<string> {
    const line = this.#lines.shift();
    if (line !== undefined) return Promise.resolve(line);
    if (this.#ended !== null) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => this.#waiting = { resolve, reject });
  }

  /** Tells the child a line and gives its answer. */
  ask(line: string): Promise<string> {
    this.#process.stdin?.write(`${line}\n`);
    return this.nextLine();
  }

  /** Closes the child's standard input, on which it ends, or sends its signal, and waits; kills it if it does not. */
  async stop(graceMs: number = 2000): Promise<void> {
    this.#process.stdin?.end();
    if (this.#endedBy !== null) this.#process.kill(this.#endedBy);
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), graceMs);
    await this.#exit;
    clearTimeout(timer);
  }
}

/** What a program printed that ran to its end. */
export interface Output {
  readonly stdout: string;
  readonly stderr: string;
  readonly ns: number;
}

/** Runs a program to its end and takes the time of it. Rejects with a `MissingError` unless it exits with 0. */
export function runToEnd(command: Command): Promise<Output> {
  return new Promise((resolve, reject) => {
    let stdout = "";
    let stderr = "";
    let exited = 0;
    const started = performance.now();
    const child = spawn(command.program, command.args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...command.env },
    });
    child.stdout.setEncoding("utf8").on("data", (text: string) => stdout += text);
    child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text);
    child.on("error", (error) => reject(new MissingError(error.message)));
    child.on("exit", () => exited = performance.now());
    child.on("close", (code, signal) => {
      if (code === 0) resolve({ stdout, stderr, ns: (exited - started) * 1e6 });
      else reject(new MissingError(`ended with ${signal ?? `code ${code}`}: ${complaint(stderr)}`));
    });
  });
}
