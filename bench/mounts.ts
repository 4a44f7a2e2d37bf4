/** File systems in user space that are mounted to be measured. */

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { Child, type Command, MissingError, runToEnd } from "./child.ts";
import { ROOT } from "./environment.ts";
import type { Process } from "./servers.ts";

const SWITCH = "/sys/module/fuse/parameters/enable_uring";

/** A file system that somebody serves. */
export interface Mounted extends Process {
  /** Where it is. */
  readonly path: string;
}

/** Throws a `MissingError` where nothing can be mounted. */
export function assertMounts(): void {
  if (process.getuid?.() !== 0) throw new MissingError("mounting needs root");
  if (!existsSync("/dev/fuse")) throw new MissingError("no /dev/fuse");
}

/** Does something while FUSE over io_uring is switched on, where this kernel has it, and leaves the switch as it was. */
export async function withFuseUring<T>(work: () => Promise<T>): Promise<T> {
  let before: string | null = null;
  try {
    before = readFileSync(SWITCH, "utf8").trim();
    writeFileSync(SWITCH, "Y");
  } catch {
    // An older kernel, or one without the module, or no root: who needs it will say so.
  }
  try {
    return await work();
  } finally {
    if (before !== null && before !== "Y") writeFileSync(SWITCH, before);
  }
}

/** Starts a program that mounts a directory at a mount point and says "mounted" when it serves. */
export async function startMount(name: string, command: (path: string) => Command): Promise<Mounted> {
  assertMounts();
  // Not below what is mounted.
  const path = join(ROOT, ".cache", `mnt-${name}`);
  mkdirSync(path, { recursive: true });
  const child = new Child({ ...command(path), endedBy: "SIGTERM" });
  const stop = async (): Promise<void> => {
    await child.stop();
    // One that was killed leaves its mount behind.
    await runToEnd({ program: "umount", args: ["-l", path] }).catch(() => {});
    rmdirSync(path);
  };
  try {
    const line = await child.nextLine();
    if (!line.startsWith("mounted")) throw new MissingError(`said "${line}"`);
    return { path, pid: child.pid, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
