/** Permissions, owners, times, links and file systems; node:fs is the other side. */
import assert from "node:assert/strict";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readlinkSync,
  realpathSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import * as node from "node:fs/promises";
import process from "node:process";
import { onPath } from "../../src/fs/calls.ts";
import * as fs from "../../src/fs/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { bytes, failure } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

const notRoot = process.getuid?.() === 0 ? false : "only root may give files away";
const root = process.getuid?.() === 0 ? "root may do everything" : false;
const INVALID = new Uint8Array([0x62, 0xff, 0xfe, 0x0a]);

async function code(promise: Promise<unknown>): Promise<string> {
  return (await failure(promise) as Error & { code: string }).code;
}

test("access", async () => {
  using dir = new TempDir();
  const path = dir.of("file");
  writeFileSync(path, "");
  const { F_OK, R_OK, W_OK, X_OK } = fs.constants;
  assert.equal(await fs.access(path), undefined);
  await fs.access(path, R_OK | W_OK);
  chmodSync(path, 0o644);
  assert.equal(await code(fs.access(path, X_OK)), "EACCES");
  const missing = await failure(fs.access(dir.of("none"), F_OK));
  assert.equal(missing.message, `ENOENT: no such file or directory, access '${dir.of("none")}'`);
  assert.equal(await code(fs.access(path, 8)), "ERR_OUT_OF_RANGE");
  assert.equal(await code(fs.access(path, 1.5)), "ERR_OUT_OF_RANGE");
  assert.equal(await code(fs.access(1 as never)), "ERR_INVALID_ARG_TYPE");
  assert.equal(await code(fs.access("a\0b")), "ERR_INVALID_ARG_VALUE");
});

test("access: what the user may not do", { skip: root }, async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  chmodSync(dir.of("file"), 0);
  assert.equal(await code(fs.access(dir.of("file"), fs.constants.R_OK)), "EACCES");
});

test("chmod: by path and by handle", async () => {
  using dir = new TempDir();
  const path = dir.of("file");
  writeFileSync(path, "");
  await fs.chmod(path, 0o640);
  assert.equal(statSync(path).mode & 0o7777, 0o640);
  await fs.chmod(bytes(path), "4711");
  assert.equal(statSync(path).mode & 0o7777, 0o4711);
  {
    await using file = await fs.open(path);
    await file.chmod(0o600);
  }
  assert.equal(statSync(path).mode & 0o7777, 0o600);
  const error = await failure(fs.chmod(dir.of("none"), 0));
  assert.equal(error.message, `ENOENT: no such file or directory, chmod '${dir.of("none")}'`);
  for (const mode of [-1, 2 ** 32, 1.5, "9", undefined, null]) {
    assert.match(await code(fs.chmod(path, mode as never)), /^ERR_(OUT_OF_RANGE|INVALID_ARG_(TYPE|VALUE))$/);
  }
  assert.equal(await code(fs.lchmod(path, 0)), "ERR_METHOD_NOT_IMPLEMENTED");
});

test("chown and lchown: owners, −1, and a link that leads nowhere", { skip: notRoot }, async () => {
  using dir = new TempDir();
  const [path, link] = [dir.of("file"), dir.of("link")];
  writeFileSync(path, "");
  symlinkSync(path, link);
  await fs.chown(link, 1234, 5678);
  assert.deepEqual([statSync(path).uid, statSync(path).gid], [1234, 5678]);
  assert.deepEqual([lstatSync(link).uid, lstatSync(link).gid], [0, 0]);
  await fs.lchown(link, 12, 34);
  assert.deepEqual([lstatSync(link).uid, lstatSync(link).gid], [12, 34]);
  await fs.chown(path, -1, 9);
  assert.deepEqual([statSync(path).uid, statSync(path).gid], [1234, 9]);
  await using file = await fs.open(path);
  await file.chown(7, -1);
  assert.deepEqual([statSync(path).uid, statSync(path).gid], [7, 9]);
  assert.equal(await code(fs.chown(path, -2, 0)), "ERR_OUT_OF_RANGE");
  assert.equal(await code(fs.chown(path, "0" as never, 0)), "ERR_INVALID_ARG_TYPE");
  assert.equal((await failure(fs.lchown(dir.of("none"), 0, 0))).syscall, "lchown");
});

test("utimes: numbers, text, dates, before 1970, and of links", async () => {
  using dir = new TempDir();
  const [path, link] = [dir.of("file"), dir.of("link")];
  writeFileSync(path, "");
  symlinkSync(path, link);
  const times = (which: typeof statSync | typeof lstatSync, at: string): number[] => {
    const { atimeMs, mtimeMs } = which(at) as unknown as { atimeMs: number; mtimeMs: number };
    return [atimeMs, mtimeMs];
  };
  await fs.utimes(path, 1.5, "1700000000.25");
  assert.deepEqual(times(statSync, path), [1500, 1_700_000_000_250]);
  await fs.utimes(path, new Date(123_456), new Date("2100-01-02T03:04:05.678Z"));
  assert.deepEqual(times(statSync, path), [123_456, Date.parse("2100-01-02T03:04:05.678Z")]);
  const { mtimeNs } = await fs.stat(path, { bigint: true });
  assert.equal(mtimeNs, BigInt(Date.parse("2100-01-02T03:04:05.678Z")) * 1_000_000n);
  await fs.utimes(path, -1.25, -86400);
  assert.deepEqual(times(statSync, path), [-1250, -86_400_000]);
  await fs.lutimes(link, 10, 20);
  assert.deepEqual(times(lstatSync, link), [10_000, 20_000]);
  assert.deepEqual(times(statSync, path), [-1250, -86_400_000]);
  await using file = await fs.open(path);
  await file.utimes(1, 2);
  assert.deepEqual(times(statSync, path), [1000, 2000]);
  for (const time of [NaN, Infinity, "x", "", null, undefined, {}]) {
    assert.equal(await code(fs.utimes(path, time as never, 0)), "ERR_INVALID_ARG_TYPE");
  }
  assert.equal((await failure(fs.utimes(dir.of("none"), 0, 0))).syscall, "utime");
  assert.equal((await failure(fs.lutimes(dir.of("none"), 0, 0))).syscall, "lutime");
});

test("link, symlink, readlink", async () => {
  using dir = new TempDir();
  const path = dir.of("file");
  writeFileSync(path, "x");
  await fs.link(path, dir.of("second"));
  assert.equal(statSync(dir.of("second")).ino, statSync(path).ino);
  await fs.symlink("file", dir.of("link"));
  assert.equal(readlinkSync(dir.of("link")), "file");
  assert.equal(await fs.readlink(dir.of("link")), "file");
  assert.equal(await fs.readlink(dir.of("link"), "hex"), Buffer.from("file").toString("hex"));
  assert.deepEqual(await fs.readlink(dir.of("link"), { encoding: "buffer" }), Buffer.from("file"));
  await fs.symlink(INVALID, dir.of("odd"));
  assert.deepEqual(new Uint8Array(await fs.readlink(dir.of("odd"), "buffer")), INVALID);
  const taken = await failure(fs.symlink("x", path));
  assert.equal(taken.message, `EEXIST: file already exists, symlink 'x' -> '${path}'`);
  assert.deepEqual([taken.path, taken.dest], ["x", path]);
  const none = await failure(fs.link(dir.of("none"), dir.of("new")));
  assert.equal(
    none.message,
    `ENOENT: no such file or directory, link '${dir.of("none")}' -> '${dir.of("new")}'`,
  );
  const plain = await failure(fs.readlink(path));
  assert.equal(plain.message, `EINVAL: invalid argument, readlink '${path}'`);
  assert.equal(await code(fs.readlink(path, "nonsense" as never)), "ERR_INVALID_ARG_VALUE");
});

test("realpath", async () => {
  using dir = new TempDir();
  mkdirSync(dir.of("a"));
  writeFileSync(dir.of("a/file (deleted)"), "");
  symlinkSync("a", dir.of("b"));
  const long = `${dir.path}/./b/../b//file (deleted)`;
  assert.equal(await fs.realpath(long), realpathSync(long));
  assert.equal(await fs.realpath("."), realpathSync("."));
  assert.equal((await fs.realpath(dir.of("b"), "buffer")).toString(), realpathSync(dir.of("a")));
  symlinkSync("loop", dir.of("loop"));
  assert.equal(await code(fs.realpath(dir.of("loop"))), "ELOOP");
  const none = await failure(fs.realpath(dir.of("none")));
  assert.equal(none.message, `ENOENT: no such file or directory, realpath '${dir.of("none")}'`);
  const through = await failure(fs.realpath(dir.of("b/file (deleted)/x")));
  assert.equal(through.code, "ENOTDIR");
});

test("statfs: as Node has it", async () => {
  const [ours, theirs] = [await fs.statfs("/proc"), await node.statfs("/proc")];
  for (const name of ["type", "bsize", "blocks", "bfree", "bavail", "files", "ffree"] as const) {
    assert.equal(ours[name], theirs[name], name);
  }
  const big = await fs.statfs("/proc", { bigint: true });
  assert.equal(big.type, 0x9fa0n);
  assert.equal(
    (await failure(fs.statfs("/nonexistent"))).message,
    "ENOENT: no such file or directory, statfs '/nonexistent'",
  );
  using dir = new TempDir();
  const name = Buffer.concat([bytes(`${dir.path}/`), INVALID]);
  await fs.mkdir(name);
  assert.ok((await fs.statfs(name)).blocks >= 0);
  symlinkSync("loop", dir.of("loop"));
  const error = await failure(fs.statfs(dir.of("loop")));
  assert.deepEqual([error.code, error.syscall, error.path], ["ELOOP", "statfs", dir.of("loop")]);
  assert.equal((await failure(fs.statfs("a\0b"))).code, "ERR_INVALID_ARG_VALUE");
  const many = await Promise.all(Array.from({ length: 50 }, () => fs.statfs("/proc")));
  assert.ok(many.every(({ type }) => type === 0x9fa0));
});

test("what is done at once rejects, and does not throw", async () => {
  const calls = [
    () => fs.chmod("/nonexistent", 0),
    () => fs.chmod(5 as never, 0),
    () => fs.readlink("/nonexistent"),
    () => fs.statfs(5 as never),
    () => fs.utimes("/nonexistent", "x", 0),
  ];
  for (const call of calls) {
    const promise = call();
    assert.ok(promise instanceof Promise);
    await failure(promise);
  }
});

test("calls that are made at once do not keep timers waiting", async () => {
  const calls = [() => fs.access("/"), () => fs.stat("/"), () => fs.readlink("/proc/self/exe")];
  for (const call of calls) {
    let fired = false;
    let done = 0;
    setTimeout(() => fired = true, 1);
    for (; !fired && done < 1_000_000; done++) await call();
    assert.ok(done < 1_000_000, `a timer of a millisecond waited for ${done} calls`);
  }
});

test("calls that are asked for at once do not keep timers waiting", async () => {
  const CALLS = 2000;
  let done = 0;
  const all = Promise.all(Array.from({ length: CALLS }, () => fs.access("/").then(() => done++)));
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(done < CALLS, `${done} calls were made in one turn`);
  await all;
});

test("after a call that has waited for a disk, the ring looks the next paths up first", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  const made: string[] = [];
  const slowly = (): void => {
    for (const end = performance.now() + 2; performance.now() < end;);
    made.push("slow");
  };
  // An earlier one may have waited, too: then it takes a while until one is made at once again.
  let slow: Promise<void> | undefined;
  for (let i = 0; i < 3000 && made.length === 0; i++) {
    await slow;
    made.length = 0;
    await new Promise((resolve) => setImmediate(resolve));
    let quick = false;
    const other = onPath(dir.of("file"), 0, () => quick = true);
    slow = quick ? onPath(dir.of("file"), 0, slowly) : undefined;
    if (!quick) await other;
  }
  assert.deepEqual(made, ["slow"], "it was made at once");
  const next = onPath(dir.of("file"), 0, () => made.push("next"));
  assert.deepEqual(made, ["slow"], "the ring is asked");
  await Promise.all([slow, next]);
  assert.deepEqual(made, ["slow", "next"]);
  assert.equal(
    (await failure(fs.access(dir.of("none")))).message,
    `ENOENT: no such file or directory, access '${dir.of("none")}'`,
  );
  await Promise.all(Array.from({ length: 300 }, () => fs.access(dir.of("file"))));
});

test("stat: one by itself and many at once say the same, also of what is missing or a link", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "12345");
  symlinkSync("file", dir.of("link"));
  symlinkSync("nowhere", dir.of("broken"));
  for (const name of ["file", "link", "broken"]) {
    const path = dir.of(name);
    const alone = await fs.lstat(path, { bigint: true });
    const many = await Promise.all(Array.from({ length: 20 }, () => fs.lstat(path, { bigint: true })));
    for (const one of many) assert.deepEqual({ ...one }, { ...alone });
  }
  assert.equal((await fs.stat(dir.of("link"))).size, 5);
  assert.ok((await fs.lstat(dir.of("link"))).isSymbolicLink());
  for (const path of [dir.of("broken"), dir.of("none"), `${dir.of("file")}/x`]) {
    const alone = await failure(fs.stat(path));
    const many = await Promise.all([failure(fs.stat(path)), failure(fs.stat(path))]);
    for (const { message } of many) assert.equal(message, alone.message);
  }
});
