/** Reading and writing: lengths, offsets, the file's position, ends of files, vectors, full pipes. */
import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { RWF_APPEND, RWF_NOWAIT } from "../../src/ffi/abi.ts";
import { assertContent, content } from "../support/content.ts";
import { Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, SocketPair, within } from "../support/loop.ts";
import { bytes, rejectsWith, text, WaitingPipe } from "../support/operations.ts";

checkLeaks();

/** A file with this content and a descriptor of it, opened without the library. */
class TempFile implements Disposable {
  readonly #dir = new TempDir();
  readonly path: string = this.#dir.of("file");
  readonly fd: number;

  constructor(initial: string | Uint8Array, flags = "r+") {
    writeFileSync(this.path, initial);
    this.fd = openSync(this.path, flags);
  }

  text(): string {
    return readFileSync(this.path, "utf8");
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
    this.#dir[Symbol.dispose]();
  }
}

test("read: the whole of a file, byte for byte", async () => {
  await using uring = makeUring();
  const expected = content(300_000);
  using file = new TempFile(expected);
  const buffer = new Uint8Array(400_000);
  assert.equal(await uring.read(file.fd, buffer, { offset: 0 }), 300_000);
  assertContent(buffer, 300_000, 0);
  assert.ok(buffer.subarray(300_000).every((byte) => byte === 0), "nothing beyond the end is written");
});

test("read: shorter at the end of the file, 0 at and beyond it", async () => {
  await using uring = makeUring();
  using file = new TempFile("0123456789");
  const buffer = new Uint8Array(8);
  assert.equal(await uring.read(file.fd, buffer, { offset: 7 }), 3);
  assert.equal(text(buffer, 3), "789");
  assert.equal(await uring.read(file.fd, buffer, { offset: 10 }), 0);
  assert.equal(await uring.read(file.fd, buffer, { offset: 1_000_000 }), 0);
  assert.equal(await uring.read(file.fd, buffer, { offset: 2n ** 62n }), 0);
});

test("read: without an offset, and with −1, the file's position moves on", async () => {
  await using uring = makeUring();
  using file = new TempFile("abcdefghij");
  const buffer = new Uint8Array(4);
  const pieces: string[] = [];
  for (const options of [undefined, { offset: -1 }, { offset: -1n }, undefined]) {
    const length = await uring.read(file.fd, buffer, options);
    pieces.push(text(buffer, length));
    // A read at an offset leaves the position alone.
    assert.equal(await uring.read(file.fd, new Uint8Array(1), { offset: 0 }), 1);
  }
  assert.deepEqual(pieces, ["abcd", "efgh", "ij", ""]);
});

test("read: length limits what is read, and a view's own place is kept", async () => {
  await using uring = makeUring();
  using file = new TempFile("abcdefghij");
  const whole = new Uint8Array(16);
  const view = new DataView(whole.buffer, 4, 8);
  assert.equal(await uring.read(file.fd, view, { offset: 0, length: 3 }), 3);
  assert.deepEqual([...whole], [0, 0, 0, 0, 97, 98, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal(await uring.read(file.fd, view, { offset: 0, length: 0 }), 0);
  assert.equal(await uring.read(file.fd, new Uint8Array(0), { offset: 0 }), 0);
});

test("read: into any kind of view", async () => {
  await using uring = makeUring();
  using file = new TempFile(new Uint8Array(new Float64Array([1.5, -2.5]).buffer));
  const doubles = new Float64Array(2);
  assert.equal(await uring.read(file.fd, doubles, { offset: 0 }), 16);
  assert.deepEqual([...doubles], [1.5, -2.5]);
  const shared = new Uint8Array(new SharedArrayBuffer(16));
  assert.equal(await uring.read(file.fd, shared, { offset: 0 }), 16);
  assert.equal(new Float64Array(shared.buffer)[0], 1.5);
});

test("write: at an offset, at the position, with a hole, a part of the buffer", async () => {
  await using uring = makeUring();
  using file = new TempFile("..........");
  assert.equal(await uring.write(file.fd, bytes("AB"), { offset: 4 }), 2);
  assert.equal(await uring.write(file.fd, bytes("xy")), 2);
  assert.equal(await uring.write(file.fd, bytes("zzzzzz"), { offset: -1, length: 1 }), 1);
  assert.equal(file.text(), "xyz.AB....");
  assert.equal(await uring.write(file.fd, bytes("end"), { offset: 12n }), 3);
  assert.equal(file.text(), "xyz.AB....\0\0end");
  assert.equal(await uring.write(file.fd, new Uint8Array(0), { offset: 100 }), 0);
  assert.equal(file.text().length, 15);
});

test("write: O_APPEND and RWF_APPEND go to the end", async () => {
  await using uring = makeUring();
  using appending = new TempFile("one", "a");
  assert.equal(await uring.write(appending.fd, bytes(" two")), 4);
  assert.equal(appending.text(), "one two");
  using plain = new TempFile("one");
  assert.equal(await uring.write(plain.fd, bytes(" two"), { offset: 0, flags: RWF_APPEND }), 4);
  assert.equal(plain.text(), "one two");
});

test("read and write: 200 at once go where they belong", async () => {
  await using uring = makeUring();
  using file = new TempFile("");
  const data = content(200 * 1024);
  const written = await Promise.all(
    Array.from(
      { length: 200 },
      (_, i) => uring.write(file.fd, data.subarray(i * 1024, (i + 1) * 1024), { offset: i * 1024 }),
    ),
  );
  assert.ok(written.every((length) => length === 1024));
  const buffers = Array.from({ length: 200 }, () => new Uint8Array(1024));
  await Promise.all(buffers.map((buffer, i) => uring.read(file.fd, buffer, { offset: (199 - i) * 1024 })));
  buffers.forEach((buffer, i) => assertContent(buffer, 1024, (199 - i) * 1024));
});

test("readv: fills one buffer after the other and stops at the end", async () => {
  await using uring = makeUring();
  using file = new TempFile("0123456789abcdef");
  const parts = [new Uint8Array(3), new Uint8Array(0), new Uint16Array(2), new Uint8Array(100)];
  assert.equal(await uring.readv(file.fd, parts, { offset: 2 }), 14);
  assert.equal(text(parts[0] as Uint8Array), "234");
  assert.equal(text(new Uint8Array(parts[2]!.buffer)), "5678");
  assert.equal(text(parts[3] as Uint8Array, 7), "9abcdef");
  assert.equal(await uring.readv(file.fd, [new Uint8Array(4)], { offset: 16 }), 0);
  assert.equal(await uring.readv(file.fd, [], { offset: 0 }), 0);
});

test("readv and writev: the file's position", async () => {
  await using uring = makeUring();
  using file = new TempFile("");
  assert.equal(await uring.writev(file.fd, [bytes("ab"), bytes("cde")]), 5);
  assert.equal(await uring.writev(file.fd, [bytes("f"), bytes("gh")], { offset: -1 }), 3);
  assert.equal(file.text(), "abcdefgh");
  const parts = [new Uint8Array(1), new Uint8Array(3)];
  using again = new TempFile("12345678");
  assert.equal(await uring.readv(again.fd, parts), 4);
  assert.equal(await uring.readv(again.fd, parts, { offset: -1n }), 4);
  assert.equal(parts.map((part) => text(part)).join(), "5,678");
});

test("writev: 1,024 buffers, with flags", async () => {
  await using uring = makeUring();
  using file = new TempFile("start ");
  const parts = Array.from({ length: 1024 }, (_, i) => bytes(String(i % 10)));
  assert.equal(await uring.writev(file.fd, parts, { offset: 0, flags: RWF_APPEND }), 1024);
  assert.equal(file.text(), `start ${parts.map((part) => text(part)).join("")}`);
});

test("read: a pipe gives what is there, and 0 when its other end is closed", async () => {
  await using uring = makeUring();
  using pipe = new WaitingPipe();
  const buffer = new Uint8Array(64);
  const waiting = uring.read(pipe.reader.fd, buffer);
  await uring.nop();
  pipe.write("hello");
  assert.equal(await within(waiting, "a read of a pipe"), 5);
  assert.equal(text(buffer, 5), "hello");
  const last = uring.read(pipe.reader.fd, buffer);
  await uring.nop();
  pipe.writer.close();
  assert.equal(await within(last, "the end of a pipe"), 0);
});

test("write: a full pipe takes a part; then nothing, with EAGAIN when it may not wait", async () => {
  await using uring = makeUring();
  using pipe = new Pipe();
  const data = content(1 << 20);
  const taken = await uring.write(pipe.writer.fd, data);
  assert.ok(taken > 0 && taken < data.length, `${taken} bytes`);
  await rejectsWith(uring.write(pipe.writer.fd, data, { flags: RWF_NOWAIT }), "EAGAIN", "write");
  await rejectsWith(uring.writev(pipe.writer.fd, [data], { flags: RWF_NOWAIT }), "EAGAIN", "writev");
  const back = new Uint8Array(1 << 20);
  let length = 0;
  while (length < taken) length += await uring.read(pipe.reader.fd, back.subarray(length));
  assert.equal(length, taken);
  assertContent(back, length, 0);
  await rejectsWith(uring.readv(pipe.reader.fd, [back], { flags: RWF_NOWAIT }), "EAGAIN", "readv");
});

test("write: a full socket takes a part, and what it took arrives", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const data = content(8 << 20);
  const taken = await uring.write(pair.a.fd, data);
  assert.ok(taken > 0 && taken < data.length, `${taken} bytes`);
  const back = new Uint8Array(taken);
  let length = 0;
  while (length < taken) length += await uring.read(pair.b.fd, back.subarray(length));
  assertContent(back, taken, 0);
});

test("read and write: a waiting write of a pipe goes on as it is emptied", async () => {
  await using uring = makeUring();
  using pipe = new WaitingPipe();
  const data = content(1 << 20);
  const write = async (): Promise<void> => {
    for (let at = 0; at < data.length;) at += await uring.write(pipe.writer.fd, data.subarray(at));
    pipe.writer.close();
  };
  const writing = write();
  const back = new Uint8Array(data.length + 1);
  let length = 0;
  for (;;) {
    const more = await within(uring.read(pipe.reader.fd, back.subarray(length)), "a read of a pipe");
    if (more === 0) break;
    length += more;
  }
  await writing;
  assert.equal(length, data.length);
  assertContent(back, length, 0);
});

test("read and write: with async, by a worker thread of the kernel", async () => {
  await using uring = makeUring();
  using file = new TempFile("");
  const data = content(5000);
  assert.equal(await uring.write(file.fd, data, { offset: 0, async: true }), 5000);
  const back = new Uint8Array(5000);
  assert.equal(await uring.read(file.fd, back, { offset: 0, async: true }), 5000);
  assertContent(back, 5000, 0);
});
