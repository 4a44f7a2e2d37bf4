/** Sending, receiving and shutting down: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import {
  IORING_CQE_F_BUFFER,
  IORING_CQE_F_SOCK_NONEMPTY,
  IORING_SEND_VECTORIZED,
  IORING_SETUP_SUBMIT_ALL,
  IOSQE_ASYNC,
  IOSQE_BUFFER_SELECT,
  IOSQE_FIXED_FILE,
  MSG_DONTWAIT,
  MSG_WAITALL,
  RWF_NOWAIT,
  SHUT_WR,
  SOCK_NONBLOCK,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  type Block,
  block,
  entry,
  forEachKind,
  iovecs,
  makeRing,
  once,
  reap,
  reapResults,
} from "../support/rings.ts";
import { Connection } from "../support/sockets.ts";

checkLeaks();

const EAGAIN = -11;
const EFAULT = -14;
const EPIPE = -32;
const ENOBUFS = -105;

const noVectors = kernelHas("6.17") ? false : "IORING_SEND_VECTORIZED needs Linux 6.17";

const SIZE = 4096;

/** 4 KiB that are known. */
function message(): Block {
  const made = block(SIZE);
  for (let i = 0; i < SIZE / 8; i++) made.view.setBigUint64(8 * i, BigInt(i + 1), true);
  return made;
}

/** The same memory in so many vectors. */
function pieces(memory: Block, count: number): Block {
  const size = memory.bytes.length / count;
  return iovecs(Array.from({ length: count }, (_, i) => ({
    ...memory,
    address: memory.address + i * size,
    bytes: memory.bytes.subarray(i * size, (i + 1) * size),
  })));
}

forEachKind(({ name, options, skip }) => {
  for (const async of [false, true]) {
    const where = async ? "in a worker thread" : "at once";
    const asyncFlag = async ? IOSQE_ASYNC : 0;

    for (const registered of [false, true]) {
      const what = registered ? "registered file" : "descriptor";
      test(`liburing send_recv: ${name}: a datagram, ${where}, by ${what}`, { skip }, () => {
        using ring = makeRing(8, options);
        using pair = Connection.udp();
        if (registered) ring.registerFiles([pair.b.fd]);
        const data = message();
        const buffer = block(SIZE);
        entry(ring, 2, (sqe) => {
          sqe.prepRecv(registered ? 0 : pair.b.fd, buffer.address, SIZE, 0);
          sqe.flags = asyncFlag | (registered ? IOSQE_FIXED_FILE : 0);
        });
        ring.submit();
        using sender = makeRing(1);
        const sent = once(sender, (sqe) => {
          sqe.prepSend(pair.a.fd, data.address, SIZE, 0);
          sqe.flags = asyncFlag;
        });
        assert.equal(sent.res, SIZE);
        assert.deepEqual(reap(ring, 1), [{ userData: 2, res: SIZE, flags: 0 }]);
        assert.deepEqual(buffer.bytes, data.bytes);
      });
    }

    test(`liburing send_recv: ${name}: no buffer is provided, ${where}`, { skip }, () => {
      using ring = makeRing(8, options);
      using pair = Connection.udp();
      const data = message();
      entry(ring, 2, (sqe) => {
        sqe.prepRecv(pair.b.fd, 0, SIZE, 0);
        sqe.flags = asyncFlag | IOSQE_BUFFER_SELECT;
      });
      ring.submit();
      using sender = makeRing(1);
      assert.equal(once(sender, (sqe) => sqe.prepSend(pair.a.fd, data.address, SIZE, 0)).res, SIZE);
      const { res, flags } = reap(ring, 1)[0]!;
      assert.equal(res, ENOBUFS);
      assert.equal(flags & (IORING_CQE_F_SOCK_NONEMPTY | IORING_CQE_F_BUFFER), 0);
    });

    test(
      `liburing send_recv: ${name}: out of 2 and of 32 vectors, ${where}`,
      { skip: skip || noVectors },
      () => {
        using ring = makeRing(8, options);
        using pair = Connection.udp();
        const data = message();
        for (const count of [2, 32]) {
          const vectors = pieces(data, count);
          const buffer = block(SIZE);
          const sent = once(ring, (sqe) => {
            sqe.prepSend(pair.a.fd, vectors.address, count, 0);
            sqe.ioprio = IORING_SEND_VECTORIZED;
            sqe.flags = asyncFlag;
          });
          assert.equal(sent.res, SIZE);
          assert.equal(once(ring, (sqe) => sqe.prepRecv(pair.b.fd, buffer.address, SIZE, 0)).res, SIZE);
          assert.deepEqual(buffer.bytes, data.bytes);
        }
      },
    );
  }

  test(`liburing send_recv: ${name}: messages that are nowhere`, { skip }, () => {
    using ring = makeRing(8, { ...options, flags: (options.flags ?? 0) | IORING_SETUP_SUBMIT_ALL });
    using pair = Connection.tcp();
    entry(ring, 1, (sqe) => {
      sqe.prepSendmsg(pair.a.fd, 0, MSG_WAITALL);
      sqe.flags = IOSQE_ASYNC;
    });
    entry(ring, 2, (sqe) => {
      sqe.prepRecvmsg(pair.b.fd, 0, 0);
      sqe.flags = IOSQE_ASYNC;
    });
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, EFAULT], [2, EFAULT]]);
  });

  test(`liburing shutdown: ${name}: what is shut down cannot be written to`, { skip }, () => {
    using ring = makeRing(32, options);
    using pair = Connection.tcp();
    const data = block(128);
    const vectors = iovecs([data]);
    assert.equal(once(ring, (sqe) => sqe.prepShutdown(pair.a.fd, SHUT_WR)).res, 0);
    assert.equal(once(ring, (sqe) => sqe.prepWritev(pair.a.fd, vectors.address, 1, 0)).res, EPIPE);
    // The other direction stands.
    assert.equal(once(ring, (sqe) => sqe.prepWritev(pair.b.fd, vectors.address, 1, 0)).res, 128);
    assert.equal(once(ring, (sqe) => sqe.prepRead(pair.a.fd, data.address, 128, 0)).res, 128);
  });

  for (const nonblock of [false, true]) {
    const kind = nonblock ? "that does not block" : "that blocks";
    test(`liburing socket-nb: ${name}: MSG_DONTWAIT decides, on a socket ${kind}`, { skip }, () => {
      using ring = makeRing(32, options);
      using pair = Connection.tcp(nonblock ? SOCK_NONBLOCK : 0);
      const buffer = block(128);
      const prompt = once(ring, (sqe) => sqe.prepRecv(pair.b.fd, buffer.address, 128, MSG_DONTWAIT));
      assert.equal(prompt.res, EAGAIN);
      entry(ring, 1, (sqe) => sqe.prepRecv(pair.b.fd, buffer.address, 128, 0));
      ring.submit();
      assertQuiet(ring);
      entry(ring, 2, (sqe) => sqe.prepSend(pair.a.fd, buffer.address, 100, 0));
      assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, 100], [2, 100]]);
    });
  }

  for (const offset of [0, -1]) {
    const where = offset === 0 ? "" : ", at the position that sockets do not have";
    test(
      `liburing socket-rw, socket-rw-offset: ${name}: a read before the write it needs${where}`,
      { skip },
      () => {
        using ring = makeRing(32, options);
        using pair = Connection.tcp();
        const incoming = block(128);
        const outgoing = block(128);
        outgoing.bytes.fill(0x77);
        const [into, from] = [iovecs([incoming]), iovecs([outgoing])];
        entry(ring, 1, (sqe) => sqe.prepReadv(pair.b.fd, into.address, 1, offset));
        entry(ring, 2, (sqe) => sqe.prepWritev(pair.a.fd, from.address, 1, 0));
        assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, 128], [2, 128]]);
        assert.deepEqual(incoming.bytes, outgoing.bytes);
      },
    );
  }

  test(
    `liburing socket-rw-eagain: ${name}: a read that must not wait, queued before the write`,
    { skip },
    () => {
      using ring = makeRing(32, options);
      using pair = Connection.tcp(SOCK_NONBLOCK);
      const incoming = block(128);
      const outgoing = block(128);
      const [into, from] = [iovecs([incoming]), iovecs([outgoing])];
      entry(ring, 1, (sqe) => sqe.prepReadv2(pair.b.fd, into.address, 1, 0, RWF_NOWAIT));
      entry(ring, 2, (sqe) => sqe.prepWritev(pair.a.fd, from.address, 1, 0));
      assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, EAGAIN], [2, 128]]);
      // Without the flag, io_uring waits although the socket does not.
      const rest = iovecs([block(256)]);
      entry(ring, 3, (sqe) => sqe.prepReadv(pair.b.fd, rest.address, 1, 0));
      assert.equal(reap(ring, 1)[0]!.res, 128);
      entry(ring, 4, (sqe) => sqe.prepReadv(pair.b.fd, into.address, 1, 0));
      ring.submit();
      assertQuiet(ring);
      entry(ring, 5, (sqe) => sqe.prepWritev(pair.a.fd, from.address, 1, 0));
      assert.deepEqual([...reapResults(ring, 2)].sort(), [[4, 128], [5, 128]]);
    },
  );
});
