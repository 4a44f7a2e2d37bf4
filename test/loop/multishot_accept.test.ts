/** Multishot accepts: nothing is lost, nothing is left behind. */
import assert from "node:assert/strict";
import { IORING_OP_BIND, O_CLOEXEC, O_NONBLOCK, SOCK_NONBLOCK } from "../../src/ffi/abi.ts";
import { DirectDescriptor, type Multishot, type Uring } from "../../src/mod.ts";
import { fdFlags } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, within } from "../support/loop.ts";
import {
  bytes,
  closeAll,
  countDescriptors,
  dial,
  failure,
  type Listener,
  listener,
  rejectsWith,
  text,
} from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

const skip = missingOp(IORING_OP_BIND);

/** A listening socket with an abstract name: its connections leave nothing behind in the kernel. */
function server(uring: Uring, backlog = 4096): Promise<Listener> {
  return listener(uring, { family: "unix", path: "" }, backlog);
}

function dialMany(uring: Uring, { address }: Listener, count: number): Promise<number[]> {
  return Promise.all(Array.from({ length: count }, () => dial(uring, address)));
}

test("connections come as they are made, each with its own descriptor", { skip }, async () => {
  await using uring = makeUring();
  const listening = await server(uring);
  const accepting = uring.acceptMultishot(listening.fd);
  const buffer = new Uint8Array(16);
  for (let i = 0; i < 20; i++) {
    const next = accepting.next();
    const client = await dial(uring, listening.address);
    const { value } = await within(next, "a connection");
    assert.equal(fdFlags(value!) & O_CLOEXEC, O_CLOEXEC);
    await uring.send(client, bytes(`hello ${i}`));
    assert.equal(text(buffer, await uring.recv(value!, buffer)), `hello ${i}`);
    closeAll(client, value!);
  }
  assert.deepEqual(await accepting.return(), { done: true, value: undefined });
  assert.deepEqual(await accepting.next(), { done: true, value: undefined });
  closeAll(listening.fd);
});

test("flags go to the connections", { skip }, async () => {
  await using uring = makeUring();
  const listening = await server(uring);
  const client = await dial(uring, listening.address);
  for await (const fd of uring.acceptMultishot(listening.fd, { flags: SOCK_NONBLOCK })) {
    assert.equal(fdFlags(fd) & (O_CLOEXEC | O_NONBLOCK), O_CLOEXEC | O_NONBLOCK);
    closeAll(fd);
    break;
  }
  closeAll(client, listening.fd);
});

for (const limit of [1, 3, 16, undefined]) {
  test(`many waiting connections and a limit of ${limit ?? 256}: none is lost`, { skip }, async () => {
    await using uring = makeUring();
    const listening = await server(uring);
    const clients = await dialMany(uring, listening, 400);
    const accepted: number[] = [];
    for await (const fd of uring.acceptMultishot(listening.fd, limit === undefined ? {} : { limit })) {
      accepted.push(fd);
      // A consumer that is slower than the kernel.
      if (accepted.length % 50 === 0) await uring.timeout(1);
      if (accepted.length === 400) break;
    }
    assert.equal(new Set(accepted).size, 400);
    closeAll(listening.fd, ...clients, ...accepted);
  });
}

test("while it is paused the kernel holds the rest, and accepts go on afterwards", { skip }, async () => {
  await using uring = makeUring();
  const listening = await server(uring);
  const accepting = uring.acceptMultishot(listening.fd, { limit: 4 });
  const clients = await dialMany(uring, listening, 10);
  const accepted = [(await accepting.next()).value!];
  await uring.timeout(5);
  const before = countDescriptors(/^socket:/);
  clients.push(...await dialMany(uring, listening, 50));
  await uring.timeout(5);
  assert.equal(countDescriptors(/^socket:/), before + 50, "nobody has asked for more: none was accepted");
  while (accepted.length < 60) accepted.push((await within(accepting.next(), "a connection")).value!);
  await accepting.return();
  closeAll(listening.fd, ...clients, ...accepted);
});

test("break closes the connections that nobody took", { skip }, async () => {
  await using uring = makeUring();
  const listening = await server(uring);
  await uring.timeout(1);
  const before = countDescriptors(/^socket:/);
  const clients = await dialMany(uring, listening, 20);
  for await (const fd of uring.acceptMultishot(listening.fd)) {
    closeAll(fd);
    break;
  }
  assert.equal(countDescriptors(/^socket:/), before + 20);
  // They were closed, or never accepted and go with the listening socket.
  closeAll(listening.fd);
  for (const client of clients) {
    const outcome = await uring.recv(client, new Uint8Array(1)).catch((error) => error.code);
    assert.ok(outcome === 0 || outcome === "ECONNRESET", String(outcome));
  }
  closeAll(...clients);
});

test("return before next: nothing is ever armed", { skip }, async () => {
  await using uring = makeUring();
  const listening = await server(uring);
  const client = await dial(uring, listening.address);
  const { enters } = uring.stats;
  const accepting = uring.acceptMultishot(listening.fd);
  assert.deepEqual(await accepting.return(), { done: true, value: undefined });
  assert.deepEqual(await accepting.next(), { done: true, value: undefined });
  const disposed = uring.acceptMultishot(listening.fd);
  await disposed[Symbol.asyncDispose]();
  const thrown = uring.acceptMultishot(listening.fd);
  await assert.rejects(thrown.throw(new RangeError("mine")), RangeError);
  assert.deepEqual(await thrown.next(), { done: true, value: undefined });
  assert.equal(uring.stats.enters, enters);
  closeAll(client, listening.fd);
});

test("many calls of next at once are answered in order", { skip }, async () => {
  await using uring = makeUring();
  const listening = await server(uring);
  const accepting = uring.acceptMultishot(listening.fd);
  const order: number[] = [];
  const nexts = Array.from({ length: 30 }, (_, i) =>
    accepting.next().then((result) => {
      order.push(i);
      return result.value!;
    }));
  const over = [accepting.next(), accepting.next()];
  const clients = await dialMany(uring, listening, 30);
  const accepted = await within(Promise.all(nexts), "thirty calls of next");
  assert.equal(new Set(accepted).size, 30);
  assert.deepEqual(order, Array.from({ length: 30 }, (_, i) => i));
  await accepting.return();
  for (const next of over) assert.deepEqual(await next, { done: true, value: undefined });
  closeAll(listening.fd, ...clients, ...accepted);
});

test("a signal ends it with its reason and closes what nobody took", { skip }, async () => {
  await using uring = makeUring();
  const listening = await server(uring);
  await uring.timeout(1);
  const before = countDescriptors(/^socket:/);
  const clients = await dialMany(uring, listening, 5);
  const controller = new AbortController();
  const accepting = uring.acceptMultishot(listening.fd, { signal: controller.signal });
  closeAll((await accepting.next()).value!);
  await uring.timeout(2);
  controller.abort("reason");
  assert.equal(await failure(accepting.next()), "reason");
  assert.deepEqual(await accepting.next(), { done: true, value: undefined });
  await uring.timeout(1);
  assert.equal(countDescriptors(/^socket:/), before + 5);
  const already = uring.acceptMultishot(listening.fd, { signal: AbortSignal.abort("already") });
  assert.equal(await failure(already.next()), "already");
  // One that waits.
  const second = new AbortController();
  const waiting = uring.acceptMultishot(listening.fd, { signal: second.signal }).next();
  await uring.nop();
  second.abort("while waiting");
  assert.equal(await failure(waiting), "while waiting");
  closeAll(listening.fd, ...clients);
});

test("a time limit ends it with ETIMEDOUT", { skip }, async () => {
  await using uring = makeUring();
  const listening = await server(uring);
  const accepting = uring.acceptMultishot(listening.fd, { timeout: 5 });
  await rejectsWith(accepting.next(), "ETIMEDOUT", "accept");
  assert.deepEqual(await accepting.next(), { done: true, value: undefined });
  // Longer than a timer of the runtime can be.
  const long = uring.acceptMultishot(listening.fd, { timeout: 2 ** 40 });
  const next = long.next();
  const client = await dial(uring, listening.address);
  closeAll((await next).value!, client);
  await long.return();
  closeAll(listening.fd);
});

test("what cannot be accepted from fails, once", { skip }, async () => {
  await using uring = makeUring();
  const accepting = uring.acceptMultishot(1_000_000);
  await rejectsWith(accepting.next(), "EBADF", "accept");
  assert.deepEqual(await accepting.next(), { done: true, value: undefined });
  const fd = await uring.socket(1, 1);
  await rejectsWith(
    (async () => {
      for await (const _ of uring.acceptMultishot(fd));
    })(),
    "EINVAL",
    "accept",
  );
  closeAll(fd);
  for (const limit of [0, -1, 1.5, NaN, "1"]) {
    assert.throws(() => uring.acceptMultishot(0, { limit: limit as number }), RangeError);
  }
});

test("a queue of completions that overflows: it is armed anew, none is lost", { skip }, async () => {
  for (const cqEntries of [2, 4, 16]) {
    await using uring = makeUring({ entries: 2, cqEntries });
    await using clientRing = makeUring();
    const listening = await server(clientRing);
    const clients = await dialMany(clientRing, listening, 100);
    const accepted: number[] = [];
    const nops: Promise<void>[] = [];
    for await (const fd of uring.acceptMultishot(listening.fd)) {
      accepted.push(fd);
      nops.push(uring.nop());
      if (accepted.length === 100) break;
    }
    await Promise.all(nops);
    assert.equal(new Set(accepted).size, 100);
    closeAll(listening.fd, ...clients, ...accepted);
  }
});

test("direct connections: more than the table holds, one after the other", { skip }, async () => {
  await using uring = makeUring({ directDescriptors: 16 });
  const listening = await server(uring);
  const buffer = new Uint8Array(4);
  const accepting = uring.acceptMultishot(listening.fd, { direct: true });
  await uring.timeout(1);
  const before = countDescriptors(/^socket:/);
  for (let i = 0; i < 40; i++) {
    const next = accepting.next();
    const client = await dial(uring, listening.address);
    const connection = (await within(next, "a connection")).value!;
    assert.ok(connection instanceof DirectDescriptor);
    assert.ok(connection.slot < 8);
    assert.equal(countDescriptors(/^socket:/), before + 1);
    await uring.send(connection, bytes("ping"));
    assert.equal(await uring.recv(client, buffer), 4);
    await uring.close(connection);
    closeAll(client);
  }
  await accepting.return();
  closeAll(listening.fd);
});

test(
  "direct connections: a full table ends it with ENFILE; what was accepted is there",
  { skip },
  async () => {
    await using uring = makeUring({ directDescriptors: 8 });
    const listening = await server(uring);
    const clients = await dialMany(uring, listening, 4);
    const connections: DirectDescriptor[] = [];
    const accepting = uring.acceptMultishot(listening.fd, { direct: true });
    for (let i = 0; i < 4; i++) connections.push((await within(accepting.next(), "a connection")).value!);
    clients.push(...await dialMany(uring, listening, 1));
    await rejectsWith(accepting.next(), "ENFILE", "accept");
    assert.deepEqual(new Set(connections.map(({ slot }) => slot)), new Set([0, 1, 2, 3]));
    for (const connection of connections) await uring.close(connection);
    closeAll(listening.fd, ...clients);
  },
);

test("direct connections that nobody took are closed", { skip }, async () => {
  await using uring = makeUring({ directDescriptors: 32 });
  for (let round = 0; round < 5; round++) {
    const listening = await server(uring);
    const clients = await dialMany(uring, listening, 12);
    for await (const connection of uring.acceptMultishot(listening.fd, { direct: true })) {
      await uring.close(connection);
      break;
    }
    closeAll(listening.fd);
    await uring.timeout(1);
    for (const client of clients) {
      const outcome = await within(
        uring.recv(client, new Uint8Array(1)).catch((error) => error.code),
        "the end of a connection",
      );
      assert.ok(outcome === 0 || outcome === "ECONNRESET", String(outcome));
    }
    closeAll(...clients);
  }
});

test("a ring that is closed while connections are awaited and wait", { skip }, async () => {
  await using clientRing = makeUring();
  for (const direct of [false, true]) {
    const uring = makeUring();
    const listening = await server(clientRing);
    const clients = await dialMany(clientRing, listening, 3);
    const accepting: Multishot<number | DirectDescriptor> = direct
      ? uring.acceptMultishot(listening.fd, { direct: true })
      : uring.acceptMultishot(listening.fd);
    const first = (await accepting.next()).value!;
    if (typeof first === "number") closeAll(first);
    await clientRing.timeout(2);
    await within(uring.disposeAsync(), "closing");
    assert.deepEqual(await within(accepting.return(), "return"), { done: true, value: undefined });
    assert.deepEqual(await accepting.next(), { done: true, value: undefined });
    closeAll(listening.fd, ...clients);
  }
  const uring = makeUring();
  const listening = await server(clientRing);
  const waiting = uring.acceptMultishot(listening.fd).next();
  const rejected = rejectsWith(waiting, "ECANCELED", "accept");
  await uring.nop();
  await uring.disposeAsync();
  await rejected;
  await assert.rejects(async () => await uring.acceptMultishot(listening.fd).next(), TypeError);
  closeAll(listening.fd);
});
