/**
 * Servers among the examples, run as a user would, and the clients of others that talk to them.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { probe } from "uring";
import { firstReason } from "../support/gate.ts";

const BUN = process.versions["bun"] !== undefined;
const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Milliseconds after which a program that does not end is killed. */
const LIMIT = 90_000;
/** As `/proc/net/tcp` has it. */
const LISTENING = "0A";

/** How a program ended, and what it said. */
export interface Ended {
  /** The exit status, or the name of the signal. */
  readonly status: number | string;
  readonly out: Buffer;
  readonly err: string;
}

/** An example that listens, or mounts. */
export interface Serving {
  readonly pid: number;
  /** What it says it listens at, or has mounted at. */
  readonly address: string;
  /** The port of it; NaN for a path. */
  readonly port: number;
  /** Resolves when it has ended, however that came. */
  readonly ended: Promise<Ended>;
  /** Sends a signal; fails unless the program ends well, says nothing of errors, and leaves its port. */
  stop(signal?: "SIGINT" | "SIGTERM"): Promise<void>;
}

function watch(child: ChildProcessWithoutNullStreams): Promise<Ended> {
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (bytes) => out.push(bytes));
  child.stderr.on("data", (bytes) => err.push(bytes));
  const killer = setTimeout(() => child.kill("SIGKILL"), LIMIT);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(killer);
      resolve({ status: code ?? signal ?? "", out: Buffer.concat(out), err: Buffer.concat(err).toString() });
    });
  });
}

/** Runs a program of others to its end, with `input` as its standard input. */
export async function client(
  program: string,
  args: readonly string[],
  input: string | Uint8Array = "",
): Promise<Ended> {
  const child = spawn(program, [...args]);
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  return await watch(child);
}

/** What a program says that has to end well. */
export async function said(
  program: string,
  args: readonly string[],
  input?: string | Uint8Array,
): Promise<string> {
  const { status, out, err } = await client(program, args, input);
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${status}\n${out}${err}`);
  return out.toString();
}

/** The command of an example: in Deno with the one permission that it needs, and those that are named. */
function startExample(
  example: string,
  args: readonly string[],
  permissions: readonly string[],
): ChildProcessWithoutNullStreams {
  const options = BUN ? [] : ["run", "--allow-ffi", ...permissions, "--no-prompt", "--no-check", "--quiet"];
  // Deno's node:child_process gives all permissions to every Deno that it finds in a command line: it must not find it.
  return spawn("sh", [
    "-c",
    'exec "$TEST_RUNTIME" "$@"',
    "sh",
    ...options,
    `${ROOT}examples/${example}`,
    ...args,
  ], {
    env: { ...process.env, TEST_RUNTIME: process.execPath },
  });
}

/** Runs an example to its end. */
export function ended(
  example: string,
  args: readonly string[],
  permissions: readonly string[] = [],
): Promise<Ended> {
  return watch(startExample(example, args, permissions));
}

/** Whether nobody listens at a port of 127.0.0.1. */
async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const free = await new Promise<boolean>((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => resolve(true));
  });
  if (free) await new Promise((resolve) => server.close(resolve));
  return free;
}

/** Whether nobody has a UDP port of 127.0.0.1. */
function isFreeForDatagrams(port: number): Promise<boolean> {
  const socket = createSocket("udp4");
  return new Promise((resolve) => {
    socket.once("error", () => socket.close(() => resolve(false)));
    socket.bind(port, "127.0.0.1", () => socket.close(() => resolve(true)));
  });
}

/** How many sockets listen at a port of an IPv4 address. Looked up, since a server may mind a connection that says nothing. */
export function listeners(port: number): number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return readFileSync("/proc/net/tcp", "utf8").split("\n").map((line) => line.trim().split(/\s+/))
    .filter(([, address = "", , state]) => address.endsWith(local) && state === LISTENING).length;
}

/** A port of 127.0.0.1 that nobody listens at. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Starts an example and waits until it listens. */
export async function serving(
  example: string,
  args: readonly string[],
  permissions: readonly string[] = [],
): Promise<Serving> {
  const child = startExample(example, args, permissions);
  const end = watch(child);
  const address = await new Promise<string>((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (bytes) => {
      text += bytes;
      const [, found] = /^(?:listening on|mounted at) (.+)\n/m.exec(text) ?? [];
      if (found !== undefined) resolve(found);
    });
    end.then(({ status, err }) => reject(new Error(`${example} ended with ${status}: ${err}`)), reject);
  });
  const port = Number(/:(\d+)$/.exec(address)?.[1] ?? NaN);
  return {
    pid: child.pid!,
    address,
    port,
    ended: end,
    async stop(signal = "SIGTERM"): Promise<void> {
      // `child.kill` would have Deno tell the signal instead of the status.
      process.kill(child.pid!, signal);
      const { status, out, err } = await end;
      assert.deepEqual([status, err], [0, ""]);
      assert.match(out.toString(), /\nstopped\n$/);
      const free = example.startsWith("udp") ? isFreeForDatagrams : isFree;
      if (port > 0) assert.ok(await free(port), `somebody still listens at ${port}`);
    },
  };
}

/** Runs `body` beside an example that listens, and stops it in the end. */
export async function beside(
  example: string,
  args: readonly string[],
  body: (server: Serving) => Promise<void>,
  permissions?: readonly string[],
): Promise<void> {
  const server = await serving(example, args, permissions);
  let done = false;
  try {
    await body(server);
    done = true;
  } finally {
    // After a failure what the server does is of no interest.
    if (!done) process.kill(server.pid, "SIGKILL");
  }
  await server.stop();
}

/** Why examples that listen cannot run here, or `false`. */
export function cannotServe(): string | false {
  const found = probe();
  return firstReason(
    !found.available && found.message,
    found.available && !found.operations.has("IORING_OP_BIND") && "bind and listen need Linux 6.11",
  );
}

/** Why a program cannot be used, or `false`. */
export function lacks(...programs: readonly string[]): string | false {
  const missing = programs.find((program) => spawnSync("sh", ["-c", `command -v "${program}"`]).status !== 0);
  return missing === undefined ? false : `${missing} is not installed`;
}

/** Where nginx is, if it is there: the one that the scripts have unpacked, or an installed one. */
export function findNginx(): string | null {
  const unpacked = process.env["NGINX"] ?? `${ROOT}.cache/nginx/usr/sbin/nginx`;
  return [unpacked, "/usr/sbin/nginx"].find((path) => existsSync(path)) ?? null;
}

/** Sends `data`, finishes, and returns all that comes back. */
export function exchange(port: number, data: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const back: Buffer[] = [];
    const socket = connect(port, "127.0.0.1");
    socket.on("data", (bytes: Buffer) => back.push(bytes));
    socket.once("error", reject);
    socket.once("end", () => resolve(Buffer.concat(back)));
    socket.end(data);
  });
}
