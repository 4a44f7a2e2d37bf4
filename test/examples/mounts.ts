/**
 * Examples that mount a file system, and what their clients have in common.
 *
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { missingFuse, missingFuseUring, MountPoint } from "../support/fuse.ts";
import { firstReason } from "../support/gate.ts";
import { lacks, type Serving, serving } from "./servers.ts";

export { MountPoint };

/** Why nothing can be mounted here, or `false`. */
export function cannotMount(...programs: readonly string[]): string | false {
  return firstReason(missingFuse(), lacks(...programs));
}

/** Why the programs are not those whose options and output the tests know, or `false`. */
export function lacksGnu(): string | false {
  const { stdout } = spawnSync("cp", ["--version"], { encoding: "utf8" });
  return stdout?.includes("GNU") === true ? false : "cp and its like are not GNU's";
}

/** Why requests cannot come over io_uring here, or `false`. */
export const noFuseUring: () => string | false = missingFuseUring;

/** Runs `body` beside an example that mounts at `point`, and stops it in the end. */
export async function mounted(
  example: string,
  args: readonly string[],
  point: MountPoint,
  body: (server: Serving) => Promise<void>,
  signal: "SIGINT" | "SIGTERM" = "SIGTERM",
): Promise<void> {
  const server = await serving(example, args);
  let done = false;
  try {
    assert.equal(server.address, point.path);
    assert.equal(point.mounts, 1);
    await body(server);
    done = true;
  } finally {
    // After a failure what the server does is of no interest; whoever waits for it gets an error.
    if (!done) {
      try {
        process.kill(server.pid, "SIGKILL");
      } catch {
        // It has ended by itself, or was killed because it took too long.
      }
      await server.ended;
      spawnSync("umount", ["-l", point.path]);
    }
  }
  await server.stop(signal);
  assert.equal(point.mounts, 0, "it is still mounted");
}
