/** Sockets: made, bound, connected, accepted, written, read, shut down; as descriptors of either kind. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import {
  AF_INET,
  AF_UNIX,
  IORING_OP_BIND,
  MSG_DONTWAIT,
  MSG_PEEK,
  MSG_WAITALL,
  O_CLOEXEC,
  O_NONBLOCK,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from "../../src/ffi/abi.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { DirectDescriptor, type Fd, type SocketAddress, type Uring } from "../../src/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { fdFlags, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, SocketPair, within } from "../support/loop.ts";
import {
  bytes,
  closeAll,
  countDescriptors,
  descriptors,
  dial,
  listener,
  localAddress,
  LOOPBACK,
  rejectsWith,
  text,
} from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

// Where sockets are bound by the library, so is everything else there.
const skip = missingOp(IORING_OP_BIND);
const noAcceptFlags = firstReason(skip, kernelHas("6.10") ? false : "needs Linux 6.10");
const noPollFirst = kernelHas("5.19") ? false : "needs Linux 5.19";
const noIpv6 = firstReason(
  skip,
  existsSync("/proc/net/if_inet6") && readFileSync("/proc/net/if_inet6", "utf8").includes(" lo")
    ? false
    : "the machine has no IPv6",
);

/** Connects to an address, exchanges a word in both directions, and tells who came. */
async function converse(uring: Uring, where: SocketAddress): Promise<SocketAddress> {
  const { fd: server, address } = await listener(uring, where);
  const [client, accepted] = await within(
    Promise.all([dial(uring, address), uring.acceptFrom(server)]),
    "accept",
  );
  assert.deepEqual(accepted.address, localAddress(client));
  assert.equal(fdFlags(accepted.fd) & O_CLOEXEC, O_CLOEXEC);
  const buffer = new Uint8Array(64);
  assert.equal(await uring.send(client, bytes("question")), 8);
  assert.equal(text(buffer, await uring.recv(accepted.fd, buffer)), "question");
  assert.equal(await uring.send(accepted.fd, bytes("answer")), 6);
  assert.equal(text(buffer, await uring.recv(client, buffer)), "answer");
  for (const fd of [client, accepted.fd, server]) await uring.close(fd);
  return accepted.address;
}

test("TCP over IPv4: socket, bind, listen, connect, accept, send, recv", { skip }, async () => {
  await using uring = makeUring();
  const from = await converse(uring, LOOPBACK);
  assert.ok(from.family === "ipv4" && from.address === "127.0.0.1" && from.port > 0, JSON.stringify(from));
});

test("TCP over IPv6", { skip: noIpv6 }, async () => {
  await using uring = makeUring();
  const from = await converse(uring, { family: "ipv6", address: "::1", port: 0 });
  assert.ok(from.family === "ipv6" && from.address === "::1", JSON.stringify(from));
});

test("Unix sockets: by path, by abstract name, by a name of the kernel's choice", { skip }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const path = dir.of("socket");
  assert.deepEqual(await converse(uring, { family: "unix", path }), { family: "unix", path: "" });
  assert.ok(existsSync(path));
  const name = `\0uring-${dir.path}`;
  assert.deepEqual(await converse(uring, { family: "unix", path: name }), { family: "unix", path: "" });
  await converse(uring, { family: "unix", path: "" });
  // A client with a name of its own.
  const server = await listener(uring, { family: "unix", path: `${name}-2` });
  const client = await uring.socket(AF_UNIX, SOCK_STREAM);
  await uring.bind(client, { family: "unix", path: `${name}-client` });
  const accepting = uring.acceptFrom(server.fd);
  await uring.connect(client, server.address);
  const accepted = await accepting;
  assert.deepEqual(accepted.address, { family: "unix", path: `${name}-client` });
  closeAll(server.fd, client, accepted.fd);
});

test("socket and accept: flags; close-on-exec is always set", { skip }, async () => {
  await using uring = makeUring();
  const flags = (fd: number): number => fdFlags(fd) & (O_CLOEXEC | O_NONBLOCK);
  const plain = await uring.socket(AF_INET, SOCK_STREAM);
  const nonblocking = await uring.socket(AF_INET, SOCK_STREAM, 0, { flags: SOCK_NONBLOCK });
  const inType = await uring.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 17);
  assert.deepEqual([plain, nonblocking, inType].map(flags), [
    O_CLOEXEC,
    O_CLOEXEC | O_NONBLOCK,
    O_CLOEXEC | O_NONBLOCK,
  ]);
  const server = await listener(uring);
  const clients = [await dial(uring, server.address), await dial(uring, server.address)];
  const accepted = [await uring.accept(server.fd), await uring.accept(server.fd, { flags: SOCK_NONBLOCK })];
  assert.deepEqual(accepted.map(flags), [O_CLOEXEC, O_CLOEXEC | O_NONBLOCK]);
  closeAll(plain, nonblocking, inType, server.fd, ...clients, ...accepted);
  await rejectsWith(uring.socket(AF_INET, SOCK_STREAM, 17), "EPROTONOSUPPORT", "socket");
  await rejectsWith(uring.socket(9999, SOCK_STREAM), "EAFNOSUPPORT", "socket");
});

test("connect: refused, to a path that is not there, twice", { skip }, async () => {
  await using uring = makeUring();
  const server = await listener(uring);
  const fd = await dial(uring, server.address);
  await rejectsWith(uring.connect(fd, server.address), "EISCONN", "connect");
  closeAll(server.fd, fd);
  const refused = await uring.socket(AF_INET, SOCK_STREAM);
  await rejectsWith(uring.connect(refused, server.address), "ECONNREFUSED", "connect");
  const unix = await uring.socket(AF_UNIX, SOCK_STREAM);
  await rejectsWith(
    uring.connect(unix, { family: "unix", path: "/nonexistent/socket" }),
    "ENOENT",
    "connect",
  );
  await rejectsWith(uring.connect(unix, LOOPBACK), "EINVAL", "connect");
  closeAll(refused, unix);
});

test(
  "bind and listen: an address in use, one that is not ours, a socket that cannot listen",
  { skip },
  async () => {
    await using uring = makeUring();
    const server = await listener(uring);
    const fd = await uring.socket(AF_INET, SOCK_STREAM);
    await rejectsWith(uring.bind(fd, server.address), "EADDRINUSE", "bind");
    await rejectsWith(
      uring.bind(fd, { family: "ipv4", address: "203.0.113.1", port: 0 }),
      "EADDRNOTAVAIL",
      "bind",
    );
    const datagram = await uring.socket(AF_INET, SOCK_DGRAM);
    await rejectsWith(uring.listen(datagram), "ENOTSUP", "listen");
    await rejectsWith(uring.accept(fd), "EINVAL", "accept");
    closeAll(server.fd, fd, datagram);
  },
);

test("recv: waits for data; a short one gives what is there; 0 at the end", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const buffer = new Uint8Array(16);
  const waiting = uring.recv(pair.a.fd, buffer);
  await uring.nop();
  await uring.send(pair.b.fd, bytes("abc"));
  assert.equal(await within(waiting, "recv"), 3);
  assert.equal(text(buffer, 3), "abc");
  await uring.send(pair.b.fd, bytes("0123456789"), { length: 6 });
  assert.equal(await uring.recv(pair.a.fd, buffer, { length: 4 }), 4);
  assert.equal(await uring.recv(pair.a.fd, buffer), 2);
  assert.equal(text(buffer, 4), "4523");
  await uring.shutdown(pair.b.fd, SHUT_WR);
  assert.equal(await uring.recv(pair.a.fd, buffer), 0);
  assert.equal(await uring.recv(pair.a.fd, buffer), 0);
});

test("send and recv: flags", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const buffer = new Uint8Array(8);
  await rejectsWith(uring.recv(pair.a.fd, buffer, { flags: MSG_DONTWAIT }), "EAGAIN", "recv");
  await uring.send(pair.b.fd, bytes("peek"));
  assert.equal(await uring.recv(pair.a.fd, buffer, { flags: MSG_PEEK }), 4);
  const all = uring.recv(pair.a.fd, buffer, { flags: MSG_WAITALL });
  await uring.nop();
  await uring.send(pair.b.fd, bytes("more"));
  assert.equal(await within(all, "MSG_WAITALL"), 8);
  assert.equal(text(buffer), "peekmore");
});

test("send: a full socket takes a part, then nothing; waiting takes all", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const data = content(4 << 20);
  const taken = await uring.send(pair.a.fd, data, { flags: MSG_DONTWAIT });
  assert.ok(taken > 0 && taken < data.length, `${taken} bytes`);
  await rejectsWith(uring.send(pair.a.fd, data, { flags: MSG_DONTWAIT }), "EAGAIN", "send");
  const rest = uring.send(pair.a.fd, data.subarray(taken), { flags: MSG_WAITALL });
  const back = new Uint8Array(data.length);
  for (let at = 0; at < back.length;) {
    at += await within(uring.recv(pair.b.fd, back.subarray(at)), "recv");
  }
  assert.equal(await rest, data.length - taken);
  assertContent(back, back.length, 0);
});

test("send: to a peer that is gone fails with EPIPE and raises no signal", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  pair.b.close();
  await rejectsWith(uring.send(pair.a.fd, bytes("x")), "EPIPE", "send");
  assert.equal(await uring.recv(pair.a.fd, new Uint8Array(1)), 0);
});

test("shutdown: each direction, and a socket that is not connected", { skip }, async () => {
  await using uring = makeUring();
  const buffer = new Uint8Array(8);
  {
    using pair = new SocketPair();
    const waiting = uring.recv(pair.a.fd, buffer);
    await uring.nop();
    await uring.shutdown(pair.a.fd, SHUT_RD);
    assert.equal(await within(waiting, "recv"), 0);
    assert.equal(await uring.send(pair.a.fd, bytes("out")), 3);
    assert.equal(await uring.recv(pair.b.fd, buffer), 3);
  }
  {
    using pair = new SocketPair();
    await uring.shutdown(pair.a.fd, SHUT_RDWR);
    await rejectsWith(uring.send(pair.a.fd, bytes("x")), "EPIPE", "send");
    assert.equal(await uring.recv(pair.b.fd, buffer), 0);
    await rejectsWith(uring.shutdown(pair.a.fd, 7), "EINVAL", "shutdown");
  }
  const lonely = await uring.socket(AF_INET, SOCK_STREAM);
  await rejectsWith(uring.shutdown(lonely, SHUT_WR), "ENOTCONN", "shutdown");
  const file = await uring.openat("/proc/self/comm");
  await rejectsWith(uring.shutdown(file, SHUT_WR), "ENOTSOCK", "shutdown");
  await rejectsWith(uring.recv(file, buffer), "ENOTSOCK", "recv");
  await rejectsWith(uring.send(file, buffer), "ENOTSOCK", "send");
  closeAll(lonely, file);
});

test("several accepts wait on one socket, each gets a connection of its own", { skip }, async () => {
  await using uring = makeUring();
  const server = await listener(uring);
  const accepting = Array.from({ length: 8 }, () => uring.accept(server.fd));
  const clients = await Promise.all(accepting.map(() => dial(uring, server.address)));
  const accepted = await within(Promise.all(accepting), "eight accepts");
  assert.equal(new Set(accepted).size, 8);
  closeAll(server.fd, ...clients, ...accepted);
});

test("direct descriptors: a whole conversation without a descriptor of the process", { skip }, async () => {
  await using uring = makeUring();
  // The loop's own descriptors are there after the first wait.
  await uring.timeout(1);
  const before = descriptors().length;
  const name = `\0uring-direct-${performance.now()}`;
  const make = (): Promise<DirectDescriptor> => uring.socket(AF_UNIX, SOCK_STREAM, 0, { direct: true });
  const [server, client] = [await make(), await make()];
  assert.ok(server instanceof DirectDescriptor && server.slot !== client.slot);
  await uring.bind(server, { family: "unix", path: name });
  await uring.listen(server);
  const accepting = uring.accept(server, { direct: true, flags: SOCK_NONBLOCK });
  await uring.connect(client, { family: "unix", path: name });
  const connection = await within(accepting, "accept");
  const buffer = new Uint8Array(16);
  const echo = async (from: Fd, to: Fd): Promise<void> => {
    assert.equal(await uring.send(from, bytes("direct")), 6);
    assert.equal(await uring.recv(to, buffer), 6);
    assert.equal(text(buffer, 6), "direct");
    assert.equal(await uring.write(from, bytes("as a file")), 9);
    assert.equal(await uring.read(to, buffer), 9);
  };
  await echo(client, connection);
  await echo(connection, client);
  await uring.shutdown(client, SHUT_WR);
  assert.equal(await uring.recv(connection, buffer), 0);
  assert.equal(descriptors().length, before);
  // A mixed pair: accepted as a descriptor of the process.
  const mixing = uring.acceptFrom(server);
  const second = await make();
  await uring.connect(second, { family: "unix", path: name });
  const mixed = await within(mixing, "accept");
  await echo(second, mixed.fd);
  closeAll(mixed.fd);
  for (const descriptor of [server, client, connection, second]) {
    await uring.close(descriptor);
    assert.ok(descriptor.closed);
  }
  assert.equal(descriptors().length, before);
});

test("an accept into a full table of direct descriptors loses no descriptor", { skip }, async () => {
  await using uring = makeUring({ directDescriptors: 2 });
  const server = await listener(uring);
  const before = countDescriptors(/^socket:/);
  const clients = [await dial(uring, server.address), await dial(uring, server.address)];
  const first = await uring.accept(server.fd, { direct: true });
  await rejectsWith(
    (async () => await uring.accept(server.fd, { direct: true }))(),
    "ENFILE",
    "direct descriptor",
  );
  await uring.close(first);
  const second = await uring.accept(server.fd, { direct: true });
  await uring.close(second);
  closeAll(server.fd, ...clients);
  assert.equal(countDescriptors(/^socket:/), before - 1);
});

test("accept: at once or not at all; after waiting", { skip: noAcceptFlags }, async () => {
  await using uring = makeUring();
  const { fd, address } = await listener(uring);
  const dontWait = true;
  const pollFirst = true;
  await rejectsWith(uring.accept(fd, { dontWait }), "EAGAIN", "accept");
  await rejectsWith(uring.accept(fd, { dontWait, direct: true }), "EAGAIN", "accept");
  await rejectsWith(uring.acceptFrom(fd, { dontWait }), "EAGAIN", "accept");
  const waiting = uring.accept(fd, { pollFirst });
  const client = await dial(uring, address);
  const accepted = [await within(waiting, "accept")];
  const clients = [client, await dial(uring, address), await dial(uring, address)];
  accepted.push(await uring.accept(fd, { dontWait }));
  const from = await uring.acceptFrom(fd, { pollFirst });
  assert.deepEqual(from.address, localAddress(clients[2]!));
  const later = uring.accept(fd, { pollFirst, direct: true, timeout: 10_000 });
  clients.push(await dial(uring, address));
  await uring.close(await within(later, "accept"));
  await rejectsWith(uring.accept(fd, { pollFirst, timeout: 3 }), "ETIMEDOUT", "accept");
  closeAll(fd, ...clients, ...accepted, from.fd);
});

test("send and recv: after waiting for the socket", { skip: noPollFirst }, async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const buffer = new Uint8Array(8);
  const pollFirst = true;
  const waiting = uring.recv(pair.a.fd, buffer, { pollFirst });
  await uring.nop();
  assert.equal(await uring.send(pair.b.fd, bytes("first"), { pollFirst }), 5);
  assert.equal(text(buffer, await within(waiting, "recv")), "first");
  await rejectsWith(uring.recv(pair.a.fd, buffer, { pollFirst, timeout: 3 }), "ETIMEDOUT", "recv");
  const data = new Uint8Array(4096);
  while (await uring.send(pair.b.fd, data, { flags: MSG_DONTWAIT }).catch(() => 0) > 0);
  await rejectsWith(uring.send(pair.b.fd, data, { pollFirst, timeout: 3 }), "ETIMEDOUT", "send");
});
