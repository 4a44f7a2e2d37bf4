/** Timeouts: by time, by count, changed, removed, repeated. */
import assert from "node:assert/strict";
import {
  IORING_CQE_F_MORE,
  IORING_OP_TIMEOUT,
  IORING_OP_TIMEOUT_REMOVE,
  IORING_TIMEOUT_ABS,
  IORING_TIMEOUT_BOOTTIME,
  IORING_TIMEOUT_ETIME_SUCCESS,
  IORING_TIMEOUT_MULTISHOT,
  IORING_TIMEOUT_REALTIME,
  IORING_TIMEOUT_UPDATE,
  IOSQE_IO_LINK,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
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
  timespec,
} from "../support/rings.ts";

checkLeaks();

const ENOENT = -2;
const EINVAL = -22;
const ETIME = -62;
const ECANCELED = -125;
const FOREVER = 3_600_000;

const noMultishot = kernelHas("6.4") ? false : "needs Linux 6.4";
const noClocks = kernelHas("5.15") ? false : "needs Linux 5.15";

forEachKind(({ name, options, skip }) => {
  test(`${name}: a timeout ends with ETIME`, { skip }, () => {
    using ring = makeRing(8, options);
    const ts = timespec(2);
    const start = performance.now();
    const sqe = entry(ring, 1, (sqe) => sqe.prepTimeout(ts, 0, 0));
    assertEntry(sqe, { opcode: IORING_OP_TIMEOUT, fd: -1, addr: BigInt(ts), len: 1 });
    assert.equal(reap(ring, 1)[0]!.res, ETIME);
    // The kernel's clock and the runtime's may differ by their rounding.
    assert.ok(performance.now() - start >= 1.5);
  });

  test(`${name}: shorter timeouts end first`, { skip }, () => {
    using ring = makeRing(8, options);
    const spans = [timespec(20), timespec(2), timespec(10)];
    spans.forEach((ts, i) => entry(ring, i, (sqe) => sqe.prepTimeout(ts, 0, 0)));
    assert.deepEqual(reap(ring, 3).map(({ userData }) => userData), [1, 2, 0]);
  });

  test(`${name}: a timeout ends with 0 after so many completions`, { skip }, () => {
    using ring = makeRing(8, options);
    const ts = timespec(FOREVER);
    const sqe = entry(ring, 100, (sqe) => sqe.prepTimeout(ts, 3, 0));
    assertEntry(sqe, { opcode: IORING_OP_TIMEOUT, fd: -1, addr: BigInt(ts), len: 1, off: 3n });
    ring.submit();
    for (let i = 0; i < 2; i++) once(ring, (sqe) => sqe.prepNop());
    assertQuiet(ring);
    entry(ring, 3, (sqe) => sqe.prepNop());
    const results = reapResults(ring, 2);
    assert.deepEqual([...results].sort(), [[100, 0], [3, 0]].sort());
  });

  test(`${name}: a timeout is removed`, { skip }, () => {
    using ring = makeRing(8, options);
    const ts = timespec(FOREVER);
    entry(ring, 1, (sqe) => sqe.prepTimeout(ts, 0, 0));
    ring.submit();
    const sqe = entry(ring, 2, (sqe) => sqe.prepTimeoutRemove(1, 0));
    assertEntry(sqe, { opcode: IORING_OP_TIMEOUT_REMOVE, fd: -1, addr: 1n });
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, ECANCELED], [2, 0]]);
    assert.equal(once(ring, (sqe) => sqe.prepTimeoutRemove(1, 0)).res, ENOENT);
  });

  test(`${name}: a timeout is set anew`, { skip }, () => {
    using ring = makeRing(8, options);
    const ts = timespec(FOREVER);
    const soon = timespec(1);
    entry(ring, 1, (sqe) => sqe.prepTimeout(ts, 0, 0));
    ring.submit();
    const sqe = entry(ring, 2, (sqe) => sqe.prepTimeoutUpdate(soon, 1, 0));
    assertEntry(sqe, {
      opcode: IORING_OP_TIMEOUT_REMOVE,
      fd: -1,
      addr: 1n,
      off: BigInt(soon),
      opFlags: IORING_TIMEOUT_UPDATE,
    });
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, ETIME], [2, 0]]);
    assert.equal(once(ring, (sqe) => sqe.prepTimeoutUpdate(soon, 1, 0)).res, ENOENT);
  });

  test(`${name}: a timeout repeats as often as it is told`, { skip: skip || noMultishot }, () => {
    using ring = makeRing(8, options);
    const ts = timespec(1);
    entry(ring, 1, (sqe) => sqe.prepTimeout(ts, 4, IORING_TIMEOUT_MULTISHOT));
    const found = reap(ring, 4);
    assert.deepEqual(found.map(({ res }) => res), [ETIME, ETIME, ETIME, ETIME]);
    const more = found.map(({ flags }) => flags & IORING_CQE_F_MORE);
    assert.deepEqual(more, [IORING_CQE_F_MORE, IORING_CQE_F_MORE, IORING_CQE_F_MORE, 0]);
    assertQuiet(ring);
  });

  test(`${name}: a timeout repeats for ever, until it is removed`, { skip: skip || noMultishot }, () => {
    using ring = makeRing(64, options);
    const ts = timespec(1);
    entry(ring, 1, (sqe) => sqe.prepTimeout(ts, 0, IORING_TIMEOUT_MULTISHOT));
    for (const { res, flags } of reap(ring, 3)) {
      assert.equal(res, ETIME);
      assert.equal(flags & IORING_CQE_F_MORE, IORING_CQE_F_MORE);
    }
    // It may fire a few times more before it is removed, and is not found at the moment that it fires.
    let removed = ENOENT;
    let last = ETIME;
    entry(ring, 2, (sqe) => sqe.prepTimeoutRemove(1, 0));
    while (removed === ENOENT || last === ETIME) {
      const { userData, res } = reap(ring, 1)[0]!;
      if (userData === 1) last = res;
      else removed = res;
      if (userData === 2 && res === ENOENT) entry(ring, 2, (sqe) => sqe.prepTimeoutRemove(1, 0));
    }
    assert.equal(removed, 0);
    assert.equal(last, ECANCELED);
    assertQuiet(ring);
  });

  test(`${name}: an expired timeout breaks a link, unless it counts as success`, { skip }, () => {
    for (const [flags, rest] of [[0, ECANCELED], [IORING_TIMEOUT_ETIME_SUCCESS, 0]] as const) {
      using ring = makeRing(8, options);
      const ts = timespec(1);
      entry(ring, 1, (sqe) => {
        sqe.prepTimeout(ts, 0, flags);
        sqe.flags = IOSQE_IO_LINK;
      });
      entry(ring, 2, (sqe) => sqe.prepNop());
      assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, ETIME], [2, rest]]);
    }
  });
});

test("a point in time, of each clock", { skip: noClocks }, () => {
  using ring = makeRing(4);
  const past = timespec(1000);
  const clocks = [0, IORING_TIMEOUT_REALTIME, IORING_TIMEOUT_BOOTTIME];
  for (const clock of clocks) {
    assert.equal(once(ring, (sqe) => sqe.prepTimeout(past, 0, IORING_TIMEOUT_ABS | clock)).res, ETIME);
  }
  const soon = timespec(Date.now() + 5);
  const flags = IORING_TIMEOUT_ABS | IORING_TIMEOUT_REALTIME;
  assert.equal(once(ring, (sqe) => sqe.prepTimeout(soon, 0, flags)).res, ETIME);
  const both = IORING_TIMEOUT_REALTIME | IORING_TIMEOUT_BOOTTIME;
  assert.equal(once(ring, (sqe) => sqe.prepTimeout(past, 0, both)).res, EINVAL);
});

test("a timeout at a bad address fails alone", () => {
  using ring = makeRing(4);
  const EFAULT = -14;
  assert.equal(once(ring, (sqe) => sqe.prepTimeout(8, 0, 0)).res, EFAULT);
  assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
});

test("a thousand timeouts come back once each", () => {
  using ring = makeRing(1024);
  const spans = [timespec(1), timespec(2), timespec(3)];
  for (let i = 0; i < 1000; i++) entry(ring, i, (sqe) => sqe.prepTimeout(spans[i % 3]!, 0, 0));
  const results = reapResults(ring, 1000);
  for (let i = 0; i < 1000; i++) assert.equal(results.get(i), ETIME);
});
