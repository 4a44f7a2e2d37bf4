/** Links, drains, time limits by link, and completions that are skipped. */
import assert from "node:assert/strict";
import {
  IORING_OP_LINK_TIMEOUT,
  IORING_OP_NOP,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_IO_DRAIN,
  IOSQE_IO_HARDLINK,
  IOSQE_IO_LINK,
  POLLIN,
  type Ring,
} from "../../src/ring/mod.ts";
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

const EBADF = -9;
const EINVAL = -22;
const ETIME = -62;
const ECANCELED = -125;
const NO_FD = 1_000_000;

function nop(ring: Ring, userData: number, flags = 0): void {
  entry(ring, userData, (sqe) => {
    sqe.prepNop();
    sqe.flags = flags;
  });
}

/** Fails with EBADF when it runs. */
function failing(ring: Ring, userData: number, flags = 0): void {
  const { address } = block(8);
  entry(ring, userData, (sqe) => {
    sqe.prepRead(NO_FD, address, 8, 0);
    sqe.flags = flags;
  });
}

forEachKind(({ name, options, skip }) => {
  test(`${name}: linked operations run one after the other`, { skip }, () => {
    using ring = makeRing(8, options);
    const sqe = entry(ring, 1, (sqe) => sqe.prepNop());
    sqe.flags = IOSQE_IO_LINK;
    assertEntry(sqe, { opcode: IORING_OP_NOP, flags: IOSQE_IO_LINK, fd: -1 });
    nop(ring, 2, IOSQE_IO_LINK);
    nop(ring, 3);
    assert.deepEqual(reap(ring, 3).map(({ userData, res }) => [userData, res]), [[1, 0], [2, 0], [3, 0]]);
  });

  test(`${name}: a failing head cancels the rest, and only its own chain`, { skip }, () => {
    using ring = makeRing(8, options);
    failing(ring, 1, IOSQE_IO_LINK);
    nop(ring, 2, IOSQE_IO_LINK);
    nop(ring, 3);
    nop(ring, 4, IOSQE_IO_LINK);
    nop(ring, 5);
    assert.deepEqual(
      [...reapResults(ring, 5)].sort(),
      [[1, EBADF], [2, ECANCELED], [3, ECANCELED], [4, 0], [5, 0]],
    );
  });

  test(`${name}: a failure in the middle lets stand what came before`, { skip }, () => {
    using ring = makeRing(8, options);
    nop(ring, 1, IOSQE_IO_LINK);
    failing(ring, 2, IOSQE_IO_LINK);
    nop(ring, 3);
    assert.deepEqual([...reapResults(ring, 3)].sort(), [[1, 0], [2, EBADF], [3, ECANCELED]]);
  });

  test(`${name}: a hard link survives a failure`, { skip }, () => {
    using ring = makeRing(8, options);
    failing(ring, 1, IOSQE_IO_HARDLINK);
    nop(ring, 2, IOSQE_IO_HARDLINK);
    nop(ring, 3);
    assert.deepEqual([...reapResults(ring, 3)].sort(), [[1, EBADF], [2, 0], [3, 0]]);
  });

  test(`${name}: a short read breaks a link`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    pipe.write("abc");
    const buffer = block(8);
    entry(ring, 1, (sqe) => {
      sqe.prepRead(pipe.reader.fd, buffer.address, 8, 0);
      sqe.flags = IOSQE_IO_LINK;
    });
    nop(ring, 2);
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, 3], [2, ECANCELED]]);
  });

  test(`${name}: a link's time runs out`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    entry(ring, 1, (sqe) => {
      sqe.prepPollAdd(pipe.reader.fd, POLLIN);
      sqe.flags = IOSQE_IO_LINK;
    });
    const ts = timespec(2);
    const sqe = entry(ring, 2, (sqe) => sqe.prepLinkTimeout(ts, 0));
    assertEntry(sqe, { opcode: IORING_OP_LINK_TIMEOUT, fd: -1, addr: BigInt(ts), len: 1 });
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, ECANCELED], [2, ETIME]]);
    assertQuiet(ring);
  });

  test(`${name}: an operation that ends in time cancels its time limit`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    pipe.write("x");
    entry(ring, 1, (sqe) => {
      sqe.prepPollAdd(pipe.reader.fd, POLLIN);
      sqe.flags = IOSQE_IO_LINK;
    });
    const ts = timespec(60_000);
    entry(ring, 2, (sqe) => sqe.prepLinkTimeout(ts, 0));
    const results = reapResults(ring, 2);
    assert.equal(results.get(1)! & POLLIN, POLLIN);
    assert.equal(results.get(2), ECANCELED);
  });

  test(`${name}: a time limit that ends a chain of three`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    entry(ring, 1, (sqe) => {
      sqe.prepPollAdd(pipe.reader.fd, POLLIN);
      sqe.flags = IOSQE_IO_LINK;
    });
    const ts = timespec(2);
    entry(ring, 2, (sqe) => {
      sqe.prepLinkTimeout(ts, 0);
      sqe.flags = IOSQE_IO_LINK;
    });
    nop(ring, 3);
    assert.deepEqual([...reapResults(ring, 3)].sort(), [[1, ECANCELED], [2, ETIME], [3, ECANCELED]]);
  });

  test(`${name}: a time limit without an operation is invalid`, { skip }, () => {
    using ring = makeRing(8, options);
    const ts = timespec(2);
    assert.equal(once(ring, (sqe) => sqe.prepLinkTimeout(ts, 0)).res, EINVAL);
  });

  test(`${name}: a drain waits for all that came before`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
    nop(ring, 2, IOSQE_IO_DRAIN);
    nop(ring, 3);
    ring.submit();
    assert.equal(ring.waitCqeTimeout({ sec: 0, nsec: 5_000_000 }), null);
    pipe.write("x");
    assert.deepEqual(reap(ring, 3).map(({ userData }) => userData), [1, 2, 3]);
  });

  test(`${name}: a drain waits for a whole chain`, { skip }, () => {
    using ring = makeRing(8, options);
    const ts = timespec(2);
    entry(ring, 1, (sqe) => {
      sqe.prepTimeout(ts, 0, 0);
      sqe.flags = IOSQE_IO_HARDLINK;
    });
    nop(ring, 2);
    nop(ring, 3, IOSQE_IO_DRAIN);
    assert.deepEqual(reap(ring, 3).map(({ userData, res }) => [userData, res]), [[1, ETIME], [2, 0], [3, 0]]);
  });

  test(`${name}: a success may be skipped, a failure is told`, { skip }, () => {
    using ring = makeRing(8, options);
    nop(ring, 1, IOSQE_CQE_SKIP_SUCCESS);
    nop(ring, 2);
    failing(ring, 3, IOSQE_CQE_SKIP_SUCCESS);
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[2, 0], [3, EBADF]]);
    assertQuiet(ring);
  });

  test(`${name}: only the last of a chain is told when the others succeed`, { skip }, () => {
    using ring = makeRing(8, options);
    const skipped = IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
    nop(ring, 1, skipped);
    nop(ring, 2, skipped);
    nop(ring, 3);
    assert.deepEqual(reap(ring, 1).map(({ userData }) => userData), [3]);
    // Whether what a failure cancels is told depends on the one that fails.
    failing(ring, 4, IOSQE_IO_LINK);
    nop(ring, 5, IOSQE_CQE_SKIP_SUCCESS);
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[4, EBADF], [5, ECANCELED]]);
    failing(ring, 6, skipped);
    nop(ring, 7);
    assert.deepEqual(reap(ring, 1).map(({ userData, res }) => [userData, res]), [[6, EBADF]]);
    assertQuiet(ring);
  });
});

test("a chain does not reach beyond one submit", () => {
  using ring = makeRing(8);
  failing(ring, 1, IOSQE_IO_LINK);
  ring.submit();
  nop(ring, 2);
  assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, EBADF], [2, 0]]);
});

test("many chains in one submit stay apart", () => {
  using ring = makeRing(256);
  const CHAINS = 64;
  for (let i = 0; i < CHAINS; i++) {
    if (i % 2 === 0) failing(ring, 4 * i, IOSQE_IO_LINK);
    else nop(ring, 4 * i, IOSQE_IO_LINK);
    nop(ring, 4 * i + 1, IOSQE_IO_LINK);
    nop(ring, 4 * i + 2);
  }
  const results = reapResults(ring, 3 * CHAINS);
  for (let i = 0; i < CHAINS; i++) {
    const chain = [results.get(4 * i), results.get(4 * i + 1), results.get(4 * i + 2)];
    assert.deepEqual(chain, i % 2 === 0 ? [EBADF, ECANCELED, ECANCELED] : [0, 0, 0]);
  }
});
