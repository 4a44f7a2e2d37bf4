/** FileHandle.append: order, offsets, groups, failures; and the handle's other additions. */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync, statSync, writeFileSync } from "node:fs";
import * as fs from "../../src/fs/mod.ts";
import { Uring } from "../../src/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { digest, failure } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

test("append: in order, with offsets, after what is there, text and bytes", async () => {
  using dir = new TempDir();
  for (const flags of ["a", "r+", "a+"]) {
    writeFileSync(dir.of("file"), "begin");
    await using file = await fs.open(dir.of("file"), flags);
    const offsets = await Promise.all([
      file.append("one"),
      file.append(new Uint8Array()),
      file.append(new TextEncoder().encode("grüße"), { durable: true }),
      file.append("!"),
    ]);
    assert.deepEqual(offsets, [5, 8, 8, 15], flags);
    assert.equal(await file.append("end", { durable: true }), 16);
    assert.equal(readFileSync(dir.of("file"), "utf8"), "beginonegrüße!end");
  }
});

test("append: thousands, more than one write takes, and large ones", async () => {
  using dir = new TempDir();
  await using file = await fs.open(dir.of("file"), "w");
  const records = Array.from({ length: 3000 }, (_, i) => content(i % 97 === 0 ? 500_000 : i % 200, i));
  const offsets = await Promise.all(
    records.map((record, i) => file.append(record, { durable: i % 100 === 0 })),
  );
  let at = 0;
  for (const [i, offset] of offsets.entries()) {
    assert.equal(offset, at);
    at += records[i]!.length;
  }
  assert.equal(digest(readFileSync(dir.of("file"))), digest(Buffer.concat(records)));
});

test("append: durable records of whole sectors, between others, are where they belong", async () => {
  using dir = new TempDir();
  for (const flags of ["a", "w", "a+", "w+"]) {
    await using file = await fs.open(dir.of("file"), flags);
    await file.truncate(0);
    let at = 0;
    const expected: Uint8Array[] = [];
    for (const size of [4096, 8192, 100, 4096, 3996, 4096, 65_536, 4096, 1_048_576, 2_097_152, 4096]) {
      const record = content(size, at);
      expected.push(record);
      assert.equal(await file.append(record, { durable: true }), at, `${flags}: ${size}`);
      at += size;
      // What the page cache has of it is not what was there before.
      assert.equal(
        digest(readFileSync(dir.of("file"))),
        digest(Buffer.concat(expected)),
        `${flags}: ${size}`,
      );
    }
    const group = Array.from({ length: 40 }, (_, i) => content(4096, i));
    assert.deepEqual(
      await Promise.all(group.map((record) => file.append(record, { durable: true }))),
      group.map((_, i) => at + i * 4096),
    );
    assert.equal(digest(readFileSync(dir.of("file"))), digest(Buffer.concat([...expected, ...group])));
  }
});

test("append: what others append to a file opened for that stays", async () => {
  using dir = new TempDir();
  await using file = await fs.open(dir.of("file"), "a");
  await file.append(content(4096, 1), { durable: true });
  appendFileSync(dir.of("file"), content(4096, 2));
  await file.append(content(4096, 3), { durable: true });
  appendFileSync(dir.of("file"), "odd");
  await file.append(content(4096, 4), { durable: true });
  const expected = [
    content(4096, 1),
    content(4096, 2),
    content(4096, 3),
    Buffer.from("odd"),
    content(4096, 4),
  ];
  assert.equal(digest(readFileSync(dir.of("file"))), digest(Buffer.concat(expected)));
});

test("append: after truncate, where the file ends then; not to files that are only read, or closed", async () => {
  using dir = new TempDir();
  const file = await fs.open(dir.of("file"), "w");
  await file.append(content(8192), { durable: true });
  await file.truncate(4096);
  assert.equal(await file.append(content(4096), { durable: true }), 4096);
  assert.equal(statSync(dir.of("file")).size, 8192);
  const last = [file.append(content(4096), { durable: true }), file.append("end", { durable: true })];
  const closing = file.close();
  assert.deepEqual(await Promise.all(last), [8192, 12_288]);
  await closing;
  assert.equal((await failure(file.append("late"))).code, "EBADF");
  await using reader = await fs.open(dir.of("file"));
  assert.equal((await failure(reader.append(content(4096), { durable: true }))).code, "EBADF");
});

test("append: those of one turn share one write", async () => {
  using dir = new TempDir();
  await using file = await fs.open(dir.of("file"), "w");
  await file.append("x", { durable: true });
  const before = Uring.shared.stats.enters;
  await Promise.all(Array.from({ length: 500 }, () => file.append("record", { durable: true })));
  const enters = Uring.shared.stats.enters - before;
  assert.ok(enters < 100, `${enters} system calls for 500 records`);
});

test("append: a failure is that of all in its group, and the next one starts where the file ends", async () => {
  await using full = await fs.open("/dev/full", "w");
  const errors = await Promise.all([failure(full.append("a")), failure(full.append("b"))]);
  assert.deepEqual(errors.map(({ code }) => code), ["ENOSPC", "ENOSPC"]);
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  await using readable = await fs.open(dir.of("file"));
  assert.equal((await failure(readable.append("x"))).code, "EBADF");
  const closed = await fs.open(dir.of("file"), "a");
  const last = closed.append("last");
  await closed.close();
  assert.equal(await last, 0);
  assert.equal((await failure(closed.append("x"))).code, "EBADF");
  assert.equal(readFileSync(dir.of("file"), "utf8"), "last");
});

test("fallocate, syncRange, advise", async () => {
  using dir = new TempDir();
  await using file = await fs.open(dir.of("file"), "w+");
  await file.fallocate(0, 100_000);
  assert.equal(statSync(dir.of("file")).size, 100_000);
  await file.write(content(50_000), { position: 0 });
  await file.syncRange(0, 50_000);
  for (const advice of ["normal", "sequential", "random", "willneed", "noreuse", "dontneed"] as const) {
    await file.advise(advice);
  }
  await file.advise("dontneed", 4096, 4096);
  assert.equal(digest((await file.readFile()).subarray(0, 50_000)), digest(content(50_000)));
  const error = await failure(file.advise("wrong" as never)) as Error & { code: string };
  assert.equal(error.code, "ERR_INVALID_ARG_VALUE");
  await failure(file.fallocate(-1, 5));
  await failure(file.syncRange(0, -1));
});
