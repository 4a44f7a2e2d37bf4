/** The `timeout` option: the error's shape, what ends in time, and the last entry of a ring. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { IORING_OP_BIND, POLLIN } from "../../src/ffi/abi.ts";
import { UringError } from "../../src/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, SocketPair, within } from "../support/loop.ts";
import { bytes, failure, failures, listener, put, text, WaitingPipe } from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

test("a time limit that is exceeded: ETIMEDOUT", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const error = await failure(uring.recv(pair.a.fd, new Uint8Array(1), { timeout: 5 }));
  assert.ok(error instanceof UringError);
  assert.deepEqual(
    { ...error, message: error.message },
    {
      name: "UringError",
      code: "ETIMEDOUT",
      errno: -110,
      syscall: "recv",
      message: "ETIMEDOUT: connection timed out, recv (not done within 5 ms)",
    },
  );
  put(pair.b.fd, "x");
  assert.equal(await uring.recv(pair.a.fd, new Uint8Array(1)), 1, "nothing was taken");
});

test("every kind of waiting can be limited", { skip: missingOp(IORING_OP_BIND) }, async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  using pipe = new WaitingPipe();
  const server = await listener(uring);
  const options = { timeout: 2 };
  const waiting: [string, Promise<unknown>][] = [
    ["recv", uring.recv(pair.a.fd, new Uint8Array(1), options)],
    ["read", uring.read(pipe.reader.fd, new Uint8Array(1), options)],
    ["readv", uring.readv(pipe.reader.fd, [new Uint8Array(1)], options)],
    ["read", uring.read(pipe.reader.fd, new Uint8Array(1), { ...options, async: true })],
    ["poll", uring.poll(pair.a.fd, POLLIN, options)],
    ["timeout", uring.timeout(1e9, options)],
    ["accept", uring.accept(server.fd, options)],
    ["accept", uring.acceptFrom(server.fd, options)],
    ["accept", uring.accept(server.fd, { ...options, direct: true })],
  ];
  const errors = await failures(waiting.map(([, promise]) => promise));
  errors.forEach(({ code, syscall }, i) => assert.deepEqual([code, syscall], ["ETIMEDOUT", waiting[i]![0]]));
  assert.equal(uring.stats.inFlight, 0);
  await uring.close(server.fd);
});

// The kernel does not start a linked timeout for what blocks in one of its worker threads.
test("an open that blocks in a worker thread can be limited", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const path = dir.of("fifo");
  assert.equal(spawnSync("mkfifo", [path]).status, 0);
  const error = await failure(uring.openat(path, { flags: "w", async: true, timeout: 20 }));
  assert.deepEqual([error.code, error.syscall, error.path], ["ETIMEDOUT", "openat", path]);
  assert.equal(uring.stats.inFlight, 0);
});

test("what ends in time is as it is without a limit", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const options = { timeout: 60_000 };
  await uring.nop(options);
  const fd = await uring.openat("/proc/self/comm", options);
  assert.ok((await uring.read(fd, new Uint8Array(64), options)) > 0);
  const missing = await failure(uring.openat("/nonexistent", options));
  assert.deepEqual([missing.code, missing.path], ["ENOENT", "/nonexistent"]);
  const waiting = uring.recv(pair.a.fd, new Uint8Array(8), options);
  await uring.nop();
  put(pair.b.fd, "here");
  assert.equal(await within(waiting, "recv"), 4);
  await uring.timeout(1, options);
  await uring.close(fd, options);
  assert.equal(uring.stats.inFlight, 0);
});

test("fractions of a millisecond and whole years", async () => {
  await using uring = makeUring();
  assert.equal((await failure(uring.timeout(1e9, { timeout: 0.25 }))).code, "ETIMEDOUT");
  await uring.nop({ timeout: Number.MAX_SAFE_INTEGER });
  await uring.timeout(0.5, { timeout: 3e11 });
});

test("at the last entry of the ring, the operation and its limit stay together", async () => {
  for (const entries of [2, 4, 256]) {
    for (const before of [entries - 2, entries - 1, entries, entries + 1, 2 * entries - 1]) {
      await using uring = makeUring({ entries });
      using pair = new SocketPair();
      const nops = Array.from({ length: before }, () => uring.nop());
      const limited = uring.recv(pair.a.fd, new Uint8Array(1), { timeout: 3 });
      const after = [uring.nop(), uring.nop({ timeout: 60_000 }), uring.nop()];
      const what = `${before} before it in a ring of ${entries}`;
      assert.equal((await failure(limited, what)).code, "ETIMEDOUT", what);
      await within(Promise.all([...nops, ...after]), what);
      assert.equal(uring.stats.inFlight, 0, what);
      await uring.nop();
    }
  }
});

test("at the last entry of the ring, data is where it belongs", async () => {
  await using uring = makeUring({ entries: 4 });
  using pair = new SocketPair();
  const sends: Promise<number>[] = [];
  const nops: Promise<void>[] = [];
  for (let i = 0; i < 26; i++) {
    nops.push(uring.nop());
    sends.push(uring.send(pair.a.fd, bytes(String.fromCharCode(97 + i)), { timeout: 60_000 }));
    if (i % 3 === 0) nops.push(uring.nop());
  }
  assert.ok((await Promise.all(sends)).every((length) => length === 1));
  await Promise.all(nops);
  const buffer = new Uint8Array(64);
  assert.equal(text(buffer, await uring.recv(pair.b.fd, buffer)), "abcdefghijklmnopqrstuvwxyz");
});

test("a ring of one entry: the limit fits all the same", async () => {
  await using uring = makeUring({ entries: 1 });
  using pair = new SocketPair();
  await uring.nop({ timeout: 60_000 });
  const limited = Array.from({ length: 5 }, () => uring.recv(pair.a.fd, new Uint8Array(1), { timeout: 2 }));
  assert.ok((await failures(limited)).every(({ code }) => code === "ETIMEDOUT"));
});

test("thousands of limits on a small ring", async () => {
  await using uring = makeUring({ entries: 8 });
  const results = await Promise.allSettled(
    Array.from(
      { length: 2000 },
      (_, i) => i % 2 === 0 ? uring.nop({ timeout: 60_000 }) : uring.timeout(1e9, { timeout: i % 7 }),
    ),
  );
  results.forEach((result, i) => assert.equal(result.status, i % 2 === 0 ? "fulfilled" : "rejected"));
  assert.equal(uring.stats.inFlight, 0);
});

test("a limit and a signal: whichever comes first", async () => {
  await using uring = makeUring();
  const controller = new AbortController();
  const options = { signal: controller.signal, timeout: 1e9 };
  const aborted = uring.timeout(1e9, options);
  await uring.nop();
  controller.abort("aborted");
  assert.equal(await failure(aborted), "aborted");
  const limited = uring.timeout(1e9, { signal: new AbortController().signal, timeout: 1 });
  assert.equal((await failure(limited)).code, "ETIMEDOUT");
});
