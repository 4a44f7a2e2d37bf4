/** stat, lstat, mkdir, rmdir, unlink, rename; node:fs/promises is the other side. */
import assert from "node:assert/strict";
import type { BigIntStats } from "node:fs";
import { existsSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import * as node from "node:fs/promises";
import * as fs from "../../src/fs/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { bytes, failure } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

const KINDS = [
  "isFile",
  "isDirectory",
  "isSymbolicLink",
  "isFIFO",
  "isSocket",
  "isBlockDevice",
  "isCharacterDevice",
] as const;
const WHOLE = ["dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize", "blocks"] as const;
const bigStat = (path: string): Promise<BigIntStats> => node.stat(path, { bigint: true });
const bigLstat = (path: string): Promise<BigIntStats> => node.lstat(path, { bigint: true });
const TIMES = ["atime", "mtime", "ctime"] as const;
/** Deno gives times in whole milliseconds, and the last in seconds. */
const exact = "Bun" in globalThis;

test("stat and lstat: what node:fs says, in numbers and in bigints", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "12345");
  symlinkSync("file", dir.of("link"));
  const paths = [dir.of("file"), dir.of("link"), dir.path, "/dev/null", "/proc/self/status"];
  for (const path of paths) {
    for (const name of ["stat", "lstat"] as const) {
      const theirBig = name === "stat" ? bigStat : bigLstat;
      const [ours, theirs] = [await fs[name](path), await node[name](path)];
      for (const key of WHOLE) assert.equal(ours[key], theirs[key], `${key} of ${path}`);
      for (const kind of KINDS) assert.equal(ours[kind](), theirs[kind](), `${kind} of ${path}`);
      // /proc makes up its times.
      for (const key of path.startsWith("/proc") ? [] : TIMES) {
        const unit = exact || key !== "ctime" ? 1 : 1000;
        const [a, b] = [ours[`${key}Ms`] / unit, theirs[`${key}Ms`] / unit];
        assert.equal(Math.floor(a), Math.floor(b), `${key} of ${path}`);
        assert.ok(ours[key] instanceof Date);
        assert.ok(Math.abs(ours[key].getTime() - ours[`${key}Ms`]) <= 1);
      }
      const [big, their] = [await fs[name](path, { bigint: true }), await theirBig(path)];
      for (const key of WHOLE) assert.equal(big[key], their[key], `bigint ${key} of ${path}`);
      if (path.startsWith("/proc") || !exact) continue;
      for (const key of TIMES) {
        assert.equal(ours[`${key}Ms`], theirs[`${key}Ms`]);
        assert.equal(big[`${key}Ns`], their[`${key}Ns`]);
        assert.equal(big[`${key}Ms`], their[`${key}Ms`]);
      }
    }
  }
  for (const name of ["stat", "lstat"] as const) {
    const error = await failure(fs[name](dir.of("none")));
    assert.equal(error.message, `ENOENT: no such file or directory, ${name} '${dir.of("none")}'`);
    assert.deepEqual([error.code, error.errno, error.syscall, error.path], [
      "ENOENT",
      -2,
      name,
      dir.of("none"),
    ]);
  }
});

test("stat: of what may be missing, and with a signal", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "1234");
  const maybe = { throwIfNoEntry: false } as const;
  assert.equal(await fs.stat(dir.of("none"), maybe), undefined);
  assert.equal(await fs.stat(dir.of("file/x"), { ...maybe, bigint: true }), undefined);
  assert.equal((await fs.stat(dir.of("file"), maybe))?.size, 4);
  symlinkSync("loop", dir.of("loop"));
  assert.equal((await failure(fs.stat(dir.of("loop"), maybe))).code, "ELOOP");
  const { signal } = new AbortController();
  const reason = new Error("no more");
  const aborted = AbortSignal.abort(reason);
  await using file = await fs.open(dir.of("file"));
  for (
    const stat of [
      (options: fs.StatOptions) => fs.stat(dir.of("file"), options),
      (options: fs.StatOptions) => fs.lstat(dir.of("file"), options),
      (options: fs.StatOptions) => file.stat(options),
    ]
  ) {
    assert.equal((await stat({ signal }))!.size, 4);
    assert.equal((await stat({ signal, bigint: true }))!.size, 4n);
    const error = await failure(stat({ signal: aborted })) as Error & { code: string };
    assert.deepEqual([error.name, error.code, error.cause], ["AbortError", "ABORT_ERR", reason]);
    assert.equal((await failure(stat({ signal: {} as never }))).code, "ERR_INVALID_ARG_TYPE");
  }
  const stop = new AbortController();
  const stopped = failure(fs.stat(dir.of("file"), { signal: stop.signal }), "stat") as Promise<unknown>;
  stop.abort(reason);
  assert.equal((await stopped as Error).name, "AbortError");
  assert.equal((await failure(fs.stat(dir.of("none"), { signal }))).syscall, "stat");
});

test("mkdir: plain, with a mode", async () => {
  using dir = new TempDir();
  assert.equal(await fs.mkdir(dir.of("a")), undefined);
  await fs.mkdir(dir.of("b"), 0o700);
  await fs.mkdir(dir.of("c"), { mode: "711" });
  assert.equal(statSync(dir.of("b")).mode & 0o777, 0o700);
  assert.equal(statSync(dir.of("c")).mode & 0o777, 0o711);
  const there = await failure(fs.mkdir(dir.of("a")));
  assert.equal(there.message, `EEXIST: file already exists, mkdir '${dir.of("a")}'`);
  assert.equal((await failure(fs.mkdir(dir.of("x/y")))).code, "ENOENT");
});

test("mkdir: recursive", async () => {
  using dir = new TempDir();
  const recursive = { recursive: true } as const;
  assert.equal(await fs.mkdir(dir.of("a/b/c"), recursive), dir.of("a"));
  assert.ok(statSync(dir.of("a/b/c")).isDirectory());
  assert.equal(await fs.mkdir(dir.of("a/b/c"), recursive), undefined);
  assert.equal(await fs.mkdir(dir.of("a/b/d//e//"), recursive), dir.of("a/b/d"));
  assert.equal(await fs.mkdir(bytes(dir.of("z/y")), recursive), dir.of("z"));
  assert.equal(await fs.mkdir("/", recursive), undefined);
  writeFileSync(dir.of("file"), "");
  for (const path of [dir.of("file"), dir.of("file/x"), dir.of("file/x/y")]) {
    const [ours, theirs] = [
      await failure(fs.mkdir(path, recursive)),
      await failure(node.mkdir(path, recursive)),
    ];
    assert.equal(ours.code, theirs.code, path);
    assert.equal(ours.path, path);
    assert.equal(ours.syscall, "mkdir");
  }
  await Promise.all(Array.from({ length: 50 }, (_, i) => fs.mkdir(dir.of(`p/q/r/${i}`), recursive)));
  assert.equal(readdirSync(dir.of("p/q/r")).length, 50);
});

test("rmdir, unlink, rename", async () => {
  using dir = new TempDir();
  mkdirSync(dir.of("full/x"), { recursive: true });
  writeFileSync(dir.of("file"), "1");
  writeFileSync(dir.of("other"), "22");
  assert.equal((await failure(fs.rmdir(dir.of("full")))).code, "ENOTEMPTY");
  await fs.rmdir(dir.of("full/x"));
  await fs.rmdir(dir.of("full"));
  assert.ok(!existsSync(dir.of("full")));
  await fs.rename(dir.of("file"), dir.of("other"));
  assert.equal(statSync(dir.of("other")).size, 1);
  const [from, to] = [dir.of("none"), dir.of("to")];
  const error = await failure(fs.rename(from, to));
  assert.equal(error.message, `ENOENT: no such file or directory, rename '${from}' -> '${to}'`);
  assert.deepEqual([error.syscall, error.path, error.dest], ["rename", from, to]);
  await fs.unlink(dir.of("other"));
  for (const name of ["unlink", "rmdir"] as const) {
    const missing = await failure(fs[name](from));
    assert.equal(missing.message, `ENOENT: no such file or directory, ${name} '${from}'`);
  }
  writeFileSync(dir.of("file"), "");
  assert.equal((await failure(fs.rmdir(dir.of("file")))).code, "ENOTDIR");
  for (const recursive of [true, false]) {
    const refused = await failure(fs.rmdir(dir.path, { recursive } as never));
    assert.equal(refused.code, "ERR_INVALID_ARG_VALUE");
  }
  assert.equal((await failure(fs.rmdir(dir.path, 5 as never))).code, "ERR_INVALID_ARG_TYPE");
  assert.equal((await failure(fs.unlink(dir.path))).code, "EISDIR");
});
