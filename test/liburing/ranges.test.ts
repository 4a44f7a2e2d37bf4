/** Operations on ranges of files and of memory: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import {
  IORING_FSYNC_DATASYNC,
  IORING_OP_FADVISE,
  IORING_OP_FTRUNCATE,
  IORING_OP_MADVISE,
  IORING_OP_SYNC_FILE_RANGE,
  IOSQE_IO_DRAIN,
  IOSQE_IO_LINK,
  MADV_DONTNEED,
  MADV_WILLNEED,
  Mapping,
  O_CREAT,
  O_RDWR,
  O_WRONLY,
  POSIX_FADV_DONTNEED,
  POSIX_FADV_WILLNEED,
} from "../../src/ring/mod.ts";
import { content } from "../support/content.ts";
import { Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { fixture, output } from "../support/program.ts";
import {
  assertEntry,
  blockOf,
  entry,
  forEachKind,
  iovecs,
  makeRing,
  missingOp,
  once,
  reap,
  reapResults,
} from "../support/rings.ts";

checkLeaks();

const EINVAL = -22;
const ESPIPE = -29;

const KIB = 1024;
const GIB = 2 ** 30;
const noFtruncate = missingOp(IORING_OP_FTRUNCATE);

/** How many KiB of the mapping at an address this process has in its memory. */
function resident(address: number): number {
  let inside = false;
  for (const line of readFileSync("/proc/self/smaps", "utf8").split("\n")) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range !== null) inside = parseInt(range[1]!, 16) <= address && address < parseInt(range[2]!, 16);
    if (inside && line.startsWith("Rss:")) return parseInt(line.slice(4));
  }
  assert.fail("there is no such mapping");
}

forEachKind(({ name, options, skip }) => {
  test(`liburing fallocate: ${name}: gives a file its size, by itself and before a sync`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    for (const [path, linked] of [[dir.of("a"), false], [dir.of("b"), true]] as const) {
      using file = Fd.open(path, O_CREAT | O_RDWR);
      const sqe = entry(ring, 1, (sqe) => sqe.prepFallocate(file.fd, 0, 0, 128 * KIB));
      if (linked) {
        sqe.flags |= IOSQE_IO_LINK;
        entry(ring, 2, (sqe) => sqe.prepFsync(file.fd, 0));
      }
      for (const { res } of reap(ring, linked ? 2 : 1)) assert.equal(res, 0);
      assert.equal(statSync(path).size, 128 * KIB);
    }
  });

  test(
    `liburing truncate: ${name}: sizes of gigabytes, and none below 0`,
    { skip: skip || noFtruncate },
    () => {
      using dir = new TempDir();
      using ring = makeRing(1, options);
      using file = Fd.open(dir.of("file"), O_CREAT | O_RDWR);
      for (const size of [2 * GIB, GIB, GIB / 2]) {
        assert.equal(once(ring, (sqe) => sqe.prepFtruncate(file.fd, size)).res, 0);
        assert.equal(statSync(dir.of("file")).size, size);
      }
      assert.equal(once(ring, (sqe) => sqe.prepFtruncate(file.fd, -1)).res, EINVAL);
      // What has no place in an entry of this operation is refused.
      const odd = once(ring, (sqe) => {
        sqe.prepFtruncate(file.fd, 4096);
        sqe.opFlags = 1;
      });
      assert.equal(odd.res, EINVAL);
    },
  );

  test(`liburing fsync: ${name}: by itself, behind writes that it waits for, of a range`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    using file = Fd.open(dir.of("file"), O_CREAT | O_WRONLY);
    assert.equal(once(ring, (sqe) => sqe.prepFsync(file.fd, 0)).res, 0);
    for (let i = 0; i < 4; i++) {
      const vector = iovecs([blockOf(new Uint8Array(4096).fill(i))]);
      entry(ring, 0, (sqe) => sqe.prepWritev(file.fd, vector.address, 1, i * 4096));
    }
    entry(ring, 1, (sqe) => {
      sqe.prepFsync(file.fd, IORING_FSYNC_DATASYNC);
      sqe.flags |= IOSQE_IO_DRAIN;
    });
    const order = reap(ring, 5);
    assert.deepEqual(order.map(({ userData }) => userData), [0, 0, 0, 0, 1]);
    assert.deepEqual(order.map(({ res }) => res), [4096, 4096, 4096, 4096, 0]);
    const sqe = entry(ring, 2, (sqe) => sqe.prepSyncFileRange(file.fd, 0, 0, 0));
    assertEntry(sqe, { opcode: IORING_OP_SYNC_FILE_RANGE, fd: file.fd });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.equal(once(ring, (sqe) => sqe.prepSyncFileRange(file.fd, 4096, 4096, 7)).res, 0);
    assert.equal(once(ring, (sqe) => sqe.prepSyncFileRange(file.fd, 0, 0, 8)).res, EINVAL);
  });

  test(`liburing fadvise: ${name}: the content is the same, cached or not`, { skip }, () => {
    using dir = new TempDir();
    using pipe = new Pipe();
    using ring = makeRing(8, options);
    const data = content(128 * KIB);
    writeFileSync(dir.of("file"), data);
    using file = Fd.open(dir.of("file"), O_RDWR);
    const sqe = entry(ring, 1, (sqe) => sqe.prepFadvise(file.fd, 0, data.length, POSIX_FADV_DONTNEED));
    assertEntry(sqe, {
      opcode: IORING_OP_FADVISE,
      fd: file.fd,
      len: data.length,
      opFlags: POSIX_FADV_DONTNEED,
    });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.deepEqual(readFileSync(dir.of("file")), Buffer.from(data));
    for (const advice of [POSIX_FADV_DONTNEED, POSIX_FADV_WILLNEED]) {
      assert.equal(once(ring, (sqe) => sqe.prepFadvise(file.fd, 0, data.length, advice)).res, 0);
      assert.equal(once(ring, (sqe) => sqe.prepFadvise64(file.fd, 4096, 4096, advice)).res, 0);
    }
    assert.deepEqual(readFileSync(dir.of("file")), Buffer.from(data));
    assert.equal(once(ring, (sqe) => sqe.prepFadvise(file.fd, 0, 0, 99)).res, EINVAL);
    assert.equal(once(ring, (sqe) => sqe.prepFadvise(pipe.reader.fd, 0, 0, 0)).res, ESPIPE);
  });

  test(`liburing madvise: ${name}: a file's pages go, and come back with its content`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    const data = content(128 * KIB);
    writeFileSync(dir.of("file"), data);
    using file = Fd.open(dir.of("file"), O_RDWR);
    using mapping = Mapping.shared(data.length, file.fd, 0);
    const { address, byteLength } = mapping;
    assert.deepEqual(new Uint8Array(mapping.buffer), data);
    assert.equal(resident(address), 128);
    const sqe = entry(ring, 1, (sqe) => sqe.prepMadvise(address, byteLength, MADV_DONTNEED));
    assertEntry(sqe, {
      opcode: IORING_OP_MADVISE,
      fd: -1,
      addr: BigInt(address),
      len: byteLength,
      opFlags: MADV_DONTNEED,
    });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.equal(resident(address), 0);
    assert.equal(once(ring, (sqe) => sqe.prepMadvise(address, byteLength, MADV_WILLNEED)).res, 0);
    assert.deepEqual(new Uint8Array(mapping.buffer), data);
    entry(ring, 1, (sqe) => sqe.prepMadvise(address + 1, 4096, MADV_WILLNEED));
    entry(ring, 2, (sqe) => sqe.prepMadvise(address, byteLength, 9999));
    assert.deepEqual([...reapResults(ring, 2).values()], [EINVAL, EINVAL]);
  });
});

test("liburing fallocate: beyond the limit of the process it is EFBIG", async () => {
  using dir = new TempDir();
  const LIMITED = 'trap "" XFSZ; ulimit -f 4096; exec "$@"';
  const limited = { permissions: ["--allow-ffi"], prefix: ["sh", "-c", LIMITED, "sh"] };
  const args = [dir.of("file"), `${64 * KIB * KIB}`];
  assert.equal(await output(fixture("file_limit.ts"), args, limited), "-27\n");
  assert.equal(await output(fixture("file_limit.ts"), args), "0\n");
  assert.equal(statSync(dir.of("file")).size, 64 * KIB * KIB);
});
