/** Zero-copy sends: they settle when the kernel has let go of the memory, and tell whether it copied after all. */
import assert from "node:assert/strict";
import {
  AF_INET,
  IORING_OP_BIND,
  IORING_OP_READV_FIXED,
  IORING_OP_SENDMSG_ZC,
  IPPROTO_TCP,
  MSG_DONTWAIT,
  MSG_WAITALL,
  SO_RCVBUF,
  SO_SNDBUF,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
  TCP_NODELAY,
} from "../../src/ffi/abi.ts";
import { check } from "../../src/ffi/errors.ts";
import { system } from "../../src/ffi/system.ts";
import type { Uring, ZeroCopySent } from "../../src/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, FLAGS, makeUring, sleep, SocketPair, within } from "../support/loop.ts";
import {
  bytes,
  closeAll,
  dial,
  failure,
  flushed,
  listener,
  localAddress,
  LOOPBACK,
  refuses,
  rejectsWith,
  text,
} from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

const skip = firstReason(missingOp(IORING_OP_BIND), missingOp(IORING_OP_SENDMSG_ZC));

function setOption(fd: number, level: number, name: number, value: number): void {
  check(
    system().rare.setsockopt(fd, level, name, new Uint8Array(Int32Array.of(value).buffer), 4),
    "setsockopt",
  );
}

/** Two TCP sockets that are connected to each other. */
async function tcpPair(uring: Uring, room?: number): Promise<{ client: number; server: number }> {
  const listening = await listener(uring);
  if (room !== undefined) setOption(listening.fd, SOL_SOCKET, SO_RCVBUF, room);
  const [client, server] = await Promise.all([dial(uring, listening.address), uring.accept(listening.fd)]);
  closeAll(listening.fd);
  return { client, server };
}

/** Fills a connection until nothing more goes in, also after what was sent had time to arrive. */
async function fill(uring: Uring, fd: number): Promise<number> {
  const data = new Uint8Array(1 << 16);
  let filled = 0;
  for (let refusals = 0; refusals < 3;) {
    const sent = await uring.send(fd, data, { flags: MSG_DONTWAIT }).catch(() => 0);
    filled += sent;
    if (sent > 0) refusals = 0;
    else {
      refusals++;
      await sleep(10);
    }
  }
  return filled;
}

/** Fills a connection, so that what is sent next stays in the sender's memory until the other end reads. */
async function clog(uring: Uring, fd: number): Promise<number> {
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  const filled = await fill(uring, fd);
  setOption(fd, SOL_SOCKET, SO_SNDBUF, 4 << 20);
  return filled;
}

/** Reads so many bytes. */
async function drain(uring: Uring, fd: number, length: number): Promise<Uint8Array> {
  const all = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const got = await uring.recv(fd, all.subarray(at));
    assert.ok(got > 0, `the connection ended after ${at} of ${length} bytes`);
    at += got;
  }
  return all;
}

/** Whether a promise is still pending after what can happen at once has happened. */
async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let pending = true;
  promise.then(() => pending = false, () => pending = false);
  await sleep(30);
  return pending;
}

for (const { name, flags, skip: lacking } of FLAGS) {
  test(`${name}: sendZc and sendmsgZc over TCP`, { skip: lacking || skip }, async () => {
    await using uring = makeUring({ flags });
    const { client, server } = await tcpPair(uring);
    const data = content(200_000);
    const receiving = drain(uring, server, 2 * data.length);
    const one = await within(uring.sendZc(client, data, { flags: MSG_WAITALL }), "sendZc");
    assert.deepEqual(one, { length: data.length, copied: true });
    const parts = [data.subarray(0, 1), data.subarray(1, 150_000), data.subarray(150_000)];
    const two = await within(uring.sendmsgZc(client, parts, { flags: MSG_WAITALL }), "sendmsgZc");
    assert.deepEqual(two, { length: data.length, copied: true });
    const received = await receiving;
    assertContent(received, data.length, 0);
    assertContent(received.subarray(data.length), data.length, 0);
    assert.equal(uring.stats.inFlight, 0);
    closeAll(client, server);
  });
}

test("datagrams, to an address and without one", { skip }, async () => {
  await using uring = makeUring();
  const receiver = await uring.socket(AF_INET, SOCK_DGRAM);
  await uring.bind(receiver, LOOPBACK);
  const address = localAddress(receiver);
  const sender = await uring.socket(AF_INET, SOCK_DGRAM);
  const buffer = new Uint8Array(16);
  await rejectsWith(uring.sendZc(sender, bytes("lost")), "EDESTADDRREQ", "send_zc");
  assert.equal((await uring.sendZc(sender, bytes("one"), { address })).length, 3);
  assert.equal(text(buffer, await uring.recv(receiver, buffer)), "one");
  assert.equal((await uring.sendmsgZc(sender, [bytes("t"), bytes("wo")], { address })).length, 3);
  assert.equal(text(buffer, await uring.recv(receiver, buffer)), "two");
  await uring.connect(sender, address);
  assert.equal((await uring.sendZc(sender, bytes("three!"), { length: 5, pollFirst: true })).length, 5);
  assert.equal(text(buffer, await uring.recv(receiver, buffer)), "three");
  assert.equal((await uring.sendmsgZc(sender, bytes("four"), { pollFirst: true })).length, 4);
  closeAll(receiver, sender);
});

test("the promise waits until the kernel has let go of the buffer", { skip }, async () => {
  await using uring = makeUring();
  await using reader = makeUring();
  const { client, server } = await tcpPair(uring, 4096);
  const before = await clog(uring, client);
  const data = content(50_000);
  const sending = uring.sendZc(client, data);
  assert.ok(await isPending(sending), "settled while the data was still to be sent");
  // The result is there and only the notification is missing: nothing is left to be cancelled.
  assert.equal(await uring.cancel({ any: true }), 0);
  const received = await drain(reader, server, before + data.length);
  assert.equal((await within(sending, "the notification")).length, data.length);
  assertContent(received.subarray(before), data.length, 0);
  closeAll(client, server);
});

test("an abort and a time limit wait for the kernel to let go, too", { skip }, async () => {
  await using uring = makeUring();
  await using reader = makeUring();
  const { client, server } = await tcpPair(uring, 4096);
  const before = await clog(uring, client);
  const data = content(50_000);
  const controller = new AbortController();
  const aborted = uring.sendZc(client, data, { signal: controller.signal });
  const limited = uring.sendmsgZc(client, data, { timeout: 5 });
  await flushed(uring);
  const settled = Promise.allSettled([aborted, limited]);
  await sleep(10);
  controller.abort("reason");
  assert.ok(await isPending(Promise.race([aborted, limited])), "settled while the kernel had the buffer");
  const received = await drain(reader, server, before + 2 * data.length);
  const [first, second] = await within(settled, "the notifications");
  assert.equal((first as PromiseRejectedResult).reason, "reason");
  // Its time ended when the socket had taken the data, before the limit.
  assert.equal((second as PromiseFulfilledResult<ZeroCopySent>).value.length, data.length);
  assertContent(received.subarray(before), data.length, 0);
  assertContent(received.subarray(before + data.length), data.length, 0);
  assert.equal(uring.stats.inFlight, 0);
  closeAll(client, server);
});

test("closing the ring waits for the kernel to let go", { skip }, async () => {
  const uring = makeUring();
  await using reader = makeUring();
  const { client, server } = await tcpPair(uring, 4096);
  const before = await clog(uring, client);
  const data = content(50_000);
  const sending = uring.sendZc(client, data);
  await flushed(uring);
  const closing = uring.disposeAsync();
  assert.ok(await isPending(closing), "closed while the kernel had the buffer");
  assert.ok(await isPending(sending), "settled while the kernel had the buffer");
  const received = await drain(reader, server, before + data.length);
  assert.equal((await within(sending, "the notification")).length, data.length);
  await within(closing, "closing");
  assertContent(received.subarray(before), data.length, 0);
  closeAll(client, server);
});

test("a full socket: a signal and a time limit end the wait for room", { skip }, async () => {
  await using uring = makeUring();
  const { client, server } = await tcpPair(uring, 4096);
  const data = new Uint8Array(1 << 16);
  // What was set grows no more.
  setOption(client, SOL_SOCKET, SO_SNDBUF, 1 << 16);
  await fill(uring, client);
  // It tries when a third is free, and not for every byte of room.
  const pollFirst = true;
  await rejectsWith(uring.sendZc(client, data, { pollFirst, timeout: 5 }), "ETIMEDOUT", "send_zc");
  await rejectsWith(uring.sendmsgZc(client, data, { pollFirst, timeout: 5 }), "ETIMEDOUT", "sendmsg_zc");
  const controller = new AbortController();
  const waiting = failure(uring.sendZc(client, data, { pollFirst, signal: controller.signal }));
  await flushed(uring);
  controller.abort("reason");
  assert.equal(await waiting, "reason");
  assert.equal(await failure(uring.sendZc(client, data, { signal: AbortSignal.abort("early") })), "early");
  assert.equal(uring.stats.inFlight, 0);
  closeAll(client, server);
});

test("failures, with a notification and without one", { skip }, async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const { client, server } = await tcpPair(uring);
  const data = new Uint8Array(20_000);
  await rejectsWith(uring.sendZc(1_000_000, data), "EBADF", "send_zc");
  await rejectsWith(uring.sendmsgZc(1_000_000, data), "EBADF", "sendmsg_zc");
  await rejectsWith(uring.sendZc(pair.a.fd, data), "ENOTSUP", "send_zc");
  await rejectsWith(uring.sendmsgZc(pair.a.fd, data), "ENOTSUP", "sendmsg_zc");
  closeAll(server);
  await uring.send(client, data).catch(() => {});
  await uring.timeout(5);
  for (let i = 0; i < 5; i++) {
    const error = await failure(uring.sendZc(client, data));
    assert.ok(["EPIPE", "ECONNRESET"].includes(error.code), String(error));
    assert.ok(["EPIPE", "ECONNRESET"].includes((await failure(uring.sendmsgZc(client, data))).code));
  }
  assert.equal(uring.stats.inFlight, 0);
  await refuses(uring, TypeError, () => uring.sendZc(client, "text" as never));
  await refuses(uring, RangeError, () => uring.sendZc(client, data, { length: data.length + 1 }));
  await refuses(uring, RangeError, () => uring.sendZc(client, data, { flags: 1.5 }));
  await refuses(uring, TypeError, () => uring.sendZc(client, data, { address: {} as never }));
  await refuses(uring, TypeError, () => uring.sendmsgZc(client, [null as never]));
  closeAll(client);
});

test("direct descriptors, and chains", { skip }, async () => {
  await using uring = makeUring();
  const listening = await listener(uring);
  const accepting = uring.accept(listening.fd);
  const client = await uring.socket(AF_INET, SOCK_STREAM, 0, { direct: true });
  await uring.connect(client, listening.address);
  const server = await accepting;
  const data = content(3000);
  const [one, two, three] = await uring.link((l) => [
    l.sendZc(client, data.subarray(0, 1000)),
    l.sendmsgZc(client, data.subarray(1000, 2000), { timeout: 10_000 }),
    l.send(client, data.subarray(2000)),
  ]);
  assert.deepEqual([one.length, two.length, three], [1000, 1000, 1000]);
  assertContent(await drain(uring, server, data.length), data.length, 0);
  const broken = await uring.linkSettled((l) => [l.sendZc(1_000_000, data), l.nop()]);
  assert.deepEqual(broken.map(({ status }) => status), ["rejected", "rejected"]);
  assert.equal(uring.stats.inFlight, 0);
  await uring.close(client);
  closeAll(server, listening.fd);
});

const noFixed = firstReason(skip, missingOp(IORING_OP_READV_FIXED));

test("out of registered buffers, which stay until the kernel has let go", { skip: noFixed }, async () => {
  await using uring = makeUring();
  await using reader = makeUring();
  const { client, server } = await tcpPair(uring, 4096);
  const before = await clog(uring, client);
  const buffer = uring.registerBuffer(40_000);
  buffer.bytes.set(content(40_000));
  const one = uring.sendZcFixed(client, buffer, { start: 100, length: 10_000 });
  const two = uring.sendmsgZcFixed(client, buffer, [
    { start: 10_100, length: 5_000 },
    { start: 15_100, length: 5_000 },
  ]);
  await flushed(uring);
  const disposing = buffer[Symbol.asyncDispose]();
  assert.throws(() => uring.sendZcFixed(client, buffer), TypeError);
  assert.throws(() => uring.sendmsgZcFixed(client, buffer, []), TypeError);
  assert.ok(await isPending(Promise.race([one, two, disposing])), "settled while the kernel had the buffer");
  const received = await drain(reader, server, before + 20_000);
  assert.deepEqual((await within(Promise.all([one, two]), "notifications")).map(({ length }) => length), [
    10_000,
    10_000,
  ]);
  await within(disposing, "disposing");
  assertContent(received.subarray(before), 20_000, 100);
  closeAll(client, server);
});

test("registered buffers: datagrams, chains, what is refused", { skip: noFixed }, async () => {
  await using uring = makeUring();
  await using other = makeUring();
  await using buffer = uring.registerBuffer(4096);
  await using foreign = other.registerBuffer(4096);
  buffer.bytes.set(bytes("0123456789"));
  const receiver = await uring.socket(AF_INET, SOCK_DGRAM);
  await uring.bind(receiver, LOOPBACK);
  const address = localAddress(receiver);
  const sender = await uring.socket(AF_INET, SOCK_DGRAM);
  await uring.link((l) => [
    l.sendZcFixed(sender, buffer, { start: 2, length: 3, address }),
    l.sendmsgZcFixed(sender, buffer, [{ start: 9, length: 1 }, { start: 0, length: 2 }], { address }),
  ]);
  const got = new Uint8Array(16);
  assert.equal(text(got, await uring.recv(receiver, got)), "234");
  assert.equal(text(got, await uring.recv(receiver, got)), "901");
  await refuses(uring, TypeError, () => uring.sendZcFixed(sender, foreign));
  await refuses(uring, TypeError, () => uring.sendmsgZcFixed(sender, got as never, []));
  await refuses(uring, RangeError, () => uring.sendZcFixed(sender, buffer, { start: 4097 }));
  await refuses(uring, RangeError, () => uring.sendZcFixed(sender, buffer, { start: 1, length: 4096 }));
  await refuses(uring, RangeError, () => uring.sendmsgZcFixed(sender, buffer, [{ start: 4000, length: 97 }]));
  await rejectsWith(uring.sendZcFixed(1_000_000, buffer), "EBADF", "send_zc_fixed");
  await rejectsWith(
    uring.sendmsgZcFixed(1_000_000, buffer, [{ start: 0, length: 1 }]),
    "EBADF",
    "sendmsg_zc_fixed",
  );
  closeAll(receiver, sender);
});

test("memory stays where it is while the collector runs", { skip }, async () => {
  await using uring = makeUring({ entries: 4 });
  await using reader = makeUring();
  const { client, server } = await tcpPair(uring, 4096);
  const before = await clog(uring, client);
  const COUNT = 30;
  const sending = Array.from({ length: COUNT }, (_, i) => {
    const data = content(1000, i);
    return i % 2 === 0
      ? uring.sendZc(client, data)
      : uring.sendmsgZc(client, [data.subarray(0, 500), data.subarray(500)]);
  });
  await flushed(uring);
  for (let i = 0; i < 5; i++) {
    collect();
    for (let j = 0; j < 100; j++) new Uint8Array(1000).fill(0xee);
    await sleep(1);
  }
  const received = await drain(reader, server, before + COUNT * 1000);
  for (const { length } of await within(Promise.all(sending), "all notifications")) {
    assert.equal(length, 1000);
  }
  for (let i = 0; i < COUNT; i++) {
    assertContent(received.subarray(before + i * 1000, before + (i + 1) * 1000), 1000, 0, i);
  }
  closeAll(client, server);
});

test("a buffer that is given away meanwhile is an error", { skip }, async () => {
  await using uring = makeUring();
  const { client, server } = await tcpPair(uring);
  const buffers = [new Uint8Array(new ArrayBuffer(16)), new Uint8Array(new ArrayBuffer(16))];
  const sending = [failure(uring.sendZc(client, buffers[0]!)), failure(uring.sendmsgZc(client, buffers[1]!))];
  const kept = buffers.map((buffer) => buffer.buffer.transfer());
  for (const error of await Promise.all(sending)) assert.ok(error instanceof TypeError, String(error));
  assert.equal(kept.length, 2);
  closeAll(client, server);
});
