import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { beside, cannotServe, ended, lacks, said } from "./servers.ts";

checkLeaks();

const skip = cannotServe();

/** A connection that says what it is told and collects what comes back. */
class Session {
  readonly #socket: Socket;
  #received = Buffer.alloc(0);
  #ended = false;
  #wake: (() => void) | null = null;

  constructor(port: number) {
    this.#socket = connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
    this.#socket.on("data", (bytes: Buffer) => {
      this.#received = Buffer.concat([this.#received, bytes]);
      this.#wake?.();
    });
    this.#socket.on("error", () => {});
    for (const event of ["end", "close"]) {
      this.#socket.once(event, () => {
        this.#ended = true;
        this.#wake?.();
      });
    }
  }

  send(bytes: string | Uint8Array): void {
    this.#socket.write(bytes);
  }

  finish(): void {
    this.#socket.end();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** The next so many bytes; fewer when the server ends the connection. */
  async take(length: number): Promise<Buffer> {
    while (this.#received.length < length && !this.#ended) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const taken = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return taken;
  }

  async expect(text: string): Promise<void> {
    assert.equal((await this.take(Buffer.byteLength(text))).toString(), text);
  }

  end(): void {
    this.#socket.destroy();
  }
}

const request = (...words: (string | Uint8Array)[]): Buffer =>
  Buffer.concat([
    Buffer.from(`*${words.length}\r\n`),
    ...words.flatMap((
      word,
    ) => [Buffer.from(`$${Buffer.byteLength(word)}\r\n`), Buffer.from(word), Buffer.from("\r\n")]),
  ]);

async function inSession(body: (session: Session, port: number) => Promise<void>): Promise<void> {
  await beside("kv.ts", ["0"], async ({ port }) => {
    const session = new Session(port);
    try {
      await body(session, port);
    } finally {
      session.end();
    }
  });
}

test("kv.ts does what redis-cli asks for", { skip: firstReason(skip, lacks("redis-cli")) }, async () => {
  await beside("kv.ts", ["0"], async ({ port }) => {
    const script: readonly (readonly [string, string])[] = [
      ["ping", "PONG"],
      ["echo hello", "hello"],
      ["get nothing", ""],
      ["set a 1", "OK"],
      ["get a", "1"],
      ["incr a", "2"],
      ["decr a", "1"],
      ["incr counter", "1"],
      ["set text abc", "OK"],
      ["incr text", "ERR value is not an integer or out of range\n"],
      ["mget a nothing text", "1\n\nabc"],
      ["set a 2 nx", ""],
      ["set b 2 xx", ""],
      ["set b 2 NX", "OK"],
      ["set b 3 XX", "OK"],
      ["get b", "3"],
      ["set b 3 nx xx", "ERR syntax error\n"],
      ["set b 3 ex 0", "ERR invalid expire time in 'set' command\n"],
      ["set b 3 ex x", "ERR value is not an integer or out of range\n"],
      ["exists a b c", "2"],
      ["ttl a", "-1"],
      ["ttl nothing", "-2"],
      ["expire a 100", "1"],
      ["expire nothing 100", "0"],
      ["ttl a", "100"],
      ["set a 1 ex 50", "OK"],
      ["ttl a", "50"],
      ["set a 1", "OK"],
      ["ttl a", "-1"],
      ["expire a 0", "1"],
      ["get a", ""],
      ["dbsize", "3"],
      ["del text b nothing", "2"],
      ["dbsize", "1"],
      ["config get save", "save\n"],
      ["config get nonsense", ""],
      ["config set save x", "ERR only CONFIG GET is known\n"],
      ["flushall", "OK"],
      ["dbsize", "0"],
      ["nonsense 1 2", "ERR unknown command 'nonsense'\n"],
      ["get", "ERR wrong number of arguments for 'get' command\n"],
      ["ping a b", "ERR wrong number of arguments for 'ping' command\n"],
    ];
    const out = await said("redis-cli", ["-p", String(port)], `${script.map(([line]) => line).join("\n")}\n`);
    assert.equal(out, `${script.map(([, reply]) => reply).join("\n")}\n`);
    assert.match(await said("redis-cli", ["-p", String(port), "info"]), /\nconnected_clients:1\r?\n/);
  });
});

test("kv.ts serves redis-benchmark", { skip: firstReason(skip, lacks("redis-benchmark")) }, async () => {
  await beside("kv.ts", ["0"], async ({ port }) => {
    for (const args of [["-P", "16", "-c", "50", "-n", "20000", "-r", "1000"], ["-c", "10", "-n", "2000"]]) {
      const out = await said("redis-benchmark", [
        ...["-p", String(port), "-t", "ping,set,get,incr", "--csv", ...args],
      ]);
      for (const name of ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR"]) {
        assert.match(out, new RegExp(`^"${name}[^"]*","\\d+`, "m"));
      }
      assert.doesNotMatch(out, /error/i);
    }
  });
});

test("kv.ts takes requests in pieces of any size, and binary ones", { skip }, async () => {
  await inSession(async (session) => {
    const key = Buffer.from([0, 13, 10, 255, 36, 42]);
    const values = [Buffer.alloc(0), Buffer.from("\r\n$-1\r\n"), randomBytes(300), randomBytes(70_000)];
    const stream = Buffer.concat(values.flatMap((value) => [
      request("SET", key, value),
      request("get", key),
      Buffer.from("PING\r\n"),
      Buffer.from("  get   nothing \n\r\n"),
    ]));
    const replies = Buffer.concat(values.flatMap((value) => [
      Buffer.from(`+OK\r\n$${value.length}\r\n`),
      value,
      Buffer.from("\r\n+PONG\r\n$-1\r\n"),
    ]));
    for (const size of [1, 7, 4096, stream.length]) {
      // Byte by byte only the beginning, of which every kind of border is in.
      const part = size === 1 ? stream.subarray(0, 150) : stream;
      for (let at = 0; at < part.length; at += size) {
        session.send(part.subarray(at, at + size));
        if (size < 10 && at < 300 * size) await new Promise((resolve) => setImmediate(resolve));
      }
      if (size === 1) {
        session.send(stream.subarray(150));
      }
      assert.ok((await session.take(replies.length)).equals(replies), `pieces of ${size}`);
    }
  });
});

test("kv.ts keeps values of megabytes", { skip }, async () => {
  await inSession(async (session) => {
    const value = randomBytes(12_000_000);
    session.send(request("SET", "big", value));
    await session.expect("+OK\r\n");
    session.send(Buffer.concat([request("GET", "big"), request("GET", "big"), request("PING")]));
    for (let i = 0; i < 2; i++) {
      await session.expect(`$${value.length}\r\n`);
      assert.ok((await session.take(value.length)).equals(value));
      await session.expect("\r\n");
    }
    await session.expect("+PONG\r\n");
  });
});

test("kv.ts holds back a client that does not read", { skip }, async () => {
  await inSession(async (session, port) => {
    const value = randomBytes(100_000);
    session.send(request("SET", "v", value));
    await session.expect("+OK\r\n");
    session.pause();
    const count = 500;
    const get = request("GET", "v");
    session.send(Buffer.concat(Array.from({ length: count }, () => get)));
    session.send(request("PING"));
    // Others are served meanwhile.
    const other = new Session(port);
    other.send("PING\r\n");
    await other.expect("+PONG\r\n");
    other.end();
    session.resume();
    const reply = Buffer.concat([Buffer.from(`$${value.length}\r\n`), value, Buffer.from("\r\n")]);
    for (let i = 0; i < count; i++) assert.ok((await session.take(reply.length)).equals(reply), `reply ${i}`);
    await session.expect("+PONG\r\n");
  });
});

test("kv.ts answers all that came before a client finished", { skip }, async () => {
  await inSession(async (session) => {
    const value = randomBytes(200_000);
    const count = 50;
    const get = request("GET", "v");
    session.pause();
    session.send(Buffer.concat([request("SET", "v", value), ...Array.from({ length: count }, () => get)]));
    session.finish();
    session.resume();
    await session.expect("+OK\r\n");
    const reply = Buffer.concat([Buffer.from(`$${value.length}\r\n`), value, Buffer.from("\r\n")]);
    for (let i = 0; i < count; i++) assert.ok((await session.take(reply.length)).equals(reply), `reply ${i}`);
    assert.equal((await session.take(1)).length, 0);
  });
});

test("kv.ts forgets what has expired", { skip }, async () => {
  await inSession(async (session) => {
    session.send(Buffer.concat([request("SET", "k", "v", "PX", "30"), request("SET", "stays", "v")]));
    await session.expect("+OK\r\n+OK\r\n");
    for (let left = "$"; left.startsWith("$1");) {
      session.send(request("GET", "k"));
      left = (await session.take(5)).toString();
    }
    // Whoever asks for nothing sees it go as well.
    for (let size = "2"; size !== "1";) {
      session.send(request("DBSIZE"));
      [, size = ""] = /:(\d)/.exec((await session.take(4)).toString()) ?? [];
      assert.match(size, /[12]/);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });
});

test("kv.ts tells a client of its mistakes and ends", { skip }, async () => {
  const mistakes: readonly (readonly [string, string])[] = [
    ["*x\r\n", "invalid multibulk length"],
    ["*2000000\r\n", "invalid multibulk length"],
    ["*1\r\n+PING\r\n", "expected '$', got '+'"],
    ["*1\r\n$-5\r\n", "invalid bulk length"],
    ["*1\r\n$600000000\r\n", "invalid bulk length"],
    [`*1\r\n$${"0".repeat(100)}`, "invalid bulk length"],
    ["x".repeat(70_000), "too big inline request"],
  ];
  await beside("kv.ts", ["0"], async ({ port }) => {
    for (const [text, complaint] of mistakes) {
      const session = new Session(port);
      session.send(Buffer.concat([request("PING"), Buffer.from(text)]));
      const expected = `+PONG\r\n-ERR Protocol error: ${complaint}\r\n`;
      assert.equal((await session.take(1000)).toString(), expected);
      session.end();
    }
  });
});

test("kv.ts wants a port", { skip }, async () => {
  for (const args of [[], ["x"], ["70000"], ["1", "2"], ["1", "--nonsense"]]) {
    const { status, err } = await ended("kv.ts", args);
    assert.deepEqual([args, status], [args, 2]);
    assert.match(err, /\nusage: kv\.ts PORT/);
  }
  const { status, out } = await ended("kv.ts", ["--help"]);
  assert.equal(status, 0);
  assert.match(out.toString(), /^usage: kv\.ts PORT/);
});
