/** A file's streams: the web's, Node's, and those of node:stream/iter. */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip, gunzipSync } from "node:zlib";
import * as fs from "../../src/fs/mod.ts";
import { collect } from "../support/collect.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { digest, failure } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

const SIZES = [0, 1, 65_536, 262_144, 262_145, 3_000_000];

async function gathered(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

test("readableWebStream: every size, and closing", async () => {
  using dir = new TempDir();
  for (const size of SIZES) {
    writeFileSync(dir.of("file"), content(size));
    const file = await fs.open(dir.of("file"));
    assert.equal(digest(await gathered(file.readableWebStream({ autoClose: true }))), digest(content(size)));
    assert.equal(file.fd, -1);
  }
});

test("readableWebStream: into the reader's own memory", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(1_000_000));
  await using file = await fs.open(dir.of("file"));
  const reader = file.readableWebStream({ start: 1000 }).getReader({ mode: "byob" });
  const all: Uint8Array[] = [];
  let buffer = new Uint8Array(70_000);
  for (;;) {
    const { value, done } = await reader.read(buffer);
    if (done) break;
    all.push(value.slice());
    buffer = new Uint8Array(value.buffer as ArrayBuffer);
    collect();
  }
  assert.equal(digest(Buffer.concat(all)), digest(content(1_000_000).subarray(1000)));
});

test("readableWebStream: one at a time; cancelling lets go of the file", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(1_000_000));
  await using file = await fs.open(dir.of("file"));
  const stream = file.readableWebStream();
  assert.throws(() => file.readableWebStream(), { code: "ERR_INVALID_STATE" });
  const reader = stream.getReader();
  await reader.read();
  await reader.cancel();
  await file.readableWebStream().cancel();
});

test("writableWebStream: large and small chunks, text, back-pressure", async () => {
  using dir = new TempDir();
  for (const step of [1, 1000, 262_144, 700_000]) {
    const bytes = content(step === 1 ? 3000 : 2_000_000);
    const file = await fs.open(dir.of("file"), "w");
    const writer = file.writableWebStream({ autoClose: true }).getWriter();
    for (let at = 0; at < bytes.length; at += step) {
      await writer.ready;
      const chunk = bytes.slice(at, at + step);
      const write = writer.write(chunk);
      write.then(() => chunk.fill(0), () => {});
    }
    await writer.write("ende");
    await writer.close();
    const written = readFileSync(dir.of("file"));
    assert.equal(digest(written.subarray(0, -4)), digest(bytes), `steps of ${step}`);
    assert.equal(written.subarray(-4).toString(), "ende");
    assert.equal(file.fd, -1);
  }
});

test("writableWebStream: a failure reaches the writer, and the file is let go", async () => {
  await using file = await fs.open("/dev/full", "w");
  const writer = file.writableWebStream().getWriter();
  await writer.write(content(10)).catch(() => {});
  const error = await failure(writer.close());
  assert.equal(error.code, "ENOSPC");
});

test("web streams: from one file to another", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("from"), content(2_345_678));
  await using from = await fs.open(dir.of("from"));
  await using to = await fs.open(dir.of("to"), "w");
  await (from.readableWebStream() as unknown as ReadableStream<Uint8Array>).pipeTo(to.writableWebStream());
  assert.equal(digest(readFileSync(dir.of("to"))), digest(content(2_345_678)));
});

test("createReadStream: ranges, encodings, the file's own position, closing", async () => {
  using dir = new TempDir();
  const path = dir.of("file");
  writeFileSync(path, content(200_000));
  const file = await fs.open(path);
  const options = { start: 10, end: 150_000, highWaterMark: 1000, autoClose: false } as const;
  assert.equal(
    digest(await gathered(file.createReadStream(options))),
    digest(content(200_000).subarray(10, 150_001)),
  );
  assert.ok(file.fd >= 0);
  await file.read({ length: 5 });
  const rest = file.createReadStream();
  assert.equal(digest(await gathered(rest)), digest(content(200_000).subarray(5)));
  assert.equal(rest.bytesRead, 199_995);
  await new Promise<void>((resolve) => rest.closed ? resolve() : rest.once("close", () => resolve()));
  assert.equal(file.fd, -1);
  assert.throws(() => file.createReadStream(), { code: "EBADF" });
  writeFileSync(path, "grüße");
  await using text = await fs.open(path);
  let all = "";
  for await (const piece of text.createReadStream({ encoding: "utf8", highWaterMark: 3, autoClose: false })) {
    all += piece;
  }
  assert.equal(all, "grüße");
  assert.throws(() => text.createReadStream({ start: 5, end: 4 }), { code: "ERR_OUT_OF_RANGE" });
  assert.throws(() => text.createReadStream({ start: -1 }), { code: "ERR_OUT_OF_RANGE" });
});

test("createReadStream: aborting", async () => {
  await using file = await fs.open("/dev/zero");
  const stop = new AbortController();
  const stream = file.createReadStream({ signal: stop.signal, autoClose: false });
  const error = await failure((async () => {
    for await (const _ of stream) stop.abort();
  })());
  assert.equal(error.name, "AbortError");
});

test("createWriteStream: through Node's pipelines, with flush and a start", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("from"), content(1_500_000));
  const [from, to] = [await fs.open(dir.of("from")), await fs.open(dir.of("to.gz"), "w")];
  await pipeline(from.createReadStream(), createGzip(), to.createWriteStream({ flush: true }));
  assert.equal(digest(gunzipSync(readFileSync(dir.of("to.gz")))), digest(content(1_500_000)));
  const back = await fs.open(dir.of("to.gz"));
  const plain = await fs.open(dir.of("plain"), "w");
  await pipeline(back.createReadStream(), createGunzip(), plain.createWriteStream({ start: 3 }));
  assert.deepEqual([...readFileSync(dir.of("plain")).subarray(0, 3)], [0, 0, 0]);
  assert.equal(digest(readFileSync(dir.of("plain")).subarray(3)), digest(content(1_500_000)));
  assert.deepEqual([from.fd, to.fd, back.fd, plain.fd], [-1, -1, -1, -1]);
});

test("createWriteStream: a failure", async () => {
  const file = await fs.open("/dev/full", "w");
  const stream = file.createWriteStream();
  const failed = new Promise<Error & { code?: string }>((resolve) => stream.once("error", resolve));
  stream.write("x");
  assert.equal((await failed).code, "ENOSPC");
  await file.close();
});

test("readLines", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "one\r\ntwo\n\nfour");
  const file = await fs.open(dir.of("file"));
  const lines: string[] = [];
  for await (const line of file.readLines()) lines.push(line);
  assert.deepEqual(lines, ["one", "two", "", "four"]);
  await file.close();
});

test("pull: batches, limits and transforms", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(300_000));
  await using file = await fs.open(dir.of("file"));
  const batches = async (stream: AsyncIterable<Uint8Array[]>): Promise<Uint8Array> =>
    await gathered((async function* () {
      for await (const batch of stream) yield* batch;
    })());
  const part = file.pull({ start: 100, limit: 200_001, chunkSize: 7000 });
  assert.equal(digest(await batches(part)), digest(content(300_000).subarray(100, 200_101)));
  const upper = file.pull(
    (chunks) => chunks === null ? ["!"] : chunks.map((chunk) => chunk.length),
    { start: 0, chunkSize: 100_000 },
  );
  await failure(batches(upper));
  const counted = file.pull(
    (chunks) => chunks === null ? "!" : chunks.map((chunk) => `${chunk.length},`),
    {
      async *transform(source) {
        for await (const chunks of source) if (chunks !== null) yield chunks;
        yield "?";
      },
    },
    { start: 0, chunkSize: 100_000 },
  );
  assert.equal(new TextDecoder().decode(await batches(counted)), "100000,100000,100000,!?");
  const error = await failure(batches(file.pull({ signal: AbortSignal.abort() })));
  assert.equal(error.name, "AbortError");
});

test("writer: in order, at once, limits, and its end", async () => {
  using dir = new TempDir();
  await using file = await fs.open(dir.of("file"), "w");
  {
    const writer = file.writer({ limit: 20 });
    const writes = [writer.write("one,"), writer.writev(["two,", new TextEncoder().encode("three,")])];
    assert.equal(writer.writeSync("no"), false);
    await Promise.all(writes);
    assert.equal(writer.writeSync("four"), true);
    await failure(writer.write("too much"));
    assert.equal(await writer.end(), 18);
    assert.equal(writer.canWrite, null);
    await failure(writer.write("x"));
  }
  {
    await using writer = file.writer();
    await writer.write("!");
  }
  assert.equal(readFileSync(dir.of("file"), "utf8"), "one,two,three,four!");
});

test("writeFile: from iterables and streams", async () => {
  using dir = new TempDir();
  const path = dir.of("file");
  await fs.writeFile(path, ["a", new Uint8Array([98]), "c"]);
  assert.equal(readFileSync(path, "utf8"), "abc");
  await fs.appendFile(
    path,
    (async function* () {
      yield "d";
      await Promise.resolve();
      yield "e";
    })(),
  );
  assert.equal(readFileSync(path, "utf8"), "abcde");
  await using from = await fs.open(path);
  await fs.writeFile(dir.of("copy"), from.createReadStream({ autoClose: false }));
  assert.equal(readFileSync(dir.of("copy"), "utf8"), "abcde");
  const error = await failure(fs.writeFile(path, [1 as never])) as Error & { code: string };
  assert.equal(error.code, "ERR_INVALID_ARG_TYPE");
});

test("readFile: into memory that is there", async () => {
  using dir = new TempDir();
  const path = dir.of("file");
  writeFileSync(path, content(1000));
  const memory = new Uint8Array(2000);
  const read = await fs.readFile(path, { buffer: memory });
  assert.ok(Buffer.isBuffer(read) && read.buffer === memory.buffer && read.length === 1000);
  assert.equal(digest(read), digest(content(1000)));
  const sizes: number[] = [];
  const sized = await fs.readFile(path, {
    buffer: (size) => {
      sizes.push(size);
      return new Uint8Array(size);
    },
  });
  assert.deepEqual([sizes, sized.length], [[1000], 1000]);
  const error = await failure(fs.readFile(path, { buffer: new Uint8Array(999) })) as Error & { code: string };
  assert.equal(error.code, "ERR_OUT_OF_RANGE");
  await using file = await fs.open(path);
  assert.equal((await file.readFile({ buffer: memory })).length, 1000);
});

test("streams: a file that shrinks, and one that grows, while it is read", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(2_000_000));
  await using file = await fs.open(dir.of("file"));
  let length = 0;
  for await (const chunk of file.readableWebStream()) {
    if (length === 0) truncateSync(dir.of("file"), 1_000_000);
    length += (chunk as Uint8Array).length;
  }
  assert.equal(length, 1_000_000);
  appendFileSync(dir.of("file"), "more");
  assert.equal((await file.readFile()).toString(), "more");
});
