/** Futexes: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { futex_waitv } from "../../src/ffi/structs.ts";
import {
  FUTEX2_PRIVATE,
  FUTEX2_SIZE_U32,
  FUTEX_BITSET_MATCH_ANY,
  IORING_OP_FUTEX_WAIT,
  IORING_OP_FUTEX_WAITV,
  IORING_OP_FUTEX_WAKE,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  O_RDWR,
  POLLIN,
  type Ring,
} from "../../src/ring/mod.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { put } from "../support/operations.ts";
import { fixture, run } from "../support/program.ts";
import {
  assertEntry,
  assertQuiet,
  type Block,
  block,
  entry,
  forEachKind,
  makeRing,
  missingOp,
  missingRing,
  once,
  reap,
  reapResults,
} from "../support/rings.ts";

checkLeaks();

const EFAULT = -14;
const EINVAL = -22;
const ENOENT = -2;
const EALREADY = -114;
const ECANCELED = -125;
const EAGAIN = -11;

const U32 = FUTEX2_SIZE_U32;
const noFutex = missingOp(IORING_OP_FUTEX_WAIT);

/** A `struct futex_waitv` for each of these words. */
function waitv(words: Block, count: number, flags: number = U32): number {
  const { address, view } = block(count * futex_waitv.size);
  for (let i = 0; i < count; i++) {
    view.setBigUint64(i * futex_waitv.size + futex_waitv.uaddr, BigInt(words.address + 4 * i), true);
    view.setUint32(i * futex_waitv.size + futex_waitv.flags, flags, true);
  }
  return address;
}

/** Queues a wait for words that hold 0. */
function wait(ring: Ring, userData: number, words: Block, vectored: boolean, async = false): void {
  entry(ring, userData, (sqe) => {
    if (vectored) sqe.prepFutexWaitv(waitv(words, words.bytes.length / 4), words.bytes.length / 4, 0);
    else sqe.prepFutexWait(words.address, 0, FUTEX_BITSET_MATCH_ANY, U32, 0);
    if (async) sqe.flags |= IOSQE_ASYNC;
  });
}

function wake(ring: Ring, userData: number, address: number, count: number, async = false): void {
  entry(ring, userData, (sqe) => {
    sqe.prepFutexWake(address, count, FUTEX_BITSET_MATCH_ANY, U32, 0);
    if (async) sqe.flags |= IOSQE_ASYNC;
  });
}

for (const vectored of [false, true]) {
  const how = vectored ? "of several words" : "of one word";
  forEachKind(({ name, options, skip: noRing }) => {
    const skip = noRing || noFutex;

    test(`liburing futex: ${name}: ${how}: wakes and a cancellation at once`, { skip }, () => {
      using ring = makeRing(8, options);
      using waker = makeRing(8, options);
      for (let i = 0; i < 24; i++) {
        const words = block(vectored ? 32 : 4);
        wait(ring, 1, words, vectored, i % 3 === 0);
        ring.submit();
        const count = words.bytes.length / 4;
        for (let word = 0; word < count; word++) {
          words.view.setUint32(4 * word, 1, true);
          wake(waker, 3, words.address + 4 * word, 1);
        }
        waker.submit();
        entry(ring, 2, (sqe) => {
          sqe.prepCancel64(1, 0);
          if (i % 2 === 0) sqe.flags |= IOSQE_ASYNC;
        });
        const results = reapResults(ring, 2);
        const [waited, cancelled] = [results.get(1)!, results.get(2)!];
        // Whoever comes first: it was woken (or had nothing to wait for any more), or cancelled, and once only.
        if (cancelled >= 0) assert.equal(waited, ECANCELED);
        else {
          assert.ok([ENOENT, EALREADY].includes(cancelled), `${cancelled}`);
          assert.ok(waited >= 0 || waited === EAGAIN || waited === ECANCELED, `${waited}`);
        }
        const woken = reap(waker, count).reduce((sum, { res }) => sum + res, 0);
        assert.ok(
          woken === (waited >= 0 ? 1 : 0) || vectored && woken >= 1,
          `${woken} were woken: ${waited}`,
        );
        assertQuiet(ring);
      }
    });

    test(`liburing futex: ${name}: ${how}: who waits first is woken first`, { skip }, () => {
      for (const async of [false, true]) {
        using ring = makeRing(8, options);
        const words = block(4);
        wait(ring, 1, words, vectored);
        wait(ring, 2, words, vectored);
        ring.submit();
        if (name === "SQPOLL") { while (ring.sqReady() > 0); }
        words.view.setUint32(0, 1, true);
        wake(ring, 100, words.address, 1, async);
        assert.deepEqual(reapResults(ring, 2), new Map([[1, 0], [100, 1]].sort() as [number, number][]));
        assertQuiet(ring);
        ring.registerSyncCancel({ userData: 2 });
        assert.deepEqual(reap(ring, 1).map(({ userData, res }) => [userData, res]), [[2, ECANCELED]]);
      }
    });

    test(`liburing futex: ${name}: ${how}: one wake for two`, { skip }, () => {
      using ring = makeRing(8, options);
      const words = block(4);
      wait(ring, 1, words, vectored);
      wait(ring, 2, words, vectored);
      ring.submit();
      if (name === "SQPOLL") { while (ring.sqReady() > 0); }
      words.view.setUint32(0, 1, true);
      wake(ring, 100, words.address, 2);
      const results = reapResults(ring, 3);
      assert.deepEqual([results.get(1), results.get(2), results.get(100)], [0, 0, 2]);
      assertQuiet(ring);
    });
  });
}

forEachKind(({ name, options, skip: noRing }) => {
  const skip = noRing || noFutex;

  test(`liburing futex: ${name}: waking nobody wakes nobody`, { skip }, () => {
    using ring = makeRing(8, options);
    const words = block(4);
    wait(ring, 1, words, false);
    ring.submit();
    const sqe = entry(
      ring,
      2,
      (sqe) => sqe.prepFutexWake(words.address, 0, FUTEX_BITSET_MATCH_ANY, U32, 0),
    );
    assertEntry(sqe, {
      opcode: IORING_OP_FUTEX_WAKE,
      fd: U32,
      addr: BigInt(words.address),
      addr3: 0xffff_ffffn,
    });
    assert.deepEqual(reap(ring, 1).map(({ userData, res }) => [userData, res]), [[2, 0]]);
    assertQuiet(ring);
    ring.registerSyncCancel({ userData: 1 });
    assert.equal(reap(ring, 1)[0]!.res, ECANCELED);
  });

  test(`liburing futex: ${name}: flags that there are not`, { skip }, () => {
    using ring = makeRing(8, options);
    const words = block(4);
    const any = FUTEX_BITSET_MATCH_ANY;
    const { address } = words;
    assert.equal(once(ring, (sqe) => sqe.prepFutexWait(address, 0, any, 0x1000, 0)).res, EINVAL);
    assert.equal(once(ring, (sqe) => sqe.prepFutexWake(address, 0, any, 0x1000, 0)).res, EINVAL);
    const vector = waitv(words, 1, U32 | 0x1000);
    assert.equal(once(ring, (sqe) => sqe.prepFutexWaitv(vector, 1, 0)).res, EINVAL);
    const sqe = entry(ring, 1, (sqe) => sqe.prepFutexWaitv(vector, 129, 0));
    assertEntry(sqe, { opcode: IORING_OP_FUTEX_WAITV, addr: BigInt(vector), len: 129 });
    assert.equal(reap(ring, 1)[0]!.res, EINVAL);
  });

  test(`liburing fifo-futex-poll: ${name}: a failed wait, then a poll of a FIFO`, { skip }, () => {
    using dir = new TempDir();
    assert.equal(spawnSync("mkfifo", [dir.of("fifo")]).status, 0);
    using fifo = Fd.open(dir.of("fifo"), O_RDWR);
    using ring = makeRing(64, options);
    const sqe = entry(ring, 1, (sqe) => sqe.prepFutexWait(0, 0, FUTEX_BITSET_MATCH_ANY, U32, 0));
    assertEntry(sqe, { opcode: IORING_OP_FUTEX_WAIT, fd: U32, addr3: 0xffff_ffffn });
    assert.equal(reap(ring, 1)[0]!.res, EFAULT);
    ring.registerFiles([fifo.fd]);
    entry(ring, 2, (sqe) => {
      sqe.prepPollAdd(0, POLLIN);
      sqe.flags |= IOSQE_FIXED_FILE;
    });
    ring.submit();
    put(fifo.fd, "FIFO test\n");
    assert.deepEqual(reap(ring, 1).map(({ userData, res }) => [userData, res & POLLIN]), [[2, POLLIN]]);
  });
});

// In processes of their own, which are killed.
for (const flags of [0, IORING_SETUP_SQPOLL]) {
  const skip = noFutex || missingRing({ flags });
  const kind = flags === 0 ? "default" : "SQPOLL";
  test(`liburing futex-kill: ${kind}: a process that waits can be killed`, { skip }, async () => {
    for (const how of ["wait", "waitv"]) {
      for (const async of ["inline", "async"]) {
        const args = [`${flags}`, how, async, `${U32 | FUTEX2_PRIVATE}`];
        const { signal, stdout } = await run(fixture("futex_killed.ts"), args);
        assert.deepEqual([signal, stdout], ["SIGKILL", "waiting\n"], args.join(" "));
      }
    }
  });
}
