/** Corners of `node:fs/promises` that programs come to lean on: events, what is refused, and in which words. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import {
  access,
  cp,
  type FileHandle,
  glob,
  mkdir,
  open,
  opendir,
  readFile,
  rm,
  symlink,
  truncate,
  watch,
  writeFile,
} from "../../src/fs/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks({ sharedRings: 1 });

/** The code of what it fails with. */
async function codeOf(work: () => unknown): Promise<string | undefined> {
  try {
    await work();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return "nothing";
}

async function opened(dir: TempDir): Promise<FileHandle> {
  writeFileSync(dir.of("f"), "0123456789");
  return await open(dir.of("f"), "r+");
}

test("close: a FileHandle tells its listeners once, at once, in order", async () => {
  using dir = new TempDir();
  const file = await opened(dir);
  const calls: string[] = [];
  const removed = (): void => void calls.push("removed");
  assert.equal(file.on("close", () => calls.push(`on ${file.fd}`)), file);
  file.once("close", () => calls.push("once"));
  file.addListener("close", removed).off("close", removed);
  assert.equal(file.listenerCount("close"), 2);
  const closing = file.close();
  assert.deepEqual(calls, ["on -1", "once"]);
  assert.equal(file.close(), closing);
  await closing;
  await file.close();
  assert.deepEqual(calls, ["on -1", "once"]);
  assert.deepEqual(file.eventNames(), ["close"]);
  assert.equal(file.removeAllListeners().emit("close"), false);
});

test("close: streams that end leave no listener behind, and the one that closes the file tells of it", async () => {
  using dir = new TempDir();
  const file = await opened(dir);
  const parts: string[] = [];
  for (let at = 0; at < 10; at += 5) {
    for await (const part of file.createReadStream({ start: at, end: at + 4, autoClose: false })) {
      parts.push(String(part));
    }
  }
  for await (const part of file.readableWebStream({ start: 8 })) parts.push(new TextDecoder().decode(part));
  assert.deepEqual(parts, ["01234", "56789", "89"]);
  assert.equal(file.listenerCount("close"), 0);
  let closed = false;
  file.once("close", () => closed = true);
  const written = await open(dir.of("g"), "w");
  const stream = written.createWriteStream();
  await new Promise<void>((resolve) => stream.once("close", resolve).end("text"));
  assert.deepEqual([written.fd, stream.pending, (stream as unknown as { fd: unknown }).fd], [-1, true, null]);
  const lines = [];
  for await (const line of file.readLines({ start: 5 })) lines.push(line);
  assert.deepEqual(lines, ["56789"]);
  await file.close();
  assert.ok(closed);
});

test("close: ends the streams of the file", async () => {
  using dir = new TempDir();
  const file = await opened(dir);
  const reader = file.readableWebStream().getReader();
  const node = file.createReadStream();
  const ended = new Promise((resolve) => node.once("close", resolve));
  const closing = file.close();
  assert.equal((await reader.read().catch(() => ({ done: true }))).done, true);
  await reader.closed;
  await Promise.all([closing, ended]);
});

test("readableWebStream, pull, writer: of a closed file", async () => {
  using dir = new TempDir();
  const file = await opened(dir);
  await file.close();
  const expected = { code: "ERR_INVALID_STATE", message: /closed/ };
  assert.throws(() => file.readableWebStream(), expected);
  assert.throws(() => file.writer(), expected);
  await assert.rejects(file.stat(), { code: "EBADF", syscall: "fstat" });
});

test("pull: takes the file with the first batch, not before", async () => {
  using dir = new TempDir();
  const file = await opened(dir);
  const [first, second] = [file.pull({ chunkSize: 4 }), file.pull()];
  assert.equal((await first.next()).value?.[0]?.length, 4);
  const locked = { code: "ERR_INVALID_STATE", message: /locked/ };
  await assert.rejects(second.next(), locked);
  assert.throws(() => file.pull(), locked);
  assert.throws(() => file.writer(), locked);
  await first.return(undefined);
  const writer = file.writer();
  assert.equal(await writer.end(), 0);
  await assert.rejects(writer.write("more"), { name: "TypeError", message: /closed/ });
  const last = file.pull();
  for (const wrong of [{ autoClose: 1 }, { signal: {} }, { start: "1" }]) {
    assert.throws(() => file.pull(wrong as never), { code: "ERR_INVALID_ARG_TYPE" });
  }
  await file.close();
  await assert.rejects(last.next(), { code: "ERR_INVALID_STATE", message: /closed/ });
});

test("read: nothing into an empty buffer; what is no buffer is refused", async () => {
  using dir = new TempDir();
  await using file = await opened(dir);
  const empty = new Uint8Array(0);
  assert.equal((await file.read(empty)).bytesRead, 0);
  assert.equal((await file.read({ buffer: empty })).buffer, empty);
  assert.equal((await file.read(new Uint8Array(4), 4)).bytesRead, 0);
  assert.equal(await codeOf(() => file.read(empty, 0, 1)), "ERR_INVALID_ARG_VALUE");
  for (const wrong of [1, true, "text", 1n, () => {}]) {
    assert.equal(await codeOf(() => file.read(wrong as never)), "ERR_INVALID_ARG_TYPE", String(wrong));
  }
  assert.equal(await codeOf(() => file.read({ buffer: null as never })), "ERR_INVALID_ARG_TYPE");
});

test("opendir: one kind of work at a time", async () => {
  using dir = new TempDir();
  for (const name of ["one", "two"]) writeFileSync(dir.of(name), "");
  const entries = await opendir(dir.path);
  const [first, second] = [entries.read(), entries.read()];
  const busy = { code: "ERR_DIR_CONCURRENT_OPERATION" };
  assert.throws(() => entries.readSync(), busy);
  assert.throws(() => entries.closeSync(), busy);
  assert.deepEqual([(await first)?.name, (await second)?.name].sort(), ["one", "two"]);
  // What was asked for before is still answered.
  const [end, closing] = [entries.read(), entries.close()];
  assert.equal(await end, null);
  await closing;
  assert.equal(await codeOf(() => entries.read()), "ERR_DIR_CLOSED");
  assert.equal(await codeOf(() => entries.close()), "ERR_DIR_CLOSED");
  assert.throws(() => entries.closeSync(), { code: "ERR_DIR_CLOSED" });

  const other = await opendir(dir.path);
  for (const method of ["read", "close"] as const) {
    assert.throws(() => other[method]("text" as never), { code: "ERR_INVALID_ARG_TYPE" });
  }
  const names = [];
  for await (const { name } of other.entries()) names.push(name);
  assert.deepEqual(names.sort(), ["one", "two"]);
  assert.throws(() => other.readSync(), { code: "ERR_DIR_CLOSED" });
});

test("arguments: what is no flag, no option, no type is refused before anything is done", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("f"), "content");
  const before = readdirSync(dir.path);
  const refused: [code: string, work: () => unknown][] = [
    ["ERR_INVALID_ARG_VALUE", () => open(dir.of("f"), "x")],
    ["ERR_INVALID_ARG_VALUE", () => open(dir.of("f"), "")],
    ["ERR_INVALID_ARG_VALUE", () => readFile(dir.of("f"), { flag: "rw" })],
    ["ERR_INVALID_ARG_VALUE", () => writeFile(dir.of("g"), "", { flag: "rw" })],
    ["ERR_OUT_OF_RANGE", () => open(dir.of("f"), 1.5)],
    ["ERR_INVALID_ARG_TYPE", () => writeFile(dir.of("g"), "", { flush: 1 as never })],
    ["ERR_INVALID_ARG_TYPE", () => mkdir(dir.of("d"), { recursive: "yes" as never } as never)],
    ["ERR_INVALID_ARG_TYPE", () => rm(dir.of("f"), null as never)],
    ["ERR_INVALID_ARG_TYPE", () => rm(dir.of("f"), true as never)],
    ["ERR_INVALID_ARG_TYPE", () => cp(dir.of("f"), dir.of("g"), "text" as never)],
    ["ERR_INVALID_ARG_TYPE", () => truncate(dir.of("f"), "1" as never)],
    ["ERR_INVALID_ARG_TYPE", () => truncate(undefined as never, "1" as never)],
    ["ERR_INVALID_ARG_TYPE", () => open(1 as never, "x")],
    ["ERR_INVALID_ARG_TYPE", () => symlink(1 as never, dir.of("l"), "hard")],
    ["ERR_INVALID_ARG_TYPE", () => glob("*", null as never).next()],
    ["ERR_INVALID_ARG_TYPE", () => glob("*", { exclude: "text" as never }).next()],
    ["ERR_INVALID_ARG_TYPE", () => glob("*", { exclude: [1] as never }).next()],
    ["ERR_FS_INVALID_SYMLINK_TYPE", () => symlink("f", dir.of("l"), "hard")],
    ["ERR_OUT_OF_RANGE", () => opendir(dir.path, { bufferSize: 0 })],
    ["ERR_INVALID_ARG_TYPE", () => watch(dir.path, { persistent: 1 as never }).next()],
    ["ERR_INVALID_ARG_TYPE", () => watch(dir.path, { recursive: 1 as never }).next()],
  ];
  for (const [code, work] of refused) assert.equal(await codeOf(work), code, String(work));
  assert.deepEqual(readdirSync(dir.path), before);
  assert.equal(await readFile(dir.of("f"), { encoding: "utf8", flag: null as never }), "content");
  await access(dir.of("f"), null);
  await truncate(dir.of("f"), -5);
  assert.equal(await readFile(dir.of("f"), "utf8"), "");
});

test("rm: what cannot be looked up fails as looking it up does", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("f"), "");
  mkdirSync(dir.of("d"));
  for (const [name, code] of [["f/x", "ENOTDIR"], ["x".repeat(300), "ENAMETOOLONG"], ["none", "ENOENT"]]) {
    await assert.rejects(rm(dir.of(name!)), { code, syscall: "lstat", path: dir.of(name!) });
  }
  await assert.rejects(rm(dir.of("f/x"), { force: true }), { code: "ENOTDIR", syscall: "lstat" });
  await assert.rejects(rm(dir.of("d")), { code: "ERR_FS_EISDIR", syscall: "rm" });
});
