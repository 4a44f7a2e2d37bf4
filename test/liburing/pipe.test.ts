/** Pipes: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import {
  IORING_FILE_INDEX_ALLOC,
  IORING_OP_PIPE,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  O_CLOEXEC,
  O_NONBLOCK,
  type Ring,
} from "../../src/ring/mod.ts";
import { system } from "../../src/ffi/system.ts";
import { content } from "../support/content.ts";
import { fdFlags } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { closeAll, WaitingPipe } from "../support/operations.ts";
import { Peer } from "../support/peer.ts";
import {
  assertEntry,
  block,
  blockOf,
  entry,
  forEachKind,
  iovecs,
  makeRing,
  missingOp,
  once,
  reap,
  reapResults,
  text,
} from "../support/rings.ts";

checkLeaks();

const EBADF = -9;
const EINVAL = -22;
const ENFILE = -23;

const noPipe = missingOp(IORING_OP_PIPE);

/** Sends 32 bytes through a pipe. */
function assertTalk(ring: Ring, reader: number, writer: number, flags: number): void {
  const [src, dst] = [blockOf(new Uint8Array(32).fill(0x5a)), block(32)];
  entry(ring, 1, (sqe) => {
    sqe.prepWrite(writer, src.address, 32, 0);
    sqe.flags |= flags;
  });
  assert.deepEqual(reapResults(ring, 1), new Map([[1, 32]]));
  const read = once(ring, (sqe) => {
    sqe.prepRead(reader, dst.address, 32, 0);
    sqe.flags |= flags;
  });
  assert.equal(read.res, 32);
  assert.deepEqual(dst.bytes, src.bytes);
}

forEachKind(({ name, options, skip }) => {
  test(`liburing pipe: ${name}: as descriptors, at once and by a worker`, { skip: skip || noPipe }, () => {
    using ring = makeRing(8, options);
    for (const flags of [0, IOSQE_ASYNC]) {
      const fds = block(8);
      const sqe = entry(ring, 1, (sqe) => sqe.prepPipe(fds.address, O_CLOEXEC | O_NONBLOCK));
      assertEntry(sqe, {
        opcode: IORING_OP_PIPE,
        addr: BigInt(fds.address),
        opFlags: O_CLOEXEC | O_NONBLOCK,
      });
      sqe.flags |= flags;
      assert.equal(reap(ring, 1)[0]!.res, 0);
      const [reader, writer] = new Int32Array(fds.bytes.buffer) as unknown as [number, number];
      assert.equal(fdFlags(reader), O_CLOEXEC | O_NONBLOCK);
      assert.equal(fdFlags(writer), O_CLOEXEC | O_NONBLOCK | 1);
      assertTalk(ring, reader, writer, 0);
      closeAll(reader, writer);
    }
    assert.equal(once(ring, (sqe) => sqe.prepPipe(block(8).address, 7)).res, EINVAL);
  });

  test(`liburing pipe: ${name}: in slots that the kernel picks`, { skip: skip || noPipe }, () => {
    for (const flags of [0, IOSQE_ASYNC]) {
      using ring = makeRing(8, options);
      ring.registerFilesSparse(100);
      const fds = block(8);
      const { res } = once(ring, (sqe) => {
        sqe.prepPipeDirect(fds.address, 0, IORING_FILE_INDEX_ALLOC);
        sqe.flags |= flags;
      });
      assert.equal(res, 0);
      const [reader, writer] = new Int32Array(fds.bytes.buffer) as unknown as [number, number];
      assert.deepEqual([reader, writer], [0, 1]);
      assertTalk(ring, reader, writer, IOSQE_FIXED_FILE);
    }
  });

  test(`liburing pipe: ${name}: a table for one is too small for two`, { skip: skip || noPipe }, () => {
    using ring = makeRing(8, options);
    ring.registerFilesSparse(1);
    const fds = block(8);
    const pipe = (): number =>
      once(ring, (sqe) => sqe.prepPipeDirect(fds.address, 0, IORING_FILE_INDEX_ALLOC)).res;
    assert.equal(pipe(), ENFILE);
    // The end that fitted was taken back.
    assert.equal(pipe(), ENFILE);
    const { res } = once(ring, (sqe) => {
      sqe.prepRead(0, fds.address, 1, 0);
      sqe.flags |= IOSQE_FIXED_FILE;
    });
    assert.equal(res, EBADF);
  });

  test(`liburing pipe-direct-fixed: ${name}: in slots that were named`, { skip: skip || noPipe }, () => {
    for (const slot of [5, 0]) {
      using ring = makeRing(8, options);
      ring.registerFilesSparse(20);
      const fds = block(8);
      assert.equal(once(ring, (sqe) => sqe.prepPipeDirect(fds.address, 0, slot)).res, 0);
      assert.deepEqual([...new Int32Array(fds.bytes.buffer)], [slot, slot + 1]);
      assertTalk(ring, slot, slot + 1, IOSQE_FIXED_FILE);
    }
  });

  test(`liburing pipe-direct-fixed: ${name}: slot 0 is left alone`, { skip: skip || noPipe }, () => {
    using ring = makeRing(8, options);
    using sentinel = new WaitingPipe();
    ring.registerFilesSparse(20);
    assert.equal(ring.registerFilesUpdate(0, [sentinel.reader.fd]), 1);
    const fds = block(8);
    assert.equal(once(ring, (sqe) => sqe.prepPipeDirect(fds.address, 0, 5)).res, 0);
    sentinel.write("x");
    const buffer = block(1);
    const { res } = once(ring, (sqe) => {
      sqe.prepRead(0, buffer.address, 1, 0);
      sqe.flags |= IOSQE_FIXED_FILE;
    });
    assert.equal(res, 1);
    assert.equal(text(buffer), "x");
  });

  test(`liburing pipe-bug: ${name}: written, closed, read, and read to its end`, { skip }, () => {
    // The bug showed up once in thousands of rounds; what it broke is shown by any.
    for (let i = 0; i < 20; i++) {
      using ring = makeRing(8, options);
      using pipe = new WaitingPipe();
      const message = blockOf("foobar");
      const buffer = block(1024);
      assert.equal(once(ring, (sqe) => sqe.prepWrite(pipe.writer.fd, message.address, 6, 0)).res, 6);
      assert.equal(once(ring, (sqe) => sqe.prepClose(pipe.writer.fd)).res, 0);
      pipe.writer.release();
      assert.equal(once(ring, (sqe) => sqe.prepRead(pipe.reader.fd, buffer.address, 1024, 0)).res, 6);
      assert.equal(text(buffer, 6), "foobar");
      assert.equal(once(ring, (sqe) => sqe.prepRead(pipe.reader.fd, buffer.address, 1024, 0)).res, 0);
    }
  });

  test(`liburing pipe-reuse: ${name}: vectors may change once they are submitted`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new WaitingPipe();
    const data = content(16384);
    pipe.write(data.subarray(0, 8192));
    const parts = Array.from({ length: 16 }, () => block(1024));
    const vectors = iovecs(parts);
    entry(ring, 1, (sqe) => sqe.prepReadv(pipe.reader.fd, vectors.address, 16, 0));
    ring.submit();
    // Where a thread of the kernel submits, it has not looked yet when the call returns.
    if (name === "SQPOLL") { while (ring.sqReady() > 0); }
    for (let i = 0; i < 16; i++) {
      vectors.view.setBigUint64(i * 16, 0n, true);
      vectors.view.setBigUint64(i * 16 + 8, 1_000_000n, true);
    }
    pipe.write(data.subarray(8192));
    const { res } = reap(ring, 1)[0]!;
    // A read of less than all is none the worse.
    assert.ok(res === 8192 || res === 16384, `${res}`);
    const got = parts.flatMap(({ bytes }) => [...bytes]);
    assert.deepEqual(got.slice(0, res), [...data.subarray(0, res)]);
  });
});

test("liburing pipe-eof: a read that waits ends with the data, and the next with the end", async () => {
  using peer = await Peer.start();
  using ring = makeRing(8);
  using pipe = new WaitingPipe();
  peer.begin({ kind: "pours", fd: pipe.writer.fd, text: "This is a test string", close: true });
  pipe.writer.release();
  const buffer = block(512);
  const read = (): number => once(ring, (sqe) => sqe.prepRead(pipe.reader.fd, buffer.address, 512, 0)).res;
  const length = read();
  assert.equal(text(buffer, length), "This is a test string");
  assert.equal(read(), 0);
  await peer.end();
  assert.equal(system().close(pipe.writer.fd), EBADF, "the peer has closed it");
});
