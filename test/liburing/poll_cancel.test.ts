/** Cancelling polls: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import {
  IORING_ASYNC_CANCEL_ALL,
  IORING_ASYNC_CANCEL_ANY,
  IORING_ASYNC_CANCEL_FD,
  IORING_ASYNC_CANCEL_FD_FIXED,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  POLLIN,
  type Ring,
} from "../../src/ring/mod.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { WaitingPipe } from "../support/operations.ts";
import { Random } from "../support/random.ts";
import {
  assertQuiet,
  block,
  type Completion,
  entry,
  eventually,
  forEachKind,
  makeRing,
  once,
  reap,
  reapResults,
  sleep,
} from "../support/rings.ts";

checkLeaks();

const ENOENT = -2;
const ECANCELED = -125;

const ALL_OF_FD = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD;

/** Cancels, and gives the results: of the cancellation as `user_data` 100. */
function cancel(ring: Ring, fd: number, flags: number, count: number): [number, number][] {
  entry(ring, 100, (sqe) => {
    sqe.prepCancel(0, flags);
    sqe.fd = fd;
  });
  ring.submit();
  return reap(ring, count + 1).map(({ userData, res }: Completion): [number, number] => [userData, res])
    .sort(([a], [b]) => a - b);
}

const eight = (userData: (i: number) => number): [number, number][] =>
  Array.from({ length: 8 }, (_, i): [number, number] => [userData(i), ECANCELED]).sort(([a], [b]) => a - b);

/** How many operations of a ring wait for a descriptor to be ready, by what the kernel tells of the ring. */
function pollsOf({ fd }: Ring): number {
  return readFileSync(`/proc/self/fdinfo/${fd}`, "utf8").match(/^\s+op=\d+, task_works=/gm)?.length ?? 0;
}

forEachKind(({ name, options, skip }) => {
  const noFd = firstReason(skip, /REGISTERED_FD_ONLY/.test(name) && "the ring has no descriptor");

  test(`liburing poll-cancel: ${name}: a poll is removed, and tells so`, { skip }, () => {
    using ring = makeRing(2, options);
    using pipe = new WaitingPipe();
    entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
    ring.submit();
    entry(ring, 2, (sqe) => sqe.prepPollRemove(1));
    ring.submit();
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, ECANCELED], [2, 0]]);
    assert.equal(once(ring, (sqe) => sqe.prepPollRemove(1)).res, ENOENT);
  });

  for (const fixed of [false, true]) {
    const what = fixed ? "registered file" : "descriptor";
    test(`liburing poll-cancel-all: ${name}: all polls of a ${what}`, { skip }, () => {
      using ring = makeRing(16, options);
      using pipe = new WaitingPipe();
      if (fixed) ring.registerFiles([pipe.reader.fd]);
      const fd = fixed ? 0 : pipe.reader.fd;
      for (let i = 0; i < 8; i++) {
        entry(ring, i + 1, (sqe) => {
          sqe.prepPollAdd(fd, POLLIN);
          if (fixed) sqe.flags = IOSQE_FIXED_FILE;
        });
      }
      ring.submit();
      assertQuiet(ring);
      const flags = ALL_OF_FD | (fixed ? IORING_ASYNC_CANCEL_FD_FIXED : 0);
      assert.deepEqual(cancel(ring, fd, flags, 8), [...eight((i) => i + 1), [100, 8]]);
      if (fixed) ring.unregisterFiles();
    });
  }

  test(`liburing poll-cancel-all: ${name}: only those of one descriptor`, { skip }, () => {
    using ring = makeRing(16, options);
    using first = new WaitingPipe();
    using second = new WaitingPipe();
    for (let i = 0; i < 8; i++) {
      entry(ring, i & 1, (sqe) => sqe.prepPollAdd([first, second][i & 1]!.reader.fd, POLLIN));
    }
    ring.submit();
    assertQuiet(ring);
    const four = (userData: number): [number, number][] =>
      new Array(4).fill(null).map(() => [userData, ECANCELED]);
    assert.deepEqual(cancel(ring, first.reader.fd, ALL_OF_FD, 4), [...four(0), [100, 4]]);
    sleep(1);
    assertQuiet(ring);
    assert.deepEqual(cancel(ring, second.reader.fd, ALL_OF_FD, 4), [...four(1), [100, 4]]);
  });

  test(
    `liburing poll-cancel-all: ${name}: whatever there is, also in a worker thread`,
    { skip: noFd },
    () => {
      using ring = makeRing(16, options);
      using first = new WaitingPipe();
      using second = new WaitingPipe();
      for (let i = 0; i < 8; i++) {
        entry(ring, i & 1, (sqe) => {
          sqe.prepPollAdd([first, second][i & 1]!.reader.fd, POLLIN);
          if ((i & 1) === 0) sqe.flags = IOSQE_ASYNC;
        });
      }
      ring.submit();
      eventually(() => pollsOf(ring) === 8, "all wait");
      assertQuiet(ring);
      const flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY;
      assert.deepEqual(cancel(ring, 0, flags, 8), [...eight((i) => i & 1), [100, 8]]);
    },
  );

  test(`liburing poll-cancel-all: ${name}: reads in worker threads`, { skip: noFd }, () => {
    using ring = makeRing(16, options);
    using pipe = new WaitingPipe();
    const buffer = block(32);
    for (let i = 0; i < 8; i++) {
      entry(ring, i + 1, (sqe) => {
        sqe.prepRead(pipe.reader.fd, buffer.address, 32, 0);
        sqe.flags = IOSQE_ASYNC;
      });
    }
    ring.submit();
    eventually(() => pollsOf(ring) === 8, "all wait");
    assertQuiet(ring);
    const flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY;
    assert.deepEqual(cancel(ring, 0, flags, 8), [...eight((i) => i + 1), [100, 8]]);
  });
});

test("liburing poll-cancel-ton: 30,000 polls of one descriptor", () => {
  const POLLS = 30_000;
  const BATCH = 1000;
  using ring = makeRing(1024, { cqEntries: 16384 });
  using pipe = new WaitingPipe();
  for (let i = 0; i < POLLS; i++) {
    entry(ring, i, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
    if (i % BATCH === BATCH - 1) assert.equal(ring.submit(), BATCH);
  }
  assertQuiet(ring);
  // In any order; the rest goes with the ring.
  const random = new Random(3);
  const polls = Array.from({ length: POLLS }, (_, i) => i);
  for (let i = 0; i < POLLS; i++) {
    const j = random.below(POLLS);
    [polls[i], polls[j]] = [polls[j]!, polls[i]!];
  }
  const removed = polls.slice(0, 20_000);
  for (let i = 0; i < removed.length; i += BATCH) {
    const batch = removed.slice(i, i + BATCH);
    for (const poll of batch) entry(ring, POLLS + poll, (sqe) => sqe.prepPollRemove(poll));
    assert.equal(ring.submit(), BATCH);
    const results = reapResults(ring, 2 * BATCH);
    for (const poll of batch) {
      assert.deepEqual([results.get(poll), results.get(POLLS + poll)], [ECANCELED, 0]);
    }
  }
  assertQuiet(ring);
});
