/** What is special about each kind of ring. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import {
  cqeShiftFromFlags,
  IORING_SETUP_CQE32,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_NO_MMAP,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_REGISTERED_FD_ONLY,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQE128,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_TASKRUN_FLAG,
  O_RDONLY,
  POLLIN,
  type Ring,
  sqeShiftFromFlags,
} from "../../src/ring/mod.ts";
import { Fd, openRings, Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  block,
  entry,
  eventually,
  forEachKind,
  KINDS,
  makeRing,
  MISSING_KINDS,
  missingRing,
  once,
  reap,
  sleep,
} from "../support/rings.ts";
import { EnterThread } from "../support/threads.ts";

checkLeaks();

const DEFER = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
const noDefer = missingRing({ flags: DEFER });
const noSqpoll = missingRing({ flags: IORING_SETUP_SQPOLL });
const noMmap = missingRing({ flags: IORING_SETUP_NO_MMAP });
const registeredOnly = { flags: IORING_SETUP_NO_MMAP | IORING_SETUP_REGISTERED_FD_ONLY };
const noRegisteredOnly = missingRing(registeredOnly);

/** `io_uring_enter` on another thread: its result. */
async function enterElsewhere(ring: Ring, toSubmit: number): Promise<number> {
  const thread = await EnterThread.start();
  try {
    return await thread.enter({ fd: ring.fd, toSubmit, minComplete: 0, flags: 0 });
  } finally {
    await thread.end();
  }
}

for (const { name, options, skip } of MISSING_KINDS) {
  test(`${name}: every test of rings runs on this kind, too`, { skip }, () => makeRing(4, options).close());
}

test("R_DISABLED: nothing works before enableRings", () => {
  using ring = makeRing(4, { flags: IORING_SETUP_R_DISABLED });
  entry(ring, 1, (sqe) => sqe.prepNop());
  assert.throws(() => ring.submit(), { code: "EBADFD", syscall: "io_uring_enter" });
  assert.throws(() => ring.submitAndWait(1), { code: "EBADFD" });
  assert.equal(ring.sqReady(), 1, "the entry is still queued");
  ring.enableRings();
  assert.deepEqual(reap(ring, 1).map(({ userData }) => userData), [1]);
  assert.throws(() => ring.enableRings(), { code: "EBADFD", syscall: "io_uring_register" });
});

test("SINGLE_ISSUER: another thread gets EEXIST", { skip: noDefer }, async () => {
  using ring = makeRing(4, { flags: IORING_SETUP_SINGLE_ISSUER });
  once(ring, (sqe) => sqe.prepNop());
  const EEXIST = -17;
  assert.equal(await enterElsewhere(ring, 1), EEXIST);
  once(ring, (sqe) => sqe.prepNop());
});

test("without SINGLE_ISSUER another thread may enter", async () => {
  using ring = makeRing(4);
  assert.equal(await enterElsewhere(ring, 1), 0, "nothing was published");
});

test("DEFER_TASKRUN: completions come only when asked for", { skip: noDefer }, () => {
  using pipe = new Pipe();
  using ring = makeRing(4, { flags: DEFER | IORING_SETUP_TASKRUN_FLAG });
  entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
  ring.submit();
  assert.equal(ring.cqNeedsEnter(), false);
  pipe.write("x");
  eventually(() => ring.cqNeedsEnter(), "the kernel announces work");
  assert.equal(ring.cqReady(), 0);
  ring.getEvents();
  assert.equal(ring.cqReady(), 1);
  assert.equal(ring.cqNeedsEnter(), false);
  assert.equal(ring.peekCqe()!.userData, 1);
  ring.cqAdvance(1);
});

test("TASKRUN_FLAG: peeking and submitting fetch what is announced", { skip: noDefer }, () => {
  const fetches: [string, (ring: Ring) => void][] = [
    ["peekCqe", (ring) => void ring.peekCqe()],
    ["peekBatchCqe", (ring) => void ring.peekBatchCqe([undefined])],
    ["submit", (ring) => void ring.submit()],
    ["submitAndGetEvents", (ring) => void ring.submitAndGetEvents()],
  ];
  for (const [name, fetch] of fetches) {
    using pipe = new Pipe();
    using ring = makeRing(4, { flags: DEFER | IORING_SETUP_TASKRUN_FLAG });
    entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
    ring.submit();
    pipe.write("x");
    eventually(() => ring.cqNeedsEnter(), "the kernel announces work");
    fetch(ring);
    assert.equal(ring.cqReady(), 1, name);
    ring.cqAdvance(1);
  }
});

test("SQPOLL: a sleeping thread is woken", { skip: noSqpoll }, () => {
  using ring = makeRing(4, { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 1 });
  for (let i = 0; i < 5; i++) {
    entry(ring, i, (sqe) => sqe.prepNop());
    ring.submit();
    eventually(() => ring.cqReady() === 1, "the thread has done it, without a wait of ours");
    assert.equal(ring.peekCqe()!.userData, i);
    ring.cqAdvance(1);
    // Long enough for the thread to fall asleep every time but, perhaps, one.
    sleep(10);
  }
});

test("SQPOLL: submitting while the thread is awake takes no system call", { skip: noSqpoll }, () => {
  using ring = makeRing(64, { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 20 });
  let next = 0;
  for (let i = 0; i < 500; i++) {
    while (ring.sqSpaceLeft() === 0) ring.sqringWait();
    entry(ring, i, (sqe) => sqe.prepNop());
    ring.submit();
    ring.forEachCqe((cqe) => assert.equal(cqe.userData, next++));
  }
  while (next < 500) {
    ring.waitCqe();
    ring.forEachCqe((cqe) => assert.equal(cqe.userData, next++));
  }
  assertQuiet(ring);
});

test("SQ_AFF: the thread stays on its processor", { skip: noSqpoll }, () => {
  const last = cpus().length - 1;
  using ring = makeRing(4, { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 1, sqThreadCpu: last });
  once(ring, (sqe) => sqe.prepNop());
});

test("ATTACH_WQ: rings share one kernel thread", { skip: noSqpoll }, () => {
  const flags = IORING_SETUP_SQPOLL;
  using first = makeRing(4, { flags, sqThreadIdle: 5 });
  using second = makeRing(4, { flags, sqThreadIdle: 5, wqFd: first.fd });
  once(first, (sqe) => sqe.prepNop());
  once(second, (sqe) => sqe.prepNop());
  first.close();
  once(second, (sqe) => sqe.prepNop());
});

test("ATTACH_WQ: rings without a kernel thread share their workers", () => {
  using first = makeRing(4);
  using second = makeRing(4, { wqFd: first.fd });
  once(first, (sqe) => sqe.prepNop());
  once(second, (sqe) => sqe.prepNop());
});

test("SUBMIT_ALL: an invalid entry does not stop those after it", () => {
  const IORING_OP_INVALID = 255;
  const EINVAL = -22;
  for (const [flags, taken] of [[0, 2], [IORING_SETUP_SUBMIT_ALL, 3]] as const) {
    using ring = makeRing(4, { flags });
    entry(ring, 1, (sqe) => sqe.prepNop());
    entry(ring, 2, (sqe) => sqe.prepRw(IORING_OP_INVALID, 0, 0, 0, 0));
    entry(ring, 3, (sqe) => sqe.prepNop());
    assert.equal(ring.submit(), taken);
    assert.equal(ring.sqReady(), 3 - taken);
    assert.equal(ring.sqSpaceLeft(), 4 - (3 - taken));
    const found = reap(ring, 3).map(({ userData, res }) => [userData, res]);
    assert.deepEqual(found, [[1, 0], [2, EINVAL], [3, 0]]);
  }
});

test("NO_MMAP: every size fits into the memory that is given", { skip: noMmap }, () => {
  for (const entries of [1, 2, 8, 64, 100, 1024, 4096]) {
    using ring = makeRing(entries, { flags: IORING_SETUP_NO_MMAP });
    for (let i = 0; i < ring.sqEntries; i++) entry(ring, i, (sqe) => sqe.prepNop());
    assert.equal(ring.submit(), ring.sqEntries);
    let next = 0;
    assert.equal(ring.forEachCqe((cqe) => assert.equal(cqe.userData, next++)), ring.sqEntries);
  }
});

test("REGISTERED_FD_ONLY: the ring has no descriptor", { skip: noRegisteredOnly }, () => {
  const before = openRings();
  // A thread has 16 places for registered rings: closing must free them.
  for (let i = 0; i < 40; i++) {
    using ring = makeRing(4, registeredOnly);
    assert.equal(ring.fd, -1);
    assert.equal(ring.closed, false);
    assert.equal(openRings(), before);
    once(ring, (sqe) => sqe.prepNop());
    assert.ok(ring.getProbe().opcodeSupported(0), "registering works, too");
  }
});

for (const { name, options, skip } of KINDS) {
  // That one is registered to begin with.
  if (((options.flags ?? 0) & IORING_SETUP_REGISTERED_FD_ONLY) !== 0) continue;
  test(`${name}: works through its registered descriptor`, { skip }, () => {
    for (let i = 0; i < 20; i++) {
      using ring = makeRing(4, options);
      assert.equal(ring.registerRingFd(), true);
      assert.equal(ring.registerRingFd(), false);
      once(ring, (sqe) => sqe.prepNop());
      assert.equal(ring.waitCqeTimeout({ sec: 0, nsec: 1000 }), null);
      if (i % 2 === 0) {
        ring.unregisterRingFd();
        ring.unregisterRingFd();
        once(ring, (sqe) => sqe.prepNop());
      }
    }
  });
}

test("IOPOLL: reading what cannot be polled fails cleanly", () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "content");
  using file = Fd.open(dir.of("file"), O_RDONLY);
  using ring = makeRing(4, { flags: IORING_SETUP_IOPOLL });
  const buffer = block(4096);
  entry(ring, 1, (sqe) => sqe.prepRead(file.fd, buffer.address, 4096, 0));
  ring.submit();
  const EOPNOTSUPP = -95;
  const cqe = ring.waitCqe();
  assert.equal(cqe.userData, 1);
  assert.equal(cqe.res, EOPNOTSUPP);
  ring.cqeSeen(cqe);
  assert.equal(ring.peekCqe(), null);
});

forEachKind(({ name, options, skip }) => {
  test(`${name}: entries are as long as the shifts of liburing say`, { skip }, () => {
    using ring = makeRing(4, options);
    const { flags } = ring;
    const large = (flags & IORING_SETUP_SQE128) !== 0;
    assert.equal(sqeShiftFromFlags(flags), large ? 1 : 0);
    assert.deepEqual([ring.sqeShift(), ring.cqeShift()], [
      sqeShiftFromFlags(flags),
      cqeShiftFromFlags(flags),
    ]);
    assert.equal(ring.getSqe()!.bytes.length, 64 << sqeShiftFromFlags(flags));
    assert.equal(cqeShiftFromFlags(flags), (flags & IORING_SETUP_CQE32) !== 0 ? 1 : 0);
  });
});
