/**
 * Running the examples as a user would: a process of the runtime that the tests run in, and in Deno with the one
 * permission that they need.
 *
 * @module
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** How a program ended, and what it said. */
export interface Ended {
  /** The exit status, or the name of the signal. */
  readonly status: number | string;
  readonly out: Buffer;
  readonly err: string;
}

/** Milliseconds after which a program that does not end is killed; its status is `SIGKILL` then. */
const LIMIT = 30_000;

/** A program that runs. */
export interface Running {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<Ended>;
}

/** Starts an example. */
export function start(example: string, ...args: readonly string[]): Running {
  const path = fileURLToPath(new URL(`../../examples/${example}`, import.meta.url));
  const bun = process.versions["bun"] !== undefined;
  const options = bun ? [] : ["run", "--allow-ffi", "--no-prompt", "--no-check", "--quiet"];
  const child = spawn(process.execPath, [...options, path, ...args]);
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (bytes) => out.push(bytes));
  child.stderr.on("data", (bytes) => err.push(bytes));
  const killer = setTimeout(() => child.kill("SIGKILL"), LIMIT);
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(killer);
      const said = { out: Buffer.concat(out), err: Buffer.concat(err).toString() };
      resolve({ status: code ?? signal ?? "", ...said });
    });
  });
  return { child, ended };
}

/** Runs an example to its end, with `input` as its standard input. */
export async function run(
  example: string,
  args: readonly string[],
  input: Uint8Array = new Uint8Array(),
): Promise<Ended> {
  const { child, ended } = start(example, ...args);
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  return await ended;
}
