/** Bundles: one completion for many buffers, received into pools and sent out of queues. */
import assert from "node:assert/strict";
import { AF_INET, MSG_DONTWAIT, SHUT_WR, SOCK_STREAM } from "../../src/ffi/abi.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { type BufferPoolOptions, type RecvMultishotOptions, SendQueue, type Uring } from "../../src/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, FLAGS, makeUring, SocketPair, within } from "../support/loop.ts";
import {
  bytes,
  closeAll,
  dial,
  Digest,
  digest,
  failure,
  flushed,
  listener,
  put,
  refuses,
  rejectsWith,
  text,
} from "../support/operations.ts";

checkLeaks();

const noBundles = kernelHas("6.10") ? false : "needs Linux 6.10";
const noQueues = noBundles;
const noIncremental = kernelHas("6.12") ? false : "needs Linux 6.12";

/** Two TCP sockets that are connected to each other. */
async function tcpPair(uring: Uring): Promise<{ client: number; server: number }> {
  const listening = await listener(uring);
  const [client, server] = await Promise.all([dial(uring, listening.address), uring.accept(listening.fd)]);
  closeAll(listening.fd);
  return { client, server };
}

/** Sends everything in pieces of changing sizes, and finishes. */
async function sendAll(uring: Uring, fd: number, data: Uint8Array): Promise<void> {
  for (let at = 0, i = 0; at < data.length; i++) {
    at += await uring.send(fd, data.subarray(at, at + 1 + i * 911 % 60_000));
  }
  await uring.shutdown(fd, SHUT_WR);
}

const POOLS: readonly [string, BufferPoolOptions][] = [
  ["4 buffers of 1000 bytes", { count: 4, size: 1000 }],
  ["64 buffers of 1 KiB", { count: 64, size: 1024 }],
  ["4 buffers of 10,000 bytes, bit by bit", { count: 4, size: 10_000, incremental: true }],
  ["1 buffer", { count: 1, size: 3333 }],
];
const WAYS: readonly [string, RecvMultishotOptions][] = [["copies", {}], ["loans", { borrow: true }]];

for (const [pooled, poolOptions] of POOLS) {
  for (const [way, options] of WAYS) {
    const skip = poolOptions.incremental === true ? noIncremental : noBundles;
    test(`${way} of bundles out of ${pooled}`, { skip }, async () => {
      await using uring = makeUring();
      const { client, server } = await tcpPair(uring);
      const pool = uring.bufferPool(poolOptions);
      const data = content(2 << 20);
      const sending = sendAll(uring, client, data);
      const received = new Digest();
      let longest = 0;
      let chunks = 0;
      for await (const chunk of uring.recvMultishot(server, { ...options, pool, bundle: true })) {
        assert.ok(chunk.length > 0);
        longest = Math.max(longest, chunk.length);
        received.add(chunk);
        if (++chunks % 100 === 0) await uring.timeout(0.1);
      }
      await sending;
      assert.equal(received.end(), digest(data));
      assert.equal(pool.free, pool.count, "every buffer was given back");
      // A copy is of all that a completion tells of; a loan is of one buffer.
      if (options.borrow === true) assert.ok(longest <= pool.size, `${longest} bytes`);
      else if (pool.count > 1) assert.ok(longest > pool.size, `${longest} bytes`);
      closeAll(client, server);
    });
  }
}

for (const { name, flags, skip: lacking } of FLAGS) {
  test(
    `${name}: bundles of several connections out of one pool`,
    { skip: lacking || noBundles },
    async () => {
      await using uring = makeUring({ flags });
      const pool = uring.bufferPool({ count: 16, size: 500 });
      await Promise.all([1, 2, 3].map(async (file) => {
        const { client, server } = await tcpPair(uring);
        const data = content(300_000, file);
        const sending = sendAll(uring, client, data);
        const received = new Digest();
        const borrow = file === 2;
        for await (const chunk of uring.recvMultishot(server, { pool, bundle: true, borrow })) {
          received.add(chunk);
        }
        await sending;
        assert.equal(received.end(), digest(data), `stream ${file}`);
        closeAll(client, server);
      }));
      assert.equal(pool.free, 16);
    },
  );

  test(
    `${name}: a queue is sent in order, with what comes meanwhile`,
    { skip: lacking || noQueues },
    async () => {
      await using uring = makeUring({ flags });
      const { client, server } = await tcpPair(uring);
      const queue = uring.sendQueue({ count: 8, size: 1000 });
      const data = content(500_000);
      const receiving = (async () => {
        const all = new Digest();
        for await (const chunk of uring.recvMultishot(server)) all.add(chunk);
        return all.end();
      })();
      let sent = 0;
      for (let at = 0, i = 0; at < data.length; i++) {
        const piece = data.subarray(at, at + 1 + i * 977 % 3000);
        if (queue.push(piece)) at += piece.length;
        // One that is too long for the room there is waits for it.
        else sent += await within(uring.sendBundle(client, queue), "sendBundle");
      }
      while (queue.queued > 0) sent += await uring.sendBundle(client, queue);
      assert.equal(sent, data.length);
      assert.equal(queue.room, 8000);
      await uring.shutdown(client, SHUT_WR);
      assert.equal(await within(receiving, "receiving"), digest(data));
      closeAll(client, server);
    },
  );
}

test("a break in the middle of a bundle gives every buffer back", { skip: noBundles }, async () => {
  await using uring = makeUring();
  for (const borrow of [false, true]) {
    for (const incremental of noIncremental === false ? [false, true] : [false]) {
      using pair = new SocketPair();
      const pool = uring.bufferPool({ count: 8, size: 16, incremental });
      put(pair.b.fd, content(100));
      for await (const chunk of uring.recvMultishot(pair.a.fd, { pool, borrow, bundle: true })) {
        assertContent(chunk, Math.min(chunk.length, 16), 0);
        break;
      }
      await uring.nop();
      assert.equal(pool.free, 8);
    }
  }
});

test("queues: room, lengths, an empty one", { skip: noQueues }, async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const queue = uring.sendQueue({ count: 4, size: 10 });
  assert.deepEqual([queue.count, queue.size, queue.queued, queue.room], [4, 10, 0, 40]);
  assert.equal(await uring.sendBundle(pair.a.fd, queue), 0);
  assert.ok(queue.push(bytes("0123456789abcde")));
  assert.deepEqual([queue.queued, queue.room], [15, 20]);
  assert.ok(!queue.push(new Uint8Array(21)));
  assert.ok(queue.push(new Uint8Array(0)));
  assert.ok(queue.push(new DataView(bytes("FGHIJKLMNOPQRSTUVWXY").buffer)));
  assert.deepEqual([queue.queued, queue.room], [35, 0]);
  assert.ok(!queue.push(new Uint8Array(1)));
  assert.equal(await uring.sendBundle(pair.a.fd, queue), 35);
  assert.deepEqual([queue.queued, queue.room], [0, 40]);
  const buffer = new Uint8Array(64);
  assert.equal(text(buffer, await uring.recv(pair.b.fd, buffer)), "0123456789abcdeFGHIJKLMNOPQRSTUVWXY");
});

test(
  "what could not be sent stays in the queue: a full socket, a signal, a time limit",
  { skip: noQueues },
  async () => {
    await using uring = makeUring();
    await using reader = makeUring();
    using pair = new SocketPair();
    const [client, server] = [pair.a.fd, pair.b.fd];
    const full = new Uint8Array(4096);
    let before = 0;
    for (;;) {
      const sent = await uring.send(client, full, { flags: MSG_DONTWAIT }).catch(() => 0);
      if (sent === 0) break;
      before += sent;
    }
    const queue = uring.sendQueue({ count: 64, size: 1000 });
    const data = content(64_000);
    assert.ok(queue.push(data));
    await rejectsWith(uring.sendBundle(client, queue, { flags: MSG_DONTWAIT }), "EAGAIN", "send_bundle");
    await rejectsWith(uring.sendBundle(client, queue, { timeout: 5 }), "ETIMEDOUT", "send_bundle");
    const controller = new AbortController();
    const waiting = failure(uring.sendBundle(client, queue, { signal: controller.signal }));
    await flushed(uring);
    assert.throws(() => uring.sendBundle(client, queue), TypeError);
    controller.abort("reason");
    assert.equal(await waiting, "reason");
    assert.equal(queue.queued, data.length);
    const sending = (async () => {
      for (let sent = 0; sent < data.length;) sent += await uring.sendBundle(client, queue);
    })();
    const received = new Uint8Array(before + data.length);
    for (let at = 0, i = 0; at < received.length; i++) {
      at += await reader.recv(server, received.subarray(at, at + 100_000));
      if (i % 16 === 0) collect();
    }
    await within(sending, "sending");
    assertContent(received.subarray(before), data.length, 0);
    assert.deepEqual([queue.queued, queue.room], [0, 64_000]);
  },
);

test("a part that was sent is told, and the failure by the next send", { skip: noQueues }, async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const queue = uring.sendQueue({ count: 1024, size: 4096 });
  assert.ok(queue.push(new Uint8Array(4 << 20)));
  const part = await uring.sendBundle(pair.a.fd, queue, { flags: MSG_DONTWAIT });
  assert.ok(part > 0 && part < 4 << 20, `${part} bytes`);
  assert.equal(queue.queued, (4 << 20) - part);
  pair.b.close();
  await rejectsWith(uring.sendBundle(pair.a.fd, queue), "EPIPE", "send_bundle");
  await rejectsWith(uring.sendBundle(1_000_000, queue), "EBADF", "send_bundle");
  assert.equal(uring.stats.inFlight, 0);
});

test(
  "queues: direct descriptors, chains, what is refused, closing in the middle",
  { skip: noQueues },
  async () => {
    const uring = makeUring();
    await using other = makeUring();
    const listening = await listener(uring);
    const accepting = uring.accept(listening.fd);
    const client = await uring.socket(AF_INET, SOCK_STREAM, 0, { direct: true });
    await uring.connect(client, listening.address);
    const server = await accepting;
    const queue = uring.sendQueue();
    assert.deepEqual([queue.count, queue.size], [64, 16384]);
    queue.push(bytes("chained"));
    const [sent, after] = await uring.link((l) => [
      l.sendBundle(client, queue, { timeout: 10_000 }),
      l.send(client, bytes(" words")),
    ]);
    assert.deepEqual([sent, after], [7, 6]);
    const buffer = new Uint8Array(16);
    assert.equal(text(buffer, await uring.recv(server, buffer)), "chained words");
    for (const count of [0, 3, 65536, 1.5]) {
      await refuses(
        uring,
        RangeError,
        () => uring.sendQueue({ count }),
      );
    }
    for (const size of [0, -1, 1.5, 2 ** 33]) {
      await refuses(
        uring,
        RangeError,
        () => uring.sendQueue({ size }),
      );
    }
    await refuses(uring, TypeError, () => other.sendBundle(server, queue));
    await refuses(
      uring,
      TypeError,
      () => uring.sendBundle(server, uring.bufferPool({ count: 1, size: 1 }) as never),
    );
    await refuses(uring, TypeError, () => uring.recvMultishot(server, { pool: queue as never }));
    await refuses(uring, RangeError, () => uring.sendBundle(server, queue, { flags: -1 }));
    assert.throws(() => queue.push("text" as never), TypeError);
    queue.push(new Uint8Array(1 << 20));
    const last = uring.sendBundle(client, queue).then(() => "ok", (error) => error.code);
    await within(uring.disposeAsync(), "closing");
    assert.ok(["ok", "ECANCELED"].includes(await last));
    assert.equal(queue.push(bytes("late")), false);
    assert.ok(queue instanceof SendQueue);
    closeAll(listening.fd, server);
  },
);
