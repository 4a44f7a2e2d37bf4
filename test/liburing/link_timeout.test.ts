/** Twins of liburing's programs about time limits of linked operations. */
import assert from "node:assert/strict";
import { kernelHas } from "../../src/ffi/kernel.ts";
import {
  IORING_LINK_TIMEOUT_UPDATE,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_SUBMIT_ALL,
  IOSQE_ASYNC,
  IOSQE_IO_LINK,
  POLLIN,
  type Ring,
  type Sqe,
} from "../../src/ring/mod.ts";
import { Pipe } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  block,
  entry,
  forEachKind,
  iovecs,
  makeRing,
  once,
  reapResults,
  timespec,
} from "../support/rings.ts";

checkLeaks();

const ENOENT = -2;
const EINTR = -4;
const EFAULT = -14;
const EINVAL = -22;
const ETIME = -62;
const EALREADY = -114;
const ECANCELED = -125;

const LINK = IOSQE_IO_LINK;

const noUpdate = kernelHas("5.14") ? false : "needs Linux 5.14";

function queue(ring: Ring, userData: number, flags: number, prep: (sqe: Sqe) => void): void {
  entry(ring, userData, (sqe) => {
    prep(sqe);
    sqe.flags = flags;
  });
}

const nop = (sqe: Sqe): void => sqe.prepNop();
const limit = (ts: number) => (sqe: Sqe): void => sqe.prepLinkTimeout(ts, 0);
const poll = (pipe: Pipe) => (sqe: Sqe): void => sqe.prepPollAdd(pipe.reader.fd, POLLIN);

/** Reads a vector of 128 bytes, which nobody writes unless said so. */
function readv(pipe: Pipe): (sqe: Sqe) => void {
  const { address } = iovecs([block(128)]);
  return (sqe) => sqe.prepReadv(pipe.reader.fd, address, 1, 0);
}

/** What the entries 1, 2, 3… ended with. */
function results(ring: Ring, count: number): number[] {
  const found = reapResults(ring, count);
  return Array.from({ length: count }, (_, i) => found.get(i + 1)!);
}

forEachKind(({ name, options, skip }) => {
  const sqpoll = ((options.flags ?? 0) & IORING_SETUP_SQPOLL) !== 0;

  test(`liburing link-timeout: ${name}: chains that a time limit ends`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    const short = timespec(1);

    queue(ring, 1, LINK, readv(pipe));
    queue(ring, 2, LINK, limit(short));
    queue(ring, 3, 0, nop);
    assert.deepEqual(results(ring, 3), [ECANCELED, ETIME, ECANCELED]);

    queue(ring, 1, LINK, poll(pipe));
    queue(ring, 2, LINK, limit(short));
    queue(ring, 3, LINK, nop);
    queue(ring, 4, 0, nop);
    assert.deepEqual(results(ring, 4), [ECANCELED, ETIME, ECANCELED, ECANCELED]);

    queue(ring, 1, LINK, nop);
    queue(ring, 2, LINK, poll(pipe));
    queue(ring, 3, 0, limit(short));
    assert.deepEqual(results(ring, 3), [0, ECANCELED, ETIME]);
    assertQuiet(ring);
  });

  test(
    `liburing link-timeout: ${name}: two limits in one chain, and an operation beside it`,
    { skip },
    () => {
      using ring = makeRing(8, options);
      using pipe = new Pipe();
      const short = timespec(1);
      queue(ring, 1, LINK, poll(pipe));
      queue(ring, 2, LINK, limit(short));
      queue(ring, 3, LINK, nop);
      queue(ring, 4, LINK, poll(pipe));
      queue(ring, 5, 0, limit(short));
      queue(ring, 6, 0, nop);
      assert.deepEqual(results(ring, 6), [ECANCELED, ETIME, ECANCELED, ECANCELED, ECANCELED, 0]);
    },
  );

  test(`liburing link-timeout: ${name}: a limit of a limit is invalid`, { skip }, () => {
    const ts = timespec(60_000);
    {
      using ring = makeRing(8, options);
      queue(ring, 1, LINK, nop);
      queue(ring, 2, LINK, limit(ts));
      queue(ring, 3, 0, limit(ts));
      assert.deepEqual(results(ring, 3), [ECANCELED, ECANCELED, EINVAL]);
    }
    // The write has no buffer: it would fail, were it not cancelled with its chain.
    using ring = makeRing(8, { ...options, flags: (options.flags ?? 0) | IORING_SETUP_SUBMIT_ALL });
    using pipe = new Pipe();
    queue(ring, 1, LINK, (sqe) => sqe.prepWritev(pipe.writer.fd, 0, 1, 0));
    queue(ring, 2, LINK, limit(ts));
    queue(ring, 3, LINK, limit(ts));
    queue(ring, 4, LINK, limit(ts));
    const found = results(ring, 4);
    assert.ok(found[0] === EFAULT || found[0] === ECANCELED, `${found}`);
    assert.equal(found[1], ECANCELED);
    for (const res of found.slice(2)) assert.ok(res === EINVAL || res === ECANCELED, `${found}`);
    assert.ok(found.includes(EINVAL), `${found}`);
  });

  test(`liburing link-timeout: ${name}: a limit without an operation is invalid, also as a chain's head`, {
    skip,
  }, () => {
    using ring = makeRing(8, options);
    const ts = timespec(1000);
    const { res } = once(ring, (sqe) => {
      sqe.prepLinkTimeout(ts, 0);
      sqe.flags = LINK;
    });
    assert.equal(res, EINVAL);
  });

  for (const nanoseconds of [10, 100_000, 20_000_000]) {
    test(
      `liburing link-timeout: ${name}: a read that waits is ended after ${nanoseconds} ns`,
      { skip },
      () => {
        using ring = makeRing(8, options);
        using pipe = new Pipe();
        const { address, view } = block(16);
        view.setBigInt64(8, BigInt(nanoseconds), true);
        queue(ring, 1, LINK, readv(pipe));
        queue(ring, 2, 0, limit(address));
        const [read, ended] = results(ring, 2);
        assert.ok(read === ECANCELED || read === EINTR, `${read}`);
        assert.ok([ETIME, EALREADY, 0].includes(ended!), `${ended}`);
        assertQuiet(ring);
        pipe.write("x");
        assertQuiet(ring);
        assert.equal(pipe.read(), "x", "nothing reads any more");
      },
    );
  }

  test(`liburing link-timeout: ${name}: a limit that is not reached is cancelled`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    const long = timespec(60_000);
    // The read is fed by a write that is submitted together with it.
    queue(ring, 1, LINK, readv(pipe));
    queue(ring, 2, 0, limit(long));
    const data = iovecs([block(128)]).address;
    queue(ring, 3, 0, (sqe) => sqe.prepWritev(pipe.writer.fd, data, 1, 0));
    assert.deepEqual(results(ring, 3), [128, ECANCELED, 128]);

    queue(ring, 1, LINK, nop);
    queue(ring, 2, 0, limit(long));
    assert.deepEqual(results(ring, 2), [0, ECANCELED]);

    // A timeout of never so many completions, and its time limit.
    const short = timespec(2);
    queue(ring, 1, LINK, (sqe) => sqe.prepTimeout(short, 0xffff_ffff, 0));
    queue(ring, 2, 0, limit(long));
    assert.deepEqual(results(ring, 2), [ETIME, ECANCELED]);
  });

  test(`liburing link-timeout: ${name}: an invalid limit cancels what it was to limit`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    const ts = timespec(60_000);
    queue(ring, 1, LINK, readv(pipe));
    entry(ring, 2, (sqe) => {
      sqe.prepLinkTimeout(ts, 0);
      sqe.ioprio = 89;
    });
    const submitted = ring.submit();
    if (!sqpoll) assert.equal(submitted, 2);
    assert.deepEqual(results(ring, 2), [ECANCELED, EINVAL]);
  });

  test(`liburing link-timeout: ${name}: a limit is set anew in flight`, { skip: skip || noUpdate }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    const [hour, short] = [timespec(3_600_000), timespec(10)];
    for (const flags of [0, IOSQE_ASYNC]) {
      queue(ring, 1, LINK, readv(pipe));
      queue(ring, 2, 0, limit(hour));
      ring.submit();
      queue(ring, 3, flags, (sqe) => sqe.prepTimeoutUpdate(short, 2, IORING_LINK_TIMEOUT_UPDATE));
      assert.deepEqual(results(ring, 3), [ECANCELED, ETIME, 0]);

      const { res } = once(ring, (sqe) => {
        sqe.prepTimeoutUpdate(short, 2, IORING_LINK_TIMEOUT_UPDATE);
        sqe.flags = flags;
      });
      assert.equal(res, ENOENT);
    }
  });
});
