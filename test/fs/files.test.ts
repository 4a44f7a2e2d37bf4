/** Whole files: readFile, writeFile, appendFile, copyFile, truncate; node:fs/promises is the other side. */
import assert from "node:assert/strict";
import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import * as node from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { IORING_OP_FTRUNCATE } from "../../src/ffi/abi.ts";
import * as fs from "../../src/fs/mod.ts";
import { UringError } from "../../src/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { within } from "../support/loop.ts";
import { bytes, descriptors, digest, failure, WaitingPipe } from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks({ sharedRings: 1 });

const noTruncate = missingOp(IORING_OP_FTRUNCATE);
/** Called in the same way. */
const theirFs = node as unknown as typeof fs;
const SIZES = [0, 1, 1000, 65535, 65536, 65537, 262144, 1 << 20, (5 << 20) + 3];

test("readFile: every size, as a Buffer and as text", async () => {
  using dir = new TempDir();
  for (const size of SIZES) {
    const path = dir.of(`file${size}`);
    writeFileSync(path, content(size));
    const data = await fs.readFile(path);
    assert.ok(Buffer.isBuffer(data));
    assert.equal(digest(data), digest(content(size)));
    const theirs = await node.readFile(path);
    for (const encoding of ["latin1", "hex", "base64", "utf8", "utf-8", "utf16le"] as const) {
      assert.ok(
        await fs.readFile(path, encoding) === theirs.toString(encoding as "utf8"),
        `${size} ${encoding}`,
      );
    }
  }
  const text = dir.of("text");
  writeFileSync(text, "\ufeffgrüße €\n");
  for (const options of ["utf8", { encoding: "utf8", flag: "r" }] as const) {
    assert.equal(await fs.readFile(text, options), "\ufeffgrüße €\n");
  }
});

test("readFile: paths of every kind", async () => {
  using dir = new TempDir();
  const path = dir.of("grüße %41");
  writeFileSync(path, "x");
  for (const form of [path, bytes(path), Buffer.from(path), pathToFileURL(path)]) {
    assert.equal(await fs.readFile(form, "utf8"), "x");
  }
});

test("readFile: of unknown size, from /proc and from a pipe", async () => {
  assert.equal(await fs.readFile("/proc/version", "utf8"), readFileSync("/proc/version", "utf8"));
  const maps = await fs.readFile("/proc/self/maps", "utf8");
  assert.ok(maps.length > 4096 && maps.endsWith("\n"));
  assert.match(maps, /\[stack\]/);
  using pipe = new WaitingPipe();
  const data = content(300_000);
  const reading = fs.readFile(`/proc/self/fd/${pipe.reader.fd}`);
  const writing = fs.writeFile(`/proc/self/fd/${pipe.writer.fd}`, data, { flag: "r+" }).then(() =>
    pipe.writer.close()
  );
  assert.equal(digest(await within(reading, "the pipe's end")), digest(data));
  await writing;
});

test("readFile: two thousand at once keep within the descriptors", async () => {
  using dir = new TempDir();
  const names = Array.from({ length: 2000 }, (_, i) => dir.of(`f${i}`));
  await Promise.all(names.map((name, i) => fs.writeFile(name, content(i, i))));
  // The second ring is made when it is first needed.
  await Promise.all(names.slice(0, 200).map((name) => fs.readFile(name)));
  const before = descriptors().length;
  const all = await Promise.all(names.map((name) => fs.readFile(name)));
  all.forEach((data, i) => assert.equal(digest(data), digest(content(i, i))));
  assert.equal(descriptors().length, before);
  // Nobody else's memory: what is read later leaves it alone.
  assert.ok(all.every((data, i) => data.length === i && (i === 0 || data.buffer !== all[0]!.buffer)));
});

test("writeFile and appendFile: data of every kind, flags, modes", async () => {
  using dir = new TempDir();
  const [ours, theirs] = [dir.of("ours"), dir.of("theirs")];
  const words = new Uint16Array([1, 2, 3]);
  const steps: ((f: typeof fs, path: string) => Promise<unknown>)[] = [
    (f, path) => f.writeFile(path, "grüße"),
    (f, path) => f.appendFile(path, "more"),
    (f, path) => f.writeFile(path, "latin: ü", "latin1"),
    (f, path) => f.appendFile(path, "68656c6c6f", { encoding: "hex" }),
    (f, path) => f.writeFile(path, words),
    (f, path) => f.appendFile(path, new DataView(words.buffer, 2, 2)),
    (f, path) => f.writeFile(path, "at the start", { flag: "r+" }),
    (f, path) => f.writeFile(path, content(3 << 20), { flush: true }),
    (f, path) => f.writeFile(path, ""),
    (f, path) => f.writeFile(path, "again", { flag: "a" }),
  ];
  for (const step of steps) {
    await step(fs, ours);
    await step(theirFs, theirs);
    assert.equal(digest(readFileSync(ours)), digest(readFileSync(theirs)), String(step));
  }
  await fs.writeFile(dir.of("mode"), "", { mode: 0o640 });
  await node.writeFile(dir.of("mode2"), "", { mode: 0o640 });
  assert.equal(statSync(dir.of("mode")).mode, statSync(dir.of("mode2")).mode);
});

test("signals: before, while waiting, and in the middle", async () => {
  using pipe = new WaitingPipe();
  const path = `/proc/self/fd/${pipe.reader.fd}`;
  const reason = new Error("why");
  const stop = new AbortController();
  const reading = failure(fs.readFile(path, { signal: stop.signal }));
  await fs.stat(path);
  stop.abort(reason);
  const errors = [
    await within(reading, "an aborted read"),
    await failure(fs.readFile("/etc/hostname", { signal: stop.signal })),
    await failure(fs.writeFile("/nonexistent", "", { signal: stop.signal })),
  ];
  for (const error of errors) {
    const { name, code, message, cause } = error as Error & { code: string };
    assert.deepEqual({ name, code, message, cause }, {
      name: "AbortError",
      code: "ABORT_ERR",
      message: "The operation was aborted",
      cause: reason,
    });
  }
});

test("copyFile: content, permissions, onto a file that is there, onto itself, exclusively", async () => {
  using dir = new TempDir();
  const { COPYFILE_EXCL, COPYFILE_FICLONE, COPYFILE_FICLONE_FORCE } = fs.constants;
  assert.equal(COPYFILE_EXCL, node.constants.COPYFILE_EXCL);
  for (const size of SIZES) {
    const [from, to] = [dir.of("from"), dir.of(`to${size}`)];
    writeFileSync(from, content(size));
    chmodSync(from, 0o700);
    await fs.copyFile(from, to, COPYFILE_EXCL);
    assert.equal(digest(readFileSync(to)), digest(content(size)));
    assert.equal(statSync(to).mode & 0o777, 0o700);
  }
  const [long, short] = [dir.of(`to${SIZES.at(-1)}`), dir.of("to1000")];
  await fs.copyFile(short, long, COPYFILE_FICLONE);
  assert.equal(digest(readFileSync(long)), digest(content(1000)));
  await fs.copyFile(short, short);
  assert.equal(digest(readFileSync(short)), digest(content(1000)));
  const taken = await failure(fs.copyFile(short, long, COPYFILE_EXCL));
  assert.equal(taken.message, `EEXIST: file already exists, copyfile '${short}' -> '${long}'`);
  assert.deepEqual([taken.code, taken.syscall, taken.path, taken.dest], ["EEXIST", "copyfile", short, long]);
  assert.equal((await failure(fs.copyFile(dir.of("none"), long))).code, "ENOENT");
  assert.equal((await failure(fs.copyFile(dir.path, dir.of("new")))).code, "EISDIR");
  assert.equal((await failure(fs.stat(dir.of("new")))).code, "ENOENT");
  assert.equal((await failure(fs.copyFile(short, long, COPYFILE_FICLONE_FORCE))).code, "ENOTSUP");
  assert.equal(digest(readFileSync(long)), digest(content(1000)));
});

test("truncate", { skip: noTruncate }, async () => {
  using dir = new TempDir();
  const path = dir.of("file");
  writeFileSync(path, content(1000));
  await fs.truncate(path, 10);
  assert.equal(digest(readFileSync(path)), digest(content(10)));
  await fs.truncate(path, 100);
  assert.equal(readFileSync(path).length, 100);
  await fs.truncate(path, -5);
  assert.equal(readFileSync(path).length, 0);
  const error = await failure(fs.truncate(dir.of("none")));
  assert.equal(error.message, `ENOENT: no such file or directory, open '${dir.of("none")}'`);
});

test("errors are worded as Node's", async () => {
  using dir = new TempDir();
  const none = dir.of("none");
  const calls: [string, (f: typeof fs) => Promise<unknown>][] = [
    [`ENOENT: no such file or directory, open '${none}'`, (f) => f.readFile(none)],
    [`ENOENT: no such file or directory, open '${none}/x'`, (f) => f.writeFile(`${none}/x`, "")],
    ["EISDIR: illegal operation on a directory, read", (f) => f.readFile(dir.path)],
    [`EISDIR: illegal operation on a directory, open '${dir.path}'`, (f) => f.writeFile(dir.path, "x")],
    [`ENOENT: no such file or directory, open '${none}'`, (f) => f.open(none)],
    [`EEXIST: file already exists, open '${dir.path}'`, (f) => f.open(dir.path, "wx")],
  ];
  for (const [message, call] of calls) {
    const ours = await failure(call(fs));
    assert.ok(ours instanceof UringError);
    assert.equal(ours.message, message);
    const theirs = await failure(call(theirFs));
    // Deno words some of these in its own way.
    for (const key of ["code", "errno"] as const) {
      assert.equal(ours[key], theirs[key], `${key} of ${message}`);
    }
    if ("Bun" in globalThis) {
      assert.deepEqual([ours.syscall, ours.path], [theirs.syscall, theirs.path], message);
    }
  }
});

test("wrong arguments", async () => {
  const wrong: [string, Promise<unknown>][] = [
    ["ERR_INVALID_ARG_TYPE", fs.readFile(5 as never)],
    ["ERR_INVALID_ARG_TYPE", fs.readFile(null as never)],
    ["ERR_INVALID_ARG_VALUE", fs.readFile("a\0b")],
    ["ERR_INVALID_ARG_VALUE", fs.readFile("/etc/hostname", "nonsense" as never)],
    ["ERR_INVALID_ARG_TYPE", fs.readFile("/etc/hostname", 5 as never)],
    ["ERR_INVALID_ARG_TYPE", fs.readFile("/etc/hostname", { signal: {} as never })],
    ["ERR_INVALID_URL_SCHEME", fs.readFile(new URL("http://x/"))],
    ["ERR_INVALID_FILE_URL_PATH", fs.readFile(new URL("file:///a%2fb"))],
    ["ERR_INVALID_ARG_TYPE", fs.writeFile("/nonexistent/x", 5 as never)],
    ["ERR_INVALID_ARG_TYPE", fs.writeFile("/nonexistent/x", undefined as never)],
    ["ERR_INVALID_ARG_VALUE", fs.writeFile("/nonexistent/x", "", { mode: "9" })],
    ["ERR_OUT_OF_RANGE", fs.copyFile("/nonexistent/x", "/nonexistent/y", 8)],
    ["ERR_INVALID_ARG_TYPE", fs.stat(undefined as never)],
    ["ERR_OUT_OF_RANGE", fs.mkdir("/nonexistent/x", -1)],
  ];
  for (const [code, promise] of wrong) {
    const error = await failure(promise, code) as Error;
    assert.equal((error as UringError).code, code, error.message);
    assert.ok(error instanceof TypeError || error instanceof RangeError);
  }
});
