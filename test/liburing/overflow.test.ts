/** Twins of liburing's programs about more completions than the queue holds. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import {
  type Cqe,
  IORING_FEAT_NODROP,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SINGLE_ISSUER,
  O_DIRECT,
  O_RDONLY,
  type Ring,
} from "../../src/ring/mod.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  type Block,
  block,
  entry,
  eventually,
  iovecs,
  makeRing,
  missingDirect,
  missingRing,
  reap,
} from "../support/rings.ts";

checkLeaks();

const EFAULT = -14;
const PAGE = 4096;

const NOPS = 8;
const ROUNDS = 128;

/** Takes what is there, one or two at a time, as the indices of the NOPs that have come back. */
function take(ring: Ring, batch: boolean): number[] {
  const first = ring.waitCqe();
  const cqes: (Cqe | undefined)[] = [first, undefined];
  const count = batch ? ring.peekBatchCqe(cqes) : 1;
  const indices = cqes.slice(0, count).map((cqe) => cqe!.userData);
  ring.cqAdvance(count);
  return indices;
}

/**
 * Keeps eight NOPs going round on a queue for two or four, each submitted again once it has come back. Those that
 * wait for room must have their turn: none comes back more often than its neighbours.
 */
function goRound(ring: Ring, batch: boolean): void {
  const turns = new Array<number>(NOPS).fill(0);
  let again: number[] = [];
  let inFlight = 0;
  const submit = (index: number): void => {
    entry(ring, index, (sqe) => sqe.prepNop());
    assert.equal(ring.submit(), 1);
    inFlight++;
  };
  for (let i = 0; i < NOPS; i++) submit(i);
  for (let round = 0; round < ROUNDS; round++) {
    if (ring.cqHasOverflow()) ring.getEvents();
    else {
      again.forEach(submit);
      again = [];
    }
    for (const index of take(ring, batch)) {
      turns[index]!++;
      inFlight--;
      again.push(index);
    }
  }
  assert.equal(reap(ring, inFlight).length, inFlight);
  for (let i = 1; i < NOPS; i++) assert.ok(Math.abs(turns[i]! - turns[i - 1]!) <= 1, `${turns}`);
  assert.equal(ring.cqOverflowed(), 0);
  assert.equal(ring.peekCqe(), null);
}

const SHAPES: readonly [name: string, flags: number][] = [
  ["default", 0],
  ["IOPOLL", IORING_SETUP_IOPOLL],
  ["DEFER_TASKRUN", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN],
  ["IOPOLL DEFER_TASKRUN", IORING_SETUP_IOPOLL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN],
];

for (const [name, flags] of SHAPES) {
  test(
    `liburing cq-overflow: ${name}: what overflows comes in its turn`,
    { skip: missingRing({ flags }) },
    () => {
      for (const cqEntries of [2, 4]) {
        for (const batch of [false, true]) {
          using ring = makeRing(2, { flags, cqEntries });
          goRound(ring, batch);
        }
      }
    },
  );
}

test("liburing cq-overflow: sixteen NOPs on a queue for eight come back in order", () => {
  using ring = makeRing(4);
  assert.ok(ring.features & IORING_FEAT_NODROP);
  for (let i = 0; i < 16; i += 4) {
    for (let j = 0; j < 4; j++) entry(ring, i + j, (sqe) => sqe.prepNop());
    assert.equal(ring.submit(), 4);
  }
  for (let i = 0; i < 16; i++) {
    const cqe = ring.peekCqe()!;
    assert.equal(cqe.userData, i);
    ring.cqeSeen(cqe);
  }
  assert.equal(ring.peekCqe(), null);
});

const FILE_PAGES = 64;

/** A page of memory that begins at a multiple of a page, as O_DIRECT needs it. */
function page(): Block {
  const { bytes, address } = block(2 * PAGE);
  const offset = (PAGE - address % PAGE) % PAGE;
  const part = bytes.subarray(offset, offset + PAGE);
  return { bytes: part, address: address + offset, view: new DataView(part.buffer, part.byteOffset, PAGE) };
}

test(
  "liburing cq-overflow: reads of a disk overflow the queue, and none is lost",
  { skip: missingDirect() },
  () => {
    using dir = new TempDir();
    const content = new Uint8Array(FILE_PAGES * PAGE).map((_, i) => i / PAGE);
    writeFileSync(dir.of("file"), content);
    using file = Fd.open(dir.of("file"), O_RDONLY | O_DIRECT);
    const pages = Array.from({ length: FILE_PAGES }, page);
    const FAULTY = 12;
    for (const fault of [-1, FAULTY]) {
      using ring = makeRing(8);
      for (let i = 0; i < FILE_PAGES; i++) {
        const where = pages[i]!;
        where.bytes.fill(0xff);
        const { address } = iovecs([i === fault ? { ...where, address: 0 } : where]);
        entry(ring, i, (sqe) => sqe.prepReadv(file.fd, address, 1, i * 7 % FILE_PAGES * PAGE));
        assert.equal(ring.submit(), 1);
      }
      eventually(() => ring.cqHasOverflow(), "more have ended than fit");
      const found = reap(ring, FILE_PAGES);
      assert.equal(new Set(found.map(({ userData }) => userData)).size, FILE_PAGES);
      for (const { userData, res } of found) {
        assert.equal(res, userData === fault ? EFAULT : PAGE);
        const { bytes } = pages[userData]!;
        const expected = userData === fault ? 0xff : userData * 7 % FILE_PAGES;
        assert.ok(bytes.every((byte) => byte === expected), `the page of read ${userData}`);
      }
      assert.equal(ring.peekCqe(), null);
      assert.equal(ring.cqOverflowed(), 0);
    }
  },
);
