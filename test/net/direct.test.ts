/** Connections that are no descriptors of the process: everything that others do, in the ring's table of files. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import net from "node:net";
import { IORING_OP_FIXED_FD_INSTALL, IORING_SETUP_CQSIZE } from "../../src/ffi/abi.ts";
import { system } from "../../src/ffi/system.ts";
import { Uring } from "../../src/mod.ts";
import { listenAt } from "../../src/net/bound.ts";
import { engineOf } from "../../src/net/engine.ts";
import { Listener } from "../../src/net/listener.ts";
import { type Address, type Conn, connect, listen, pipe, type Socket } from "../../src/net/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { until, within } from "../support/loop.ts";
import { countDescriptors, Digest, digest } from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks({ sharedRings: 1 });

const skip = missingOp(IORING_OP_FIXED_FD_INSTALL);
/** Why nothing can listen at an IPv6 address, or `false`. */
const noIpv6 = ((): string | false => {
  try {
    system().close(bound("ipv6", "::1"));
    return false;
  } catch (error) {
    return `no IPv6: ${(error as Error).message}`;
  }
})();

/** A socket that listens at a port of its own. */
function bound(family: "ipv4" | "ipv6", address: string): number {
  const options = { backlog: 64, reuseAddr: true, reusePort: false, ipv6Only: false, connections: {} };
  return listenAt({ family, address, port: 0 }, options);
}

const HERE = { hostname: "127.0.0.1", port: 0, direct: true };
const SOCKETS = /^socket:/;

/** Both ends of a connection whose accepted end is a direct descriptor. */
async function pair(listener: Listener): Promise<{ here: Conn; there: Conn }> {
  const [here, there] = await Promise.all([
    within(listener.accept(), "a connection"),
    connect({ hostname: "127.0.0.1", port: listener.port }),
  ]);
  assert.ok(here.socket.side !== null, "an ordinary descriptor");
  return { here, there };
}

async function all(conn: Conn): Promise<string> {
  const got = new Digest();
  for await (const chunk of conn) got.add(chunk);
  return got.end();
}

for (
  const [where, from] of [["127.0.0.1", "127.0.0.1"], ["0.0.0.0", "127.0.0.3"], ["::1", "::1"], ["::", "::1"]]
) {
  const skipped = firstReason(skip, where!.includes(":") && noIpv6);
  test(`both addresses are known, and the other end's for good: ${where}`, { skip: skipped }, async () => {
    const known: Address[][] = [];
    const note = (socket: Socket): void => void known.push([socket.remoteAddr, socket.localAddr]);
    const listener = listen({ ...HERE, hostname: where!, socket: { open: note, close: note } });
    const client = net.connect({ host: from!, port: listener.port, localAddress: from! });
    await once(client, "connect");
    await until(() => listener.connections === 1, "accepted");
    const own = { transport: "tcp", hostname: from, port: client.localPort };
    const other = { transport: "tcp", hostname: from, port: listener.port };
    client.resetAndDestroy();
    await within(listener.drain(), "drain");
    assert.deepEqual(known, [[own, other], [own, { transport: "unix", path: "" }]]);
  });
}

test("they take no descriptors of the process", { skip }, async () => {
  const COUNT = 100;
  const listener = listen({ ...HERE, socket: {} });
  const before = countDescriptors(SOCKETS);
  const open = (): Promise<Conn> => connect({ hostname: "127.0.0.1", port: listener.port });
  const clients = await Promise.all(Array.from({ length: COUNT }, open));
  await until(() => listener.connections === COUNT, "accepted");
  // The clients' ends, and a few for waking the thread.
  const more = countDescriptors(SOCKETS) - before;
  assert.ok(more >= COUNT && more < COUNT + 10, `${more} more`);
  await Promise.all(clients.map((client) => client.close()));
  await within(listener.drain(), "drain");
});

test("an address is there for who asks late, or not until it is closed", { skip }, async () => {
  await using listener = listen(HERE);
  const { here, there } = await pair(listener);
  const other = await pair(listener);
  assert.deepEqual(here.remoteAddr, there.localAddr);
  assert.deepEqual(here.localAddr, there.remoteAddr);
  await Promise.all([here, there, other.here].map((conn) => conn.close()));
  assert.deepEqual(other.here.remoteAddr, other.there.localAddr);
  assert.deepEqual(here.localAddr, there.remoteAddr);
  await other.there.close();
});

test("half-close, reset, and much in both directions at once", { skip }, async () => {
  await using listener = listen(HERE);
  const { here, there } = await pair(listener);
  const [one, two] = [content(3_000_000, 1), content(2_000_000, 2)];
  const sent = Promise.all([here.write(one).then(() => here.closeWrite()), there.write(two)]);
  assert.equal(await all(there), digest(one));
  await sent;
  await there.closeWrite();
  assert.equal(await all(here), digest(two));
  await Promise.all([here.close(), there.close()]);
  const reset = await pair(listener);
  await reset.here.terminate();
  await assert.rejects(reset.there.read(new Uint8Array(1)), { code: "ECONNRESET" });
  await reset.there.close();
});

test("a handler's end, by which both sides have finished", { skip }, async () => {
  const order: string[] = [];
  const listener = listen({
    ...HERE,
    allowHalfOpen: true,
    socket: {
      data: (socket, view) => void socket.write(view),
      end: (socket) => {
        order.push("end");
        socket.end("bye");
      },
      close: (_, error) => void order.push(`close ${error}`),
    },
  });
  const there = await connect({ hostname: "127.0.0.1", port: listener.port });
  await there.write("hello ");
  await there.closeWrite();
  assert.equal(await all(there), digest(new TextEncoder().encode("hello bye")));
  await within(listener.drain(), "drain");
  assert.deepEqual(order, ["end", "close undefined"]);
  await there.close();
});

test("files, and everything through a pipe", { skip }, async () => {
  using dir = new TempDir();
  const bytes = content(2_000_000, 3);
  writeFileSync(dir.of("file"), bytes);
  const file = await Uring.shared.openat(dir.of("file"));
  await using listener = listen(HERE);
  const [one, two] = [await pair(listener), await pair(listener)];
  const sockets = countDescriptors(SOCKETS);
  const piping = Promise.all([pipe(one.here, two.here), pipe(two.here, one.here)]);
  const sending = (async () => {
    await one.there.sendFile(file, 0, 1000);
    await one.there.sendFile(file, 1000);
    await one.there.closeWrite();
  })();
  assert.equal(await all(two.there), digest(bytes));
  await sending;
  await two.there.closeWrite();
  assert.equal(await all(one.there), digest(new Uint8Array()));
  assert.deepEqual(await piping, [bytes.length, 0]);
  // What the pipes took, four in all, has been given back; the thread may have got what it is woken by.
  assert.ok(countDescriptors(SOCKETS) <= sockets + 2);
  const direct = await pair(listener);
  const received = all(direct.there);
  assert.equal(await direct.here.sendFile(file), bytes.length);
  await direct.here.close();
  assert.equal(await received, digest(bytes));
  await Uring.shared.close(file);
  await Promise.all([one, two, direct].flatMap(({ here, there }) => [here.close(), there.close()]));
});

test("closed in the middle of a file, which goes nowhere else", { skip }, async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(8_000_000, 4));
  const file = await Uring.shared.openat(dir.of("file"));
  await using listener = listen(HERE);
  for (let i = 0; i < 20; i++) {
    const { here, there } = await pair(listener);
    const sending = assert.rejects(here.sendFile(file), { code: "ECANCELED" });
    await there.read(new Uint8Array(1));
    const closing = here.close();
    // Takes the slot as soon as there is one.
    const next = await pair(listener);
    await Promise.all([sending, closing, there.close()]);
    await next.here.write("mine");
    await next.here.closeWrite();
    assert.equal(await all(next.there), digest(new TextEncoder().encode("mine")));
    await Promise.all([next.here.close(), next.there.close()]);
  }
  await Uring.shared.close(file);
});

test("over a Unix socket, descriptors too", { skip }, async () => {
  using dir = new TempDir();
  const path = dir.of("socket");
  await using listener = listen({ path, direct: true });
  const [here, there] = await Promise.all([listener.accept(), connect({ path })]);
  assert.ok(here.socket.side !== null);
  assert.deepEqual(here.localAddr, { transport: "unix", path });
  assert.deepEqual(here.remoteAddr, { transport: "unix", path: "" });
  const buffer = new Uint8Array(10);
  const receiving = here.receiveDescriptors(buffer);
  await there.sendDescriptors("x", [0]);
  const { descriptors } = await receiving;
  const back = there.receiveDescriptors(buffer);
  await here.sendDescriptors("yz", descriptors);
  const answer = await back;
  assert.deepEqual([answer.length, answer.descriptors.length], [2, 1]);
  for (const descriptor of [...descriptors, ...answer.descriptors]) descriptor.close();
  await Promise.all([here.close(), there.close()]);
});

test("a table that is nearly full: ordinary descriptors, and none is lost", { skip }, async () => {
  // Two completion queues' worth of slots is kept back: what the kernel may accept before it is told.
  const uring = new Uring({ entries: 8, cqEntries: 16, flags: IORING_SETUP_CQSIZE, directDescriptors: 84 });
  uring.table.grow = () => {};
  const engine = engineOf(uring);
  const fd = bound("ipv4", "127.0.0.1");
  const kinds: boolean[] = [];
  const open = new Set<Socket>();
  const listener = new Listener(engine, fd, { direct: true }, {
    open(socket) {
      kinds.push((socket as Socket).side !== null);
      open.add(socket as Socket);
    },
    data: (socket, view) => void socket.write(view),
    close: (socket) => void open.delete(socket as Socket),
  }, undefined);
  const visit = async (): Promise<net.Socket> => {
    const client = net.connect({ host: "127.0.0.1", port: listener.port });
    client.write("?");
    const [answer] = await within(once(client, "data"), "an answer");
    assert.equal(String(answer), "?");
    return client;
  };
  const clients = await Promise.all(Array.from({ length: 60 }, visit));
  const direct = kinds.filter((kind) => kind).length;
  // 42 slots, of which 32 are kept back.
  assert.ok(direct >= 10 && direct < 42, `${direct} of 60`);
  assert.equal(uring.table.left, 42 - direct);
  for (const client of clients) client.destroy();
  await until(() => open.size === 0, "all closed");
  assert.equal(uring.table.left, 42);
  for (let i = 0; i < 3; i++) (await visit()).destroy();
  assert.ok(kinds.at(-1), "direct descriptors again");
  await within(listener.drain(), "drain");
  await uring.disposeAsync();
});

test("the ring closes with connections in its table", { skip }, async () => {
  const uring = new Uring();
  const fd = bound("ipv4", "127.0.0.1");
  let closed = 0;
  const listener = new Listener(engineOf(uring), fd, { direct: true }, {
    data: (socket, view) => void socket.write(view),
    close: () => void closed++,
  }, undefined);
  const client = net.connect({ host: "127.0.0.1", port: listener.port });
  client.write("x");
  await within(once(client, "data"), "an echo");
  const ended = once(client, "close");
  client.on("error", () => {});
  await listener.close();
  await uring.disposeAsync();
  await within(ended, "the connection's end");
  await until(() => closed === 1, "the handler is told");
});

test("the table is made larger while nothing is in it", { skip }, async () => {
  await using uring = new Uring({ directDescriptors: 8 });
  const { table } = uring;
  // It is there, and empty again.
  const first = await uring.openat("/proc/self/comm", { direct: true });
  table.shareWithKernel();
  await uring.close(first);
  table.grow(2000);
  table.shareWithKernel();
  assert.equal(table.left, 2000);
  const buffer = new Uint8Array(1);
  const some = [1, 2, 3, 4].map(() => uring.openat("/proc/self/comm", { direct: true }));
  const files = await Promise.all(some);
  assert.throws(() => table.reserve(), { code: "ENFILE" });
  for (const file of files) assert.equal(await uring.read(file, buffer), 1);
  table.grow(4000);
  assert.equal(table.left, 2000, "files would have been lost");
  const listener = bound("ipv4", "127.0.0.1");
  const { port } = uring.localAddress(listener) as { port: number };
  const client = net.connect({ host: "127.0.0.1", port });
  for await (const accepted of uring.acceptMultishot(listener, { direct: true })) {
    assert.ok(accepted.slot < 2000);
    assert.equal(table.left, 1999);
    await uring.close(accepted);
    break;
  }
  assert.equal(table.left, 2000);
  client.destroy();
  for (const file of files) await uring.close(file);
  await uring.close(listener);
});
