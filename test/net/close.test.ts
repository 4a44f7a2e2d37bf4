/** Closing, aborting, failing: what was under way ends, the descriptor is closed once, errors say what is wrong. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import type { AddressInfo } from "node:net";
import { IORING_OP_BIND } from "../../src/ffi/abi.ts";
import { UringError } from "../../src/mod.ts";
import { AddressError, type Conn, connect, DialError, listen, type Listener } from "../../src/net/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { sleep, within } from "../support/loop.ts";
import { countDescriptors, failure } from "../support/operations.ts";
import { fixture, output } from "../support/program.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks({ sharedRings: 1 });

const skip = missingOp(IORING_OP_BIND);

function portOf(listener: Listener): number {
  assert.ok(listener.addr.transport !== "unix");
  return listener.addr.port;
}

async function pair(): Promise<[Conn, Conn]> {
  await using listener = listen({ port: 0, hostname: "127.0.0.1" });
  return await within(Promise.all([listener.accept(), connect({ port: portOf(listener) })]), "a pair");
}

test("close in the middle of a read, of a loop, of a stream, of a write", { skip }, async () => {
  const ways: Record<string, (conn: Conn) => Promise<unknown>> = {
    recv: (conn) => conn.read(new Uint8Array(10)),
    "recv in a loop": async (conn) => {
      for await (const _ of conn);
    },
    "recv of a stream": (conn) => conn.readable.getReader().read(),
    send: (conn) => conn.write(new Uint8Array(64 << 20)),
  };
  for (const [name, begin] of Object.entries(ways)) {
    const [a, b] = await pair();
    const doing = failure(begin(a), name);
    await sleep(20);
    const closing = [a.close(), a.close(), a[Symbol.asyncDispose]()];
    const error = await doing;
    assert.ok(error instanceof UringError, String(error));
    assert.equal(error.code, "ECANCELED", name);
    assert.equal(error.syscall, name.split(" ")[0]);
    await within(Promise.all(closing), "close");
    assert.ok(a.closed);
    for (const late of [a.read(new Uint8Array(1)), a.write("x"), a.closeWrite()]) {
      assert.equal((await failure(late)).code, "ECANCELED");
    }
    await b.close();
  }
});

test("terminate resets the connection, though something waits to be sent", { skip }, async () => {
  const [a, b] = await pair();
  const writing = failure(a.write(new Uint8Array(64 << 20)), "write");
  await within(a.terminate(), "terminate");
  assert.equal((await writing).code, "ECANCELED");
  const draining = async (): Promise<void> => {
    for await (const _ of b);
  };
  assert.equal((await failure(draining(), "read")).code, "ECONNRESET");
  await a.terminate();
  await b.close();
  await b.terminate();
});

test(
  "many connections closed at once while they read: no descriptor is closed twice or left",
  { skip },
  async () => {
    // The loop's own descriptors are there by now.
    (await pair()).forEach((conn) => void conn.close());
    await sleep(20);
    const before = countDescriptors(/^socket:/);
    const pairs = await Promise.all(Array.from({ length: 100 }, pair));
    const conns = pairs.flat();
    const reads = conns.map((conn) => failure(conn.read(new Uint8Array(8))));
    await sleep(10);
    await within(Promise.all(conns.map((conn) => conn.close())), "close");
    for (const error of await Promise.all(reads)) assert.equal(error.code, "ECANCELED");
    assert.equal(countDescriptors(/^socket:/), before);
  },
);

test("what was written before close arrives", { skip }, async () => {
  const [a, b] = await pair();
  const length = await a.write(new Uint8Array(100_000));
  await a.close();
  let received = 0;
  for await (const chunk of b) received += chunk.length;
  assert.equal(received, length);
  await b.close();
});

test("a listener closed while accepting, by close, by a signal, by leaving the loop", { skip }, async () => {
  const listener = listen({ port: 0 });
  assert.ok(listener.addr.transport === "tcp" && listener.addr.hostname === "0.0.0.0");
  const accepting = [failure(listener.accept()), failure(listener.accept())];
  const looping = (async () => {
    for await (const _ of listener);
  })();
  await sleep(10);
  await Promise.all([listener.close(), listener.close()]);
  for (const error of await Promise.all(accepting)) assert.equal(error.code, "ECANCELED");
  await within(looping, "the loop");
  assert.equal((await failure(listener.accept())).code, "ECANCELED");

  const stop = new AbortController();
  const stopped = listen({ port: 0, signal: stop.signal });
  const waiting = failure(stopped.next());
  await sleep(10);
  const reason = new Error("enough");
  stop.abort(reason);
  assert.equal(await waiting, reason);
  assert.equal(await failure(stopped.accept()), reason);
  await stopped.close();
  assert.throws(() => listen({ port: 0, signal: stop.signal }), reason);

  const left = listen({ port: 0, hostname: "127.0.0.1" });
  const client = connect({ port: portOf(left) });
  for await (const conn of left) {
    await conn.close();
    break;
  }
  assert.ok(left.closed);
  await (await client).close();
});

test("unref and ref: no connection is lost on the way", { skip }, async () => {
  await using listener = listen({ port: 0, hostname: "127.0.0.1" });
  const accepted: Conn[] = [];
  const serving = (async () => {
    for await (const conn of listener) accepted.push(conn);
  })();
  const clients: Conn[] = [];
  for (let i = 0; i < 40; i++) {
    const client = connect({ port: portOf(listener) });
    if (i % 2 === 0) listener.unref();
    else listener.ref();
    if (i % 8 === 0) listener.ref().unref().ref();
    clients.push(await client);
  }
  for (let i = 0; i < 200 && accepted.length < clients.length; i++) await sleep(5);
  assert.equal(accepted.length, clients.length);
  await Promise.all([...clients, ...accepted].map((conn) => conn.close()));
  listener.unref();
  await listener.close();
  await within(serving, "the loop");
});

test("ECONNREFUSED, EADDRINUSE, ENOENT: shape and address", { skip }, async () => {
  const listener = listen({ port: 0, hostname: "127.0.0.1" });
  const port = portOf(listener);
  assert.throws(() => listen({ port, hostname: "127.0.0.1" }), (error: AddressError) => {
    assert.ok(error instanceof AddressError);
    const { code, syscall, address, port: at } = error;
    assert.deepEqual({ code, syscall, address, at }, {
      code: "EADDRINUSE",
      syscall: "bind",
      address: "127.0.0.1",
      at: port,
    });
    return true;
  });
  await listener.close();
  const sockets = countDescriptors(/^socket:/);
  for (const hostname of ["127.0.0.1", "localhost"]) {
    const failed = await failure(connect({ port, hostname }));
    assert.equal(failed.code, "ECONNREFUSED");
    // This machine has an IPv6 address, too.
    const error = (failed instanceof DialError ? failed.errors[0] : failed) as AddressError;
    const socket = net.connect({ port, host: "127.0.0.1" });
    const [theirs] = await once(socket, "error") as [
      NodeJS.ErrnoException & { address: string; port: number },
    ];
    assert.ok(error instanceof AddressError && error instanceof UringError);
    for (const key of ["code", "errno", "syscall", "address", "port"] as const) {
      assert.equal(error[key], theirs[key], key);
    }
    assert.match(error.message, /^ECONNREFUSED: connection refused, connect \(127\.0\.0\.1:\d+\)$/);
  }
  using dir = new TempDir();
  const missing = await failure(connect({ path: dir.of("none") })) as AddressError;
  assert.deepEqual([missing.code, missing.address, missing.port], ["ENOENT", dir.of("none"), undefined]);
  assert.ok(countDescriptors(/^socket:/) <= sockets, "a socket that did not connect is left");
});

const unshare = spawnSync("unshare", ["-n", "true"]).status === 0;
const noUnshare = unshare ? false : "no network namespace can be made here";

test("where there is no way, and no such name", { skip: firstReason(skip, noUnshare) }, async () => {
  const lines = (await output(fixture("net_unreachable.ts"), [], { prefix: ["unshare", "-n"] })).trim().split(
    "\n",
  );
  const [four, six, name] = lines.map((line) => JSON.parse(line));
  assert.deepEqual(four, {
    code: "ENETUNREACH",
    address: "192.0.2.1",
    port: 7,
    message: "ENETUNREACH: network is unreachable, connect (192.0.2.1:7)",
  });
  // EADDRNOTAVAIL, EAFNOSUPPORT: no IPv6 at all.
  assert.match(six.code, /^(ENETUNREACH|EADDRNOTAVAIL|EAFNOSUPPORT)$/);
  assert.match(name.code, /^(ENOTFOUND|EAI_AGAIN)$/);
  assert.match(name.message, /nothing\.invalid/);
});

test("connect: a signal and a time limit", { skip }, async () => {
  // A full queue of connections: the next one waits.
  const listener = listen({ port: 0, hostname: "127.0.0.1", backlog: 0 });
  const port = portOf(listener);
  const fillers: net.Socket[] = [];
  for (let i = 0; i < 4; i++) fillers.push(net.connect({ port, host: "127.0.0.1" }).on("error", () => {}));
  await sleep(50);
  assert.equal((await failure(connect({ port, hostname: "127.0.0.1", timeout: 30 }))).code, "ETIMEDOUT");
  const stop = new AbortController();
  const connecting = failure(connect({ port, hostname: "127.0.0.1", signal: stop.signal }));
  await sleep(20);
  stop.abort("stop");
  assert.equal(await connecting as unknown, "stop");
  assert.equal(await failure(connect({ port, signal: stop.signal })) as unknown, "stop");
  for (const socket of fillers) socket.destroy();
  await listener.close();
});

test("the other end resets: read and write fail, streams let go", { skip }, async () => {
  const server = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.resetAndDestroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  {
    await using conn = await connect({ port });
    await conn.write("x");
    assert.equal((await failure(conn.read(new Uint8Array(1)))).code, "ECONNRESET");
    assert.equal((await failure(conn.write("y"))).code, "EPIPE");
    await conn.closeWrite();
  }
  const conn = await connect({ port });
  const piping = failure(conn.readable.pipeTo(conn.writable));
  await conn.write("x");
  assert.equal((await piping).code, "ECONNRESET");
  for (let i = 0; i < 100 && !conn.closed; i++) await sleep(5);
  assert.ok(conn.closed);
  await conn.close();
  server.close();
  await once(server, "close");
});

test("wrong arguments", async () => {
  const wrong: unknown[] = [
    {},
    null,
    { port: -1 },
    { port: 1.5 },
    { port: 65536 },
    { port: "80" },
    { port: 80, path: "/x" },
    { path: "" },
    { port: 80, hostname: "" },
    { port: 80, hostname: 5 },
    { port: 70000 },
    { path: "x", transport: "tcp" },
    { port: 80, transport: "unix" },
    { path: "x".repeat(200) },
    { port: 80, highWaterMark: 0 },
    { port: 80, idleTimeout: -1 },
    { port: 80, keepAlive: 0.5 },
    { port: 80, socket: 5 },
    { port: 80, socket: { data: 5 } },
  ];
  // A listener looks no names up.
  for (const hostname of ["example.org", "1.2.3.400", "::zz"]) {
    assert.throws(() => listen({ port: 80, hostname }), TypeError, hostname);
  }
  for (const options of wrong) {
    assert.throws(() => listen(options as never), /TypeError|RangeError/, JSON.stringify(options));
    const error = await failure(connect(options as never)) as Error;
    assert.ok(error instanceof TypeError || error instanceof RangeError, JSON.stringify(options));
  }
  assert.throws(() => listen({ port: 0, hostname: "example.org" }), /must be an IP address/);
  assert.throws(() => listen({ port: 0, backlog: -1 }), RangeError);
  assert.throws(() => listen({ port: 0, cpu: -1 }), RangeError);
  assert.throws(() => listen({ port: 0, cpu: 0.5 }), RangeError);
});
