/** Direct calls on the files of another file system, beside what the system says of the same files. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statfsSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { lstat, readdir, writeFile } from "../../src/fs/mod.ts";
import { backing } from "../../src/fuse/mod.ts";
import { AT_FDCWD, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_RDONLY, O_RDWR, O_WRONLY } from "../../src/ring/mod.ts";
import { openFile } from "../support/loop.ts";
import { content } from "../support/content.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { missingXattrs } from "../support/xattrs.ts";

checkLeaks({ sharedRings: 1 });

const EAGAIN = -11;
const ENOENT = -2;
const ENOTDIR = -20;
const ELOOP = -40;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const S_IFMT = 0o170000;

const pathFd = (path: string): Fd => Fd.open(path, O_PATH | O_NOFOLLOW);
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** What both say of a file, exactly. */
async function assertSame(mine: backing.BackingAttributes, path: string): Promise<void> {
  // Deno's own `lstat` knows no nanoseconds.
  const theirs = await lstat(path, { bigint: true });
  for (const name of ["mode", "ino", "size", "blocks", "nlink", "uid", "gid", "rdev", "blksize"] as const) {
    assert.equal(BigInt(mine[name]), theirs[name], name);
  }
  for (const name of ["atimeNs", "mtimeNs", "ctimeNs"] as const) assert.equal(mine[name], theirs[name], name);
  assert.equal(BigInt(mine.device), theirs.dev);
}

test("stat and statAt say what lstat says", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(5000));
  utimesSync(dir.of("file"), 1, 4_000_000_000.25);
  symlinkSync("file", dir.of("link"));
  using parent = pathFd(dir.path);
  for (const name of ["file", "link"]) {
    using fd = pathFd(dir.of(name));
    await assertSame(backing.stat(fd.fd), dir.of(name));
    await assertSame(backing.statAt(parent.fd, name)!, dir.of(name));
  }
  using device = pathFd("/dev/null");
  await assertSame(backing.stat(device.fd), "/dev/null");
  assert.equal(backing.statAt(parent.fd, "none"), null);
  assert.throws(() => backing.stat(-1), { code: "EBADF", syscall: "stat" });
  assert.throws(() => backing.statAt(parent.fd, "a\0b"), TypeError);
  assert.throws(() => backing.statAt(parent.fd, "file/x"), { code: "ENOTDIR" });
});

test("openCached opens what is in memory, and tells why not as a number", async () => {
  using dir = new TempDir();
  const bytes = Uint8Array.of(0x66, 0xff, 0xfe);
  await writeFile(Buffer.concat([Buffer.from(`${dir.path}/`), bytes]), "x");
  symlinkSync("none", dir.of("link"));
  using parent = pathFd(dir.path);
  const flags = O_PATH | O_NOFOLLOW;
  for (const name of [bytes, "link", Buffer.from("link")]) {
    using fd = new Fd(backing.openCached(parent.fd, name, flags));
    assert.ok(fd.fd >= 0);
    assert.equal(backing.stat(fd.fd).ino, backing.statAt(parent.fd, name)!.ino);
  }
  // A name that was never asked for is not known to be none, either.
  assert.ok([ENOENT, EAGAIN].includes(backing.openCached(parent.fd, "none", flags)));
  assert.equal(backing.openCached(parent.fd, "link", O_RDONLY | O_NOFOLLOW), ELOOP);
  assert.ok([ENOTDIR, EAGAIN].includes(backing.openCached(parent.fd, "link/x", flags | O_DIRECTORY)));
  assert.throws(() => backing.openCached(parent.fd, "x".repeat(5000), flags), { code: "ENAMETOOLONG" });
  assert.throws(() => backing.openCached(AT_FDCWD, "a\0b", flags), TypeError);
});

test("reopen makes an O_PATH descriptor one that reads, whatever the file is called by then", () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "content");
  using fd = pathFd(dir.of("file"));
  renameSync(dir.of("file"), dir.of("renamed"));
  using reader = new Fd(backing.reopen(fd.fd, O_RDONLY));
  const buffer = new Uint8Array(100);
  assert.equal(backing.readCached(reader.fd, buffer, 3), 4);
  assert.equal(text(buffer.subarray(0, 4)), "tent");
  assert.throws(() => backing.reopen(fd.fd, O_RDONLY | O_DIRECTORY), { code: "ENOTDIR" });
});

test("readCached reads what is in memory and nothing else", () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(100_000));
  using fd = openFile(dir.of("file"), O_RDWR);
  const buffer = new Uint8Array(100_001);
  const count = backing.readCached(fd.fd, buffer, 0);
  // File systems without a say in it have the ring read.
  if (count !== EAGAIN) {
    assert.equal(count, 100_000);
    assert.deepEqual(Buffer.from(buffer.subarray(0, count)), Buffer.from(content(100_000)));
    assert.equal(backing.readCached(fd.fd, buffer, 100_000), 0);
    assert.equal(backing.readCached(fd.fd, buffer, 2 ** 40), 0);
  }
  assert.throws(() => backing.readCached(-1, buffer, 0), { code: "EBADF", syscall: "read" });
  using writer = openFile(dir.of("file"), O_WRONLY);
  assert.throws(() => backing.readCached(writer.fd, buffer, 0), { code: "EBADF" });
});

test("nextEntries gives all names as bytes, in batches, and again after rewind", async () => {
  using dir = new TempDir();
  const odd = Buffer.from([0x80, 0xff]);
  for (let i = 0; i < 3000; i++) writeFileSync(dir.of(`a name ${i}`), "");
  await writeFile(Buffer.concat([Buffer.from(`${dir.path}/`), odd]), "");
  mkdirSync(dir.of("directory"));
  using fd = Fd.open(dir.path, O_RDONLY | O_DIRECTORY);
  for (let again = 0; again < 2; again++) {
    const all: backing.BackingEntry[] = [];
    for (let some = backing.nextEntries(fd.fd); some.length > 0; some = backing.nextEntries(fd.fd)) {
      all.push(...some);
    }
    const names = all.map(({ name }) => Buffer.from(name).toString("latin1")).sort();
    const theirs = await readdir(dir.path, { encoding: "buffer" });
    assert.deepEqual(names, theirs.map((name) => Buffer.from(name).toString("latin1")).sort());
    const found = all.find(({ name }) => text(name) === "directory")!;
    assert.equal(found.ino, lstatSync(dir.of("directory")).ino);
    assert.equal(found.mode & S_IFMT, 0o040000);
    backing.rewind(fd.fd);
  }
  using file = Fd.open(dir.of("a name 1"), O_RDONLY);
  assert.throws(() => backing.nextEntries(file.fd), { code: "ENOTDIR" });
});

test("readlink, chmod, utimes, mknod, chown on O_PATH descriptors", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  symlinkSync("where it points", dir.of("link"));
  using parent = pathFd(dir.path);
  using file = pathFd(dir.of("file"));
  using link = pathFd(dir.of("link"));
  assert.equal(text(backing.readlink(link.fd)), "where it points");
  assert.throws(() => backing.readlink(file.fd), { syscall: "readlink" });
  backing.chmod(file.fd, 0o104640);
  assert.equal(lstatSync(dir.of("file")).mode & 0o7777, 0o4640);
  const nothing = { atimeNs: undefined, mtimeNs: undefined, atimeNow: false, mtimeNow: false };
  backing.utimes(file.fd, { ...nothing, atimeNs: -1n, mtimeNs: 1_234_567_890_123_456_789n });
  assert.equal((await lstat(dir.of("file"), { bigint: true })).atimeNs, -1n);
  backing.utimes(file.fd, { ...nothing, atimeNow: true });
  assert.equal((await lstat(dir.of("file"), { bigint: true })).mtimeNs, 1_234_567_890_123_456_789n);
  assert.ok(Math.abs(lstatSync(dir.of("file")).atimeMs - Date.now()) < 60_000);
  backing.utimes(link.fd, { ...nothing, mtimeNs: 5_000_000_007n });
  assert.equal((await lstat(dir.of("link"), { bigint: true })).mtimeNs, 5_000_000_007n);
  backing.mknod(parent.fd, "fifo", 0o010600, 0);
  assert.ok(lstatSync(dir.of("fifo")).isFIFO());
  assert.throws(() => backing.mknod(parent.fd, "fifo", 0o010600, 0), { code: "EEXIST" });
  const owner = lstatSync(dir.of("link"));
  backing.chown(link.fd, owner.uid, undefined);
  if (process.getuid?.() === 0) {
    backing.chown(link.fd, 65534, undefined);
    backing.chown(link.fd, undefined, 65533);
    assert.deepEqual([lstatSync(dir.of("link")).uid, lstatSync(dir.of("link")).gid], [65534, 65533]);
    assert.equal(lstatSync(dir.of("file")).uid, 0);
  }
});

test("extended attributes of any length", { skip: missingXattrs() }, () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  using fd = pathFd(dir.of("file"));
  assert.deepEqual(backing.listxattr(fd.fd), []);
  assert.equal(backing.getxattr(fd.fd, "user.none"), null);
  const values = { "user.empty": 0, "user.short": 3, "user.long": 2000 };
  for (const [name, length] of Object.entries(values)) backing.setxattr(fd.fd, name, content(length));
  for (const [name, length] of Object.entries(values)) {
    assert.deepEqual(Buffer.from(backing.getxattr(fd.fd, name)!), Buffer.from(content(length)));
  }
  assert.throws(() => backing.setxattr(fd.fd, "user.short", content(1), 1), { code: "EEXIST" });
  assert.throws(() => backing.setxattr(fd.fd, "user.other", content(1), 2), { code: "ENODATA" });
  for (let i = 0; i < 20; i++) backing.setxattr(fd.fd, `user.one of many names ${i}`, content(1));
  assert.equal(backing.listxattr(fd.fd).length, 23);
  backing.removexattr(fd.fd, "user.short");
  assert.throws(() => backing.removexattr(fd.fd, "user.short"), { code: "ENODATA" });
  assert.ok(!backing.listxattr(fd.fd).some((name) => text(name) === "user.short"));
});

test("seek, copyFileRange, statfs", () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(10_000));
  truncateSync(dir.of("file"), 1 << 20);
  linkSync(dir.of("file"), dir.of("other"));
  using file = openFile(dir.of("file"), O_RDWR);
  const hole = backing.seek(file.fd, 0, SEEK_HOLE);
  assert.ok(hole >= 10_000 && hole <= 1 << 20);
  assert.equal(backing.seek(file.fd, 5, SEEK_DATA), 5);
  assert.throws(() => backing.seek(file.fd, 1 << 21, SEEK_DATA), { code: "ENXIO", syscall: "lseek" });
  writeFileSync(dir.of("copy"), "begin");
  using copy = openFile(dir.of("copy"), O_RDWR);
  assert.equal(backing.copyFileRange(file.fd, 100, copy.fd, 5, 1000), 1000);
  assert.deepEqual(
    readFileSync(dir.of("copy")).subarray(5),
    Buffer.from(content(10_000)).subarray(100, 1100),
  );
  assert.throws(() => backing.copyFileRange(file.fd, 0, -1, 0, 1), { code: "EBADF" });
  using root = pathFd(dir.path);
  const [mine, theirs] = [backing.statfs(root.fd), statfsSync(dir.path)];
  assert.deepEqual([mine.bsize, mine.blocks, mine.files], [theirs.bsize, theirs.blocks, theirs.files]);
});

test("raiseFileLimit tells the limit that there is then", () => {
  const limit = backing.raiseFileLimit();
  const [, soft] = /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))!;
  assert.equal(limit, Number(soft));
  assert.ok(limit >= 256);
});
