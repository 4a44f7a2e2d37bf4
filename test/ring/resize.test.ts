/** Rings that get another size, with what is in them. */
import assert from "node:assert/strict";
import process from "node:process";
import {
  type Cqe,
  IORING_NOP_CQE32,
  IORING_SETUP_CLAMP,
  IORING_SETUP_CQE32,
  IORING_SETUP_CQE_MIXED,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_NO_MMAP,
  IORING_SETUP_NO_SQARRAY,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQE128,
  IORING_SETUP_SQE_MIXED,
  IOSQE_ASYNC,
  type Ring,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { system } from "../../src/ffi/system.ts";
import { isMapped, openRings, Pipe } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { addressOf } from "../../src/ffi/pin.ts";
import { block, entry, forEachKind, type Kind, makeRing, missingRing, reap } from "../support/rings.ts";

checkLeaks();

const DEFER = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
const noResize = kernelHas("6.13") ? false : "needs Linux 6.13";

/** The shapes of ring that can be resized. */
const SHAPES: readonly Kind[] = ([
  ["DEFER_TASKRUN", 0],
  ["DEFER_TASKRUN NO_SQARRAY", IORING_SETUP_NO_SQARRAY],
  ["DEFER_TASKRUN SQE128", IORING_SETUP_SQE128],
  ["DEFER_TASKRUN CQE32", IORING_SETUP_CQE32],
  [
    "DEFER_TASKRUN SQE128 CQE32 NO_SQARRAY",
    IORING_SETUP_SQE128 | IORING_SETUP_CQE32 | IORING_SETUP_NO_SQARRAY,
  ],
  ["DEFER_TASKRUN CQE_MIXED", IORING_SETUP_CQE_MIXED],
] as const).map(([name, flags]) => {
  const options = { flags: DEFER | flags };
  return { name, options, skip: firstReason(noResize, missingRing(options)) };
});

function queueNops(ring: Ring, from: number, count: number, flags = 0): void {
  for (let i = from; i < from + count; i++) {
    entry(ring, i, (sqe) => {
      sqe.prepNop();
      sqe.flags = flags;
    });
  }
}

const range = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i);

/** Takes what is there, and says what it was. */
function take(ring: Ring): number[] {
  const found: number[] = [];
  ring.forEachCqe(({ userData }) => found.push(userData));
  return found;
}

for (const { name, options, skip } of SHAPES) {
  test(`liburing resize-rings, large-resize: ${name}: entries and completions move along`, { skip }, () => {
    using ring = makeRing(8, options);
    for (let round = 0; round < 4; round++) {
      // The queues wrap at another place each time.
      queueNops(ring, 0, 3 + round);
      ring.submit();
      queueNops(ring, 100, 2 + round);
      ring.resizeRings(round % 2 === 0 ? 64 : 8);
      assert.equal(ring.sqEntries, round % 2 === 0 ? 64 : 8);
      assert.equal(ring.cqEntries, 2 * ring.sqEntries);
      assert.equal(ring.sqReady(), 2 + round);
      assert.equal(ring.submit(), 2 + round);
      assert.deepEqual(take(ring), [...range(0, 3 + round), ...range(100, 2 + round)]);
    }
  });

  test(`liburing resize-rings: ${name}: what does not fit is refused, and nothing is lost`, { skip }, () => {
    using ring = makeRing(32, options);
    queueNops(ring, 0, 32);
    assert.throws(() => ring.resizeRings(16), { code: "EOVERFLOW", syscall: "io_uring_register" });
    ring.submit();
    // 32 completions fit into 32 slots and not into 16.
    ring.resizeRings(32, { cqEntries: 32 });
    assert.equal(ring.cqEntries, 32);
    assert.throws(() => ring.resizeRings(8), { code: "EOVERFLOW" });
    assert.deepEqual([ring.sqEntries, ring.cqEntries], [32, 32]);
    assert.deepEqual(take(ring), range(0, 32));
    ring.resizeRings(8);
    assert.deepEqual([ring.sqEntries, ring.cqEntries], [8, 16]);
    queueNops(ring, 0, 8);
    assert.equal(ring.getSqe(), null);
    assert.equal(ring.submit(), 8);
    assert.deepEqual(take(ring), range(0, 8));
  });

  test(`liburing resize-rings: ${name}: the same size, and sizes that are rounded`, { skip }, () => {
    using ring = makeRing(32, options);
    ring.resizeRings(32);
    queueNops(ring, 1, 32);
    ring.submit();
    assert.deepEqual(take(ring), range(1, 32));
    ring.resizeRings(5, { cqEntries: 33 });
    assert.deepEqual([ring.sqEntries, ring.cqEntries], [8, 64]);
  });
}

for (const async of [false, true]) {
  test(
    `liburing resize-rings: reads in flight${
      async ? " in worker threads" : ""
    } end in the ring's other memory`,
    {
      skip: firstReason(noResize, missingRing({ flags: DEFER })),
    },
    () => {
      using ring = makeRing(16, { flags: DEFER });
      using pipe = new Pipe();
      const buffer = block(8 * 16);
      const sizes = [[64, 256], [32, 128], [16, 256], [64, 128], [16, 64]] as const;
      let next = 0;
      for (let round = 0; round < 20; round++) {
        const from = next;
        for (; next < from + 16; next++) {
          entry(ring, next, (sqe) => {
            sqe.prepRead(pipe.reader.fd, buffer.address + 8 * (next - from), 8, -1);
            if (async) sqe.flags = IOSQE_ASYNC;
          });
        }
        ring.submit();
        const seen: number[] = [];
        for (let i = 0; i < 16; i++) {
          if (i % 3 === 0) {
            const [sq, cqEntries] = sizes[(round + i) % sizes.length]!;
            ring.resizeRings(sq, { cqEntries });
          }
          pipe.write("8 bytes.");
          const [completion] = reap(ring, 1);
          assert.equal(completion!.res, 8);
          seen.push(completion!.userData);
        }
        assert.deepEqual(seen.sort((a, b) => a - b), range(from, 16));
      }
    },
  );
}

const skip = firstReason(noResize, missingRing({ flags: DEFER }));

test("what was got before a resize is void, and touches nothing", { skip }, () => {
  using ring = makeRing(4, { flags: DEFER });
  queueNops(ring, 1, 2);
  ring.submit();
  const cqe: Cqe = ring.peekCqe()!;
  const sqe = ring.getSqe()!;
  const bytes = sqe.bytes;
  const place = addressOf(bytes);
  assert.ok(isMapped(place));
  sqe.prepNop();
  sqe.userData = 3;
  ring.resizeRings(16);
  assert.equal(bytes.length, 0);
  assert.throws(() => sqe.bytes, TypeError);
  sqe.userData = 4;
  sqe.prepClose(0);
  assert.equal(cqe.res, undefined);
  assert.equal(isMapped(place), false);
  ring.submit();
  assert.deepEqual(take(ring), [1, 2, 3]);
});

test("a ring goes on with its registered descriptor", { skip }, () => {
  using ring = makeRing(4, { flags: DEFER });
  ring.registerRingFd();
  ring.resizeRings(16);
  queueNops(ring, 0, 16);
  assert.equal(ring.submitAndWait(16), 16);
  assert.deepEqual(take(ring), range(0, 16));
});

forEachKind(({ name, options, skip }) => {
  if (((options.flags ?? 0) & IORING_SETUP_DEFER_TASKRUN) !== 0) return;
  test(`${name}: only rings with deferred task work can be resized`, {
    skip: firstReason(skip, noResize),
  }, () => {
    using ring = makeRing(4, options);
    assert.throws(() => ring.resizeRings(8), { code: "EINVAL", syscall: "io_uring_register" });
    queueNops(ring, 1, 4);
    assert.deepEqual(reap(ring, 4).map(({ userData }) => userData), [1, 2, 3, 4]);
  });
});

test("sizes that cannot be are refused before the kernel is asked", () => {
  using ring = makeRing(4, missingRing({ flags: DEFER }) === false ? { flags: DEFER } : {});
  for (const entries of [0, -1, 1.5, NaN, 32769]) assert.throws(() => ring.resizeRings(entries), RangeError);
  assert.throws(() => ring.resizeRings(8, { cqEntries: 4 }), RangeError);
  assert.throws(() => ring.resizeRings(8, { flags: IORING_SETUP_SQE128 }), RangeError);
  queueNops(ring, 1, 1);
  assert.equal(reap(ring, 1)[0]!.userData, 1);
});

test("IORING_SETUP_CLAMP makes the most of too many", {
  skip: firstReason(skip, process.getuid!() === 0 ? false : "the memory may exceed an ordinary user's limit"),
}, () => {
  using ring = makeRing(4, { flags: DEFER });
  ring.resizeRings(100_000, { flags: IORING_SETUP_CLAMP });
  assert.deepEqual([ring.sqEntries, ring.cqEntries], [32768, 65536]);
});

test("a ring in memory of the program's own keeps its size", {
  skip: missingRing({ flags: DEFER | IORING_SETUP_NO_MMAP }),
}, () => {
  using ring = makeRing(4, { flags: DEFER | IORING_SETUP_NO_MMAP });
  assert.throws(() => ring.resizeRings(8), { code: "EINVAL", message: /IORING_SETUP_NO_MMAP/ });
});

const MIXED = { flags: DEFER | IORING_SETUP_CQE_MIXED };

test(
  "a completion of two slots is moved, and not split",
  { skip: firstReason(noResize, missingRing(MIXED)) },
  () => {
    using ring = makeRing(4, MIXED);
    const big = (userData: number): void => {
      entry(ring, userData, (sqe) => {
        sqe.prepNop();
        sqe.opFlags = IORING_NOP_CQE32;
      });
      ring.submit();
    };
    big(1);
    ring.resizeRings(8);
    assert.deepEqual(take(ring), [1]);
    queueNops(ring, 2, 1);
    ring.submit();
    assert.deepEqual(take(ring), [2]);
    // In the slots 3 and 4, of which a queue of four has the first alone.
    big(3);
    assert.throws(() => ring.resizeRings(2, { cqEntries: 4 }), { code: "EOVERFLOW", message: /two slots/ });
    assert.deepEqual(take(ring), [3]);
    ring.resizeRings(2, { cqEntries: 4 });
    assert.equal(ring.cqEntries, 4);
    big(4);
    assert.deepEqual(take(ring), [4]);
  },
);

const WIDE = { flags: DEFER | IORING_SETUP_SQE_MIXED | IORING_SETUP_CQE_MIXED | IORING_SETUP_NO_SQARRAY };

test("liburing large-resize: mixed entries are moved, and not split", {
  skip: firstReason(noResize, missingRing(WIDE)),
}, () => {
  using ring = makeRing(8, WIDE);
  const wide = (userData: number): void => {
    const sqe = ring.getSqe128()!;
    sqe.prepNop128();
    sqe.userData = userData;
  };
  queueNops(ring, 1, 1);
  wide(2);
  queueNops(ring, 3, 1);
  ring.resizeRings(16);
  assert.equal(ring.sqReady(), 4);
  ring.submit();
  assert.deepEqual(take(ring), [1, 2, 3]);
  // The next wide one has the slots 5 and 6, then 7 and 8.
  queueNops(ring, 4, 3);
  wide(7);
  assert.throws(() => ring.resizeRings(8), { code: "EOVERFLOW", message: /two slots/ });
  ring.submit();
  assert.deepEqual(take(ring), [4, 5, 6, 7]);
  ring.resizeRings(8);
  wide(8);
  ring.submit();
  assert.deepEqual(take(ring), [8]);
});

/** Has `mmap` fail after so many calls, for as long as `body` runs. */
function withFailingMmap(after: number, body: () => void): void {
  const calls = system() as { mmap: (...args: number[]) => number };
  const { mmap } = calls;
  let left = after;
  calls.mmap = (...args) => left-- > 0 ? mmap(...args) : -12;
  try {
    body();
  } finally {
    calls.mmap = mmap;
  }
}

test("liburing resize-mmap-fail: without address space the ring is as it was", { skip }, () => {
  using ring = makeRing(8, { flags: DEFER });
  queueNops(ring, 1, 3);
  ring.submit();
  queueNops(ring, 4, 2);
  withFailingMmap(0, () => assert.throws(() => ring.resizeRings(64), { code: "ENOMEM", syscall: "mmap" }));
  assert.equal(ring.sqEntries, 8);
  ring.submit();
  assert.deepEqual(take(ring), [1, 2, 3, 4, 5]);
  ring.resizeRings(64);
  assert.equal(ring.sqEntries, 64);
});

test("a ring whose other memory cannot be mapped is closed", { skip }, () => {
  for (const after of [1, 2]) {
    const before = openRings();
    const ring = makeRing(8, { flags: DEFER });
    const sqe = ring.getSqe()!;
    const place = addressOf(sqe.bytes);
    withFailingMmap(
      after,
      () => assert.throws(() => ring.resizeRings(64), { code: "ENOMEM", syscall: "mmap" }),
    );
    assert.equal(ring.closed, true);
    assert.equal(isMapped(place), false);
    assert.equal(openRings(), before);
    assert.throws(() => ring.submit(), TypeError);
  }
});
