/**
 * Runs a program under the runtime that runs the tests, to see how it ends.
 *
 * @module
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** Which runtime this is. */
export const RUNTIME: "bun" | "deno" = "Bun" in globalThis ? "bun" : "deno";

/** How a program ended, and what it said. */
export interface Ended {
  /** The exit code, or null when a signal ended it. */
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** How to run a program. */
export interface RunOptions {
  /** Deno's permissions; by default `--allow-ffi` and nothing else. */
  readonly permissions?: readonly string[];
  /** A command to put in front, such as `strace`. */
  readonly prefix?: readonly string[];
  /** Called when the program has printed a line; may send it a signal. */
  readonly onLine?: (line: string, kill: (signal: "SIGINT" | "SIGTERM") => void) => void;
}

/** A program that runs longer hangs: milliseconds. */
const WATCHDOG = 90_000;

const NOT_A_TERMINAL = { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };

/** The path of a program in `test/fixtures`. */
export function fixture(name: string): string {
  return fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
}

/** What comes after the runtime to run a file. */
function runArguments(file: string, args: readonly string[], permissions: readonly string[]): string[] {
  return RUNTIME === "bun"
    ? ["--expose-gc", "run", file, ...args]
    : ["run", "--no-check", "--v8-flags=--expose-gc", ...permissions, file, ...args];
}

/** Runs a file to its end; fails when it does not come to one. */
export async function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const { permissions = ["--allow-ffi"], prefix = [], onLine } = options;
  // Deno's node:child_process gives all permissions to every Deno that it finds in a command line: it must not find it.
  const shell = `exec ${prefix.map((word) => `'${word}'`).join(" ")} "$TEST_RUNTIME" "$@"`;
  const child = spawn("sh", ["-c", shell, "sh", ...runArguments(file, args, permissions)], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...NOT_A_TERMINAL, TEST_RUNTIME: process.execPath },
  });
  let stdout = "";
  let stderr = "";
  let lines = 0;
  let hung = false;
  child.stdout.on("data", (data) => {
    stdout += data;
    const complete = stdout.split("\n").slice(0, -1);
    for (; lines < complete.length; lines++) onLine?.(complete[lines]!, (signal) => child.kill(signal));
  });
  child.stderr.on("data", (data) => stderr += data);
  const watchdog = setTimeout(() => {
    hung = true;
    child.kill("SIGKILL");
  }, WATCHDOG);
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve([code, signal]));
  });
  clearTimeout(watchdog);
  assert.ok(!hung, `${args.join(" ")} did not end; it said:\n${stdout}${stderr}`);
  return { code, signal, stdout, stderr };
}

/** Runs a file that has to end well, and returns its output. */
export async function output(file: string, args: readonly string[], options?: RunOptions): Promise<string> {
  const { code, signal, stdout, stderr } = await run(file, args, options);
  assert.equal(code, 0, `exit code ${code}, signal ${signal}:\n${stdout}${stderr}`);
  return stdout;
}

/** Why system calls cannot be traced here, or `false`. */
export function missingStrace(): string | false {
  const found = spawnSync("strace", ["-o", "/dev/null", "true"], { encoding: "utf8" });
  if (found.error !== undefined) return "strace is not installed";
  return found.status === 0 ? false : `strace cannot trace here: ${found.stderr.split("\n")[0]}`;
}
