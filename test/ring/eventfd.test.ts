/** Completions that signal an eventfd. */
import assert from "node:assert/strict";
import { IORING_SETUP_DEFER_TASKRUN, POLLIN } from "../../src/ring/mod.ts";
import { EventFd, Pipe } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { entry, eventually, forEachKind, makeRing, once, reap } from "../support/rings.ts";

checkLeaks();

forEachKind(({ name, options, skip }) => {
  test(`${name}: completions signal the eventfd, unless it is muted`, { skip }, () => {
    using eventfd = new EventFd();
    using ring = makeRing(8, options);
    ring.registerEventfd(eventfd.fd);
    assert.equal(ring.cqEventfdEnabled(), true);
    assert.equal(eventfd.take(), 0);
    once(ring, (sqe) => sqe.prepNop());
    assert.ok(eventfd.take() >= 1);
    assert.equal(eventfd.take(), 0);

    ring.cqEventfdToggle(false);
    assert.equal(ring.cqEventfdEnabled(), false);
    once(ring, (sqe) => sqe.prepNop());
    assert.equal(eventfd.take(), 0);

    ring.cqEventfdToggle(true);
    assert.equal(ring.cqEventfdEnabled(), true);
    once(ring, (sqe) => sqe.prepNop());
    assert.ok(eventfd.take() >= 1);

    ring.unregisterEventfd();
    once(ring, (sqe) => sqe.prepNop());
    assert.equal(eventfd.take(), 0);
  });

  test(`${name}: the eventfd tells of a completion that nobody waits for`, { skip }, () => {
    using eventfd = new EventFd();
    using pipe = new Pipe();
    using ring = makeRing(8, options);
    ring.registerEventfd(eventfd.fd);
    entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
    ring.submit();
    assert.equal(ring.cqReady(), 0);
    eventfd.take();
    pipe.write("x");
    // With deferred work the signal comes when the work is queued, and the completion when it is fetched.
    eventually(() => eventfd.take() > 0, "the eventfd is signalled");
    const deferred = ((options.flags ?? 0) & IORING_SETUP_DEFER_TASKRUN) !== 0;
    if (deferred) assert.equal(ring.cqReady(), 0);
    const [poll] = reap(ring, 1);
    assert.equal(poll!.res & POLLIN, POLLIN);
  });
});

test("one eventfd at a time", () => {
  using eventfd = new EventFd();
  using ring = makeRing(4);
  ring.registerEventfd(eventfd.fd);
  assert.throws(() => ring.registerEventfd(eventfd.fd), { code: "EBUSY", syscall: "io_uring_register" });
  assert.throws(() => ring.registerEventfdAsync(eventfd.fd), { code: "EBUSY" });
  ring.unregisterEventfd();
  assert.throws(() => ring.unregisterEventfd(), { code: "ENXIO" });
  ring.registerEventfdAsync(eventfd.fd);
  // NOPs complete inside submit: no signal.
  once(ring, (sqe) => sqe.prepNop());
  assert.equal(eventfd.take(), 0);
});

test("what is no eventfd is refused", () => {
  using pipe = new Pipe();
  using ring = makeRing(4);
  assert.throws(() => ring.registerEventfd(pipe.reader.fd), { code: "EINVAL" });
  assert.throws(() => ring.registerEventfd(1_000_000), { code: "EBADF" });
});

test("two rings may share an eventfd", () => {
  using eventfd = new EventFd();
  using first = makeRing(4);
  using second = makeRing(4);
  first.registerEventfd(eventfd.fd);
  second.registerEventfd(eventfd.fd);
  once(first, (sqe) => sqe.prepNop());
  once(second, (sqe) => sqe.prepNop());
  assert.equal(eventfd.take(), 2);
});

test("a ring reads the eventfd that another ring signals", () => {
  using eventfd = new EventFd();
  using signalling = makeRing(4);
  using reading = makeRing(4);
  signalling.registerEventfd(eventfd.fd);
  entry(reading, 1, (sqe) => sqe.prepPollAdd(eventfd.fd, POLLIN));
  reading.submit();
  assert.equal(reading.cqReady(), 0);
  once(signalling, (sqe) => sqe.prepNop());
  assert.equal(reap(reading, 1)[0]!.res, POLLIN);
});
