/** Direct descriptors of files: everything that works on a descriptor works on them, and they are given back. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { IORING_OP_FTRUNCATE, O_CLOEXEC, O_RDWR, POLLIN } from "../../src/ffi/abi.ts";
import { DirectDescriptor } from "../../src/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring } from "../support/loop.ts";
import { bytes, countDescriptors, refuses, rejectsWith, text } from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

test("every operation on a file, without a descriptor of the process", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const path = dir.of("file");
  const file = await uring.openat(path, { flags: "w+", direct: true });
  assert.ok(file instanceof DirectDescriptor);
  assert.equal(file.closed, false);
  assert.equal(await uring.write(file, bytes("0123456789")), 10);
  assert.equal(await uring.writev(file, [bytes("ab"), bytes("cd")], { offset: 4 }), 4);
  await uring.fdatasync(file);
  await uring.fsync(file);
  const buffer = new Uint8Array(16);
  assert.equal(await uring.read(file, buffer, { offset: 0 }), 10);
  assert.equal(text(buffer, 10), "0123abcd89");
  const parts = [new Uint8Array(2), new Uint8Array(2)];
  assert.equal(await uring.readv(file, parts, { offset: 3 }), 4);
  assert.equal(parts.map((part) => text(part)).join("|"), "3a|bc");
  await uring.fallocate(file, 0, 0, 100);
  assert.equal(readFileSync(path).length, 100);
  if (missingOp(IORING_OP_FTRUNCATE) === false) {
    await uring.ftruncate(file, 6);
    assert.equal(readFileSync(path, "utf8"), "0123ab");
  }
  assert.equal((await uring.poll(file, POLLIN)) & POLLIN, POLLIN);
  assert.equal(countDescriptors(/uring-test-.*file/), 0);
  await uring.close(file);
  assert.equal(file.closed, true);
});

test("the file's own position is kept between operations", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "abcdef");
  const file = await uring.openat(dir.of("file"), { direct: true });
  const buffer = new Uint8Array(4);
  assert.equal(await uring.read(file, buffer), 4);
  assert.equal(await uring.read(file, buffer), 2);
  assert.equal(await uring.read(file, buffer), 0);
  await uring.close(file);
});

test("O_CLOEXEC, which the kernel refuses for direct descriptors, does no harm", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  const file = await uring.openat(dir.of("file"), { flags: O_RDWR | O_CLOEXEC, direct: true });
  await uring.close(file);
});

test("a slot is used again after its close, and never by two at once", async () => {
  await using uring = makeUring({ directDescriptors: 8 });
  using dir = new TempDir();
  const names = ["a", "b", "c", "d"];
  for (const name of names) writeFileSync(dir.of(name), name);
  const buffer = new Uint8Array(4);
  for (let round = 0; round < 20; round++) {
    const files = await Promise.all(names.map((name) => uring.openat(dir.of(name), { direct: true })));
    assert.deepEqual(files.map((file) => file.slot).sort(), [4, 5, 6, 7]);
    for (const [i, file] of files.entries()) {
      assert.equal(await uring.read(file, buffer), 1);
      assert.equal(text(buffer, 1), names[i]);
    }
    await Promise.all(files.map((file) => uring.close(file)));
  }
});

test("a full table says so, and an open that fails gives its slot back", async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  for (let i = 0; i < 10; i++) {
    await rejectsWith(uring.openat(dir.of("nothing"), { direct: true }), "ENOENT", "openat");
  }
  const open = async (): Promise<DirectDescriptor> => await uring.openat(dir.of("file"), { direct: true });
  const files = [await open(), await open()];
  await rejectsWith(open(), "ENFILE", "direct descriptor");
  assert.equal(uring.stats.inFlight, 0);
  await uring.close(files[0]!);
  files[0] = await open();
  for (const file of files) await uring.close(file);
});

test("a closed one, one of another ring, and what is no descriptor are refused", async () => {
  await using uring = makeUring();
  await using other = makeUring();
  const closed = await uring.openat("/proc/self/comm", { direct: true });
  const foreign = await other.openat("/proc/self/comm", { direct: true });
  const closing = uring.close(closed);
  assert.throws(() => uring.read(closed, new Uint8Array(1)), TypeError);
  await closing;
  for (const fd of [closed, foreign, "3", 1.5, NaN, 2 ** 31, null, undefined, {}, 3n]) {
    const wrong = fd as unknown as DirectDescriptor;
    await refuses(uring, TypeError, () => uring.read(wrong, new Uint8Array(1)));
    await refuses(uring, TypeError, () => uring.close(wrong));
    await refuses(uring, TypeError, () => uring.fsync(wrong));
    await refuses(uring, TypeError, () => uring.recv(wrong, new Uint8Array(1)));
    await refuses(uring, TypeError, () => uring.accept(wrong));
    await refuses(uring, TypeError, () => uring.poll(wrong, POLLIN));
    await refuses(uring, TypeError, () => uring.cancel({ fd: wrong }));
    await refuses(uring, TypeError, () => uring.acceptMultishot(wrong));
    await refuses(uring, TypeError, () => uring.recvMultishot(wrong));
    await refuses(uring, TypeError, () => uring.pollMultishot(wrong, POLLIN));
  }
  // One that is open already is nothing to open into.
  const open = await uring.openat("/proc/self/comm", { direct: true });
  await refuses(uring, TypeError, () => uring.openat("/proc/self/comm", { direct: open }));
  await uring.close(open);
  await other.close(foreign);
});

test("what is open at the end goes with the ring", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  const uring = makeUring();
  const file = await uring.openat(dir.of("file"), { direct: true });
  await uring.disposeAsync();
  assert.throws(() => uring.read(file, new Uint8Array(1)), TypeError);
  assert.throws(() => makeUring({ directDescriptors: 3 }), RangeError);
  assert.throws(() => makeUring({ directDescriptors: 0 }), RangeError);
});
