/** Registered files: tables large and small, what a slot takes, tags, the range that the kernel picks from. */
import assert from "node:assert/strict";
import {
  AF_UNIX,
  IORING_FILE_INDEX_ALLOC,
  IORING_REGISTER_FILES_SKIP,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  IOSQE_FIXED_FILE,
  IOSQE_IO_HARDLINK,
  O_CREAT,
  O_RDWR,
  POLLIN,
  type Ring,
  SOCK_DGRAM,
} from "../../src/ring/mod.ts";
import { system } from "../../src/ffi/system.ts";
import { Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  block,
  blockOf,
  entry,
  eventually,
  forEachKind,
  makeRing,
  missingRing,
  once,
  reap,
  reapResults,
  text,
  timespec,
} from "../support/rings.ts";

checkLeaks();

const EBADF = -9;
const ENFILE = -23;
const DEFER = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

const many = (count: number, fd: number): number[] => new Array<number>(count).fill(fd);

/** Writes through a slot and reads it back; the bytes read, or the error. */
function writeAndRead(ring: Ring, slot: number, content: string): string | number {
  const out = blockOf(content);
  const back = block(content.length);
  const written = once(ring, (sqe) => {
    sqe.prepWrite(slot, out.address, content.length, 0);
    sqe.flags = IOSQE_FIXED_FILE;
  }).res;
  if (written < 0) return written;
  once(ring, (sqe) => {
    sqe.prepRead(slot, back.address, content.length, 0);
    sqe.flags = IOSQE_FIXED_FILE;
  });
  return text(back);
}

forEachKind(({ name, options, skip }) => {
  test(
    `liburing file-register: ${name}: tables of many slots, filled, replaced and emptied`,
    { skip },
    () => {
      using dir = new TempDir();
      using a = Fd.open(dir.of("a"), O_RDWR | O_CREAT);
      using b = Fd.open(dir.of("b"), O_RDWR | O_CREAT);
      using ring = makeRing(8, options);
      ring.registerFiles(many(768, a.fd));
      ring.unregisterFiles();
      // A descriptor that cannot be fails all of it.
      assert.throws(() => ring.registerFiles([a.fd, IORING_REGISTER_FILES_SKIP]), { code: "EBADF" });
      // Additions, replacements, removals, in the middle and up to the end.
      ring.registerFiles([...many(50, a.fd), ...many(50, -1)]);
      assert.equal(writeAndRead(ring, 60, "x"), EBADF);
      assert.equal(ring.registerFilesUpdate(60, [b.fd, b.fd]), 2);
      assert.equal(writeAndRead(ring, 61, "added"), "added");
      assert.equal(ring.registerFilesUpdate(40, many(10, b.fd)), 10);
      assert.equal(writeAndRead(ring, 49, "replaced"), "replaced");
      assert.equal(ring.registerFilesUpdate(0, many(10, -1)), 10);
      assert.equal(writeAndRead(ring, 9, "x"), EBADF);
      assert.equal(writeAndRead(ring, 10, "kept"), "kept");
      assert.equal(ring.registerFilesUpdate(10, [IORING_REGISTER_FILES_SKIP]), 1);
      assert.equal(writeAndRead(ring, 10, "skipped"), "skipped");
      for (const offset of [100, 99]) {
        assert.throws(() => ring.registerFilesUpdate(offset, [a.fd, a.fd]), { code: "EINVAL" });
      }
      assert.equal(ring.registerFilesUpdate(0, many(100, -1)), 100);
      assert.equal(writeAndRead(ring, 10, "x"), EBADF);
      ring.unregisterFiles();
    },
  );

  test(`liburing file-register: ${name}: thousands of empty slots, one of them filled`, { skip }, () => {
    using dir = new TempDir();
    using file = Fd.open(dir.of("file"), O_RDWR | O_CREAT);
    using ring = makeRing(8, options);
    try {
      ring.registerFilesSparse(8192);
    } catch (error) {
      // RLIMIT_NOFILE may be below that.
      assert.match(String(error), /EMFILE.*RLIMIT_NOFILE/);
      return;
    }
    assert.equal(ring.registerFilesUpdate(7193, [file.fd]), 1);
    assert.equal(writeAndRead(ring, 7193, "far out"), "far out");
  });

  test(`liburing file-update: ${name}: rings keep tables of their own`, { skip }, () => {
    using dir = new TempDir();
    using a = Fd.open(dir.of("a"), O_RDWR | O_CREAT);
    using b = Fd.open(dir.of("b"), O_RDWR | O_CREAT);
    using first = makeRing(8, options);
    using second = makeRing(8, options);
    for (const ring of [first, second]) {
      ring.registerFiles(many(10, a.fd));
      assert.equal(ring.registerFilesUpdate(0, many(10, b.fd)), 10);
    }
    first.unregisterFiles();
    assert.equal(writeAndRead(second, 3, "second"), "second");
    assert.throws(() => first.registerFilesUpdate(0, [a.fd]), { code: "ENXIO", message: /no files/ });
    // The same as an operation, which says what the call says.
    const list = block(40);
    for (let i = 0; i < 10; i++) list.view.setInt32(4 * i, -1, true);
    assert.equal(once(second, (sqe) => sqe.prepFilesUpdate(list.address, 10, 0)).res, 10);
    assert.equal(writeAndRead(second, 3, "x"), EBADF);
    assert.equal(once(first, (sqe) => sqe.prepFilesUpdate(list.address, 1, -1)).res, -6);
  });

  test(`liburing reg-hint: ${name}: a table that is gone has no free slot`, { skip }, () => {
    using ring = makeRing(2, options);
    ring.registerFilesSparse(16);
    ring.unregisterFiles();
    assert.equal(once(ring, (sqe) => sqe.prepSocketDirectAlloc(AF_UNIX, SOCK_DGRAM, 0, 0)).res, ENFILE);
  });

  test(`liburing rsrc_tags: ${name}: a file's tag comes when the file goes`, { skip }, () => {
    using pipe = new Pipe();
    using ring = makeRing(8, options);
    const { fd } = pipe.reader;
    const tagged = (): number => {
      const [completion] = reap(ring, 1);
      assert.equal(completion!.res, 0);
      return completion!.userData;
    };
    ring.registerFilesTags(many(50, fd), Array.from({ length: 50 }, (_, i) => i + 1));
    assert.equal(ring.registerFilesUpdateTag(0, [fd], [666]), 1);
    assert.equal(tagged(), 1);
    assert.equal(ring.registerFilesUpdateTag(0, [fd], [0]), 1);
    assert.equal(tagged(), 666);
    assert.equal(ring.registerFilesUpdateTag(0, [fd], []), 1);
    assertQuiet(ring);
    // The call without tags leaves none.
    assert.equal(ring.registerFilesUpdate(5, [-1]), 1);
    assert.equal(tagged(), 6);
    assert.equal(ring.registerFilesUpdate(5, [-1]), 1);
    assertQuiet(ring);
    // What is skipped or emptied has no tag.
    for (const nothing of [-1, IORING_REGISTER_FILES_SKIP]) {
      assert.throws(() => ring.registerFilesUpdateTag(6, [nothing], [1]), { code: "EINVAL" });
    }
    assert.equal(ring.registerFilesUpdateTag(6, [IORING_REGISTER_FILES_SKIP, -1], [0]), 2);
    assert.equal(tagged(), 8);
    ring.unregisterFiles();
    const rest = reap(ring, 47).map(({ userData }) => userData).sort((x, y) => x - y);
    assert.deepEqual(
      rest,
      Array.from({ length: 50 }, (_, i) => i + 1).filter((tag) => ![1, 6, 8].includes(tag)),
    );
  });
});

test("liburing rsrc_tags: tags have 64 bits, and none comes when registering fails", () => {
  using pipe = new Pipe();
  using ring = makeRing(4);
  const { fd } = pipe.reader;
  assert.throws(() => ring.registerFilesTags([fd, -1], [1, 2]), { code: "EINVAL" });
  assertQuiet(ring);
  assert.throws(() => ring.registerFilesTags([fd], [1, 2]), RangeError);
  assert.throws(() => ring.registerFilesUpdateTag(0, [fd], [1]), { code: "ENXIO" });
  ring.registerFilesTags([fd, -1, fd], [0xfedc_ba98_7654_3210n]);
  ring.unregisterFiles();
  const cqe = ring.waitCqe();
  assert.equal(cqe.userData64, 0xfedc_ba98_7654_3210n);
  ring.cqeSeen(cqe);
  assertQuiet(ring);
});

test("liburing rsrc_tags: files without tags go silently", () => {
  using pipe = new Pipe();
  using ring = makeRing(4);
  ring.registerFiles(many(50, pipe.reader.fd));
  ring.registerFilesUpdate(0, [-1]);
  assertQuiet(ring);
  ring.unregisterFiles();
  assertQuiet(ring);
});

test("a tag waits for the last operation that uses its file", () => {
  using pipe = new Pipe();
  using ring = makeRing(4);
  const buffer = block(4);
  ring.registerFilesTags([pipe.reader.fd], [77]);
  entry(ring, 1, (sqe) => {
    sqe.prepRead(0, buffer.address, 4, -1);
    sqe.flags = IOSQE_FIXED_FILE;
  });
  ring.submit();
  ring.unregisterFiles();
  assertQuiet(ring);
  pipe.write("done");
  assert.deepEqual(reapResults(ring, 2), new Map([[1, 4], [77, 0]]));
});

test("liburing file-register: a slot is emptied under an operation that is linked behind another", () => {
  using pipe = new Pipe();
  using ring = makeRing(8);
  ring.registerFiles([pipe.reader.fd, pipe.writer.fd]);
  // The ring holds both ends.
  pipe.reader.close();
  pipe.writer.close();
  const buffer = block(128);
  entry(ring, 1, (sqe) => {
    sqe.prepTimeout(timespec(30), 0, 0);
    sqe.flags = IOSQE_IO_HARDLINK;
  });
  entry(ring, 2, (sqe) => {
    sqe.prepWrite(1, buffer.address, 128, 0);
    sqe.flags = IOSQE_FIXED_FILE;
  });
  assert.equal(ring.submit(), 2);
  assert.equal(ring.registerFilesUpdate(0, [-1]), 1);
  assert.equal(ring.registerFilesUpdate(1, [-1]), 1);
  const results = reapResults(ring, 2);
  assert.equal(results.get(1), -62);
  // The file is looked up when the write begins; nothing reads from the pipe by then.
  assert.ok([EBADF, -32].includes(results.get(2)!), `${results.get(2)}`);
});

test("liburing file-register: sockets and pipes in one table", () => {
  using pipe = new Pipe();
  const fds = new Int32Array(new ArrayBuffer(8));
  assert.equal(system().socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
  using near = new Fd(fds[0]!);
  using _far = new Fd(fds[1]!);
  using ring = makeRing(8);
  ring.registerFiles(Array.from({ length: 32 }, (_, i) => i % 2 === 0 ? pipe.reader.fd : near.fd));
});

test("liburing file-register: a table that is refused holds none of its files", () => {
  using pipe = new Pipe();
  using ring = makeRing(8);
  assert.throws(() => ring.registerFiles([pipe.reader.fd, pipe.writer.fd, -1, ring.fd, -1]), {
    code: "EBADF",
  });
  pipe.writer.close();
  // The end of the pipe is seen at once: nobody holds its other end.
  assert.equal(system().read(pipe.reader.fd, new Uint8Array(8), 8), 0);
});

test("liburing file-register: the range that the kernel picks from", () => {
  using pipe = new Pipe();
  using ring = makeRing(8);
  ring.registerFilesSparse(10);
  const word = block(4);
  const allocate = (): number => {
    word.view.setInt32(0, pipe.reader.fd, true);
    const { res } = once(ring, (sqe) => sqe.prepFilesUpdate(word.address, 1, IORING_FILE_INDEX_ALLOC));
    return res < 0 ? res : word.view.getInt32(0, true);
  };
  ring.registerFileAllocRange(0, 1);
  assert.equal(allocate(), 0);
  ring.registerFileAllocRange(7, 2);
  assert.deepEqual([allocate(), allocate(), allocate()], [7, 8, ENFILE]);
  assert.throws(() => ring.registerFileAllocRange(8, 3), { code: "EINVAL" });
  assert.throws(() => ring.registerFileAllocRange(10, 1), { code: "EINVAL" });
  assert.throws(() => ring.registerFileAllocRange(7, 0xffff_fffe), { code: "EOVERFLOW" });
  ring.registerFileAllocRange(7, 0);
  assert.equal(allocate(), ENFILE);
});

for (const [where, slot, offset] of [["below", 2, 10], ["above", 15, 0]] as const) {
  test(`liburing file-alloc-range-hint: a slot ${where} the range does not lead out of it`, () => {
    using pipe = new Pipe();
    using ring = makeRing(8);
    ring.registerFilesSparse(20);
    ring.registerFileAllocRange(offset, 10);
    ring.registerFilesUpdate(slot, [pipe.reader.fd]);
    if (where === "below") ring.registerFilesUpdate(slot, [-1]);
    const word = block(4);
    for (let i = 0; i < 10; i++) {
      word.view.setInt32(0, pipe.writer.fd, true);
      assert.equal(once(ring, (sqe) => sqe.prepFilesUpdate(word.address, 1, IORING_FILE_INDEX_ALLOC)).res, 1);
      const given = word.view.getInt32(0, true);
      assert.ok(given >= offset && given < offset + 10, `${given}`);
    }
  });
}

const noDefer = missingRing({ flags: DEFER });

test("liburing file-exit-unreg: a ring that is closed lets go of its tagged files", { skip: noDefer }, () => {
  using pipe = new Pipe();
  const ring = makeRing(4, { flags: DEFER });
  ring.registerFilesTags([pipe.reader.fd, pipe.writer.fd], [1, 2]);
  pipe.writer.close();
  const read = (): number => system().read(pipe.reader.fd, new Uint8Array(8), 8);
  assert.equal(read(), -11, "the ring holds the writing end");
  ring.close();
  eventually(() => read() === 0, "the pipe has no writing end");
});

test(
  "liburing file-register: files go while a read of them is done but not yet told",
  { skip: noDefer },
  () => {
    using pipe = new Pipe();
    using ring = makeRing(8, { flags: DEFER });
    const buffer = block(1);
    ring.registerFiles([pipe.reader.fd, pipe.writer.fd]);
    entry(ring, 1, (sqe) => {
      sqe.prepRead(0, buffer.address, 1, 0);
      sqe.flags = IOSQE_FIXED_FILE;
    });
    ring.submit();
    pipe.write("x");
    ring.unregisterFiles();
    assert.equal(reap(ring, 1)[0]!.res, 1);
  },
);

test("liburing ooo-file-unreg: slots are emptied in another order than they are used", () => {
  const fds = new Int32Array(new ArrayBuffer(8));
  assert.equal(system().socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
  using ring = makeRing(1);
  ring.registerFilesSparse(2);
  assert.equal(ring.registerFilesUpdate(0, fds), 2);
  entry(ring, 1, (sqe) => {
    sqe.prepPollAdd(0, POLLIN);
    sqe.flags = IOSQE_FIXED_FILE;
  });
  ring.submit();
  for (const fd of fds) system().close(fd);
  assert.equal(ring.registerFilesUpdate(1, [-1]), 1);
  assert.equal(ring.registerFilesUpdate(0, [-1]), 1);
  assertQuiet(ring);
  // The poll alone holds its socket still.
  assert.equal(ring.registerSyncCancel({ userData: 1 }), 0);
  assert.equal(reap(ring, 1)[0]!.res, -125);
});
