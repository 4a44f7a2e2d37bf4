/**
 * Disks of `uring/ublk` and their clients.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { Buffer } from "node:buffer";
import { existsSync, readFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { O_RDWR } from "../../src/ffi/abi.ts";
import { O_DIRECT } from "../../src/ffi/arch.ts";
import type { RegisteredBuffer, Uring } from "../../src/mod.ts";
import { createDisk, type Disk, type DiskHandlers, type DiskOptions } from "../../src/ublk/mod.ts";
import { content } from "./content.ts";
import { firstReason } from "./gate.ts";
import { within } from "./loop.ts";
import { RUNTIME } from "./program.ts";
import { Random } from "./random.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const SECTOR = 512;

/** Why there can be no disks here, or `false`. */
export const noDisks: string | false = firstReason(
  process.getuid?.() === 0 ? false : "only root can make ublk devices",
  existsSync("/dev/ublk-control") ? false : "there is no /dev/ublk-control, the module ublk_drv",
);

const BASE = content(128 * 1024);
const HALF = BASE.length / 2;

/** Bytes that tell which file they are of, and where they lie in it. Made by copying: the lab is slow at loops. */
export function pattern(length: number, file: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; done += HALF) {
    // Odd, so that no two parts of a file are alike.
    const shift = (file * 4099 + done / HALF * 257) % HALF;
    bytes.set(BASE.subarray(shift, shift + Math.min(HALF, length - done)), done);
  }
  return bytes;
}

/** Fails unless bytes are those of a {@link pattern}. */
export function assertPattern(bytes: Uint8Array, file: number): void {
  const right = pattern(bytes.length, file);
  if (Buffer.compare(bytes, right) === 0) return;
  const at = bytes.findIndex((byte, i) => byte !== right[i]);
  throw new Error(`byte ${at} of ${bytes.length} of file ${file} is ${bytes[at]}, not ${right[at]}`);
}

/** A disk in memory. */
export function inMemory(memory: Uint8Array): DiskHandlers {
  return {
    read: ({ data, offset, length }) => data.set(memory.subarray(offset, offset + length)),
    write: ({ data, offset }) => memory.set(data, offset),
    discard: ({ offset, length }) => void memory.fill(0, offset, offset + length),
    writeZeroes: ({ offset, length }) => void memory.fill(0, offset, offset + length),
  };
}

/** What a disk has reported. */
export interface Reported {
  readonly error: unknown;
  readonly kind: string | null;
}

/** Makes a disk that keeps what it reports. */
export async function makeDisk(
  options: DiskOptions,
  handlers: DiskHandlers,
): Promise<{ disk: Disk; reported: Reported[] }> {
  const reported: Reported[] = [];
  const disk = await within(
    createDisk({
      onError: (error, request) => reported.push({ error, kind: request?.kind ?? null }),
      ...options,
    }, handlers),
    "the disk",
  );
  return { disk, reported };
}

/** A client of a disk: whatever it reads and writes goes to the device. */
export class DiskClient implements AsyncDisposable {
  readonly uring: Uring;
  readonly fd: number;

  private constructor(uring: Uring, fd: number) {
    this.uring = uring;
    this.fd = fd;
  }

  /** Opens a device. Not by this thread itself, nor is it closed by it: that may have to wait for what this thread serves. */
  static async open(uring: Uring, path: string, flags: number = O_RDWR): Promise<DiskClient> {
    const fd = await within(uring.openat(path, { flags: flags | O_DIRECT, async: true }), `opening ${path}`);
    return new DiskClient(uring, fd);
  }

  /** Writes the content of file number `file` to a part of the disk. */
  async write(
    buffer: RegisteredBuffer,
    start: number,
    offset: number,
    length: number,
    file: number,
  ): Promise<void> {
    const bytes = buffer.bytes.subarray(start, start + length);
    bytes.set(pattern(length, file));
    assert.equal(await this.uring.writeFixed(this.fd, buffer, { offset, start, length }), length);
  }

  /** Reads a part of the disk, which has to be the content of file number `file`. */
  async verify(
    buffer: RegisteredBuffer,
    start: number,
    offset: number,
    length: number,
    file: number,
  ): Promise<void> {
    const bytes = buffer.bytes.subarray(start, start + length);
    bytes.fill(0xee);
    assert.equal(await this.uring.readFixed(this.fd, buffer, { offset, start, length }), length);
    assertPattern(bytes, file);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.uring.close(this.fd, { async: true });
  }
}

/**
 * Writes and reads at random places of a disk, `width` at a time, and compares: every part is read after it was written,
 * and all of it at the end.
 */
export async function exercise(uring: Uring, path: string, size: number, rounds: number): Promise<void> {
  const width = 16;
  const region = Math.floor(size / width / SECTOR) * SECTOR;
  const most = Math.min(region, 64 * 1024);
  await using client = await DiskClient.open(uring, path);
  await using buffer = uring.registerBuffer(width * most);
  const random = new Random(size);
  await Promise.all(Array.from({ length: width }, async (_, lane) => {
    for (let round = 0; round < rounds; round++) {
      const length = SECTOR * (1 + random.below(round % 4 === 0 ? most / SECTOR : 16));
      const offset = lane * region + SECTOR * random.below((region - length) / SECTOR + 1);
      const file = lane * rounds + round;
      await client.write(buffer, lane * most, offset, length, file);
      await client.verify(buffer, lane * most, offset, length, file);
    }
  }));
}

/** The size of a block device in bytes. */
export function sizeOf(path: string): number {
  return Number(readFileSync(`/sys/block/${path.replace("/dev/", "")}/size`, "utf8")) * SECTOR;
}

/** An example that serves a disk, in a process of its own. */
export interface ServedDisk {
  readonly path: string;
  readonly id: number;
  readonly pid: number;
  /** Ends it with a signal; resolves with its status and what it said of errors. */
  end(signal: "SIGINT" | "SIGTERM" | "SIGKILL"): Promise<{ status: number | string; err: string }>;
}

/** Starts an example as a user would, and waits until the disk is there. */
export async function serveDisk(example: string, ...args: readonly string[]): Promise<ServedDisk> {
  const options = RUNTIME === "bun" ? [] : ["run", "--allow-ffi", "--no-prompt", "--no-check", "--quiet"];
  // Deno's node:child_process gives all permissions to every Deno that it finds in a command line: it must not find it.
  const child = spawn("sh", [
    "-c",
    'exec "$TEST_RUNTIME" "$@"',
    "sh",
    ...options,
    `${ROOT}examples/${example}`,
    ...args,
  ], {
    env: { ...process.env, TEST_RUNTIME: process.execPath },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let err = "";
  child.stderr!.on("data", (bytes) => err += bytes);
  const ended = new Promise<number | string>((resolve) => {
    child.once("close", (code, signal) => resolve(code ?? signal ?? ""));
  });
  const path = await within(firstLine(child, ended, () => err), example);
  return {
    path,
    id: Number(/\d+$/.exec(path)![0]),
    pid: child.pid!,
    async end(signal) {
      process.kill(child.pid!, signal);
      return { status: await within(ended, `the end of ${example}`), err };
    },
  };
}

function firstLine(
  child: ChildProcess,
  ended: Promise<number | string>,
  said: () => string,
): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout!.on("data", (bytes) => {
      text += bytes;
      const [, path] = /^serving (\/dev\/ublkb\d+)\n/m.exec(text) ?? [];
      if (path !== undefined) resolve(path);
    });
    ended.then((status) => reject(new Error(`the server has ended with ${status}: ${said()}`)), reject);
  });
}
