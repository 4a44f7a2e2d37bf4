/** Operations on paths and on what files are: open, close, stat, rename, remove, sizes. */
import assert from "node:assert/strict";
import {
  closeSync,
  constants,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import {
  AT_EMPTY_PATH,
  AT_SYMLINK_NOFOLLOW,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  IORING_OP_FTRUNCATE,
  O_CLOEXEC,
  O_CREAT,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  STATX_BTIME,
  STATX_SIZE,
} from "../../src/ffi/abi.ts";
import { statx } from "../../src/ffi/structs.ts";
import { type FlagString, Statx } from "../../src/mod.ts";
import { fdFlags, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring } from "../support/loop.ts";
import { bytes, failure, rejectsWith, text } from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

const noFtruncate = missingOp(IORING_OP_FTRUNCATE);

test("openat: by default for reading, close-on-exec, and closed by close", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("a"), "content");
  const fd = await uring.openat(dir.of("a"));
  assert.ok(Number.isInteger(fd) && fd > 2);
  assert.equal(fdFlags(fd) & 3, O_RDONLY);
  assert.equal(fdFlags(fd) & O_CLOEXEC, O_CLOEXEC);
  const buffer = new Uint8Array(16);
  assert.equal(text(buffer, await uring.read(fd, buffer)), "content");
  await rejectsWith(uring.write(fd, bytes("x")), "EBADF", "write");
  await uring.close(fd);
  await rejectsWith(uring.read(fd, buffer), "EBADF", "read");
  await rejectsWith(uring.close(fd), "EBADF", "close");
});

test("openat: the letters mean what they mean in node:fs", async () => {
  await using uring = makeUring();
  const letters: readonly FlagString[] = [
    ..."r rs r+ rs+ w wx w+ wx+ a ax as a+ ax+ as+".split(" ") as FlagString[],
  ];
  for (const flags of letters) {
    for (const exists of [true, false]) {
      using dir = new TempDir();
      const [ours, theirs] = [dir.of("ours"), dir.of("theirs")];
      if (exists) { for (const path of [ours, theirs]) writeFileSync(path, "before"); }
      const expected = outcome(() => openSync(theirs, flags));
      const actual = await uring.openat(ours, { flags }).then((fd) => fd, (error) => error.code as string);
      const what = `${flags} of ${exists ? "a file" : "nothing"}`;
      if (typeof expected === "string") assert.equal(actual, expected, what);
      else {
        assert.equal(typeof actual, "number", `${what}: ${actual}`);
        assert.equal(fdFlags(actual as number), fdFlags(expected), what);
        closeSync(expected);
        await uring.close(actual as number);
        assert.equal(readFileSync(ours, "utf8"), readFileSync(theirs, "utf8"), what);
      }
    }
  }
});

function outcome(call: () => number): number | string {
  try {
    return call();
  } catch (error) {
    return (error as { code: string }).code;
  }
}

test("openat: flags as numbers, and the mode less the umask", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const umask = process.umask(0o027);
  try {
    for (const [mode, expected] of [[undefined, 0o640], [0o777, 0o750], [0o600, 0o600]] as const) {
      const path = dir.of(`mode-${mode}`);
      const flags = O_RDWR | O_CREAT;
      const fd = await uring.openat(path, mode === undefined ? { flags } : { flags, mode });
      assert.equal(fdFlags(fd) & 3, O_RDWR);
      await uring.close(fd);
      assert.equal(statSync(path).mode & 0o777, expected);
    }
    const fd = await uring.openat(dir.of("only-writing"), { flags: O_WRONLY | O_CREAT });
    await rejectsWith(uring.read(fd, new Uint8Array(1)), "EBADF", "read");
    await uring.close(fd);
  } finally {
    process.umask(umask);
  }
});

test("openat: relative to a directory; paths as bytes, and those that are no UTF-8", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const dirfd = await uring.openat(dir.path, { flags: constants.O_DIRECTORY });
  const buffer = new Uint8Array(16);
  for (const path of ["plain", "ünïcödé 📁", bytes("as bytes"), new Uint8Array([0xff, 0xfe, 0x41])]) {
    const fd = await uring.openat(path, { dirfd, flags: "w+" });
    await uring.write(fd, bytes("here"), { offset: 0 });
    assert.equal(await uring.read(fd, buffer, { offset: 0 }), 4);
    await uring.close(fd);
    assert.equal((await uring.statx(path, { dirfd })).size, 4);
  }
  assert.equal(readdirSync(dir.path).length, 4);
  assert.ok(existsSync(dir.of("ünïcödé 📁")));
  await uring.unlinkat(new Uint8Array([0xff, 0xfe, 0x41]), { dirfd });
  await uring.close(dirfd);
});

test("openat: relative to the working directory", async () => {
  await using uring = makeUring();
  const fd = await uring.openat(".", { flags: constants.O_DIRECTORY });
  const here = await uring.statx("", { dirfd: fd, flags: AT_EMPTY_PATH });
  assert.equal(here.ino, statSync(process.cwd(), { bigint: true }).ino);
  await uring.close(fd);
  await rejectsWith(uring.openat(""), "ENOENT", "openat");
  await rejectsWith(uring.openat("x".repeat(5000)), "ENAMETOOLONG", "openat");
});

test("statx: the same as node:fs", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "x".repeat(5000));
  truncateSync(dir.of("file"), 1_000_000);
  linkSync(dir.of("file"), dir.of("second name"));
  symlinkSync("file", dir.of("link"));
  for (const path of [dir.of("file"), dir.of("link"), dir.path, "/dev/null", "/proc/self/stat", "/"]) {
    const stat = statSync(path, { bigint: true });
    const found = await uring.statx(path);
    const about = (name: string): string => `${name} of ${path}`;
    for (const name of ["mode", "size", "blksize", "blocks", "nlink", "uid", "gid"] as const) {
      assert.equal(BigInt(found[name]), stat[name], about(name));
    }
    if (!path.startsWith("/proc")) assert.equal(found.ino, stat.ino, about("ino"));
    assert.deepEqual(found.dev, split(stat.dev), about("dev"));
    assert.deepEqual(found.rdev, split(stat.rdev), about("rdev"));
    if (path.startsWith("/proc")) continue;
    for (const name of ["atime", "mtime", "ctime"] as const) {
      const [ours, theirs] = [found[`${name}Ns`], stat[`${name}Ns`]];
      // Deno's nanoseconds end at milliseconds, or at seconds.
      const unit = [1_000_000_000n, 1_000_000n, 1n].find((unit) => theirs % unit === 0n)!;
      assert.equal(ours / unit, theirs / unit, about(name));
      assert.equal(found[`${name}Ms`], milliseconds(ours), about(name));
    }
    assert.equal(found.isFile(), stat.isFile(), path);
    assert.equal(found.isDirectory(), stat.isDirectory(), path);
    assert.equal(found.isCharacterDevice(), stat.isCharacterDevice(), path);
    assert.equal(found.isBlockDevice() || found.isFIFO() || found.isSocket(), false, path);
    assert.equal(found.isSymbolicLink(), false, path);
  }
});

function milliseconds(ns: bigint): number {
  return Number(ns / 1_000_000_000n) * 1000 + Number(ns % 1_000_000_000n) / 1e6;
}

/** Major and minor number, as glibc splits them. */
function split(dev: bigint): readonly [number, number] {
  const major = (dev >> 8n) & 0xfffn | (dev >> 32n) & ~0xfffn;
  const minor = dev & 0xffn | (dev >> 12n) & ~0xffn;
  return [Number(major), Number(minor)];
}

test("statx: flags, masks, a descriptor, times before 1970", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "123");
  symlinkSync("file", dir.of("link"));
  const link = await uring.statx(dir.of("link"), { flags: AT_SYMLINK_NOFOLLOW });
  assert.ok(link.isSymbolicLink());
  assert.equal(link.ino, lstatSync(dir.of("link"), { bigint: true }).ino);
  const fd = await uring.openat(dir.of("file"));
  const own = await uring.statx("", { dirfd: fd, flags: AT_EMPTY_PATH, mask: STATX_SIZE | STATX_BTIME });
  assert.equal(own.size, 3);
  assert.ok((own.mask & STATX_SIZE) !== 0);
  if ((own.mask & STATX_BTIME) !== 0) {
    assert.equal(own.birthtimeMs, milliseconds(own.birthtimeNs));
  }
  assert.equal(own.attributes & ~own.attributesMask, 0n);
  await uring.close(fd);
  const raw = new DataView(new ArrayBuffer(statx.size));
  raw.setBigInt64(statx.stx_mtime, -2n, true);
  raw.setUint32(statx.stx_mtime + 8, 250_000_000, true);
  raw.setBigUint64(statx.stx_size, 2n ** 52n + 1n, true);
  const old = new Statx(new Uint8Array(raw.buffer));
  assert.equal(old.mtimeMs, -1750);
  assert.equal(old.mtimeNs, -1_750_000_000n);
  assert.equal(old.size, 2 ** 52 + 1);
});

test("statx: of a path that is not there, and of an empty one", async () => {
  await using uring = makeUring();
  await rejectsWith(uring.statx("/nonexistent/file"), "ENOENT", "statx");
  await rejectsWith(uring.statx(""), "ENOENT", "statx");
  await rejectsWith(uring.statx("/etc/passwd/x"), "ENOTDIR", "statx");
});

test("fallocate: gives room, keeps the size, punches holes", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const path = dir.of("file");
  const fd = await uring.openat(path, { flags: "w+" });
  await uring.fallocate(fd, 0, 0, 10_000);
  assert.equal(statSync(path).size, 10_000);
  await uring.fallocate(fd, FALLOC_FL_KEEP_SIZE, 10_000n, 50_000n);
  assert.equal(statSync(path).size, 10_000);
  await uring.write(fd, new Uint8Array(10_000).fill(1), { offset: 0 });
  await uring.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096);
  const back = readFileSync(path);
  assert.equal(back.length, 10_000);
  assert.deepEqual([back[4095], back[4096], back[8191], back[8192]], [1, 0, 0, 1]);
  await rejectsWith(uring.fallocate(fd, 0, 0, 0), "EINVAL", "fallocate");
  await uring.close(fd);
});

test("fsync and fdatasync", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const fd = await uring.openat(dir.of("file"), { flags: "w" });
  await uring.write(fd, bytes("data"));
  await uring.fdatasync(fd);
  await uring.fsync(fd);
  await uring.close(fd);
  const pipe = await uring.openat("/proc/self/comm");
  await rejectsWith(uring.fsync(pipe), "EINVAL", "fsync");
  await rejectsWith(uring.fdatasync(pipe), "EINVAL", "fdatasync");
  await uring.close(pipe);
});

test("ftruncate: shorter, longer, bigger than 4 GiB", { skip: noFtruncate }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const path = dir.of("file");
  writeFileSync(path, "0123456789");
  const fd = await uring.openat(path, { flags: "r+" });
  await uring.ftruncate(fd, 4);
  assert.equal(readFileSync(path, "utf8"), "0123");
  await uring.ftruncate(fd, 6);
  assert.equal(readFileSync(path, "utf8"), "0123\0\0");
  await uring.ftruncate(fd, 2 ** 32 + 5);
  assert.equal(statSync(path).size, 2 ** 32 + 5);
  await uring.ftruncate(fd, 2n ** 33n);
  assert.equal((await uring.statx(path)).size, 2 ** 33);
  await uring.ftruncate(fd, 0);
  await uring.close(fd);
  const reading = await uring.openat(path);
  await rejectsWith(uring.ftruncate(reading, 0), "EINVAL", "ftruncate");
  await uring.close(reading);
});

test("unlinkat: files, directories, relative to a directory", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  mkdirSync(dir.of("sub"));
  writeFileSync(join(dir.of("sub"), "inside"), "");
  await rejectsWith(uring.unlinkat(dir.of("file"), { directory: true }), "ENOTDIR", "unlinkat");
  await rejectsWith(uring.unlinkat(dir.of("sub")), "EISDIR", "unlinkat");
  await rejectsWith(uring.unlinkat(dir.of("sub"), { directory: true }), "ENOTEMPTY", "unlinkat");
  const dirfd = await uring.openat(dir.of("sub"), { flags: O_PATH });
  await uring.unlinkat("inside", { dirfd });
  await uring.close(dirfd);
  await uring.unlinkat(dir.of("sub"), { directory: true });
  await uring.unlinkat(dir.of("file"), { directory: false });
  assert.deepEqual(readdirSync(dir.path), []);
  await rejectsWith(uring.unlinkat(dir.of("file")), "ENOENT", "unlinkat");
});

test("renameat: replaces, does not with RENAME_NOREPLACE, exchanges, between directories", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const read = (name: string): string => readFileSync(dir.of(name), "utf8");
  writeFileSync(dir.of("a"), "A");
  writeFileSync(dir.of("b"), "B");
  const refused = await failure(uring.renameat(dir.of("a"), dir.of("b"), { flags: RENAME_NOREPLACE }));
  assert.equal(refused.code, "EEXIST");
  assert.deepEqual([refused.path, refused.dest], [dir.of("a"), dir.of("b")]);
  await uring.renameat(dir.of("a"), dir.of("b"), { flags: RENAME_EXCHANGE });
  assert.deepEqual([read("a"), read("b")], ["B", "A"]);
  await uring.renameat(dir.of("a"), dir.of("b"));
  assert.equal(read("b"), "B");
  mkdirSync(dir.of("x"));
  mkdirSync(dir.of("y"));
  writeFileSync(join(dir.of("x"), "file"), "moved");
  const [x, y] = await Promise.all([uring.openat(dir.of("x")), uring.openat(dir.of("y"))]);
  await uring.renameat("file", "renamed", { dirfd: x!, newDirfd: y! });
  assert.equal(read("y/renamed"), "moved");
  await uring.close(x!);
  await uring.close(y!);
});

test("mkdirat: with a mode, relative to a directory, on top of something", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const umask = process.umask(0o022);
  try {
    await uring.mkdirat(dir.of("plain"));
    assert.equal(statSync(dir.of("plain")).mode & 0o777, 0o755);
    await uring.mkdirat(dir.of("private"), { mode: 0o700 });
    assert.equal(statSync(dir.of("private")).mode & 0o777, 0o700);
    const dirfd = await uring.openat(dir.of("plain"));
    await uring.mkdirat("inner", { dirfd });
    await uring.close(dirfd);
    assert.ok(statSync(dir.of("plain/inner")).isDirectory());
    await rejectsWith(uring.mkdirat(dir.of("plain")), "EEXIST", "mkdirat");
    await rejectsWith(uring.mkdirat(dir.of("no/such")), "ENOENT", "mkdirat");
  } finally {
    process.umask(umask);
  }
});

test("paths: hundreds in one turn, longer together than the memory set aside for them", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const deep = join(dir.path, ..."abcdefgh".split("").map((letter) => letter.repeat(200)));
  mkdirSync(deep, { recursive: true });
  const names = Array.from({ length: 600 }, (_, i) => join(deep, `file-${i}`));
  const fds = await Promise.all(names.map((path) => uring.openat(path, { flags: "wx" })));
  await Promise.all(fds.map((fd, i) => uring.write(fd, bytes(`content ${i}`))));
  await Promise.all(fds.map((fd) => uring.close(fd)));
  const sizes = await Promise.all(names.map((path) => uring.statx(path)));
  sizes.forEach((stat, i) => assert.equal(stat.size, `content ${i}`.length));
  assert.equal(readFileSync(names[599]!, "utf8"), "content 599");
});
