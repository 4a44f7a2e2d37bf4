/** Extended attributes. */
import assert from "node:assert/strict";
import { rmSync, symlinkSync, writeFileSync } from "node:fs";
import { XATTR_CREATE, XATTR_REPLACE } from "../../src/ffi/abi.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, makeUring } from "../support/loop.ts";
import { bytes, failure, Reason, refuses, rejectsWith, text } from "../support/operations.ts";
import { missingXattrs } from "../support/xattrs.ts";

checkLeaks();

const skip = missingXattrs();

test("set and get, by path and by descriptor", { skip }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const path = dir.of("file");
  const fd = await uring.openat(path, { flags: "w" });
  await uring.setxattr(path, "user.text", "wörds");
  await uring.fsetxattr(fd, "user.bytes", new Uint16Array([0x0102, 0x0304]));
  await uring.setxattr(path, bytes("user.empty"), "");
  assert.equal(text(await uring.fgetxattr(fd, "user.text")), "wörds");
  assert.deepEqual([...await uring.getxattr(path, "user.bytes")], [2, 1, 4, 3]);
  assert.deepEqual([...await uring.getxattr(path, bytes("user.empty"))], []);
  await uring.fsetxattr(fd, "user.text", "other");
  assert.equal(text(await uring.getxattr(path, "user.text", { size: 5 })), "other");
  await uring.close(fd);
});

test("into memory of the caller's, or for the length alone", { skip }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const path = dir.of("file");
  const fd = await uring.openat(path, { flags: "w" });
  await uring.setxattr(path, "user.x", "content");
  const buffer = new Uint8Array(32);
  assert.equal(await uring.getxattr(path, "user.x", { buffer: buffer.subarray(4, 20) }), 7);
  assert.equal(text(buffer.subarray(4, 11)), "content");
  assert.deepEqual([buffer[3], buffer[11]], [0, 0]);
  assert.equal(await uring.fgetxattr(fd, "user.x", { buffer: new DataView(new ArrayBuffer(7)) }), 7);
  assert.equal(await uring.getxattr(path, "user.x", { buffer: new Uint8Array(0) }), 7);
  assert.equal(await uring.fgetxattr(fd, "user.x", { buffer: new Uint8Array(0) }), 7);
  await rejectsWith(uring.getxattr(path, "user.x", { buffer: new Uint8Array(6) }), "ERANGE", "getxattr");
  await rejectsWith(uring.fgetxattr(fd, "user.x", { size: 6 }), "ERANGE", "fgetxattr");
  await uring.close(fd);
});

test("values of any length come whole, also in a chain", { skip }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const path = dir.of("file");
  const fd = await uring.openat(path, { flags: "w" });
  for (const length of [1023, 1024, 1025, 3000]) {
    const value = content(length);
    await uring.fsetxattr(fd, "user.x", value);
    assert.deepEqual(await uring.getxattr(path, "user.x"), value);
    assert.deepEqual(await uring.fgetxattr(fd, "user.x", { timeout: 60_000 }), value);
    const [chained] = await uring.link((l) => [l.getxattr(path, "user.x"), l.nop()]);
    assert.deepEqual(chained, value);
  }
  // A size that was named is the size.
  await rejectsWith(uring.getxattr(path, "user.x", { size: 1024 }), "ERANGE", "getxattr");
  // The ring may be closed between the two tries.
  const closing = makeUring();
  const late = Promise.allSettled([closing.getxattr(path, "user.x")]);
  await closing.disposeAsync();
  await late;
  await uring.close(fd);
});

test("XATTR_CREATE and XATTR_REPLACE", { skip }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const path = dir.of("file");
  const fd = await uring.openat(path, { flags: "w" });
  const error = await failure(uring.setxattr(path, "user.x", "1", { flags: XATTR_REPLACE }));
  assert.deepEqual([error.code, error.errno, error.syscall, error.path], ["ENODATA", -61, "setxattr", path]);
  await uring.setxattr(path, "user.x", "1", { flags: XATTR_CREATE });
  await rejectsWith(uring.fsetxattr(fd, "user.x", "2", { flags: XATTR_CREATE }), "EEXIST", "fsetxattr");
  await uring.fsetxattr(fd, "user.x", "3", { flags: XATTR_REPLACE });
  assert.equal(text(await uring.getxattr(path, "user.x")), "3");
  await rejectsWith(uring.setxattr(path, "user.x", "4", { flags: 77 }), "EINVAL", "setxattr");
  await uring.close(fd);
});

test("what goes wrong is told as the system call tells it", { skip }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const path = dir.of("file");
  writeFileSync(path, "");
  symlinkSync("file", dir.of("link"));
  await uring.setxattr(dir.of("link"), "user.x", "through the link");
  assert.equal(text(await uring.getxattr(path, "user.x")), "through the link");
  const error = await failure(uring.getxattr(path, "user.none"));
  assert.equal(error.message, `ENODATA: no data available, getxattr '${path}'`);
  await rejectsWith(uring.getxattr(dir.of("none"), "user.x"), "ENOENT", "getxattr");
  await rejectsWith(uring.setxattr(dir.of("none"), "user.x", ""), "ENOENT", "setxattr");
  await rejectsWith(uring.getxattr(path, "nonsense"), "ENOTSUP", "getxattr");
  await rejectsWith(uring.setxattr(path, "nonsense", ""), "ENOTSUP", "setxattr");
  await rejectsWith(uring.getxattr(path, ""), "ERANGE", "getxattr");
  await rejectsWith(uring.setxattr(path, "x".repeat(300), ""), "ERANGE", "setxattr");
  await rejectsWith(uring.setxattr(path, "user.x", new Uint8Array(70_000)), "E2BIG", "setxattr");
  await rejectsWith(uring.fgetxattr(1_000_000, "user.x"), "EBADF", "fgetxattr");
  await rejectsWith(uring.fsetxattr(-1, "user.x", ""), "EBADF", "fsetxattr");
});

test("wrong arguments are refused at once", { skip }, async () => {
  await using uring = makeUring();
  const wrong = ["a\0", 5, null, undefined] as unknown as string[];
  for (const path of wrong) {
    await refuses(uring, TypeError, () => uring.getxattr(path, "user.x"));
    await refuses(uring, TypeError, () => uring.getxattr("x", path));
    await refuses(uring, TypeError, () => uring.setxattr(path, "user.x", ""));
    await refuses(uring, TypeError, () => uring.setxattr("x", path, ""));
    await refuses(uring, TypeError, () => uring.fgetxattr(0, path));
    await refuses(uring, TypeError, () => uring.fsetxattr(0, path, ""));
  }
  for (const size of [0, -1, 65537, 0.5, NaN]) {
    await refuses(uring, RangeError, () => uring.getxattr("x", "user.x", { size }));
    await refuses(uring, RangeError, () => uring.fgetxattr(0, "user.x", { size }));
  }
  for (const value of [5, null, undefined, new ArrayBuffer(4)] as unknown as string[]) {
    await refuses(uring, TypeError, () => uring.setxattr("x", "user.x", value));
    await refuses(uring, TypeError, () => uring.fsetxattr(0, "user.x", value));
  }
  await refuses(uring, TypeError, () => uring.getxattr("x", "y", { buffer: null as unknown as Uint8Array }));
  await refuses(uring, RangeError, () => uring.setxattr("x", "y", "z", { flags: -1 }));
  await refuses(uring, TypeError, () => uring.fgetxattr("0" as unknown as number, "y"));
});

test("direct descriptors, and steps of a chain", { skip }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const path = dir.of("file");
  const results = await uring.link((l) => {
    const file = l.direct();
    return [
      l.openat(path, { flags: "w", direct: file }),
      l.fsetxattr(file, "user.a", "from a chain"),
      l.fgetxattr(file, "user.a"),
      l.setxattr(path, "user.b", "by path"),
      l.getxattr(path, "user.b", { timeout: 60_000 }),
      l.close(file),
    ];
  });
  assert.equal(text(results[2]), "from a chain");
  assert.equal(text(results[4]), "by path");
  // The kernel goes on past one that fails.
  const settled = await uring.linkSettled((l) => [l.getxattr(path, "user.c"), l.nop()]);
  assert.deepEqual(settled.map(({ status }) => status), ["rejected", "fulfilled"]);
});

test("many at once, memory collected meanwhile, some aborted", { skip }, async () => {
  await using uring = makeUring({ entries: 8 });
  using dir = new TempDir();
  const path = dir.of("file");
  const fd = await uring.openat(path, { flags: "w" });
  const value = (i: number): string => `${i}`.repeat(50);
  const sets = Array.from({ length: 20 }, (_, i) => uring.fsetxattr(fd, `user.${i}`, value(i)));
  collect();
  await Promise.all(sets);
  const gets = Array.from({ length: 20 }, (_, i) => uring.getxattr(path, `user.${i}`, { timeout: 60_000 }));
  collect();
  (await Promise.all(gets)).forEach((got, i) => assert.equal(text(got), value(i)));
  const reason = new Reason();
  const signal = AbortSignal.abort(reason);
  assert.equal(await failure(uring.setxattr(path, "user.never", "", { signal })), reason);
  await rejectsWith(uring.fgetxattr(fd, "user.never"), "ENODATA", "fgetxattr");
  await uring.close(fd);
  rmSync(path);
});
