/** Connections: reading, writing, both ends, half close, streams, back-pressure; node:net is the other side. */
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import type { AddressInfo } from "node:net";
import { IORING_OP_BIND, IORING_OP_SEND_ZC } from "../../src/ffi/abi.ts";
import { shadowing } from "../../src/loop/shadow.ts";
import { Uring } from "../../src/mod.ts";
import { engineOf } from "../../src/net/engine.ts";
import { type Conn, connect, listen, type Listener } from "../../src/net/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { sleep, until, within } from "../support/loop.ts";
import { bytes, countDescriptors, Digest, digest, text } from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks({ sharedRings: 1 });

const skip = missingOp(IORING_OP_BIND);
const BIG = 16 << 20;

function portOf(listener: Listener): number {
  assert.ok(listener.addr.transport !== "unix");
  return listener.addr.port;
}

/** Both ends of one connection. */
async function pair(): Promise<{ a: Conn; b: Conn; [Symbol.asyncDispose](): Promise<void> }> {
  await using listener = listen({ port: 0, hostname: "127.0.0.1" });
  const [b, a] = await within(
    Promise.all([listener.accept(), connect({ port: portOf(listener) })]),
    "a pair",
  );
  return {
    a,
    b,
    async [Symbol.asyncDispose]() {
      await Promise.all([a.close(), b.close()]);
    },
  };
}

/** Sends `data` from node:net, slowly or not, and gives the digest of what comes back. */
async function roundTrip(where: net.NetConnectOpts, data: Uint8Array, slow: boolean): Promise<string> {
  const socket = net.connect(where);
  const back = new Digest();
  let sinceRest = 0;
  socket.on("data", (chunk: Uint8Array) => {
    back.add(chunk);
    sinceRest += chunk.length;
    if (!slow || sinceRest < 1 << 20) return;
    sinceRest = 0;
    socket.pause();
    setTimeout(() => socket.resume(), 10);
  });
  const ended = once(socket, "end");
  socket.end(data);
  await within(ended, "the echo's end");
  socket.destroy();
  return back.end();
}

async function echoByRead(conn: Conn): Promise<void> {
  await using _ = conn;
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    const length = await conn.read(buffer);
    if (length === null) break;
    assert.equal(await conn.write(buffer.subarray(0, length)), length);
  }
  await conn.closeWrite();
}

async function echoByLoop(conn: Conn): Promise<void> {
  await using _ = conn;
  for await (const chunk of conn) await conn.write(chunk);
}

// Nothing closes these: they close themselves.
const echoByStreams = (conn: Conn): Promise<void> => conn.readable.pipeTo(conn.writable);

const ECHOES = { read: echoByRead, loop: echoByLoop, streams: echoByStreams };

for (const [style, echo] of Object.entries(ECHOES)) {
  test(`echo by ${style}: small, big, to a slow reader, to many at once`, { skip }, async () => {
    const sockets = countDescriptors(/^socket:/);
    const listener = listen({ port: 0, hostname: "127.0.0.1" });
    const echoes: Promise<void>[] = [];
    const serving = (async () => {
      for await (const conn of listener) echoes.push(echo(conn));
    })();
    const where = { port: portOf(listener), host: "127.0.0.1" };
    const big = content(BIG);
    assert.equal(await roundTrip(where, bytes("small"), false), digest(bytes("small")));
    assert.equal(await roundTrip(where, big, false), digest(big));
    assert.equal(await roundTrip(where, big, true), digest(big));
    const many = Array.from({ length: 200 }, (_, i) => content(1000 + i * 100, i));
    const digests = await Promise.all(many.map((data) => roundTrip(where, data, false)));
    assert.deepEqual(digests, many.map(digest));
    await listener.close();
    await within(serving, "the end of the loop");
    await within(Promise.all(echoes), "the echoes");
    assert.equal(echoes.length, 203);
    for (let i = 0; i < 100 && countDescriptors(/^socket:/) > sockets + 2; i++) await sleep(10);
    assert.ok(countDescriptors(/^socket:/) <= sockets + 2, "a connection was not closed");
  });
}

test("connect to node:net: addresses, half close in both directions", { skip }, async () => {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("data", (chunk) => socket.write(chunk));
    socket.on("end", () => socket.end("bye"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  for (const hostname of ["127.0.0.1", "localhost", undefined]) {
    await using conn = await connect({ hostname, port });
    assert.deepEqual(conn.remoteAddr, { transport: "tcp", hostname: "127.0.0.1", port });
    assert.equal(conn.localAddr.transport, "tcp");
    assert.equal(await conn.write("hällo"), 6);
    const buffer = new Uint8Array(100);
    assert.equal(await within(conn.read(buffer), "read"), 6);
    assert.equal(text(buffer, 6), "hällo");
    const rest = conn.read(buffer);
    await conn.closeWrite();
    await conn.closeWrite();
    assert.equal(await within(rest, "the rest"), 3);
    assert.equal(await conn.read(buffer), null);
    assert.equal(await conn.read(buffer), null);
    await assert.rejects(conn.write("more"), { code: "EPIPE", syscall: "send" });
  }
  server.close();
  await once(server, "close");
});

test("Unix sockets: a path, which goes with the listener, and an abstract name", { skip }, async () => {
  using dir = new TempDir();
  for (const path of [dir.of("socket"), `\0uring-net-${performance.now()}`]) {
    const listener = listen({ path });
    assert.deepEqual(listener.addr, { transport: "unix", path });
    const [a, b] = await Promise.all([connect({ path }), listener.accept()]);
    assert.deepEqual(a.remoteAddr, { transport: "unix", path });
    await a.write("x");
    assert.equal(await b.read(new Uint8Array(2)), 1);
    await Promise.all([a.close(), b.close(), listener.close()]);
    await assert.rejects(connect({ path }), (error: { code?: string }) => {
      assert.match(error.code!, /ENOENT|ECONNREFUSED/);
      return true;
    });
  }
});

test("writes keep their order and are whole; reads take turns", { skip }, async () => {
  await using both = await pair();
  const { a, b } = both;
  const pieces = Array.from({ length: 50 }, (_, i) => content(100_000 + i, i));
  const sent = new Digest();
  for (const piece of pieces) sent.add(piece);
  const writes = Promise.all(pieces.map((piece) => a.write(piece)));
  void writes.then(() => a.closeWrite());
  const received = new Digest();
  for await (const chunk of b) received.add(chunk);
  assert.equal(received.end(), sent.end());
  assert.deepEqual(await writes, pieces.map((piece) => piece.length));
  const buffers = [new Uint8Array(3), new Uint8Array(3)] as const;
  const reads = Promise.all(buffers.map((buffer) => a.read(buffer)));
  await b.write("abcdef");
  assert.deepEqual(await within(reads, "two reads"), [3, 3]);
  assert.equal(buffers.map((buffer) => text(buffer)).join(""), "abcdef");
});

test("what nobody asks for waits, holds up nobody, and goes with its connection", { skip }, async () => {
  const size = 96 << 10;
  const { pool } = engineOf(Uring.shared);
  const free = pool.free;
  const pairs = await Promise.all(Array.from({ length: 24 }, pair));
  const written = pairs.map(({ a }, i) => a.write(content(size, i)));
  const first = new Uint8Array(1);
  for (const { b } of pairs) await within(b.read(first), "the first byte");
  // All that fits has arrived, part of it in the buffers that it was received into.
  await within(Promise.all(written), "the writes");
  {
    await using other = await pair();
    const answer = new Uint8Array(64);
    for (let i = 0; i < 50; i++) {
      await other.a.write(content(64, i));
      assert.equal(await within(other.b.read(answer), "a message"), 64);
      assert.deepEqual(answer, content(64, i));
    }
  }
  for (const [i, { a, b }] of pairs.entries()) {
    if (i % 3 === 0) {
      // Of what comes after the end of the connection, too, nothing is lost.
      await a.close();
      await within(b.read(first), "the second byte");
      const rest = new Uint8Array(size);
      let count = 2;
      for (
        let more: number | null = 0;
        more !== null;
        more = await within(b.read(rest.subarray(count)), "more")
      ) {
        count += more;
        if (count === size) break;
      }
      assert.deepEqual(rest.subarray(2), content(size, i).subarray(2));
    } else if (i % 3 === 1) {
      let seen = 1;
      for await (const chunk of b) {
        assert.deepEqual(chunk, content(size, i).subarray(seen, seen + chunk.length));
        seen += chunk.length;
        if (seen === size) break;
      }
    }
  }
  await Promise.all(pairs.map((both) => both[Symbol.asyncDispose]()));
  await until(() => pool.free >= free, "the buffers");
});

test("leaving a loop loses nothing: read and a second loop go on", { skip }, async () => {
  await using both = await pair();
  const { a, b } = both;
  const data = content(300_000);
  const writing = a.write(data).then(() => a.closeWrite());
  const received = new Digest();
  for await (const chunk of b) {
    received.add(chunk);
    break;
  }
  const small = new Uint8Array(1000);
  for (let i = 0; i < 20; i++) {
    const length = await b.read(small);
    received.add(small.subarray(0, length!));
  }
  for await (const chunk of b) received.add(chunk);
  assert.equal(await b.read(small), null);
  await writing;
  assert.equal(received.end(), digest(data));
});

test("a sender is held back while nobody reads a stream", { skip }, async () => {
  await using both = await pair();
  const { a, b } = both;
  const data = content(64 << 20);
  let done = false;
  const writing = a.write(data).then(() => {
    done = true;
    return a.closeWrite();
  });
  const reader = b.readable.getReader();
  const received = new Digest();
  received.add((await reader.read()).value!);
  await sleep(300);
  assert.equal(done, false);
  for (;;) {
    const { done: end, value } = await reader.read();
    if (end) break;
    received.add(value);
  }
  await writing;
  assert.equal(received.end(), digest(data));
  assert.equal(Uring.shared.closed, false);
});

test("writes without a copy: whole, in order, and given up where the kernel copies all the same", {
  skip: skip === false ? missingOp(IORING_OP_SEND_ZC) : skip,
}, async () => {
  await using listener = listen({ port: 0, hostname: "127.0.0.1" });
  const [b, a] = await within(
    Promise.all([
      listener.accept(),
      connect({ port: portOf(listener), hostname: "127.0.0.1", zeroCopy: 20_000 }),
    ]),
    "a pair",
  );
  assert.equal(a.socket.output.zeroCopy, 20_000);
  const data = content(5 << 20, 4);
  const received = (async () => {
    const digest = new Digest();
    for await (const chunk of b) digest.add(chunk);
    return digest.end();
  })();
  const lengths = await Promise.all([
    a.write(data.subarray(0, 1000)),
    a.write(data.subarray(1000, 1_000_000)),
    a.write(data.subarray(1_000_000, 1_000_010)),
    a.write(data.subarray(1_000_010)),
  ]);
  assert.deepEqual(lengths, [1000, 999_000, 10, data.length - 1_000_010]);
  await a.closeWrite();
  assert.equal(await within(received, "all of it"), digest(data));
  // Loopback has no network card that could read the memory. Where memory has shadows, that of the caller is never sent.
  assert.equal(a.socket.output.zeroCopy, shadowing ? 20_000 : Infinity);
  await Promise.all([a.close(), b.close()]);
  await assert.rejects(connect({ port: 1, zeroCopy: -1 }), RangeError);
});
