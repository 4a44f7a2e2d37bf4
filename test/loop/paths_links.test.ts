/** Hard and symbolic links. */
import assert from "node:assert/strict";
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, O_PATH } from "../../src/ffi/abi.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring } from "../support/loop.ts";
import { bytes, failure, Reason, refuses, rejectsWith } from "../support/operations.ts";

checkLeaks();

const notRoot = process.getuid?.() === 0 ? false : "needs root";

test("linkat: a second name for the same file", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "content");
  await uring.linkat(dir.of("file"), dir.of("second"));
  assert.equal(statSync(dir.of("second")).ino, statSync(dir.of("file")).ino);
  assert.equal(statSync(dir.of("second")).nlink, 2);
  await uring.unlinkat(dir.of("file"));
  assert.equal(readFileSync(dir.of("second"), "utf8"), "content");
});

test("linkat: relative to directories, of symbolic links and of what they lead to", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  mkdirSync(dir.of("a"));
  mkdirSync(dir.of("b"));
  writeFileSync(dir.of("a/file"), "");
  symlinkSync("file", dir.of("a/link"));
  const [dirfd, newDirfd] = await Promise.all(
    ["a", "b"].map((name) => uring.openat(dir.of(name), { flags: O_PATH })),
  ) as [number, number];
  await uring.linkat("file", "hard", { dirfd, newDirfd });
  await uring.linkat("link", "soft", { dirfd, newDirfd });
  await uring.linkat("link", bytes("followed"), { dirfd, newDirfd, flags: AT_SYMLINK_FOLLOW });
  assert.equal(statSync(dir.of("b/hard")).ino, statSync(dir.of("a/file")).ino);
  assert.ok(lstatSync(dir.of("b/soft")).isSymbolicLink());
  assert.equal(statSync(dir.of("b/followed")).ino, statSync(dir.of("a/file")).ino);
  await uring.close(dirfd);
  await uring.close(newDirfd);
});

test("linkat: AT_EMPTY_PATH names an open file", { skip: notRoot }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const dirfd = await uring.openat(dir.of("file"), { flags: "w" });
  await uring.linkat("", dir.of("other"), { dirfd, flags: AT_EMPTY_PATH });
  assert.equal(statSync(dir.of("file")).nlink, 2);
  await uring.close(dirfd);
});

test("linkat and symlinkat: errors are those of node:fs", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  writeFileSync(dir.of("there"), "");
  const pairs = [["file", "there"], ["none", "new"], ["file", "no/such"], ["file", "file/x"]] as const;
  for (const [from, to] of pairs) {
    const [path, dest] = [dir.of(from), dir.of(to)];
    const error = await failure(uring.linkat(path, dest));
    const expected = thrown(() => linkSync(path, dest));
    assert.deepEqual([error.code, error.errno, error.path, error.dest], [
      expected.code,
      expected.errno,
      path,
      dest,
    ]);
    assert.equal(error.syscall, "linkat");
  }
  for (const [to, code] of [["there", "EEXIST"], ["no/such", "ENOENT"], ["file/x", "ENOTDIR"]] as const) {
    const error = await failure(uring.symlinkat("anything", dir.of(to)));
    assert.deepEqual([error.code, error.syscall, error.path, error.dest], [
      code,
      "symlinkat",
      "anything",
      dir.of(to),
    ]);
    assert.equal(thrown(() => symlinkSync("anything", dir.of(to))).code, code);
  }
  await rejectsWith(uring.linkat(dir.path, dir.of("directory")), "EPERM", "linkat");
  await rejectsWith(uring.linkat(dir.of("file"), dir.of("new"), { flags: 0x4000_0000 }), "EINVAL", "linkat");
  await rejectsWith(uring.linkat("x", "y", { dirfd: 1_000_000 }), "EBADF", "linkat");
  await rejectsWith(uring.linkat(dir.of("file"), "y", { newDirfd: 1_000_000 }), "EBADF", "linkat");
  await rejectsWith(uring.symlinkat("x", "y", { dirfd: 1_000_000 }), "EBADF", "symlinkat");
  await rejectsWith(uring.symlinkat("", dir.of("empty")), "ENOENT", "symlinkat");
});

function thrown(call: () => void): { code: string; errno: number } {
  try {
    call();
  } catch (error) {
    return error as { code: string; errno: number };
  }
  assert.fail("the runtime's own call has succeeded");
}

test("symlinkat: says what it was told, whether that exists or not", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "content");
  const dirfd = await uring.openat(dir.path, { flags: O_PATH });
  await uring.symlinkat("file", "link", { dirfd });
  await uring.symlinkat("nowhere/at all", dir.of("dangling"));
  await uring.symlinkat(new Uint8Array([0xff, 0x41]), dir.of("bytes"));
  assert.equal(readFileSync(dir.of("link"), "utf8"), "content");
  assert.equal(readlinkSync(dir.of("dangling")), "nowhere/at all");
  assert.equal(lstatSync(dir.of("bytes")).size, 2);
  await uring.close(dirfd);
});

test("wrong paths are refused at once, and what was aborted is not done", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  for (const wrong of ["a\0b", 5, null, undefined, {}]) {
    const path = wrong as string;
    await refuses(uring, TypeError, () => uring.linkat(path, "x"));
    await refuses(uring, TypeError, () => uring.linkat("x", path));
    await refuses(uring, TypeError, () => uring.symlinkat(path, "x"));
    await refuses(uring, TypeError, () => uring.symlinkat("x", path));
  }
  await refuses(uring, RangeError, () => uring.linkat("x", "y", { flags: -1 }));
  await refuses(uring, TypeError, () => uring.linkat("x", "y", { newDirfd: 0.5 }));
  const reason = new Reason();
  const signal = AbortSignal.abort(reason);
  assert.equal(await failure(uring.linkat(dir.of("file"), dir.of("new"), { signal })), reason);
  assert.equal(await failure(uring.symlinkat("x", dir.of("new"), { signal })), reason);
  await rejectsWith(uring.statx(dir.of("new")), "ENOENT", "statx");
  await uring.linkat(dir.of("file"), dir.of("new"), { timeout: 60_000 });
  await uring.symlinkat("x", dir.of("newer"), { timeout: 60_000 });
});

test("in a chain: made one after the other, and past a failure it goes on", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const [at, to] = [dir.of("file"), dir.of("hard")];
  await uring.link((l) => [l.mkdirat(dir.of("sub")), l.symlinkat("../file", dir.of("sub/link"))]);
  assert.equal(readlinkSync(dir.of("sub/link")), "../file");
  await uring.link((l) => {
    const file = l.direct();
    return [l.openat(at, { flags: "w", direct: file }), l.linkat(at, to), l.close(file)];
  });
  assert.equal(statSync(at).nlink, 2);
  const settled = await uring.linkSettled((l) => [l.linkat(at, to), l.symlinkat("x", to), l.nop()]);
  assert.deepEqual(settled.map(({ status }) => status), ["rejected", "rejected", "fulfilled"]);
});
