/** What each feature that the kernel reports promises. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import {
  EPOLLEXCLUSIVE,
  IORING_ENTER_NO_IOWAIT,
  IORING_FEAT_CQE_SKIP,
  IORING_FEAT_EXT_ARG,
  IORING_FEAT_FAST_POLL,
  IORING_FEAT_LINKED_FILE,
  IORING_FEAT_MIN_TIMEOUT,
  IORING_FEAT_NATIVE_WORKERS,
  IORING_FEAT_NO_IOWAIT,
  IORING_FEAT_POLL_32BITS,
  IORING_FEAT_REG_REG_RING,
  IORING_FEAT_RSRC_TAGS,
  IORING_FEAT_RW_ATTR,
  IORING_FEAT_RW_CUR_POS,
  IORING_FEAT_SINGLE_MMAP,
  IORING_FEAT_SQPOLL_NONFIXED,
  IORING_FEAT_SUBMIT_STABLE,
  IORING_RW_ATTR_FLAG_PI,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  O_RDONLY,
  POLLIN,
  type Ring,
} from "../../src/ring/mod.ts";
import { io_uring_sqe } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import { FEATURES } from "../../src/ffi/versions.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { SocketPair } from "../support/loop.ts";
import { put, WaitingPipe } from "../support/operations.ts";
import {
  assertQuiet,
  block,
  blockOf,
  entry,
  eventually,
  iovecs,
  makeRing,
  once,
  path,
  reap,
  reapResults,
  text,
} from "../support/rings.ts";

checkLeaks();

const reported = features();

function features(): number {
  using ring = makeRing(1);
  return ring.features;
}

/** Why a feature's promise cannot be tested, or `false`. */
function missing(feature: number): string | false {
  const [, name, kernel] = FEATURES.find(([bit]) => bit === feature)!;
  return (reported & feature) !== 0 ? false : `${name} needs Linux ${kernel}`;
}

/** A file with this content, and a descriptor of it. */
function fileWith(dir: TempDir, content: string): Fd {
  writeFileSync(dir.of("file"), content);
  return Fd.open(dir.of("file"), O_RDONLY);
}

/** The worker threads of rings that this process has. */
function workers(): number {
  const isWorker = (task: string): boolean => {
    try {
      return readFileSync(`/proc/self/task/${task}/comm`, "utf8").startsWith("iou-wrk-");
    } catch {
      // It has ended meanwhile.
      return false;
    }
  };
  return readdirSync("/proc/self/task").filter(isWorker).length;
}

function mappings(): number {
  return readFileSync("/proc/self/maps", "utf8").split("\n").filter((line) => line.endsWith("[io_uring]"))
    .length;
}

test("SINGLE_MMAP: one mapping for both rings, one for the entries", {
  skip: missing(IORING_FEAT_SINGLE_MMAP),
}, () => {
  const before = mappings();
  using _ring = makeRing(4);
  assert.equal(mappings(), before + 2);
});

test("SUBMIT_STABLE: what an entry points at may go after the submission", {
  skip: missing(IORING_FEAT_SUBMIT_STABLE),
}, () => {
  using ring = makeRing(4);
  using pair = new SocketPair();
  const buffer = block(8);
  const vectors = iovecs([buffer]);
  entry(ring, 1, (sqe) => sqe.prepReadv(pair.a.fd, vectors.address, 1, 0));
  ring.submit();
  vectors.bytes.fill(0xff);
  put(pair.b.fd, "stable");
  assert.equal(reap(ring, 1)[0]!.res, 6);
  assert.equal(text(buffer, 6), "stable");
});

test(
  "RW_CUR_POS: an offset of -1 is the file's own position",
  { skip: missing(IORING_FEAT_RW_CUR_POS) },
  () => {
    using ring = makeRing(4);
    using dir = new TempDir();
    using file = fileWith(dir, "0123456789");
    const buffer = block(4);
    const parts = [4, 4, 2, 0].map((length) => {
      assert.equal(once(ring, (sqe) => sqe.prepRead(file.fd, buffer.address, 4, -1)).res, length);
      return text(buffer, length);
    });
    assert.deepEqual(parts, ["0123", "4567", "89", ""]);
  },
);

test("FAST_POLL: what would block takes no worker thread", { skip: missing(IORING_FEAT_FAST_POLL) }, () => {
  using ring = makeRing(8);
  using pair = new SocketPair();
  const before = workers();
  const buffer = block(8);
  for (let i = 0; i < 4; i++) entry(ring, i, (sqe) => sqe.prepRecv(pair.a.fd, buffer.address, 1, 0));
  ring.submit();
  assertQuiet(ring);
  assert.equal(workers(), before);
  put(pair.b.fd, "abcd");
  assert.ok(reap(ring, 4).every(({ res }) => res === 1));
});

test(
  "POLL_32BITS: EPOLLEXCLUSIVE has one poll of two woken",
  { skip: missing(IORING_FEAT_POLL_32BITS) },
  () => {
    using ring = makeRing(4);
    using pipe = new WaitingPipe();
    for (const i of [1, 2]) entry(ring, i, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN | EPOLLEXCLUSIVE));
    ring.submit();
    pipe.write("x");
    const [first] = reap(ring, 1);
    assert.equal(first!.res, POLLIN);
    assertQuiet(ring);
    pipe.write("y");
    const [second] = reap(ring, 1);
    assert.deepEqual([first!.userData, second!.userData].sort(), [1, 2]);
  },
);

test("SQPOLL_NONFIXED: SQPOLL takes any descriptor", { skip: missing(IORING_FEAT_SQPOLL_NONFIXED) }, () => {
  using ring = makeRing(4, { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 5 });
  using dir = new TempDir();
  using file = fileWith(dir, "content");
  const buffer = block(7);
  assert.equal(once(ring, (sqe) => sqe.prepRead(file.fd, buffer.address, 7, 0)).res, 7);
  assert.equal(text(buffer), "content");
});

test("EXT_ARG: a wait ends in time and takes no entry for it", { skip: missing(IORING_FEAT_EXT_ARG) }, () => {
  using ring = makeRing(1);
  assert.equal(ring.waitCqeTimeout({ sec: 0, nsec: 1000 }), null);
  assert.equal(ring.submitAndWaitTimeout(1, { sec: 0, nsec: 1000 }), 0);
  assert.deepEqual([ring.sqSpaceLeft(), ring.cqReady()], [1, 0]);
});

test("NATIVE_WORKERS: worker threads are threads of this process", {
  skip: missing(IORING_FEAT_NATIVE_WORKERS),
}, () => {
  using ring = makeRing(4);
  using pipe = new WaitingPipe();
  const buffer = block(1);
  entry(ring, 1, (sqe) => {
    sqe.prepRead(pipe.reader.fd, buffer.address, 1, -1);
    sqe.flags |= IOSQE_ASYNC;
  });
  ring.submit();
  eventually(() => workers() > 0, "a worker thread");
  pipe.write("x");
  assert.equal(reap(ring, 1)[0]!.res, 1);
});

test("RSRC_TAGS: a registered file that goes says so", { skip: missing(IORING_FEAT_RSRC_TAGS) }, () => {
  using ring = makeRing(4);
  using pipe = new WaitingPipe();
  ring.registerFilesTags([pipe.reader.fd, pipe.writer.fd], [71, 72]);
  assert.equal(ring.registerFilesUpdate(1, [-1]), 1);
  assert.deepEqual(reap(ring, 1).map(({ userData }) => userData), [72]);
  ring.unregisterFiles();
  assert.deepEqual(reap(ring, 1).map(({ userData }) => userData), [71]);
});

test("CQE_SKIP: success says nothing, failure does", { skip: missing(IORING_FEAT_CQE_SKIP) }, () => {
  using ring = makeRing(4);
  const close = (userData: number, fd: number): void => {
    entry(ring, userData, (sqe) => {
      sqe.prepClose(fd);
      sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
    });
  };
  using pipe = new WaitingPipe();
  close(1, pipe.writer.fd);
  ring.submit();
  pipe.writer.release();
  assertQuiet(ring);
  close(2, 1_000_000);
  assert.deepEqual(reap(ring, 1).map(({ userData, res }) => [userData, res]), [[2, -9]]);
});

test("LINKED_FILE: a linked entry finds its file when its turn comes", {
  skip: missing(IORING_FEAT_LINKED_FILE),
}, () => {
  using ring = makeRing(4);
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "content");
  ring.registerFiles([-1]);
  const buffer = block(7);
  entry(ring, 1, (sqe) => {
    sqe.prepOpenDirect(path(dir.of("file")), O_RDONLY, 0, 0);
    sqe.flags |= IOSQE_IO_LINK;
  });
  entry(ring, 2, (sqe) => {
    sqe.prepRead(0, buffer.address, 7, 0);
    sqe.flags |= IOSQE_FIXED_FILE;
  });
  const results = reapResults(ring, 2);
  assert.deepEqual([results.get(1), results.get(2)], [0, 7]);
  assert.equal(text(buffer), "content");
});

test("REG_REG_RING: register calls by the ring's index", { skip: missing(IORING_FEAT_REG_REG_RING) }, () => {
  using ring: Ring = makeRing(4);
  ring.registerRingFd();
  ring.closeRingFd();
  assert.equal(ring.fd, -1);
  assert.ok(ring.getProbe().opcodeSupported(0));
  assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
});

test(
  "MIN_TIMEOUT: after the least time one completion is enough",
  { skip: missing(IORING_FEAT_MIN_TIMEOUT) },
  () => {
    using ring = makeRing(4);
    entry(ring, 1, (sqe) => sqe.prepNop());
    // Two will never come.
    assert.equal(ring.submitAndWaitTimeout(2, { sec: 60, nsec: 0 }, { minWaitUsec: 1000 }), 1);
    assert.equal(ring.cqReady(), 1);
    ring.cqAdvance(1);
  },
);

test("RW_ATTR: the kernel reads a read's attributes", { skip: missing(IORING_FEAT_RW_ATTR) }, () => {
  using ring = makeRing(4);
  using dir = new TempDir();
  using file = fileWith(dir, "content");
  const buffer = blockOf("       ");
  const withAttributes = (mask: bigint): number =>
    once(ring, (sqe) => {
      sqe.prepRead(file.fd, buffer.address, 7, 0);
      const bytes = new DataView(sqe.bytes.buffer, sqe.bytes.byteOffset);
      // No address of this process.
      bytes.setBigUint64(io_uring_sqe.attr_ptr, 1n, true);
      bytes.setBigUint64(io_uring_sqe.attr_type_mask, mask, true);
    }).res;
  assert.equal(withAttributes(BigInt(IORING_RW_ATTR_FLAG_PI)), -14);
  assert.equal(withAttributes(1n << 63n), -22);
});

test("NO_IOWAIT: waits can be kept from counting as waits for a device", {
  skip: missing(IORING_FEAT_NO_IOWAIT),
}, () => {
  using ring = makeRing(4);
  const wait = (): boolean => {
    const flags: number[] = [];
    const calls = system();
    const { enter } = calls;
    calls.enter = (fd, toSubmit, minComplete, bits) => {
      flags.push(bits);
      return enter(fd, toSubmit, minComplete, bits);
    };
    try {
      assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
    } finally {
      calls.enter = enter;
    }
    assert.ok(flags.length > 0, "nothing was called");
    return flags.every((bits) => (bits & IORING_ENTER_NO_IOWAIT) !== 0);
  };
  assert.equal(wait(), false);
  ring.setIowait(false);
  assert.equal(wait(), true);
  ring.setIowait(true);
  assert.equal(wait(), false);
});
