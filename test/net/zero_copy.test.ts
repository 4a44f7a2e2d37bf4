/** Memory that is sent where it lies: whole and in order, and the program's again when the promise says so. */
import assert from "node:assert/strict";
import { IORING_OP_SEND_ZC } from "../../src/ffi/abi.ts";
import { Mapping } from "../../src/ffi/memory.ts";
import { type RegisteredBuffer, Uring } from "../../src/mod.ts";
import { currentEngine } from "../../src/net/engine.ts";
import { type Conn, connect, listen, type Socket } from "../../src/net/mod.ts";
import { content } from "../support/content.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { sleep, within } from "../support/loop.ts";
import { Digest, digest, failure } from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";
import { Stream, TRAFFIC } from "../support/traffic.ts";

checkLeaks({ sharedRings: 1 });

const skip = missingOp(IORING_OP_SEND_ZC);
const HERE = { hostname: "127.0.0.1", port: 0 };
const MIB = 1 << 20;
const TIMES = 4;

/** Both ends; what the first one writes is never copied by the program, whatever the kernel says of its network card. */
async function pair(options: { zeroCopy: number; direct?: boolean }): Promise<{ a: Conn; b: Conn }> {
  await using listener = listen({ ...HERE, ...options });
  const [a, b] = await within(
    Promise.all([listener.accept(), connect({ hostname: "127.0.0.1", port: listener.port })]),
    "a pair",
  );
  keep(a.socket as unknown as Socket, options.zeroCopy);
  return { a, b };
}

function keep(socket: Socket, zeroCopy: number): void {
  assert.equal(socket.output.zeroCopy, zeroCopy);
  Object.defineProperty(socket.output, "zeroCopy", { get: () => zeroCopy, set: () => {} });
}

async function receive(conn: Conn, stream: Stream, slow: boolean): Promise<void> {
  const buffer = new Uint8Array(100_000);
  for (let count; (count = await conn.read(buffer)) !== null;) {
    stream.check(buffer.subarray(0, count));
    if (slow && Math.random() < 0.02) await sleep(1);
  }
  stream.end();
}

/** Sends from a few places of one piece of memory, each of which is filled anew as soon as it may be. */
async function sendFrom(memory: Uint8Array, conn: Conn, stream: Stream, size: number): Promise<void> {
  const places = Math.floor(memory.length / size);
  const sent: Promise<number>[] = [];
  for (let i = 0;; i++) {
    const place = i % places;
    await sent[place];
    const bytes = stream.next(size);
    if (bytes.length === 0) break;
    const at = place * size;
    memory.set(bytes, at);
    sent[place] = conn.write(memory.subarray(at, at + bytes.length));
  }
  await Promise.all(sent);
  await conn.closeWrite();
}

for (const slow of [false, true]) {
  for (const kind of ["registered", "ordinary"]) {
    const reader = slow ? "a slow reader" : "a reader";
    test(
      `${kind} memory is used again and again: ${reader}`,
      { skip, timeout: 60_000 + TRAFFIC / 1000 },
      async () => {
        await using buffer = Uring.shared.registerBuffer(MIB);
        const { a, b } = await pair({ zeroCopy: 1, direct: slow });
        const memory = kind === "registered" ? buffer.bytes : new Uint8Array(new ArrayBuffer(MIB));
        const length = Math.ceil(TRAFFIC / (slow ? 4 : 1));
        const receiving = receive(b, new Stream(5, length), slow);
        await sendFrom(memory, a, new Stream(5, length), 70_000);
        await receiving;
        await Promise.all([a.close(), b.close()]);
      },
    );
  }
}

test("a registered buffer as a whole, in both styles, between what is copied", { skip }, async () => {
  await using buffer = Uring.shared.registerBuffer(300_000);
  buffer.bytes.set(content(300_000, 1));
  const expected = digest(new Uint8Array([...content(300_000, 1), 33, ...content(300_000, 1), 33]));
  const all = async (conn: Conn): Promise<string> => {
    const got = new Digest();
    for await (const chunk of conn) got.add(chunk);
    return got.end();
  };
  const { a, b } = await pair({ zeroCopy: 1 });
  const received = all(b);
  const lengths = await Promise.all([
    a.write(buffer),
    a.write("!"),
    a.write(buffer),
    a.write("!"),
    a.write(""),
  ]);
  assert.deepEqual(lengths, [300_000, 1, 300_000, 1, 0]);
  await a.close();
  assert.equal(await received, expected);
  await b.close();
  const sent: Promise<number>[] = [];
  const listener = listen({
    ...HERE,
    zeroCopy: 1000,
    highWaterMark: MIB,
    socket: {
      open(socket) {
        sent.push(socket.send(buffer));
        socket.write("!");
        sent.push(socket.send(buffer.bytes));
        socket.end("!");
      },
    },
  });
  const conn = await connect({ hostname: "127.0.0.1", port: listener.port });
  assert.equal(await all(conn), expected);
  assert.deepEqual(await Promise.all(sent), [300_000, 300_000]);
  await conn.close();
  await within(listener.drain(), "drain");
});

test("memory is not given back while it waits to be sent", { skip }, async () => {
  const [one, two] = [content(8 * MIB, 2), content(8 * MIB, 3)];
  const whole = new Digest();
  for (let i = 0; i < 2 * TIMES; i++) whole.add(i < TIMES ? one : two);
  const expected = whole.end();
  for (const zeroCopy of [1, Infinity]) {
    const { a, b } = await pair({ zeroCopy });
    const buffer = Uring.shared.registerBuffer(8 * MIB);
    const mapping = Mapping.anonymous(8 * MIB);
    const plain = new Uint8Array(mapping.buffer);
    buffer.bytes.set(one);
    plain.set(two);
    const view = buffer.bytes;
    // More than the kernel takes.
    const writes = Promise.all([
      ...Array.from({ length: TIMES }, () => a.write(buffer)),
      ...Array.from({ length: TIMES }, () => a.write(plain)),
    ]);
    await sleep(5);
    const disposed = buffer[Symbol.asyncDispose]();
    mapping.unmap();
    assert.equal((await failure(a.write(buffer))).name, "TypeError");
    assert.equal(view.length, 8 * MIB);
    const got = new Digest();
    for (let left = 2 * TIMES * 8 * MIB; left > 0;) {
      const chunk = new Uint8Array(MIB);
      const count = (await within(b.read(chunk), "more"))!;
      got.add(chunk.subarray(0, count));
      left -= count;
    }
    assert.equal(got.end(), expected);
    assert.deepEqual(await writes, Array(2 * TIMES).fill(8 * MIB));
    await within(disposed, "the memory's end");
    assert.equal(view.length, 0);
    await Promise.all([a.close(), b.close()]);
  }
});

test("reset in the middle: every promise settles, and the memory goes", { skip }, async () => {
  for (let i = 0; i < 10; i++) {
    const { a, b } = await pair({ zeroCopy: 1, direct: i % 2 === 0 });
    const buffers: RegisteredBuffer[] = [1, 2].map(() => Uring.shared.registerBuffer(4 * MIB));
    // The last ones are more than the kernel takes.
    const writes = Array.from({ length: 16 }, (_, i) => a.write(buffers[i % 2]!));
    const settled = Promise.allSettled(writes);
    await b.read(new Uint8Array(1000));
    const disposed = buffers.map((buffer) => buffer[Symbol.asyncDispose]());
    if (i % 4 < 2) await a.terminate();
    else await b.terminate();
    const failed = (await within(settled, "the writes")).filter((write) => write.status === "rejected");
    assert.ok(failed.length > 0);
    for (const { reason } of failed as PromiseRejectedResult[]) {
      assert.match(reason.code ?? "", /^(ECONNRESET|EPIPE|ECANCELED)$/);
    }
    await Promise.all([a.close(), b.close()]);
    await within(Promise.all(disposed), "the memory's end");
  }
});

test("where memory must not be locked, it is copied", { skip }, async () => {
  const { a, b } = await pair({ zeroCopy: 1 });
  const { output } = a.socket;
  delete (output as { zeroCopy?: number }).zeroCopy;
  output.zeroCopy = 1;
  const { driver } = currentEngine();
  const launch = driver.launch.bind(driver);
  const refused = -12;
  let refusals = 0;
  // As the kernel answers an ordinary user whose RLIMIT_MEMLOCK is used up.
  driver.launch = (op, sink, completions) => {
    if (op.sqe!.opcode !== IORING_OP_SEND_ZC) return launch(op, sink, completions);
    refusals++;
    op.sqe!.prepNop();
    op.sqe!.flags = 0;
    launch(op, { complete: (_res, flags, more) => sink.complete(refused, flags, more) }, completions);
  };
  await using buffer = Uring.shared.registerBuffer(100_000);
  const data = buffer.bytes;
  data.set(content(100_000, 6));
  const sent = a.write(buffer);
  const chunk = new Uint8Array(100_000);
  let length = 0;
  while (length < data.length) length += (await within(b.read(chunk.subarray(length)), "the data"))!;
  driver.launch = launch;
  assert.equal(await sent, data.length);
  assert.equal(digest(chunk), digest(data));
  assert.equal(refusals, 1);
  assert.equal(output.zeroCopy, Infinity);
  await Promise.all([a.close(), b.close()]);
});
