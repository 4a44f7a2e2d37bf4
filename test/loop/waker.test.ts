/** The waker: whatever the interleaving, nothing sleeps through its completion, and nothing wakes for nothing. */
import assert from "node:assert/strict";
import type { Uring } from "../../src/mod.ts";
import { Pipe } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { FLAGS, makeUring, sleep, within } from "../support/loop.ts";
import { fixture, output } from "../support/program.ts";

checkLeaks();

/** Timeouts around the moment when the waker goes from spinning to sleeping. */
async function manySpans(uring: Uring, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const span = 0.01 + Math.random() * (i % 10 === 0 ? 5 : 0.5);
    await within(uring.timeout(span), `timeout ${i} of ${span} ms`);
  }
}

for (const { name, flags, skip } of FLAGS) {
  test(`${name}: short timeouts one after the other`, { skip }, async () => {
    await using uring = makeUring({ entries: 16, flags });
    await manySpans(uring, 500);
    assert.equal(uring.stats.inFlight, 0);
  });

  test(`${name}: an operation is woken for out of sleep`, { skip }, async () => {
    await using uring = makeUring({ entries: 16, flags });
    using pipe = new Pipe();
    const buffer = new Uint8Array(5);
    for (let i = 0; i < 5; i++) {
      const read = uring.read(pipe.reader.fd, buffer);
      await sleep(30);
      const { wakeUps } = uring.stats;
      pipe.write("awake");
      assert.equal(await within(read, "a read from a pipe"), 5);
      assert.ok(uring.stats.wakeUps > wakeUps);
      assert.equal(new TextDecoder().decode(buffer), "awake");
    }
  });

  test(`${name}: nothing wakes up while an operation is pending`, { skip }, async () => {
    await using uring = makeUring({ entries: 16, flags });
    using pipe = new Pipe();
    const read = uring.read(pipe.reader.fd, new Uint8Array(8));
    const timeout = uring.timeout(60_000, { signal: AbortSignal.timeout(2000) });
    await sleep(200);
    const before = uring.stats;
    await sleep(1000);
    const { enters, wakeUps } = uring.stats;
    assert.deepEqual({ enters, wakeUps }, { enters: before.enters, wakeUps: before.wakeUps });
    pipe.write("x");
    assert.equal(await within(read, "the read"), 1);
    await assert.rejects(within(timeout, "the timeout"), { name: "TimeoutError" });
  });
}

test("two rings share the waker", async () => {
  await using a = makeUring({ entries: 8 });
  await using b = makeUring({ entries: 8 });
  await Promise.all([manySpans(a, 300), manySpans(b, 300)]);
});

test("ten rings of all kinds share the waker", async () => {
  const rings = Array.from({ length: 10 }, (_, i) => {
    const usable = FLAGS.filter(({ skip }) => skip === false);
    return makeUring({ entries: 8, flags: usable[i % usable.length]!.flags });
  });
  await Promise.all(rings.map((ring) => manySpans(ring, 100)));
  await Promise.all(rings.map((ring) => ring.disposeAsync()));
});

test("rings come and go while others sleep", async () => {
  await using sleeper = makeUring({ entries: 8 });
  using pipe = new Pipe();
  const buffer = new Uint8Array(1);
  const read = sleeper.read(pipe.reader.fd, buffer);
  for (let i = 0; i < 60; i++) {
    const { flags } = FLAGS.filter(({ skip }) => skip === false)[i % FLAGS.length] ?? FLAGS[0]!;
    const other = makeUring({ entries: 8, flags });
    await within(other.timeout(Math.random() * 6), "another ring's timeout");
    const pending = other.timeout(60_000);
    pending.catch(() => {});
    // Half of them are closed while the waker sleeps.
    if (i % 2 === 0) await sleep(Math.random() * 8);
    await within(other.disposeAsync(), "closing another ring");
    await assert.rejects(pending, { code: "ECANCELED" });
  }
  assert.equal(sleeper.stats.inFlight, 1);
  pipe.write("x");
  assert.equal(await within(read, "the sleeper's read"), 1);
});

test("the ring that slept is closed, and the next one is woken", async () => {
  for (let i = 0; i < 30; i++) {
    const first = makeUring({ entries: 8 });
    const pending = first.timeout(60_000);
    pending.catch(() => {});
    await sleep(6);
    await within(first.disposeAsync(), "closing");
    await using second = makeUring({ entries: 8 });
    await within(second.timeout(6), "the next ring's timeout");
  }
});

test("signals of the eventfd that mean nothing are harmless", async () => {
  const said = await output(fixture("waker.ts"), ["spurious signals"], { permissions: ["-A"] });
  assert.match(said, /^woken \d+ times for nothing, then for the read\n$/);
  assert.doesNotMatch(said, /woken 0 times/);
});

for (const alarm of ["bridge", "reader"] as const) {
  test(`${alarm}: each arming gives one wake`, async () => {
    assert.equal(await output(fixture("waker.ts"), ["one wake each", alarm]), `${alarm}: 20 of 20\n`);
  });

  for (const { name, flags, skip } of FLAGS) {
    test(`${alarm}, ${name}: sleeping, and ending afterwards`, { skip }, async () => {
      assert.equal(
        await output(fixture("process.ts"), ["many sleeps", alarm, String(flags)]),
        "done, in flight 0\n",
      );
    });

    test(`${alarm}, ${name}: 1,000 timeouts at once`, { skip }, async () => {
      assert.equal(
        await output(fixture("process.ts"), ["many timeouts", alarm, String(flags)]),
        "done, in flight 0\n",
      );
    });
  }
}

const FALLBACK_CASES: readonly (readonly [string, string])[] = [
  ["nothing in flight", ""],
  ["sleeps", "slept, woken true\n"],
  ["slept before", "done\n"],
  ["nobody awaits", "done\n"],
  ["unref", "unreferenced\n"],
  ["unref asleep", "unreferenced\n"],
  ["unref one of two", "done\n"],
  ["ref again", "done\n"],
  ["unref completes", "done\n"],
  ["dropped with work in flight", "settled 5\n"],
];

for (const [name, expected] of FALLBACK_CASES) {
  test(`the fallback alarm: ${name}`, async () => {
    assert.equal(await output(fixture("process.ts"), [name, "reader"]), expected);
  });
}
