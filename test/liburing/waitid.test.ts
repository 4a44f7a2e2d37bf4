/** Waiting for children: what liburing's program of this name checks. */
import assert from "node:assert/strict";
import { siginfo_t } from "../../src/ffi/structs.ts";
import {
  CLD_EXITED,
  IORING_OP_WAITID,
  IOSQE_ASYNC,
  IOSQE_IO_LINK,
  P_ALL,
  P_PID,
  type Ring,
  WEXITED,
} from "../../src/ring/mod.ts";
import { Child } from "../support/children.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import {
  assertEntry,
  type Block,
  block,
  entry,
  eventually,
  forEachKind,
  makeRing,
  missingOp,
  once,
  reap,
  reapResults,
  sleep,
  timespec,
} from "../support/rings.ts";

checkLeaks();

const ENOENT = -2;
const EFAULT = -14;
const EALREADY = -114;
const ECANCELED = -125;

const noWaitid = missingOp(IORING_OP_WAITID);

/** Waits for one child to end. */
function waitFor(ring: Ring, child: Child, info: Block): number {
  return once(ring, (sqe) => sqe.prepWaitid(P_PID, child.pid, info.address, WEXITED, 0)).res;
}

function pidOf(info: Block): number {
  return info.view.getInt32(siginfo_t.si_pid, true);
}

forEachKind(({ name, options, skip: noRing }) => {
  const skip = noRing || noWaitid;

  test(`liburing waitid: ${name}: a child that ends, or has ended, or is not the first to`, { skip }, () => {
    using ring = makeRing(8, options);
    const info = block(siginfo_t.size);
    using child = new Child("exec sleep 0.02");
    const sqe = entry(ring, 1, (sqe) => sqe.prepWaitid(P_PID, child.pid, info.address, WEXITED, 0));
    assertEntry(sqe, {
      opcode: IORING_OP_WAITID,
      fd: child.pid,
      off: BigInt(info.address),
      len: P_PID,
      fileIndex: WEXITED,
    });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.equal(pidOf(info), child.pid);
    assert.equal(info.view.getInt32(siginfo_t.si_code, true), CLD_EXITED);
    assert.ok(child.gone, "it was waited for");
    using ready = new Child("exit 3");
    sleep(20);
    assert.equal(waitFor(ring, ready, info), 0);
    assert.equal(pidOf(info), ready.pid);
    assert.equal(info.view.getInt32(siginfo_t.si_status, true), 3);
    using first = new Child("exec sleep 0.01");
    using second = new Child("exec sleep 0.03");
    assert.equal(waitFor(ring, second, info), 0);
    assert.equal(pidOf(info), second.pid);
    assert.equal(first.gone, false);
  });

  test(
    `liburing waitid: ${name}: a time limit, a cancellation, and no place for the answer`,
    { skip },
    () => {
      using ring = makeRing(8, options);
      using child = new Child("exec sleep 60");
      const info = block(siginfo_t.size);
      entry(ring, 1, (sqe) => {
        sqe.prepWaitid(P_PID, child.pid, info.address, WEXITED, 0);
        sqe.flags |= IOSQE_IO_LINK;
      });
      const span = timespec(20);
      entry(ring, 2, (sqe) => sqe.prepLinkTimeout(span, 0));
      // The limit tells how many waits it has ended.
      assert.deepEqual(sorted(reapResults(ring, 2)), [[1, ECANCELED], [2, 1]]);
      entry(ring, 1, (sqe) => sqe.prepWaitid(P_PID, child.pid, 0, WEXITED, 0));
      ring.submit();
      entry(ring, 2, (sqe) => sqe.prepCancel64(1, 0));
      assert.deepEqual(sorted(reapResults(ring, 2)), [[1, ECANCELED], [2, 1]]);
      entry(ring, 1, (sqe) => sqe.prepWaitid(P_PID, child.pid, 0x1234, WEXITED, 0));
      ring.submit();
      child.kill(9);
      assert.equal(reap(ring, 1)[0]!.res, EFAULT);
    },
  );

  test(`liburing waitid: ${name}: children that end while the wait is cancelled`, { skip }, () => {
    using ring = makeRing(8, options);
    for (let round = 0; round < 4; round++) {
      const children = Array.from({ length: 3 }, () => new Child("exit 0"));
      entry(ring, 1, (sqe) => {
        sqe.prepWaitid(P_ALL, -1, 0, WEXITED, 0);
        if (round % 2 === 1) sqe.flags |= IOSQE_ASYNC;
      });
      ring.submit();
      sleep(round);
      entry(ring, 2, (sqe) => sqe.prepCancel64(1, 0));
      const results = reapResults(ring, 2);
      const [waited, cancelled] = [results.get(1)!, results.get(2)!];
      assert.ok([0, ECANCELED].includes(waited), `${waited}`);
      assert.ok([0, 1, ENOENT, EALREADY].includes(cancelled), `${cancelled}`);
      let gone = waited === 0 ? 1 : 0;
      eventually(() => {
        while (gone < children.length && libc().waitpid(-1, null, 1) > 0) gone++;
        return gone === children.length;
      }, "every child was waited for once");
      assert.ok(children.every((child) => child.gone));
    }
  });
});

function sorted(results: Map<number, number>): [number, number][] {
  return [...results].sort(([a], [b]) => a - b);
}
