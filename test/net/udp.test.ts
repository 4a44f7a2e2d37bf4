/** UDP: what is sent arrives, in both styles. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { type Datagram, udp, type UdpAddress, type UdpHandlers, UdpSocket } from "../../src/net/mod.ts";
import { UringError } from "../../src/mod.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { sleep, until, within } from "../support/loop.ts";
import { missingUdp } from "../support/udp.ts";

checkLeaks({ sharedRings: 1 });

const skip = missingUdp();
const HOST = "127.0.0.1";

/** A datagram of so many bytes that is like no other. */
function data(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7 + (i >> 8)) & 0xff);
}

/** A socket that sends back what it gets. */
function echo(more: Partial<UdpHandlers> = {}): UdpSocket {
  return udp({
    hostname: HOST,
    socket: { data: (socket, view, address) => void socket.trySend(view, address), ...more },
  });
}

test("datagrams of all lengths go there and back", { skip }, async () => {
  await using server = echo();
  await using client = udp({ hostname: HOST });
  for (const length of [0, 1, 2, 1472, 1791, 1792, 1793, 8192, 65_507]) {
    const sent = data(length, length);
    assert.equal(await client.send(sent, server.addr), length);
    const { data: back, remoteAddr, truncated, segmentSize } = await within(
      client.receive(),
      `${length} bytes`,
    );
    assert.deepEqual(back, sent, `${length} bytes`);
    assert.deepEqual({ ...remoteAddr }, { transport: "udp", hostname: HOST, port: server.addr.port });
    assert.deepEqual([truncated, segmentSize], [false, 0]);
  }
});

test("receive into a buffer, and what does not fit is cut off", { skip }, async () => {
  await using a = udp({ hostname: HOST });
  await using b = udp({ hostname: HOST });
  const buffer = new Uint8Array(4).fill(9);
  await a.send("ab", b.addr);
  const first = await b.receive(buffer);
  assert.deepEqual([first.length, first.truncated, first.remoteAddr.port], [2, false, a.addr.port]);
  assert.deepEqual(buffer, Uint8Array.of(97, 98, 9, 9));
  await a.send("abcdef", b.addr);
  const second = await b.receive(buffer);
  assert.deepEqual([second.length, second.truncated], [4, true]);
  await using small = udp({ hostname: HOST, maxSize: 3 });
  await a.send("abcdef", small.addr);
  const { data: cut, truncated } = await small.receive();
  assert.deepEqual([new TextDecoder().decode(cut), truncated], ["abc", true]);
});

test("many at once from many sockets, each to its sender", { skip }, async () => {
  await using server = echo();
  const clients = Array.from({ length: 20 }, () => udp({ hostname: HOST }));
  await within(
    Promise.all(clients.map(async (client, i) => {
      for (let round = 0; round < 10; round++) {
        const batch = Array.from({ length: 5 }, (_, j) => data(100 + 10 * j, i * 100 + round * 10 + j));
        await client.sendMany(batch.map((data) => ({ data, address: server.addr })));
        const back = [];
        for (const _ of batch) back.push((await client.receive()).data);
        assert.deepEqual(back, batch);
      }
    })),
    "the answers",
  );
  for (const client of clients) await client.close();
});

test("the view is the kernel's memory, valid during the call", { skip }, async () => {
  const views: Uint8Array[] = [];
  const copies: Uint8Array[] = [];
  const server = udp({
    hostname: HOST,
    buffers: 1,
    socket: {
      data(_, view) {
        views.push(view);
        copies.push(view.slice());
      },
    },
  });
  await using client = udp({ hostname: HOST });
  const sent = [data(50, 1), data(60, 2), data(50, 3)];
  for (const one of sent) {
    await client.send(one, server.addr);
    await until(() => copies.length === sent.indexOf(one) + 1, "its arrival");
  }
  assert.deepEqual(copies, sent);
  await server.close();
  assert.deepEqual(views.map(({ length }) => length), [0, 0, 0]);
});

test("for await until it is closed", { skip }, async () => {
  const server = udp({ hostname: HOST });
  await using client = udp({ hostname: HOST });
  const got: string[] = [];
  const reading = (async () => {
    for await (const { data } of server) got.push(new TextDecoder().decode(data));
  })();
  for (const text of ["a", "b", "c"]) await client.send(text, server.addr);
  await until(() => got.length === 3, "three datagrams");
  await server.close();
  await within(reading, "the loop");
  assert.deepEqual(got, ["a", "b", "c"]);
  await assert.rejects(server.receive(), { code: "ECANCELED" });
  await assert.rejects(server.send("x", client.addr), { code: "ECANCELED" });
  assert.throws(() => server.trySend("x", client.addr), { code: "ECANCELED" });
});

test("leaving a loop early loses nothing", { skip }, async () => {
  await using server = udp({ hostname: HOST });
  await using client = udp({ hostname: HOST });
  await client.sendMany([1, 2, 3, 4].map((i) => ({ data: data(10, i), address: server.addr })));
  const got: Uint8Array[] = [];
  for await (const { data } of server) {
    got.push(data);
    if (got.length === 2) break;
  }
  got.push((await server.receive()).data, (await server.receive()).data);
  assert.deepEqual(got, [1, 2, 3, 4].map((i) => data(10, i)));
});

test("what nobody takes stays with the kernel beyond a limit", { skip }, async () => {
  await using server = udp({ hostname: HOST, limit: 4, buffers: 2 });
  await using client = udp({ hostname: HOST });
  const sent = Array.from({ length: 40 }, (_, i) => data(20, i));
  await client.sendMany(sent.map((data) => ({ data, address: server.addr })));
  const got: Uint8Array[] = [];
  while (got.length < sent.length) {
    got.push((await within(server.receive(), `datagram ${got.length}`)).data);
    if (got.length % 7 === 0) await sleep(1);
  }
  assert.deepEqual(got, sent);
});

test("a connected socket needs no address, and hears of a port where nobody is", { skip }, async () => {
  await using server = echo();
  await using client = udp({ hostname: HOST, connect: server.addr });
  assert.deepEqual(client.remoteAddr, { transport: "udp", hostname: HOST, port: server.addr.port });
  await client.send("hello");
  assert.equal(new TextDecoder().decode((await client.receive()).data), "hello");
  await using stranger = udp({ hostname: HOST });
  await stranger.send("boo", client.addr);
  await client.send("again");
  assert.equal(new TextDecoder().decode((await client.receive()).data), "again");

  const gone = udp({ hostname: HOST });
  const { addr } = gone;
  await gone.close();
  await client.connect({ hostname: "localhost", port: addr.port });
  assert.equal(client.remoteAddr?.port, addr.port);
  await client.send("anybody?");
  await assert.rejects(within(client.receive(), "the refusal"), (error: unknown) => {
    return error instanceof UringError && error.code === "ECONNREFUSED";
  });
  // The socket goes on.
  await client.connect(server.addr);
  await client.send("back");
  assert.equal(new TextDecoder().decode((await within(client.receive(), "the answer")).data), "back");
});

test("handlers hear of a refusal, and the socket goes on", { skip }, async () => {
  const gone = udp({ hostname: HOST });
  const { addr } = gone;
  await gone.close();
  const errors: Error[] = [];
  const got: number[] = [];
  await using client = udp({
    hostname: HOST,
    connect: addr,
    socket: {
      data: (_, view) => void got.push(view.length),
      error: (_, error) => void errors.push(error),
    },
  });
  client.trySend("anybody?");
  await until(() => errors.length === 1, "the refusal");
  assert.equal((errors[0] as UringError).code, "ECONNREFUSED");
  await using server = echo();
  await client.connect(server.addr);
  client.trySend("hello");
  await until(() => got.length === 1, "the answer");
});

test("failures to send tell the address", { skip }, async () => {
  const errors: Error[] = [];
  const sink: UdpAddress = { transport: "udp", hostname: "255.255.255.255", port: 9 };
  await using socket = udp({ hostname: HOST, socket: { error: (_, error) => void errors.push(error) } });
  // Broadcasting has to be asked for.
  await assert.rejects(socket.send("x", sink), {
    code: "EACCES",
    address: "255.255.255.255",
    port: 9,
    message: /^EACCES: .*, send \(255\.255\.255\.255:9\)$/,
  });
  assert.equal(socket.trySend("x", sink), true);
  await until(() => errors.length === 1, "the error");
  assert.equal((errors[0] as unknown as { address: string }).address, "255.255.255.255");
  await assert.rejects(socket.sendMany([{ data: "x", address: sink }]), { code: "EACCES", port: 9 });
  await assert.rejects(socket.send("x"), { code: "EDESTADDRREQ" });
  await assert.rejects(socket.send(new Uint8Array(65_508), { hostname: HOST, port: 9 }), {
    code: "EMSGSIZE",
  });
  await assert.rejects(socket.send("x", { hostname: "nothing.invalid", port: 9 }), {
    syscall: "getaddrinfo",
  });
});

test("trySend says when there is no room, and drain when there is", { skip }, async () => {
  let drained = 0;
  await using sender = udp({ hostname: HOST, socket: { drain: () => void drained++ } });
  await using server = udp({ hostname: HOST, receiveBufferSize: 1 << 20, limit: 10_000 });
  let sent = 0;
  while (sender.trySend(data(10, sent), server.addr)) sent++;
  assert.ok(sent >= 64, `${sent}`);
  assert.equal(drained, 0);
  await until(() => drained === 1, "room");
  assert.equal(sender.trySend("more", server.addr), true);
  for (let i = 0; i < sent; i++) {
    assert.deepEqual((await within(server.receive(), `datagram ${i}`)).data, data(10, i));
  }
  // Who waits for room gets it in order, of either size.
  const large = Array.from({ length: 50 }, (_, i) => sender.send(data(5000, i), server.addr));
  assert.deepEqual(await Promise.all(large), large.map(() => 5000));
});

test("what was sent in the turn of closing still goes out", { skip }, async () => {
  await using server = udp({ hostname: HOST });
  const client = udp({ hostname: HOST });
  for (let i = 0; i < 5; i++) client.trySend(data(30, i), server.addr);
  await client.close();
  for (let i = 0; i < 5; i++) assert.deepEqual((await server.receive()).data, data(30, i));
});

test("a handler that throws is told of, and the socket goes on", { skip }, async () => {
  const errors: string[] = [];
  let calls = 0;
  let closed = 0;
  const server = udp({
    hostname: HOST,
    socket: {
      data() {
        calls++;
        if (calls === 1) throw new Error("at once");
        if (calls === 2) return Promise.reject(new Error("later"));
        if (calls === 3) throw "no error at all";
        return undefined;
      },
      error: (_, error) => void errors.push(error.message),
      close: () => void closed++,
    },
  });
  await using client = udp({ hostname: HOST });
  for (let i = 1; i <= 4; i++) {
    await client.send("x", server.addr);
    await until(() => calls === i, `call ${i}`);
  }
  await until(() => errors.length === 3, "the errors");
  assert.deepEqual(errors.toSorted(), ["at once", "later", "no error at all"]);
  await Promise.all([server.close(), server.close()]);
  await server.close();
  assert.equal(closed, 1);
});

test("a signal closes, or ends a wait", { skip }, async () => {
  const reason = new Error("enough");
  const controller = new AbortController();
  const socket = udp({ hostname: HOST, signal: controller.signal });
  const wait = new AbortController();
  const one = socket.receive({ signal: wait.signal });
  const other = socket.receive();
  wait.abort(reason);
  await assert.rejects(one, reason);
  await using client = udp({ hostname: HOST });
  await client.send("for the other", socket.addr);
  assert.equal((await other).data.length, 13);
  const last = socket.receive();
  controller.abort(reason);
  await assert.rejects(last, reason);
  await socket.close();
  await assert.rejects(socket.receive(), reason);
  assert.throws(() => udp({ signal: controller.signal }), reason);
});

test("wrong arguments, before anything reaches the kernel", { skip }, async () => {
  const wrong: [unknown, typeof TypeError | typeof RangeError][] = [
    [null, TypeError],
    [{ port: 70_000 }, RangeError],
    [{ port: -1 }, RangeError],
    [{ hostname: "example.com" }, TypeError],
    [{ hostname: "" }, TypeError],
    [{ buffers: 3 }, RangeError],
    [{ buffers: 0 }, RangeError],
    [{ maxSize: 0 }, RangeError],
    [{ limit: 0 }, RangeError],
    [{ ttl: 0 }, RangeError],
    [{ ttl: 256 }, RangeError],
    [{ multicastInterface: "nosuchinterface" }, TypeError],
    [{ connect: { hostname: "example.com", port: 1 } }, TypeError],
    [{ connect: { hostname: HOST, port: 0 } }, RangeError],
    [{ signal: 1 }, TypeError],
    [{ uring: {} }, TypeError],
    [{ receiveBufferSize: 0 }, RangeError],
  ];
  for (const [options, error] of wrong) {
    assert.throws(() => udp(options as never), error, JSON.stringify(options));
  }
  await using socket = udp({ hostname: HOST });
  const there = { hostname: HOST, port: 9 };
  await assert.rejects(socket.send(7 as never, there), TypeError);
  await assert.rejects(socket.send(new Uint8Array(65_536), there), RangeError);
  await assert.rejects(socket.send("x", there, { segmentSize: -1 }), RangeError);
  assert.throws(() => socket.trySend("x", { hostname: "example.com", port: 9 }), /names up/);
  assert.throws(() => socket.trySend("x", { hostname: HOST, port: 0 }), RangeError);
  assert.throws(() => socket.trySend("x", 7 as never), TypeError);
  await using other = udp({ hostname: HOST, socket: {} });
  await assert.rejects(other.receive(), TypeError);
  const { port } = socket.addr;
  assert.throws(() => udp({ hostname: HOST, port }), {
    code: "EADDRINUSE",
    address: HOST,
    port,
    syscall: "bind",
  });
  assert.throws(() => udp({ hostname: "192.0.2.1" }), { code: "EADDRNOTAVAIL" });
});

test("with node:dgram at the other end", { skip }, async () => {
  await using server = echo();
  const client = createSocket("udp4");
  const back: Buffer[] = [];
  client.on("message", (message) => back.push(message));
  await new Promise<void>((resolve) => client.bind(0, HOST, resolve));
  for (let i = 0; i < 20; i++) {
    client.send(data(i * 70, i), server.addr.port, HOST);
    await until(() => back.length === i + 1, `answer ${i}`);
    assert.ok(back[i]!.equals(data(i * 70, i)));
  }
  await new Promise<void>((resolve) => client.close(() => resolve()));
});

test("a socket that opens and closes a hundred times leaves nothing behind", { skip }, async () => {
  for (let i = 0; i < 100; i++) {
    const socket = udp({ hostname: HOST, buffers: 4, maxSize: 2000 });
    const waiting: Promise<Datagram<UdpAddress>> = socket.receive();
    socket.trySend("to myself", socket.addr);
    assert.equal((await waiting).data.length, 9);
    const never = socket.receive();
    const closing = socket.close();
    await assert.rejects(never, { code: "ECANCELED" });
    await closing;
  }
});
