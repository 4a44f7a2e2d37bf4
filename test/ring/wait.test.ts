/** Waiting: with a time limit, with a minimal time, until a point in time, with and without submitting. */
import assert from "node:assert/strict";
import { IORING_SETUP_IOPOLL, IORING_SETUP_SQPOLL, POLLIN, type Timespec } from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { monotonic } from "../support/clock.ts";
import { Pipe } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { assertQuiet, entry, forEachKind, makeRing, reap, timespec } from "../support/rings.ts";

checkLeaks();

const SHORT: Timespec = { sec: 0, nsec: 2_000_000 };
const LONG: Timespec = { sec: 60, nsec: 0 };

const noMinWait = kernelHas("6.12") ? false : "needs Linux 6.12";

function milliseconds(body: () => void): number {
  const start = performance.now();
  body();
  return performance.now() - start;
}

forEachKind(({ name, options, skip }) => {
  const sqpoll = ((options.flags ?? 0) & IORING_SETUP_SQPOLL) !== 0;

  test(`${name}: a wait with a time limit ends without a completion`, { skip }, () => {
    using ring = makeRing(8, options);
    assert.equal(ring.waitCqeTimeout(SHORT), null);
    assert.equal(ring.submitAndWaitTimeout(1, SHORT), 0);
    assert.equal(ring.cqReady(), 0);
  });

  test(`${name}: a wait that runs out of time says what it has submitted and loses nothing`, { skip }, () => {
    using ring = makeRing(8, options);
    entry(ring, 1, (sqe) => sqe.prepNop());
    entry(ring, 2, (sqe) => sqe.prepNop());
    // Three are asked for, two come.
    const elapsed = milliseconds(() => {
      const submitted = ring.submitAndWaitTimeout(3, SHORT);
      if (!sqpoll) assert.equal(submitted, 2);
    });
    assert.ok(elapsed >= 2, "it waited its time");
    assert.ok(elapsed < 30_000);
    const found = reap(ring, 2);
    assert.deepEqual(found.map(({ userData }) => userData), [1, 2]);
    assertQuiet(ring);
  });

  test(`${name}: what completes while it is looked out for, awake, is seen at once`, { skip }, () => {
    using ring = makeRing(8, options);
    const ts = timespec(3);
    entry(ring, 1, (sqe) => sqe.prepTimeout(ts, 0, 0));
    assert.ok(milliseconds(() => ring.submitAndSpin(60e6)) < 30_000);
    assert.equal(ring.cqReady(), 1);
    assert.equal(reap(ring, 1)[0]!.userData, 1);
    // Nothing is to come.
    assert.ok(milliseconds(() => ring.submitAndSpin(2000)) >= 2);
    assertQuiet(ring);
  });

  test(`${name}: a wait with a time limit ends as soon as enough have come`, { skip }, () => {
    using ring = makeRing(8, options);
    for (let i = 0; i < 4; i++) entry(ring, i, (sqe) => sqe.prepNop());
    assert.ok(milliseconds(() => ring.submitAndWaitTimeout(4, LONG)) < 30_000);
    reap(ring, 4);
    const ts = timespec(3);
    entry(ring, 5, (sqe) => sqe.prepTimeout(ts, 0, 0));
    ring.submit();
    assert.equal(ring.waitCqeTimeout(LONG)!.userData, 5);
    ring.cqAdvance(1);
  });

  test(`${name}: a completion that is there already is not waited for`, { skip }, () => {
    using ring = makeRing(8, options);
    entry(ring, 1, (sqe) => sqe.prepNop());
    ring.submitAndWait(1);
    const cqe = ring.waitCqeTimeout({ sec: 0, nsec: 0 })!;
    assert.equal(cqe.userData, 1);
    assert.equal(ring.waitCqe(), cqe);
    ring.cqeSeen(cqe);
  });

  test(`${name}: a null time limit waits for as long as it takes`, { skip }, () => {
    using ring = makeRing(8, options);
    const ts = timespec(5);
    entry(ring, 1, (sqe) => sqe.prepTimeout(ts, 0, 0));
    ring.submitAndWaitTimeout(1, null);
    assert.equal(ring.cqReady(), 1);
    assert.equal(ring.peekCqe()!.userData, 1);
    ring.cqAdvance(1);
  });

  test(`${name}: the time limit may be a point of the monotonic clock`, { skip: skip || noMinWait }, () => {
    using ring = makeRing(8, options);
    // Long past: ends at once. With a span instead of a point, 60 s would pass.
    const elapsed = milliseconds(() => ring.submitAndWaitTimeout(1, { sec: 1, nsec: 0 }, { absolute: true }));
    assert.ok(elapsed < 30_000);
    assert.equal(ring.cqReady(), 0);
    const at = monotonic() + 5_000_000n;
    const waited = milliseconds(() => {
      const point = { sec: Number(at / 1_000_000_000n), nsec: Number(at % 1_000_000_000n) };
      ring.submitAndWaitTimeout(1, point, { absolute: true });
    });
    assert.equal(ring.cqReady(), 0);
    assert.ok(waited >= 2, "it waited");
  });

  test(`${name}: after minWaitUsec one completion is enough`, { skip: skip || noMinWait }, () => {
    using ring = makeRing(8, options);
    entry(ring, 1, (sqe) => sqe.prepNop());
    const elapsed = milliseconds(() => ring.submitAndWaitTimeout(4, LONG, { minWaitUsec: 3000 }));
    assert.ok(elapsed < 30_000, "four never come");
    assert.deepEqual(reap(ring, 1).map(({ userData }) => userData), [1]);
    // Nothing at all has come by then: the whole time limit counts.
    const waited = milliseconds(() => ring.submitAndWaitTimeout(4, SHORT, { minWaitUsec: 500 }));
    assert.ok(waited >= 1.5);
    assert.equal(ring.cqReady(), 0);
  });

  test(`${name}: a wait that something else ends`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
    ring.submit();
    assert.equal(ring.waitCqeTimeout(SHORT), null);
    pipe.write("x");
    assert.equal(ring.waitCqe().userData, 1);
    ring.cqAdvance(1);
  });
});

test("a time that is none is refused, one that is over is not waited for", () => {
  using ring = makeRing(4);
  for (const sec of [0.5, NaN]) assert.throws(() => ring.waitCqeTimeout({ sec, nsec: 0 }), RangeError);
  assert.throws(() => ring.waitCqeTimeout({ sec: 0, nsec: 0.5 }), RangeError);
  assert.equal(ring.waitCqeTimeout({ sec: -1, nsec: 0 }), null);
  entry(ring, 1, (sqe) => sqe.prepNop());
  reap(ring, 1);
});

test("sqringWait returns at once without a kernel thread, and with one when there is room", () => {
  using plain = makeRing(2);
  plain.sqringWait();
  using polled = makeRing(2, { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 5 });
  polled.sqringWait();
  for (let i = 0; i < 50; i++) {
    polled.sqringWait();
    entry(polled, i, (sqe) => sqe.prepNop());
    polled.submit();
    if (polled.cqReady() >= 2) polled.cqAdvance(polled.cqReady());
  }
});

test("a polled ring's wait has a time limit, too", () => {
  using ring = makeRing(4, { flags: IORING_SETUP_IOPOLL });
  entry(ring, 1, (sqe) => sqe.prepNop());
  ring.submitAndWaitTimeout(1, SHORT);
  assert.equal(ring.peekCqe()!.userData, 1);
  ring.cqAdvance(1);
});
