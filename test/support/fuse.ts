/**
 * File systems that tests mount, and programs that use them: the thread that serves a file system must not.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { mount } from "../../src/fuse/mod.ts";
import { detach, deviceAt } from "../../src/fuse/mounting.ts";
import type { FileSystem, Mount, MountOptions, Name, Transport } from "../../src/fuse/mod.ts";
import { probe } from "../../src/mod.ts";
import { firstReason } from "./gate.ts";

const SWITCH = "/sys/module/fuse/parameters/enable_uring";

/** Why nothing can be mounted here, or `false`. */
export function missingFuse(): string | false {
  const found = probe();
  return firstReason(
    !found.available && found.message,
    process.getuid?.() !== 0 && "only root can mount",
    !existsSync("/dev/fuse") && "there is no /dev/fuse",
  );
}

/** Why requests cannot come over io_uring here, or `false`. */
export function missingFuseUring(): string | false {
  const missing = missingFuse();
  if (missing !== false) return missing;
  if (!existsSync(SWITCH)) return "FUSE over io_uring needs Linux 6.14";
  if (readFileSync(SWITCH, "utf8").trim() === "Y") return false;
  return "fuse.enable_uring is off; scripts/test switches it on";
}

/** The ways for requests to come that can be had here. */
export const TRANSPORTS: readonly Transport[] = missingFuse() !== false
  ? []
  : missingFuseUring() === false
  ? ["uring", "classic"]
  : ["classic"];

/** A directory to mount at. */
export class MountPoint implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), "uring-fuse-"));

  /** A path in it. */
  of(name: string): string {
    return join(this.path, name);
  }

  /** How many file systems are mounted there. */
  get mounts(): number {
    const lines = readFileSync("/proc/self/mounts", "utf8").split("\n");
    return lines.filter((line) => line.split(" ")[1] === this.path).length;
  }

  [Symbol.dispose](): void {
    // After a failure: what failed is to be seen, and nobody may be left waiting.
    while (this.mounts > 0 && detach(this.path, deviceAt(this.path)!, true) >= 0);
    rmdirSync(this.path);
  }
}

/** How a program ended. */
export interface Said {
  /** The exit status, or the name of the signal. */
  readonly status: number | string;
  readonly out: string;
  readonly err: string;
}

/** A program that runs. */
export interface Running {
  readonly pid: number;
  readonly ended: Promise<Said>;
  kill(signal: NodeJS.Signals): void;
}

/** A program that hangs is killed after so many milliseconds, and fails its test. */
const LIMIT = 30_000;

/** Starts a program. */
export function start(program: string, args: readonly string[]): Running {
  const child = spawn(program, [...args], { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.on("data", (bytes: Buffer) => out += bytes.toString("latin1"));
  child.stderr.on("data", (bytes: Buffer) => err += bytes.toString("latin1"));
  const limit = setTimeout(() => {
    err += `killed after ${LIMIT} ms`;
    child.kill("SIGKILL");
  }, LIMIT);
  const ended = new Promise<Said>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(limit);
      resolve({ status: code ?? signal ?? "", out, err });
    });
  });
  return { pid: child.pid!, ended, kill: (signal) => void child.kill(signal) };
}

/** Runs a line of shell in a directory, and returns what it says; fails where it fails. */
export async function shell(line: string, directory: string): Promise<string> {
  const { status, out, err } = await tried(line, directory);
  if (status !== 0) throw new Error(`${line}: ${status}\n${out}${err}`);
  return out;
}

/** Runs a line of shell in a directory; it may fail. */
export function tried(line: string, directory: string): Promise<Said> {
  return start("sh", ["-c", `cd "$0" && { ${line}\n}`, directory]).ended;
}

/** Mounts a file system and runs `body` beside it. */
export async function mounted(
  fs: FileSystem<Name>,
  options: MountOptions,
  body: (path: string, mount: Mount) => Promise<void>,
): Promise<void> {
  using point = new MountPoint();
  const mounted = await mount(point.path, fs as FileSystem, options);
  try {
    await body(point.path, mounted);
  } finally {
    await mounted.unmount({ timeout: 3000 });
  }
  if (point.mounts !== 0) throw new Error("it is still mounted");
}

/** The number of the only file of {@link oneFile}. */
export const FILE = 2;

/** A file system with a file `f` of so many bytes, whose other handlers are given. */
export function oneFile(size: number, handlers: Partial<FileSystem> = {}): FileSystem {
  const attributes = (node: number): { mode: number; size: number } =>
    node === FILE ? { mode: 0o100644, size } : { mode: 0o040755, size: 0 };
  return {
    getattr: attributes,
    lookup: (_, name) => name === "f" ? { node: FILE, attributes: attributes(FILE) } : null,
    ...handlers,
  };
}

/** An error as system calls have them. */
export function systemError(code: string): Error {
  return Object.assign(new Error(code), { code });
}
