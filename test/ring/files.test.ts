/** File operations: the same results and errors as the system calls of the same name. */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { statx } from "../../src/ffi/structs.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  IORING_FSYNC_DATASYNC,
  IORING_OP_FALLOCATE,
  IORING_OP_FTRUNCATE,
  IORING_OP_MKDIRAT,
  IORING_OP_OPENAT,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_RENAMEAT,
  IORING_OP_STATX,
  IORING_OP_UNLINKAT,
  IORING_OP_WRITE,
  IOSQE_ASYNC,
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  type Ring,
  RWF_APPEND,
  STATX_BASIC_STATS,
} from "../../src/ring/mod.ts";
import { Mapping } from "../../src/ffi/memory.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertEntry,
  block,
  blockOf,
  entry,
  forEachKind,
  iovecs,
  makeRing,
  missingDirect,
  missingOp,
  once,
  path,
  reap,
  text,
} from "../support/rings.ts";

checkLeaks();

const ENOENT = -2;
const EBADF = -9;
const EFAULT = -14;
const EEXIST = -17;
const ENOTDIR = -20;
const EISDIR = -21;
const EINVAL = -22;
const ENOTEMPTY = -39;

const noFtruncate = missingOp(IORING_OP_FTRUNCATE);

/** Opens through the ring. */
function open(ring: Ring, name: string, flags: number, mode = 0o600): Fd {
  const address = path(name);
  const { res } = once(ring, (sqe) => sqe.prepOpenat(AT_FDCWD, address, flags, mode));
  assert.ok(res >= 0, `${res}`);
  return new Fd(res);
}

forEachKind(({ name, options, skip }) => {
  test(`${name}: opens, writes, reads and closes`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    const place = path(dir.of("file"));
    const opening = entry(
      ring,
      1,
      (sqe) => sqe.prepOpenat(AT_FDCWD, place, O_RDWR | O_CREAT | O_EXCL, 0o640),
    );
    assertEntry(opening, {
      opcode: IORING_OP_OPENAT,
      fd: AT_FDCWD,
      addr: BigInt(place),
      len: 0o640,
      opFlags: O_RDWR | O_CREAT | O_EXCL,
    });
    const fd = reap(ring, 1)[0]!.res;
    assert.ok(fd > 2);
    const content = blockOf("hello, ring");
    const writing = entry(ring, 2, (sqe) => sqe.prepWrite(fd, content.address, 11, 0));
    assertEntry(writing, { opcode: IORING_OP_WRITE, fd, addr: BigInt(content.address), len: 11 });
    assert.equal(reap(ring, 1)[0]!.res, 11);
    assert.equal(readFileSync(dir.of("file"), "utf8"), "hello, ring");
    assert.equal(statSync(dir.of("file")).mode & 0o777, 0o640);
    const buffer = block(32);
    const reading = entry(ring, 3, (sqe) => sqe.prepRead(fd, buffer.address, 32, 7));
    assertEntry(reading, { opcode: IORING_OP_READ, fd, addr: BigInt(buffer.address), len: 32, off: 7n });
    assert.equal(reap(ring, 1)[0]!.res, 4, "short at the end of the file");
    assert.equal(text(buffer, 4), "ring");
    assert.equal(once(ring, (sqe) => sqe.prepRead(fd, buffer.address, 32, 11)).res, 0);
    assert.equal(once(ring, (sqe) => sqe.prepFsync(fd, 0)).res, 0);
    assert.equal(once(ring, (sqe) => sqe.prepFsync(fd, IORING_FSYNC_DATASYNC)).res, 0);
    assert.equal(once(ring, (sqe) => sqe.prepClose(fd)).res, 0);
    assert.equal(once(ring, (sqe) => sqe.prepClose(fd)).res, EBADF);
    const again = once(ring, (sqe) => sqe.prepOpenat(AT_FDCWD, place, O_RDWR | O_CREAT | O_EXCL, 0o640));
    assert.equal(again.res, EEXIST);
  });

  test(`${name}: the file's position is used and moved with offset -1`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    using file = open(ring, dir.of("file"), O_RDWR | O_CREAT);
    const content = blockOf("abcdef");
    for (let i = 0; i < 3; i++) {
      assert.equal(once(ring, (sqe) => sqe.prepWrite(file.fd, content.address, 6, -1)).res, 6);
    }
    assert.equal(readFileSync(dir.of("file"), "utf8"), "abcdefabcdefabcdef");
    using reader = open(ring, dir.of("file"), O_RDONLY);
    const buffer = block(4);
    const seen: string[] = [];
    for (;;) {
      const { res } = once(ring, (sqe) => sqe.prepRead(reader.fd, buffer.address, 4, -1n));
      if (res === 0) break;
      seen.push(text(buffer, res));
    }
    assert.deepEqual(seen, ["abcd", "efab", "cdef", "abcd", "ef"]);
  });

  test(`${name}: vectors, and offsets beyond 32 bits`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    using file = open(ring, dir.of("file"), O_RDWR | O_CREAT);
    const vector = iovecs([blockOf("one "), blockOf("two "), blockOf("three")]);
    const far = 2 ** 33 + 3;
    assert.equal(once(ring, (sqe) => sqe.prepWritev(file.fd, vector.address, 3, far)).res, 13);
    assert.equal(statSync(dir.of("file")).size, far + 13);
    const parts = [block(5), block(1), block(20)];
    const into = iovecs(parts);
    const sqe = entry(ring, 1, (sqe) => sqe.prepReadv(file.fd, into.address, 3, BigInt(far)));
    assertEntry(sqe, {
      opcode: IORING_OP_READV,
      fd: file.fd,
      addr: BigInt(into.address),
      len: 3,
      off: BigInt(far),
    });
    assert.equal(reap(ring, 1)[0]!.res, 13);
    assert.deepEqual(parts.map((part) => text(part).replaceAll("\0", "")), ["one t", "w", "o three"]);
    const flagged = once(ring, (sqe) => sqe.prepWritev2(file.fd, vector.address, 1, 0, RWF_APPEND));
    assert.equal(flagged.res, 4);
    assert.equal(statSync(dir.of("file")).size, far + 17);
    assert.equal(once(ring, (sqe) => sqe.prepReadv2(file.fd, into.address, 1, far, 0)).res, 5);
  });

  test(`${name}: the same by a worker thread`, { skip }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), "content");
    using ring = makeRing(8, options);
    using file = open(ring, dir.of("file"), O_RDONLY);
    const buffer = block(7);
    const { res } = once(ring, (sqe) => {
      sqe.prepRead(file.fd, buffer.address, 7, 0);
      sqe.flags = IOSQE_ASYNC;
    });
    assert.equal(res, 7);
    assert.equal(text(buffer), "content");
  });

  test(`${name}: many reads at once`, { skip }, () => {
    using dir = new TempDir();
    const all = new Uint8Array(64 * 512).map((_, i) => i * 7 + (i >> 8));
    writeFileSync(dir.of("file"), all);
    using ring = makeRing(64, options);
    using file = open(ring, dir.of("file"), O_RDONLY);
    const into = block(all.length);
    for (let i = 0; i < 64; i++) {
      entry(ring, i, (sqe) => sqe.prepRead(file.fd, into.address + 512 * i, 512, 512 * i));
    }
    for (const { res } of reap(ring, 64)) assert.equal(res, 512);
    assert.deepEqual(into.bytes, all);
  });

  test(`${name}: statx tells what stat tells`, { skip }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), "12345");
    symlinkSync("file", dir.of("link"));
    using ring = makeRing(8, options);
    using file = open(ring, dir.of("file"), O_RDONLY);
    const { address, view } = block(statx.size);
    const expected = statSync(dir.of("file"));
    const link = path(dir.of("link"));
    const asked = entry(ring, 1, (sqe) => sqe.prepStatx(AT_FDCWD, link, 0, STATX_BASIC_STATS, address));
    assertEntry(asked, {
      opcode: IORING_OP_STATX,
      fd: AT_FDCWD,
      addr: BigInt(link),
      off: BigInt(address),
      len: STATX_BASIC_STATS,
    });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.equal(view.getBigUint64(statx.stx_size, true), 5n);
    assert.equal(view.getBigUint64(statx.stx_ino, true), BigInt(expected.ino));
    assert.equal(view.getUint16(statx.stx_mode, true), expected.mode);
    const flags = AT_SYMLINK_NOFOLLOW;
    assert.equal(
      once(ring, (sqe) => sqe.prepStatx(AT_FDCWD, link, flags, STATX_BASIC_STATS, address)).res,
      0,
    );
    assert.equal(view.getBigUint64(statx.stx_size, true), 4n, "the link itself");
    const empty = path("");
    const own = once(ring, (sqe) => sqe.prepStatx(file.fd, empty, AT_EMPTY_PATH, STATX_BASIC_STATS, address));
    assert.equal(own.res, 0);
    assert.equal(view.getBigUint64(statx.stx_ino, true), BigInt(expected.ino));
    const missing = path(dir.of("missing"));
    assert.equal(once(ring, (sqe) => sqe.prepStatx(AT_FDCWD, missing, 0, 0, address)).res, ENOENT);
    assert.equal(once(ring, (sqe) => sqe.prepStatx(AT_FDCWD, link, 0, 0, 8)).res, EFAULT);
  });

  test(`${name}: allocates, punches and cuts`, { skip: skip || noFtruncate }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), "x".repeat(8192));
    using ring = makeRing(8, options);
    using file = open(ring, dir.of("file"), O_RDWR);
    const sqe = entry(ring, 1, (sqe) => sqe.prepFallocate(file.fd, 0, 0, 20_000));
    assertEntry(sqe, { opcode: IORING_OP_FALLOCATE, fd: file.fd, addr: 20_000n });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.equal(statSync(dir.of("file")).size, 20_000);
    const punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    assert.equal(once(ring, (sqe) => sqe.prepFallocate(file.fd, punch, 0, 4096)).res, 0);
    assert.equal(readFileSync(dir.of("file"))[4095], 0);
    assert.equal(readFileSync(dir.of("file"))[4096], 120);
    assert.equal(once(ring, (sqe) => sqe.prepFallocate(file.fd, 0, 0, 0)).res, EINVAL);
    const cut = entry(ring, 2, (sqe) => sqe.prepFtruncate(file.fd, 100));
    assertEntry(cut, { opcode: IORING_OP_FTRUNCATE, fd: file.fd, off: 100n });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.equal(statSync(dir.of("file")).size, 100);
    assert.equal(once(ring, (sqe) => sqe.prepFtruncate(file.fd, -1)).res, EINVAL);
    using reader = open(ring, dir.of("file"), O_RDONLY);
    assert.equal(once(ring, (sqe) => sqe.prepFtruncate(reader.fd, 1)).res, EINVAL);
  });

  test(`${name}: makes, renames and removes`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    const [d, f, g, missing] = ["d", "d/f", "g", "missing"].map((name) => path(dir.of(name))) as [
      number,
      number,
      number,
      number,
    ];
    const made = entry(ring, 1, (sqe) => sqe.prepMkdirat(AT_FDCWD, d, 0o750));
    assertEntry(made, { opcode: IORING_OP_MKDIRAT, fd: AT_FDCWD, addr: BigInt(d), len: 0o750 });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.equal(statSync(dir.of("d")).mode & 0o777, 0o750);
    assert.equal(once(ring, (sqe) => sqe.prepMkdir(d, 0o700)).res, EEXIST);
    writeFileSync(dir.of("d/f"), "f");
    writeFileSync(dir.of("g"), "g");
    assert.equal(once(ring, (sqe) => sqe.prepUnlinkat(AT_FDCWD, d, AT_REMOVEDIR)).res, ENOTEMPTY);
    const renamed = entry(ring, 2, (sqe) => sqe.prepRenameat(AT_FDCWD, f, AT_FDCWD, g, RENAME_EXCHANGE));
    assertEntry(renamed, {
      opcode: IORING_OP_RENAMEAT,
      fd: AT_FDCWD,
      addr: BigInt(f),
      off: BigInt(g),
      len: AT_FDCWD >>> 0,
      opFlags: RENAME_EXCHANGE,
    });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.equal(readFileSync(dir.of("g"), "utf8"), "f");
    const refused = once(ring, (sqe) => sqe.prepRenameat(AT_FDCWD, f, AT_FDCWD, g, RENAME_NOREPLACE));
    assert.equal(refused.res, EEXIST);
    assert.equal(once(ring, (sqe) => sqe.prepRename(f, g)).res, 0);
    assert.equal(readFileSync(dir.of("g"), "utf8"), "g");
    assert.equal(once(ring, (sqe) => sqe.prepRename(missing, g)).res, ENOENT);
    assert.equal(once(ring, (sqe) => sqe.prepUnlink(d, 0)).res, EISDIR);
    assert.equal(once(ring, (sqe) => sqe.prepUnlinkat(AT_FDCWD, g, AT_REMOVEDIR)).res, ENOTDIR);
    const removed = entry(ring, 3, (sqe) => sqe.prepUnlinkat(AT_FDCWD, g, 0));
    assertEntry(removed, { opcode: IORING_OP_UNLINKAT, fd: AT_FDCWD, addr: BigInt(g) });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.equal(existsSync(dir.of("g")), false);
    assert.equal(once(ring, (sqe) => sqe.prepUnlink(d, AT_REMOVEDIR)).res, 0);
    assert.equal(once(ring, (sqe) => sqe.prepUnlink(d, AT_REMOVEDIR)).res, ENOENT);
  });

  test(`${name}: what goes wrong is told as the system call tells it`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    const buffer = block(8);
    const missing = path(dir.of("missing"));
    const directory = path(dir.path);
    const openAt = (place: number, flags: number): number =>
      once(ring, (sqe) => sqe.prepOpen(place, flags, 0)).res;
    assert.equal(openAt(missing, O_RDONLY), ENOENT);
    assert.equal(openAt(directory, O_WRONLY), EISDIR);
    assert.equal(openAt(8, O_RDONLY), EFAULT);
    assert.equal(openAt(path("/dev/null/x"), O_RDONLY), ENOTDIR);
    assert.equal(once(ring, (sqe) => sqe.prepRead(1_000_000, buffer.address, 8, 0)).res, EBADF);
    assert.equal(once(ring, (sqe) => sqe.prepWrite(-1, buffer.address, 8, 0)).res, EBADF);
    assert.equal(once(ring, (sqe) => sqe.prepFsync(1_000_000, 0)).res, EBADF);
    using opened = open(ring, dir.path, O_RDONLY | O_DIRECTORY);
    assert.equal(once(ring, (sqe) => sqe.prepRead(opened.fd, buffer.address, 8, 0)).res, EISDIR);
    using file = open(ring, dir.of("file"), O_WRONLY | O_CREAT | O_TRUNC);
    assert.equal(once(ring, (sqe) => sqe.prepRead(file.fd, buffer.address, 8, 0)).res, EBADF);
    assert.equal(once(ring, (sqe) => sqe.prepWrite(file.fd, 8, 8, 0)).res, EFAULT);
    assert.equal(once(ring, (sqe) => sqe.prepWrite(file.fd, buffer.address, 8, -2n)).res, EINVAL);
  });

  test(`${name}: names are relative to a directory's descriptor`, { skip }, () => {
    using dir = new TempDir();
    mkdirSync(dir.of("d"));
    writeFileSync(dir.of("d/f"), "inside");
    using ring = makeRing(8, options);
    using directory = open(ring, dir.of("d"), O_RDONLY | O_DIRECTORY);
    const f = path("f");
    const { res } = once(ring, (sqe) => sqe.prepOpenat(directory.fd, f, O_RDONLY, 0));
    using file = new Fd(res);
    const buffer = block(6);
    assert.equal(once(ring, (sqe) => sqe.prepRead(file.fd, buffer.address, 6, 0)).res, 6);
    assert.equal(text(buffer), "inside");
    assert.equal(once(ring, (sqe) => sqe.prepUnlinkat(directory.fd, f, 0)).res, 0);
  });
});

test("O_DIRECT with aligned memory", { skip: missingDirect() }, () => {
  using dir = new TempDir();
  using ring = makeRing(8);
  using file = open(ring, dir.of("file"), O_RDWR | O_CREAT | O_DIRECT);
  using memory = Mapping.anonymous(2 * 4096);
  const bytes = new Uint8Array(memory.buffer);
  bytes.fill(7, 0, 4096);
  const { address } = memory;
  assert.equal(once(ring, (sqe) => sqe.prepWrite(file.fd, address, 4096, 4096)).res, 4096);
  assert.equal(once(ring, (sqe) => sqe.prepRead(file.fd, address + 4096, 4096, 4096)).res, 4096);
  assert.deepEqual(bytes.subarray(4096), bytes.subarray(0, 4096));
  truncateSync(dir.of("file"), 5000);
  assert.equal(once(ring, (sqe) => sqe.prepRead(file.fd, address, 8192, 0)).res, 5000);
});
