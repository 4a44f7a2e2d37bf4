/** Registered buffers as objects: what they do, and that no misuse of them corrupts memory or hangs. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { IORING_OP_READV_FIXED, O_CREAT, O_RDONLY, O_RDWR, RLIMIT_MEMLOCK } from "../../src/ffi/abi.ts";
import { O_DIRECT } from "../../src/ffi/arch.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { system } from "../../src/ffi/system.ts";
import { RegisteredBuffer, type Uring } from "../../src/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { isMapped, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, FLAGS, makeUring, openFile, sleep, SocketPair, until, within } from "../support/loop.ts";
import { failure, flushed, refuses, rejectsWith, WaitingPipe } from "../support/operations.ts";
import { missingDirect, missingOp } from "../support/rings.ts";

checkLeaks();

const skip = kernelHas("5.19") ? false : "needs Linux 5.19";
const skipVectors = firstReason(skip, missingOp(IORING_OP_READV_FIXED));

/** The memory that the kernel holds on to for this process, in KiB. */
function pinned(): number {
  return Number(/^VmPin:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]);
}

/** Where a view's memory lies. */
function addressOf(buffer: RegisteredBuffer): number {
  return buffer.address;
}

for (const kind of FLAGS) {
  test(`${kind.name}: reads and writes with offsets`, { skip: kind.skip || skip }, async () => {
    await using uring = makeUring({ flags: kind.flags, entries: 8 });
    using dir = new TempDir();
    const path = dir.of("file");
    using file = openFile(path, O_RDWR | O_CREAT);
    await using buffer = uring.registerBuffer(64 * 1024);
    assert.equal(buffer.size, 64 * 1024);
    assert.equal(buffer.bytes.length, 64 * 1024);
    assert.ok(buffer.bytes.every((byte) => byte === 0));
    buffer.bytes.set(content(64 * 1024));
    assert.equal(await uring.writeFixed(file.fd, buffer, { offset: 0 }), 64 * 1024);
    assert.equal(await uring.writeFixed(file.fd, buffer, { offset: 65536, start: 65535 }), 1);
    assert.equal(await uring.writeFixed(file.fd, buffer, { offset: 65537, start: 10, length: 20 }), 20);
    const written = readFileSync(path);
    assert.equal(written.length, 65557);
    assertContent(written, 65536, 0);
    assertContent(written.subarray(65536), 1, 65535);
    assertContent(written.subarray(65537), 20, 10);
    buffer.bytes.fill(0);
    const reads = [0, 1, 2, 3].map((i) =>
      uring.readFixed(file.fd, buffer, { offset: i * 1000, start: (3 - i) * 1000, length: 1000 })
    );
    assert.deepEqual(await Promise.all(reads), [1000, 1000, 1000, 1000]);
    for (let i = 0; i < 4; i++) assertContent(buffer.bytes.subarray((3 - i) * 1000), 1000, i * 1000);
    assert.ok(buffer.bytes.subarray(4000).every((byte) => byte === 0));
    // At the end, behind it, and nothing at all.
    assert.equal(await uring.readFixed(file.fd, buffer, { offset: 65550, length: 100 }), 7);
    assert.equal(await uring.readFixed(file.fd, buffer, { offset: 1e6 }), 0);
    assert.equal(await uring.readFixed(file.fd, buffer, { offset: 0, start: buffer.size }), 0);
    // The file's own position.
    assert.equal(await uring.readFixed(file.fd, buffer, { length: 5 }), 5);
    assert.equal(await uring.readFixed(file.fd, buffer, { length: 5 }), 5);
    assertContent(buffer.bytes, 5, 5);
  });

  test(`${kind.name}: parts of a buffer`, { skip: kind.skip || skipVectors }, async () => {
    await using uring = makeUring({ flags: kind.flags, entries: 8 });
    using dir = new TempDir();
    const path = dir.of("file");
    using file = openFile(path, O_RDWR | O_CREAT);
    await using buffer = uring.registerBuffer(20_000);
    buffer.bytes.set(content(20_000));
    const ranges = [{ start: 10_000, length: 5000 }, { start: 0, length: 1 }, { start: 19_999, length: 1 }];
    assert.equal(await uring.writevFixed(file.fd, buffer, ranges, { offset: 0 }), 5002);
    const written = readFileSync(path);
    assertContent(written, 5000, 10_000);
    assert.deepEqual([...written.subarray(5000)], [buffer.bytes[0], buffer.bytes[19_999]]);
    buffer.bytes.fill(0);
    const reversed = [{ start: 15_000, length: 5000 }, { start: 3, length: 10 }];
    assert.equal(await uring.readvFixed(file.fd, buffer, reversed, { offset: 0 }), 5002);
    assertContent(buffer.bytes.subarray(15_000), 5000, 10_000);
    assert.deepEqual([...buffer.bytes.subarray(3, 5)], [...written.subarray(5000)]);
    assert.equal(await uring.readvFixed(file.fd, buffer, [], { offset: 0 }), 0);
  });

  test(`${kind.name}: a socket, a chain, a time limit`, { skip: kind.skip || skip }, async () => {
    await using uring = makeUring({ flags: kind.flags, entries: 8 });
    using pair = new SocketPair();
    await using there = uring.registerBuffer(4096);
    await using back = uring.registerBuffer(4096);
    there.bytes.set(content(4096));
    const reading = uring.readFixed(pair.a.fd, back);
    await uring.writeFixed(pair.b.fd, there, { length: 100 });
    assert.equal(await within(reading, "a read"), 100);
    assertContent(back.bytes, 100, 0);
    const [sent, received] = await uring.link((l) => [
      l.writeFixed(pair.b.fd, there, { start: 50, length: 50 }),
      l.readFixed(pair.a.fd, back, { start: 4000, length: 50 }),
    ]);
    assert.deepEqual([sent, received], [50, 50]);
    assertContent(back.bytes.subarray(4000), 50, 50);
    await rejectsWith(uring.readFixed(pair.a.fd, back, { timeout: 2 }), "ETIMEDOUT", "read_fixed");
    await rejectsWith(uring.readFixed(-1, back), "EBADF", "read_fixed");
    await rejectsWith(uring.writeFixed(-1, back), "EBADF", "write_fixed");
  });
}

test(
  "memory begins at a page, so that O_DIRECT works",
  { skip: firstReason(skip, missingDirect()) },
  async () => {
    await using uring = makeUring();
    using dir = new TempDir();
    writeFileSync(dir.of("file"), content(16_384));
    using file = openFile(dir.of("file"), O_RDONLY | O_DIRECT);
    await using buffer = uring.registerBuffer(16_384);
    assert.equal(await uring.readFixed(file.fd, buffer, { offset: 4096, start: 8192, length: 8192 }), 8192);
    assertContent(buffer.bytes.subarray(8192), 8192, 4096);
  },
);

test("a direct descriptor with a registered buffer", { skip }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(5000));
  await using buffer = uring.registerBuffer(8192);
  const file = await uring.openat(dir.of("file"), { direct: true });
  assert.equal(await uring.readFixed(file, buffer, { offset: 0 }), 5000);
  assertContent(buffer.bytes, 5000, 0);
  await uring.close(file);
});

test("wrong arguments throw before anything reaches the kernel", { skip }, async () => {
  await using uring = makeUring();
  await using other = makeUring();
  await using buffer = uring.registerBuffer(100);
  for (const size of [0, -1, 1.5, NaN, 2 ** 30 + 1, "1" as unknown as number]) {
    await refuses(uring, RangeError, () => uring.registerBuffer(size));
  }
  for (const start of [-1, 101, 0.5, NaN, "0" as unknown as number]) {
    await refuses(uring, RangeError, () => uring.readFixed(0, buffer, { start }));
    await refuses(uring, RangeError, () => uring.writevFixed(0, buffer, [{ start, length: 0 }]));
  }
  for (const [start, length] of [[0, 101], [1, 100], [100, 1], [0, -1], [0, 0.5], [0, NaN]] as const) {
    await refuses(uring, RangeError, () => uring.writeFixed(0, buffer, { start, length }));
    await refuses(uring, RangeError, () => uring.readvFixed(0, buffer, [{ start, length }]));
  }
  await refuses(uring, RangeError, () => uring.readFixed(0, buffer, { offset: -2 }));
  await refuses(uring, RangeError, () => uring.readFixed(0, buffer, { flags: -1 }));
  await refuses(
    uring,
    RangeError,
    () => uring.readvFixed(0, buffer, Array(1025).fill({ start: 0, length: 1 })),
  );
  await refuses(uring, TypeError, () => uring.readvFixed(0, buffer, 5 as never));
  await refuses(uring, TypeError, () => uring.readFixed(0, buffer.bytes as never));
  await refuses(uring, TypeError, () => uring.readFixed("0" as never, buffer));
  await refuses(other, TypeError, () => other.readFixed(0, buffer));
  await refuses(other, TypeError, () => other.writevFixed(0, buffer, []));
  for (const registeredBuffers of [0, -1, 1.5, 16_385]) {
    assert.throws(() => makeUring({ registeredBuffers }), RangeError);
  }
});

test("after disposal it is refused, and views of it are empty", { skip }, async () => {
  await using uring = makeUring();
  const buffer = uring.registerBuffer(10_000);
  const { bytes } = buffer;
  const part = bytes.subarray(5000);
  const address = addressOf(buffer);
  assert.equal(isMapped(address), true);
  assert.equal(buffer.disposed, false);
  buffer[Symbol.dispose]();
  assert.equal(isMapped(address), false);
  assert.equal(buffer.disposed, true);
  assert.deepEqual([bytes.length, part.length, bytes.buffer.byteLength], [0, 0, 0]);
  assert.equal(bytes[0], undefined);
  assert.throws(() => buffer.bytes, TypeError);
  await refuses(uring, TypeError, () => uring.readFixed(0, buffer));
  await refuses(uring, TypeError, () => uring.writevFixed(0, buffer, []));
  // A view that was kept is no way in either.
  await refuses(uring, TypeError, () => uring.read(0, bytes));
  // Again and again is once.
  buffer[Symbol.dispose]();
  await buffer[Symbol.asyncDispose]();
});

test("a place that was given back is used again", { skip }, async () => {
  await using uring = makeUring({ registeredBuffers: 3 });
  const [a, b, c] = [1, 2, 3].map(() => uring.registerBuffer(4096)) as [
    RegisteredBuffer,
    RegisteredBuffer,
    RegisteredBuffer,
  ];
  assert.throws(() => uring.registerBuffer(4096), { code: "ENOBUFS", syscall: "register_buffer" });
  b[Symbol.dispose]();
  using pair = new SocketPair();
  for (let i = 0; i < 100; i++) {
    using buffer = uring.registerBuffer(1 + i * 100);
    const reading = uring.readFixed(pair.a.fd, buffer);
    await uring.write(pair.b.fd, content(1, i));
    assert.equal(await reading, 1);
    assertContent(buffer.bytes, 1, 0, i);
  }
  a[Symbol.dispose]();
  c[Symbol.dispose]();
});

test("disposing of it while a read into it is in flight waits for the read", { skip }, async () => {
  await using uring = makeUring();
  for (const way of ["dispose", "asyncDispose"] as const) {
    using pipe = new WaitingPipe();
    const buffer = uring.registerBuffer(4096);
    const { bytes } = buffer;
    const address = addressOf(buffer);
    const reading = uring.readFixed(pipe.reader.fd, buffer);
    await flushed(uring);
    let gone = false;
    const disposed = Promise.resolve(buffer[Symbol[way]]()).then(() => gone = way === "asyncDispose");
    await sleep(5);
    assert.equal(gone, false);
    assert.equal(isMapped(address), true);
    assert.equal(bytes.length, 4096, "its content can still be looked at");
    await refuses(uring, TypeError, () => uring.readFixed(pipe.reader.fd, buffer));
    pipe.write("late");
    assert.equal(await within(reading, "the read"), 4);
    await within(disposed, "the disposal");
    await until(() => !isMapped(address), "unmapped");
    assert.equal(bytes.length, 0);
  }
});

test("every way to use its memory holds the disposal up", { skip: skipVectors }, async () => {
  await using uring = makeUring();
  await using other = makeUring();
  using pipe = new WaitingPipe();
  const uses: readonly ((buffer: RegisteredBuffer, signal: AbortSignal) => Promise<unknown>)[] = [
    (buffer, signal) => uring.readFixed(pipe.reader.fd, buffer, { signal }),
    (buffer, signal) => uring.readvFixed(pipe.reader.fd, buffer, [{ start: 1, length: 5 }], { signal }),
    (buffer, signal) => uring.read(pipe.reader.fd, buffer.bytes.subarray(7, 9), { signal }),
    (buffer, signal) => uring.readv(pipe.reader.fd, [new Uint8Array(1), buffer.bytes], { signal }),
    (buffer, signal) => other.read(pipe.reader.fd, buffer.bytes, { signal }),
    (buffer, signal) => uring.link((l) => [l.nop(), l.readFixed(pipe.reader.fd, buffer, { signal })]),
    async (buffer, signal) => {
      // One that begins when the disposal is already waiting for another.
      const { bytes } = buffer;
      const first = failure(uring.readFixed(pipe.reader.fd, buffer, { timeout: 5 }));
      buffer[Symbol.dispose]();
      const second = uring.read(pipe.reader.fd, bytes, { signal });
      await first;
      return await second;
    },
  ];
  for (const use of uses) {
    const controller = new AbortController();
    const buffer = uring.registerBuffer(4096);
    const address = addressOf(buffer);
    const using_ = failure(use(buffer, controller.signal));
    let gone = false;
    const disposed = buffer[Symbol.asyncDispose]().then(() => gone = true);
    await sleep(20);
    assert.equal(gone, false, String(use));
    assert.equal(isMapped(address), true, String(use));
    controller.abort("enough");
    await using_;
    await within(disposed, String(use));
    assert.equal(isMapped(address), false, String(use));
  }
  assert.deepEqual([uring.stats.inFlight, other.stats.inFlight], [0, 0]);
});

test("disposing of it in the turn in which it was used", { skip }, async () => {
  await using uring = makeUring({ entries: 4 });
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(4096));
  using file = openFile(dir.of("file"), O_RDONLY);
  const pending = Array.from({ length: 20 }, () => {
    using buffer = uring.registerBuffer(4096);
    return uring.readFixed(file.fd, buffer, { offset: 0 });
  });
  assert.deepEqual(await within(Promise.all(pending), "reads"), Array(20).fill(4096));
});

test("closing the ring first", { skip }, async () => {
  using pipe = new WaitingPipe();
  const uring = makeUring();
  const idle = uring.registerBuffer(4096);
  const busy = uring.registerBuffer(4096);
  const going = uring.registerBuffer(4096);
  const dropped = uring.registerBuffer(4096);
  idle.bytes[0] = 42;
  const reads = [busy, going].map((buffer) => failure(uring.readFixed(pipe.reader.fd, buffer)));
  const gone = going[Symbol.asyncDispose]();
  await within(uring.disposeAsync(), "closing");
  assert.deepEqual((await Promise.all(reads)).map(({ code }) => code), ["ECANCELED", "ECANCELED"]);
  await within(gone, "the disposal");
  assert.throws(() => going.bytes, TypeError);
  // Plain memory is left.
  assert.equal(idle.bytes[0], 42);
  assert.throws(() => uring.readFixed(0, idle), TypeError);
  assert.throws(() => uring.registerBuffer(1), TypeError);
  for (const buffer of [idle, busy, dropped]) {
    const { bytes } = buffer;
    const address = addressOf(buffer);
    await within(buffer[Symbol.asyncDispose](), "the disposal");
    assert.equal(isMapped(address), false);
    assert.equal(bytes.length, 0);
  }
});

test("memory that was transferred away is not taken from who has it now", { skip }, async () => {
  await using uring = makeUring();
  using pipe = new WaitingPipe();
  const idle = uring.registerBuffer(4096);
  const address = addressOf(idle);
  idle.bytes.set(content(4096));
  const taken = new Uint8Array((idle.bytes.buffer as ArrayBuffer).transfer());
  assert.equal(idle.bytes.length, 0);
  await refuses(uring, TypeError, () => uring.readFixed(0, idle));
  await within(idle[Symbol.asyncDispose](), "the disposal");
  assert.equal(isMapped(address), true);
  assertContent(taken, 4096, 0);
  // While the kernel writes into it.
  const busy = uring.registerBuffer(4096);
  const reading = failure(uring.readFixed(pipe.reader.fd, busy));
  await flushed(uring);
  const rest = new Uint8Array((busy.bytes.buffer as ArrayBuffer).transfer());
  const disposed = busy[Symbol.asyncDispose]();
  pipe.write("x");
  assert.ok(await reading instanceof TypeError);
  await within(disposed, "the disposal");
  assert.equal(rest[0], "x".charCodeAt(0));
});

test("one that is dropped gives its place and its memory back", { skip }, async () => {
  await using uring = makeUring({ registeredBuffers: 64 });
  const before = pinned();
  const addresses: number[] = [];
  const use = async (): Promise<void> => {
    using pair = new SocketPair();
    const buffer = uring.registerBuffer(64 * 1024);
    addresses.push(addressOf(buffer));
    const reading = uring.readFixed(pair.a.fd, buffer);
    await uring.write(pair.b.fd, new Uint8Array(10));
    assert.equal(await reading, 10);
  };
  // More than there are places, so that some must come back.
  let kept = 0;
  for (let i = 0; i < 200; i++) {
    await within(
      (async () => {
        for (;;) {
          try {
            return await use();
          } catch (error) {
            assert.equal((error as { code?: string }).code, "ENOBUFS");
            collect();
            await sleep(1);
          }
        }
      })(),
      "a place",
    );
  }
  await until(() => {
    collect();
    kept = addresses.slice(0, 100).filter((address) => isMapped(address)).length;
    // Addresses are used again, and a conservative collector keeps a few.
    return pinned() - before < 20 * 64;
  }, `pinned memory fell: ${pinned() - before} KiB, ${kept} mapped`);
});

test("a view that is kept keeps the memory, and a read in flight keeps all", { skip }, async () => {
  await using uring = makeUring({ registeredBuffers: 2 });
  using pipe = new WaitingPipe();
  const { view, reading } = makeAndDrop(uring, pipe);
  await flushed(uring);
  for (let i = 0; i < 20; i++) {
    collect();
    await sleep(1);
  }
  pipe.write("still there");
  assert.equal(await within(reading, "the read"), 11);
  for (let i = 0; i < 20; i++) {
    collect();
    await sleep(1);
  }
  assert.equal(new TextDecoder().decode(view.subarray(0, 11)), "still there");
});

function makeAndDrop(uring: Uring, pipe: WaitingPipe): { view: Uint8Array; reading: Promise<number> } {
  const buffer = uring.registerBuffer(4096);
  return { view: buffer.bytes, reading: uring.readFixed(pipe.reader.fd, buffer) };
}

const limits = new Uint8Array(new ArrayBuffer(16));
system().rare.getrlimit(RLIMIT_MEMLOCK, limits);
const memlock = Number(new DataView(limits.buffer).getBigUint64(0, true));
const unlimited = process.getuid?.() === 0
  ? "root may lock all memory"
  : memlock > 2 ** 30
  ? "RLIMIT_MEMLOCK is large"
  : false;

test(
  "more than RLIMIT_MEMLOCK allows is refused with a hint",
  { skip: firstReason(skip, unlimited) },
  async () => {
    await using uring = makeUring({ entries: 16 });
    const address = pinned();
    assert.throws(() => uring.registerBuffer(memlock + 4096), {
      code: "ENOMEM",
      syscall: "register_buffer",
      message: new RegExp(`RLIMIT_MEMLOCK allows an ordinary user ${memlock} bytes`),
    });
    assert.equal(pinned(), address);
    // A smaller one still fits.
    await using buffer = uring.registerBuffer(4096);
    assert.equal(buffer.bytes.length, 4096);
  },
);

/** How many huge pages are free. */
function freeHugePages(): number {
  return Number(/^HugePages_Free:\s*(\d+)$/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? 0);
}

const noHuge = freeHugePages() > 0 ? false : "no huge page is free";

test("a buffer in huge pages", { skip: firstReason(skip, noHuge) }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(100_000));
  using file = openFile(dir.of("file"), O_RDONLY);
  const before = freeHugePages();
  {
    await using buffer = uring.registerBuffer(100_000, { hugePages: true });
    assert.equal(buffer.bytes.length, 100_000);
    assert.equal(await uring.readFixed(file.fd, buffer, { offset: 0 }), 100_000);
    assertContent(buffer.bytes, 100_000, 0);
    assert.equal(freeHugePages(), before - 1);
  }
  await until(() => freeHugePages() === before, "the page is free again");
});

const tooMuch = 2 ** 30;
const manyHuge = freeHugePages() * 2 ** 21 >= tooMuch ? "there are many huge pages" : false;

test("a buffer in huge pages where there are too few", { skip: firstReason(skip, manyHuge) }, async () => {
  await using uring = makeUring();
  assert.throws(() => uring.registerBuffer(tooMuch, { hugePages: true }), {
    code: "ENOMEM",
    syscall: "register_buffer",
    message: /vm\.nr_hugepages/,
  });
});
