/** Twins of liburing's programs about timeouts. */
import assert from "node:assert/strict";
import { kernelHas } from "../../src/ffi/kernel.ts";
import {
  IORING_CQE_F_MORE,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQPOLL,
  IORING_TIMEOUT_ABS,
  IORING_TIMEOUT_ETIME_SUCCESS,
  IORING_TIMEOUT_IMMEDIATE_ARG,
  IORING_TIMEOUT_MULTISHOT,
  IOSQE_ASYNC,
  IOSQE_IO_DRAIN,
  IOSQE_IO_LINK,
  type Ring,
  type Sqe,
} from "../../src/ring/mod.ts";
import { monotonic } from "../support/clock.ts";
import { EventFd } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  type Completion,
  entry,
  eventually,
  forEachKind,
  makeRing,
  missingRing,
  once,
  reap,
  reapResults,
  sleep,
  timespec,
} from "../support/rings.ts";

checkLeaks();

const ENOENT = -2;
const EINVAL = -22;
const ETIME = -62;
const EALREADY = -114;
const ECANCELED = -125;

const HOUR = 3_600_000;
/** Milliseconds. */
const SPAN = 20;

const noMultishot = kernelHas("6.4") ? false : "needs Linux 6.4";
const noSuccess = kernelHas("5.16") ? false : "needs Linux 5.16";

function queue(ring: Ring, userData: number, flags: number, prep: (sqe: Sqe) => void): void {
  entry(ring, userData, (sqe) => {
    prep(sqe);
    sqe.flags = flags;
  });
}

const nop = (sqe: Sqe): void => sqe.prepNop();
const pairs = (ring: Ring, count: number): number[][] =>
  reap(ring, count).map(({ userData, res }) => [userData, res]);

/** Waits for the only completion, which must not come before its time, a span after `start`. */
function takesItsTime(ring: Ring, prep: (sqe: Sqe) => void, start: number = performance.now()): number {
  const { res } = once(ring, prep);
  // The kernel's clock and the runtime's may differ by their rounding.
  if (res === ETIME) assert.ok(performance.now() - start >= SPAN - 2);
  return res;
}

forEachKind(({ name, options, skip }) => {
  const sqpoll = ((options.flags ?? 0) & IORING_SETUP_SQPOLL) !== 0;

  test(
    `liburing timeout: ${name}: for a while, until a point in time, with the time in the entry`,
    { skip },
    () => {
      using ring = makeRing(8, options);
      const span = timespec(SPAN);
      assert.equal(takesItsTime(ring, (sqe) => sqe.prepTimeout(span, 0, 0)), ETIME);

      const start = performance.now();
      const at = timespec(Math.ceil(Number(monotonic()) / 1e6) + SPAN);
      assert.equal(takesItsTime(ring, (sqe) => sqe.prepTimeout(at, 0, IORING_TIMEOUT_ABS), start), ETIME);

      // Linux 6.18 does not know it yet, 7.2 does.
      const immediate = takesItsTime(ring, (sqe) => {
        sqe.prepTimeout(SPAN * 1e6, 0, IORING_TIMEOUT_IMMEDIATE_ARG);
      });
      assert.ok(immediate === ETIME || immediate === EINVAL && !kernelHas("7.2"), `${immediate}`);
      const immediateAt = takesItsTime(ring, (sqe) => {
        const flags = IORING_TIMEOUT_IMMEDIATE_ARG | IORING_TIMEOUT_ABS;
        sqe.prepTimeout(monotonic() + BigInt(SPAN * 1e6), 0, flags);
      });
      assert.equal(immediateAt, immediate);
    },
  );

  test(`liburing timeout: ${name}: a timeout ends a wait for more`, { skip }, () => {
    using ring = makeRing(8, options);
    const span = timespec(SPAN);
    queue(ring, 1, 0, (sqe) => sqe.prepTimeout(span, 0, 0));
    // Four are waited for, and one comes.
    ring.submitAndWait(4);
    if (sqpoll) eventually(() => ring.cqReady() > 0, "the thread has posted it");
    assert.equal(ring.cqReady(), 1);
    assert.deepEqual(pairs(ring, 1), [[1, ETIME]]);
  });

  test(`liburing timeout: ${name}: the shorter of two is first, though both count`, { skip }, () => {
    using ring = makeRing(8, options);
    const [longer, shorter] = [timespec(3 * SPAN), timespec(SPAN)];
    queue(ring, 1, 0, (sqe) => sqe.prepTimeout(longer, 1, 0));
    queue(ring, 2, 0, (sqe) => sqe.prepTimeout(shorter, 1, 0));
    assert.deepEqual(pairs(ring, 2), [[2, ETIME], [1, ETIME]]);
  });

  test(`liburing timeout: ${name}: removed, and not found`, { skip }, () => {
    using ring = makeRing(8, options);
    const [hour, span] = [timespec(HOUR), timespec(SPAN)];
    queue(ring, 1, 0, (sqe) => sqe.prepTimeout(hour, 0, 0));
    ring.submit();
    queue(ring, 2, 0, (sqe) => sqe.prepTimeoutRemove(1, 0));
    assert.deepEqual(pairs(ring, 2).sort(), [[1, ECANCELED], [2, 0]]);

    queue(ring, 1, 0, (sqe) => sqe.prepTimeout(span, 2, 0));
    ring.submit();
    queue(ring, 2, 0, (sqe) => sqe.prepTimeoutRemove(2, 0));
    assert.deepEqual(pairs(ring, 2), [[2, ENOENT], [1, ETIME]]);
  });

  test(`liburing timeout: ${name}: counts completions`, { skip }, () => {
    using ring = makeRing(8, options);
    const hour = timespec(HOUR);
    for (const count of [1, 2]) {
      queue(ring, 0, 0, (sqe) => sqe.prepTimeout(hour, count, 0));
      queue(ring, 1, 0, nop);
      queue(ring, 2, 0, nop);
      const found = pairs(ring, 3);
      for (const [, res] of found) assert.equal(res, 0);
      assert.ok(found.findIndex(([userData]) => userData === 0) >= count, JSON.stringify(found));
    }
    // A timeout that ends does not count for another.
    const span = timespec(SPAN);
    queue(ring, 1, 0, (sqe) => sqe.prepTimeout(span, 2, 0));
    queue(ring, 2, 0, (sqe) => sqe.prepTimeout(span, 1, 0));
    queue(ring, 3, 0, nop);
    assert.deepEqual(pairs(ring, 3), [[3, 0], [2, 0], [1, ETIME]]);
  });

  test(`liburing timeout: ${name}: in chains and with drains`, { skip }, () => {
    const span = timespec(5);
    const timeouts = (flags: readonly number[], expected: readonly number[]): void => {
      using ring = makeRing(8, options);
      flags.forEach((bits, i) => queue(ring, i, bits, (sqe) => sqe.prepTimeout(span, 0, 0)));
      const found = reapResults(ring, flags.length);
      assert.deepEqual(flags.map((_, i) => found.get(i)), expected);
    };
    timeouts([IOSQE_IO_LINK, IOSQE_IO_DRAIN, 0], [ETIME, ECANCELED, ETIME]);
    timeouts([IOSQE_IO_LINK, IOSQE_IO_LINK, 0], [ETIME, ECANCELED, ECANCELED]);
    timeouts([IOSQE_IO_DRAIN, IOSQE_IO_LINK, 0], [ETIME, ETIME, ECANCELED]);
  });

  test(`liburing timeout: ${name}: an end that counts as success does not break a chain`, {
    skip: skip || noSuccess,
  }, () => {
    using ring = makeRing(8, options);
    const span = timespec(1);
    queue(ring, 1, IOSQE_IO_LINK, (sqe) => sqe.prepTimeout(span, 0, IORING_TIMEOUT_ETIME_SUCCESS));
    queue(ring, 2, 0, nop);
    assert.deepEqual(pairs(ring, 2), [[1, ETIME], [2, 0]]);
  });

  test(`liburing timeout: ${name}: set anew`, { skip }, () => {
    using ring = makeRing(8, options);
    const hour = timespec(HOUR);
    for (
      const [milliseconds, abs, async, linked] of [
        [0, false, false, false],
        [1, false, false, false],
        [3 * SPAN, false, false, false],
        [0, true, true, false],
        [0, false, true, false],
        [0, false, false, true],
      ] as const
    ) {
      const start = performance.now();
      const span = timespec(milliseconds);
      const flags = async ? IOSQE_ASYNC : 0;
      queue(ring, 1, 0, (sqe) => sqe.prepTimeout(hour, 0, 0));
      if (linked) queue(ring, 3, IOSQE_IO_LINK | flags, nop);
      queue(ring, 2, flags, (sqe) => sqe.prepTimeoutUpdate(span, 1, abs ? IORING_TIMEOUT_ABS : 0));
      const found = reapResults(ring, linked ? 3 : 2);
      assert.deepEqual([found.get(1), found.get(2), found.get(3)], [ETIME, 0, linked ? 0 : undefined]);
      assert.ok(performance.now() - start >= milliseconds - 2, "not before its time");
    }
  });

  test(`liburing timeout: ${name}: what cannot be set anew`, { skip }, () => {
    using ring = makeRing(8, options);
    const span = timespec(0);
    const res = (prep: (sqe: Sqe) => void): number => once(ring, prep).res;
    assert.equal(res((sqe) => sqe.prepTimeoutUpdate(span, 42, 0)), ENOENT);
    assert.equal(res((sqe) => sqe.prepTimeoutRemove(0, IORING_TIMEOUT_ABS)), EINVAL);
    assert.equal(res((sqe) => sqe.prepTimeoutUpdate(span, 0, -1)), EINVAL);
  });

  test(`liburing timeout: ${name}: repeated until removed, or so many times`, {
    skip: skip || noMultishot,
  }, () => {
    using ring = makeRing(64, options);
    const span = timespec(SPAN);
    const more = { userData: 1, res: ETIME, flags: IORING_CQE_F_MORE };
    queue(ring, 1, 0, (sqe) => sqe.prepTimeout(span, 0, IORING_TIMEOUT_MULTISHOT));
    assert.deepEqual(reap(ring, 2), [more, more]);
    const remove = (): void => queue(ring, 2, 0, (sqe) => sqe.prepTimeoutRemove(1, 0));
    remove();
    // It may fire once more before that is looked at; and while it is set anew there is nothing to remove.
    const ends: number[][] = [];
    while (ends.length < 2) {
      const [{ userData, res, flags }] = reap(ring, 1) as [Completion];
      if (userData === 2 && (res === ENOENT || res === EALREADY)) remove();
      else if (flags === 0) ends.push([userData, res]);
      else assert.deepEqual([userData, res, flags], [1, ETIME, IORING_CQE_F_MORE]);
    }
    assert.deepEqual(ends.sort(), [[1, ECANCELED], [2, 0]]);

    queue(ring, 1, 0, (sqe) => sqe.prepTimeout(span, 3, IORING_TIMEOUT_MULTISHOT));
    assert.deepEqual(reap(ring, 3), [more, more, { ...more, flags: 0 }]);
    assert.equal(ring.waitCqeTimeout({ sec: 0, nsec: 2 * SPAN * 1e6 }), null);
  });

  test(`liburing timeout: ${name}: repeated ones are set anew`, { skip: skip || noMultishot }, () => {
    using ring = makeRing(64, options);
    const [hour, span] = [timespec(HOUR), timespec(SPAN)];
    for (const i of [1, 2]) queue(ring, i, 0, (sqe) => sqe.prepTimeout(hour, 0, IORING_TIMEOUT_MULTISHOT));
    for (const i of [1, 2]) queue(ring, i + 2, 0, (sqe) => sqe.prepTimeoutUpdate(span, i, 0));
    const found = reap(ring, 6);
    for (const { userData, res, flags } of found) {
      assert.deepEqual([res, flags], userData <= 2 ? [ETIME, IORING_CQE_F_MORE] : [0, 0]);
    }
    assert.deepEqual(found.map(({ userData }) => userData).filter((i) => i > 2).sort(), [3, 4]);
    for (const i of [1, 2]) assert.ok(found.some(({ userData }) => userData === i), `${i} goes on`);
    // While it is set anew there is nothing to cancel.
    const cancelled = (userData: number): boolean => {
      try {
        ring.registerSyncCancel({ userData });
        return true;
      } catch (error) {
        if (!["ENOENT", "EALREADY"].includes((error as { code: string }).code)) throw error;
        return false;
      }
    };
    for (const i of [1, 2]) eventually(() => cancelled(i), `${i} is cancelled`);
    const ended = (): boolean => {
      ring.getEvents();
      ring.forEachCqe(({ userData, res, flags }) => found.push({ userData, res, flags }));
      return [1, 2].every((i) => found.some(({ userData, res }) => userData === i && res === ECANCELED));
    };
    eventually(ended, "both have ended");
  });

  test(`liburing timeout: ${name}: a repeated one ends when the queue is full`, {
    skip: skip || noMultishot,
  }, () => {
    using ring = makeRing(4, options);
    const span = timespec(1);
    queue(ring, 1, 0, (sqe) => sqe.prepTimeout(span, 0, IORING_TIMEOUT_MULTISHOT));
    assert.deepEqual(reap(ring, 1), [{ userData: 1, res: ETIME, flags: IORING_CQE_F_MORE }]);
    eventually(() => {
      // Where completions are posted only when asked for, one is posted at a time.
      ring.submitAndGetEvents();
      return ring.cqHasOverflow();
    }, "the queue is full");
    const found: number[] = [];
    while (ring.forEachCqe(({ flags }) => found.push(flags & IORING_CQE_F_MORE)) > 0) ring.getEvents();
    assert.equal(found.at(-1), 0, "the last says so");
    assert.ok(found.slice(0, -1).every((more) => more !== 0));
    assert.equal(once(ring, (sqe) => sqe.prepTimeoutRemove(1, 0)).res, ENOENT);
    sleep(3);
    assertQuiet(ring);
  });

  test(`liburing timeout: ${name}: waiting for two with a time limit`, { skip }, () => {
    using ring = makeRing(8, options);
    queue(ring, 1, 0, nop);
    queue(ring, 2, 0, nop);
    ring.submit();
    for (const expected of [1, 2]) {
      ring.submitAndWaitTimeout(expected === 1 ? 2 : 1, { sec: 10, nsec: 0 });
      const cqe = ring.peekCqe()!;
      assert.deepEqual([cqe.userData, cqe.res], [expected, 0]);
      ring.cqeSeen(cqe);
    }
    ring.submitAndWaitTimeout(2, { sec: 0, nsec: 2_000_000 });
    assert.equal(ring.peekCqe(), null);
  });

  test(`liburing timeout: ${name}: a ring is closed while one runs`, { skip }, () => {
    const ring = makeRing(8, options);
    const span = timespec(30_000);
    queue(ring, 1, 0, (sqe) => sqe.prepTimeout(span, 0, 0));
    ring.submit();
    ring.close();
    assert.equal(ring.closed, true);
  });

  test(`liburing timeout-new: ${name}: a wait with a time limit, with and without something to wait for`, {
    skip,
  }, () => {
    using ring = makeRing(8, options);
    queue(ring, 1, 0, nop);
    ring.submit();
    const cqe = ring.waitCqeTimeout({ sec: 10, nsec: 0 })!;
    assert.deepEqual([cqe.userData, cqe.res], [1, 0]);
    ring.cqeSeen(cqe);
    const start = performance.now();
    assert.equal(ring.waitCqeTimeout({ sec: 0, nsec: SPAN * 1e6 }), null);
    assert.ok(performance.now() - start >= SPAN - 2, "it took its time");
  });
});

const defer = { flags: IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };

test("liburing timeout: a ring with an eventfd is closed while a timeout is on its way", {
  skip: missingRing(defer),
}, () => {
  const span = timespec(5000);
  for (let i = 0; i < 20; i++) {
    using eventfd = new EventFd();
    using ring = makeRing(2, defer);
    ring.registerEventfd(eventfd.fd);
    queue(ring, 0x1234, IOSQE_ASYNC, (sqe) => sqe.prepTimeout(span, 100, 0));
    assert.equal(ring.submit(), 1);
  }
});
