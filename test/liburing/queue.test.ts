/** Twins of liburing's programs about the two queues: room, counters, what is refused, waiting. */
import assert from "node:assert/strict";
import { io_uring_params } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import {
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SQ_AFF,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_SUBMIT_ALL,
  IOSQE_FIXED_FILE,
  type Ring,
} from "../../src/ring/mod.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  block,
  entry,
  eventually,
  forEachKind,
  makeRing,
  missingRing,
  once,
  reap,
  sleep,
  timespec,
} from "../support/rings.ts";

checkLeaks();

const EBADF = -9;
const EINVAL = -22;
const ETIME = -62;

/** Queues NOPs, submits them, and waits until they are taken; a kernel thread takes them when it likes. */
function submitNops(ring: Ring, count: number, first = 0): void {
  for (let i = 0; i < count; i++) entry(ring, first + i, (sqe) => sqe.prepNop());
  const submitted = ring.submit();
  if ((ring.flags & IORING_SETUP_SQPOLL) === 0) assert.equal(submitted, count);
  else eventually(() => ring.sqReady() === 0, "the thread has taken them");
}

forEachKind(({ name, options, skip }) => {
  const sqpoll = ((options.flags ?? 0) & IORING_SETUP_SQPOLL) !== 0;

  test(
    `liburing sq-full, sq-full-cpp, sq-space_left: ${name}: entries are given out exactly`,
    { skip },
    () => {
      using ring = makeRing(8, options);
      assert.equal(ring.sqSpaceLeft(), 8);
      for (let i = 1; i <= 8; i++) {
        assert.notEqual(ring.getSqe(), null);
        assert.equal(ring.sqSpaceLeft(), 8 - i);
      }
      assert.equal(ring.getSqe(), null);
      assert.equal(ring.sqSpaceLeft(), 0);
    },
  );

  // A kernel thread goes on after an invalid entry.
  if (!sqpoll) {
    test(`liburing sq-space_left: ${name}: an invalid entry ends a submit, and what is left is counted`, {
      skip,
    }, () => {
      using ring = makeRing(32, options);
      for (let i = 0; i < 17; i++) entry(ring, i, (sqe) => sqe.prepNop());
      const bad = ring.getSqe()!;
      bad.prepNop();
      bad.opcode = 0xfe;
      bad.userData = 17;
      for (let i = 18; i < 26; i++) entry(ring, i, (sqe) => sqe.prepNop());
      assert.equal(ring.sqReady(), 26);
      assert.equal(ring.submit(), 18);
      assert.equal(ring.sqReady(), 8);
      assert.equal(ring.sqSpaceLeft(), 24);
      assert.equal(ring.submit(), 8);
      assert.equal(ring.sqReady(), 0);
      const found = reap(ring, 26).map(({ userData, res }) => [userData, res]);
      assert.deepEqual(found, Array.from({ length: 26 }, (_, i) => [i, i === 17 ? EINVAL : 0]));
    });

    test(`liburing drop-submit: ${name}: SUBMIT_ALL goes on after an invalid entry`, { skip }, () => {
      for (const [extra, taken] of [[0, 5], [IORING_SETUP_SUBMIT_ALL, 6]] as const) {
        using ring = makeRing(8, { ...options, flags: (options.flags ?? 0) | extra });
        const buffer = block(32);
        for (let i = 0; i < 4; i++) entry(ring, i, (sqe) => sqe.prepNop());
        for (let i = 4; i < 6; i++) {
          entry(ring, i, (sqe) => {
            sqe.prepRead(1_000_000, buffer.address, 32, 0);
            sqe.ioprio = 0xffff;
          });
        }
        assert.equal(ring.submit(), taken);
        assert.equal(ring.sqReady(), 6 - taken);
        const found = reap(ring, 6).map(({ userData, res }) => [userData, res]);
        assert.deepEqual(found.slice(0, 4), [[0, 0], [1, 0], [2, 0], [3, 0]]);
        // The descriptor is looked up before the priority or after it, depending on the kernel.
        for (const [, res] of found.slice(4)) assert.ok(res === EINVAL || res === EBADF, `${res}`);
      }
    });
  }

  test(`liburing cq-ready: ${name}: completions are counted as they come and go`, { skip }, () => {
    using ring = makeRing(4, options);
    const ready = (count: number): void => eventually(() => ring.cqReady() === count, `${count} are ready`);
    assert.equal(ring.cqReady(), 0);
    submitNops(ring, 4);
    ready(4);
    ring.cqAdvance(4);
    assert.equal(ring.cqReady(), 0);
    submitNops(ring, 4);
    ready(4);
    for (const [count, left] of [[1, 3], [2, 1], [1, 0]] as const) {
      ring.cqAdvance(count);
      assert.equal(ring.cqReady(), left);
    }
  });

  test(`liburing cq-full: ${name}: a full completion queue loses nothing`, { skip }, () => {
    using ring = makeRing(4, options);
    for (let i = 0; i < 3; i++) submitNops(ring, 4, 4 * i);
    const found: number[] = [];
    eventually(() => {
      const cqe = ring.peekCqe();
      if (cqe !== null) {
        found.push(cqe.userData);
        ring.cqeSeen(cqe);
      }
      return found.length === 12;
    }, "twelve completions have come");
    assert.deepEqual(found, Array.from({ length: 12 }, (_, i) => i));
    assert.equal(ring.peekCqe(), null);
    assert.equal(ring.cqOverflowed(), 0);
    assert.equal(ring.cqHasOverflow(), false);
  });

  test(`liburing b5837bd5311d: ${name}: a wait for two is not ended by one`, { skip }, () => {
    using ring = makeRing(4, options);
    const ts = timespec(10);
    // The count is never reached.
    entry(ring, 1, (sqe) => sqe.prepTimeout(ts, 0xffff_ffff, 0));
    const first = ring.submit();
    if (!sqpoll) assert.equal(first, 1);
    entry(ring, 2, (sqe) => sqe.prepNop());
    const second = ring.submitAndWait(2);
    if (!sqpoll) assert.equal(second, 1);
    if (sqpoll) eventually(() => ring.cqReady() === 2, "the thread has posted both");
    assert.equal(ring.cqReady(), 2);
    const found: number[][] = [];
    ring.forEachCqe(({ userData, res }) => found.push([userData, res]));
    assert.deepEqual(found.sort(), [[1, ETIME], [2, 0]]);
  });

  test(`liburing 7ad0e4b2f83c: ${name}: a wait with a limit leaves nothing behind that ends later ones`, {
    skip,
  }, () => {
    using ring = makeRing(32, options);
    submitNops(ring, 1, 1);
    assert.equal(ring.waitCqeTimeout({ sec: 5, nsec: 0 })!.userData, 1);
    ring.cqAdvance(1);
    const ts = timespec(50);
    const start = performance.now();
    entry(ring, 89, (sqe) => sqe.prepTimeout(ts, 0, 0));
    ring.submit();
    const cqe = ring.waitCqe();
    assert.deepEqual([cqe.userData, cqe.res], [89, ETIME]);
    ring.cqeSeen(cqe);
    // The kernel's clock and the runtime's may differ by their rounding.
    assert.ok(performance.now() - start >= 45, "it took its time");
    assertQuiet(ring);
  });
});

const sqpoll = { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 1 };
const noSqpoll = missingRing(sqpoll);

test("liburing d77a67ed5f27: submitAndWait wakes a kernel thread that sleeps", { skip: noSqpoll }, () => {
  using ring = makeRing(4, sqpoll);
  for (let i = 0; i < 3; i++) {
    // Asleep after a millisecond without work.
    sleep(20);
    entry(ring, 42, (sqe) => sqe.prepNop());
    ring.submitAndWait(1);
    const cqe = ring.peekCqe()!;
    assert.deepEqual([cqe.userData, cqe.res], [42, 0]);
    ring.cqeSeen(cqe);
  }
});

test("liburing empty-eownerdead: an enter that submits nothing does not fail", { skip: noSqpoll }, () => {
  using ring = makeRing(1, sqpoll);
  assert.equal(system().enter(ring.fd, 0, 0, 0), 0);
  sleep(20);
  assert.equal(system().enter(ring.fd, 0, 0, 0), 0);
});

/** `io_uring_setup` itself: a descriptor or `-errno`. */
function setup(entries: number, fields: Partial<Record<"flags" | "sq_thread_cpu", number>>): number {
  const params = new Uint8Array(new ArrayBuffer(io_uring_params.size));
  const view = new DataView(params.buffer);
  for (const [field, value] of Object.entries(fields)) {
    view.setUint32(io_uring_params[field as keyof typeof io_uring_params] as number, value, true);
  }
  return system().setup(entries, params);
}

test("liburing b19062a56726: a processor without a kernel thread is refused", () => {
  const flags = IORING_SETUP_IOPOLL | IORING_SETUP_SQ_AFF;
  assert.equal(setup(0xc9f, { flags, sq_thread_cpu: 0x400 }), EINVAL);
  assert.throws(() => makeRing(0xc9f, { flags: IORING_SETUP_IOPOLL, sqThreadCpu: 0x400 }), /SQPOLL|EINVAL/);
});

test("liburing a0908ae19763: a table of one empty slot is registered, on a ring of 164 entries", () => {
  using ring = makeRing(0xa4);
  assert.equal(ring.sqEntries, 256);
  ring.registerFiles([-1]);
  const { address } = block(8);
  const { res } = once(ring, (sqe) => {
    sqe.prepRead(0, address, 8, 0);
    sqe.flags = IOSQE_FIXED_FILE;
  });
  assert.equal(res, EBADF);
  ring.unregisterFiles();
});
