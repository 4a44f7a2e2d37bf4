/** Waiting on epoll descriptors, and fanotify: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import process from "node:process";
import { epoll_event } from "../../src/ffi/arch.ts";
import {
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLLIN,
  IORING_OP_EPOLL_CTL,
  IORING_OP_EPOLL_WAIT,
  Mapping,
  O_DIRECT,
  O_RDONLY,
  type Ring,
} from "../../src/ring/mod.ts";
import { system } from "../../src/ffi/system.ts";
import { epollCreate } from "../../src/mod.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { WaitingPipe } from "../support/operations.ts";
import { Peer } from "../support/peer.ts";
import {
  assertEntry,
  type Block,
  block,
  entry,
  forEachKind,
  makeRing,
  missingOp,
  once,
  reap,
} from "../support/rings.ts";

checkLeaks();

const EBADF = -9;
const EEXIST = -17;
const EINVAL = -22;

const noWait = missingOp(IORING_OP_EPOLL_WAIT);

/** A `struct epoll_event`. */
function event(events: number, data: number): number {
  const { address, view } = block(epoll_event.size);
  view.setUint32(epoll_event.events, events, true);
  view.setBigUint64(epoll_event.data, BigInt(data), true);
  return address;
}

/** An epoll descriptor that watches pipes, told so through the ring. */
function watching(ring: Ring, pipes: readonly WaitingPipe[]): Fd {
  const epoll = new Fd(epollCreate());
  for (const { reader } of pipes) {
    const at = event(EPOLLIN, reader.fd);
    const sqe = entry(ring, 1, (sqe) => sqe.prepEpollCtl(epoll.fd, reader.fd, EPOLL_CTL_ADD, at));
    assertEntry(sqe, {
      opcode: IORING_OP_EPOLL_CTL,
      fd: epoll.fd,
      addr: BigInt(at),
      len: EPOLL_CTL_ADD,
      off: BigInt(reader.fd),
    });
    assert.equal(reap(ring, 1)[0]!.res, 0);
  }
  return epoll;
}

/** The descriptors in events, in order. */
function ready({ view }: Block, count: number): number[] {
  return Array.from(
    { length: count },
    (_, i) => Number(view.getBigUint64(i * epoll_event.size + epoll_event.data, true)),
  ).sort((a, b) => a - b);
}

function drain(fd: number): void {
  assert.ok(system().read(fd, new Uint8Array(new ArrayBuffer(64)), 64) > 0);
}

forEachKind(({ name, options, skip: noRing }) => {
  const skip = noRing || noWait;

  test(`liburing epwait: ${name}: events that are there, come, and are asked for no more`, { skip }, () => {
    using ring = makeRing(8, options);
    using one = new WaitingPipe();
    using two = new WaitingPipe();
    using epoll = watching(ring, [one, two]);
    const out = block(2 * epoll_event.size);
    const both = [one.reader.fd, two.reader.fd].sort((a, b) => a - b);
    for (const pipe of [one, two]) pipe.write("foo");
    const sqe = entry(ring, 1, (sqe) => sqe.prepEpollWait(epoll.fd, out.address, 2, 0));
    assertEntry(sqe, { opcode: IORING_OP_EPOLL_WAIT, fd: epoll.fd, addr: BigInt(out.address), len: 2 });
    assert.equal(reap(ring, 1)[0]!.res, 2);
    assert.deepEqual(ready(out, 2), both);
    for (const fd of both) drain(fd);
    // Nothing is there yet.
    entry(ring, 2, (sqe) => sqe.prepEpollWait(epoll.fd, out.address, 2, 0));
    ring.submit();
    one.write("foo");
    assert.equal(reap(ring, 1)[0]!.res, 1);
    assert.deepEqual(ready(out, 1), [one.reader.fd]);
    drain(one.reader.fd);
    // One is taken out while the other is waited for.
    entry(ring, 3, (sqe) => sqe.prepEpollWait(epoll.fd, out.address, 2, 0));
    ring.submit();
    const none = new Uint8Array(new ArrayBuffer(epoll_event.size));
    assert.equal(libc().epoll_ctl(epoll.fd, EPOLL_CTL_DEL, one.reader.fd, none), 0);
    for (const pipe of [one, two]) pipe.write("foo");
    assert.equal(reap(ring, 1)[0]!.res, 1);
    assert.deepEqual(ready(out, 1), [two.reader.fd]);
  });

  test(`liburing epwait: ${name}: the epoll descriptor is closed under a wait`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new WaitingPipe();
    const epoll = watching(ring, [pipe]);
    const out = block(epoll_event.size);
    entry(ring, 1, (sqe) => sqe.prepEpollWait(epoll.fd, out.address, 1, 0));
    ring.submit();
    if (name === "SQPOLL") { while (ring.sqReady() > 0); }
    epoll.close();
    // The wait holds the file: what happens is still seen.
    pipe.write("foo");
    assert.equal(reap(ring, 1)[0]!.res, 1);
    assert.deepEqual(ready(out, 1), [pipe.reader.fd]);
  });

  test(`liburing epwait: ${name}: what is refused`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new WaitingPipe();
    using epoll = watching(ring, [pipe]);
    const out = block(epoll_event.size);
    const { fd } = pipe.reader;
    const wait = (fd: number, count: number, flags: number): number =>
      once(ring, (sqe) => sqe.prepEpollWait(fd, out.address, count, flags)).res;
    assert.equal(wait(fd, 1, 0), EINVAL);
    assert.equal(wait(-1, 1, 0), EBADF);
    assert.equal(wait(epoll.fd, 1, 1), EINVAL);
    pipe.write("x");
    assert.equal(wait(epoll.fd, 0, 0), EINVAL);
    const add = event(EPOLLIN, fd);
    assert.equal(once(ring, (sqe) => sqe.prepEpollCtl(epoll.fd, fd, EPOLL_CTL_ADD, add)).res, EEXIST);
  });
});

test("liburing epwait: a thread writes to eight pipes all the while", { skip: noWait }, async () => {
  const ROUNDS = 200;
  using peer = await Peer.start();
  using ring = makeRing(32);
  const pipes = Array.from({ length: 8 }, () => new WaitingPipe());
  {
    using epoll = watching(ring, pipes);
    const out = block(8 * epoll_event.size);
    peer.begin({ kind: "triggers", rounds: ROUNDS, fds: pipes.map(({ writer }) => writer.fd), count: 3 });
    let seen = 0;
    for (let round = 0; round < ROUNDS; round++) {
      entry(ring, round, (sqe) => sqe.prepEpollWait(epoll.fd, out.address, 8, 0));
      ring.submit();
      peer.turns.done();
      for (let written = 0; written < 3;) {
        const { userData, res } = reap(ring, 1)[0]!;
        assert.equal(userData, round);
        assert.ok(res > 0, `${res}`);
        for (const fd of ready(out, res)) drain(fd);
        written += res;
        if (written < 3) entry(ring, round, (sqe) => sqe.prepEpollWait(epoll.fd, out.address, 8, 0));
        seen += res;
      }
      peer.turns.await();
    }
    assert.equal(seen, 3 * ROUNDS);
    await peer.end();
  }
  for (const pipe of pipes) pipe[Symbol.dispose]();
});

const FAN_CLASS_CONTENT = 4;
const FAN_CLOEXEC = 1;
const FAN_MARK_ADD = 1;
const FAN_ACCESS = 1;
const FAN_MODIFY = 2;
const FAN_EVENT_SIZE = 24;

/** Why files cannot be watched with fanotify here, or `false`. */
function missingFanotify(): string | false {
  const fd = libc().fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, 0);
  if (fd < 0) return `no fanotify: ${fd}`;
  system().close(fd);
  return false;
}

/** Why the file system for temporary files lacks O_DIRECT, or `false`. */
function missingDirect(): string | false {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  try {
    Fd.open(dir.of("file"), O_RDONLY | O_DIRECT).close();
    return false;
  } catch {
    return "no O_DIRECT here";
  }
}

forEachKind(({ name, options, skip }) => {
  const reason = firstReason(skip, missingFanotify(), missingDirect());
  test(
    `liburing fsnotify: ${name}: a direct read is told as an access of this process`,
    { skip: reason },
    () => {
      using dir = new TempDir();
      using ring = makeRing(1, options);
      writeFileSync(dir.of("file"), new Uint8Array(8192));
      using file = Fd.open(dir.of("file"), O_RDONLY | O_DIRECT);
      using watch = new Fd(libc().fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, 0));
      assert.equal(libc().fanotify_mark(watch.fd, FAN_MARK_ADD, FAN_ACCESS | FAN_MODIFY, file.fd, null), 0);
      using memory = Mapping.anonymous(4096);
      assert.equal(once(ring, (sqe) => sqe.prepRead(file.fd, memory.address, 4096, 0)).res, 4096);
      const told = new DataView(new ArrayBuffer(FAN_EVENT_SIZE));
      assert.equal(
        system().read(watch.fd, new Uint8Array(told.buffer), FAN_EVENT_SIZE),
        FAN_EVENT_SIZE,
      );
      const [mask, fd, pid] = [told.getBigUint64(8, true), told.getInt32(16, true), told.getInt32(20, true)];
      if (fd >= 0) system().close(fd);
      assert.equal(mask & BigInt(FAN_ACCESS), BigInt(FAN_ACCESS));
      assert.equal(pid, process.pid);
    },
  );
});
