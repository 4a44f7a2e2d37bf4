/** Benchmarks that are measured in the lab, for want of a device or a driver on the machine at hand. */

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { Report } from "./benchmark.ts";
import { complaint, MissingError } from "./child.ts";
import { compiled, ROOT } from "./environment.ts";
import type { Settings } from "./harness.ts";

/** In the lab: where the directory is that it was given. */
export const GIVEN = "/in";

/** Whether this is the lab. */
export function inLab(): boolean {
  return process.env["URING_LAB"] !== undefined;
}

/**
 * Runs the benchmark of this name in the lab. It finds `bench/c/NAME.c` compiled in {@linkcode GIVEN}.
 *
 * @returns What it printed, and every sample.
 */
export function measureInLab(name: string, { rounds, roundMs }: Settings): Report {
  const given = mkdtempSync(join(os.tmpdir(), "uring-bench-"));
  const results = join(given, "results");
  try {
    copyFileSync(compiled(name, []).program, join(given, name));
    const options = [
      "--rounds",
      String(rounds),
      "--round-ms",
      String(roundMs),
      "--json",
      `/out/${name}.json`,
    ];
    const text = execFileSync(join(ROOT, "scripts/lab"), ["bun", "bench/main.ts", name, ...options], {
      env: { ...process.env, URING_LAB_IN: given, URING_LAB_OUT: results },
      stdio: ["ignore", "pipe", "pipe"],
      encoding: "utf8",
    });
    const raw: unknown = JSON.parse(readFileSync(join(results, `${name}.json`), "utf8"));
    return { text, raw };
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    if (error instanceof MissingError) return { text: `${name}: missing: ${error.message}\n` };
    if (stderr === undefined) throw error;
    return { text: `${name}: missing: ${complaint(stderr)}\n` };
  } finally {
    rmSync(given, { recursive: true, force: true });
  }
}
