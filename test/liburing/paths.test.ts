/** Operations on paths: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { cString } from "../../src/ffi/cstring.ts";
import { check } from "../../src/ffi/errors.ts";
import { statx } from "../../src/ffi/structs.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_FOLLOW,
  O_CREAT,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  STATX_ALL,
} from "../../src/ring/mod.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { block, forEachKind, makeRing, once, path } from "../support/rings.ts";

checkLeaks();

const ENOENT = -2;
const EFAULT = -14;
const EEXIST = -17;
const EISDIR = -21;
const ENOTEMPTY = -39;

/** An address that nothing is mapped at. */
const NOWHERE = 0x1234;

const root = process.getuid?.() === 0;

/** Whether two names are those of one file that has no others. */
function assertLinked(one: string, two: string): void {
  const [a, b] = [statSync(one), statSync(two)];
  assert.deepEqual([a.dev, a.ino, a.nlink], [b.dev, b.ino, 2]);
}

forEachKind(({ name, options, skip }) => {
  test(`liburing mkdir: ${name}: makes it once, below what exists`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    const made = path(dir.of("made"));
    const below = path(dir.of("surely/this/wont/exist"));
    const mkdir = (at: number): number => once(ring, (sqe) => sqe.prepMkdirat(AT_FDCWD, at, 0o700)).res;
    assert.equal(mkdir(made), 0);
    assert.ok(statSync(dir.of("made")).isDirectory());
    assert.equal(mkdir(made), EEXIST);
    assert.equal(mkdir(below), ENOENT);
    assert.equal(mkdir(NOWHERE), EFAULT);
  });

  test(
    `liburing rename: ${name}: onto an existing file, of what is gone, with bad addresses`,
    { skip },
    () => {
      using dir = new TempDir();
      using ring = makeRing(1, options);
      writeFileSync(dir.of("src"), "src");
      writeFileSync(dir.of("dst"), "dst");
      const [src, dst, foo] = ["src", "dst", ".foo.bar"].map((file) => path(dir.of(file))) as [
        number,
        number,
        number,
      ];
      const rename = (from: number, to: number): number => once(ring, (sqe) => sqe.prepRename(from, to)).res;
      assert.equal(rename(src, dst), 0);
      assert.equal(existsSync(dir.of("src")), false);
      assert.equal(readFileSync(dir.of("dst"), "utf8"), "src");
      assert.equal(rename(path("/x/y/1/2"), path("/2/1/y/x")), ENOENT);
      assert.equal(rename(NOWHERE, foo), EFAULT);
      assert.equal(rename(foo, NOWHERE), EFAULT);
    },
  );

  test(`liburing unlink: ${name}: files, directories when asked to, nothing else`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(1, options);
    writeFileSync(dir.of("file"), "");
    mkdirSync(dir.of("empty"));
    mkdirSync(dir.of("full"));
    writeFileSync(dir.of("full/file"), "");
    const unlink = (at: number, flags = 0): number => once(ring, (sqe) => sqe.prepUnlink(at, flags)).res;
    const [file, empty, full] = ["file", "empty", "full"].map((entry) => path(dir.of(entry))) as [
      number,
      number,
      number,
    ];
    assert.equal(unlink(file), 0);
    assert.equal(existsSync(dir.of("file")), false);
    assert.equal(unlink(file), ENOENT);
    assert.equal(unlink(path("/3/2/3/1/z/y")), ENOENT);
    assert.equal(unlink(NOWHERE), EFAULT);
    assert.equal(unlink(empty), EISDIR);
    assert.equal(unlink(empty, AT_REMOVEDIR), 0);
    assert.equal(unlink(full, AT_REMOVEDIR), ENOTEMPTY);
    assert.equal(existsSync(dir.of("empty")), false);
  });

  test(`liburing symlink: ${name}: says what it was told, once, below what exists`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    const target = path("io_uring-symlinkat-test-target");
    const link = path(dir.of("link"));
    const below = path(dir.of("surely/this/does/not/exist"));
    const symlink = (from: number, to: number): number =>
      once(ring, (sqe) => sqe.prepSymlinkat(from, AT_FDCWD, to)).res;
    assert.equal(symlink(target, link), 0);
    assert.equal(readlinkSync(dir.of("link")), "io_uring-symlinkat-test-target");
    assert.equal(symlink(target, link), EEXIST);
    assert.equal(symlink(target, below), ENOENT);
    assert.equal(symlink(target, NOWHERE), EFAULT);
    assert.equal(symlink(NOWHERE, target), EFAULT);
    assert.equal(once(ring, (sqe) => sqe.prepSymlink(target, link)).res, EEXIST);
  });

  test(`liburing hardlink: ${name}: of a name, of an open file, through a symbolic link`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    const [target, link, soft, empty] = ["target", "link", "soft", "empty"].map((file) =>
      path(dir.of(file))
    ) as [number, number, number, number];
    const linkat = (fd: number, from: number, to: number, flags: number): number =>
      once(ring, (sqe) => sqe.prepLinkat(fd, from, AT_FDCWD, to, flags)).res;
    using file = Fd.open(dir.of("target"), O_CREAT | O_RDWR | O_EXCL);
    // Without the right to it, the kernel says that there is no such file, or grants it to who has opened it.
    const unnamed = linkat(file.fd, path(""), empty, AT_EMPTY_PATH);
    assert.ok(unnamed === 0 || !root && unnamed === ENOENT, `${unnamed}`);
    if (unnamed === 0) {
      assertLinked(dir.of("empty"), dir.of("target"));
      assert.equal(once(ring, (sqe) => sqe.prepUnlink(empty, 0)).res, 0);
    }
    symlinkSync(dir.of("target"), dir.of("soft"));
    assert.equal(linkat(AT_FDCWD, target, link, 0), 0);
    assertLinked(dir.of("link"), dir.of("target"));
    assert.equal(once(ring, (sqe) => sqe.prepUnlink(link, 0)).res, 0);
    assert.equal(linkat(AT_FDCWD, soft, link, AT_SYMLINK_FOLLOW), 0);
    assertLinked(dir.of("soft"), dir.of("target"));
    assert.equal(linkat(AT_FDCWD, target, link, 0), EEXIST);
    assert.equal(linkat(AT_FDCWD, target, path(dir.of("surely/this/does/not/exist")), 0), ENOENT);
    assert.equal(once(ring, (sqe) => sqe.prepLink(target, link, 0)).res, EEXIST);
  });

  test(`liburing statx: ${name}: the same bytes as the system call`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    writeFileSync(dir.of("file"), new Uint8Array(4096));
    const name = path(dir.of("file"));
    const [ours, theirs] = [block(statx.size), block(statx.size)];
    assert.equal(once(ring, (sqe) => sqe.prepStatx(-1, name, 0, STATX_ALL, ours.address)).res, 0);
    check(libc().statx(-1, cString(dir.of("file")), 0, STATX_ALL, theirs.bytes), "statx");
    assert.deepEqual(ours.bytes, theirs.bytes);
    assert.equal(ours.view.getBigUint64(statx.stx_size, true), 4096n);
    assert.equal(once(ring, (sqe) => sqe.prepStatx(-1, NOWHERE, 0, STATX_ALL, ours.address)).res, EFAULT);
    assert.equal(once(ring, (sqe) => sqe.prepStatx(-1, name, 0, STATX_ALL, NOWHERE)).res, EFAULT);
    using file = Fd.open(dir.of("file"), O_RDONLY);
    ours.bytes.fill(0);
    const empty = path("");
    const own = once(ring, (sqe) => sqe.prepStatx(file.fd, empty, AT_EMPTY_PATH, STATX_ALL, ours.address));
    assert.equal(own.res, 0);
    check(libc().statx(file.fd, cString(""), AT_EMPTY_PATH, STATX_ALL, theirs.bytes), "statx");
    assert.deepEqual(ours.bytes, theirs.bytes);
  });
});
