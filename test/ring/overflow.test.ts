/** More completions than the queue holds, and completions of 32 bytes. */
import assert from "node:assert/strict";
import {
  type Cqe,
  IORING_CQE_F_32,
  IORING_CQE_F_SKIP,
  IORING_FEAT_NODROP,
  IORING_NOP_CQE32,
  IORING_SETUP_CQE32,
  IORING_SETUP_CQE_MIXED,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SQPOLL,
  Ring,
} from "../../src/ring/mod.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { forEachKind, makeRing, missingRing } from "../support/rings.ts";

checkLeaks();

function submitNops(ring: Ring, count: number, first: number, opFlags = 0): void {
  for (let i = 0; i < count; i++) {
    const sqe = ring.getSqe()!;
    sqe.prepNop();
    sqe.opFlags = opFlags;
    sqe.userData = first + i;
  }
  assert.equal(ring.submit(), count);
}

function drain(ring: Ring): number[] {
  const seen: number[] = [];
  while (ring.forEachCqe((cqe) => seen.push(cqe.userData)) > 0) ring.getEvents();
  return seen;
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

forEachKind(({ name, options, skip }) => {
  if (((options.flags ?? 0) & IORING_SETUP_SQPOLL) !== 0) return;
  test(`${name}: an overflow loses nothing and keeps the order`, { skip }, () => {
    using ring = makeRing(8, options);
    assert.ok(ring.features & IORING_FEAT_NODROP);
    assert.equal(ring.cqHasOverflow(), false);
    // 16 fit; the second half of what follows does not. Deferred completions are posted by an enter.
    for (let i = 0; i < 4; i++) {
      submitNops(ring, 8, 8 * i);
      if (i < 2) ring.getEvents();
    }
    assert.equal(ring.cqReady(), 16);
    assert.equal(ring.cqHasOverflow(), true);
    assert.equal(ring.cqNeedsEnter(), true);
    assert.deepEqual(drain(ring), upTo(32));
    assert.equal(ring.cqHasOverflow(), false);
    assert.equal(ring.cqOverflowed(), 0);
  });
});

test("an overflow is flushed by peeking, by a batch, by submitting and by waiting", () => {
  const flushes: [string, (ring: Ring) => number][] = [
    ["peekCqe", (ring) => ring.peekCqe()!.userData],
    ["peekBatchCqe", (ring) => {
      const cqes: (Cqe | undefined)[] = [undefined];
      assert.equal(ring.peekBatchCqe(cqes), 1);
      return cqes[0]!.userData;
    }],
    ["submit with nothing queued", (ring) => {
      assert.equal(ring.submit(), 0);
      assert.equal(ring.cqReady(), 4);
      return ring.peekCqe()!.userData;
    }],
    ["submit", (ring) => {
      submitNops(ring, 1, 99);
      assert.ok(ring.cqReady() >= 4);
      return ring.peekCqe()!.userData;
    }],
    ["submitAndGetEvents", (ring) => {
      ring.submitAndGetEvents();
      return ring.peekCqe()!.userData;
    }],
    ["waitCqe", (ring) => ring.waitCqe().userData],
    ["waitCqeTimeout", (ring) => ring.waitCqeTimeout({ sec: 10, nsec: 0 })!.userData],
  ];
  for (const [name, flush] of flushes) {
    using ring = makeRing(4);
    submitNops(ring, 4, 0);
    submitNops(ring, 4, 4);
    submitNops(ring, 4, 8);
    assert.equal(ring.cqReady(), 8, name);
    ring.cqAdvance(8);
    assert.equal(ring.cqHasOverflow(), true, name);
    assert.equal(flush(ring), 8, name);
    const rest = drain(ring);
    assert.deepEqual(rest.slice(0, 4), [8, 9, 10, 11], name);
  }
});

const big = { flags: IORING_SETUP_CQE32 };
const noBig = missingRing(big);

/** A NOP whose completion carries two more words: its `off` and its `addr`. */
function nop32(ring: Ring, userData: number, first: bigint, second: bigint): void {
  const sqe = ring.getSqe()!;
  sqe.prepRw(0, -1, second, 0, first);
  sqe.opFlags = IORING_NOP_CQE32;
  sqe.userData = userData;
}

/** Old kernels refuse the flag; asked once. */
function missingNop32(): string | false {
  if (noBig !== false) return noBig;
  const ring = makeRing(1, big);
  nop32(ring, 0, 1n, 2n);
  ring.submitAndWait(1);
  const refused = ring.peekCqe()!.res < 0;
  ring.close();
  return refused ? "this kernel's NOP cannot post 32 bytes" : false;
}

const noNop32 = missingNop32();

test("a completion of 32 bytes carries two more words", { skip: noNop32 }, () => {
  using ring = makeRing(4, big);
  for (let i = 0n; i < 20n; i++) {
    nop32(ring, Number(i), 0xfedc_ba98_7654_3210n + i, 2n ** 63n + i);
    assert.equal(ring.submitAndWait(1), 1);
    const cqe = ring.peekCqe()!;
    assert.equal(cqe.userData, Number(i));
    assert.equal(cqe.res, 0);
    assert.deepEqual(cqe.bigCqe, [0xfedc_ba98_7654_3210n + i, 2n ** 63n + i]);
    ring.cqeSeen(cqe);
  }
});

test("the two words also survive an overflow", { skip: noNop32 }, () => {
  using ring = makeRing(4, big);
  for (let i = 0; i < 16; i++) {
    nop32(ring, i, BigInt(i), BigInt(2 * i));
    assert.equal(ring.submit(), 1);
  }
  assert.equal(ring.cqHasOverflow(), true);
  let next = 0;
  const check = (cqe: Cqe): void => {
    assert.equal(cqe.userData, next);
    assert.deepEqual(cqe.bigCqe, [BigInt(next), BigInt(2 * next)]);
    next++;
  };
  while (ring.forEachCqe(check) > 0) ring.getEvents();
  assert.equal(next, 16);
});

const mixed = { flags: IORING_SETUP_CQE_MIXED };
const noMixed = missingRing(mixed) || noNop32;

test("a mixed ring tells small completions from big ones", { skip: noMixed }, () => {
  using ring = makeRing(8, mixed);
  submitNops(ring, 1, 1);
  nop32(ring, 2, 3n, 4n);
  ring.submit();
  submitNops(ring, 1, 5);
  assert.equal(ring.cqReady(), 4, "a big one takes two slots");
  const seen: unknown[] = [];
  const count = ring.forEachCqe((cqe) => {
    const isBig = (cqe.flags & IORING_CQE_F_32) !== 0;
    seen.push([cqe.userData, isBig ? cqe.bigCqe : null]);
  });
  assert.equal(count, 3);
  assert.deepEqual(seen, [[1, null], [2, [3n, 4n]], [5, null]]);
  assert.equal(ring.cqReady(), 0);
});

test("a big completion of a mixed ring never wraps: the filler is skipped", { skip: noMixed }, () => {
  using ring = makeRing(4, mixed);
  // One slot of eight taken; then big ones only, so that every other round ends on an odd slot.
  submitNops(ring, 1, 0);
  ring.cqAdvance(1);
  for (let i = 1; i <= 30; i++) {
    nop32(ring, i, BigInt(i), BigInt(-i));
    ring.submitAndWait(1);
    if (i % 2 === 0) {
      const cqe = ring.peekCqe()!;
      assert.equal(cqe.flags & IORING_CQE_F_SKIP, 0);
      assert.equal(cqe.userData, i);
      assert.deepEqual(cqe.bigCqe, [BigInt(i), BigInt.asUintN(64, BigInt(-i))]);
      ring.cqeSeen(cqe);
    } else {
      assert.equal(ring.forEachCqe((cqe) => assert.equal(cqe.userData, i)), 1);
    }
    assert.equal(ring.peekCqe(), null);
  }
});

/** A ring in which something completes just when it has been counted that nothing has. */
class LateRing extends Ring {
  late: (() => void) | null = null;

  override cqReady(): number {
    const ready = super.cqReady();
    const { late } = this;
    this.late = null;
    late?.();
    return ready;
  }
}

test("a filler that comes between two looks is no completion", { skip: noMixed }, () => {
  using ring = new LateRing(4, mixed);
  const cqes: (Cqe | undefined)[] = [undefined];
  // One that was big has taken two slots after the filler.
  let taken = 0;
  for (const peek of [() => ring.peekCqe(), () => ring.peekBatchCqe(cqes) === 0 ? null : cqes[0]!]) {
    for (; taken < ring.cqEntries - 1; taken++) {
      submitNops(ring, 1, 0);
      ring.cqAdvance(1);
    }
    taken = 2;
    nop32(ring, 77, 1n, 2n);
    ring.late = () => ring.submit();
    const found = peek() ?? peek();
    assert.equal(found!.userData, 77);
    assert.deepEqual(found!.bigCqe, [1n, 2n]);
    ring.cqeSeen(found!);
    assert.equal(peek(), null);
  }
});

test("a visitor of a mixed ring that throws has visited", { skip: noMixed }, () => {
  using ring = makeRing(8, mixed);
  nop32(ring, 1, 1n, 1n);
  ring.submit();
  submitNops(ring, 1, 2);
  assert.throws(() => ring.forEachCqe(() => assert.fail("stop")), /stop/);
  assert.equal(ring.peekCqe()!.userData, 2);
  ring.cqAdvance(1);
});

const iopoll = { flags: IORING_SETUP_IOPOLL };
const noIopoll = missingRing(iopoll);

test("a polled ring fetches its completions, and NOPs overflow in it, too", { skip: noIopoll }, () => {
  using ring = makeRing(4, iopoll);
  for (let i = 0; i < 3; i++) submitNops(ring, 4, 4 * i);
  assert.deepEqual(drain(ring), upTo(12));
});
