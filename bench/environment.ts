/** Where the runtimes, the compiler and the scratch files are, and what machine this is. */

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import os from "node:os";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type Command, complaint, MissingError } from "./child.ts";

/** The top of the repository. */
export const ROOT: string = dirname(dirname(fileURLToPath(import.meta.url)));

/** Compiled programs and data files; ignored by git, may be deleted at any time. */
export const CACHE: string = join(ROOT, ".cache", "bench");

/** The runtimes the library is measured on. */
export type Runtime = "bun" | "deno";

/** As the tables call them. */
export const RUNTIME_NAMES: Readonly<Record<Runtime, string>> = { bun: "Bun", deno: "Deno" };

/** What a program of `bench/programs/` is allowed under Deno: the library itself needs `--allow-ffi` alone. */
export type Permission = "ffi" | "read" | "write" | "env" | "sys" | "net";

/** Options of {@linkcode script}. */
export interface ScriptOptions {
  readonly allow?: readonly Permission[];
  /** Flags of the runtime itself. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

function executable(runtime: Runtime): string {
  const variable = runtime.toUpperCase();
  const path = process.env[variable];
  if (path === undefined || path === "") throw new MissingError(`${variable} is not set`);
  return path;
}

/** The command that runs a program of `bench/programs/`, or one with an absolute path, under a runtime. */
export function script(
  runtime: Runtime,
  name: string,
  args: readonly string[],
  options: ScriptOptions = {},
): Command {
  return program(runtime, resolve(ROOT, "bench/programs", name), args, options);
}

/** The command that runs an example as its users do, under a runtime. SIGTERM ends it. */
export function example(runtime: Runtime, name: string, args: readonly string[]): Command {
  return { ...program(runtime, join(ROOT, "examples", name), args), endedBy: "SIGTERM" };
}

function program(
  runtime: Runtime,
  path: string,
  args: readonly string[],
  options: ScriptOptions = {},
): Command {
  const { allow = ["ffi"], flags = [], env = {} } = options;
  const permissions = allow.map((permission) => `--allow-${permission}`);
  const before = runtime === "bun" ? flags : ["run", "--quiet", "--no-prompt", ...flags, ...permissions];
  return { program: executable(runtime), args: [...before, path, ...args], env };
}

function newest(paths: readonly string[]): number {
  return Math.max(...paths.map((path) => statSync(path).mtimeMs));
}

/** The command that runs `bench/c/NAME.c`, compiled if need be. Throws a `MissingError` without a compiler. */
export function compiled(name: string, args: readonly string[]): Command {
  const sources = [`${name}.c`, "rounds.h", "server.h"].map((file) => join(ROOT, "bench", "c", file));
  const program = join(CACHE, name);
  if (!existsSync(program) || statSync(program).mtimeMs < newest(sources)) {
    mkdirSync(CACHE, { recursive: true });
    const flags = ["-O2", "-Wall", "-Wextra", "-o", program, sources[0] ?? "", "-luring"];
    try {
      execFileSync(process.env["CC"] ?? "cc", flags, { stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });
    } catch (error) {
      const { code, stderr } = error as { code?: string; stderr?: string };
      throw new MissingError(
        code === "ENOENT" ? "no C compiler" : `not compiled: ${complaint(stderr ?? "")}`,
      );
    }
  }
  return { program, args };
}

/** The same command, on one CPU. Throws a `MissingError` without `taskset`. */
export function onCpu(cpu: number, command: Command): Command {
  if (!hasProgram("taskset")) throw new MissingError("no taskset");
  return { ...command, program: "taskset", args: ["-c", String(cpu), command.program, ...command.args] };
}

/** Whether a program is in the `PATH`. */
export function hasProgram(name: string): boolean {
  return (process.env["PATH"] ?? "").split(":").some((directory) => existsSync(join(directory, name)));
}

/** The size of the pages that the `read` benchmark reads, in bytes. */
export const PAGE = 4096;

/** A file of `pages` pages, each of which starts with its own number; in the page cache when this returns. */
export function dataFile(pages: number): string {
  const path = join(CACHE, `pages-${pages}`);
  if (!existsSync(path) || statSync(path).size !== pages * PAGE) {
    mkdirSync(CACHE, { recursive: true });
    const words = new Uint32Array(pages * PAGE / 4);
    for (let page = 0; page < pages; page++) words[page * PAGE / 4] = page;
    writeFileSync(path, words);
  }
  readFileSync(path);
  return path;
}

/** The tree that is walked. */
export const MODULES: string = join(ROOT, "node_modules");

/** How many entries there are below a directory. */
export function entriesBelow(directory: string): number {
  return readdirSync(directory, { recursive: true }).length;
}

/** A directory of `count` files of 1 to 4 KiB, `f0` and so on; in the page cache when this returns. */
export function smallFiles(count: number): string {
  const directory = join(CACHE, `small-${count}`);
  if (!existsSync(join(directory, `f${count - 1}`))) {
    mkdirSync(directory, { recursive: true });
    for (let i = 0; i < count; i++) {
      writeFileSync(join(directory, `f${i}`), new Uint8Array(1024 + i * 37 % 3073).fill(i));
    }
  }
  for (let i = 0; i < count; i++) readFileSync(join(directory, `f${i}`));
  return directory;
}

/** A file to be written. */
export function scratchFile(name: string): string {
  mkdirSync(CACHE, { recursive: true });
  return join(CACHE, `scratch-${name}`);
}

/** What the numbers depend on. */
export interface Machine {
  readonly date: string;
  readonly kernel: string;
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly bun: string;
  readonly deno: string;
  readonly liburing: string;
  readonly compiler: string;
  readonly commit: string;
}

function said(program: string, args: readonly string[]): string {
  try {
    const text = execFileSync(program, args, { stdio: ["ignore", "pipe", "ignore"], encoding: "utf8" });
    return text.split("\n")[0]?.trim() || "unknown";
  } catch {
    return "missing";
  }
}

function liburingVersion(): string {
  const version = said("pkg-config", ["--modversion", "liburing"]);
  return version === "missing" ? said("dpkg-query", ["-W", "-f", "${Version}", "liburing2"]) : version;
}

function commit(): string {
  const head = said("git", ["-C", ROOT, "rev-parse", "--short", "HEAD"]);
  const changed = said("git", ["-C", ROOT, "status", "--porcelain", "--", "src", "bench"]);
  return changed === "unknown" ? head : `${head} (changed since)`;
}

/** Asks the machine. */
export function machine(): Machine {
  return {
    date: new Date().toISOString(),
    kernel: `${os.type()} ${os.release()} ${os.arch()}`,
    cpu: os.cpus()[0]?.model.trim() ?? "unknown",
    cpus: os.cpus().length,
    memoryMiB: Math.round(os.totalmem() / 2 ** 20),
    bun: said(process.env["BUN"] || "bun", ["--version"]),
    deno: said(process.env["DENO"] || "deno", ["--version"]),
    liburing: liburingVersion(),
    compiler: said(process.env["CC"] ?? "cc", ["--version"]),
    commit: commit(),
  };
}
