/** Cancelling what the kernel does not find at once: it ends all the same. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { O_WRONLY } from "../../src/ffi/abi.ts";
import { Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { FLAGS, makeUring, sleep, SocketPair, within } from "../support/loop.ts";

checkLeaks();

const reason = new Error("on purpose");

test("a step of a chain is aborted while an earlier one runs", async () => {
  using pipe = new Pipe();
  await using uring = makeUring();
  for (const hard of [false, true]) {
    const controller = new AbortController();
    const chain = uring.linkSettled((l) => [
      hard ? l.timeout(30) : l.poll(pipe.reader.fd, 1, { timeout: 30 }),
      l.read(pipe.reader.fd, new Uint8Array(10), { signal: controller.signal }),
    ], { hard });
    setTimeout(() => controller.abort(reason), 5);
    const [, read] = await within(chain, "the chain");
    assert.equal((read as PromiseRejectedResult).reason, reason);
  }
});

test("what a drain holds back is aborted, and so is the drain itself", async () => {
  using pipe = new Pipe();
  await using uring = makeUring();
  const controller = new AbortController();
  const { signal } = controller;
  const first = uring.timeout(50);
  const drained = uring.read(pipe.reader.fd, new Uint8Array(10), { drain: true, signal });
  const behind = uring.read(pipe.reader.fd, new Uint8Array(10), { signal });
  setTimeout(() => controller.abort(reason), 5);
  const results = await within(Promise.allSettled([first, drained, behind]), "the operations");
  assert.equal(results[0].status, "fulfilled");
  for (const result of results.slice(1)) assert.equal((result as PromiseRejectedResult).reason, reason);
});

for (const { name, flags, skip } of FLAGS) {
  test(
    `${name}: reads that a worker thread is handing over are ended by signals and time limits`,
    { skip },
    async () => {
      using pair = new SocketPair();
      using pipe = new Pipe();
      await using uring = makeUring({ flags });
      for (let i = 0; i < 40; i++) {
        const controller = new AbortController();
        const reads: Promise<unknown>[] = [];
        for (let k = 0; k < 25; k++) {
          const { signal } = controller;
          const buffer = new Uint8Array(10);
          reads.push(uring.read(pipe.reader.fd, buffer, { async: true, signal }));
          reads.push(uring.recv(pair.a.fd, buffer, { async: true, timeout: Math.random() }));
        }
        const settled = Promise.allSettled(reads);
        if (i % 3 === 0) await Promise.resolve();
        else if (i % 3 === 1) await new Promise((resolve) => setImmediate(resolve));
        else await sleep(0);
        controller.abort(reason);
        const results = await within(settled, "the reads");
        results.forEach((result, k) => {
          const error = (result as PromiseRejectedResult).reason;
          // A worker thread does not wait on a descriptor with O_NONBLOCK when it cannot be polled.
          if (error.code === "EAGAIN") return;
          if (k % 2 === 0) assert.equal(error, reason);
          else assert.equal(error.code, "ETIMEDOUT");
        });
      }
    },
  );
}

test("opening a FIFO that nobody reads is aborted, and ends when the ring is closed", async () => {
  using dir = new TempDir();
  const path = dir.of("fifo");
  assert.equal(spawnSync("mkfifo", [path]).status, 0);
  const uring = makeUring();
  for (let i = 0; i < 5; i++) {
    const controller = new AbortController();
    const opening = uring.openat(path, { flags: O_WRONLY, async: true, signal: controller.signal });
    if (i > 0) await sleep(5 * i);
    controller.abort(reason);
    await assert.rejects(within(opening, "opening"), reason);
  }
  const opening = uring.openat(path, { flags: O_WRONLY, async: true });
  opening.catch(() => {});
  await sleep(10);
  await within(uring.disposeAsync(), "closing");
  await assert.rejects(opening, ({ code }) => code === "ECANCELED" || code === "EINTR");
});
