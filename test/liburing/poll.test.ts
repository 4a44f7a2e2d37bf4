/** Polling: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import {
  EPOLL_CTL_ADD,
  IORING_CQE_F_MORE,
  IORING_POLL_UPDATE_EVENTS,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SINGLE_ISSUER,
  IOSQE_IO_LINK,
  O_RDONLY,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  type Ring,
  SO_SNDBUF,
  SOL_SOCKET,
} from "../../src/ring/mod.ts";
import { ARCH } from "../../src/ffi/arch.ts";
import { check } from "../../src/ffi/errors.ts";
import { EventFd, Fd, Pipe } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { put } from "../support/operations.ts";
import { Peer } from "../support/peer.ts";
import { Random } from "../support/random.ts";
import {
  assertQuiet,
  type Block,
  block,
  type Completion,
  entry,
  forEachKind,
  makeRing,
  missingRing,
  once,
  reap,
  reapResults,
  timespec,
} from "../support/rings.ts";
import { Bound, Connection, receive, send, setOption } from "../support/sockets.ts";

checkLeaks();

const ENOENT = -2;
const ETIME = -62;
const EALREADY = -114;
const ECANCELED = -125;

const DEFER = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
const noDefer = missingRing({ flags: DEFER });
const noSingle = missingRing({ flags: IORING_SETUP_SINGLE_ISSUER });

/** `poll(2)` on one descriptor: what is there now. */
function pollNow(fd: number, events: number): number {
  const { bytes, view } = block(8);
  view.setInt32(0, fd, true);
  view.setInt16(4, events, true);
  check(libc().poll(bytes, 1, 0), "poll");
  return view.getInt16(6, true);
}

/** A `struct epoll_event`; packed on x86-64. */
function epollEvent(events: number): Block {
  const made = block(ARCH === "x86_64" ? 12 : 16);
  made.view.setUint32(0, events, true);
  return made;
}

/** All completions that are there. */
function drain(ring: Ring): Completion[] {
  const found: Completion[] = [];
  for (let cqe = ring.peekCqe(); cqe !== null; cqe = ring.peekCqe()) {
    found.push({ userData: cqe.userData, res: cqe.res, flags: cqe.flags });
    ring.cqeSeen(cqe);
  }
  return found;
}

forEachKind(({ name, options, skip }) => {
  const noFd = firstReason(skip, /REGISTERED_FD_ONLY/.test(name) && "the ring has no descriptor");

  test(`liburing poll: ${name}: a pipe becomes readable`, { skip }, () => {
    using ring = makeRing(2, options);
    using pipe = new Pipe();
    entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
    ring.submit();
    assertQuiet(ring);
    pipe.write("foo");
    assert.deepEqual(reap(ring, 1), [{ userData: 1, res: POLLIN, flags: 0 }]);
  });

  test(`liburing poll: ${name}: no event of a multishot poll is missed`, { skip }, () => {
    using ring = makeRing(8, options);
    using pair = Connection.unix();
    const { a, b } = pair;
    setOption(a.fd, SOL_SOCKET, SO_SNDBUF, 1);
    send(a.fd, new Uint8Array(2));
    entry(ring, 1, (sqe) => sqe.prepPollMultishot(a.fd, POLLIN | POLLOUT));
    ring.submit();
    send(b.fd, new Uint8Array(2));
    assert.equal(receive(b.fd).length, 2);
    let seen = 0;
    while (seen !== (POLLIN | POLLOUT)) {
      const { res, flags } = reap(ring, 1)[0]!;
      assert.equal(flags & IORING_CQE_F_MORE, IORING_CQE_F_MORE);
      assert.ok(res > 0, `${res}`);
      seen |= res;
    }
  });

  test(`liburing poll-link: ${name}: a time limit ends a poll, a connection ends the limit`, { skip }, () => {
    using ring = makeRing(8, options);
    using listener = Bound.listening();
    for (const limit of [20, 60_000]) {
      const time = timespec(limit);
      entry(ring, 1, (sqe) => {
        sqe.prepPollAdd(listener.fd, POLLIN | POLLHUP | POLLERR);
        sqe.flags = IOSQE_IO_LINK;
      });
      entry(ring, 2, (sqe) => sqe.prepLinkTimeout(time, 0));
      ring.submit();
      using _client = limit > 20 ? listener.dial() : null;
      const results = reapResults(ring, 2);
      if (limit === 20) assert.deepEqual([...results].sort(), [[1, ECANCELED], [2, ETIME]]);
      else assert.deepEqual([...results].sort(), [[1, POLLIN], [2, ECANCELED]]);
    }
  });

  test(`liburing poll-update-trigger: ${name}: new events that are there complete a poll`, { skip }, () => {
    using ring = makeRing(4, options);
    using pipe = new Pipe();
    entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.writer.fd, POLLIN));
    ring.submit();
    assertQuiet(ring);
    entry(ring, 2, (sqe) => sqe.prepPollUpdate(1, 0, POLLOUT, IORING_POLL_UPDATE_EVENTS));
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, POLLOUT], [2, 0]]);
  });

  test(`liburing poll-v-poll: ${name}: pipes: the same as poll(2)`, { skip }, () => {
    using ring = makeRing(2, options);
    using pipe = new Pipe();
    entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
    ring.submit();
    assertQuiet(ring);
    pipe.write("\x89");
    assert.equal(reap(ring, 1)[0]!.res, pollNow(pipe.reader.fd, POLLIN));
    const { res } = once(ring, (sqe) => sqe.prepPollAdd(pipe.writer.fd, POLLOUT));
    assert.equal(res, POLLOUT);
    assert.equal(res, pollNow(pipe.writer.fd, POLLOUT));
    pipe.writer.close();
    assert.equal(
      once(ring, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN)).res,
      pollNow(pipe.reader.fd, POLLIN),
    );
  });

  test(`liburing poll-v-poll: ${name}: files: the same as poll(2)`, { skip }, () => {
    using ring = makeRing(2, options);
    using file = Fd.open("/proc/self/exe", O_RDONLY);
    for (const events of [POLLIN, POLLOUT, POLLIN | POLLOUT]) {
      const { res } = once(ring, (sqe) => sqe.prepPollAdd(file.fd, events));
      assert.equal(res, events);
      assert.equal(res, pollNow(file.fd, events));
    }
  });

  for (const through of ["epoll_ctl", "the ring"]) {
    test(`liburing poll-v-poll: ${name}: an epoll that watches through ${through}`, { skip }, () => {
      const EPOLL_CLOEXEC = 0x8_0000;
      using ring = makeRing(2, options);
      using pipe = new Pipe();
      using epoll = new Fd(check(libc().epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
      const event = epollEvent(POLLIN);
      if (through === "epoll_ctl") {
        assert.equal(libc().epoll_ctl(epoll.fd, EPOLL_CTL_ADD, pipe.reader.fd, event.bytes), 0);
      } else {
        const { fd } = pipe.reader;
        assert.equal(
          once(ring, (sqe) => sqe.prepEpollCtl(epoll.fd, fd, EPOLL_CTL_ADD, event.address)).res,
          0,
        );
      }
      entry(ring, 1, (sqe) => sqe.prepPollAdd(epoll.fd, POLLIN));
      ring.submit();
      assertQuiet(ring);
      assert.equal(libc().epoll_wait(epoll.fd, epollEvent(0).bytes, 1, 0), 0);
      pipe.write("\x89");
      assert.equal(reap(ring, 1)[0]!.res, POLLIN);
      assert.equal(libc().epoll_wait(epoll.fd, epollEvent(0).bytes, 1, 0), 1);
    });
  }

  test(`liburing poll-many: ${name}: hundreds of pipes, polled again and again`, { skip }, () => {
    const FILES = 300;
    const BATCH = 100;
    using ring = makeRing(128, { ...options, cqEntries: 1024 });
    const random = new Random(7);
    const pipes = Array.from({ length: FILES }, () => new Pipe());
    const arm = (i: number): void => {
      if (ring.sqSpaceLeft() === 0) ring.submit();
      while (ring.sqSpaceLeft() === 0);
      entry(ring, i, (sqe) => sqe.prepPollAdd(pipes[i]!.reader.fd, POLLIN));
    };
    for (let i = 0; i < FILES; i++) arm(i);
    ring.submit();
    for (let round = 0; round < 20; round++) {
      const triggered = new Set<number>();
      while (triggered.size < BATCH) triggered.add(random.below(FILES));
      for (const i of triggered) pipes[i]!.write("Y");
      for (const { userData, res } of reap(ring, BATCH)) {
        assert.equal(res, POLLIN);
        assert.ok(triggered.delete(userData), "a pipe that nothing was written to, or twice");
        assert.equal(pipes[userData]!.read(), "Y");
        arm(userData);
      }
      ring.submit();
    }
    assertQuiet(ring);
    for (const pipe of pipes) pipe[Symbol.dispose]();
  });

  test(`liburing poll: ${name}: a disabled ring is polled before and after it is enabled`, {
    skip: firstReason(noFd, noDefer),
  }, () => {
    for (const early of [false, true]) {
      using polled = makeRing(8, { flags: DEFER | IORING_SETUP_R_DISABLED });
      using ring = makeRing(8, options);
      const poll = (): void => {
        entry(ring, 1, (sqe) => sqe.prepPollAdd(polled.fd, POLLIN));
        ring.submit();
        assertQuiet(ring);
      };
      if (early) poll();
      polled.enableRings();
      if (!early) poll();
      entry(polled, 2, (sqe) => sqe.prepNop());
      assert.equal(polled.submit(), 1);
      assert.deepEqual(reap(ring, 1).map(({ userData, res }) => [userData, res & POLLIN]), [[1, POLLIN]]);
      assertQuiet(ring);
    }
  });
});

for (
  const [name, flags, skip] of [
    ["SINGLE_ISSUER", IORING_SETUP_SINGLE_ISSUER, noSingle],
    ["DEFER_TASKRUN", DEFER, noDefer],
  ] as const
) {
  test(`liburing poll-mshot-overflow: ${name}: an event that overflows is told`, { skip }, () => {
    using ring = makeRing(2, { flags, cqEntries: 2 });
    using pipe = new Pipe();
    entry(ring, 1, (sqe) => sqe.prepPollMultishot(pipe.reader.fd, POLLIN));
    assert.equal(ring.cqReady(), 0);
    for (let i = 0; i < 2; i++) {
      entry(ring, 2, (sqe) => sqe.prepNop());
      ring.submit();
    }
    pipe.write("foo");
    assert.deepEqual(reap(ring, 2).map(({ userData }) => userData), [2, 2]);
    ring.getEvents();
    entry(ring, 3, (sqe) => sqe.prepPollRemove(1));
    assert.equal(ring.submit(), 1);
    const found = drain(ring);
    const polls = found.filter(({ userData }) => userData === 1);
    assert.ok(polls.length > 0);
    assert.ok(found.every(({ userData }) => userData === 1 || userData === 3));
    const last = polls.findIndex(({ flags }) => (flags & IORING_CQE_F_MORE) === 0);
    assert.ok(last === -1 || last === polls.length - 1, "nothing comes after the last");
    assert.ok(polls.some(({ res }) => res === POLLIN));
  });
}

test("liburing poll-mshot-overflow: a multishot poll ends with an overflow", { skip: noDefer }, () => {
  using ring = makeRing(2, { cqEntries: 2 });
  using pipe = new Pipe();
  entry(ring, 1, (sqe) => sqe.prepPollMultishot(pipe.reader.fd, POLLIN));
  ring.submit();
  for (let i = 0; i < 8; i++) {
    pipe.write("four");
    assert.equal(pipe.read(), "four");
  }
  const found = drain(ring);
  assert.ok(found.length >= 3 && found.length < 8, `${found.length} completions`);
  for (const [i, { res, flags }] of found.entries()) {
    assert.equal((flags & IORING_CQE_F_MORE) !== 0, i < found.length - 1);
    assert.ok(res >= 0);
  }
});

for (const cqEntries of [128, 1024]) {
  test(`liburing poll-mshot-update: ${cqEntries} completions: an update races with events`, async () => {
    const FILES = 300;
    const BATCH = 100;
    const ROUNDS = 30;
    const UPDATE = 0x1234_5678;
    using peer = await Peer.start();
    using ring = makeRing(128, { cqEntries });
    const pipes = Array.from({ length: FILES }, () => new Pipe());
    const arm = (i: number): void => {
      entry(ring, i, (sqe) => sqe.prepPollMultishot(pipes[i]!.reader.fd, POLLIN));
    };
    for (let i = 0; i < FILES; i++) {
      arm(i);
      if (ring.sqSpaceLeft() === 0) ring.submit();
    }
    ring.submit();
    const fds = pipes.map(({ writer }) => writer.fd);
    peer.begin({ kind: "triggers", rounds: ROUNDS, fds, count: BATCH });
    for (let round = 0; round < ROUNDS; round++) {
      peer.turns.done();
      for (let i = 0; i < BATCH; i++) {
        entry(ring, UPDATE, (sqe) => sqe.prepPollUpdate(i, 0, POLLIN, IORING_POLL_UPDATE_EVENTS));
      }
      assert.equal(ring.submit(), BATCH);
      for (let updates = 0, bytes = 0; updates < BATCH || bytes < BATCH;) {
        const { userData, res, flags } = reap(ring, 1)[0]!;
        if (userData === UPDATE) {
          assert.ok([0, ENOENT, EALREADY].includes(res), `${res}`);
          updates++;
          continue;
        }
        bytes += pipes[userData]!.read().length;
        if ((flags & IORING_CQE_F_MORE) === 0) {
          arm(userData);
          ring.submit();
        }
      }
      peer.turns.await();
    }
    await peer.end();
    for (const pipe of pipes) pipe[Symbol.dispose]();
  });
}

test("liburing poll-mshot-update: an update of what is not there", () => {
  using ring = makeRing(8);
  assert.equal(once(ring, (sqe) => sqe.prepPollUpdate(1, 0, POLLIN, IORING_POLL_UPDATE_EVENTS)).res, ENOENT);
});

forEachKind(({ name, options, skip: noRing }) => {
  const skip = firstReason(noRing, /REGISTERED_FD_ONLY/.test(name) && "the ring has no descriptor");

  test(`liburing eploop: ${name}: a ring that polls an epoll that watches the ring`, { skip }, () => {
    const EPOLL_CLOEXEC = 0x8_0000;
    using ring = makeRing(8, options);
    using epoll = new Fd(check(libc().epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
    assert.equal(libc().epoll_ctl(epoll.fd, EPOLL_CTL_ADD, ring.fd, epollEvent(POLLIN).bytes), 0);
    entry(ring, 1, (sqe) => sqe.prepPollMultishot(epoll.fd, POLLIN));
    ring.submit();
    entry(ring, 2, (sqe) => sqe.prepNop());
    ring.submit();
    const found = reap(ring, 2);
    assert.deepEqual(found.map(({ userData, flags }) => [userData, flags]).sort(), [[1, 0], [2, 0]]);
    assertQuiet(ring);
  });

  test(`liburing evloop: ${name}: a ring that polls the eventfd that it signals`, { skip }, () => {
    using ring = makeRing(8, options);
    using eventfd = new EventFd();
    ring.registerEventfd(eventfd.fd);
    entry(ring, 1, (sqe) => sqe.prepPollMultishot(eventfd.fd, POLLIN));
    ring.submit();
    entry(ring, 2, (sqe) => sqe.prepNop());
    ring.submit();
    const found = reap(ring, 2);
    assert.deepEqual(found.map(({ userData, flags }) => [userData, flags]).sort(), [[1, 0], [2, 0]]);
    assertQuiet(ring);
  });

  test(`liburing poll-mshot-wake: ${name}: its own eventfd, polled, is told twice`, {
    skip: firstReason(
      skip,
      /SQPOLL/.test(name) && "another thread signals the eventfd, at a time of its own",
    ),
  }, () => {
    using ring = makeRing(8, options);
    using eventfd = new EventFd();
    ring.registerEventfd(eventfd.fd);
    entry(ring, 1, (sqe) => sqe.prepPollMultishot(eventfd.fd, POLLIN));
    ring.submit();
    for (const more of [IORING_CQE_F_MORE, 0]) {
      put(eventfd.fd, new Uint8Array(BigUint64Array.of(1n).buffer));
      assert.ok(eventfd.take() > 0);
      // The completion signals the eventfd again, from within the poll: the second time that ends it.
      assert.deepEqual(reap(ring, 1), [{ userData: 1, res: POLLIN, flags: more }]);
    }
    assertQuiet(ring);
  });
});
