/** Open files: every signature of FileHandle; node:fs/promises is the other side. */
import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { IORING_OP_FTRUNCATE, O_CREAT, O_RDWR } from "../../src/ffi/abi.ts";
import { appendFile, FileHandle, open, readFile, writeFile } from "../../src/fs/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { within } from "../support/loop.ts";
import { bytes, descriptors, digest, failure, text, WaitingPipe } from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks({ sharedRings: 1 });

const noTruncate = missingOp(IORING_OP_FTRUNCATE);

test("read: every signature", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("f"), "0123456789");
  await using file = await open(dir.of("f"));
  assert.ok(file instanceof FileHandle && file.fd > 2);
  const buffer = new Uint8Array(8).fill(46);
  const result = await file.read(buffer, 2, 3, 4);
  assert.equal(result.buffer, buffer);
  assert.equal(result.bytesRead, 3);
  assert.equal(text(buffer), "..456...");
  assert.equal((await file.read(buffer, { offset: 6, length: 2, position: 0n })).bytesRead, 2);
  assert.equal(text(buffer), "..456.01");
  assert.equal((await file.read(buffer)).bytesRead, 8);
  assert.equal(text(buffer), "01234567");
  assert.equal((await file.read({ buffer, position: null })).bytesRead, 2);
  assert.equal((await file.read(buffer, 0, 8, -1)).bytesRead, 0);
  const own = await file.read({ position: 5 });
  assert.equal(own.bytesRead, 5);
  assert.equal(own.buffer.toString("utf8", 0, 5), "56789");
  assert.equal(own.buffer.length, 16384);
  const words = new Uint16Array(2);
  assert.equal((await file.read(words, 2, 2, 0)).buffer, words);
  assert.deepEqual([...words], [0, 0x3130]);
  assert.equal((await file.read(buffer, 0, 0, 0)).bytesRead, 0);
  for (
    const [code, reading] of [
      ["ERR_OUT_OF_RANGE", file.read(buffer, 9)],
      ["ERR_OUT_OF_RANGE", file.read(buffer, 0, 9)],
      ["ERR_OUT_OF_RANGE", file.read(buffer, 0, 1, 1.5)],
      ["ERR_OUT_OF_RANGE", file.read(buffer, 0, 1, -2)],
      ["ERR_INVALID_ARG_TYPE", file.read({ buffer: "x" as never })],
      ["ERR_INVALID_ARG_VALUE", file.read(new Uint8Array(0), 0, 1)],
    ] as const
  ) assert.equal((await failure(reading)).code, code);
  const denied = await failure(file.write("x"));
  assert.equal(denied.message, "EBADF: bad file descriptor, write");
});

test("write, readv, writev: every signature", async () => {
  using dir = new TempDir();
  const path = dir.of("f");
  await using file = await open(path, "w+");
  const data = bytes("abcdef");
  assert.deepEqual(await file.write(data), { bytesWritten: 6, buffer: data });
  assert.equal((await file.write(data, 4)).bytesWritten, 2);
  assert.equal((await file.write(data, 0, 1, 1)).bytesWritten, 1);
  assert.equal((await file.write(data, { offset: 1, length: 1, position: 0 })).bytesWritten, 1);
  assert.deepEqual(await file.write("ü"), { bytesWritten: 2, buffer: "ü" });
  assert.equal((await file.write("ü", 2, "latin1")).bytesWritten, 1);
  assert.equal(readFileSync(path, "latin1"), "ba\u00fcdefefÃ¼");
  assert.equal((await file.write("6162", 8, "hex")).bytesWritten, 2);
  assert.equal((await failure(file.write("616", 0, "hex"))).code, "ERR_INVALID_ARG_VALUE");
  const parts = [bytes("12"), bytes("345")];
  assert.deepEqual(await file.writev(parts, 0), { bytesWritten: 5, buffers: parts });
  assert.equal((await file.writev([])).bytesWritten, 0);
  const buffers = [new Uint8Array(3), new Uint8Array(2)];
  assert.deepEqual(await file.readv(buffers, 0), { bytesRead: 5, buffers });
  assert.deepEqual(buffers.map((buffer) => text(buffer)), ["123", "45"]);
  assert.equal((await failure(file.readv("x" as never))).code, "ERR_INVALID_ARG_TYPE");
});

test("readFile, writeFile, appendFile: from where the file is", async () => {
  using dir = new TempDir();
  const path = dir.of("f");
  await using file = await open(path, O_RDWR | O_CREAT, 0o600);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const data = content(3 << 20);
  await file.writeFile(data, { flush: true });
  await file.appendFile("more");
  assert.equal((await file.readFile()).length, 0);
  await file.read(new Uint8Array(1), 0, 1, 0);
  assert.equal(statSync(path).size, data.length + 4);
  await using second = await open(path);
  await second.read(new Uint8Array(3));
  assert.equal(digest(await second.readFile()), digest(readFileSync(path).subarray(3)));
  await using third = await open(path, "r+");
  await writeFile(third, "start");
  assert.equal((await readFile(third, "latin1")).length, data.length + 4 - 5);
  await using fourth = await open(path, "a");
  await appendFile(fourth, "end");
  assert.ok(readFileSync(path, "latin1").endsWith("moreend"));
  await file.sync();
  await file.datasync();
});

test("stat and truncate", { skip: noTruncate }, async () => {
  using dir = new TempDir();
  const path = dir.of("f");
  await using file = await open(path, "w");
  await file.truncate(77);
  assert.equal((await file.stat()).size, 77);
  assert.equal((await file.stat({ bigint: true })).size, 77n);
  assert.equal((await file.stat()).ino, statSync(path).ino);
  await file.truncate();
  assert.equal(statSync(path).size, 0);
});

test("close: again, late use, and while an operation uses the descriptor", async () => {
  using pipe = new WaitingPipe();
  const before = descriptors().length;
  const file = await open(`/proc/self/fd/${pipe.reader.fd}`);
  const buffer = new Uint8Array(4);
  const reading = file.read(buffer);
  const closing = [file.close(), file.close()];
  assert.equal(file.fd, -1);
  const late = await failure(file.read(buffer));
  assert.deepEqual([late.code, late.syscall], ["EBADF", "read"]);
  assert.equal((await failure(file.stat())).syscall, "fstat");
  assert.equal(descriptors().length, before + 1);
  pipe.write("data");
  assert.equal((await within(reading, "a read")).bytesRead, 4);
  await within(Promise.all(closing), "close");
  assert.equal(descriptors().length, before);
  await file.close();
});
