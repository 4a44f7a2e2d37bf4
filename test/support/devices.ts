/**
 * Block devices that a test may write to: loop devices of its own, and those of the virtual machine that has what the
 * machine at hand lacks.
 *
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import process from "node:process";
import { TempDir } from "./descriptors.ts";
import { libc } from "./libc.ts";

/** A loop device on a file of its own. */
export class LoopDevice implements Disposable {
  /** Its path, `/dev/loop0`. */
  readonly path: string;
  readonly #dir = new TempDir();

  /** @param size In bytes. */
  constructor(size: number) {
    const file = this.#dir.of("disk");
    writeFileSync(file, "");
    truncateSync(file, size);
    let path = "";
    let failure = "";
    // Busybox's losetup does not say which device it has taken, and somebody else may take the free one first.
    for (let attempt = 0; attempt < 20; attempt++) {
      path = losetup("-f").stdout.trim();
      const { status, stderr } = losetup(path, file);
      failure = status === 0 ? "" : stderr || `status ${status}`;
      if (failure === "") break;
    }
    this.path = path;
    if (failure === "") return;
    this.#dir[Symbol.dispose]();
    throw new Error(`losetup: ${failure}`);
  }

  [Symbol.dispose](): void {
    assert.equal(losetup("-d", this.path).status, 0);
    this.#dir[Symbol.dispose]();
  }
}

function losetup(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr, error } = spawnSync("losetup", args, { encoding: "utf8" });
  return { status, stdout: stdout ?? "", stderr: stderr || String(error ?? "") };
}

/** Why there are no loop devices here, or `false`. */
export function missingLoop(): string | false {
  if (process.getuid?.() !== 0) return "only root can make loop devices";
  try {
    new LoopDevice(1 << 20)[Symbol.dispose]();
    return false;
  } catch (error) {
    return `no loop devices here: ${error}`;
  }
}

/** The kinds of disk that the virtual machine has. */
export type LabDisk = "plain" | "integrity" | "zoned";

/** The name (`nvme0n2`) of a disk of the virtual machine's that tests may write to, or null elsewhere. */
export function labDisk(kind: LabDisk): string | null {
  let names: string[];
  try {
    names = readdirSync("/sys/block");
  } catch {
    return null;
  }
  return names.find((name) => {
    const fact = (path: string): string => readFact(`/sys/block/${name}/${path}`);
    if (fact("device/serial") !== "labnvme") return false;
    // Which number a namespace gets is different from boot to boot.
    if (fact("queue/zoned") !== "none") return kind === "zoned";
    return kind === (fact("integrity/format").startsWith("T10") ? "integrity" : "plain");
  }) ?? null;
}

function readFact(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}

/** Why there is no such disk of the virtual machine's, or `false`. */
export function missingLabDisk(kind: LabDisk): string | false {
  return labDisk(kind) === null ? `there is no ${kind} disk as the test machine has` : false;
}

/** Makes a block device read-only, or writable again. */
export function setReadOnly(fd: number, readOnly: boolean): void {
  const BLKROSET = 0x125d;
  assert.equal(libc().ioctl(fd, BLKROSET, Int32Array.of(readOnly ? 1 : 0)), 0);
}
