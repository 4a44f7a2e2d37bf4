/** The handler style: what is called when, what is written, what ends a connection. */
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import {
  connect,
  listen,
  type Listener,
  type Socket,
  type SocketHandlers,
  type UringError,
} from "../../src/net/mod.ts";
import { content } from "../support/content.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { sleep, within } from "../support/loop.ts";
import { Digest, digest, text } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

const HERE = { hostname: "127.0.0.1", port: 0 };
const BIG = 8 << 20;

/** What must be kept of what did not fit. */
class Rest {
  #chunks: Uint8Array[] = [];
  ended = false;

  /** Writes `view` to `socket`, or keeps it behind what is kept already. */
  pass(socket: Socket<Rest>, view: Uint8Array): void {
    const taken = this.#chunks.length > 0 ? 0 : socket.write(view);
    if (taken < view.length) this.#chunks.push(view.slice(Math.max(taken, 0)));
    if (this.#chunks.length > 0) socket.pause();
  }

  drain(socket: Socket<Rest>): void {
    for (let chunk; (chunk = this.#chunks[0]) !== undefined; this.#chunks.shift()) {
      const taken = socket.write(chunk);
      if (taken < chunk.length) {
        this.#chunks[0] = chunk.subarray(taken);
        return;
      }
    }
    if (this.ended) socket.end();
    else socket.resume();
  }
}

/** Sends everything back. */
const ECHO: SocketHandlers<Rest> = {
  open: (socket) => void (socket.data = new Rest()),
  data: (socket, view) => socket.data.pass(socket, view),
  drain: (socket) => socket.data.drain(socket),
  end(socket) {
    socket.data.ended = true;
    socket.data.drain(socket);
  },
};

async function client(listener: Listener): Promise<net.Socket> {
  const socket = net.connect({ host: "127.0.0.1", port: listener.port });
  await once(socket, "connect");
  return socket;
}

async function roundTrip(listener: Listener, data: Uint8Array, slow: boolean): Promise<string> {
  const socket = await client(listener);
  const back = new Digest();
  let seen = 0;
  socket.on("data", (chunk: Uint8Array) => {
    back.add(chunk);
    seen += chunk.length;
    if (!slow || seen < 1 << 20) return;
    seen = 0;
    socket.pause();
    setTimeout(() => socket.resume(), 5);
  });
  const ended = once(socket, "end");
  socket.end(data);
  await within(ended, "the echo's end");
  socket.destroy();
  return back.end();
}

test("an echo server: small, big, to a slow reader, to many at once", async () => {
  const listener = listen({ ...HERE, allowHalfOpen: true, socket: ECHO });
  const big = content(BIG, 3);
  assert.equal(await roundTrip(listener, content(5, 1), false), digest(content(5, 1)));
  assert.equal(await roundTrip(listener, big, false), digest(big));
  assert.equal(await roundTrip(listener, big, true), digest(big));
  const many = Array.from({ length: 200 }, (_, i) => content(1000 + i * 100, i));
  const digests = await Promise.all(many.map((data) => roundTrip(listener, data, false)));
  assert.deepEqual(digests, many.map(digest));
  await within(listener.drain(), "drain");
  assert.equal(listener.connections, 0);
});

test("both ends by handlers: open, data, drain, end, close, in this order", async () => {
  const calls: string[] = [];
  const closed = Promise.withResolvers<void>();
  let left = 0;
  await using listener = listen<string>({
    ...HERE,
    data: "server",
    socket: {
      open: (socket) => void calls.push(`${socket.data} open`),
      data: (socket, view) => void socket.write(view),
      end: (socket) => void calls.push(`${socket.data} end`),
      close: (socket, error) => {
        calls.push(`${socket.data} close ${error}`);
        if (++left === 2) closed.resolve();
      },
    },
  });
  const received: string[] = [];
  const socket = await connect<string>({
    port: listener.port,
    hostname: "127.0.0.1",
    data: "client",
    socket: {
      open: (socket) => void calls.push(`${socket.data} open`),
      data: (socket, view) => {
        received.push(text(view, view.length));
        if (received.join("") === "hällo, you") socket.end();
      },
      end: (socket) => void calls.push(`${socket.data} end`),
      close: (socket, error) => {
        calls.push(`${socket.data} close ${error}`);
        if (++left === 2) closed.resolve();
      },
    },
  });
  assert.equal(socket.write("hällo"), 6);
  assert.equal(socket.write(new TextEncoder().encode("xx, youxx"), 2, 5), 5);
  assert.deepEqual(socket.remoteAddr, listener.addr);
  await within(closed.promise, "both ends");
  assert.equal(received.join(""), "hällo, you");
  assert.equal(socket.write("late"), -1);
  assert.deepEqual(calls.filter((call) => call.startsWith("client")), [
    "client open",
    "client end",
    "client close undefined",
  ]);
  assert.deepEqual(calls.filter((call) => call.startsWith("server")), [
    "server open",
    "server end",
    "server close undefined",
  ]);
});

test("a handler that throws closes its own connection, and others go on", async () => {
  const errors: string[] = [];
  await using listener = listen({
    ...HERE,
    socket: {
      data(socket, view) {
        const what = text(view, view.length);
        if (what === "throw") throw new Error("thrown");
        if (what === "reject") return Promise.reject(new Error("rejected"));
        socket.write(view);
        return undefined;
      },
      error: (_, error) => void errors.push(error.message),
    },
  });
  const good = await client(listener);
  for (const way of ["throw", "reject"]) {
    const bad = await client(listener);
    const closed = once(bad, "close");
    bad.resume();
    bad.write(way);
    await within(closed, way);
    good.write("still here");
    const [chunk] = await within(once(good, "data"), "the other connection");
    assert.equal(String(chunk), "still here");
  }
  assert.deepEqual(errors, ["thrown", "rejected"]);
  good.destroy();
  await within(listener.drain(), "drain");
});

test("write takes no more than the limit while nobody reads, and drain says when to go on", async () => {
  const limit = 100_000;
  const sent = Promise.withResolvers<number>();
  let total = 0;
  const chunk = content(30_000, 9);
  const fill = (socket: Socket): void => {
    for (;;) {
      const taken = socket.write(chunk);
      assert.ok(socket.bufferedAmount <= limit);
      total += taken;
      if (taken < chunk.length) return;
      if (total > BIG) {
        socket.close();
        sent.resolve(total);
        return;
      }
    }
  };
  await using listener = listen({ ...HERE, highWaterMark: limit, socket: { open: fill, drain: fill } });
  const socket = await client(listener);
  await sleep(50);
  assert.ok(total < BIG);
  let received = 0;
  socket.on("data", (data) => received += data.length);
  await within(once(socket, "end"), "the end");
  assert.equal(received, await sent.promise);
  await within(listener.drain(), "drain");
});

test("a silent connection is timed out: by the handler's choice, or closed", async () => {
  let asked = 0;
  await using choosing = listen({
    ...HERE,
    idleTimeout: 100,
    socket: {
      timeout: (socket) => void (++asked === 2 && socket.end("bye")),
      error: (_, error) => assert.fail(error),
    },
  });
  const patient = await client(choosing);
  const [word] = await within(once(patient, "data"), "bye");
  assert.equal(String(word), "bye");
  assert.equal(asked, 2);
  patient.destroy();
  const codes: unknown[] = [];
  await using closing = listen({
    ...HERE,
    idleTimeout: 600,
    socket: { close: (_, error) => void codes.push((error as UringError | undefined)?.code) },
  });
  const silent = await client(closing);
  const busy = await client(closing);
  const timer = setInterval(() => busy.write("x"), 20);
  silent.resume();
  await within(once(silent, "close"), "the end of the silent one");
  assert.deepEqual(codes, ["ETIMEDOUT"]);
  assert.equal(closing.connections, 1);
  clearInterval(timer);
  busy.destroy();
  await within(closing.drain(), "drain");
});
