/** Memory that stands in for JavaScript's, as in a Worker. */
// First: it has to be there before anything asks for an address.
import { forgetMemory, isKnown, lookedUp } from "../support/looked_up.ts";
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { IORING_OP_BIND, IORING_OP_FUTEX_WAIT, O_RDWR } from "../../src/ffi/abi.ts";
import { O_DIRECT } from "../../src/ffi/arch.ts";
import { Mapping } from "../../src/ffi/memory.ts";
import { shadowAlways } from "../../src/loop/shadow.ts";
import { readFile, writeFile } from "../../src/fs/mod.ts";
import { Driver } from "../../src/loop/driver.ts";
import { connect, listen } from "../../src/net/mod.ts";
import { addressOf } from "../../src/ring/mod.ts";
import { OPERATION_CASES, titleOf } from "../support/cases/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, openFile, SocketPair, URING_KINDS, within } from "../support/loop.ts";
import { bytes, Digest, digest, failure, text, WaitingPipe } from "../support/operations.ts";
import { pointersOf } from "../support/pointers.ts";
import { makeRing, missingOp, missingRing } from "../support/rings.ts";

// The ring that uring/fs and uring/net share.
checkLeaks({ sharedRings: 1 });
shadowAlways();

interface Begun {
  readonly name: string;
  readonly sqe: { readonly bytes: Uint8Array } | null;
}

/** Which operations have named memory of JavaScript's since this was emptied. */
const offenders = new Set<string>();

// Each entry of each ring is looked at when it is complete.
const engine = Driver.prototype as unknown as Record<string, (op: Begun, ...rest: unknown[]) => unknown>;
for (const method of ["promise", "chained", "launch"]) {
  const original = engine[method]!;
  engine[method] = function (this: unknown, op, ...rest) {
    const result = original.call(this, op, ...rest);
    for (const pointer of pointersOf(op.sqe!.bytes)) {
      if (isKnown(pointer)) offenders.add(op.name);
    }
    return result;
  };
}

/** What the kernel compares by its address and writes nothing to; the watching shows itself in it. */
const COMPARED = ["futex_wait", "futex_wake"];

for (const kind of ["the default", "SQPOLL", "SQE128 CQE32"]) {
  const options = URING_KINDS[kind]!;
  const skip = options.flags === undefined ? false : missingRing({ flags: options.flags });
  test(`${kind}: no operation names memory of JavaScript's to the kernel`, { skip }, async () => {
    using ring = makeRing(1);
    const probe = ring.getProbe();
    await using uring = makeUring(options);
    offenders.clear();
    let seen = 0;
    for (const one of OPERATION_CASES) {
      if ((one.skip ?? false) !== false || !probe.opcodeSupported(one.op)) continue;
      forgetMemory();
      using dir = new TempDir();
      // What this kernel lacks has been told apart by its failure elsewhere.
      await within(one.run(uring, dir).catch(() => {}), titleOf(one));
      seen += lookedUp();
    }
    forgetMemory();
    if (probe.opcodeSupported(IORING_OP_FUTEX_WAIT)) {
      for (const name of COMPARED) assert.ok(offenders.delete(name), `${name} is looked at`);
    }
    // It is about pages, whose content stays.
    offenders.delete("madvise");
    assert.deepEqual([...offenders], []);
    assert.ok(seen > 50, "addresses of JavaScript's memory are known");
  });
}

test("nor do whole files and connections", { skip: missingOp(IORING_OP_BIND) }, async () => {
  offenders.clear();
  forgetMemory();
  using dir = new TempDir();
  const data = content(300_000);
  await writeFile(dir.of("file"), data);
  assert.equal(Buffer.compare(await readFile(dir.of("file")), data), 0);
  const small = await Promise.all(Array.from({ length: 100 }, async (_, i) => {
    await writeFile(dir.of(String(i)), data.subarray(0, i));
    return await readFile(dir.of(String(i)));
  }));
  for (const [i, one] of small.entries()) assert.equal(Buffer.compare(one, data.subarray(0, i)), 0);
  await using listener = listen({ port: 0, hostname: "127.0.0.1" });
  assert.ok(listener.addr.transport !== "unix");
  const [server, client] = await Promise.all([listener.accept(), connect({ port: listener.addr.port })]);
  const received = new Digest();
  const receiving = (async () => {
    for await (const chunk of server.readable) received.add(chunk);
  })();
  // Long enough not to be copied, where that is not called for.
  await client.write(data);
  await client.closeWrite();
  await receiving;
  assert.equal(received.end(), digest(data));
  await Promise.all([client.close(), server.close()]);
  assert.ok(lookedUp() > 0, "addresses of JavaScript's memory are known");
  assert.deepEqual([...offenders], []);
});

test("a chain hands data on through a buffer, whichever parts its steps name", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("from"), "0123456789abcdef");
  using from = openFile(dir.of("from"), O_RDWR);
  writeFileSync(dir.of("to"), "");
  using to = openFile(dir.of("to"), O_RDWR);
  const buffer = bytes("................----");
  const [first, second, written] = await uring.link((l) => [
    l.read(from.fd, buffer.subarray(0, 7), { offset: 0 }),
    l.readv(from.fd, [buffer.subarray(7, 9), buffer.subarray(9, 16)], { offset: 7 }),
    l.write(to.fd, buffer, { offset: 0 }),
  ]);
  assert.deepEqual([first, second, written], [7, 9, 20]);
  assert.equal(readFileSync(dir.of("to"), "utf8"), "0123456789abcdef----");
  assert.equal(text(buffer), "0123456789abcdef----");
});

test("what a drain holds back is written as it was read", async () => {
  await using uring = makeUring();
  using source = new WaitingPipe();
  using target = new WaitingPipe();
  const buffer = bytes("....----");
  const reading = uring.read(source.reader.fd, buffer.subarray(0, 4));
  // The read is in the kernel's hands when the write begins.
  await uring.nop();
  const writing = uring.write(target.writer.fd, buffer, { drain: true });
  source.write("read");
  assert.deepEqual(await Promise.all([reading, writing]), [4, 8]);
  const out = new Uint8Array(8);
  assert.equal(text(out, await uring.read(target.reader.fd, out)), "read----");
});

test("only what was read changes, whatever else is in the buffer", async () => {
  await using uring = makeUring();
  using pipe = new WaitingPipe();
  // As another buffer's shadow has left it.
  await uring.write(pipe.writer.fd, new Uint8Array(256).fill(1));
  await uring.read(pipe.reader.fd, new Uint8Array(256));
  const buffer = new Uint8Array(new ArrayBuffer(256)).fill(9);
  pipe.write("abc");
  assert.equal(await uring.read(pipe.reader.fd, buffer.subarray(10, 200)), 3);
  assert.equal(text(buffer, 13).slice(10), "abc");
  assert.ok(buffer.every((byte, i) => i >= 10 && i < 13 || byte === 9));
});

test("reads into parts of one buffer at the same time", async () => {
  await using uring = makeUring();
  const pipes = Array.from({ length: 50 }, () => new WaitingPipe());
  const buffer = new Uint8Array(500);
  const reads = pipes.map((pipe, i) => uring.read(pipe.reader.fd, buffer.subarray(10 * i, 10 * i + 10)));
  for (const [i, pipe] of pipes.entries()) pipe.write(String(i).padStart(10));
  assert.deepEqual(new Set(await Promise.all(reads)), new Set([10]));
  assert.equal(text(buffer), pipes.map((_, i) => String(i).padStart(10)).join(""));
  for (const pipe of pipes) pipe[Symbol.dispose]();
});

test("buffers of all sizes, as they are and in shared memory, several times", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const data = content(10 << 20);
  writeFileSync(dir.of("file"), "");
  using file = openFile(dir.of("file"), O_RDWR);
  for (
    const size of [1, 63, 64, 65, 511, 512, 4095, 4096, 4097, 65_536, 100_000, 1 << 20, 3 << 20, 10 << 20]
  ) {
    for (const memory of [new ArrayBuffer(size), new SharedArrayBuffer(size)]) {
      const buffer = new Uint8Array(memory);
      for (let i = 0; i < 2; i++) {
        buffer.set(data.subarray(0, size));
        assert.equal(await uring.write(file.fd, buffer, { offset: 0 }), size);
        buffer.fill(0);
        assert.equal(await uring.read(file.fd, buffer, { offset: 0 }), size);
        assert.ok(Buffer.compare(buffer, data.subarray(0, size)) === 0, `${size} bytes`);
      }
    }
  }
});

test("direct I/O finds the alignment that the buffer has", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const data = content(8192);
  writeFileSync(dir.of("file"), data);
  const fd = await uring.openat(dir.of("file"), { flags: O_DIRECT }).catch(() => -1);
  // A file system without direct I/O.
  if (fd < 0) return;
  for (const size of [4096, 8192]) {
    const room = new Uint8Array(new ArrayBuffer(size + 4096));
    const start = -addressOf(room) & 4095;
    const buffer = room.subarray(start, start + size);
    assert.equal(await uring.read(fd, buffer, { offset: 0 }), size);
    assert.ok(Buffer.compare(buffer, data.subarray(0, size)) === 0);
  }
  await uring.close(fd);
});

test("a buffer that is given away in flight is told of, and another one takes its place", async () => {
  await using uring = makeUring();
  using pipe = new WaitingPipe();
  const buffer = new Uint8Array(16);
  const reading = failure(uring.read(pipe.reader.fd, buffer));
  await uring.nop();
  const moved = new Uint8Array(buffer.buffer.transfer()).fill(5);
  pipe.write("what comes");
  assert.match(String(await reading), /detached/);
  assert.ok(moved.every((byte) => byte === 5), "the memory is its new owner's");
  pipe.write("for it");
  assert.equal(await uring.read(pipe.reader.fd, moved), 6);
  assert.equal(text(moved, 6), "for it");
});

test("wrong arguments leave nothing behind that changes the next operation", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const good = bytes("good");
  const wrong = new Uint8Array(new ArrayBuffer(8, { maxByteLength: 16 }));
  assert.throws(() => uring.writev(pair.b.fd, [bytes("bad!"), wrong]), TypeError);
  assert.throws(() => uring.recvmsg(pair.a.fd, [good, wrong]), TypeError);
  pair.b.close();
  await uring.nop();
  assert.equal(text(good), "good");
});

test("memory of the library's own needs no shadow", async () => {
  await using uring = makeUring();
  using pipe = new WaitingPipe();
  using mapping = Mapping.anonymous(4096);
  const view = new Uint8Array(mapping.buffer, 100, 4);
  const reading = uring.read(pipe.reader.fd, view);
  pipe.write("here");
  assert.equal(await reading, 4);
  assert.equal(text(view), "here");
  using registered = uring.registerBuffer(4096);
  pipe.write("there");
  assert.equal(await uring.readFixed(pipe.reader.fd, registered), 5);
  assert.equal(text(registered.bytes, 5), "there");
});
