/** Direct I/O, pages of registered memory. */
import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { O_DIRECT } from "../../src/ffi/arch.ts";
import * as fs from "../../src/fs/mod.ts";
import { Uring } from "../../src/mod.ts";
import { collect } from "../support/collect.ts";
import { content } from "../support/content.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { digest, failure } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

/** Why the file system of temporary files has no direct I/O, or `false`. */
function missingDirect(): string | false {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  try {
    Fd.open(dir.of("file"), O_DIRECT).close();
    return false;
  } catch (error) {
    return `no direct I/O on the file system of ${dir.path}: ${(error as Error).message}`;
  }
}

const skip = missingDirect();
const PAGE = 4096;

test("direct I/O: what is written is read, and the alignment is told", { skip }, async () => {
  using dir = new TempDir();
  await using pages = new fs.PagePool({ count: 4, size: 2 * PAGE });
  await using file = await fs.open(dir.of("file"), { flags: "w+", direct: true, mode: 0o600 });
  const { memory, offset } = file.alignment!;
  assert.ok(memory > 0 && offset > 0 && PAGE % memory === 0 && PAGE % offset === 0);
  assert.equal(statSync(dir.of("file")).mode & 0o777, 0o600);
  for (let i = 0; i < 8; i++) {
    using page = await pages.take();
    page.bytes.set(content(2 * PAGE, i));
    const { bytesWritten } = await file.writeFixed(page, { position: i * 2 * PAGE });
    assert.equal(bytesWritten, 2 * PAGE);
  }
  assert.equal(
    digest(readFileSync(dir.of("file")).subarray(3 * 2 * PAGE, 4 * 2 * PAGE)),
    digest(content(2 * PAGE, 3)),
  );
  using page = await pages.take();
  const half = await file.readFixed(page, { offset: PAGE, length: PAGE, position: 5 * 2 * PAGE });
  assert.equal(half.bytesRead, PAGE);
  assert.equal(digest(page.bytes.subarray(PAGE)), digest(content(2 * PAGE, 5).subarray(0, PAGE)));
  assert.equal((await file.readFixed(page, { position: 8 * 2 * PAGE })).bytesRead, 0);
});

test("direct I/O: what is not aligned fails with a hint", { skip }, async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(PAGE));
  await using pages = new fs.PagePool({ count: 1 });
  await using file = await fs.open(dir.of("file"), { direct: true });
  using page = await pages.take();
  const error = await failure(file.readFixed(page, { position: 1 }));
  assert.equal(error.code, "EINVAL");
  assert.match(error.message, /multiples of \d+, and memory aligned to \d+ bytes/);
  await using cached = await fs.open(dir.of("file"));
  assert.equal(cached.alignment, null);
});

test("open: options", async () => {
  using dir = new TempDir();
  {
    await using file = await fs.open(dir.of("file"), { flags: "wx", mode: 0o640 });
    await file.write("x");
  }
  assert.equal(statSync(dir.of("file")).mode & 0o777, 0o640);
  await using file = await fs.open(dir.of("file"), {});
  assert.equal((await file.readFile()).toString(), "x");
  assert.equal((await failure(fs.open("/proc/version", { direct: true }))).syscall, "open");
});

test("pages: any file, and registered buffers as well", async () => {
  using dir = new TempDir();
  await using pages = new fs.PagePool();
  assert.deepEqual([pages.count, pages.size, pages.free], [64, PAGE, 64]);
  await using file = await fs.open(dir.of("file"), "w+");
  using page = await pages.take();
  page.bytes.set(content(PAGE));
  await file.writeFixed(page, { offset: 10, length: 100, position: 0 });
  await using buffer = Uring.shared.registerBuffer(1000);
  const { bytesRead } = await file.readFixed(buffer, { position: 0 });
  assert.equal(bytesRead, 100);
  assert.equal(digest(buffer.bytes.subarray(0, 100)), digest(content(PAGE).subarray(10, 110)));
  for (
    const options of [{ offset: PAGE + 1 }, { length: PAGE + 1 }, { offset: -1 }, { offset: 1, length: PAGE }]
  ) {
    await failure(file.readFixed(page, options));
  }
});

test("pages: taking waits for one that is given back; each has one holder", async () => {
  await using pages = new fs.PagePool({ count: 2, size: 512 });
  const first = await pages.take();
  const second = await pages.take();
  assert.equal(pages.free, 0);
  let got: fs.Page | null = null;
  const third = pages.take().then((page) => got = page);
  await Uring.shared.nop();
  assert.equal(got, null);
  first.bytes.fill(7);
  first.release();
  first.release();
  const page = await third;
  assert.equal(page.bytes[0], 7);
  assert.throws(() => first.bytes, TypeError);
  second.release();
  page.release();
  assert.equal(pages.free, 2);
});

test("pages: one that is given back while it is read into is nobody's until the read has ended", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(PAGE));
  await using pages = new fs.PagePool({ count: 1 });
  await using file = await fs.open(dir.of("file"));
  for (let i = 0; i < 20; i++) {
    const page = await pages.take();
    const read = file.readFixed(page, { position: 0 });
    page.release();
    assert.equal(pages.free, 0);
    collect();
    await read;
    assert.equal(pages.free, 1);
    await failure(file.readFixed(page, { position: 0 }));
  }
});

test("pages: disposal waits for what is under way, empties views, and fails who waits", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(PAGE));
  await using file = await fs.open(dir.of("file"));
  const pages = new fs.PagePool({ count: 1 });
  const page = await pages.take();
  const view = page.bytes;
  const read = file.readFixed(page, { position: 0 });
  const waiting = failure(pages.take());
  await pages[Symbol.asyncDispose]();
  assert.equal((await read).bytesRead, PAGE);
  assert.equal(view.length, 0);
  assert.ok(await waiting instanceof TypeError);
  assert.throws(() => pages.take(), TypeError);
  for (const options of [{ count: 0 }, { size: 100 }, { size: 0 }, { count: 1.5 }]) {
    assert.throws(() => new fs.PagePool(options), RangeError);
  }
});
