/** Multishot receives: copies and loans, pools that run out, ends, breaks. */
import assert from "node:assert/strict";
import { MSG_DONTWAIT, SHUT_WR, SOCK_STREAM } from "../../src/ffi/abi.ts";
import { type RecvMultishotOptions, type Uring } from "../../src/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { content } from "../support/content.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, SocketPair, until, within } from "../support/loop.ts";
import {
  bytes,
  closeAll,
  dial,
  Digest,
  digest,
  failure,
  listener,
  put,
  refuses,
  rejectsWith,
  text,
} from "../support/operations.ts";

checkLeaks();

const skip = kernelHas("6.0") ? false : "needs Linux 6.0";

/** Sends everything and finishes. */
async function sendAll(uring: Uring, fd: number, data: Uint8Array): Promise<void> {
  for (let at = 0; at < data.length;) at += await uring.send(fd, data.subarray(at));
  await uring.shutdown(fd, SHUT_WR);
}

const WAYS: readonly { name: string; options: RecvMultishotOptions }[] = [
  { name: "copies", options: {} },
  { name: "loans", options: { borrow: true } },
];

for (const { name, options } of WAYS) {
  test(`${name}: chunks as they come, then the end`, { skip }, async () => {
    await using uring = makeUring();
    using pair = new SocketPair();
    const receiving = uring.recvMultishot(pair.a.fd, options);
    for (const word of ["one", "two", "three"]) {
      const next = receiving.next();
      put(pair.b.fd, word);
      assert.equal(text((await within(next, "a chunk")).value!), word);
    }
    const last = receiving.next();
    await uring.shutdown(pair.b.fd, SHUT_WR);
    assert.deepEqual(await within(last, "the end"), { done: true, value: undefined });
    assert.deepEqual(await receiving.next(), { done: true, value: undefined });
    // What is there before the first call, and an end without any data.
    using second = new SocketPair();
    put(second.b.fd, "early");
    second.b.close();
    const chunks = await Array.fromAsync(uring.recvMultishot(second.a.fd), (chunk) => text(chunk));
    assert.deepEqual(chunks, ["early"]);
    assert.deepEqual(await Array.fromAsync(uring.recvMultishot(second.a.fd, options)), []);
  });

  for (const [count, size] of [[1, 1000], [4, 512], [64, 16384]] as const) {
    test(`${name}: 8 MiB through ${count} buffers of ${size} bytes`, { skip }, async () => {
      await using uring = makeUring();
      using pair = new SocketPair();
      const pool = uring.bufferPool({ count, size });
      const data = content(8 << 20);
      const sending = sendAll(uring, pair.b.fd, data);
      const received = new Digest();
      for await (const chunk of uring.recvMultishot(pair.a.fd, { ...options, pool })) {
        assert.ok(chunk.length > 0 && chunk.length <= size);
        received.add(chunk);
      }
      await sending;
      assert.equal(received.end(), digest(data));
      assert.equal(pool.free, count, "every buffer was given back");
    });
  }

  test(`${name}: a slow consumer loses nothing and holds the sender back`, { skip }, async () => {
    await using uring = makeUring();
    using pair = new SocketPair();
    const pool = uring.bufferPool({ count: 4, size: 1024 });
    const data = content(4 << 20);
    let sent = 0;
    const sending = (async () => {
      while (sent < data.length) sent += await uring.send(pair.b.fd, data.subarray(sent, sent + 4096));
      await uring.shutdown(pair.b.fd, SHUT_WR);
    })();
    const received = new Digest();
    let chunks = 0;
    for await (const chunk of uring.recvMultishot(pair.a.fd, { ...options, pool })) {
      received.add(chunk);
      // Longer than filling all there is to fill takes.
      if (++chunks === 1) {
        await uring.timeout(100);
        assert.ok(sent < 2 << 20, `${sent} bytes were sent while one chunk was taken`);
      } else if (chunks % 100 === 0) await uring.timeout(0.1);
    }
    await sending;
    assert.equal(received.end(), digest(data));
    assert.equal(pool.free, 4);
  });

  test(`${name}: break in the middle leaves the connection and the pool usable`, { skip }, async () => {
    await using uring = makeUring();
    using pair = new SocketPair();
    const pool = uring.bufferPool({ count: 4, size: 64 });
    for (let round = 0; round < 10; round++) {
      put(pair.b.fd, `first ${round}`);
      for await (const chunk of uring.recvMultishot(pair.a.fd, { ...options, pool })) {
        assert.equal(text(chunk), `first ${round}`);
        break;
      }
      assert.equal(pool.free, 4);
      await until(() => uring.stats.inFlight === 0, "the request to cancel has ended, too");
      await rejectsWith(uring.recv(pair.a.fd, new Uint8Array(1), { flags: MSG_DONTWAIT }), "EAGAIN", "recv");
    }
    // With more on its way than the consumer takes, and nobody waiting.
    put(pair.b.fd, content(100_000));
    const receiving = uring.recvMultishot(pair.a.fd, { ...options, pool });
    await receiving.next();
    await uring.timeout(2);
    await within(receiving.return(), "return");
    assert.equal(pool.free, 4);
  });

  test(`${name}: receives that share one pool`, { skip }, async () => {
    await using uring = makeUring();
    const pool = uring.bufferPool({ count: 2, size: 512 });
    await Promise.all([1, 2, 3].map(async (file) => {
      using pair = new SocketPair();
      const data = content(300_000, file);
      const sending = sendAll(uring, pair.b.fd, data);
      const received = new Digest();
      let chunks = 0;
      for await (const chunk of uring.recvMultishot(pair.a.fd, { ...options, pool })) {
        received.add(chunk);
        if (++chunks % 64 === 0) await uring.timeout(0.1);
      }
      await sending;
      assert.equal(received.end(), digest(data), `stream ${file}`);
    }));
    assert.equal(pool.free, 2);
  });

  test(`${name}: many calls of next at once`, { skip }, async () => {
    await using uring = makeUring();
    using pair = new SocketPair();
    const pool = uring.bufferPool({ count: 8, size: 4 });
    const receiving = uring.recvMultishot(pair.a.fd, { ...options, pool });
    const nexts = Array.from({ length: 8 }, () => receiving.next());
    put(pair.b.fd, "aaaabbbbccccddddeeeeffffgggghhhh");
    const chunks = await within(Promise.all(nexts), "eight chunks");
    assert.equal(chunks.map(({ value }) => text(value!)).join(""), "aaaabbbbccccddddeeeeffffgggghhhh");
    await receiving.return();
    assert.equal(pool.free, 8);
  });

  test(`${name}: signals and time limits`, { skip }, async () => {
    await using uring = makeUring();
    using pair = new SocketPair();
    const pool = uring.bufferPool({ count: 2, size: 16 });
    await rejectsWith(
      uring.recvMultishot(pair.a.fd, { ...options, pool, timeout: 3 }).next(),
      "ETIMEDOUT",
      "recv",
    );
    const controller = new AbortController();
    const receiving = uring.recvMultishot(pair.a.fd, { ...options, pool, signal: controller.signal });
    put(pair.b.fd, content(200));
    await receiving.next();
    // The pool is empty, or the receive has paused: it is ended all the same.
    await uring.timeout(2);
    controller.abort("reason");
    assert.equal(await failure(receiving.next()), "reason");
    await uring.nop();
    await receiving.return();
    assert.equal(pool.free, 2);
  });

  test(`${name}: a queue of completions that overflows loses nothing`, { skip }, async () => {
    await using uring = makeUring({ entries: 2, cqEntries: 2 });
    await using sender = makeUring();
    using pair = new SocketPair();
    const pool = uring.bufferPool({ count: 64, size: 256 });
    const data = content(1 << 20);
    const sending = sendAll(sender, pair.b.fd, data);
    const received = new Digest();
    for await (const chunk of uring.recvMultishot(pair.a.fd, { ...options, pool })) received.add(chunk);
    await sending;
    assert.equal(received.end(), digest(data));
    assert.equal(pool.free, 64);
  });

  test(`${name}: closing the ring in the middle`, { skip }, async () => {
    for (const when of ["waiting", "paused", "taken"] as const) {
      using pair = new SocketPair();
      const uring = makeUring();
      const pool = uring.bufferPool({ count: 2, size: 16 });
      const receiving = uring.recvMultishot(pair.a.fd, { ...options, pool });
      const first = receiving.next();
      put(pair.b.fd, when === "paused" ? content(100) : "x");
      const chunk = (await within(first, "a chunk")).value!;
      const waiting = when === "waiting" ? failure(receiving.next()) : null;
      await uring.nop();
      await within(uring.disposeAsync(), "closing");
      if (waiting !== null) assert.equal((await waiting).code, "ECANCELED");
      // A loan is empty now, and not somebody else's memory.
      assert.equal(chunk.length, options.borrow === true ? 0 : when === "paused" ? 16 : 1);
      for (let i = 0; i < 10; i++) await receiving.next().catch(() => {});
      assert.deepEqual(await receiving.next(), { done: true, value: undefined });
      await receiving.return();
    }
  });
}

test("a loan is the pool's own memory until the next chunk is asked for", { skip }, async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const pool = uring.bufferPool({ count: 2, size: 16 });
  const receiving = uring.recvMultishot(pair.a.fd, { borrow: true, pool });
  put(pair.b.fd, "first");
  const first = (await receiving.next()).value!;
  assert.equal(pool.free, 1);
  put(pair.b.fd, "second");
  await uring.timeout(2);
  assert.equal(text(first), "first", "not written over while it is lent");
  const second = (await receiving.next()).value!;
  assert.equal(text(second), "second");
  assert.equal(first.buffer, second.buffer);
  await receiving.return();
  assert.equal(pool.free, 2);
});

test("direct descriptors", { skip }, async () => {
  await using uring = makeUring();
  const listening = await listener(uring);
  const accepting = uring.accept(listening.fd, { direct: true });
  const client = await dial(uring, listening.address);
  const connection = await accepting;
  const data = content(500_000);
  const sending = sendAll(uring, client, data);
  const received = new Digest();
  for await (const chunk of uring.recvMultishot(connection)) received.add(chunk);
  await sending;
  assert.equal(received.end(), digest(data));
  await uring.close(connection);
  closeAll(client, listening.fd);
});

test("what cannot be received from fails, once", { skip }, async () => {
  await using uring = makeUring();
  await rejectsWith(uring.recvMultishot(1_000_000).next(), "EBADF", "recv");
  const fd = await uring.socket(2, SOCK_STREAM);
  const receiving = uring.recvMultishot(fd);
  await rejectsWith(receiving.next(), "ENOTCONN", "recv");
  assert.deepEqual(await receiving.next(), { done: true, value: undefined });
  closeAll(fd);
});

test("data that came before a failure is given out before it", { skip }, async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  put(pair.b.fd, bytes("data"));
  const receiving = uring.recvMultishot(pair.a.fd);
  const first = receiving.next();
  assert.equal(text((await first).value!), "data");
  put(pair.b.fd, bytes("more"));
  await uring.timeout(2);
  assert.equal(await uring.cancel({ fd: pair.a.fd }), 1);
  assert.equal(text((await receiving.next()).value!), "more");
  await rejectsWith(receiving.next(), "ECANCELED", "recv");
});

test("pools: wrong sizes and those of another ring are refused", { skip }, async () => {
  await using uring = makeUring();
  await using other = makeUring();
  for (const count of [0, 3, -4, 65536, 1.5, NaN]) {
    await refuses(uring, RangeError, () => uring.bufferPool({ count }));
  }
  for (const size of [0, -1, 1.5, NaN, 2 ** 33]) {
    await refuses(uring, RangeError, () => uring.bufferPool({ size }));
  }
  const foreign = other.bufferPool({ count: 1, size: 1 });
  await refuses(uring, TypeError, () => uring.recvMultishot(0, { pool: foreign }));
  await refuses(uring, RangeError, () => uring.recvMultishot(0, { flags: -1 }));
  const pool = uring.bufferPool({ count: 1, size: 1 });
  assert.deepEqual([pool.count, pool.size, pool.free], [1, 1, 1]);
});
