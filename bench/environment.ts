/** Where the runtimes, the compiler and the scratch files are, and what machine this is. */

import { execFileSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
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
export function example(
  runtime: Runtime,
  name: string,
  args: readonly string[],
  options?: ScriptOptions,
): Command {
  return { ...program(runtime, join(ROOT, "examples", name), args, options), endedBy: "SIGTERM" };
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

/**
 * The command that runs `bench/c/NAME.c`, compiled if need be. Throws a `MissingError` without a compiler or one of the
 * libraries that are named.
 */
export function compiled(
  name: string,
  args: readonly string[],
  libraries: readonly string[] = ["uring"],
): Command {
  const sources = [`${name}.c`, "rounds.h", "server.h", "client.h", "passthrough.h"].map((file) =>
    join(ROOT, "bench", "c", file)
  );
  const program = join(CACHE, name);
  if (!existsSync(program) || statSync(program).mtimeMs < newest(sources)) {
    mkdirSync(CACHE, { recursive: true });
    const flags = ["-O2", "-Wall", "-Wextra", "-o", program, sources[0] ?? ""];
    flags.push(...libraries.map((library) => `-l${library}`));
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

/** How many pages are written or read at a time while files are made. */
const PIECE = 4096;
/** What is left free on the disk, in bytes. */
const LEFT_FREE = 2 ** 30;

/** Throws a `MissingError` when there is not so much room for files that are to be made. */
export function assertRoom(bytes: number): void {
  mkdirSync(CACHE, { recursive: true });
  const { bavail, bsize } = statfsSync(CACHE);
  if (bavail * bsize < bytes + LEFT_FREE) {
    throw new MissingError(`no room on the disk for ${Math.ceil(bytes / 2 ** 20)} MiB`);
  }
}

function writePages(path: string, pages: number): void {
  assertRoom(pages * PAGE);
  const fd = openSync(path, "w");
  for (let first = 0; first < pages; first += PIECE) {
    const words = new Uint32Array(Math.min(PIECE, pages - first) * PAGE / 4);
    for (let page = 0; page * PAGE / 4 < words.length; page++) words[page * PAGE / 4] = first + page;
    writeSync(fd, words);
  }
  // What is still to be written would be written while something is measured.
  fsyncSync(fd);
  closeSync(fd);
}

function dataPath(pages: number): string {
  return join(CACHE, `pages-${pages}`);
}

/** Removes a {@linkcode dataFile}: large ones are not left lying about. */
export function removeDataFile(pages: number): void {
  rmSync(dataPath(pages), { force: true });
}

/** A file of `pages` pages, each of which starts with its own number; in the page cache when this returns. */
export function dataFile(pages: number): string {
  const path = dataPath(pages);
  if (!existsSync(path) || statSync(path).size !== pages * PAGE) writePages(path, pages);
  const fd = openSync(path, "r");
  const piece = new Uint8Array(PIECE * PAGE);
  while (readSync(fd, piece) > 0);
  closeSync(fd);
  return path;
}

/** The tree that is walked. */
export const MODULES: string = join(ROOT, "node_modules");

/** How many entries there are below a directory. */
export function entriesBelow(directory: string): number {
  return readdirSync(directory, { recursive: true }).length;
}

/** The paths of {@linkcode smallFiles}. */
export function smallPaths(count: number): string[] {
  return Array.from({ length: count }, (_, i) => join(CACHE, `small-${count}`, `f${i}`));
}

/** A directory of `count` files of 1 to 4 KiB, `f0` and so on; on the disk and in the page cache when this returns. */
export function smallFiles(count: number): string {
  const directory = join(CACHE, `small-${count}`);
  const paths = smallPaths(count);
  if (!existsSync(paths.at(-1)!)) {
    assertRoom(count * PAGE);
    mkdirSync(directory, { recursive: true });
    paths.forEach((path, i) => writeFileSync(path, new Uint8Array(1024 + i * 37 % 3073).fill(i)));
    // Pages that are not on the disk stay in the cache.
    execFileSync("sync", ["-f", directory]);
  }
  for (const path of paths) readFileSync(path);
  return directory;
}

const TREE_DIRECTORIES = 16;
const TREE_FILES = 64;
/** How many entries {@linkcode makeTree} makes. */
export const TREE_ENTRIES: number = TREE_DIRECTORIES * (1 + TREE_FILES);

/** A tree of directories and files to be removed, made anew. */
export function makeTree(path: string): void {
  rmSync(path, { recursive: true, force: true });
  // Half of the directories are in the others.
  const half = TREE_DIRECTORIES / 2;
  for (let i = 0; i < TREE_DIRECTORIES; i++) {
    const directory = join(path, ...(i < half ? [`d${i}`] : [`d${i - half}`, "d"]));
    mkdirSync(directory, { recursive: true });
    for (let j = 0; j < TREE_FILES; j++) writeFileSync(join(directory, `f${j}`), "");
  }
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
