/** Direct descriptors: files that live in the ring's table and never reach the process. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import {
  AT_FDCWD,
  IORING_FILE_INDEX_ALLOC,
  IORING_OP_CLOSE,
  IORING_OP_OPENAT,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  O_CREAT,
  O_RDONLY,
  O_WRONLY,
} from "../../src/ring/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertEntry,
  block,
  blockOf,
  entry,
  forEachKind,
  makeRing,
  once,
  path,
  reap,
  reapResults,
  text,
} from "../support/rings.ts";

checkLeaks();

const EBADF = -9;
const EINVAL = -22;
const ENFILE = -23;
const ENXIO = -6;
const ENOENT = -2;
const ECANCELED = -125;

const openCount = (): number => readdirSync("/proc/self/fd").length;

forEachKind(({ name, options, skip }) => {
  test(`${name}: opens into a slot, reads from it, closes it`, { skip }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), "direct");
    using ring = makeRing(8, options);
    ring.registerFilesSparse(4);
    const place = path(dir.of("file"));
    const before = openCount();
    const opening = entry(ring, 1, (sqe) => sqe.prepOpenatDirect(AT_FDCWD, place, O_RDONLY, 0, 2));
    assertEntry(opening, { opcode: IORING_OP_OPENAT, fd: AT_FDCWD, addr: BigInt(place), fileIndex: 3 });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.equal(openCount(), before, "the process has no descriptor of it");
    const buffer = block(6);
    const read = (): number =>
      once(ring, (sqe) => {
        sqe.prepRead(2, buffer.address, 6, 0);
        sqe.flags = IOSQE_FIXED_FILE;
      }).res;
    assert.equal(read(), 6);
    assert.equal(text(buffer), "direct");
    const closing = entry(ring, 3, (sqe) => sqe.prepCloseDirect(2));
    assertEntry(closing, { opcode: IORING_OP_CLOSE, fileIndex: 3 });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.equal(read(), EBADF);
    assert.equal(once(ring, (sqe) => sqe.prepCloseDirect(2)).res, EBADF);
  });

  test(`${name}: the kernel picks slots until the table is full`, { skip }, () => {
    using ring = makeRing(8, options);
    const null_ = path("/dev/null");
    const open = (slot: number): number =>
      once(ring, (sqe) => sqe.prepOpenDirect(null_, O_RDONLY, 0, slot)).res;
    assert.equal(open(0), ENXIO, "there is no table");
    ring.registerFilesSparse(3);
    const slots = [
      open(IORING_FILE_INDEX_ALLOC),
      open(IORING_FILE_INDEX_ALLOC),
      open(IORING_FILE_INDEX_ALLOC),
    ];
    assert.deepEqual(slots.toSorted(), [0, 1, 2]);
    assert.equal(open(IORING_FILE_INDEX_ALLOC), ENFILE);
    assert.equal(open(3), EINVAL, "there is no such slot");
    assert.equal(open(1), 0, "an occupied slot is replaced");
  });

  test(`${name}: open, read and close in one chain`, { skip }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), "chained");
    using ring = makeRing(8, options);
    ring.registerFilesSparse(1);
    const place = path(dir.of("file"));
    const buffer = block(7);
    const before = openCount();
    for (let round = 0; round < 5; round++) {
      buffer.bytes.fill(0);
      entry(ring, 1, (sqe) => {
        sqe.prepOpenatDirect(AT_FDCWD, place, O_RDONLY, 0, 0);
        sqe.flags = IOSQE_IO_LINK;
      });
      entry(ring, 2, (sqe) => {
        sqe.prepRead(0, buffer.address, 7, 0);
        sqe.flags = IOSQE_IO_LINK | IOSQE_FIXED_FILE;
      });
      entry(ring, 3, (sqe) => sqe.prepCloseDirect(0));
      const results = reap(ring, 3).map(({ userData, res }) => [userData, res]);
      assert.deepEqual(results, [[1, 0], [2, 7], [3, 0]]);
      assert.equal(text(buffer), "chained");
    }
    assert.equal(openCount(), before);
  });

  test(`${name}: a chain whose open fails does nothing else`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    ring.registerFilesSparse(1);
    const place = path(dir.of("missing"));
    const buffer = block(7);
    entry(ring, 1, (sqe) => {
      sqe.prepOpenatDirect(AT_FDCWD, place, O_RDONLY, 0, 0);
      sqe.flags = IOSQE_IO_LINK;
    });
    entry(ring, 2, (sqe) => {
      sqe.prepRead(0, buffer.address, 7, 0);
      sqe.flags = IOSQE_IO_LINK | IOSQE_FIXED_FILE;
    });
    entry(ring, 3, (sqe) => sqe.prepCloseDirect(0));
    assert.deepEqual([...reapResults(ring, 3)].sort(), [[1, ENOENT], [2, ECANCELED], [3, ECANCELED]]);
  });

  test(
    `liburing fixed-reuse: ${name}: a chain that opens an occupied slot uses the new file`,
    { skip },
    () => {
      using dir = new TempDir();
      writeFileSync(dir.of("old"), "old");
      writeFileSync(dir.of("new"), "new");
      using ring = makeRing(8, options);
      ring.registerFilesSparse(1);
      const [old, fresh] = [path(dir.of("old")), path(dir.of("new"))];
      assert.equal(once(ring, (sqe) => sqe.prepOpenDirect(old, O_RDONLY, 0, 0)).res, 0);
      const buffer = block(3);
      entry(ring, 1, (sqe) => {
        sqe.prepOpenDirect(fresh, O_RDONLY, 0, 0);
        sqe.flags = IOSQE_IO_LINK;
      });
      entry(ring, 2, (sqe) => {
        sqe.prepRead(0, buffer.address, 3, 0);
        sqe.flags = IOSQE_IO_LINK | IOSQE_FIXED_FILE;
      });
      entry(ring, 3, (sqe) => sqe.prepCloseDirect(0));
      assert.deepEqual([...reapResults(ring, 3)].sort(), [[1, 0], [2, 3], [3, 0]]);
      assert.equal(text(buffer), "new");
    },
  );

  test(`${name}: writes a file that only the ring has open`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    ring.registerFilesSparse(1);
    const place = path(dir.of("file"));
    const content = blockOf("written directly");
    const linked = IOSQE_IO_LINK | IOSQE_FIXED_FILE;
    entry(ring, 1, (sqe) => {
      sqe.prepOpenDirect(place, O_WRONLY | O_CREAT, 0o600, 0);
      sqe.flags = IOSQE_IO_LINK;
    });
    entry(ring, 2, (sqe) => {
      sqe.prepWrite(0, content.address, content.bytes.length, 0);
      sqe.flags = linked;
    });
    entry(ring, 3, (sqe) => {
      sqe.prepFsync(0, 0);
      sqe.flags = linked;
    });
    entry(ring, 4, (sqe) => sqe.prepCloseDirect(0));
    const results = reap(ring, 4).map(({ res }) => res);
    assert.deepEqual(results, [0, 16, 0, 0]);
    assert.equal(readFileSync(dir.of("file"), "utf8"), "written directly");
  });
});
