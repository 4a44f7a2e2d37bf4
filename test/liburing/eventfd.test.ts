/** Twins of liburing's programs about eventfds that completions signal. */
import assert from "node:assert/strict";
import { system } from "../../src/ffi/system.ts";
import {
  EFD_CLOEXEC,
  IORING_ENTER_GETEVENTS,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SQPOLL,
  IOSQE_IO_HARDLINK,
  IOSQE_IO_LINK,
  POLLIN,
  type Ring,
} from "../../src/ring/mod.ts";
import { EventFd, Fd } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  block,
  entry,
  eventually,
  forEachKind,
  iovecs,
  makeRing,
  reap,
  timespec,
} from "../support/rings.ts";
import { EnterThread, publish } from "../support/threads.ts";

checkLeaks();

const nops = (ring: Ring, count: number): void => {
  for (let i = 0; i < count; i++) entry(ring, 2, (sqe) => sqe.prepNop());
};

forEachKind(({ name, options, skip }) => {
  const sqpoll = ((options.flags ?? 0) & IORING_SETUP_SQPOLL) !== 0;

  test(
    `liburing eventfd: ${name}: a ring polls and reads the eventfd that it signals itself`,
    { skip },
    () => {
      using eventfd = new EventFd();
      using ring = makeRing(8, options);
      ring.registerEventfd(eventfd.fd);
      const buffer = block(8);
      const vector = iovecs([buffer]).address;
      entry(ring, 1, (sqe) => {
        sqe.prepPollAdd(eventfd.fd, POLLIN);
        sqe.flags = IOSQE_IO_LINK;
      });
      entry(ring, 2, (sqe) => sqe.prepReadv(eventfd.fd, vector, 1, 0));
      const submitted = ring.submit();
      if (!sqpoll) assert.equal(submitted, 2);
      entry(ring, 3, (sqe) => sqe.prepNop());
      const results = new Map(reap(ring, 3).map(({ userData, res }) => [userData, res]));
      assert.deepEqual([1, 2, 3].map((i) => results.get(i)), [POLLIN, 8, 0]);
      assert.ok(buffer.view.getBigUint64(0, true) >= 1n);
    },
  );

  test(`liburing eventfd-disable: ${name}: while muted, completions signal nothing`, { skip }, () => {
    using eventfd = new EventFd();
    using ring = makeRing(64, options);
    ring.registerEventfd(eventfd.fd);
    assert.equal(ring.cqEventfdEnabled(), true);
    ring.cqEventfdToggle(false);
    assert.equal(ring.cqEventfdEnabled(), false);
    const buffer = block(8);
    const vector = iovecs([buffer]).address;
    entry(ring, 1, (sqe) => sqe.prepReadv(eventfd.fd, vector, 1, 0));
    ring.submit();
    nops(ring, 63);
    // None of them is the read.
    for (const { userData, res } of reap(ring, 63)) assert.deepEqual([userData, res], [2, 0]);
    assertQuiet(ring);
    assert.equal(eventfd.take(), 0);

    ring.cqEventfdToggle(true);
    nops(ring, 1);
    const found = reap(ring, 2).map(({ userData, res }) => [userData, res]);
    assert.deepEqual(found, [[2, 0], [1, 8]]);
    assert.equal(buffer.view.getBigUint64(0, true), 1n, "signalled once");
  });

  test(
    `liburing eventfd-ring: ${name}: two rings that wake each other do not do so for ever`,
    { skip },
    () => {
      using firstFd = new EventFd();
      using secondFd = new EventFd();
      using first = makeRing(8, options);
      using second = makeRing(8, options);
      first.registerEventfd(firstFd.fd);
      second.registerEventfd(secondFd.fd);
      entry(first, 1, (sqe) => sqe.prepPollAdd(secondFd.fd, POLLIN));
      entry(second, 1, (sqe) => sqe.prepPollAdd(firstFd.fd, POLLIN));
      first.submit();
      second.submit();
      if (sqpoll) eventually(() => first.sqReady() === 0 && second.sqReady() === 0, "both polls have begun");
      entry(first, 3, (sqe) => sqe.prepNop());
      assert.deepEqual(reap(first, 1), [{ userData: 3, res: 0, flags: 0 }]);
      // The NOP wakes the second's poll, whose completion wakes the first's.
      assert.deepEqual(reap(second, 1), [{ userData: 1, res: POLLIN, flags: 0 }]);
      assert.deepEqual(reap(first, 1), [{ userData: 1, res: POLLIN, flags: 0 }]);
      assertQuiet(first);
      assertQuiet(second);
    },
  );
});

test("liburing ce593a6c480a: a thread asleep on the eventfd is woken by what another thread does", async () => {
  // This one blocks: the reader sleeps in the kernel, in no ring.
  using loop = new Fd(system().eventfd(0, EFD_CLOEXEC));
  using other = new EventFd();
  const thread = await EnterThread.start();
  try {
    for (const flags of [0, IORING_SETUP_SQPOLL]) {
      using ring = makeRing(8, { flags, sqThreadIdle: 5 });
      ring.registerEventfd(loop.fd);
      entry(ring, 1, (sqe) => sqe.prepPollAdd(other.fd, POLLIN));
      ring.submit();
      // The other thread waits for a while, then writes.
      using writing = makeRing(2, { flags: IORING_SETUP_R_DISABLED });
      const [pause, one] = [timespec(50), block(8)];
      one.bytes[0] = 1;
      entry(writing, 1, (sqe) => {
        sqe.prepTimeout(pause, 0, 0);
        sqe.flags = IOSQE_IO_HARDLINK;
      });
      entry(writing, 2, (sqe) => sqe.prepWrite(other.fd, one.address, 8, 0));
      publish(writing);
      const { fd } = writing;
      const written = thread.enter({ fd, toSubmit: 2, minComplete: 2, flags: IORING_ENTER_GETEVENTS });
      const count = new Uint8Array(new ArrayBuffer(8));
      assert.equal(system().read(loop.fd, count, 8), 8);
      assert.equal(count[0], 1);
      assert.deepEqual(reap(ring, 1), [{ userData: 1, res: POLLIN, flags: 0 }]);
      assert.equal(await written, 2);
      assert.equal(other.take(), 1);
    }
  } finally {
    await thread.end();
  }
});
