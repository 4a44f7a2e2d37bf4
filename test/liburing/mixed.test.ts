/** Twins of liburing's programs about entries of 128 bytes and completions of 32 bytes among smaller ones. */
import assert from "node:assert/strict";
import {
  Cqe,
  cqeNr,
  IORING_CQE_F_32,
  IORING_NOP_CQE32,
  IORING_NOP_INJECT_RESULT,
  IORING_SETUP_CQE32,
  IORING_SETUP_CQE_MIXED,
  IORING_SETUP_NO_SQARRAY,
  IORING_SETUP_SQ_REWIND,
  IORING_SETUP_SQE128,
  IORING_SETUP_SQE_MIXED,
  IOSQE_IO_LINK,
  O_RDONLY,
  type Ring,
  type Sqe,
} from "../../src/ring/mod.ts";
import { setupRing } from "../../src/ring/setup.ts";
import { RingWaits } from "../../src/ring/waits.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { io_sqring_offsets, io_uring_params } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import { Fd } from "../support/descriptors.ts";
import { labDisk, missingLabDisk } from "../support/devices.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { namespaceOf } from "../support/nvme.ts";
import { block, entry, forEachKind, makeRing, missingRing, once, reap } from "../support/rings.ts";

checkLeaks();

const EINVAL = -22;
const MIXED = IORING_SETUP_SQE_MIXED;
const noMixed = missingRing({ flags: MIXED });
const noRewind = missingRing({ flags: MIXED | IORING_SETUP_SQ_REWIND });
const noMixedCqes = missingRing({ flags: IORING_SETUP_CQE_MIXED });
const noNop32 = kernelHas("6.18") ? false : "needs Linux 6.18";

/** A big entry with its `user_data` set. */
function bigEntry(ring: Ring, userData: number): Sqe {
  const sqe = ring.getSqe128();
  assert.ok(sqe, "no room for an entry of 128 bytes");
  assert.equal(sqe.bytes.length, 128);
  sqe.prepNop128();
  sqe.userData = userData;
  return sqe;
}

function assertRoom(ring: Ring, ready: number, left: number): void {
  assert.deepEqual([ring.sqReady(), ring.sqSpaceLeft()], [ready, left]);
}

for (
  const [name, flags, skip] of [["", MIXED, noMixed], [
    "SQ_REWIND: ",
    MIXED | IORING_SETUP_SQ_REWIND,
    firstReason(noMixed, noRewind),
  ]] as const
) {
  test(`liburing sqe-mixed-nop: ${name}big and small entries in turns, and what they take`, { skip }, () => {
    using ring = makeRing(8, { flags });
    for (let i = 0; i < 32; i++) {
      if (i % 2 === 1) bigEntry(ring, i);
      else entry(ring, i, (sqe) => sqe.prepNop());
      assert.ok(ring.submit() > 0);
      assert.deepEqual(reap(ring, 1), [{ userData: i, res: 0, flags: 0 }]);
    }
    assertRoom(ring, 0, 8);
    entry(ring, 1000, (sqe) => sqe.prepNop());
    assertRoom(ring, 1, 7);
    bigEntry(ring, 1001);
    assertRoom(ring, 3, 5);
    entry(ring, 1002, (sqe) => sqe.prepNop());
    assertRoom(ring, 4, 4);
    assert.deepEqual(reap(ring, 3).map(({ userData }) => userData), [1000, 1001, 1002]);
    assertRoom(ring, 0, 8);
    // Before the end of the queue only one slot is left now, which a filler takes; not where it begins anew every time.
    const filler = name === "" ? 1 : 0;
    bigEntry(ring, 1000);
    assertRoom(ring, 2 + filler, 6 - filler);
    entry(ring, 1001, (sqe) => sqe.prepNop());
    bigEntry(ring, 1002);
    assertRoom(ring, 5 + filler, 3 - filler);
    const found = reap(ring, 3);
    assert.deepEqual(found.map(({ userData, res }) => [userData, res]), [[1000, 0], [1001, 0], [1002, 0]]);
    assert.equal(ring.peekCqe(), null, "the filler has no completion");
  });
}

test("liburing sqe-mixed-bad-wrap: a big entry in the last slot fails, and what follows works", {
  skip: noMixed,
}, () => {
  using ring = makeRing(8, { flags: MIXED });
  for (let i = 0; i < 7; i++) assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
  assert.equal(once(ring, (sqe) => sqe.prepNop128()).res, EINVAL);
  assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
});

/** A ring whose array of indices the test fills in itself. */
class RemappedQueue extends RingWaits {
  readonly #parts;

  constructor(entries: number) {
    const parts = setupRing(entries, { flags: MIXED });
    super(parts);
    this.#parts = parts;
  }

  remap(position: number, slot: number): void {
    const { params, sqRing } = this.#parts;
    const at = params.getUint32(io_uring_params.sq_off + io_sqring_offsets.array, true) >> 2;
    new Int32Array(sqRing.buffer)[at + position] = slot;
  }

  close(): void {
    system().close(this.#parts.fd);
    this.#parts.sqRing.unmap();
    this.#parts.sqes.unmap();
  }
}

test(
  "liburing sqe-mixed-boundary: an entry does not reach beyond the queue's memory",
  { skip: noMixed },
  () => {
    {
      using ring = makeRing(4, { flags: MIXED });
      entry(ring, 1, (sqe) => sqe.prepNop());
      bigEntry(ring, 2);
      assert.deepEqual(reap(ring, 2).map(({ userData, res }) => [userData, res]), [[1, 0], [2, 0]]);
    }
    const queue = new RemappedQueue(4);
    try {
      // The four slots are handed out, so that there is a view of the last; the second in turn is taken from there.
      const sqes = Array.from({ length: 4 }, () => queue.getSqe()!);
      sqes.forEach((sqe) => sqe.prepNop());
      sqes[0]!.userData = 1;
      sqes[3]!.prepNop128();
      sqes[3]!.userData = 2;
      queue.remap(1, 3);
      assert.equal(queue.enter(2, 0, 0), 2);
      const results: number[][] = [];
      queue.forEachCqe((cqe) => results.push([cqe.userData, cqe.res]));
      assert.deepEqual(results, [[1, 0], [2, EINVAL]]);
    } finally {
      queue.close();
    }
  },
);

test("a filler carries a link on", {
  skip: firstReason(noMixed, kernelHas("6.10") ? false : "needs Linux 6.10"),
}, () => {
  using ring = makeRing(8, { flags: MIXED });
  for (let i = 0; i < 6; i++) once(ring, (sqe) => sqe.prepNop());
  const chain = (res: number): Map<number, number> => {
    entry(ring, 1, (sqe) => {
      sqe.prepNop();
      sqe.opFlags = IORING_NOP_INJECT_RESULT;
      sqe.len = res;
      sqe.flags = IOSQE_IO_LINK;
    });
    // The seventh slot is taken, the eighth is filled.
    bigEntry(ring, 2);
    assertRoom(ring, 4, 4);
    return new Map(reap(ring, res < 0 ? 3 : 2).map(({ userData, res }) => [userData, res]));
  };
  const ECANCELED = -125;
  const broken = chain(-5);
  assert.deepEqual([broken.get(1), broken.get(0), broken.get(2)], [-5, ECANCELED, ECANCELED]);
  for (let i = 0; i < 4; i++) once(ring, (sqe) => sqe.prepNop());
  assert.deepEqual([...chain(0)], [[1, 0], [2, 0]]);
});

test("getSqe128 gives out exactly what fits", { skip: noMixed }, () => {
  using ring = makeRing(4, { flags: MIXED });
  bigEntry(ring, 1);
  bigEntry(ring, 2);
  assert.equal(ring.getSqe128(), null);
  assert.equal(ring.getSqe(), null);
  reap(ring, 2);
  for (let i = 0; i < 3; i++) entry(ring, i, (sqe) => sqe.prepNop());
  assert.equal(ring.getSqe128(), null, "one slot is too few");
  assertRoom(ring, 3, 1);
  reap(ring, 3);
  // Four of four slots were used before the three: the last is next, and a filler and two make three.
  assert.ok(ring.getSqe128());
  assertRoom(ring, 3, 1);
});

test("what a big entry leaves in its slots does not show in small ones", { skip: noMixed }, () => {
  using ring = makeRing(4, { flags: MIXED });
  const small = [0, 1, 2, 3].map((i) => entry(ring, i, (sqe) => sqe.prepNop()));
  reap(ring, 4);
  bigEntry(ring, 1).bytes.fill(0xff, 8, 128);
  const [first, second] = [small[0]!, small[1]!];
  assert.equal(second.opFlags >>> 0, 0xffff_ffff);
  ring.getSqe();
  // Taken back to the start: what was handed out is not submitted, the entries are only looked at.
  for (const sqe of [first, second]) {
    sqe.clear();
    assert.deepEqual([sqe.flags, sqe.ioprio, sqe.opFlags, sqe.bufIndex, sqe.personality, sqe.fileIndex], [
      0,
      0,
      0,
      0,
      0,
      0,
    ]);
  }
});

test("SQE128: every entry has 128 bytes", () => {
  using ring = makeRing(4, { flags: IORING_SETUP_SQE128 });
  const sqe = ring.getSqe128()!;
  assert.equal(sqe.bytes.length, 128);
  assert.equal(ring.sqeShift(), 1);
  assert.equal(ring.sqReady(), 1);
  sqe.prepNop();
  reap(ring, 1);
});

test("SQE_MIXED excludes SQE128, as the kernel has it", { skip: noMixed }, () => {
  const flags = MIXED | IORING_SETUP_SQE128;
  assert.throws(() => makeRing(4, { flags }), RangeError);
  const params = new Uint8Array(new ArrayBuffer(io_uring_params.size));
  new DataView(params.buffer).setUint32(io_uring_params.flags, flags, true);
  assert.equal(system().setup(4, params), EINVAL);
});

test("getSqe128 says what it needs", () => {
  using ring = makeRing(4);
  assert.equal(ring.sqeShift(), 0);
  assert.throws(() => ring.getSqe128(), {
    name: "TypeError",
    message: "Entries of 128 bytes need IORING_SETUP_SQE_MIXED or IORING_SETUP_SQE128",
  });
});

test("SQ_REWIND implies NO_SQARRAY", { skip: noRewind }, () => {
  using ring = makeRing(4, { flags: IORING_SETUP_SQ_REWIND });
  assert.equal(ring.flags, IORING_SETUP_SQ_REWIND | IORING_SETUP_NO_SQARRAY);
});

test("SQ_REWIND: what a submission leaves over comes first in the next one", { skip: noRewind }, () => {
  using ring = makeRing(8, { flags: IORING_SETUP_SQ_REWIND | MIXED });
  const IORING_OP_INVALID = 255;
  entry(ring, 1, (sqe) => sqe.prepNop());
  entry(ring, 2, (sqe) => sqe.prepRw(IORING_OP_INVALID, 0, 0, 0, 0));
  entry(ring, 3, (sqe) => sqe.prepNop());
  bigEntry(ring, 4);
  entry(ring, 5, (sqe) => sqe.prepNop());
  assert.equal(ring.submit(), 2);
  assertRoom(ring, 4, 4);
  entry(ring, 6, (sqe) => sqe.prepNop());
  assert.equal(ring.submit(), 5);
  assertRoom(ring, 0, 8);
  assert.deepEqual(reap(ring, 6).map(({ userData, res }) => [userData, res]), [
    [1, 0],
    [2, EINVAL],
    [3, 0],
    [4, 0],
    [5, 0],
    [6, 0],
  ]);
});

const NVME_URING_CMD_IO = 0xc048_4e80;
const NVME_READ = 2;

test("liburing sqe-mixed-uring_cmd: NOPs and reads by the driver's own commands in turns", {
  skip: firstReason(noMixed, missingLabDisk("plain")),
}, () => {
  const disk = labDisk("plain")!;
  using device = Fd.open(`/dev/${disk.replace("nvme", "ng")}`, O_RDONLY);
  using ring = makeRing(8, { flags: MIXED | IORING_SETUP_CQE_MIXED });
  const buffer = block(4096);
  const namespace = namespaceOf(device.fd);
  for (let i = 0; i < 32; i++) {
    buffer.bytes.fill(0xee);
    if (i % 2 === 0) entry(ring, i, (sqe) => sqe.prepNop());
    else {
      const sqe = ring.getSqe128()!;
      sqe.prepUringCmd128(NVME_URING_CMD_IO, device.fd);
      sqe.userData = i;
      const bytes = sqe.cmd.fill(0);
      assert.equal(bytes.length, 80);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      view.setUint8(0, NVME_READ);
      view.setUint32(4, namespace, true);
      view.setBigUint64(24, BigInt(buffer.address), true);
      view.setUint32(36, 4096, true);
      view.setUint32(48, 4096 / 512 - 1, true);
    }
    assert.ok(ring.submit() > 0);
    assert.deepEqual(reap(ring, 1).map(({ userData, res }) => [userData, res]), [[i, 0]]);
    if (i % 2 === 1) assert.ok(buffer.bytes.some((byte) => byte !== 0xee), "something was read");
  }
});

/** Submits NOPs with ascending `user_data`, with completions of 32 bytes or not. */
function nops(ring: Ring, count: number, from: number, big = false): void {
  for (let i = from; i < from + count; i++) {
    entry(ring, i, (sqe) => {
      sqe.prepNop();
      if (!big) return;
      sqe.opFlags = IORING_NOP_CQE32;
      sqe.off = i + 1000;
      sqe.addr = i + 2000;
    });
  }
  assert.equal(ring.submit(), count);
}

function batch(ring: Ring, most: number, count: number): Cqe[] {
  const cqes: (Cqe | undefined)[] = Array(most).fill(undefined);
  assert.equal(ring.peekBatchCqe(cqes), count);
  return cqes.slice(0, count) as Cqe[];
}

test("liburing cq-peek-batch: batches come in order, and stay until advanced past", () => {
  using ring = makeRing(4);
  batch(ring, 4, 0);
  nops(ring, 4, 0);
  assert.deepEqual(batch(ring, 4, 4).map(({ userData }) => userData), [0, 1, 2, 3]);
  nops(ring, 4, 4);
  ring.cqAdvance(4);
  assert.deepEqual(batch(ring, 4, 4).map(({ userData }) => userData), [4, 5, 6, 7]);
  ring.cqAdvance(4);
  batch(ring, 4, 0);
});

test("liburing cq-peek-batch-mixed: batches of small and big completions, around the end", {
  skip: noMixedCqes,
}, () => {
  using ring = makeRing(8, { flags: IORING_SETUP_CQE_MIXED });
  assert.equal(ring.cqEntries, 16);
  const check = (cqes: readonly Cqe[], from: number, isBig: (i: number) => boolean): void => {
    cqes.forEach((cqe, i) => {
      assert.equal(cqe.userData, from + i);
      assert.equal((cqe.flags & IORING_CQE_F_32) !== 0, isBig(i));
      assert.equal(cqeNr(cqe), isBig(i) ? 2 : 1);
      if (isBig(i)) assert.deepEqual(cqe.bigCqe, [BigInt(from + i + 1000), BigInt(from + i + 2000)]);
    });
    ring.cqAdvance(cqes.reduce((slots, cqe) => slots + cqeNr(cqe), 0));
  };
  batch(ring, 16, 0);
  nops(ring, 2, 1);
  nops(ring, 2, 3, true);
  nops(ring, 2, 5);
  batch(ring, 3, 3);
  check(batch(ring, 16, 6), 1, (i) => i === 2 || i === 3);
  nops(ring, 3, 10);
  check(batch(ring, 16, 3), 10, () => false);
  // A big one does not fit the last slot, which gets a filler.
  nops(ring, 4, 20);
  nops(ring, 1, 24, true);
  nops(ring, 1, 25);
  check(batch(ring, 16, 4), 20, () => false);
  check(batch(ring, 16, 2), 24, (i) => i === 0);
  batch(ring, 16, 0);
  assert.equal(ring.cqReady(), 0);
});

for (const [name, flags] of [["CQE32", IORING_SETUP_CQE32], ["CQE_MIXED", IORING_SETUP_CQE_MIXED]] as const) {
  test(`liburing nop32: ${name}: two values more in a completion`, {
    skip: firstReason(noNop32, noMixedCqes),
  }, () => {
    using ring = makeRing(8, { flags });
    assert.equal(ring.cqeShift(), name === "CQE32" ? 1 : 0);
    for (let i = 0; i < 40; i++) {
      const big = i % 3 === 0;
      nops(ring, 1, i, big);
      const cqe = ring.waitCqe();
      assert.deepEqual([cqe.userData, cqe.res], [i, 0]);
      assert.equal((cqe.flags & IORING_CQE_F_32) !== 0, big && name === "CQE_MIXED");
      if (big) assert.deepEqual(cqe.bigCqe, [BigInt(i + 1000), BigInt(i + 2000)]);
      ring.cqeSeen(cqe);
    }
    assert.equal(ring.cqReady(), 0);
  });

  test(`liburing nop32-overflow: ${name}: what overflows keeps its values`, {
    skip: firstReason(noNop32, noMixedCqes),
  }, () => {
    using ring = makeRing(8, { flags, cqEntries: 8 });
    for (let round = 0; round < 3; round++) {
      // The first is small, so that the big ones do not fit evenly: half of them overflow.
      nops(ring, 1, 1);
      nops(ring, 7, 2, true);
      if (name === "CQE_MIXED") assert.equal(ring.cqHasOverflow(), true);
      const seen: [number, readonly [bigint, bigint]][] = [];
      ring.forEachCqe((cqe) => seen.push([cqe.userData, cqe.bigCqe]));
      if (name === "CQE_MIXED") assert.deepEqual(seen.map(([userData]) => userData), [1, 2, 3, 4]);
      while (seen.length < 8) {
        const cqe = ring.waitCqe();
        seen.push([cqe.userData, cqe.bigCqe]);
        ring.cqeSeen(cqe);
      }
      assert.deepEqual(seen.map(([userData]) => userData), [1, 2, 3, 4, 5, 6, 7, 8]);
      for (const [userData, values] of seen.slice(1)) {
        assert.deepEqual(values, [BigInt(userData + 1000), BigInt(userData + 2000)]);
      }
      assert.equal(ring.cqHasOverflow(), false);
      assert.equal(ring.peekCqe(), null);
    }
  });
}

forEachKind(({ name, options, skip }) => {
  test(`liburing cq-size: ${name}: the completion queue has the size asked for`, { skip }, () => {
    using ring = makeRing(4, { ...options, cqEntries: 60 });
    assert.deepEqual([ring.sqEntries, ring.cqEntries], [4, 64]);
    for (let i = 0; i < 80; i++) assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
    assert.throws(() => makeRing(4, { ...options, cqEntries: 0 }), RangeError);
  });
});
