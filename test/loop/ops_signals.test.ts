/** AbortSignal: before, at and after every stage of an operation. */
import assert from "node:assert/strict";
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { IORING_OP_BIND, MSG_DONTWAIT, POLLIN } from "../../src/ffi/abi.ts";
import { type OperationOptions, type Uring } from "../../src/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { DEFERRED, makeUring, noDeferred, SocketPair, within } from "../support/loop.ts";
import {
  abortLate,
  bytes,
  countDescriptors,
  CountedSignal,
  dial,
  failure,
  failures,
  listener,
  put,
  Reason,
  refuses,
  rejectsWith,
  text,
  WaitingPipe,
} from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

const noBind = missingOp(IORING_OP_BIND);

/** Nothing can be received: nothing was sent. */
async function assertNothingSent(uring: Uring, fd: number): Promise<void> {
  await rejectsWith(uring.recv(fd, new Uint8Array(8), { flags: MSG_DONTWAIT }), "EAGAIN", "recv");
}

// Both end inside the system call that submits them: had the kernel seen them, they would be done.
for (const [name, extra] of [["", {}], [" with a time limit", { timeout: 60_000 }]] as const) {
  test(`aborted already: rejects with the reason and does nothing${name}`, async () => {
    await using uring = makeUring();
    using pair = new SocketPair();
    const reason = new Reason();
    const signal = AbortSignal.abort(reason);
    assert.equal(await failure(uring.send(pair.a.fd, bytes("x"), { signal, ...extra })), reason);
    await assertNothingSent(uring, pair.b.fd);
    const chained = await uring.linkSettled((
      l,
    ) => [l.send(pair.a.fd, bytes("x"), { signal, ...extra }), l.nop()]);
    assert.deepEqual(chained.map((step) => step.status), ["rejected", "rejected"]);
    assert.equal((chained[0] as PromiseRejectedResult).reason, reason);
    await assertNothingSent(uring, pair.b.fd);
  });

  test(`aborted in the same turn: the kernel never sees it${name}`, async () => {
    await using uring = makeUring();
    using pair = new SocketPair();
    using dir = new TempDir();
    const path = dir.of("file");
    writeFileSync(path, "before");
    const fd = openSync(path, "r+");
    const controller = new AbortController();
    const options = { signal: controller.signal, ...extra };
    const promises: Promise<unknown>[] = [
      uring.write(fd, bytes("AFTER!"), { offset: 0, ...options }),
      uring.send(pair.a.fd, bytes("x"), options),
      uring.openat(dir.of("created"), { flags: "w", ...options }),
      uring.unlinkat(path, options),
      uring.mkdirat(dir.of("directory"), options),
      uring.close(fd, options),
    ];
    const reason = new Reason();
    controller.abort(reason);
    for (const error of await failures(promises)) assert.equal(error, reason);
    assert.equal(readFileSync(path, "utf8"), "before");
    assert.equal(existsSync(dir.of("created")) || existsSync(dir.of("directory")), false);
    await assertNothingSent(uring, pair.b.fd);
    closeSync(fd);
  });

  test(`aborted while it waits for room in the ring: the kernel never sees it${name}`, async () => {
    await using uring = makeUring({ entries: 4 });
    using pair = new SocketPair();
    const controller = new AbortController();
    const before = Array.from({ length: 10 }, () => uring.nop());
    const aborted = uring.send(pair.a.fd, bytes("no"), { signal: controller.signal, ...extra });
    const after = Array.from({ length: 10 }, () => uring.nop());
    const kept = uring.send(pair.a.fd, bytes("yes"), { ...extra });
    controller.abort(new Reason());
    assert.ok(await failure(aborted) instanceof Reason);
    await Promise.all([...before, ...after]);
    assert.equal(await kept, 3);
    const buffer = new Uint8Array(16);
    assert.equal(text(buffer, await uring.recv(pair.b.fd, buffer)), "yes");
  });

  test(`aborted in flight: every kind of waiting ends with the reason${name}`, { skip: noBind }, async () => {
    await using uring = makeUring();
    using pair = new SocketPair();
    using pipe = new WaitingPipe();
    const server = await listener(uring);
    const controller = new AbortController();
    const options: OperationOptions = { signal: controller.signal, ...extra };
    const waiting: Promise<unknown>[] = [
      uring.recv(pair.a.fd, new Uint8Array(8), options),
      uring.read(pipe.reader.fd, new Uint8Array(8), options),
      uring.readv(pipe.reader.fd, [new Uint8Array(8)], options),
      uring.poll(pair.a.fd, POLLIN, options),
      uring.timeout(1e9, options),
      uring.accept(server.fd, options),
      uring.acceptFrom(server.fd, options),
      uring.accept(server.fd, { direct: true, ...options }),
    ];
    await uring.nop();
    const reason = new Reason();
    controller.abort(reason);
    for (const error of await failures(waiting, "an aborted wait")) assert.equal(error, reason);
    assert.equal(uring.stats.inFlight, 0);
    // Nothing was taken by what was aborted.
    put(pair.b.fd, "all");
    pipe.write("all");
    assert.equal(await uring.recv(pair.a.fd, new Uint8Array(8)), 3);
    assert.equal(await uring.read(pipe.reader.fd, new Uint8Array(8)), 3);
    await uring.close(server.fd);
  });
}

test("aborted after the end: nothing happens", async () => {
  await using uring = makeUring();
  const controller = new AbortController();
  await uring.nop({ signal: controller.signal });
  const { enters } = uring.stats;
  controller.abort(new Reason());
  await new Promise<void>((resolve) => setImmediate(resolve));
  assert.equal(uring.stats.enters, enters);
});

test("the reason is passed through as it is, and is an AbortError by default", async () => {
  await using uring = makeUring();
  for (const reason of ["text", 0, null, { any: "object" }]) {
    assert.equal(await failure(uring.nop({ signal: AbortSignal.abort(reason) })), reason);
  }
  assert.equal((await failure(uring.nop({ signal: AbortSignal.abort() }))).name, "AbortError");
  const error = await failure(uring.timeout(1e9, { signal: AbortSignal.timeout(5) }));
  assert.equal(error.name, "TimeoutError");
});

test("aborted twice, and by one signal for many", async () => {
  await using uring = makeUring();
  using pipe = new WaitingPipe();
  const controller = new AbortController();
  const { signal } = controller;
  const reads = Array.from({ length: 300 }, () => uring.read(pipe.reader.fd, new Uint8Array(1), { signal }));
  await uring.nop();
  controller.abort(new Reason());
  controller.abort(new Error("too late"));
  for (const error of await failures(reads)) assert.ok(error instanceof Reason);
  assert.equal(uring.stats.inFlight, 0);
});

test("a descriptor that arrives after its abort is closed", { skip: noDeferred }, async () => {
  await using uring = makeUring(DEFERRED);
  using dir = new TempDir();
  await uring.timeout(1);
  const before = countDescriptors(/./);
  for (let i = 0; i < 5; i++) {
    await abortLate(
      uring,
      (signal) => uring.openat(dir.of(`new-${i}`), { flags: "w", async: true, signal }),
      () => existsSync(dir.of(`new-${i}`)),
    );
    await abortLate(uring, (signal) => uring.socket(1, 1, 0, { async: true, signal }));
    assert.ok(existsSync(dir.of(`new-${i}`)), "it was opened indeed");
  }
  assert.equal(countDescriptors(/./), before);
});

test("an accepted connection that arrives after its abort is closed", {
  skip: firstReason(noBind, noDeferred),
}, async () => {
  await using uring = makeUring(DEFERRED);
  const server = await listener(uring);
  for (const from of [false, true]) {
    const client = await dial(uring, server.address);
    const before = countDescriptors(/^socket:/);
    await abortLate(uring, (signal) => {
      const options = { async: true, signal };
      return from ? uring.acceptFrom(server.fd, options) : uring.accept(server.fd, options);
    });
    assert.equal(countDescriptors(/^socket:/), before);
    assert.equal(await within(uring.recv(client, new Uint8Array(1)), "the end of a closed connection"), 0);
    await uring.close(client);
  }
  await uring.close(server.fd);
});

test("a direct descriptor that arrives after its abort is closed, and its slot given back once", {
  skip: noDeferred,
}, async () => {
  await using uring = makeUring({ ...DEFERRED, directDescriptors: 4 });
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "content");
  for (let i = 0; i < 5; i++) {
    await abortLate(uring, (signal) => uring.openat(dir.of("file"), { direct: true, async: true, signal }));
  }
  await uring.nop();
  const files = [
    await uring.openat(dir.of("file"), { direct: true }),
    await uring.openat(dir.of("file"), { direct: true }),
  ];
  assert.deepEqual(files.map((file) => file.slot).sort(), [2, 3]);
  for (const file of files) await uring.close(file);
});

test("a direct descriptor whose close was aborted is closed all the same", async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  for (let i = 0; i < 5; i++) {
    const file = await uring.openat("/proc/self/comm", { direct: true });
    await failure(uring.close(file, { signal: AbortSignal.abort() }));
    assert.ok(file.closed);
    await uring.nop();
  }
});

test("listeners are removed: many operations on one signal do not pile up", async () => {
  await using uring = makeUring();
  const counted = new CountedSignal();
  const { signal } = counted;
  const fd = await uring.openat("/proc/self/comm");
  for (let i = 0; i < 100; i++) {
    await Promise.all([
      uring.nop({ signal }),
      uring.nop({ signal, timeout: 60_000 }),
      uring.read(fd, new Uint8Array(1), { offset: 0, signal }),
      failure(uring.read(-1, new Uint8Array(1), { signal })),
      failure(uring.timeout(1e9, { signal, timeout: 0 })),
      uring.linkSettled((l) => [l.read(-1, new Uint8Array(1), { signal }), l.nop({ signal })]),
      Array.fromAsync(uring.timeoutMultishot(0.01, { count: 2, signal })),
    ]);
    assert.equal(counted.listening, 0, `after round ${i}`);
  }
  assert.equal(counted.added, 800);
  await assert.rejects(
    uring.link((l) => {
      l.nop({ signal });
      throw new Reason();
    }),
    Reason,
  );
  assert.equal(counted.listening, 0, "after a chain that was never submitted");
  await uring.close(fd);
});

test("closing the ring takes the listeners away, too", async () => {
  const uring = makeUring();
  const counted = new CountedSignal();
  const promises = [
    uring.timeout(1e9, { signal: counted.signal }),
    uring.timeout(1e9, { signal: counted.signal }),
  ];
  assert.equal(counted.listening, 2);
  const outcomes = Promise.allSettled(promises);
  await uring.disposeAsync();
  await outcomes;
  assert.equal(counted.listening, 0);
});

test("what is no signal is refused before anything is begun", async () => {
  await using uring = makeUring();
  for (const signal of [null, {}, "signal", new EventTarget(), new AbortController()]) {
    const options = { signal: signal as AbortSignal };
    await refuses(uring, TypeError, () => uring.nop(options));
    await refuses(uring, TypeError, () => uring.read(0, new Uint8Array(1), options));
    await refuses(uring, TypeError, () => uring.timeoutMultishot(1, options));
    await assert.rejects(uring.link((l) => [l.nop(options)]), TypeError);
  }
  for (const options of [null, 5, "x"]) {
    await refuses(uring, TypeError, () => uring.nop(options as OperationOptions));
    await refuses(uring, TypeError, () => uring.close(0, options as OperationOptions));
  }
  assert.equal(uring.stats.inFlight, 0);
});
