/** Cancelling: by `user_data`, by descriptor, anything, everything; and with a system call that waits. */
import assert from "node:assert/strict";
import {
  IORING_ASYNC_CANCEL_ALL,
  IORING_ASYNC_CANCEL_ANY,
  IORING_ASYNC_CANCEL_FD,
  IORING_ASYNC_CANCEL_FD_FIXED,
  IORING_ASYNC_CANCEL_OP,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_POLL_ADD,
  IOSQE_FIXED_FILE,
  POLLIN,
  type Ring,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { Pipe } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertEntry,
  assertQuiet,
  block,
  entry,
  forEachKind,
  makeRing,
  once,
  reap,
  reapResults,
  timespec,
} from "../support/rings.ts";

checkLeaks();

const ENOENT = -2;
const ECANCELED = -125;

const noFixed = kernelHas("6.0") ? false : "needs Linux 6.0";
const noOp = kernelHas("6.6") ? false : "needs Linux 6.6";

function poll(ring: Ring, userData: number, fd: number): void {
  entry(ring, userData, (sqe) => sqe.prepPollAdd(fd, POLLIN));
}

const sorted = (results: Map<number, number>): number[][] => [...results].sort(([a], [b]) => a - b);

forEachKind(({ name, options, skip }) => {
  test(`${name}: cancels by user_data`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    poll(ring, 1, pipe.reader.fd);
    poll(ring, 2, pipe.reader.fd);
    ring.submit();
    const sqe = entry(ring, 3, (sqe) => sqe.prepCancel64(1, 0));
    assertEntry(sqe, { opcode: IORING_OP_ASYNC_CANCEL, fd: -1, addr: 1n });
    assert.deepEqual(sorted(reapResults(ring, 2)), [[1, ECANCELED], [3, 0]]);
    assert.equal(once(ring, (sqe) => sqe.prepCancel(1, 0)).res, ENOENT);
    entry(ring, 4, (sqe) => sqe.prepCancel64(2n, 0));
    assert.deepEqual(sorted(reapResults(ring, 2)), [[2, ECANCELED], [4, 0]]);
  });

  test(`${name}: cancels a read that waits`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    const buffer = block(8);
    entry(ring, 1, (sqe) => sqe.prepRead(pipe.reader.fd, buffer.address, 8, 0));
    ring.submit();
    entry(ring, 2, (sqe) => sqe.prepCancel64(1, 0));
    assert.deepEqual(sorted(reapResults(ring, 2)), [[1, ECANCELED], [2, 0]]);
    pipe.write("x");
    assertQuiet(ring);
    assert.equal(buffer.bytes[0], 0, "it does not read any more");
    assert.equal(pipe.read(), "x");
  });

  test(`${name}: cancels a timeout`, { skip }, () => {
    using ring = makeRing(8, options);
    const ts = timespec(3_600_000);
    entry(ring, 1, (sqe) => sqe.prepTimeout(ts, 0, 0));
    ring.submit();
    entry(ring, 2, (sqe) => sqe.prepCancel64(1, 0));
    assert.deepEqual(sorted(reapResults(ring, 2)), [[1, ECANCELED], [2, 0]]);
  });

  test(`${name}: cancels the first of several, or all of them`, { skip }, () => {
    using ring = makeRing(16, options);
    using pipe = new Pipe();
    for (let i = 0; i < 3; i++) poll(ring, 7, pipe.reader.fd);
    ring.submit();
    entry(ring, 1, (sqe) => sqe.prepCancel64(7, 0));
    assert.deepEqual(sorted(reapResults(ring, 2)), [[1, 0], [7, ECANCELED]]);
    entry(ring, 2, (sqe) => sqe.prepCancel64(7, IORING_ASYNC_CANCEL_ALL));
    const found = reap(ring, 3).map(({ userData, res }) => [userData, res]).sort();
    assert.deepEqual(found, [[2, 2], [7, ECANCELED], [7, ECANCELED]]);
    // None left is a count of none.
    assert.equal(once(ring, (sqe) => sqe.prepCancel64(7, IORING_ASYNC_CANCEL_ALL)).res, 0);
  });

  test(`${name}: cancels by descriptor`, { skip }, () => {
    using ring = makeRing(16, options);
    using first = new Pipe();
    using second = new Pipe();
    poll(ring, 1, first.reader.fd);
    poll(ring, 2, first.reader.fd);
    poll(ring, 3, second.reader.fd);
    ring.submit();
    const sqe = entry(ring, 4, (sqe) => sqe.prepCancelFd(first.reader.fd, IORING_ASYNC_CANCEL_ALL));
    assertEntry(sqe, {
      opcode: IORING_OP_ASYNC_CANCEL,
      fd: first.reader.fd,
      opFlags: IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL,
    });
    assert.deepEqual(sorted(reapResults(ring, 3)), [[1, ECANCELED], [2, ECANCELED], [4, 2]]);
    assertQuiet(ring);
    entry(ring, 5, (sqe) => sqe.prepCancelFd(second.reader.fd, 0));
    assert.deepEqual(sorted(reapResults(ring, 2)), [[3, ECANCELED], [5, 0]]);
  });

  test(`${name}: cancels by direct descriptor`, { skip: skip || noFixed }, () => {
    using ring = makeRing(16, options);
    using pipe = new Pipe();
    ring.registerFiles([-1, pipe.reader.fd]);
    entry(ring, 1, (sqe) => {
      sqe.prepPollAdd(1, POLLIN);
      sqe.flags = IOSQE_FIXED_FILE;
    });
    ring.submit();
    entry(ring, 2, (sqe) => sqe.prepCancelFd(1, IORING_ASYNC_CANCEL_FD_FIXED));
    assert.deepEqual(sorted(reapResults(ring, 2)), [[1, ECANCELED], [2, 0]]);
  });

  test(`${name}: cancels whatever there is`, { skip }, () => {
    using ring = makeRing(16, options);
    using first = new Pipe();
    using second = new Pipe();
    const ts = timespec(3_600_000);
    poll(ring, 1, first.reader.fd);
    poll(ring, 2, first.reader.fd);
    poll(ring, 3, second.reader.fd);
    entry(ring, 4, (sqe) => sqe.prepTimeout(ts, 0, 0));
    ring.submit();
    const flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
    entry(ring, 10, (sqe) => sqe.prepCancel64(0, flags));
    const found = sorted(reapResults(ring, 5));
    assert.deepEqual(found, [[1, ECANCELED], [2, ECANCELED], [3, ECANCELED], [4, ECANCELED], [10, 4]]);
    assert.equal(once(ring, (sqe) => sqe.prepCancel64(0, flags)).res, 0);
  });

  test(`${name}: cancels by operation`, { skip: skip || noOp }, () => {
    using ring = makeRing(16, options);
    using pipe = new Pipe();
    const ts = timespec(3_600_000);
    entry(ring, 1, (sqe) => sqe.prepTimeout(ts, 0, 0));
    poll(ring, 2, pipe.reader.fd);
    ring.submit();
    entry(ring, 3, (sqe) => {
      sqe.prepCancel64(0, IORING_ASYNC_CANCEL_OP | IORING_ASYNC_CANCEL_ALL);
      sqe.len = IORING_OP_POLL_ADD;
    });
    assert.deepEqual(sorted(reapResults(ring, 2)), [[2, ECANCELED], [3, 1]]);
    entry(ring, 4, (sqe) => sqe.prepTimeoutRemove(1, 0));
    reap(ring, 2);
  });

  test(`${name}: registerSyncCancel waits for the end`, { skip: skip || noFixed }, () => {
    using ring = makeRing(16, options);
    using pipe = new Pipe();
    for (let i = 1; i <= 3; i++) poll(ring, i, pipe.reader.fd);
    ring.submitAndGetEvents();
    // With a kernel thread, they must have been taken first.
    while (ring.sqReady() > 0) ring.getEvents();
    assert.equal(ring.registerSyncCancel({ userData: 1 }), 0);
    assert.deepEqual(reap(ring, 1).map(({ userData, res }) => [userData, res]), [[1, ECANCELED]]);
    assert.throws(() => ring.registerSyncCancel({ userData: 1 }), {
      code: "ENOENT",
      syscall: "io_uring_register",
    });
    const flags = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL;
    const count = ring.registerSyncCancel({ fd: pipe.reader.fd, flags, timeout: { sec: 10, nsec: 0 } });
    assert.ok(count === 2 || count === 0, `${count}`);
    assert.deepEqual(sorted(reapResults(ring, 2)), [[2, ECANCELED], [3, ECANCELED]]);
    assertQuiet(ring);
  });
});

test("a race between a completion and its cancellation has one winner", () => {
  using ring = makeRing(16);
  const EALREADY = -114;
  for (let i = 0; i < 300; i++) {
    using pipe = new Pipe();
    poll(ring, 1, pipe.reader.fd);
    ring.submit();
    if (i % 3 !== 0) pipe.write("x");
    entry(ring, 2, (sqe) => sqe.prepCancel64(1, 0));
    const results = reapResults(ring, 2);
    if (results.get(2) === 0) assert.equal(results.get(1), ECANCELED);
    else {
      assert.ok([ENOENT, EALREADY].includes(results.get(2)!));
      assert.equal(results.get(1), POLLIN);
    }
  }
  assertQuiet(ring);
});
