/** Chains: order, what breaks them, what does not, limits, signals, mistakes. */
import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { type Chain, type LinkOptions, type Uring, UringError } from "../../src/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, SocketPair, within } from "../support/loop.ts";
import { bytes, CountedSignal, failure, put, text, WaitingPipe } from "../support/operations.ts";

checkLeaks();

/** What became of the steps: `"ok"` or the error's code. */
async function outcomes(
  uring: Uring,
  build: (l: Chain) => readonly Promise<unknown>[],
  options?: LinkOptions,
): Promise<string[]> {
  const results = await within(uring.linkSettled(build, options), "a chain");
  return results.map((result) =>
    result.status === "fulfilled" ? "ok" : String((result.reason as UringError).code ?? result.reason)
  );
}

const BAD_FD = 1_000_000;
const one = (): Uint8Array => new Uint8Array(1);

test("the steps run in order, and their results come in order", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const fd = openSync(dir.of("file"), "w+");
  const buffer = new Uint8Array(6);
  const results = await uring.link((l) => [
    l.write(fd, bytes("first!"), { offset: 0 }),
    l.write(fd, bytes("second"), { offset: 0 }),
    l.fdatasync(fd),
    l.read(fd, buffer, { offset: 0 }),
    l.statx(dir.of("file")),
  ]);
  assert.equal(results[0], 6);
  assert.equal(results[1], 6);
  assert.equal(results[3], 6);
  assert.equal(results[4].size, 6);
  assert.equal(text(buffer), "second");
  closeSync(fd);
});

test("no more system calls than steps for a chain, and none for an empty one", async () => {
  await using uring = makeUring();
  await uring.nop();
  const { enters } = uring.stats;
  await uring.link((l) => [l.nop(), l.nop(), l.nop()]);
  // One submits all; with DEFER_TASKRUN the kernel starts each further step when it is entered again.
  const after = uring.stats.enters;
  assert.ok(after - enters <= 3, `${after - enters} system calls`);
  assert.deepEqual(await uring.link(() => []), []);
  assert.deepEqual(await uring.linkSettled(() => []), []);
  assert.equal(uring.stats.enters, after);
});

test("a failing step cancels the rest of its chain and nothing else", async () => {
  await using uring = makeUring();
  const [broken, other] = await Promise.all([
    outcomes(uring, (l) => [l.nop(), l.fsync(BAD_FD), l.nop(), l.nop()]),
    outcomes(uring, (l) => [l.nop(), l.nop()]),
  ]);
  assert.deepEqual(broken, ["ok", "EBADF", "ECANCELED", "ECANCELED"]);
  assert.deepEqual(other, ["ok", "ok"]);
  assert.deepEqual(await outcomes(uring, (l) => [l.read(BAD_FD, one()), l.nop()]), ["EBADF", "ECANCELED"]);
});

test("a hard chain goes on, also past a step with a time limit", async () => {
  await using uring = makeUring();
  const hard = { hard: true };
  assert.deepEqual(
    await outcomes(uring, (l) => [l.nop(), l.fsync(BAD_FD), l.nop(), l.read(BAD_FD, one()), l.nop()], hard),
    ["ok", "EBADF", "ok", "EBADF", "ok"],
  );
  assert.deepEqual(
    await outcomes(uring, (l) => [l.read(BAD_FD, one(), { timeout: 60_000 }), l.nop()], hard),
    ["EBADF", "ok"],
  );
  using pipe = new WaitingPipe();
  assert.deepEqual(
    await outcomes(uring, (l) => [l.read(pipe.reader.fd, one(), { timeout: 2 }), l.nop(), l.nop()], hard),
    ["ETIMEDOUT", "ok", "ok"],
  );
});

test("link rejects with what broke the chain, when everything has ended", async () => {
  await using uring = makeUring();
  const error = await failure(uring.link((l) => [l.nop(), l.openat("/nonexistent"), l.nop()]));
  assert.deepEqual([error.code, error.syscall, error.path], ["ENOENT", "openat", "/nonexistent"]);
  assert.equal(uring.stats.inFlight, 0);
  const first = await failure(uring.link((l) => [l.fsync(BAD_FD), l.openat("/nonexistent")], { hard: true }));
  assert.equal(first.syscall, "fsync");
});

test("a short read or write breaks a chain, and keeps its own result", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "0123456789");
  const fd = openSync(dir.of("file"), "r+");
  const results = await uring.linkSettled((l) => [
    l.read(fd, new Uint8Array(20), { offset: 0 }),
    l.write(fd, bytes("never"), { offset: 0 }),
  ]);
  assert.deepEqual(results[0], { status: "fulfilled", value: 10 });
  assert.equal((results[1] as PromiseRejectedResult).reason.code, "ECANCELED");
  assert.equal(readFileSync(dir.of("file"), "utf8"), "0123456789");
  const broken = await failure(
    uring.link((l) => [l.read(fd, new Uint8Array(20), { offset: 0 }), l.fsync(fd)]),
  );
  assert.deepEqual([broken.code, broken.syscall], ["ECANCELED", "fsync"]);
  assert.deepEqual(
    await outcomes(uring, (l) => [l.read(fd, new Uint8Array(20), { offset: 0 }), l.nop()], { hard: true }),
    ["ok", "ok"],
  );
  assert.deepEqual(await outcomes(uring, (l) => [l.read(fd, new Uint8Array(10), { offset: 0 }), l.nop()]), [
    "ok",
    "ok",
  ]);
  closeSync(fd);
});

test("a chain waits for its first step, other chains and operations do not", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const order: string[] = [];
  const note = (name: string) => (): unknown => order.push(name);
  const chain = uring.link((l) => {
    const steps = [l.recv(pair.a.fd, one()), l.nop()] as const;
    steps.forEach((step, i) => step.then(note(`step ${i}`)));
    return steps;
  });
  await uring.link((l) => [l.nop(), l.nop()]).then(note("other chain"));
  await uring.nop().then(note("other operation"));
  put(pair.b.fd, "x");
  await within(chain, "the chain");
  assert.deepEqual(order, ["other chain", "other operation", "step 0", "step 1"]);
});

test("timeouts as steps: a pause that does not end the chain", async () => {
  await using uring = makeUring();
  const start = performance.now();
  assert.deepEqual(await outcomes(uring, (l) => [l.nop(), l.timeout(10), l.timeout(10), l.nop()]), [
    "ok",
    "ok",
    "ok",
    "ok",
  ]);
  assert.ok(performance.now() - start >= 19);
});

test("time limits inside a chain", async () => {
  await using uring = makeUring();
  using pipe = new WaitingPipe();
  const limit = { timeout: 60_000 };
  assert.deepEqual(await outcomes(uring, (l) => [l.nop(limit), l.nop(), l.nop(limit)]), ["ok", "ok", "ok"]);
  assert.deepEqual(
    await outcomes(
      uring,
      (l) => [l.nop(limit), l.read(pipe.reader.fd, one(), { timeout: 2 }), l.nop(), l.nop(limit)],
    ),
    ["ok", "ETIMEDOUT", "ECANCELED", "ECANCELED"],
  );
  assert.deepEqual(await outcomes(uring, (l) => [l.fsync(BAD_FD, limit), l.nop(limit)]), [
    "EBADF",
    "ECANCELED",
  ]);
  assert.equal(uring.stats.inFlight, 0);
});

test("signals inside a chain: in flight, and before it is submitted", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const send = (l: Chain): Promise<number> => l.send(pair.b.fd, bytes("x"));
  {
    const controller = new AbortController();
    const running = outcomes(
      uring,
      (l) => [l.nop(), l.recv(pair.a.fd, one(), { signal: controller.signal }), send(l)],
    );
    await uring.nop();
    controller.abort("reason");
    assert.deepEqual(await running, ["ok", "reason", "ECANCELED"]);
  }
  for (const hard of [false, true]) {
    const controller = new AbortController();
    const running = outcomes(
      uring,
      (l) => [send(l), l.send(pair.b.fd, bytes("no"), { signal: controller.signal }), send(l)],
      { hard },
    );
    controller.abort("reason");
    assert.deepEqual(await running, ["ok", "reason", hard ? "ok" : "ECANCELED"]);
    const buffer = new Uint8Array(16);
    const length = await uring.recv(pair.a.fd, buffer);
    assert.equal(text(buffer, length), hard ? "xx" : "x", "the aborted step did nothing");
  }
  {
    const controller = new AbortController();
    const running = outcomes(uring, (l) => {
      const steps = [l.send(pair.b.fd, bytes("no"), { signal: controller.signal }), l.nop()];
      controller.abort("inside");
      return steps;
    });
    assert.deepEqual(await running, ["inside", "ECANCELED"]);
  }
  const last = await outcomes(uring, (l) => [l.nop(), l.nop({ signal: AbortSignal.abort("already") })]);
  assert.deepEqual(last, ["ok", "already"]);
});

test("drain: the chain starts when everything before it has ended", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const order: string[] = [];
  const before = uring.recv(pair.a.fd, one()).then(() => order.push("before"));
  const chain = uring.link((l) => [l.nop(), l.nop()], { drain: true }).then(() => order.push("chain"));
  await using other = makeUring();
  await other.timeout(20);
  assert.deepEqual(order, []);
  put(pair.b.fd, "x");
  await within(Promise.all([before, chain]), "a drained chain");
  assert.deepEqual(order, ["before", "chain"]);
});

test("hundreds of chains on a small ring stay whole", async () => {
  await using uring = makeUring({ entries: 8 });
  using dir = new TempDir();
  const fd = openSync(dir.of("file"), "w+");
  await Promise.all(Array.from({ length: 300 }, async (_, i) => {
    const buffer = new Uint8Array(4);
    const content = bytes(String(i).padStart(4, "0"));
    const at = { offset: i * 4 };
    if (i % 5 === 0) await outcomes(uring, (l) => [l.fsync(BAD_FD), l.write(fd, bytes("bad!"), at)]);
    const results = await uring.link((l) => [
      l.write(fd, content, { ...at, timeout: 60_000 }),
      l.read(fd, buffer, at),
      ...(i % 3 === 0 ? [l.nop(), l.nop(), l.nop()] : []),
    ]);
    assert.deepEqual(results.slice(0, 2), [4, 4]);
    assert.deepEqual(buffer, content);
  }));
  assert.equal(uring.stats.inFlight, 0);
  closeSync(fd);
});

test("as long as the ring, and longer: RangeError, and nothing stays behind", async () => {
  await using uring = makeUring({ entries: 8 });
  const nops = (count: number) => (l: Chain): Promise<void>[] => Array.from({ length: count }, () => l.nop());
  assert.equal((await uring.link(nops(8))).length, 8);
  const { enters } = uring.stats;
  const counted = new CountedSignal();
  const tooLong: ((l: Chain) => Promise<unknown>[])[] = [
    nops(9),
    nops(500),
    // A time limit takes an entry as well.
    (l) => Array.from({ length: 5 }, () => l.nop({ timeout: 60_000 })),
    (l) => Array.from({ length: 20 }, () => l.openat("/", { direct: l.direct(), signal: counted.signal })),
  ];
  for (const build of tooLong) {
    await assert.rejects(uring.link(build), RangeError);
    await assert.rejects(uring.linkSettled(build), RangeError);
    assert.equal(uring.stats.inFlight, 0);
  }
  assert.equal(counted.listening, 0);
  assert.equal(uring.stats.enters, enters);
  await uring.link(nops(8));
});

test("a callback that throws, or passes a wrong argument, submits nothing", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const { enters } = uring.stats;
  class Mistake extends Error {}
  const steps: Promise<unknown>[] = [];
  await assert.rejects(
    uring.link((l) => {
      steps.push(l.send(pair.a.fd, bytes("x")), l.nop({ timeout: 60_000 }));
      throw new Mistake();
    }),
    Mistake,
  );
  for (const step of steps) await assert.rejects(step, Mistake);
  await assert.rejects(
    uring.link((l) => [l.send(pair.a.fd, bytes("x")), l.read(0, new Uint8Array(1), { offset: -2 })]),
    RangeError,
  );
  await assert.rejects(
    uring.link((l) => Promise.resolve([l.nop()]) as unknown as Promise<void>[]),
    TypeError,
  );
  assert.equal(uring.stats.enters, enters);
  assert.equal(uring.stats.inFlight, 0);
  const answer = uring.recv(pair.b.fd, new Uint8Array(8));
  await uring.send(pair.a.fd, bytes("yy"));
  assert.equal(await answer, 2, "nothing was sent before");
});

test("steps that the callback does not return run and are waited for", async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  let hidden: Promise<unknown> | undefined;
  const results = await uring.link((l) => {
    hidden = l.openat("/proc/self/comm", { direct: l.direct() });
    return [l.nop()];
  });
  assert.equal(results.length, 1);
  const open = await hidden as never;
  const second = await uring.openat("/proc/self/comm", { direct: true });
  assert.notEqual(second.slot, (open as typeof second).slot);
  await uring.close(open);
  await uring.close(second);
});

test("the callback's l is of no use afterwards", async () => {
  await using uring = makeUring();
  let kept: Chain | undefined;
  await uring.link((l) => {
    kept = l;
    return [l.nop()];
  });
  assert.throws(() => kept!.nop(), TypeError);
  assert.equal(uring.stats.inFlight, 0);
});

test("a failed step that nobody looks at is no unhandled rejection", async () => {
  await using uring = makeUring();
  await outcomes(uring, (l) => [l.fsync(BAD_FD), l.nop()]);
  await new Promise<void>((resolve) => setTimeout(resolve, 5));
});

test("a closed ring takes no chain; closing in the middle of one settles it", async () => {
  const uring = makeUring();
  using pair = new SocketPair();
  const running = outcomes(uring, (l) => [l.recv(pair.a.fd, one()), l.nop()]);
  const hard = outcomes(uring, (l) => [l.recv(pair.a.fd, one()), l.recv(pair.a.fd, one())], { hard: true });
  await uring.nop();
  await within(uring.disposeAsync(), "closing");
  assert.deepEqual(await running, ["ECANCELED", "ECANCELED"]);
  assert.deepEqual(await hard, ["ECANCELED", "ECANCELED"]);
  await assert.rejects(uring.link((l) => [l.nop()]), TypeError);
});
