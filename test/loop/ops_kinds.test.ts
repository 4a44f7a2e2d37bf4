/** A core of operations on every kind and size of ring. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { family, readSources } from "../../scripts/coverage/sources.ts";
import { SHUT_WR } from "../../src/ffi/abi.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { Uring } from "../../src/mod.ts";
import { OPERATION_CASES, type OperationCase, titleOf } from "../support/cases/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, SocketPair, URING_KINDS, within } from "../support/loop.ts";
import { bytes, Digest, digest, failures, text, WaitingPipe } from "../support/operations.ts";
import { makeRing, missingRing } from "../support/rings.ts";

checkLeaks();

/** The operations of the table that this kernel has. */
const CASES = presentCases();

function presentCases(): readonly OperationCase[] {
  using ring = makeRing(1);
  const probe = ring.getProbe();
  return OPERATION_CASES.filter(({ op, kernel, skip = false }) =>
    skip === false && probe.opcodeSupported(op) && (kernel === undefined || kernelHas(kernel))
  );
}

/** The methods of `Uring` that are no operations. */
const OTHER_METHODS = [
  "constructor",
  "ref",
  "unref",
  "link",
  "linkSettled",
  // Of the ring, not of a file.
  "filterOperations",
  "localAddress",
  "remoteAddress",
  "disposeAsync",
  "bufferPool",
  "sendQueue",
  // What msgRing and sendFd send to.
  "messages",
  // For rings with completions of 32 bytes alone.
  "txTimestamps",
  "registerBuffer",
  "registerPersonality",
];

test("every method of Uring is in the table of operations", () => {
  const sources = readSources("src/loop");
  const classes = family(sources, "Uring");
  const isMethod = (name: string): boolean => {
    const types = [...prototypes()];
    return types.some((type) => typeof Object.getOwnPropertyDescriptor(type, name)?.value === "function");
  };
  const methods = new Set(
    sources.members
      .filter(({ owner, open, name }) => owner !== null && classes.has(owner) && open && isMethod(name))
      .map(({ name }) => name),
  );
  const known = new Set([...OTHER_METHODS, ...OPERATION_CASES.map((one) => one.method)]);
  const without = [...methods].filter((name) => !known.has(name));
  assert.deepEqual(without, [], "these have no entry in test/support/cases/");
  assert.deepEqual([...known].filter((name) => !methods.has(name)), []);
});

function* prototypes(): Iterable<object> {
  for (let type = Uring.prototype as object; type !== Object.prototype; type = Object.getPrototypeOf(type)) {
    yield type;
  }
}

for (const [name, options] of Object.entries(URING_KINDS)) {
  const skip = options.flags === undefined ? false : missingRing({ flags: options.flags });

  test(`${name}: every operation`, { skip }, async () => {
    await using uring = makeUring(options);
    for (const one of CASES) {
      using dir = new TempDir();
      try {
        await within(one.run(uring, dir), titleOf(one));
      } catch (cause) {
        throw new Error(`${titleOf(one)}: ${cause}`, { cause });
      }
    }
    assert.equal(uring.stats.inFlight, 0);
  });

  test(`${name}: files, paths, vectors`, { skip }, async () => {
    await using uring = makeUring(options);
    using dir = new TempDir();
    const data = content(64 * 1024);
    await within(
      Promise.all(Array.from({ length: 30 }, async (_, i) => {
        const path = dir.of(`a rather long name for a file in a test, number ${i}`);
        const fd = await uring.openat(path, { flags: "w+" });
        const at = { offset: 1000 * i };
        assert.equal(await uring.write(fd, data.subarray(1000 * i), at), data.length - 1000 * i);
        const [a, b] = [new Uint8Array(1234), new Uint8Array(4321)];
        assert.equal(await uring.readv(fd, [a, b], { offset: 1000 * i }), 5555);
        assertContent(a, 1234, 1000 * i);
        assertContent(b, 4321, 1000 * i + 1234);
        assert.equal((await uring.statx(path)).size, data.length);
        await uring.close(fd);
        await uring.unlinkat(path);
      })),
      "files",
    );
    assert.equal(uring.stats.inFlight, 0);
  });

  test(`${name}: sockets, receives in both ways`, { skip }, async () => {
    await using uring = makeUring(options);
    using pair = new SocketPair();
    const data = content(300_000);
    const send = async (): Promise<void> => {
      for (let at = 0; at < data.length;) at += await uring.send(pair.b.fd, data.subarray(at));
      await uring.shutdown(pair.b.fd, SHUT_WR);
    };
    const sending = send();
    const received = new Digest();
    for await (
      const chunk of uring.recvMultishot(pair.a.fd, { pool: uring.bufferPool({ count: 4, size: 4096 }) })
    ) {
      received.add(chunk);
    }
    await sending;
    assert.equal(received.end(), digest(data));
    const echo = Array.from({ length: 20 }, async () => {
      using pair = new SocketPair();
      const buffer = new Uint8Array(8);
      const receiving = uring.recv(pair.a.fd, buffer);
      await uring.send(pair.b.fd, bytes("echo"));
      assert.equal(text(buffer, await receiving), "echo");
    });
    await within(Promise.all(echo), "echoes");
  });

  test(`${name}: time limits, signals, cancellations`, { skip }, async () => {
    await using uring = makeUring(options);
    using pipe = new WaitingPipe();
    using pair = new SocketPair();
    const controller = new AbortController();
    const limited = Array.from(
      { length: 10 },
      () => uring.recv(pair.a.fd, new Uint8Array(1), { timeout: 2 }),
    );
    const aborted = Array.from(
      { length: 10 },
      () => uring.read(pipe.reader.fd, new Uint8Array(1), { signal: controller.signal }),
    );
    const [one, two] = [failures(limited), failures(aborted)];
    await uring.nop({ timeout: 60_000 });
    controller.abort("reason");
    assert.ok((await two).every((reason) => reason as unknown === "reason"));
    assert.ok((await one).every(({ code }) => code === "ETIMEDOUT"));
    const never = failures([uring.recv(pair.a.fd, new Uint8Array(1)), uring.timeout(1e9)]);
    await uring.nop();
    assert.equal(await uring.cancel({ any: true }), 2);
    assert.deepEqual((await never).map(({ code }) => code), ["ECANCELED", "ECANCELED"]);
    assert.equal(uring.stats.inFlight, 0);
  });

  test(`${name}: chains of two with direct descriptors, ticks`, { skip }, async () => {
    await using uring = makeUring(options);
    using dir = new TempDir();
    writeFileSync(dir.of("file"), "content");
    await within(
      Promise.all(Array.from({ length: 20 }, async () => {
        const buffer = new Uint8Array(7);
        const [file, length] = await uring.link((l) => {
          const file = l.direct();
          return [l.openat(dir.of("file"), { direct: file }), l.read(file, buffer)];
        });
        assert.equal(length, 7);
        assert.equal(text(buffer), "content");
        await uring.close(file);
      })),
      "chains",
    );
    await assert.rejects(
      uring.link((l) => Array.from({ length: uring.ring.sqEntries + 1 }, () => l.nop())),
      RangeError,
    );
    const ticks = await within(Array.fromAsync(uring.timeoutMultishot(0.5, { count: 5 })), "ticks");
    assert.deepEqual(ticks, [1, 2, 3, 4, 5]);
    assert.equal(uring.stats.inFlight, 0);
  });

  test(`${name}: closing in the middle of everything`, { skip }, async () => {
    const uring = makeUring(options);
    using pair = new SocketPair();
    const pending = Array.from({ length: 40 }, () => uring.recv(pair.a.fd, new Uint8Array(1)));
    const ended = failures(pending);
    const ticking = failures([uring.timeoutMultishot(1e9).next()]);
    await uring.nop();
    await within(uring.disposeAsync(), "closing");
    assert.ok([...await ended, ...await ticking].every(({ code }) => code === "ECANCELED"));
  });
}
