/**
 * Every byte arrives, in order, once: random sizes, slow readers, half-closes, resets, reads that are given up, too few
 * buffers, queues at their limit. `URING_TRAFFIC_MIB` says how much goes through each path.
 */
import assert from "node:assert/strict";
import { closeSync, openSync, writeFileSync } from "node:fs";
import { type Conn, connect, listen, type Listener, pipe, type Socket } from "../../src/net/mod.ts";
import { currentEngine } from "../../src/net/engine.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { sleep, within } from "../support/loop.ts";
import { Random } from "../support/random.ts";
import { Stream, TRAFFIC } from "../support/traffic.ts";

checkLeaks({ sharedRings: 1 });

const HERE = { hostname: "127.0.0.1", port: 0 };
const CONNECTIONS = 24;
const LONG = 60_000 + TRAFFIC / 1000;

/** Echoes by handlers, holding back whoever does not read. */
function echoByHandlers(
  where: { port: number } | { path: string },
  highWaterMark: number,
  direct: boolean = false,
): Listener {
  interface State {
    rest: Uint8Array[];
    ended: boolean;
  }
  const push = (socket: Socket<State>): void => {
    const { rest } = socket.data;
    for (let chunk; (chunk = rest[0]) !== undefined; rest.shift()) {
      const taken = socket.write(chunk);
      assert.ok(taken >= 0 && socket.bufferedAmount <= highWaterMark);
      if (taken < chunk.length) {
        rest[0] = chunk.subarray(taken);
        return;
      }
    }
    if (socket.data.ended) socket.end();
    else socket.resume();
  };
  return listen<State>({
    ...where,
    highWaterMark,
    direct,
    allowHalfOpen: true,
    socket: {
      open: (socket) => void (socket.data = { rest: [], ended: false }),
      data(socket, view) {
        const { rest } = socket.data;
        const taken = rest.length > 0 ? 0 : socket.write(view);
        if (taken === view.length) return;
        rest.push(view.slice(taken));
        socket.pause();
      },
      drain: push,
      end(socket) {
        socket.data.ended = true;
        if (socket.data.rest.length === 0) socket.end();
      },
    },
  });
}

/** Serves each connection by a function of streams. */
function serve(serving: (conn: Conn) => Promise<void>, direct: boolean = false): Listener {
  const listener = listen({ ...HERE, direct });
  (async () => {
    for await (const conn of listener) serving(conn).catch(() => conn.close());
  })();
  return listener;
}

/** Which sizes a connection prefers. */
function sizes(random: Random): () => number {
  const most = random.pick([200, 2000, 20_000, 70_000, 300_000]);
  return () => 1 + random.below(most);
}

async function send(conn: Conn, stream: Stream, random: Random): Promise<void> {
  const size = sizes(random);
  let sleeps = 20;
  const writes: Promise<number>[] = [];
  for (let bytes; (bytes = stream.next(size())).length > 0;) {
    writes.push(conn.write(bytes));
    if (writes.length < random.below(30)) continue;
    await Promise.all(writes.splice(0));
    if (sleeps > 0 && random.chance(5)) {
      sleeps--;
      await sleep(random.below(3));
    }
  }
  await Promise.all(writes);
  await conn.closeWrite();
}

async function receive(conn: Conn, stream: Stream, random: Random, slow: boolean): Promise<void> {
  const size = sizes(random);
  let sleeps = slow ? 40 : 0;
  for (;;) {
    const buffer = new Uint8Array(size());
    if (sleeps > 0 && random.chance(5)) {
      sleeps--;
      await sleep(random.below(10));
    }
    let count: number | null;
    if (random.chance(3)) {
      const abort = new AbortController();
      const reading = conn.read(buffer, { signal: abort.signal });
      if (random.chance(50)) await null;
      abort.abort(new Error("given up"));
      try {
        count = await reading;
      } catch (error) {
        assert.equal((error as Error).message, "given up");
        continue;
      }
    } else count = await conn.read(buffer);
    if (count === null) break;
    stream.check(buffer.subarray(0, count));
  }
  stream.end();
}

/** Has many connections send and receive at once, some of which are reset. */
async function storm(to: { port: number } | { path: string }, seed: number): Promise<void> {
  const one = async (i: number): Promise<void> => {
    const random = new Random(seed * 1000 + i);
    const conn = await connect("port" in to ? { ...to, hostname: "127.0.0.1" } : to);
    const tiny = i % 4 === 3;
    const stream = new Stream(seed * 1000 + i, tiny ? 20_000 : Math.ceil(TRAFFIC / CONNECTIONS * 4 / 3));
    if (i % 8 === 7) {
      // Reset in the middle; what comes until then is right.
      const sending = send(conn, stream, random).catch(() => {});
      const receiving = receive(conn, stream, random, false).catch(() => {});
      await sleep(random.below(20));
      conn.socket.terminate();
      await Promise.all([sending, receiving, conn.close()]);
      return;
    }
    await Promise.all([send(conn, stream, random), receive(conn, stream, random, i % 3 === 0)]);
    await conn.close();
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, (_, i) => one(i)));
}

test("echo by handlers", { timeout: LONG }, async () => {
  const engine = currentEngine();
  const starve = engine.starve.bind(engine);
  let starved = 0;
  engine.starve = (socket) => {
    starved++;
    starve(socket);
  };
  const listener = echoByHandlers(HERE, 100_000);
  await storm({ port: listener.port }, 1);
  await within(listener.drain(), "drain");
  engine.starve = starve;
  assert.ok(starved > 0, "there were buffers all the time");
});

test("echo by handlers, with direct descriptors", { timeout: LONG }, async () => {
  const listener = echoByHandlers(HERE, 100_000, true);
  await storm({ port: listener.port }, 7);
  await within(listener.drain(), "drain");
});

test("echo by handlers over a Unix socket, with room for little", { timeout: LONG }, async () => {
  using dir = new TempDir();
  const path = dir.of("socket");
  const listener = echoByHandlers({ path }, 5000);
  await storm({ path }, 2);
  await within(listener.drain(), "drain");
});

test("echo by read and write", { timeout: LONG }, async () => {
  const listener = serve(async (conn) => {
    const buffer = new Uint8Array(30_000);
    for (let count; (count = await conn.read(buffer)) !== null;) await conn.write(buffer.subarray(0, count));
    await conn.close();
  });
  await storm({ port: listener.port }, 3);
  await within(listener.drain(), "drain");
});

test("echo by streams", { timeout: LONG }, async () => {
  const listener = serve((conn) => conn.readable.pipeTo(conn.writable));
  await storm({ port: listener.port }, 4);
  await within(listener.drain(), "drain");
});

test("through a pipe, to an echo server and back", { timeout: LONG }, () => proxied(false, 5));

test("through a pipe, with direct descriptors", { timeout: LONG }, () => proxied(true, 6));

async function proxied(direct: boolean, seed: number): Promise<void> {
  const behind = echoByHandlers(HERE, 1 << 20, direct);
  const proxied = serve(async (conn) => {
    const upstream = await connect({ hostname: "127.0.0.1", port: behind.port });
    await Promise.allSettled([pipe(conn, upstream), pipe(upstream, conn)]);
    await Promise.all([conn.close(), upstream.close()]);
  }, direct);
  await storm({ port: proxied.port }, seed);
  await within(proxied.drain(), "drain");
  await within(behind.drain(), "drain");
}

test("files between writes, large and small, to slow readers", { timeout: LONG }, () => files(false));

test("files between writes, with direct descriptors", { timeout: LONG }, () => files(true));

async function files(direct: boolean): Promise<void> {
  using dir = new TempDir();
  const SIZE = 3 << 20;
  const file = new Stream(77, SIZE);
  writeFileSync(dir.of("file"), file.next(SIZE));
  const fd = openSync(dir.of("file"), "r");
  const { uring } = currentEngine();
  const opened = await uring.openat(dir.of("file"));
  const rounds = Math.max(4, Math.ceil(TRAFFIC / SIZE / 4));
  const listener = serve(async (conn) => {
    for (let i = 0; i < rounds; i++) {
      void conn.write("a");
      const sent = conn.sendFile({ fd: opened }, 1000, 50_000);
      void conn.write("b");
      const rest = conn.sendFile(opened, 0);
      const late = conn.sendFile(opened, SIZE - 10, 50);
      assert.equal(await conn.write("c"), 1);
      assert.deepEqual(await Promise.all([sent, rest, late]), [50_000, SIZE, 10]);
    }
    await conn.close();
  }, direct);
  const client = async (slow: boolean): Promise<void> => {
    const conn = await connect({ hostname: "127.0.0.1", port: listener.port });
    const random = new Random(9);
    const buffer = new Uint8Array(200_000);
    const expect = async (stream: Stream, length: number): Promise<void> => {
      for (let left = length; left > 0;) {
        if (slow && random.chance(20)) await sleep(2);
        const count = (await conn.read(buffer.subarray(0, Math.min(left, 1 + random.below(200_000)))))!;
        stream.check(buffer.subarray(0, count));
        left -= count;
      }
    };
    const letter = async (text: string): Promise<void> => {
      assert.equal(await conn.read(buffer.subarray(0, 1)), 1);
      assert.equal(String.fromCharCode(buffer[0]!), text);
    };
    const part = (offset: number): Stream => {
      const stream = new Stream(77, SIZE);
      stream.seen = offset;
      return stream;
    };
    for (let i = 0; i < rounds; i++) {
      await letter("a");
      await expect(part(1000), 50_000);
      await letter("b");
      await expect(part(0), SIZE);
      await expect(part(SIZE - 10), 10);
      await letter("c");
    }
    assert.equal(await conn.read(buffer), null);
    await conn.close();
  };
  await Promise.all([client(false), client(false), client(true)]);
  await within(listener.drain(), "drain");
  await uring.close(opened);
  closeSync(fd);
}
