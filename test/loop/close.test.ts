/** Closing with work in flight: every promise settles, and the kernel writes nothing afterwards. */
import assert from "node:assert/strict";
import { O_CREAT, O_RDWR, POLLIN } from "../../src/ffi/abi.ts";
import { system } from "../../src/ffi/system.ts";
import type { Uring } from "../../src/mod.ts";
import { type Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, FLAGS, makeUring, openFile, sleep, SocketPair, within } from "../support/loop.ts";

checkLeaks();

const UNTOUCHED = 0xa5;
const SENT = 0x5a;

/** Counts how often each of many promises settles, and how. */
class Ledger {
  readonly #settled: number[] = [];
  readonly codes = new Map<string, number>();
  /** The promises. */
  readonly all: Promise<void>[] = [];

  add(promise: Promise<unknown>): void {
    const index = this.#settled.push(0) - 1;
    const settle = (code: string): void => {
      this.#settled[index]!++;
      this.codes.set(code, (this.codes.get(code) ?? 0) + 1);
    };
    this.all.push(promise.then(() => settle("ok"), (error) => settle(error.code ?? error.name)));
  }

  /** Fails unless each has settled once, with one of these codes. */
  check(...allowed: string[]): void {
    assert.ok(this.#settled.every((times) => times === 1), `settled: ${this.#settled}`);
    for (const code of this.codes.keys()) assert.ok(allowed.includes(code), `a promise ended with ${code}`);
  }
}

/** Memory that is watched. */
class Watched {
  readonly #buffers: Uint8Array[] = [];

  make(length: number): Uint8Array {
    const buffer = new Uint8Array(length).fill(UNTOUCHED);
    this.#buffers.push(buffer);
    return buffer;
  }

  /** How many bytes were written to. */
  get touched(): number {
    let count = 0;
    for (const buffer of this.#buffers) for (const byte of buffer) if (byte !== UNTOUCHED) count++;
    return count;
  }
}

/** 1,000 operations and more, of all kinds, that have not ended. */
class Work implements Disposable {
  readonly ledger = new Ledger();
  readonly watched = new Watched();
  readonly #dir = new TempDir();
  readonly #file: Fd = openFile(this.#dir.of("file"), O_RDWR | O_CREAT);
  readonly #pipes: Pipe[] = Array.from({ length: 8 }, () => new Pipe());
  readonly #sockets: SocketPair[] = Array.from({ length: 8 }, () => new SocketPair());

  begin(uring: Uring): void {
    const { ledger, watched } = this;
    const block = new Uint8Array(4096).fill(SENT);
    for (let i = 0; i < 125; i++) {
      const pipe = this.#pipes[i % this.#pipes.length]!.reader.fd;
      const socket = this.#sockets[i % this.#sockets.length]!.a.fd;
      ledger.add(uring.read(pipe, watched.make(1 + i * 16)));
      ledger.add(uring.recv(socket, watched.make(2000 - i * 16)));
      ledger.add(uring.readv(pipe, [watched.make(10), watched.make(1000)]));
      ledger.add(uring.timeout(60_000 + i));
      ledger.add(uring.poll(socket, POLLIN));
      ledger.add(uring.write(this.#file.fd, block, { offset: i * block.length, async: true }));
      ledger.add(uring.read(pipe, watched.make(64), { timeout: 60_000 }));
      ledger.add(uring.recv(socket, watched.make(64), { signal: AbortSignal.timeout(60_000) }));
    }
    for (let i = 0; i < 20; i++) {
      const pipe = this.#pipes[i % this.#pipes.length]!.reader.fd;
      const chain = uring.linkSettled((l) => {
        const steps = [l.timeout(60_000), l.read(pipe, watched.make(100)), l.nop()] as const;
        for (const step of steps) ledger.add(step);
        return steps;
      }, { hard: i % 2 === 0 });
      ledger.add(chain);
    }
    const events = [
      uring.timeoutMultishot(60_000),
      uring.pollMultishot(this.#sockets[0]!.a.fd, POLLIN),
      uring.recvMultishot(this.#sockets[1]!.a.fd),
    ];
    for (const multishot of events) for (let i = 0; i < 3; i++) ledger.add(multishot.next());
  }

  /** Sends to everything that was read from. */
  feed(): void {
    const bytes = new Uint8Array(8192).fill(SENT);
    for (const { writer } of this.#pipes) system().write(writer.fd, bytes, bytes.length);
    for (const { b } of this.#sockets) system().write(b.fd, bytes, bytes.length);
  }

  [Symbol.dispose](): void {
    for (const each of [this.#file, ...this.#pipes, ...this.#sockets, this.#dir]) each[Symbol.dispose]();
  }
}

/** Closes with all that in flight, feeds it, and checks that nothing is written. */
async function closeUnderLoad(uring: Uring, before: () => void | Promise<void>): Promise<void> {
  using work = new Work();
  work.begin(uring);
  await before();
  const closing = uring.disposeAsync();
  assert.equal(uring.closed, true);
  await within(closing, "closing");
  const touched = work.watched.touched;
  work.feed();
  await within(Promise.all(work.ledger.all), "the promises");
  work.ledger.check("ok", "ECANCELED", "EINTR");
  for (let i = 0; i < 5; i++) {
    collect();
    await sleep(2);
  }
  assert.equal(work.watched.touched, touched, "the kernel wrote after the ring was closed");
  assert.equal(uring.stats.inFlight, 0);
}

const MOMENTS: readonly (readonly [string, () => void | Promise<void>])[] = [
  ["in the same turn", () => {}],
  ["a microtask later", () => Promise.resolve()],
  ["a turn later", () => new Promise((resolve) => setImmediate(resolve))],
  ["asleep", () => sleep(20)],
];

for (const [moment, before] of MOMENTS) {
  test(`closing with more than 1,000 operations in flight, ${moment}, again and again`, async () => {
    for (let i = 0; i < 20; i++) {
      await closeUnderLoad(makeUring({ entries: [4, 64, 256, 1024][i % 4]! }), before);
    }
  });
}

for (const { name, flags, skip } of FLAGS) {
  test(`${name}: closing with more than 1,000 operations in flight`, { skip }, async () => {
    for (const [, before] of MOMENTS) await closeUnderLoad(makeUring({ flags }), before);
  });
}

test("closing while the other end writes", async () => {
  for (let i = 0; i < 20; i++) {
    using work = new Work();
    const uring = makeUring();
    work.begin(uring);
    await sleep(i % 3);
    // What arrives while it closes may be taken or not, but not after it is closed.
    work.feed();
    const closing = uring.disposeAsync();
    work.feed();
    await within(closing, "closing");
    const touched = work.watched.touched;
    work.feed();
    await within(Promise.all(work.ledger.all), "the promises");
    work.ledger.check("ok", "ECANCELED", "EINTR");
    await sleep(2);
    assert.equal(work.watched.touched, touched);
  }
});

test("steps of a long chain that would each block end one after the other", async () => {
  const uring = makeUring();
  const ledger = new Ledger();
  ledger.add(uring.linkSettled((l) => {
    const steps = Array.from({ length: 200 }, () => l.timeout(60_000));
    for (const step of steps) ledger.add(step);
    return steps;
  }, { hard: true }));
  await sleep(10);
  await within(uring.disposeAsync(), "closing");
  await within(Promise.all(ledger.all), "the steps");
  ledger.check("ok", "ECANCELED");
});

test("what a drain holds back ends, too", async () => {
  using pipe = new Pipe();
  const uring = makeUring();
  const ledger = new Ledger();
  const watched = new Watched();
  for (let i = 0; i < 50; i++) {
    ledger.add(uring.read(pipe.reader.fd, watched.make(10)));
    ledger.add(uring.read(pipe.reader.fd, watched.make(10), { drain: true }));
    ledger.add(uring.timeout(60_000));
  }
  await sleep(10);
  await within(uring.disposeAsync(), "closing");
  await within(Promise.all(ledger.all), "the operations");
  ledger.check("ECANCELED");
  pipe.write("too late");
  await sleep(5);
  assert.equal(watched.touched, 0);
});

test("closing twice is closing once", async () => {
  const uring = makeUring();
  const pending = uring.timeout(60_000);
  pending.catch(() => {});
  await Promise.all([uring.disposeAsync(), uring.disposeAsync(), uring[Symbol.asyncDispose]()]);
  await uring.disposeAsync();
  await assert.rejects(pending, { code: "ECANCELED" });
});

test("closing when nothing was ever asked for", async () => {
  await makeUring().disposeAsync();
});

test("a closed ring refuses everything with a TypeError, and so does one that is closing", async () => {
  using pipe = new Pipe();
  const uring = makeUring();
  const buffer = new Uint8Array(8);
  const pending = uring.read(pipe.reader.fd, buffer);
  pending.catch(() => {});
  const attempts: (() => unknown)[] = [
    () => uring.nop(),
    () => uring.read(pipe.reader.fd, buffer),
    () => uring.write(pipe.writer.fd, buffer),
    () => uring.openat("/dev/null"),
    () => uring.statx("/"),
    () => uring.timeout(1),
    () => uring.poll(pipe.reader.fd, POLLIN),
    () => uring.cancel({ any: true }),
    () => uring.socket(1, 1),
    () => uring.acceptMultishot(pipe.reader.fd),
    () => uring.recvMultishot(pipe.reader.fd),
    () => uring.timeoutMultishot(1),
    () => uring.bufferPool(),
  ];
  const chain = (): Promise<unknown> => uring.link((l) => [l.nop()]);
  const closing = uring.disposeAsync();
  for (const attempt of attempts) assert.throws(attempt, TypeError, String(attempt));
  await assert.rejects(chain, TypeError);
  await closing;
  await assert.rejects(pending, { code: "ECANCELED" });
  for (const attempt of attempts) assert.throws(attempt, TypeError, String(attempt));
  await assert.rejects(chain, TypeError);
  assert.equal(uring.closed, true);
});

test("closing ends iterations of multishot operations", async () => {
  using pair = new SocketPair();
  for (let i = 0; i < 20; i++) {
    const uring = makeUring();
    const ticks = (async () => {
      for await (const tick of uring.timeoutMultishot(1)) {
        if (tick === 3) void uring.disposeAsync();
      }
    })();
    const chunks = (async () => {
      for await (const chunk of uring.recvMultishot(pair.a.fd)) assert.ok(chunk.length > 0);
    })();
    chunks.catch(() => {});
    system().write(pair.b.fd, new Uint8Array(100), 100);
    await assert.rejects(within(ticks, "the ticks"), { code: "ECANCELED" });
    await assert.rejects(within(chunks, "the chunks"), { code: "ECANCELED" });
    await within(uring.disposeAsync(), "closing");
  }
});

test("closing while a multishot operation is being ended", async () => {
  using pair = new SocketPair();
  for (let i = 0; i < 20; i++) {
    const uring = makeUring();
    const chunks = uring.recvMultishot(pair.a.fd);
    const first = chunks.next();
    system().write(pair.b.fd, new Uint8Array(10), 10);
    const { value } = await within(first, "the first chunk");
    assert.equal(value?.length, 10);
    const ended = chunks.return();
    await within(Promise.all([uring.disposeAsync(), ended]), "closing");
    assert.equal((await chunks.next()).done, true);
  }
});

test("closing in the callback of a completion", async () => {
  const uring = makeUring();
  const ledger = new Ledger();
  let closing: Promise<void> | undefined;
  for (let i = 0; i < 100; i++) {
    ledger.add(uring.nop().then(() => closing ??= uring.disposeAsync()));
    ledger.add(uring.timeout(60_000));
  }
  await within(Promise.all(ledger.all), "the promises");
  ledger.check("ok", "ECANCELED");
  await closing;
});
