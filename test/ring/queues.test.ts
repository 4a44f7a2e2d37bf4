/** The submission and the completion queue: room, counters, order, `user_data`, wrapping. */
import assert from "node:assert/strict";
import { io_cqring_offsets, io_uring_params } from "../../src/ffi/structs.ts";
import { type Cqe, IORING_OP_NOP, IORING_SETUP_SQPOLL, type Ring } from "../../src/ring/mod.ts";
import { RingWaits } from "../../src/ring/waits.ts";
import { type RingParts, setupRing } from "../../src/ring/setup.ts";
import { system } from "../../src/ffi/system.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertEntry,
  assertQuiet,
  entry,
  eventually,
  forEachKind,
  makeRing,
  reap,
} from "../support/rings.ts";

checkLeaks();

/** Queues so many NOPs with consecutive `user_data`. */
function queueNops(ring: Ring, count: number, first = 0): void {
  for (let i = 0; i < count; i++) entry(ring, first + i, (sqe) => sqe.prepNop());
}

/** Reads all that is there; checks that it is consecutive. */
function takeInOrder(ring: Ring, count: number, first = 0): void {
  let next = first;
  const visited = ring.forEachCqe((cqe) => {
    assert.equal(cqe.userData, next++);
    assert.equal(cqe.res, 0);
  });
  assert.equal(visited, count);
  assert.equal(next, first + count);
}

forEachKind(({ name, options, skip }) => {
  const sqpoll = ((options.flags ?? 0) & IORING_SETUP_SQPOLL) !== 0;

  test(`${name}: the queue is full at exactly sqEntries`, { skip }, () => {
    using ring = makeRing(16, options);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 16; i++) {
        assert.equal(ring.sqSpaceLeft(), 16 - i);
        assert.equal(ring.sqReady(), i);
        const sqe = entry(ring, 16 * round + i, (sqe) => sqe.prepNop());
        assertEntry(sqe, { opcode: IORING_OP_NOP, fd: -1, userData: BigInt(16 * round + i) });
      }
      assert.equal(ring.sqSpaceLeft(), 0);
      assert.equal(ring.getSqe(), null);
      assert.equal(ring.getSqe(), null);
      assert.equal(ring.sqReady(), 16);
      const submitted = ring.submit();
      // A kernel thread may have taken some before they are counted, as in liburing.
      if (!sqpoll) assert.equal(submitted, 16);
      eventually(() => ring.sqReady() === 0, "all entries are consumed");
      assert.equal(ring.sqSpaceLeft(), 16);
      const seen = reap(ring, 16).map(({ userData }) => userData);
      assert.deepEqual(seen, Array.from({ length: 16 }, (_, i) => 16 * round + i));
    }
    assert.equal(ring.sqDropped(), 0);
    assert.equal(ring.cqOverflowed(), 0);
  });

  test(`${name}: ready completions are counted, and advanced past one by one`, { skip }, () => {
    using ring = makeRing(8, options);
    assert.equal(ring.cqReady(), 0);
    assert.equal(ring.peekCqe(), null);
    queueNops(ring, 8);
    ring.submitAndWait(8);
    eventually(() => ring.cqReady() === 8, "eight completions are there");
    for (let i = 0; i < 8; i++) {
      assert.equal(ring.cqReady(), 8 - i);
      const cqe = ring.peekCqe()!;
      assert.equal(cqe.userData, i);
      assert.equal(ring.peekCqe(), cqe, "a peek takes nothing away");
      ring.cqeSeen(cqe);
    }
    assert.equal(ring.peekCqe(), null);
  });

  test(`${name}: waits for the oldest completion`, { skip }, () => {
    using ring = makeRing(8, options);
    queueNops(ring, 3, 5);
    ring.submit();
    assert.equal(ring.waitCqe().userData, 5);
    assert.equal(ring.waitCqeNr(3).userData, 5);
    assert.equal(ring.cqReady(), 3);
    ring.cqAdvance(2);
    assert.equal(ring.waitCqe().userData, 7);
    ring.cqAdvance(1);
    assertQuiet(ring);
  });

  test(`${name}: batches are peeked in order, whole, in part and empty`, { skip }, () => {
    using ring = makeRing(8, options);
    const cqes: (Cqe | undefined)[] = [undefined, undefined, undefined];
    assert.equal(ring.peekBatchCqe(cqes), 0);
    assert.equal(cqes.filter((cqe) => cqe !== undefined).length, 0);
    queueNops(ring, 5);
    ring.submitAndWait(5);
    eventually(() => ring.cqReady() === 5, "five completions are there");
    assert.equal(ring.peekBatchCqe([]), 0);
    assert.equal(ring.peekBatchCqe(cqes), 3);
    assert.deepEqual(cqes.map((cqe) => cqe!.userData), [0, 1, 2]);
    assert.equal(ring.cqReady(), 5, "a peek takes nothing away");
    ring.cqAdvance(3);
    assert.equal(ring.peekBatchCqe(cqes), 2);
    assert.deepEqual(cqes.slice(0, 2).map((cqe) => cqe!.userData), [3, 4]);
    ring.cqAdvance(2);
    assert.equal(ring.peekBatchCqe(cqes), 0);
  });

  test(`${name}: goes round and round`, { skip }, () => {
    using ring = makeRing(4, options);
    let first = 0;
    for (let round = 0; round < 300; round++) {
      const count = 1 + round % 4;
      queueNops(ring, count, first);
      const submitted = ring.submitAndWait(count);
      if (!sqpoll) assert.equal(submitted, count);
      eventually(() => ring.cqReady() === count, "they are all there");
      takeInOrder(ring, count, first);
      first += count;
      // With a kernel thread, an entry's slot is free only once it has said so.
      if (sqpoll) eventually(() => ring.sqReady() === 0, "all entries are consumed");
    }
  });
});

test("liburing nop-all-sizes: every size fills both queues exactly, and each user_data comes back once", () => {
  for (let size = 1; size <= 32768; size *= 2) {
    using ring = makeRing(size);
    assert.equal(ring.sqEntries, size);
    assert.equal(ring.cqEntries, 2 * size);
    for (let half = 0; half < 2; half++) {
      for (let i = 0; i < size; i++) {
        const sqe = ring.getSqe()!;
        sqe.prepNop();
        sqe.userData = half * size + i;
      }
      assert.equal(ring.getSqe(), null);
      assert.equal(ring.submit(), size);
    }
    assert.equal(ring.cqReady(), 2 * size);
    let expected = 0;
    let wrong = 0;
    assert.equal(ring.forEachCqe((cqe) => wrong += cqe.userData === expected++ ? 0 : 1), 2 * size);
    assert.equal(wrong, 0);
    assert.equal(ring.cqReady(), 0);
    assert.equal(ring.cqHasOverflow(), false);
  }
});

test("user_data comes back bit by bit", () => {
  using ring = makeRing(4);
  const numbers = [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 33 + 5, 2 ** 52, 2 ** 53 - 1];
  for (const value of numbers) {
    const sqe = ring.getSqe()!;
    sqe.prepNop();
    sqe.userData = value;
    assert.equal(sqe.userData, value);
    assert.equal(sqe.userData64, BigInt(value));
    ring.submitAndWait(1);
    ring.forEachCqe((cqe) => {
      assert.equal(cqe.userData, value);
      assert.equal(cqe.userData64, BigInt(value));
      assert.equal(cqe.userDataLow >>> 0, value % 2 ** 32);
      assert.equal(cqe.userDataHigh >>> 0, Math.floor(value / 2 ** 32));
    });
  }
  for (const value of [0n, 1n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n, 0x8000_0000_8000_0000n]) {
    const sqe = ring.getSqe()!;
    sqe.prepNop();
    sqe.userData64 = value;
    assert.equal(sqe.userData64, value);
    ring.submitAndWait(1);
    ring.forEachCqe((cqe) => {
      assert.equal(cqe.userData64, value);
      assert.equal(cqe.userData, Number(value), "rounded beyond 2⁵³");
    });
  }
});

test("a negative user_data is stored in two's complement", () => {
  using ring = makeRing(4);
  for (const value of [-1, -2, -(2 ** 31), -(2 ** 31) - 1, -(2 ** 40)]) {
    const sqe = ring.getSqe()!;
    sqe.prepNop();
    sqe.userData = value;
    assert.equal(sqe.userData64, BigInt.asUintN(64, BigInt(value)), `${value}`);
    ring.submitAndWait(1);
    ring.forEachCqe((cqe) => assert.equal(BigInt.asIntN(64, cqe.userData64), BigInt(value)));
  }
});

/**
 * A completion queue whose kernel side the test plays. The indices run through all 32 bits and wrap; 2³² operations
 * would take minutes, but `cqAdvance` takes the head anywhere. The submission queue's indices cannot be moved like
 * that (the kernel counts along in private); they are compared by the same `(tail - head) | 0`.
 */
class PlayedQueue extends RingWaits {
  readonly #parts: RingParts;
  readonly #words: Int32Array;
  readonly #tailAt: number;
  readonly #cqesAt: number;

  constructor(entries: number) {
    const parts = setupRing(entries, {});
    super(parts);
    this.#parts = parts;
    this.#words = new Int32Array(parts.sqRing.buffer, 0, parts.sqRing.byteLength >> 2);
    const at = (field: number): number => parts.params.getUint32(io_uring_params.cq_off + field, true) >> 2;
    this.#tailAt = at(io_cqring_offsets.tail);
    this.#cqesAt = at(io_cqring_offsets.cqes);
  }

  /** Posts completions as the kernel does: at the tail's slots, then the tail. */
  post(userData: readonly number[]): void {
    let tail = this.#words[this.#tailAt]!;
    for (const value of userData) {
      this.#words[this.#cqesAt + 4 * (tail & (this.cqEntries - 1))] = value;
      tail = (tail + 1) | 0;
    }
    Atomics.store(this.#words, this.#tailAt, tail);
  }

  /** Takes both indices to `place`. */
  moveTo(place: number): void {
    this.cqAdvance(place);
    Atomics.store(this.#words, this.#tailAt, place | 0);
  }

  close(): void {
    system().close(this.#parts.fd);
    this.#parts.sqRing.unmap();
    this.#parts.sqes.unmap();
  }
}

for (const place of [2 ** 31, 2 ** 32]) {
  test(`the completion queue's indices pass ${place}`, () => {
    const queue = new PlayedQueue(4);
    try {
      queue.moveTo(place - 3);
      assert.equal(queue.cqReady(), 0);
      assert.equal(queue.forEachCqe(() => assert.fail("nothing is there")), 0);
      assert.equal(queue.peekCqe(), null);
      queue.post([1, 2, 3, 4, 5, 6]);
      assert.equal(queue.cqReady(), 6);
      const cqes: (Cqe | undefined)[] = Array(8).fill(undefined);
      assert.equal(queue.peekBatchCqe(cqes), 6);
      assert.deepEqual(cqes.slice(0, 6).map((cqe) => cqe!.userData), [1, 2, 3, 4, 5, 6]);
      queue.cqeSeen(queue.peekCqe()!);
      assert.equal(queue.cqReady(), 5);
      const seen: number[] = [];
      assert.equal(queue.forEachCqe((cqe) => seen.push(cqe.userData)), 5);
      assert.deepEqual(seen, [2, 3, 4, 5, 6]);
      assert.equal(queue.cqReady(), 0);
      queue.post([7]);
      assert.equal(queue.waitCqe().userData, 7);
    } finally {
      queue.close();
    }
  });
}
