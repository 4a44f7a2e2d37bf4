/** Accepting connections: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import {
  AF_UNIX,
  IORING_CQE_F_MORE,
  IORING_CQE_F_SOCK_NONEMPTY,
  IORING_FEAT_RECVSEND_BUNDLE,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  type Ring,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from "../../src/ring/mod.ts";
import { check } from "../../src/ffi/errors.ts";
import { Fd } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { closeAll, WaitingPipe } from "../support/operations.ts";
import { Peer } from "../support/peer.ts";
import {
  assertQuiet,
  block,
  blockOf,
  entry,
  eventually,
  forEachKind,
  makeRing,
  missingFeature,
  missingRing,
  once,
  reap,
  reapResults,
  sleep,
  text,
  timespec,
} from "../support/rings.ts";
import { ADDRESS_SIZE, Bound, peerPortOf, portOf, tcp } from "../support/sockets.ts";

checkLeaks();

const EINVAL = -22;
const ETIME = -62;
const ECANCELED = -125;

const DEFER = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
const noDefer = missingRing({ flags: DEFER });
const noHint = missingFeature(IORING_FEAT_RECVSEND_BUNDLE, "IORING_FEAT_RECVSEND_BUNDLE");

/** Sends 128 bytes over a connection that was accepted, by descriptor or by slot. */
function assertTalk(ring: Ring, client: Fd, accepted: number, flags = 0): void {
  const message = blockOf("no junk ".repeat(16));
  const buffer = block(128);
  entry(ring, 1, (sqe) => sqe.prepWrite(client.fd, message.address, 128, 0));
  entry(ring, 2, (sqe) => {
    sqe.prepRead(accepted, buffer.address, 128, 0);
    sqe.flags = flags;
  });
  assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, 128], [2, 128]]);
  assert.equal(text(buffer), text(message));
}

let listenerCount = 0;

forEachKind(({ name, options, skip }) => {
  test(`liburing accept-link: ${name}: nobody comes, and the time limit ends the accept`, { skip }, () => {
    using ring = makeRing(8, options);
    using listener = Bound.listening();
    const limit = timespec(20);
    entry(ring, 1, (sqe) => {
      sqe.prepAccept(listener.fd, 0, 0, 0);
      sqe.flags = IOSQE_IO_LINK;
    });
    entry(ring, 2, (sqe) => sqe.prepLinkTimeout(limit, 0));
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, ECANCELED], [2, ETIME]]);
  });

  test(`liburing accept-link: ${name}: a connection in time cancels the limit`, { skip }, () => {
    using ring = makeRing(8, options);
    using listener = Bound.listening();
    const limit = timespec(60_000);
    entry(ring, 1, (sqe) => {
      sqe.prepAccept(listener.fd, 0, 0, SOCK_CLOEXEC);
      sqe.flags = IOSQE_IO_LINK;
    });
    entry(ring, 2, (sqe) => sqe.prepLinkTimeout(limit, 0));
    ring.submit();
    assertQuiet(ring);
    using _client = listener.dial();
    const results = reapResults(ring, 2);
    new Fd(check(results.get(1)!, "accept")).close();
    assert.equal(results.get(2), ECANCELED);
  });

  test(`liburing accept-non-empty: ${name}: whether more connections wait`, { skip: skip || noHint }, () => {
    using ring = makeRing(8, options);
    ring.registerFilesSparse(8);
    for (const direct of [false, true]) {
      if (direct) ring.registerRingFd();
      for (const count of [1, 8]) {
        using listener = Bound.listening();
        const clients = Array.from({ length: count }, () => listener.dial());
        const more: number[] = [];
        for (let i = 0; i < count; i++) {
          const { res, flags } = once(ring, (sqe) => {
            if (direct) sqe.prepAcceptDirect(listener.fd, 0, 0, 0, i);
            else sqe.prepAccept(listener.fd, 0, 0, SOCK_CLOEXEC);
          });
          if (direct) assert.equal(res, 0);
          else new Fd(check(res, "accept")).close();
          more.push(flags);
        }
        assert.deepEqual(more, Array.from(clients, (_, i) => i < count - 1 ? IORING_CQE_F_SOCK_NONEMPTY : 0));
        for (const client of clients) client.close();
      }
    }
  });

  test(`liburing accept-reuse: ${name}: an entry may be used again once it is submitted`, { skip }, () => {
    using ring = makeRing(2, options);
    using listener = Bound.listening();
    using client = tcp();
    const peer = block(ADDRESS_SIZE);
    const size = block(4);
    size.view.setUint32(0, ADDRESS_SIZE, true);
    const first = entry(
      ring,
      1,
      (sqe) => sqe.prepAccept(listener.fd, peer.address, size.address, SOCK_CLOEXEC),
    );
    ring.submit();
    eventually(() => ring.sqReady() === 0, "the entry is consumed");
    first.bytes.fill(0xff);
    assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
    const second = entry(
      ring,
      2,
      (sqe) => sqe.prepConnect(client.fd, listener.address.address, ADDRESS_SIZE),
    );
    assert.equal(second, first, "the ring has two entries");
    const results = reapResults(ring, 2);
    assert.equal(results.get(2), 0);
    new Fd(check(results.get(1)!, "accept")).close();
    assert.equal(size.view.getUint32(0, true), ADDRESS_SIZE);
    assert.deepEqual([...peer.bytes.subarray(4, 8)], [127, 0, 0, 1]);
  });

  test(`liburing accept-test: ${name}: the peer's address and its length`, { skip }, () => {
    using ring = makeRing(4, options);
    const address = new Uint8Array(new ArrayBuffer(110));
    address[0] = AF_UNIX;
    address.set(new TextEncoder().encode(`\0uring-accept-${listenerCount++}`), 2);
    using listener = new Fd(libc().socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    check(libc().bind(listener.fd, address, 110), "bind");
    check(libc().listen(listener.fd, 128), "listen");
    const peer = block(110);
    const size = block(4);
    size.view.setUint32(0, 110, true);
    entry(ring, 1, (sqe) => sqe.prepAccept(listener.fd, peer.address, size.address, SOCK_CLOEXEC));
    ring.submit();
    assert.equal(ring.waitCqeTimeout({ sec: 0, nsec: 1_000_000 }), null, "nobody has come");
    using client = new Fd(libc().socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    check(libc().connect(client.fd, address, 110), "connect");
    new Fd(check(reap(ring, 1)[0]!.res, "accept")).close();
    assert.equal(size.view.getUint32(0, true), 2, "the other end has no name");
    assert.equal(peer.view.getUint16(0, true), AF_UNIX);
  });

  for (const listenerFlags of [0, SOCK_NONBLOCK]) {
    const listens = listenerFlags === 0 ? "" : " on a socket that does not block";
    test(`liburing accept: ${name}: accepts${listens} before and after the connections`, { skip }, () => {
      using ring = makeRing(32, options);
      for (const before of [false, true]) {
        using listener = Bound.listening(listenerFlags);
        const queue = (): void => {
          for (let i = 0; i < 3; i++) {
            entry(ring, 0, (sqe) => sqe.prepAccept(listener.fd, 0, 0, SOCK_CLOEXEC));
            ring.submit();
          }
        };
        if (before) queue();
        assertQuiet(ring);
        const clients = [listener.dial(), listener.dial(), listener.dial()];
        if (!before) queue();
        for (const { res } of reap(ring, 3)) {
          using accepted = new Fd(check(res, "accept"));
          const port = peerPortOf(accepted.fd);
          const client = clients.find(({ fd }) => portOf(fd) === port)!;
          assertTalk(ring, client, accepted.fd);
        }
        for (const client of clients) client.close();
      }
    });
  }

  test(`liburing accept: ${name}: into a slot`, { skip }, () => {
    using ring = makeRing(32, options);
    ring.registerFiles([-1]);
    using listener = Bound.listening();
    using client = listener.dial();
    assert.equal(once(ring, (sqe) => sqe.prepAcceptDirect(listener.fd, 0, 0, 0, 0)).res, 0);
    assertTalk(ring, client, 0, IOSQE_FIXED_FILE);
  });

  test(`liburing accept: ${name}: a multishot accept fills a table of slots`, { skip }, () => {
    const COUNT = 32;
    using ring = makeRing(COUNT + 10, options);
    ring.registerFiles(new Array(COUNT).fill(-1));
    using listener = Bound.listening();
    entry(ring, 1000, (sqe) => sqe.prepMultishotAcceptDirect(listener.fd, 0, 0, 0));
    ring.submit();
    const clients = Array.from({ length: COUNT }, () => listener.dial());
    const found = reap(ring, COUNT);
    for (const { userData, flags } of found) {
      assert.deepEqual([userData, flags & IORING_CQE_F_MORE], [1000, IORING_CQE_F_MORE]);
    }
    assert.deepEqual(found.map(({ res }) => res).sort((a, b) => a - b), clients.map((_, i) => i));
    assertTalk(ring, clients[0]!, found[0]!.res, IOSQE_FIXED_FILE);
    for (const client of clients) client.close();
    entry(ring, 1, (sqe) => sqe.prepCancel64(1000, 0));
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, 0], [1000, ECANCELED]]);
  });

  test(`liburing accept: ${name}: a multishot accept before and after the connections`, { skip }, () => {
    const COUNT = 32;
    using ring = makeRing(COUNT + 10, options);
    for (const before of [false, true]) {
      using listener = Bound.listening();
      const queue = (): void => {
        entry(ring, 1000, (sqe) => sqe.prepMultishotAccept(listener.fd, 0, 0, SOCK_CLOEXEC));
        ring.submit();
      };
      if (before) queue();
      const clients = Array.from({ length: COUNT }, () => listener.dial());
      if (!before) queue();
      const found = reap(ring, COUNT);
      assert.ok(found.every(({ userData, flags }) => userData === 1000 && (flags & IORING_CQE_F_MORE) !== 0));
      assertTalk(ring, clients[0]!, found[0]!.res);
      closeAll(...found.map(({ res }) => res));
      for (const client of clients) client.close();
      entry(ring, 1, (sqe) => sqe.prepCancel64(1000, 0));
      assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, 0], [1000, ECANCELED]]);
    }
  });

  test(`liburing accept: ${name}: a multishot accept takes no slot of one's choice`, { skip }, () => {
    using ring = makeRing(4, options);
    using listener = Bound.listening();
    const { res } = once(ring, (sqe) => {
      sqe.prepMultishotAcceptDirect(listener.fd, 0, 0, 0);
      sqe.fileIndex = 1;
    });
    assert.equal(res, EINVAL);
  });

  test(`liburing accept: ${name}: a multishot accept loses nobody to an overflow`, { skip }, () => {
    const COUNT = 32;
    using ring = makeRing(COUNT + 10, { ...options, cqEntries: 64 });
    using listener = Bound.listening();
    const queue = (): void => {
      entry(ring, 1000, (sqe) => sqe.prepMultishotAccept(listener.fd, 0, 0, SOCK_CLOEXEC));
      ring.submit();
    };
    queue();
    for (let i = 0; i < ring.cqEntries; i++) {
      entry(ring, 7, (sqe) => sqe.prepNop());
      ring.submit();
      if (ring.sqSpaceLeft() === 0) eventually(() => ring.sqSpaceLeft() > 0, "entries are consumed");
    }
    const clients = Array.from({ length: COUNT }, () => listener.dial());
    const accepted: number[] = [];
    for (let nops = 0; accepted.length < COUNT || nops < ring.cqEntries;) {
      const { userData, res, flags } = reap(ring, 1)[0]!;
      if (userData === 7) nops++;
      else {
        accepted.push(check(res, "accept"));
        if ((flags & IORING_CQE_F_MORE) === 0) queue();
      }
    }
    assert.equal(new Set(accepted).size, COUNT);
    assertTalk(ring, clients[0]!, accepted[0]!);
    closeAll(...accepted);
    for (const client of clients) client.close();
    entry(ring, 1, (sqe) => sqe.prepCancel64(1000, 0));
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, 0], [1000, ECANCELED]]);
  });

  test(`liburing accept: ${name}: accepts are cancelled, at once and later`, { skip }, () => {
    for (const multishot of [false, true]) {
      for (const [count, delay] of [[1, 0], [1, 10], [4, 0], [4, 10]] as const) {
        using ring = makeRing(32, options);
        using listener = Bound.listening();
        for (let i = 1; i <= count; i++) {
          entry(ring, i, (sqe) => {
            if (multishot) sqe.prepMultishotAccept(listener.fd, 0, 0, SOCK_CLOEXEC);
            else sqe.prepAccept(listener.fd, 0, 0, SOCK_CLOEXEC);
          });
          ring.submit();
        }
        if (delay > 0) sleep(delay);
        for (let i = 1; i <= count; i++) {
          entry(ring, count + i, (sqe) => sqe.prepCancel64(i, 0));
          ring.submit();
        }
        const results = reapResults(ring, 2 * count);
        for (let i = 1; i <= count; i++) {
          assert.deepEqual([results.get(i), results.get(count + i)], [ECANCELED, 0]);
        }
      }
    }
  });

  test(`liburing accept: ${name}: a ring is closed with many accepts waiting`, { skip }, () => {
    for (const [nonblock, single, delay] of [[0, 0, 0], [0, 0, 20], [1, 0, 0], [1, 1, 0]] as const) {
      using ring = makeRing(256, options);
      const listeners = Array.from(
        { length: single === 1 ? 1 : 128 },
        () => Bound.listening(nonblock * SOCK_NONBLOCK),
      );
      for (let i = 0; i < 128; i++) {
        entry(ring, 1 + i, (sqe) => sqe.prepAccept(listeners[i % listeners.length]!.fd, 0, 0, SOCK_CLOEXEC));
        ring.submit();
      }
      if (delay > 0) sleep(delay);
      eventually(() => ring.sqReady() === 0, "the entries are consumed");
      for (const listener of listeners) listener.close();
      assertQuiet(ring);
    }
  });
});

/** Takes `count` connections, arming the accept anew whenever it has ended. */
function acceptAll(ring: Ring, arm: () => void, count: number, visit: (fd: number) => void): void {
  for (let i = 0; i < count; i++) {
    const { res, flags } = reap(ring, 1)[0]!;
    visit(check(res, "accept"));
    closeAll(res);
    if ((flags & IORING_CQE_F_MORE) === 0) arm();
  }
}

test("liburing accept-mshot-stress: connections that come and go quickly are all accepted", async () => {
  using peer = await Peer.start();
  using ring = makeRing(512);
  using listener = Bound.listening(0, 256);
  const arm = (): void => {
    entry(ring, 1000, (sqe) => sqe.prepMultishotAccept(listener.fd, 0, 0, SOCK_CLOEXEC));
    ring.submit();
  };
  arm();
  const { port } = listener;
  peer.begin({ kind: "connects", port, count: 200, rounds: 1 });
  acceptAll(ring, arm, 200, () => {});
  await peer.end();
  // In bursts: all of a round stand until all are accepted.
  peer.begin({ kind: "connects", port, count: 32, rounds: 4 });
  for (let round = 0; round < 4; round++) {
    peer.turns.await();
    acceptAll(ring, arm, 32, () => {});
    peer.turns.done();
  }
  await peer.end();
  // Each sends a byte before it goes.
  peer.begin({ kind: "connects", port, count: 1000, rounds: 1, byte: 0xa5 });
  const byte = new Uint8Array(new ArrayBuffer(1));
  acceptAll(ring, arm, 1000, (fd) => {
    assert.equal(libc().recv(fd, byte, 1, 0), 1);
    assert.equal(byte[0], 0xa5);
  });
  await peer.end();
  assertQuiet(ring);
});

test(
  "liburing linked-defer-close: a linked close happens while the ring waits",
  { skip: noDefer },
  async () => {
    using peer = await Peer.start();
    using ring = makeRing(8, { flags: DEFER });
    using listener = Bound.listening();
    using pipe = new WaitingPipe();
    const answer = block(16);
    const messages = [1, 2, 3].map((i) => blockOf(`message number ${i}\n`));
    entry(ring, 1, (sqe) => sqe.prepMultishotAccept(listener.fd, 0, 0, SOCK_CLOEXEC));
    entry(ring, 2, (sqe) => sqe.prepRead(pipe.reader.fd, answer.address, 16, 0));
    ring.submit();
    peer.begin({ kind: "receives", port: listener.port, answer: pipe.writer.fd });
    const [accepted] = reap(ring, 1);
    assert.equal(accepted!.userData, 1);
    const fd = check(accepted!.res, "accept");
    for (const message of messages) {
      entry(ring, 3, (sqe) => {
        sqe.prepSend(fd, message.address, message.bytes.length, 0);
        sqe.flags = IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK;
      });
    }
    entry(ring, 4, (sqe) => {
      sqe.prepClose(fd);
      sqe.flags = IOSQE_CQE_SKIP_SUCCESS;
    });
    // The other end sees the end of the stream, and says so, while this thread does nothing but wait.
    const [end] = reap(ring, 1);
    assert.deepEqual([end!.userData, end!.res], [2, 2]);
    assert.equal(text(answer, 2), "51");
    await peer.end();
    assertQuiet(ring);
  },
);
