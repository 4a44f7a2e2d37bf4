/** Multishot polls and timeouts, and what all iterations have in common. */
import assert from "node:assert/strict";
import { POLLHUP, POLLIN } from "../../src/ffi/abi.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { EventFd } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, SocketPair, until, within } from "../support/loop.ts";
import { failure, put, rejectsWith } from "../support/operations.ts";
import { sleep } from "../support/rings.ts";

checkLeaks();

const noPoll = kernelHas("5.13") ? false : "needs Linux 5.13";
const noTimeout = kernelHas("6.4") ? false : "needs Linux 6.4";

const ONE = new Uint8Array(8).fill(1, 0, 1);

test("poll: an event each time something happens", { skip: noPoll }, async () => {
  await using uring = makeUring();
  using event = new EventFd();
  const polling = uring.pollMultishot(event.fd, POLLIN);
  for (let i = 0; i < 20; i++) {
    const next = polling.next();
    put(event.fd, ONE);
    assert.deepEqual(await within(next, "an event"), { done: false, value: POLLIN });
    assert.equal(event.take(), 1);
  }
  await polling.return();
  put(event.fd, ONE);
  assert.deepEqual(await polling.next(), { done: true, value: undefined });
  await until(() => uring.stats.inFlight === 0, "the request to cancel has ended, too");
});

test("poll: what is there already; events that nobody takes wait; hanging up", { skip: noPoll }, async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  put(pair.b.fd, "x");
  const polling = uring.pollMultishot(pair.a.fd, POLLIN);
  assert.equal((await within(polling.next(), "what is there")).value, POLLIN);
  for (let i = 0; i < 3; i++) {
    put(pair.b.fd, "y");
    await uring.nop();
  }
  assert.equal((await polling.next()).value, POLLIN);
  pair.b.close();
  let events = 0;
  while ((events & POLLHUP) === 0) events = (await within(polling.next(), "hanging up")).value!;
  await polling.return();
});

test("poll: on a direct descriptor, a bad one, with a signal", { skip: noPoll }, async () => {
  await using uring = makeUring();
  const direct = await uring.socket(1, 1, 0, { direct: true });
  // A socket that is not connected hangs up at once.
  assert.equal((await uring.pollMultishot(direct, POLLIN).next()).value! & POLLHUP, POLLHUP);
  await uring.close(direct);
  await rejectsWith(uring.pollMultishot(1_000_000, POLLIN).next(), "EBADF", "poll");
  using event = new EventFd();
  const controller = new AbortController();
  const waiting = uring.pollMultishot(event.fd, POLLIN, { signal: controller.signal }).next();
  const failed = failure(waiting);
  await uring.nop();
  controller.abort("reason");
  assert.equal(await failed, "reason");
});

test("timeout: counts to its count", { skip: noTimeout }, async () => {
  await using uring = makeUring();
  for (const count of [1, 2, 7]) {
    const start = performance.now();
    const ticks = await within(Array.fromAsync(uring.timeoutMultishot(3, { count })), "ticks");
    assert.deepEqual(ticks, Array.from({ length: count }, (_, i) => i + 1));
    assert.ok(performance.now() - start >= 3 * count - 1);
  }
  assert.equal(uring.stats.inFlight, 0);
});

test("timeout: for ever, until break", { skip: noTimeout }, async () => {
  await using uring = makeUring();
  let last = 0;
  for await (const tick of uring.timeoutMultishot(0.5)) {
    assert.equal(tick, ++last);
    if (tick === 25) break;
  }
  await until(() => uring.stats.inFlight === 0, "the request to cancel has ended, too");
});

test("timeout: ticks that nobody takes wait", { skip: noTimeout }, async () => {
  await using uring = makeUring();
  const ticking = uring.timeoutMultishot(1, { count: 10 });
  assert.equal((await ticking.next()).value, 1);
  await uring.timeout(30);
  assert.deepEqual(await within(Array.fromAsync(ticking), "the rest"), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

test("timeout: a queue of completions that overflows loses no tick", { skip: noTimeout }, async () => {
  await using uring = makeUring({ entries: 2, cqEntries: 2 });
  const { promise, resolve } = Promise.withResolvers<void>();
  const ticking = uring.timeoutMultishot(0.5, { count: 40 });
  const first = ticking.next();
  // Meanwhile nobody looks at the queue.
  setTimeout(() => {
    const end = performance.now() + 20;
    while (performance.now() < end);
    resolve();
  }, 1);
  await promise;
  assert.equal((await first).value, 1);
  assert.equal((await within(Array.fromAsync(ticking), "the rest")).at(-1), 40);
});

test("timeout: a limit of the whole iteration, and a signal", { skip: noTimeout }, async () => {
  await using uring = makeUring();
  let ticks = 0;
  await rejectsWith(
    (async () => {
      for await (const tick of uring.timeoutMultishot(1, { timeout: 25 })) ticks = tick;
    })(),
    "ETIMEDOUT",
    "timeout",
  );
  assert.ok(ticks > 0);
  const controller = new AbortController();
  const reason = failure((async () => {
    for await (const tick of uring.timeoutMultishot(1, { signal: controller.signal })) {
      if (tick === 3) controller.abort("reason");
    }
  })());
  assert.equal(await reason, "reason");
  for (const count of [-1, 1.5, 2 ** 32]) {
    assert.throws(() => uring.timeoutMultishot(1, { count }), RangeError);
  }
});

test("return while next waits, return twice, and next after the end", { skip: noTimeout }, async () => {
  await using uring = makeUring();
  const ticking = uring.timeoutMultishot(1e9);
  const waiting = [ticking.next(), ticking.next()];
  await uring.nop();
  const done = { done: true, value: undefined };
  assert.deepEqual(await within(Promise.all([ticking.return(), ticking.return()]), "return"), [done, done]);
  for (const next of waiting) assert.deepEqual(await next, done);
  assert.deepEqual(await ticking.next(), done);
  assert.deepEqual(await ticking.return(), done);
  assert.equal(ticking[Symbol.asyncIterator](), ticking);
});

test("return in the turn in which it was armed", { skip: noTimeout }, async () => {
  await using uring = makeUring();
  for (let i = 0; i < 100; i++) {
    const ticking = uring.timeoutMultishot(1e9);
    const next = ticking.next();
    await within(ticking.return(), "return");
    assert.equal((await next).done, true);
  }
  await until(() => uring.stats.inFlight === 0, "the requests to cancel have ended, too");
});

test("an error thrown by the consumer ends the iteration", { skip: noTimeout }, async () => {
  await using uring = makeUring();
  await assert.rejects(async () => {
    for await (const _ of uring.timeoutMultishot(1)) throw new SyntaxError("mine");
  }, SyntaxError);
  await until(() => uring.stats.inFlight === 0, "the request to cancel has ended, too");
  {
    await using ticking = uring.timeoutMultishot(1);
    await ticking.next();
  }
  await until(() => uring.stats.inFlight === 0, "the request to cancel has ended, too");
});

test("a hundred iterations at once on a ring of four", { skip: noTimeout }, async () => {
  await using uring = makeUring({ entries: 4 });
  const all = await within(
    Promise.all(Array.from({ length: 100 }, () => Array.fromAsync(uring.timeoutMultishot(1, { count: 3 })))),
    "all ticks",
  );
  for (const ticks of all) assert.deepEqual(ticks, [1, 2, 3]);
});

// Closing tries for ten seconds; without asking again at once, many of these rings need them.
test(
  "a tick that is just being delivered holds nothing up: closing, return, a signal",
  { skip: noTimeout, timeout: 60_000 },
  async () => {
    for (let i = 0; i < 30; i++) {
      await using uring = makeUring();
      const controller = new AbortController();
      const ticking = uring.timeoutMultishot(0.2);
      const signalled = uring.timeoutMultishot(0.2, { signal: controller.signal });
      const left = uring.timeoutMultishot(0.2);
      await Promise.all([ticking.next(), signalled.next(), left.next()]);
      // By now the next ticks are there, and the kernel has not delivered them yet.
      sleep(1);
      const [next] = await Promise.all([
        failure((async () => {
          for await (const _ of signalled) controller.abort("reason");
        })()),
        within(ticking.return(), "return"),
      ]);
      assert.equal(next as unknown, "reason");
    }
  },
);

test("closing the ring while iterating ends the loop", { skip: noTimeout }, async () => {
  const uring = makeUring();
  using event = new EventFd();
  const loops = [
    (async () => {
      for await (const _ of uring.timeoutMultishot(1));
    })(),
    (async () => {
      for await (const _ of uring.pollMultishot(event.fd, POLLIN));
    })(),
  ];
  const ended = Promise.all(loops.map((loop) => failure(loop, "a loop")));
  await uring.timeout(5);
  await within(uring.disposeAsync(), "closing");
  assert.deepEqual((await ended).map(({ code, syscall }) => `${code} ${syscall}`), [
    "ECANCELED timeout",
    "ECANCELED poll",
  ]);
});
