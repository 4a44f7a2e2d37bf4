/** Polling descriptors: once, repeatedly, changed and removed. */
import assert from "node:assert/strict";
import {
  IORING_CQE_F_MORE,
  IORING_OP_POLL_ADD,
  IORING_OP_POLL_REMOVE,
  IORING_POLL_ADD_MULTI,
  IORING_POLL_UPDATE_EVENTS,
  IORING_POLL_UPDATE_USER_DATA,
  IOSQE_IO_LINK,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
} from "../../src/ring/mod.ts";
import { Pipe } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertEntry,
  assertQuiet,
  entry,
  forEachKind,
  makeRing,
  once,
  reap,
  reapResults,
} from "../support/rings.ts";

checkLeaks();

const ENOENT = -2;
const EBADF = -9;
const ECANCELED = -125;

forEachKind(({ name, options, skip }) => {
  test(`${name}: a poll tells which events are there`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    const sqe = entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.writer.fd, POLLIN | POLLOUT));
    assertEntry(sqe, { opcode: IORING_OP_POLL_ADD, fd: pipe.writer.fd, opFlags: POLLIN | POLLOUT });
    assert.deepEqual(reap(ring, 1), [{ userData: 1, res: POLLOUT, flags: 0 }]);
    entry(ring, 2, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
    ring.submit();
    assertQuiet(ring);
    pipe.write("x");
    assert.deepEqual(reap(ring, 1), [{ userData: 2, res: POLLIN, flags: 0 }]);
    pipe.writer.close();
    assert.equal(once(ring, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN)).res, POLLIN | POLLHUP);
    assert.equal(once(ring, (sqe) => sqe.prepPollAdd(1_000_000, POLLIN)).res, EBADF);
  });

  test(`${name}: an error wakes whatever was asked for`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    pipe.reader.close();
    assert.equal(once(ring, (sqe) => sqe.prepPollAdd(pipe.writer.fd, 0)).res, POLLERR);
  });

  test(`${name}: a poll is removed`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
    ring.submit();
    const sqe = entry(ring, 2, (sqe) => sqe.prepPollRemove(1));
    assertEntry(sqe, { opcode: IORING_OP_POLL_REMOVE, fd: -1, addr: 1n });
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, ECANCELED], [2, 0]]);
    assert.equal(once(ring, (sqe) => sqe.prepPollRemove(1)).res, ENOENT);
  });

  test(`${name}: a poll goes on until it is removed`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    const sqe = entry(ring, 1, (sqe) => sqe.prepPollMultishot(pipe.reader.fd, POLLIN));
    assertEntry(sqe, {
      opcode: IORING_OP_POLL_ADD,
      fd: pipe.reader.fd,
      opFlags: POLLIN,
      len: IORING_POLL_ADD_MULTI,
    });
    ring.submit();
    for (let i = 0; i < 20; i++) {
      assertQuiet(ring);
      pipe.write("x");
      assert.deepEqual(reap(ring, 1), [{ userData: 1, res: POLLIN, flags: IORING_CQE_F_MORE }]);
      assert.equal(pipe.read(), "x");
    }
    entry(ring, 2, (sqe) => sqe.prepPollRemove(1));
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, ECANCELED], [2, 0]]);
    pipe.write("x");
    assertQuiet(ring);
  });

  test(`${name}: a poll's events are changed in flight`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    entry(ring, 1, (sqe) => sqe.prepPollMultishot(pipe.reader.fd, POLLHUP));
    ring.submit();
    pipe.write("x");
    assertQuiet(ring);
    const flags = IORING_POLL_UPDATE_EVENTS | IORING_POLL_ADD_MULTI;
    const sqe = entry(ring, 2, (sqe) => sqe.prepPollUpdate(1, 0, POLLIN, flags));
    assertEntry(sqe, { opcode: IORING_OP_POLL_REMOVE, fd: -1, addr: 1n, len: flags, opFlags: POLLIN });
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, POLLIN], [2, 0]]);
    entry(ring, 3, (sqe) => sqe.prepPollRemove(1));
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, ECANCELED], [3, 0]]);
  });

  test(`${name}: a poll's user_data is changed in flight`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    entry(ring, 1, (sqe) => sqe.prepPollMultishot(pipe.reader.fd, POLLIN));
    ring.submit();
    const flags = IORING_POLL_UPDATE_USER_DATA | IORING_POLL_ADD_MULTI;
    const update = entry(ring, 2, (sqe) => sqe.prepPollUpdate(1, 77, 0, flags));
    assertEntry(update, { opcode: IORING_OP_POLL_REMOVE, fd: -1, addr: 1n, off: 77n, len: flags });
    assert.deepEqual(reap(ring, 1), [{ userData: 2, res: 0, flags: 0 }]);
    pipe.write("x");
    assert.deepEqual(reap(ring, 1), [{ userData: 77, res: POLLIN, flags: IORING_CQE_F_MORE }]);
    assert.equal(once(ring, (sqe) => sqe.prepPollUpdate(1, 78, 0, flags)).res, ENOENT);
    entry(ring, 3, (sqe) => sqe.prepPollRemove(77));
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[3, 0], [77, ECANCELED]]);
  });

  test(`${name}: a poll starts what is linked to it`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    entry(ring, 1, (sqe) => {
      sqe.prepPollAdd(pipe.reader.fd, POLLIN);
      sqe.flags = IOSQE_IO_LINK;
    });
    entry(ring, 2, (sqe) => sqe.prepNop());
    ring.submit();
    assertQuiet(ring);
    pipe.write("x");
    assert.deepEqual(reap(ring, 2).map(({ userData, res }) => [userData, res]), [[1, POLLIN], [2, 0]]);
  });
});

test("two hundred pipes are polled at once", () => {
  using ring = makeRing(256);
  const pipes = Array.from({ length: 200 }, () => new Pipe());
  pipes.forEach((pipe, i) => entry(ring, i, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN)));
  ring.submit();
  assertQuiet(ring);
  for (let i = 0; i < 200; i += 2) pipes[i]!.write("x");
  for (const [i, res] of reapResults(ring, 100)) {
    assert.equal(res, POLLIN);
    assert.equal(i % 2, 0);
  }
  assertQuiet(ring);
  for (let i = 1; i < 200; i += 2) pipes[i]!.write("x");
  assert.equal(reapResults(ring, 100).size, 100);
  for (const pipe of pipes) pipe[Symbol.dispose]();
});

test("a ring is polled by another one, and by itself without harm", () => {
  using polled = makeRing(4);
  using polling = makeRing(4);
  entry(polling, 1, (sqe) => sqe.prepPollAdd(polled.fd, POLLIN));
  polling.submit();
  assertQuiet(polling);
  once(polling, (sqe) => sqe.prepNop());
  entry(polled, 1, (sqe) => sqe.prepNop());
  polled.submit();
  assert.equal(reap(polling, 1)[0]!.res & POLLIN, POLLIN);
  polled.cqAdvance(1);
  // Its own descriptor: closing must not wait for it. It is removed again, for the poll keeps the ring.
  entry(polled, 2, (sqe) => sqe.prepPollAdd(polled.fd, POLLIN));
  polled.submit();
  entry(polled, 3, (sqe) => sqe.prepPollRemove(2));
  reap(polled, 2);
});
