/** Multishot reads, and pools whose buffers are used up bit by bit. */
import assert from "node:assert/strict";
import {
  IORING_OP_READ_MULTISHOT,
  O_CREAT,
  O_NOCTTY,
  O_NONBLOCK,
  O_RDWR,
  SHUT_WR,
} from "../../src/ffi/abi.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { adapter, system } from "../../src/ffi/system.ts";
import type { BufferPoolOptions, ReadMultishotOptions, Uring } from "../../src/mod.ts";
import { content } from "../support/content.ts";
import { EventFd, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { FLAGS, makeUring, openFile, SocketPair, within } from "../support/loop.ts";
import { Digest, digest, failure, put, refuses, text, WaitingPipe } from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

const skip = missingOp(IORING_OP_READ_MULTISHOT);
const noIncremental = firstReason(skip, kernelHas("6.12") ? false : "needs Linux 6.12");

interface Way {
  readonly name: string;
  readonly options: ReadMultishotOptions;
  readonly pool: BufferPoolOptions;
  readonly skip: string | false;
}

const WAYS: readonly Way[] = [
  { name: "copies", options: {}, pool: {}, skip },
  { name: "loans", options: { borrow: true }, pool: {}, skip },
  { name: "copies bit by bit", options: {}, pool: { incremental: true }, skip: noIncremental },
  { name: "loans bit by bit", options: { borrow: true }, pool: { incremental: true }, skip: noIncremental },
];

/** Writes everything and closes the pipe's end. */
async function writeAll(uring: Uring, pipe: WaitingPipe, data: Uint8Array): Promise<void> {
  for (let at = 0; at < data.length;) {
    at += await uring.write(pipe.writer.fd, data.subarray(at, at + 10_000));
  }
  pipe.writer.close();
}

for (const { name, options, pool: kind, skip } of WAYS) {
  test(`${name}: chunks as they come, then the end`, { skip }, async () => {
    await using uring = makeUring();
    using pipe = new WaitingPipe();
    const pool = uring.bufferPool({ ...kind, count: 4, size: 64 });
    const reading = uring.readMultishot(pipe.reader.fd, { ...options, pool });
    for (const word of ["one", "two", "three"]) {
      const next = reading.next();
      pipe.write(word);
      assert.equal(text((await within(next, "a chunk")).value!), word);
    }
    const last = reading.next();
    pipe.writer.close();
    assert.deepEqual(await within(last, "the end"), { done: true, value: undefined });
    assert.deepEqual(await reading.next(), { done: true, value: undefined });
    assert.equal(pool.free, 4);
    assert.equal(uring.stats.inFlight, 0);
  });

  for (const [count, size] of [[1, 1000], [4, 512], [8, 16384]] as const) {
    test(`${name}: 2 MiB through ${count} buffers of ${size} bytes`, { skip }, async () => {
      await using uring = makeUring();
      using pipe = new WaitingPipe();
      const pool = uring.bufferPool({ ...kind, count, size });
      const data = content(2 << 20);
      const writing = writeAll(uring, pipe, data);
      const received = new Digest();
      for await (const chunk of uring.readMultishot(pipe.reader.fd, { ...options, pool })) {
        assert.ok(chunk.length > 0 && chunk.length <= size);
        received.add(chunk);
      }
      await writing;
      assert.equal(received.end(), digest(data));
      assert.equal(pool.free, count);
    });
  }

  test(`${name}: a slow consumer loses nothing and holds the writer back`, { skip }, async () => {
    await using uring = makeUring();
    using pair = new SocketPair();
    const pool = uring.bufferPool({ ...kind, count: 4, size: 1024 });
    const data = content(1 << 20);
    let sent = 0;
    const sending = (async () => {
      while (sent < data.length) sent += await uring.send(pair.b.fd, data.subarray(sent, sent + 700));
      await uring.shutdown(pair.b.fd, SHUT_WR);
    })();
    const received = new Digest();
    let chunks = 0;
    for await (const chunk of uring.recvMultishot(pair.a.fd, { ...options, pool })) {
      received.add(chunk);
      if (++chunks === 1) {
        await uring.timeout(50);
        assert.ok(sent < 512 << 10, `${sent} bytes were sent while one chunk was taken`);
      } else if (chunks % 100 === 0) await uring.timeout(0.1);
    }
    await sending;
    assert.equal(received.end(), digest(data));
    assert.equal(pool.free, 4);
  });

  test(`${name}: break, signal, time limit, closing the ring`, { skip }, async () => {
    const uring = makeUring();
    using pipe = new WaitingPipe();
    const pool = uring.bufferPool({ ...kind, count: 2, size: 14 });
    const all = { ...options, pool };
    for (let round = 0; round < 5; round++) {
      pipe.write(`round ${round}`);
      for await (const chunk of uring.readMultishot(pipe.reader.fd, all)) {
        assert.equal(text(chunk), `round ${round}`);
        break;
      }
      assert.equal(pool.free, 2);
    }
    const limited = uring.readMultishot(pipe.reader.fd, { ...all, timeout: 2 });
    assert.equal((await failure(limited.next())).code, "ETIMEDOUT");
    const controller = new AbortController();
    const aborted = uring.readMultishot(pipe.reader.fd, { ...all, signal: controller.signal });
    pipe.write(content(100));
    await aborted.next();
    controller.abort("reason");
    assert.equal(await failure(aborted.next()), "reason");
    await uring.nop();
    await aborted.return();
    assert.equal(pool.free, 2);
    const left = uring.readMultishot(pipe.reader.fd, all);
    await left.next();
    const waiting = failure((async () => {
      for (;;) assert.equal((await left.next()).done, false);
    })());
    await within(uring.disposeAsync(), "closing");
    assert.equal((await waiting).code, "ECANCELED");
  });

  for (const flags of FLAGS) {
    test(
      `${name}: ${flags.name}: two readers share a pool`,
      { skip: firstReason(skip, flags.skip) },
      async () => {
        await using uring = makeUring({ flags: flags.flags });
        const pool = uring.bufferPool({ ...kind, count: 2, size: 512 });
        await Promise.all([1, 2].map(async (file) => {
          using pipe = new WaitingPipe();
          const data = content(100_000, file);
          const writing = writeAll(uring, pipe, data);
          const received = new Digest();
          let chunks = 0;
          for await (const chunk of uring.readMultishot(pipe.reader.fd, { ...options, pool })) {
            received.add(chunk);
            if (++chunks % 64 === 0) await uring.timeout(0.1);
          }
          await writing;
          assert.equal(received.end(), digest(data), `stream ${file}`);
        }));
        assert.equal(pool.free, 2);
      },
    );
  }
}

test("small messages fill one buffer of an incremental pool", { skip: noIncremental }, async () => {
  await using uring = makeUring();
  using pipe = new WaitingPipe();
  const pool = uring.bufferPool({ count: 2, size: 64, incremental: true });
  assert.equal(pool.incremental, true);
  const reading = uring.readMultishot(pipe.reader.fd, { pool, borrow: true });
  const offsets: number[] = [];
  for (let i = 0; i < 16; i++) {
    const next = reading.next();
    pipe.write(`word ${String(i).padStart(3, "0")}`);
    const { value } = await within(next, "a chunk");
    assert.equal(text(value!), `word ${String(i).padStart(3, "0")}`);
    offsets.push(value!.byteOffset);
  }
  // Eight fit a buffer; then the other one's turn comes, and the first one's again.
  assert.deepEqual(offsets, Array.from({ length: 16 }, (_, i) => i * 8));
  await reading.return();
  assert.equal(pool.free, 2);
});

test("an eventfd, a direct descriptor", { skip }, async () => {
  await using uring = makeUring();
  using eventFd = new EventFd();
  await using file = await uring.registerFile(eventFd.fd);
  const reading = uring.readMultishot(file);
  for (const count of [3, 70_000]) {
    const next = reading.next();
    put(eventFd.fd, new Uint8Array(BigUint64Array.of(BigInt(count)).buffer));
    const { value } = await within(next, "a count");
    assert.equal(new DataView(value!.buffer, value!.byteOffset).getBigUint64(0, true), BigInt(count));
  }
  await reading.return();
});

test("liburing read-mshot-stdin: lines from a terminal", { skip }, async () => {
  await using uring = makeUring();
  const libc = adapter.open(system().libc, {
    unlockpt: { result: "i32", args: ["i32"] },
    ioctl: { result: "i32", args: ["i32", "word", "bytes"] },
  });
  using master = openFile("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
  assert.equal(libc.unlockpt(master.fd), 0);
  const number = new Int32Array(new ArrayBuffer(4));
  const TIOCGPTN = 0x8004_5430;
  assert.equal(libc.ioctl(master.fd, TIOCGPTN, number), 0);
  using terminal = openFile(`/dev/pts/${number[0]}`, O_RDWR | O_NOCTTY);
  const reading = uring.readMultishot(terminal.fd);
  for (const line of ["one\n", "another line\n"]) {
    const next = reading.next();
    put(master.fd, line);
    assert.equal(text((await within(next, "a line")).value!), line);
  }
  const last = reading.next();
  // Control-D on an empty line is the end.
  put(master.fd, "\x04");
  assert.deepEqual(await within(last, "the end"), { done: true, value: undefined });
});

test("a file on a disk cannot be polled", { skip }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  using file = openFile(dir.of("file"), O_RDWR | O_CREAT);
  const error = await failure(uring.readMultishot(file.fd).next());
  assert.deepEqual({ code: error.code, syscall: error.syscall }, { code: "EBADFD", syscall: "read" });
  assert.match(error.message, /cannot be polled/);
  assert.equal((await failure(uring.readMultishot(-1).next())).code, "EBADF");
});

test("wrong arguments throw", { skip }, async () => {
  await using uring = makeUring();
  await using other = makeUring();
  const pool = other.bufferPool({ count: 1 });
  await refuses(uring, TypeError, () => uring.readMultishot(0, { pool }));
  await refuses(uring, TypeError, () => uring.readMultishot("0" as never));
  await refuses(uring, RangeError, () => uring.readMultishot(0, { timeout: -1 }));
  await refuses(uring, RangeError, () => uring.bufferPool({ count: 3, incremental: true }));
});

const tooOld = kernelHas("6.12") ? "this kernel has incremental buffers" : false;

test("an incremental pool on a kernel without it", { skip: tooOld }, async () => {
  await using uring = makeUring();
  assert.throws(() => uring.bufferPool({ incremental: true }), /IOU_PBUF_RING_INC needs Linux 6\.12/);
});

for (const borrow of [false, true]) {
  const what = borrow ? "loans" : "copies";

  test(`${what}: a pool that is disposed of goes when nothing uses it any more`, { skip }, async () => {
    await using uring = makeUring();
    using pipe = new WaitingPipe();
    const pool = uring.bufferPool({ count: 4, size: 16 });
    const before = sharedGroups(uring);
    const reading = uring.readMultishot(pipe.reader.fd, { pool, borrow });
    const first = reading.next();
    pipe.write("first");
    const chunk = (await within(first, "a chunk")).value!;
    assert.equal(text(chunk), "first");
    let gone = false;
    const disposed = pool[Symbol.asyncDispose]().then(() => gone = true);
    assert.equal(pool.disposed, true);
    await refuses(uring, TypeError, () => uring.readMultishot(pipe.reader.fd, { pool }));
    await refuses(uring, TypeError, () => uring.recvMultishot(pipe.reader.fd, { pool }));
    // What goes on goes on.
    const second = reading.next();
    pipe.write("second");
    const other = (await within(second, "a chunk")).value!;
    assert.equal(text(other), "second");
    pipe.writer.close();
    await uring.timeout(2);
    // A loan ends when the next chunk is asked for; copies are the consumer's.
    assert.equal(gone, !borrow);
    assert.equal(text(other), "second");
    assert.deepEqual(await reading.next(), { done: true, value: undefined });
    await within(disposed, "the disposal");
    assert.deepEqual([chunk.length, other.length], borrow ? [0, 0] : [5, 6]);
    await pool[Symbol.asyncDispose]();
    pool[Symbol.dispose]();
    assert.equal(sharedGroups(uring), before - 1);
  });

  test(`${what}: what waits for the consumer keeps a pool, and so does the kernel`, { skip }, async () => {
    await using uring = makeUring();
    using pipe = new WaitingPipe();
    const pool = uring.bufferPool({ count: 4, size: 4 });
    const early = uring.readMultishot(pipe.reader.fd, { pool, borrow });
    const late = uring.readMultishot(pipe.reader.fd, { pool, borrow });
    pipe.write("aaaabbbbcccc");
    pipe.writer.close();
    const chunks = [text((await early.next()).value!)];
    await uring.timeout(2);
    let gone = false;
    const disposed = pool[Symbol.asyncDispose]().then(() => gone = true);
    // One that was made and never begun has no part in it.
    assert.ok(await failure(late.next()) instanceof TypeError);
    for (;;) {
      await uring.nop();
      if (borrow || chunks.length < 3) assert.equal(gone, false);
      const { done, value } = await within(early.next(), "a chunk");
      if (done === true) break;
      chunks.push(text(value));
    }
    assert.deepEqual(chunks, ["aaaa", "bbbb", "cccc"]);
    await within(disposed, "the disposal");
  });

  test(`${what}: breaking off, and closing the ring, end what a pool waits for`, { skip }, async () => {
    const uring = makeUring();
    using pipe = new WaitingPipe();
    pipe.write("content");
    {
      await using pool = uring.bufferPool({ count: 1, size: 16 });
      for await (const chunk of uring.readMultishot(pipe.reader.fd, { pool, borrow })) {
        assert.equal(text(chunk), "content");
        break;
      }
    }
    const pool = uring.bufferPool({ count: 1, size: 16 });
    const reading = uring.readMultishot(pipe.reader.fd, { pool, borrow });
    const next = reading.next();
    pipe.write("more");
    const chunk = (await within(next, "a chunk")).value!;
    const disposed = pool[Symbol.asyncDispose]();
    await within(uring.disposeAsync(), "closing");
    await within(disposed, "the disposal");
    assert.equal(chunk.length, borrow ? 0 : 4);
    await within(pool[Symbol.asyncDispose](), "the disposal");
    await within(reading.return(), "the return");
    const unused = makeUring();
    const left = unused.bufferPool();
    await unused.disposeAsync();
    await within(left[Symbol.asyncDispose](), "the disposal after the ring's");
  });
}

/** How many groups of buffers a ring has: asks the kernel. */
function sharedGroups(uring: Uring): number {
  let count = 0;
  for (let bgid = 0; bgid < 64; bgid++) {
    try {
      uring.ring.bufRingHead(bgid);
      count++;
    } catch {
      // There is no such group.
    }
  }
  return count;
}

test("pools made and disposed of again and again", { skip }, async () => {
  await using uring = makeUring();
  using pipe = new WaitingPipe();
  await using kept = uring.bufferPool({ count: 2, size: 8 });
  for (let i = 0; i < 300; i++) {
    await using pool = uring.bufferPool({ count: 2, size: 8 });
    pipe.write(`${i}`);
    for await (const chunk of uring.readMultishot(pipe.reader.fd, { pool: i % 10 === 0 ? kept : pool })) {
      assert.equal(text(chunk), `${i}`);
      break;
    }
  }
  assert.equal(sharedGroups(uring), 1);
  assert.equal(kept.free, 2);
});
