/**
 * Kernel modules and commands of the lab.
 *
 * @module
 */
import { spawnSync } from "node:child_process";

/** Runs a command that has to succeed, and returns its output. */
export function command(name: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(name, args, { encoding: "utf8" });
  if (status === 0) return stdout;
  throw new Error(`${name} ${args.join(" ")}: ${stderr || String(error ?? status)}`);
}

/** Loads a module, with its parameters. */
export function loadModule(name: string, ...parameters: readonly string[]): void {
  command("modprobe", name, ...parameters);
}
