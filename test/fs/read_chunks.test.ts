/** FileHandle.readChunks: a file through the same memory again and again; and readers' own memory that is filled directly. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { truncateSync, writeFileSync } from "node:fs";
import { O_NONBLOCK, O_RDWR } from "../../src/ffi/abi.ts";
import { system } from "../../src/ffi/system.ts";
import * as fs from "../../src/fs/mod.ts";
import { collect } from "../support/collect.ts";
import { content } from "../support/content.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { digest, failure } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

async function copied(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) {
    all.push(chunk.slice());
    if (all.length % 3 === 0) collect();
  }
  return Buffer.concat(all);
}

test("readChunks: every size, from anywhere, in chunks of any size, and closing", async () => {
  using dir = new TempDir();
  for (const length of [0, 1, 262_144, 262_145, 1_000_000]) {
    writeFileSync(dir.of("file"), content(length));
    for (const size of [undefined, 100_000, 262_144]) {
      const file = await fs.open(dir.of("file"));
      const start = length > 5 ? 5 : undefined;
      const bytes = await copied(file.readChunks({ size, start, autoClose: true }));
      assert.equal(digest(bytes), digest(content(length).subarray(start ?? 0)), `${length} in ${size}`);
      assert.equal(file.fd, -1);
    }
  }
});

test("readChunks: the file is where the reader has got to, although more was read", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(100_000));
  await using file = await fs.open(dir.of("file"));
  await file.read(new Uint8Array(10));
  for await (const chunk of file.readChunks({ size: 1000 })) {
    assert.deepEqual(chunk, new Uint8Array(content(100_000).subarray(10, 1010)));
    break;
  }
  assert.deepEqual(await file.readFile(), Buffer.from(content(100_000).subarray(1010)));
  for await (const _ of file.readChunks({ size: 1000, start: 0 })) break;
  assert.equal((await file.readFile()).length, 0, "with a start, it stays where it was");
});

test("readChunks: of a pipe nothing is taken that nobody asked for", async () => {
  using dir = new TempDir();
  execFileSync("mkfifo", [dir.of("fifo")]);
  using writer = Fd.open(dir.of("fifo"), O_RDWR | O_NONBLOCK);
  system().write(writer.fd, new Uint8Array([1, 2, 3, 4, 5]), 5);
  await using file = await fs.open(dir.of("fifo"));
  for await (const chunk of file.readChunks({ size: 2 })) {
    assert.deepEqual(chunk, new Uint8Array([1, 2]));
    break;
  }
  const { buffer, bytesRead } = await file.read(new Uint8Array(10));
  assert.deepEqual(buffer.subarray(0, bytesRead), new Uint8Array([3, 4, 5]));
});

test("readChunks: of files that do not know their size", async () => {
  await using file = await fs.open("/proc/self/maps");
  const text = new TextDecoder().decode(await copied(file.readChunks()));
  assert.match(text, /\[stack\]/);
});

test("readChunks: memory is used again, and cannot be taken away", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(10_000));
  await using file = await fs.open(dir.of("file"));
  const buffers = new Set<ArrayBufferLike>();
  for await (const chunk of file.readChunks({ size: 100 })) {
    buffers.add(chunk.buffer);
    assert.throws(() => structuredClone(chunk, { transfer: [chunk.buffer] }));
    assert.throws(() => chunk.buffer.transfer(), TypeError);
  }
  assert.equal(buffers.size, 1);
});

test("readChunks: one at a time; wrong arguments, closed files and failures", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(1000));
  const file = await fs.open(dir.of("file"));
  const chunks = file.readChunks({ size: 10 });
  await chunks.next();
  assert.throws(() => file.readChunks(), { code: "ERR_INVALID_STATE" });
  assert.throws(() => file.readableWebStream(), { code: "ERR_INVALID_STATE" });
  await chunks.return(undefined);
  for (const options of [{ size: 0 }, { size: 1.5 }, { size: -1 }, { start: -1 }, { start: 0.5 }]) {
    assert.throws(() => file.readChunks(options), { code: "ERR_OUT_OF_RANGE" }, JSON.stringify(options));
  }
  assert.throws(() => file.readChunks({ autoClose: 1 as never }), { code: "ERR_INVALID_ARG_TYPE" });
  await file.close();
  assert.throws(() => file.readChunks(), { code: "ERR_INVALID_STATE" });
  const directory = await fs.open(dir.path);
  assert.equal((await failure(directory.readChunks({ autoClose: true }).next())).code, "EISDIR");
  assert.equal(directory.fd, -1);
});

test("readChunks: a file that shrinks meanwhile ends there; one that is closed meanwhile fails", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(100_000));
  const file = await fs.open(dir.of("file"));
  let length = 0;
  for await (const chunk of file.readChunks({ size: 1000 })) {
    length += chunk.length;
    if (length === 5000) truncateSync(dir.of("file"), 2000);
  }
  assert.ok(length === 5000 || length === 6000, String(length));
  writeFileSync(dir.of("file"), content(100_000));
  const chunks = file.readChunks({ size: 1000, start: 0 });
  await chunks.next();
  await file.close();
  await chunks.next();
  assert.equal((await failure(chunks.next())).code, "EBADF");
});

test("readableWebStream: closing the file while the reader's own memory is being filled", async () => {
  using dir = new TempDir();
  execFileSync("mkfifo", [dir.of("fifo")]);
  using writer = Fd.open(dir.of("fifo"), O_RDWR | O_NONBLOCK);
  const file = await fs.open(dir.of("fifo"));
  const reader = file.readableWebStream().getReader({ mode: "byob" });
  const reading = reader.read(new Uint8Array(100));
  let settled = false;
  reading.then(() => settled = true, () => {});
  await fs.stat(dir.path);
  const closing = file.close();
  await fs.stat(dir.path);
  assert.equal(settled, false, "its memory is the kernel's");
  system().write(writer.fd, new Uint8Array(1), 1);
  const { done, value } = await reading;
  assert.deepEqual([done, value?.byteLength], [true, 0]);
  await closing;
});

test("readableWebStream: cancelling while the reader's own memory is being filled", async () => {
  using dir = new TempDir();
  execFileSync("mkfifo", [dir.of("fifo")]);
  using writer = Fd.open(dir.of("fifo"), O_RDWR | O_NONBLOCK);
  await using file = await fs.open(dir.of("fifo"));
  const reader = file.readableWebStream().getReader({ mode: "byob" });
  const reading = reader.read(new Uint8Array(100));
  await fs.stat(dir.path);
  await reader.cancel();
  assert.deepEqual(await reading, { done: true, value: undefined });
  collect();
  system().write(writer.fd, new Uint8Array(1), 1);
});
