/** Twins of liburing's programs in which several threads work on one ring. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import {
  IORING_ENTER_GETEVENTS,
  IORING_SETUP_R_DISABLED,
  O_RDWR,
  O_WRONLY,
  POLLIN,
} from "../../src/ring/mod.ts";
import { EventFd, Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { until } from "../support/loop.ts";
import { block, entry, makeRing, reap } from "../support/rings.ts";
import { EnterThread, publish, threadEnds } from "../support/threads.ts";

checkLeaks();

const ECANCELED = -125;

const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

for (const what of ["pipe", "eventfd"]) {
  test(`liburing wakeup-hang: a thread that waits for a poll of ${what} is woken`, async () => {
    using ring = makeRing(8);
    using pipe = new Pipe();
    using eventfd = new EventFd();
    entry(ring, 2, (sqe) => sqe.prepPollAdd(what === "pipe" ? pipe.reader.fd : eventfd.fd, POLLIN));
    assert.equal(ring.submit(), 1);
    const thread = await EnterThread.start();
    try {
      const woken = thread.enter({ fd: ring.fd, toSubmit: 0, minComplete: 1, flags: IORING_ENTER_GETEVENTS });
      await sleep(50);
      if (what === "pipe") pipe.write("x");
      else eventfd.signal();
      assert.equal(await woken, 0);
      assert.deepEqual(reap(ring, 1), [{ userData: 2, res: POLLIN, flags: 0 }]);
    } finally {
      await thread.end();
    }
  });
}

test("liburing timeout-new: one completion ends the waits of two threads", async () => {
  using ring = makeRing(8);
  const threads = await Promise.all([EnterThread.start(), EnterThread.start()]);
  try {
    const waits = threads.map((thread) =>
      thread.enter({
        fd: ring.fd,
        toSubmit: 0,
        minComplete: 1,
        flags: IORING_ENTER_GETEVENTS,
        timeout: 60_000,
      })
    );
    await sleep(50);
    entry(ring, 1, (sqe) => sqe.prepNop());
    assert.equal(ring.submit(), 1);
    assert.deepEqual(await Promise.all(waits), [0, 0]);
    assert.deepEqual(reap(ring, 1), [{ userData: 1, res: 0, flags: 0 }]);
  } finally {
    await Promise.all(threads.map((thread) => thread.end()));
  }
});

test("liburing thread-exit: writes of threads that have ended are done all the same", async () => {
  const THREADS = 4;
  const SIZE = 512;
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  using file = Fd.open(dir.of("file"), O_WRONLY);
  using pipe = new Pipe();
  using ring = makeRing(32, { flags: IORING_SETUP_R_DISABLED });
  for (let i = 0; i < THREADS; i++) {
    const data = block(SIZE);
    data.bytes.fill(0x5a + i);
    entry(ring, i, (sqe) => sqe.prepWrite(file.fd, data.address, SIZE, i * SIZE));
    entry(ring, 100 + i, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
  }
  publish(ring);
  for (let i = 0; i < THREADS; i++) {
    const thread = await EnterThread.start();
    assert.equal(await thread.enter({ fd: ring.fd, toSubmit: 2, minComplete: 0, flags: 0 }), 2);
    await thread.end();
  }
  const take = (count: number): number[][] =>
    Array.from({ length: count }, () => {
      const cqe = ring.waitCqeTimeout({ sec: 10, nsec: 0 })!;
      const found = [cqe.userData, cqe.res];
      ring.cqeSeen(cqe);
      return found;
    }).sort(([a], [b]) => a! - b!);
  assert.deepEqual(take(THREADS), Array.from({ length: THREADS }, (_, i) => [i, SIZE]));
  const content = readFileSync(dir.of("file"));
  assert.equal(content.length, THREADS * SIZE);
  assert.ok(content.every((byte, at) => byte === 0x5a + Math.floor(at / SIZE)));
  // Nobody is left to go on with the polls when their turn comes.
  pipe.write("x");
  assert.deepEqual(take(THREADS), Array.from({ length: THREADS }, (_, i) => [100 + i, ECANCELED]));
});

/** The kernel's worker threads that work for one thread. */
function workersOf(thread: number): number {
  return readdirSync("/proc/self/task").filter((task) => {
    try {
      return readFileSync(`/proc/self/task/${task}/comm`, "utf8").trim() === `iou-wrk-${thread}`;
    } catch {
      return false;
    }
  }).length;
}

test("liburing io-wq-exit: a thread that has used worker threads ends, and they with it", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("from"), "a".repeat(20));
  writeFileSync(dir.of("to"), "b".repeat(10));
  const worker = new Worker(new URL("../fixtures/splice_worker.ts", import.meta.url), { type: "module" });
  const next = (): Promise<unknown> =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }): void => resolve(data);
      worker.onerror = (event): void => reject(new Error(event.message));
    });
  const thread = await next() as number;
  worker.postMessage({ from: dir.of("from"), to: dir.of("to"), length: 20, offset: 10 });
  assert.deepEqual(await next(), [20, 20]);
  worker.terminate();
  await threadEnds(thread);
  await until(() => workersOf(thread) === 0, "its worker threads have ended");
  assert.equal(readFileSync(dir.of("to"), "utf8"), "b".repeat(10) + "a".repeat(20));
});

test("liburing io-wq-unused-exit: worker threads end when no ring needs them any more", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("from"), "x".repeat(32));
  writeFileSync(dir.of("to"), "");
  using from = Fd.open(dir.of("from"), O_RDWR);
  using to = Fd.open(dir.of("to"), O_RDWR);
  using pipe = new Pipe();
  const thread = Number(readlinkSync("/proc/thread-self").split("/").at(-1));
  {
    using ring = makeRing(4);
    entry(ring, 1, (sqe) => sqe.prepSplice(from.fd, 0, pipe.writer.fd, -1, 32, 0));
    assert.deepEqual(reap(ring, 1), [{ userData: 1, res: 32, flags: 0 }]);
    entry(ring, 2, (sqe) => sqe.prepSplice(pipe.reader.fd, -1, to.fd, 0, 32, 0));
    assert.deepEqual(reap(ring, 1), [{ userData: 2, res: 32, flags: 0 }]);
    assert.ok(workersOf(thread) > 0);
  }
  await until(() => workersOf(thread) === 0, "the worker threads have ended");
  assert.equal(readFileSync(dir.of("to"), "utf8"), "x".repeat(32));
});
