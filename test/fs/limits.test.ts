/** Full and read-only file systems, few descriptors, loops of links: Node's errors, nothing lost, nothing left open. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  statfsSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import * as fs from "../../src/fs/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { descriptors, failure } from "../support/operations.ts";
import { fixture, run } from "../support/program.ts";

checkLeaks({ sharedRings: 1 });

/** In memory, or in a file on a loop device. */
type Kind = "tmpfs" | "ext4";

/** What is free in a new file system, in bytes. */
const FREE = 256 * 1024;
const IMAGE = 4 * 1024 * 1024;

function command(program: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(program, args);
  if (status !== 0) throw new Error(`${program}: ${error?.message ?? stderr}`);
}

/** A file system of its own with little room, until the end of the block. */
class Mounted implements Disposable {
  readonly #dir = new TempDir();
  readonly path: string = this.#dir.of("mounted");

  constructor(kind: Kind = "tmpfs") {
    mkdirSync(this.path);
    try {
      if (kind === "tmpfs") command("mount", "-t", "tmpfs", "-o", `size=${FREE}`, "tmpfs", this.path);
      else this.#mountImage();
    } catch (error) {
      this.#dir[Symbol.dispose]();
      throw error;
    }
  }

  #mountImage(): void {
    const image = this.#dir.of("image");
    writeFileSync(image, "");
    truncateSync(image, IMAGE);
    command("mkfs.ext4", "-q", "-F", "-m", "0", image);
    command("mount", "-o", "loop", image, this.path);
    const { bavail, bsize } = statfsSync(this.path);
    writeFileSync(`${this.path}/filler`, new Uint8Array(bavail * bsize - FREE));
  }

  remount(options: string): void {
    assert.equal(spawnSync("mount", ["-o", `remount,${options}`, this.path]).status, 0);
  }

  [Symbol.dispose](): void {
    assert.equal(spawnSync("umount", [this.path]).status, 0, "nothing in it is open");
    this.#dir[Symbol.dispose]();
  }
}

function missingMount(kind: Kind): string | false {
  if (process.getuid?.() !== 0) return "only root may mount a file system";
  try {
    new Mounted(kind)[Symbol.dispose]();
    return false;
  } catch (error) {
    return (error as Error).message;
  }
}

const skip = missingMount("tmpfs");
const prlimit = spawnSync("prlimit", ["--version"]).status === 0 ? false : "prlimit is not installed";

async function fullDisk(kind: Kind): Promise<void> {
  using disk = new Mounted(kind);
  const before = descriptors().length;
  const at = (name: string): string => `${disk.path}/${name}`;
  await fs.writeFile(at("kept"), content(1000));
  const written = await failure(fs.writeFile(at("large"), content(1_000_000)));
  assert.deepEqual([written.code, written.syscall], ["ENOSPC", "write"]);
  await fs.rm(at("large"));
  using other = new TempDir();
  writeFileSync(other.of("from"), content(1_000_000));
  const copied = await failure(fs.copyFile(other.of("from"), at("copy")));
  assert.deepEqual([copied.code, copied.syscall, copied.dest], ["ENOSPC", "copyfile", at("copy")]);
  assert.equal(existsSync(at("copy")), false);
  {
    await using file = await fs.open(at("log"), "a");
    await file.append("begin");
    const errors = await Promise.all(Array.from({ length: 5 }, () => failure(file.append(content(400_000)))));
    assert.ok(errors.every(({ code }) => code === "ENOSPC"));
    await file.truncate(5);
    assert.equal(await file.append("end", { durable: true }), 5);
    const stream = file.createWriteStream({ autoClose: false });
    const failed = new Promise<Error & { code?: string }>((resolve) => stream.once("error", resolve));
    stream.end(content(1_000_000));
    assert.equal((await failed).code, "ENOSPC");
  }
  assert.equal((await failure(fs.cp(other.of("from"), at("cp")))).code, "ENOSPC");
  assert.equal((await fs.readFile(at("kept"))).length, 1000);
  assert.ok(descriptors().length <= before + 8, descriptors().join());
}

test("a full file system: ENOSPC, and what was there is there", { skip }, () => fullDisk("tmpfs"));
test(
  "a full disk: ENOSPC, and what was there is there",
  { skip: missingMount("ext4") },
  () => fullDisk("ext4"),
);

test("a read-only file system: EROFS from everything that writes", { skip }, async () => {
  using disk = new Mounted();
  const at = (name: string): string => `${disk.path}/${name}`;
  await fs.writeFile(at("file"), "x");
  await fs.mkdir(at("dir"));
  disk.remount("ro");
  const calls: readonly (readonly [string, () => Promise<unknown>])[] = [
    ["open", () => fs.writeFile(at("file"), "y")],
    ["open", () => fs.appendFile(at("file"), "y")],
    ["open", () => fs.truncate(at("file"), 0)],
    ["mkdir", () => fs.mkdir(at("new"))],
    ["rmdir", () => fs.rmdir(at("dir"))],
    ["unlink", () => fs.unlink(at("file"))],
    ["rename", () => fs.rename(at("file"), at("other"))],
    ["link", () => fs.link(at("file"), at("other"))],
    ["symlink", () => fs.symlink("file", at("other"))],
    ["chmod", () => fs.chmod(at("file"), 0)],
    ["chown", () => fs.chown(at("file"), 0, 0)],
    ["utime", () => fs.utimes(at("file"), 0, 0)],
    ["copyfile", () => fs.copyFile(at("file"), at("other"))],
    ["mkdtemp", () => fs.mkdtemp(at("t-"))],
    ["rm", () => fs.rm(at("file"))],
    ["rm", () => fs.rm(at("dir"), { recursive: true })],
  ];
  for (const [syscall, call] of calls) {
    const error = await failure(call(), syscall);
    assert.deepEqual([error.code, error.syscall], ["EROFS", syscall]);
  }
  assert.equal(await fs.readFile(at("file"), "utf8"), "x");
  assert.deepEqual(readdirSync(disk.path), ["dir", "file"]);
});

test("few descriptors: whole files need none of them, and open says EMFILE", { skip: prlimit }, async () => {
  using dir = new TempDir();
  mkdirSync(dir.of("files"));
  const { code, stdout, stderr } = await run(fixture("few_descriptors.ts"), [dir.of("files")], {
    prefix: ["prlimit", "--nofile=160:160"],
  });
  assert.deepEqual([code, stderr], [0, ""]);
  const [whole, count, refused, left] = stdout.trim().split("\n");
  assert.deepEqual([whole, count, left], ["true", "300", "300"]);
  assert.equal(refused, "true EMFILE open");
});

test("loops of links: ELOOP", async () => {
  using dir = new TempDir();
  symlinkSync("b", dir.of("a"));
  symlinkSync("a", dir.of("b"));
  for (
    const [syscall, call] of [
      ["open", () => fs.readFile(dir.of("a"))],
      ["stat", () => fs.stat(dir.of("a"))],
      ["realpath", () => fs.realpath(dir.of("a"))],
      ["access", () => fs.access(dir.of("a"))],
      ["scandir", () => fs.readdir(dir.of("a"))],
      ["chmod", () => fs.chmod(dir.of("a"), 0)],
    ] as const
  ) {
    const error = await failure(call());
    assert.deepEqual([error.code, error.syscall, error.path], ["ELOOP", syscall, dir.of("a")]);
  }
  assert.equal(await fs.readlink(dir.of("a")), "b");
});
