/** Futexes on shared memory. */
import assert from "node:assert/strict";
import { FUTEX_WAITV_MAX, IORING_OP_FUTEX_WAIT } from "../../src/ffi/abi.ts";
import { cString } from "../../src/ffi/cstring.ts";
import { check } from "../../src/ffi/errors.ts";
import { type FutexWords, Mapping, type Uring } from "../../src/mod.ts";
import { Fd } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { collect, makeUring, URING_KINDS, within } from "../support/loop.ts";
import { failure, failures, flushed, Reason, refuses, rejectsWith } from "../support/operations.ts";
import { fixture, output } from "../support/program.ts";
import { missingOp, missingRing } from "../support/rings.ts";

checkLeaks();

const noFutex = missingOp(IORING_OP_FUTEX_WAIT);

function shared(count: number): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(4 * count));
}

/** Memory that other processes could map, too. */
function memfd(size: number): Fd {
  const fd = check(libc().memfd_create(cString("uring-test"), 1), "memfd_create");
  check(libc().ftruncate(fd, size), "ftruncate");
  return new Fd(fd);
}

/** Wakes one that is known to wait, however long it takes to. */
async function wakeOne(uring: Uring, words: FutexWords, index: number): Promise<void> {
  while (await uring.futexWake(words, index, 1) === 0) await uring.timeout(1);
}

test("wait and wake: ok, not-equal, and how many", { skip: noFutex }, async () => {
  await using uring = makeUring();
  const words = shared(4);
  const waits = [uring.futexWait(words, 1, 0), uring.futexWait(words, 1, 0), uring.futexWait(words, 1, 0)];
  const other = uring.futexWait(words, 2, 0);
  await uring.nop();
  assert.equal(await uring.futexWake(words, 1, 0), 0);
  assert.equal(await uring.futexWake(words, 1, 1), 1);
  assert.equal(await waits[0], "ok");
  assert.equal(await uring.futexWake(words, 1), 2);
  assert.deepEqual(await Promise.all(waits), ["ok", "ok", "ok"]);
  assert.equal(await uring.futexWake(words, 1), 0);
  assert.equal(await uring.futexWait(words, 1, 7), "not-equal");
  Atomics.store(words, 1, -5);
  assert.equal(await uring.futexWait(words, 1, 0), "not-equal");
  assert.equal(await uring.futexWait(words, 1, 0xffff_fffa), "not-equal");
  // Signed or not, it is the same 32 bits.
  for (const value of [-5, 0xffff_fffb]) {
    const wait = uring.futexWait(new Uint32Array(words.buffer), 1, value);
    await wakeOne(uring, words, 1);
    assert.equal(await wait, "ok");
  }
  assert.equal(await uring.futexWake(words, 2), 1);
  assert.equal(await other, "ok");
});

test("masks: woken by who has a bit in common", { skip: noFutex }, async () => {
  await using uring = makeUring();
  const words = shared(1);
  const [one, two] = [
    uring.futexWait(words, 0, 0, { mask: 0b01 }),
    uring.futexWait(words, 0, 0, { mask: 0b10 }),
  ];
  await uring.nop();
  assert.equal(await uring.futexWake(words, 0, 10, { mask: 0b100 }), 0);
  assert.equal(await uring.futexWake(words, 0, 10, { mask: 0b110 }), 1);
  assert.equal(await two, "ok");
  assert.equal(await uring.futexWake(words, 0, 10), 1);
  assert.equal(await one, "ok");
  await rejectsWith(uring.futexWait(words, 0, 0, { mask: 0 }), "EINVAL", "futex_wait");
  await rejectsWith(uring.futexWake(words, 0, 1, { mask: 0 }), "EINVAL", "futex_wake");
});

test("private and shared are different worlds", { skip: noFutex }, async () => {
  await using uring = makeUring();
  const words = shared(1);
  const wait = uring.futexWait(words, 0, 0, { private: true });
  await uring.nop();
  assert.equal(await uring.futexWake(words, 0), 0);
  assert.equal(await uring.futexWake(words, 0, 1, { private: true }), 1);
  assert.equal(await wait, "ok");
});

test("mapped memory: two mappings of the same memory share their words", { skip: noFutex }, async () => {
  await using uring = makeUring();
  using file = memfd(4096);
  using one = Mapping.shared(4096, file.fd, 0);
  using two = Mapping.shared(4096, file.fd, 0);
  const [a, b] = [new Int32Array(one.buffer), new Int32Array(two.buffer)];
  assert.notEqual(one.address, two.address);
  const wait = uring.futexWait(a, 100, 0);
  const waitv = uring.futexWaitv([{ words: a, index: 1, value: 0 }, { words: a, index: 2, value: 0 }]);
  await uring.nop();
  Atomics.store(b, 100, 1);
  assert.equal(await uring.futexWake(b, 100), 1);
  assert.equal(await wait, "ok");
  assert.equal(Atomics.load(a, 100), 1);
  assert.equal(await uring.futexWake(b, 2), 1);
  assert.equal(await waitv, 1);
  // A private one is at an address, and the addresses differ.
  const alone = uring.futexWait(a, 0, 0, { private: true, timeout: 20 });
  await uring.nop();
  assert.equal(await uring.futexWake(b, 0, 1, { private: true }), 0);
  assert.equal((await failure(alone)).code, "ETIMEDOUT");
});

test("waitv: the one that was woken, up to the most that there can be", { skip: noFutex }, async () => {
  await using uring = makeUring();
  const words = shared(FUTEX_WAITV_MAX);
  const waiters = Array.from(words, (value, index) => ({ words, index, value }));
  for (const index of [0, 5, FUTEX_WAITV_MAX - 1]) {
    const wait = uring.futexWaitv(waiters);
    await wakeOne(uring, words, index);
    assert.equal(await wait, index);
  }
  const wrong = [...waiters.slice(0, 3), { words, index: 3, value: 1 }];
  assert.equal(await uring.futexWaitv(wrong), "not-equal");
  const mixed = [{ words, index: 0, value: 0 }, { words: shared(1), index: 0, value: 0, private: true }];
  const wait = uring.futexWaitv(mixed);
  await uring.nop();
  assert.equal(await uring.futexWake(mixed[1]!.words, 0), 0);
  assert.equal(await uring.futexWake(mixed[1]!.words, 0, 1, { private: true }), 1);
  assert.equal(await wait, 1);
});

test("waits end by a signal, a time limit, a cancellation, the ring's end", { skip: noFutex }, async () => {
  const uring = makeUring();
  const words = shared(2);
  const waiters = [{ words, index: 0, value: 0 }, { words, index: 1, value: 0 }];
  const controller = new AbortController();
  const { signal } = controller;
  const start = (options: { signal?: AbortSignal; timeout?: number }): Promise<unknown>[] => [
    uring.futexWait(words, 0, 0, options),
    uring.futexWaitv(waiters, options),
  ];
  const aborted = failures(start({ signal }));
  await flushed(uring);
  const reason = new Reason();
  controller.abort(reason);
  assert.deepEqual(await within(aborted, "aborted"), [reason, reason]);
  const limited = await failures(start({ timeout: 5 }));
  assert.deepEqual(limited.map(({ code, syscall }) => [code, syscall]), [
    ["ETIMEDOUT", "futex_wait"],
    ["ETIMEDOUT", "futex_waitv"],
  ]);
  const cancelled = failures(start({}));
  await uring.nop();
  assert.ok([1, 2].includes(await uring.cancel({ any: true })), "the kernel counts those of a kind as one");
  assert.deepEqual((await cancelled).map(({ code }) => code), ["ECANCELED", "ECANCELED"]);
  assert.equal(await uring.futexWake(words, 0), 0, "nobody waits any more");
  const closed = failures(start({}));
  await uring.nop();
  await uring.disposeAsync();
  assert.deepEqual((await closed).map(({ code }) => code), ["ECANCELED", "ECANCELED"]);
});

test("memory that only a wait refers to is kept", { skip: noFutex }, async () => {
  await using uring = makeUring();
  const refs: WeakRef<SharedArrayBuffer>[] = [];
  const wait = (): Promise<unknown>[] => {
    const [one, two] = [shared(16), shared(16)];
    refs.push(new WeakRef(one.buffer), new WeakRef(two.buffer));
    return [uring.futexWait(one, 3, 0), uring.futexWaitv([{ words: two, index: 1, value: 0 }])];
  };
  const waits = wait();
  await uring.timeout(1);
  for (let i = 0; i < 3; i++) {
    collect();
    await uring.timeout(1);
  }
  const buffers = refs.map((ref) => ref.deref());
  assert.ok(buffers.every((buffer) => buffer !== undefined));
  await wakeOne(uring, new Int32Array(buffers[0]!), 3);
  await wakeOne(uring, new Int32Array(buffers[1]!), 1);
  assert.deepEqual(await Promise.all(waits), ["ok", 0]);
});

test("in a chain: the steps behind a wait follow the wake", { skip: noFutex }, async () => {
  await using uring = makeUring();
  const words = shared(2);
  const chain = uring.link((l) => [l.futexWait(words, 0, 0), l.futexWake(words, 1), l.nop()]);
  const behind = uring.futexWait(words, 1, 0);
  await wakeOne(uring, words, 0);
  assert.deepEqual((await chain).slice(0, 2), ["ok", 1]);
  assert.equal(await behind, "ok");
  const settled = await uring.linkSettled((l) => [l.futexWait(words, 0, 1), l.nop()]);
  assert.deepEqual(settled[0], { status: "fulfilled", value: "not-equal" });
  assert.equal(settled[1].status, "rejected");
});

test("wrong arguments are refused at once", { skip: noFutex }, async () => {
  await using uring = makeUring();
  const words = shared(4);
  for (const index of [-1, 4, 0.5, NaN, "0"] as number[]) {
    await refuses(uring, RangeError, () => uring.futexWait(words, index, 0));
    await refuses(uring, RangeError, () => uring.futexWake(words, index));
    await refuses(uring, RangeError, () => uring.futexWaitv([{ words, index, value: 0 }]));
  }
  for (const value of [2 ** 32, -(2 ** 31) - 1, 0.5, NaN, "0", 0n] as number[]) {
    await refuses(uring, RangeError, () => uring.futexWait(words, 0, value));
    await refuses(uring, RangeError, () => uring.futexWaitv([{ words, index: 0, value }]));
  }
  const others = [new Uint8Array(4), new Float32Array(1), new BigInt64Array(1), [0], null, undefined];
  for (const wrong of others as unknown as Int32Array[]) {
    await refuses(uring, TypeError, () => uring.futexWait(wrong, 0, 0));
    await refuses(uring, TypeError, () => uring.futexWake(wrong, 0));
    await refuses(uring, TypeError, () => uring.futexWaitv([{ words: wrong, index: 0, value: 0 }]));
  }
  for (const count of [-1, 2 ** 31, 0.5, Infinity, "1"] as number[]) {
    await refuses(uring, RangeError, () => uring.futexWake(words, 0, count));
  }
  await refuses(uring, RangeError, () => uring.futexWait(words, 0, 0, { mask: 2 ** 32 }));
  await refuses(uring, RangeError, () => uring.futexWaitv([]));
  const many = Array(FUTEX_WAITV_MAX + 1).fill({ words, index: 0, value: 0 });
  await refuses(uring, RangeError, () => uring.futexWaitv(many));
  await refuses(uring, RangeError, () => uring.futexWait(new Int32Array(0), 0, 0));
});

for (const [name, options] of Object.entries(URING_KINDS)) {
  const noRing = options.flags === undefined ? false : missingRing({ flags: options.flags });
  test(`${name}: many waits, each woken once`, { skip: firstReason(noRing, noFutex) }, async () => {
    await using uring = makeUring(options);
    const words = shared(50);
    const waits = Array.from(
      words,
      (_, i) =>
        i % 2 === 0 ? uring.futexWait(words, i, 0) : uring.futexWaitv([{ words, index: i, value: 0 }]),
    );
    const all = Promise.all(waits);
    await Promise.all(Array.from(words, (_, i) => wakeOne(uring, words, i)));
    assert.deepEqual(await within(all, "waits"), Array.from(words, (_, i) => i % 2 === 0 ? "ok" : 0));
    assert.equal(uring.stats.inFlight, 0);
  });
}

test("between threads: a hundred turns with a Worker", { skip: noFutex }, async () => {
  const permissions = ["--allow-ffi", "--allow-read"];
  const answer = JSON.parse(await output(fixture("futex_workers.ts"), [], { permissions }));
  assert.deepEqual(answer, { answer: 100, turns: [100, 100], slept: true });
});
