/** readdir, opendir, rm, mkdtemp; node:fs is the other side. */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import * as fs from "../../src/fs/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { descriptors, failure } from "../support/operations.ts";
import { execFileSync } from "node:child_process";

checkLeaks({ sharedRings: 1 });

const ODD = ["grüße", "new\nline", " ", "..x", "-rf", "日本語", "a".repeat(255)];
const INVALID = new Uint8Array([0x62, 0xff, 0xfe]);

/** `path` of a name that is no text. */
function below(dir: TempDir, name: Uint8Array): Uint8Array {
  return new Uint8Array([...new TextEncoder().encode(`${dir.path}/`), ...name]);
}

async function code(promise: Promise<unknown>): Promise<string> {
  return (await failure(promise) as Error & { code: string }).code;
}

/** A tree with every kind of entry. */
function tree(dir: TempDir): void {
  mkdirSync(dir.of("d/e/f"), { recursive: true });
  mkdirSync(dir.of("empty"));
  for (const path of ["a", "b.txt", "d/c", "d/e/x", "d/e/f/y"]) writeFileSync(dir.of(path), path);
  symlinkSync("d", dir.of("link"));
}

test("readdir: names, in order, of every kind", async () => {
  using dir = new TempDir();
  assert.deepEqual(await fs.readdir(dir.path), []);
  for (const name of ODD) writeFileSync(dir.of(name), "");
  assert.deepEqual(await fs.readdir(dir.path), readdirSync(dir.path).sort());
  await fs.writeFile(below(dir, INVALID), "");
  const names = await fs.readdir(dir.path, "buffer");
  assert.equal(names.length, ODD.length + 1);
  assert.ok(names.some((name) => name.equals(INVALID)));
  for (const name of names) await fs.unlink(below(dir, name));
  assert.deepEqual(await fs.readdir(dir.path), []);
});

test("readdir: more names than one batch holds", async () => {
  using dir = new TempDir();
  const names = Array.from({ length: 5000 }, (_, i) => `name-${"x".repeat(i % 60)}-${i}`);
  await Promise.all(names.map((name) => fs.writeFile(dir.of(name), "")));
  assert.deepEqual(await fs.readdir(dir.path), [...names].sort());
  const entries = await fs.readdir(dir.path, { withFileTypes: true });
  assert.ok(entries.every((entry) => entry.isFile() && entry.parentPath === dir.path));
  await fs.rm(dir.path, { recursive: true });
  assert.equal(existsSync(dir.path), false);
  mkdirSync(dir.path);
});

test("readdir: file types", async () => {
  using dir = new TempDir();
  tree(dir);
  execFileSync("mkfifo", [dir.of("fifo")]);
  const kinds = (entry: fs.Dirent): string =>
    ([
      "isFile",
      "isDirectory",
      "isSymbolicLink",
      "isFIFO",
      "isSocket",
      "isBlockDevice",
      "isCharacterDevice",
    ] as const)
      .filter((is) => entry[is]()).join();
  const entries = await fs.readdir(dir.path, { withFileTypes: true });
  assert.deepEqual(entries.map((entry) => [entry.name, kinds(entry)]), [
    ["a", "isFile"],
    ["b.txt", "isFile"],
    ["d", "isDirectory"],
    ["empty", "isDirectory"],
    ["fifo", "isFIFO"],
    ["link", "isSymbolicLink"],
  ]);
  const devices = await fs.readdir("/dev", { withFileTypes: true });
  assert.ok(devices.find(({ name }) => name === "null")?.isCharacterDevice());
});

test("readdir: everything below, without following links", async () => {
  using dir = new TempDir();
  tree(dir);
  const expected = ["a", "b.txt", "d", "d/c", "d/e", "d/e/f", "d/e/f/y", "d/e/x", "empty", "link"];
  assert.deepEqual((await fs.readdir(dir.path, { recursive: true })).sort(), expected);
  const entries = await fs.readdir(dir.path, { recursive: true, withFileTypes: true });
  const paths = entries.map(({ parentPath, name }) => `${parentPath}/${name}`.slice(dir.path.length + 1));
  assert.deepEqual(paths.sort(), expected);
  const hex = await fs.readdir(dir.path, { recursive: true, encoding: "hex" });
  assert.ok(hex.includes(Buffer.from("d/e/f/y").toString("hex")));
});

test("readdir: errors", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  const file = await failure(fs.readdir(dir.of("file")));
  assert.equal(file.message, `ENOTDIR: not a directory, scandir '${dir.of("file")}'`);
  const none = await failure(fs.readdir(dir.of("none")));
  assert.equal(none.message, `ENOENT: no such file or directory, scandir '${dir.of("none")}'`);
  assert.equal(await code(fs.readdir(dir.path, "nonsense" as never)), "ERR_INVALID_ARG_VALUE");
  assert.equal(await code(fs.readdir(5 as never)), "ERR_INVALID_ARG_TYPE");
});

test("readdir: a directory that changes while it is walked", async () => {
  using dir = new TempDir();
  for (let i = 0; i < 50; i++) {
    mkdirSync(dir.of(`d${i}`));
    writeFileSync(dir.of(`d${i}/file`), "");
  }
  const walk = fs.readdir(dir.path, { recursive: true }).then(
    () => "whole",
    (error) => (error as { code: string }).code,
  );
  await Promise.all(Array.from({ length: 50 }, (_, i) => fs.rm(dir.of(`d${i}`), { recursive: true })));
  assert.match(await walk, /^(whole|ENOENT)$/);
});

test("opendir: entry by entry, to the end and not", async () => {
  using dir = new TempDir();
  tree(dir);
  const before = descriptors().length;
  const names: string[] = [];
  for await (const entry of await fs.opendir(dir.path)) names.push(entry.name);
  assert.deepEqual(names.sort(), ["a", "b.txt", "d", "empty", "link"]);
  for await (const _ of await fs.opendir(dir.path)) break;
  const open = await fs.opendir(dir.path, { recursive: true, bufferSize: 1 });
  assert.equal(open.path, dir.path);
  const all: string[] = [];
  for (let entry = await open.read(); entry !== null; entry = await open.read()) {
    all.push(`${entry.parentPath}/${entry.name}`.slice(dir.path.length + 1));
  }
  assert.deepEqual(all.sort(), [
    "a",
    "b.txt",
    "d",
    "d/c",
    "d/e",
    "d/e/f",
    "d/e/f/y",
    "d/e/x",
    "empty",
    "link",
  ]);
  await open.close();
  assert.equal(await code(open.close()), "ERR_DIR_CLOSED");
  assert.equal(await code(open.read()), "ERR_DIR_CLOSED");
  assert.throws(() => open.readSync(), { code: "ERR_DIR_CLOSED" });
  assert.equal(descriptors().length, before);
});

test("opendir: callbacks, at once, reads at the same time, disposal", async () => {
  using dir = new TempDir();
  tree(dir);
  const open = await fs.opendir(dir.path);
  const together = await Promise.all([open.read(), open.read(), open.read()]);
  assert.equal(new Set(together.map((entry) => entry!.name)).size, 3);
  const fourth = await new Promise<fs.Dirent | null>((resolve) => open.read((_, entry) => resolve(entry)));
  assert.ok(fourth !== null);
  assert.ok(open.readSync() !== null);
  assert.equal(open.readSync(), null);
  await new Promise<void>((resolve) => open.close(() => resolve()));
  {
    await using disposed = await fs.opendir(dir.path);
    assert.ok(await disposed.read() !== null);
  }
  const none = await failure(fs.opendir(dir.of("none")));
  assert.equal(none.message, `ENOENT: no such file or directory, opendir '${dir.of("none")}'`);
});

test("rm: files, directories, links, and what is not there", async () => {
  using dir = new TempDir();
  tree(dir);
  await fs.rm(dir.of("a"));
  assert.equal(existsSync(dir.of("a")), false);
  const directory = await failure(fs.rm(dir.of("d"))) as Error & { code: string };
  assert.equal(directory.code, "ERR_FS_EISDIR");
  assert.equal(directory.message, `Path is a directory: rm returned EISDIR (is a directory) ${dir.of("d")}`);
  await fs.rm(dir.of("link"), { recursive: true });
  assert.ok(existsSync(dir.of("d/e/f/y")), "a link is removed, not followed");
  symlinkSync("..", dir.of("d/up"));
  await fs.rm(dir.of("d"), { recursive: true });
  assert.deepEqual(readdirSync(dir.path).sort(), ["b.txt", "empty"]);
  const none = await failure(fs.rm(dir.of("none")));
  assert.equal(none.message, `ENOENT: no such file or directory, lstat '${dir.of("none")}'`);
  await fs.rm(dir.of("none"), { force: true });
  await fs.rm(dir.of("none/below"), { force: true, recursive: true });
  for (const options of [{ force: 1 }, { recursive: "yes" }, { maxRetries: -1 }, { retryDelay: 1.5 }]) {
    assert.match(await code(fs.rm(dir.path, options as never)), /^ERR_(INVALID_ARG_TYPE|OUT_OF_RANGE)$/);
  }
});

test("rm: two at once, and names that are no text", async () => {
  using dir = new TempDir();
  mkdirSync(dir.of("d/e"), { recursive: true });
  await fs.writeFile(below(dir, new Uint8Array([...Buffer.from("d/e/"), ...INVALID])), "");
  for (let i = 0; i < 300; i++) writeFileSync(dir.of(`d/${i}`), "");
  const both = [
    fs.rm(dir.of("d"), { recursive: true }),
    fs.rm(dir.of("d"), { recursive: true, maxRetries: 3 }),
  ];
  await Promise.allSettled(both);
  assert.equal(existsSync(dir.of("d")), false);
});

test("mkdtemp", async () => {
  using dir = new TempDir();
  const made = await fs.mkdtemp(dir.of("x-"));
  assert.match(made.slice(dir.path.length + 1), /^x-[A-Za-z0-9]{6}$/);
  assert.equal(statSync(made).mode & 0o777, 0o700);
  assert.equal(made.length, mkdtempSync(dir.of("x-")).length);
  assert.ok(Buffer.isBuffer(await fs.mkdtemp(dir.of("b-"), "buffer")));
  const none = await failure(fs.mkdtemp(dir.of("none/x-")));
  assert.equal(none.message, `ENOENT: no such file or directory, mkdtemp '${dir.of("none/x-")}XXXXXX'`);
  const many = await Promise.all(Array.from({ length: 100 }, () => fs.mkdtemp(dir.of("m"))));
  assert.equal(new Set(many).size, 100);
  let path: string;
  {
    await using disposable = await fs.mkdtempDisposable(dir.of("t-"));
    path = disposable.path;
    writeFileSync(`${path}/file`, "");
  }
  assert.equal(existsSync(path), false);
});
