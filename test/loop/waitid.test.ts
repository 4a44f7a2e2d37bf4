/** Waiting for children. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import process from "node:process";
import {
  IORING_OP_WAITID,
  SIGCONT,
  SIGKILL,
  SIGSTOP,
  SIGTERM,
  WCONTINUED,
  WEXITED,
  WNOHANG,
  WNOWAIT,
  WSTOPPED,
} from "../../src/ffi/abi.ts";
import type { ChildTarget } from "../../src/mod.ts";
import { Child } from "../support/children.ts";
import { Fd } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, makeUring, URING_KINDS, within } from "../support/loop.ts";
import { failure, failures, flushed, Reason, refuses, rejectsWith } from "../support/operations.ts";
import { missingOp, missingRing } from "../support/rings.ts";

checkLeaks();

const noWaitid = missingOp(IORING_OP_WAITID);
const uid = process.getuid?.() ?? 0;

test("how a child ended: by itself, by a signal", { skip: noWaitid }, async () => {
  await using uring = makeUring();
  using fine = new Child("exit 0");
  using code = new Child("sleep 0.01; exit 42");
  using killed = new Child("exec sleep 60");
  using seven = new Child("exit 7");
  const of = (child: Child): Promise<unknown> => uring.waitid({ pid: child.pid });
  assert.deepEqual(await of(fine), { pid: fine.pid, uid, state: "exited", exitCode: 0, signal: null });
  assert.deepEqual(await of(seven), { pid: seven.pid, uid, state: "exited", exitCode: 7, signal: null });
  assert.deepEqual(await of(code), { pid: code.pid, uid, state: "exited", exitCode: 42, signal: null });
  const waiting = of(killed);
  await uring.nop();
  killed.kill(SIGTERM);
  assert.deepEqual(await waiting, { pid: killed.pid, uid, state: "killed", exitCode: null, signal: SIGTERM });
  for (const child of [fine, code, killed, seven]) assert.ok(child.gone);
});

test("stopped, going on, and asked for without waiting", { skip: noWaitid }, async () => {
  await using uring = makeUring();
  using child = new Child("exec sleep 60");
  const target = { pid: child.pid };
  assert.equal(await uring.waitid(target, { noHang: true }), null);
  assert.equal(await uring.waitid({ any: true }, { noHang: true }), null);
  const flags = WEXITED | WSTOPPED | WCONTINUED;
  const stopping = uring.waitid(target, { flags });
  await uring.nop();
  child.kill(SIGSTOP);
  const stopped = await stopping;
  assert.deepEqual([stopped.state, stopped.signal, stopped.exitCode], ["stopped", SIGSTOP, null]);
  child.kill(SIGCONT);
  const continued = await uring.waitid(target, { flags });
  assert.deepEqual([continued.state, continued.signal], ["continued", SIGCONT]);
  child.kill(SIGKILL);
  // With WNOWAIT it can be asked for again.
  for (const options of [{ flags: WEXITED | WNOWAIT }, { noHang: true as const }]) {
    const ended = await uring.waitid(target, options);
    assert.deepEqual([ended?.state, ended?.signal], ["killed", SIGKILL]);
  }
  await rejectsWith(uring.waitid(target), "ECHILD", "waitid");
});

test("a child that the runtime waits for: it stops, goes on, and ends", { skip: noWaitid }, async () => {
  await using uring = makeUring();
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  const ended = new Promise<unknown>((resolve) => child.on("exit", (_, signal) => resolve(signal)));
  const target = { pid: child.pid! };
  const stopping = uring.waitid(target, { flags: WSTOPPED });
  await uring.nop();
  process.kill(target.pid, "SIGSTOP");
  assert.equal((await within(stopping, "stopped")).state, "stopped");
  process.kill(target.pid, "SIGCONT");
  assert.equal((await within(uring.waitid(target, { flags: WCONTINUED }), "going on")).state, "continued");
  const waiting = uring.waitid(target, { flags: WEXITED | WNOWAIT }).then(
    ({ state }) => state,
    ({ code }) => code,
  );
  await uring.nop();
  process.kill(target.pid, "SIGTERM");
  assert.equal(await within(ended, "the runtime's child"), "SIGTERM");
  // Who is first is not said.
  assert.ok(["killed", "ECHILD"].includes(await within(waiting, "the end")));
});

test("by pidfd, by process group, and any", { skip: noWaitid }, async () => {
  await using uring = makeUring();
  using one = new Child("exit 1");
  using pidfd = new Fd(one.pidfd());
  assert.equal((await uring.waitid({ pidfd: pidfd.fd })).exitCode, 1);
  await rejectsWith(uring.waitid({ pidfd: pidfd.fd }), "ECHILD", "waitid");
  using two = new Child("exit 2");
  using three = new Child("exit 2");
  // Children are born into the group of who makes them; 0 means that one.
  const found = [await uring.waitid({ pgid: 0 }), await uring.waitid({ any: true })];
  assert.deepEqual(found.map(({ exitCode }) => exitCode), [2, 2]);
  assert.deepEqual(found.map(({ pid }) => pid).sort(), [two.pid, three.pid].sort());
});

test("what goes wrong is told as the system call tells it", { skip: noWaitid }, async () => {
  await using uring = makeUring();
  const error = await failure(uring.waitid({ pid: process.pid }));
  assert.equal(error.message, "ECHILD: no child processes, waitid");
  assert.equal(error.errno, -10);
  await rejectsWith(uring.waitid({ any: true }), "ECHILD", "waitid");
  await rejectsWith(uring.waitid({ pid: 0 }), "EINVAL", "waitid");
  await rejectsWith(uring.waitid({ pidfd: 1_000_000 }), "EBADF", "waitid");
  await rejectsWith(uring.waitid({ pid: 1 }, { flags: 0 }), "EINVAL", "waitid");
  for (const wrong of [null, 5, undefined] as unknown as ChildTarget[]) {
    await refuses(uring, TypeError, () => uring.waitid(wrong));
  }
  for (const pid of [0.5, NaN, 2 ** 31, "1", undefined] as number[]) {
    await refuses(uring, TypeError, () => uring.waitid({ pid }));
    await refuses(uring, TypeError, () => uring.waitid({ pidfd: pid }));
    await refuses(uring, TypeError, () => uring.waitid({ pgid: pid }));
  }
  await refuses(uring, TypeError, () => uring.waitid({} as ChildTarget));
  await refuses(uring, RangeError, () => uring.waitid({ any: true }, { flags: -1 }));
  await refuses(uring, RangeError, () => uring.waitid({ any: true }, { flags: WEXITED | WNOHANG }));
});

test(
  "ends by a signal, a time limit, the ring's end; memory collected meanwhile",
  { skip: noWaitid },
  async () => {
    const uring = makeUring();
    using child = new Child("exec sleep 60");
    const target = { pid: child.pid };
    const controller = new AbortController();
    const aborted = failure(uring.waitid(target, { signal: controller.signal }));
    await flushed(uring);
    const reason = new Reason();
    controller.abort(reason);
    assert.equal(await within(aborted, "aborted"), reason);
    const limited = await failure(uring.waitid(target, { timeout: 5 }));
    assert.deepEqual([limited.code, limited.syscall], ["ETIMEDOUT", "waitid"]);
    assert.equal(child.gone, false);
    const closed = failures([uring.waitid(target), uring.waitid({ any: true })]);
    await uring.nop();
    collect();
    await uring.disposeAsync();
    assert.deepEqual((await closed).map(({ code }) => code), ["ECANCELED", "ECANCELED"]);
    await using other = makeUring();
    const waiting = other.waitid(target);
    await other.timeout(1);
    collect();
    child.kill(SIGKILL);
    assert.equal((await within(waiting, "a child")).signal, SIGKILL);
  },
);

test("in a chain: what follows the end of a child", { skip: noWaitid }, async () => {
  await using uring = makeUring();
  using child = new Child("exec sleep 0.02");
  let done = false;
  const [status] = await uring.link((l) => [
    l.waitid({ pid: child.pid }),
    l.nop().then(() => {
      done = true;
    }),
  ]);
  assert.equal(status.pid, child.pid);
  assert.ok(done);
  const settled = await uring.linkSettled((l) => [l.waitid({ pid: child.pid }), l.nop()]);
  assert.deepEqual(
    settled.map((step) => step.status === "rejected" && step.reason.code),
    ["ECHILD", "ECANCELED"],
  );
});

for (const [name, options] of Object.entries(URING_KINDS)) {
  const noRing = options.flags === undefined ? false : missingRing({ flags: options.flags });
  test(
    `${name}: several children, each with its own end`,
    { skip: firstReason(noRing, noWaitid) },
    async () => {
      await using uring = makeUring(options);
      const children = Array.from({ length: 4 }, (_, i) => new Child(`exit ${i}`));
      const ends = await within(Promise.all(children.map(({ pid }) => uring.waitid({ pid }))), "children");
      assert.deepEqual(ends.map(({ exitCode }) => exitCode), [0, 1, 2, 3]);
      assert.deepEqual(ends.map(({ pid }) => pid), children.map(({ pid }) => pid));
    },
  );
}
