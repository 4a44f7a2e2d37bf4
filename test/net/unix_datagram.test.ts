/** Unix datagram sockets, and descriptors that go over Unix sockets. */
import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import process from "node:process";
import { IORING_OP_RECVMSG, O_RDONLY } from "../../src/ffi/abi.ts";
import { system } from "../../src/ffi/system.ts";
import { receiveDescriptors, sendDescriptors } from "../../src/net/descriptors.ts";
import { connect, listen, type OwnedDescriptor, unixDatagram } from "../../src/net/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, makeUring, openFile, sleep, SocketPair, until, within } from "../support/loop.ts";
import { missingOp } from "../support/rings.ts";
import { missingUdp } from "../support/udp.ts";

checkLeaks({ sharedRings: 1 });

const skip = missingUdp();
const NAME = `@uring-test-${process.pid}`;

/** What a descriptor reads from the beginning of its file. */
async function contentOf(descriptor: OwnedDescriptor): Promise<string> {
  await using uring = makeUring();
  const buffer = new Uint8Array(100);
  const length = await uring.read(descriptor.fd, buffer, { offset: 0 });
  return new TextDecoder().decode(buffer.subarray(0, length));
}

test("there and back by path, which goes with the socket", { skip }, async () => {
  using dir = new TempDir();
  const path = dir.of("socket");
  const server = unixDatagram({
    path,
    socket: { data: (socket, view, address) => void socket.trySend(view, address) },
  });
  assert.deepEqual(server.addr, { transport: "unixpacket", path });
  assert.ok(existsSync(path));
  assert.throws(() => unixDatagram({ path }), { code: "EADDRINUSE", address: path });
  await using client = unixDatagram();
  assert.match(client.addr.path, /^\0.+/);
  for (const length of [0, 1, 3000, 65_535]) {
    const sent = new Uint8Array(length).fill(length);
    await client.send(sent, { path });
    const { data, remoteAddr } = await within(client.receive(), `${length} bytes`);
    assert.deepEqual(data, sent);
    assert.deepEqual({ ...remoteAddr }, server.addr);
  }
  await server.close();
  assert.ok(!existsSync(path));
  await assert.rejects(client.send("x", { path }), { code: "ENOENT", address: path });
});

test("connected, and to one that reads slowly nothing is lost", { skip }, async () => {
  await using server = unixDatagram({ path: NAME, limit: 3, buffers: 2 });
  await using client = unixDatagram({ connect: { path: NAME } });
  // More than the kernel queues: the rest waits at the sender.
  const count = 100;
  const sending = client.sendMany(Array.from({ length: count }, (_, i) => ({ data: `${i}` })));
  const got: string[] = [];
  for (let i = 0; i < count; i++) {
    got.push(new TextDecoder().decode((await within(server.receive(), `datagram ${i}`)).data));
    if (i % 10 === 0) await sleep(1);
  }
  await within(sending, "sending");
  assert.deepEqual(got.toSorted(), Array.from({ length: count }, (_, i) => `${i}`).toSorted());
});

test("closing gives up what nobody reads", { skip }, async () => {
  await using server = unixDatagram({ path: NAME });
  const client = unixDatagram();
  client.connect({ path: NAME });
  const sends = Array.from({ length: 100 }, () => client.send("x"));
  const results = Promise.allSettled(sends);
  await within(client.close(), "closing");
  const failed = (await results).filter((result) => result.status === "rejected");
  assert.ok(failed.length > 0 && failed.length < 100, `${failed.length}`);
  for (const { reason } of failed) assert.equal(reason.code, "ECANCELED");
  assert.equal(server.closed, false);
});

test("descriptors go along and are the receiver's own", { skip }, async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("a"), "the first");
  writeFileSync(dir.of("b"), "the second");
  using a = openFile(dir.of("a"), O_RDONLY);
  using b = openFile(dir.of("b"), O_RDONLY);
  await using server = unixDatagram({ path: NAME, descriptors: 2 });
  await using client = unixDatagram();
  await client.sendDescriptors("two", [a.fd, { fd: b.fd }], { path: NAME });
  const { data, descriptors, controlTruncated } = await within(server.receive(), "the datagram");
  assert.deepEqual([new TextDecoder().decode(data), controlTruncated], ["two", false]);
  assert.deepEqual(await Promise.all(descriptors.map(contentOf)), ["the first", "the second"]);
  for (const descriptor of descriptors) {
    assert.ok(descriptor.fd !== a.fd && descriptor.fd !== b.fd);
    descriptor.close();
    descriptor.close();
    assert.equal(descriptor.fd, -1);
    assert.equal(descriptor.take(), -1);
  }
  // More than there is room for.
  client.connect({ path: NAME });
  await client.sendDescriptors("three", [a.fd, b.fd, a.fd]);
  const cut = await within(server.receive(), "the datagram");
  assert.deepEqual([cut.descriptors.length, cut.controlTruncated], [2, true]);
  const taken = cut.descriptors[0]!.take();
  assert.equal(cut.descriptors[0]!.fd, -1);
  system().close(taken);
  cut.descriptors[1]![Symbol.dispose]();
});

test("descriptors that nobody takes are closed", { skip }, async () => {
  await using client = unixDatagram();
  // With handlers when the handler returns, …
  const seen: number[] = [];
  const server = unixDatagram({
    path: NAME,
    descriptors: 1,
    socket: { data: (_socket, _view, _from, { descriptors }) => void seen.push(descriptors[0]!.fd) },
  });
  client.connect({ path: NAME });
  const before = open();
  await client.sendDescriptors("x", [0]);
  await until(() => seen.length === 1, "the datagram");
  assert.ok(seen[0]! > 2);
  assert.equal(open(), before);
  await server.close();
  // … with what waits in the queue when the socket is closed, …
  const queue = unixDatagram({ path: NAME, descriptors: 1 });
  client.connect({ path: NAME });
  const first = queue.receive();
  await client.sendDescriptors("x", [0]);
  (await first).descriptors[0]!.close();
  await client.sendDescriptors("x", [0]);
  await sleep(20);
  await queue.close();
  // … without room for them, …
  await using none = unixDatagram({ path: NAME });
  client.connect({ path: NAME });
  await client.sendDescriptors("x", [0]);
  assert.deepEqual((await none.receive()).descriptors, []);
  await until(() => open() <= before, "the descriptors' end");
  // … and when they are collected.
  await none.close();
  await using some = unixDatagram({ path: NAME, descriptors: 1 });
  client.connect({ path: NAME });
  const now = open();
  for (let i = 0; i < 20; i++) {
    await client.sendDescriptors("x", [0]);
    await some.receive();
  }
  for (let i = 0; i < 100 && open() > now + 3; i++) {
    collect();
    await sleep(5);
  }
  assert.ok(open() <= now + 3, `${open() - now} are open`);
  // The last one may still be on the stack.
  await client.send("x");
  await some.receive();
  for (let i = 0; i < 100 && open() > now; i++) {
    collect();
    await sleep(5);
  }
});

/** How many descriptors are open. */
function open(): number {
  let count = 0;
  for (let fd = 0; fd < 200; fd++) if (existsSync(`/proc/self/fd/${fd}`)) count++;
  return count;
}

test("who has sent it", { skip }, async () => {
  await using server = unixDatagram({ path: NAME, credentials: true });
  await using client = unixDatagram({ connect: { path: NAME } });
  await client.send("it is me");
  const { control } = await server.receive();
  assert.deepEqual(control, [{
    kind: "credentials",
    pid: process.pid,
    uid: process.getuid!(),
    gid: process.getgid!(),
  }]);
});

test("over a stream, for connections", { skip: missingOp(IORING_OP_RECVMSG) }, async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  using dir = new TempDir();
  writeFileSync(dir.of("a"), "over a stream");
  using file = openFile(dir.of("a"), O_RDONLY);
  const large = new Uint8Array(1 << 20).fill(5);
  const sending = sendDescriptors(uring, pair.a.fd, large, [file.fd]);
  const buffer = new Uint8Array(1 << 16);
  let length = 0;
  const all: OwnedDescriptor[] = [];
  while (length < large.length) {
    const received = await within(receiveDescriptors(uring, pair.b.fd, buffer), "data");
    assert.ok(buffer.subarray(0, received.length).every((byte) => byte === 5));
    length += received.length;
    all.push(...received.descriptors);
  }
  assert.equal(await within(sending, "sending"), large.length);
  assert.equal(all.length, 1);
  assert.equal(await contentOf(all[0]!), "over a stream");
  all[0]!.close();
  await assert.rejects(sendDescriptors(uring, pair.a.fd, new Uint8Array(0), [file.fd]), RangeError);
  await assert.rejects(sendDescriptors(uring, pair.a.fd, large, []), RangeError);
  await assert.rejects(sendDescriptors(uring, pair.a.fd, large, [-1]), TypeError);
});

test("over connections, in order with what is written", { skip }, async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("a"), "over a connection");
  using file = openFile(dir.of("a"), O_RDONLY);
  await using listener = listen({ path: dir.of("socket") });
  await using client = await connect({ path: dir.of("socket") });
  await using server = await listener.accept();
  const writing = [
    client.write("before"),
    client.sendDescriptors("with", [file.fd, file]),
    client.write("after"),
  ];
  const buffer = new Uint8Array(100);
  let text = "";
  const all: OwnedDescriptor[] = [];
  while (text.length < 15) {
    const { length, descriptors } = await within(server.receiveDescriptors(buffer), "data");
    text += new TextDecoder().decode(buffer.subarray(0, length));
    all.push(...descriptors);
  }
  assert.deepEqual(await Promise.all(writing), [6, 4, 5]);
  assert.equal(text, "beforewithafter");
  assert.deepEqual(await Promise.all(all.map(contentOf)), ["over a connection", "over a connection"]);
  for (const one of all) one.close();
  // Read as ever afterwards.
  await server.write("back");
  assert.equal(await client.read(buffer), 4);
  await client.write("more");
  assert.equal(await server.read(buffer), 4);
  // What was read ahead comes without descriptors, and the end is told.
  const waiting = server.receiveDescriptors(buffer);
  await assert.rejects(client.sendDescriptors("", [file.fd]), RangeError);
  await assert.rejects(client.sendDescriptors("x", [-1]), TypeError);
  await client.closeWrite();
  assert.equal((await within(waiting, "the end")).length, 0);
  const never = client.receiveDescriptors(buffer);
  await sleep(1);
  await client.close();
  await assert.rejects(within(never, "the wait"), { code: "ECANCELED" });
  await assert.rejects(client.receiveDescriptors(buffer), { code: "ECANCELED" });
  await assert.rejects(client.sendDescriptors("x", [file.fd]), { code: "ECANCELED" });
});

test("wrong arguments", { skip }, async () => {
  for (const path of ["", "a\0b", "x".repeat(108), 7]) {
    assert.throws(() => unixDatagram({ path: path as string }), /path|Path/, String(path));
  }
  assert.throws(() => unixDatagram({ descriptors: 254 }), RangeError);
  assert.throws(() => unixDatagram({ descriptors: -1 }), RangeError);
  await using socket = unixDatagram();
  await assert.rejects(socket.sendDescriptors("x", []), RangeError);
  await assert.rejects(socket.sendDescriptors("x", Array(254).fill(0)), RangeError);
  await assert.rejects(socket.sendDescriptors("x", [{ fd: -1 }]), TypeError);
  await assert.rejects(socket.sendDescriptors("x", ["0" as never]), TypeError);
  await assert.rejects(socket.send("x", { path: "" }), TypeError);
});
