/**
 * Examples that mount a file system, and what their clients have in common.
 *
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { probe } from "uring";
import { firstReason } from "../support/gate.ts";
import { lacks, type Serving, serving } from "./servers.ts";

const SWITCH = "/sys/module/fuse/parameters/enable_uring";

/** Why nothing can be mounted here, or `false`. */
export function cannotMount(...programs: readonly string[]): string | false {
  const found = probe();
  return firstReason(
    !found.available && found.message,
    process.getuid?.() !== 0 && "only root can mount",
    !existsSync("/dev/fuse") && "there is no /dev/fuse",
    lacks(...programs),
  );
}

/** Why requests cannot come over io_uring here, or `false`. */
export function noFuseUring(): string | false {
  if (!existsSync(SWITCH)) return "FUSE over io_uring needs Linux 6.14";
  return readFileSync(SWITCH, "utf8").trim() === "Y" ? false : "fuse.enable_uring is switched off";
}

/** A directory to mount at. It is removed at the end of its block, but nothing in it: that would be somebody's files. */
export class MountPoint implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), "uring-mount-"));

  /** A path in it. */
  of(name: string): string {
    return join(this.path, name);
  }

  /** Whether something is mounted there. */
  get taken(): boolean {
    return readFileSync("/proc/self/mounts", "utf8").split("\n").some((line) =>
      line.split(" ")[1] === this.path
    );
  }

  [Symbol.dispose](): void {
    if (this.taken) spawnSync("umount", ["-l", this.path]);
    rmdirSync(this.path);
  }
}

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
    assert.ok(point.taken);
    await body(server);
    done = true;
  } finally {
    // After a failure what the server does is of no interest; whoever waits for it gets an error.
    if (!done) process.kill(server.pid, "SIGKILL");
  }
  await server.stop(signal);
  assert.ok(!point.taken, "it is still mounted");
}
