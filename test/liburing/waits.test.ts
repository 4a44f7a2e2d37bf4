/** Twins of liburing's programs about waiting: minimal times, limits on every clock, what deferred work does meanwhile. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import {
  CLOCK_BOOTTIME,
  CLOCK_MONOTONIC,
  IORING_ENTER_ABS_TIMER,
  IORING_ENTER_EXT_ARG,
  IORING_ENTER_GETEVENTS,
  IORING_REGISTER_CLOCK,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_TASKRUN_FLAG,
  IOSQE_IO_DRAIN,
  Mapping,
  O_DIRECT,
  O_RDONLY,
  POLLIN,
  type Ring,
  type Timespec,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { check } from "../../src/ffi/errors.ts";
import { addressOf } from "../../src/ffi/pin.ts";
import { io_uring_getevents_arg } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import { content } from "../support/content.ts";
import { EventFd, Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { OldKernel } from "../support/old_kernel.ts";
import { fixture, output } from "../support/program.ts";
import {
  blockOf,
  entry,
  eventually,
  forEachKind,
  iovecs,
  KINDS,
  makeRing,
  missingRing,
  reap,
  sleep,
} from "../support/rings.ts";
import { Connection } from "../support/sockets.ts";

checkLeaks();

const ETIME = -62;
const TFD_CLOEXEC = 0o2000000;
const SHORT: Timespec = { sec: 0, nsec: 2_000_000 };
/** Longer than any test lasts. */
const LONG: Timespec = { sec: 600, nsec: 0 };
const LONG_USEC = 600e6;
const noMinWait = kernelHas("6.12") ? false : "needs Linux 6.12";

/** Polls of timers that go off after so many milliseconds each. (An operation that is a timeout ends waits by itself.) */
class Alarms implements Disposable {
  readonly #timers: Fd[] = [];

  set(ring: Ring, ...milliseconds: number[]): void {
    milliseconds.forEach((time, i) => {
      const timer = new Fd(check(libc().timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create"));
      this.#timers.push(timer);
      const when = new BigInt64Array(new ArrayBuffer(32));
      when[2] = BigInt(Math.floor(time / 1000));
      when[3] = BigInt(time % 1000 * 1e6);
      check(libc().timerfd_settime(timer.fd, 0, new Uint8Array(when.buffer), null), "timerfd_settime");
      entry(ring, i + 1, (sqe) => sqe.prepPollAdd(timer.fd, POLLIN));
    });
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) timer.close();
  }
}

function names(ring: Ring): number[] {
  const found: number[] = [];
  ring.forEachCqe((cqe) => found.push(cqe.userData));
  return found;
}

forEachKind(({ name, options, skip }) => {
  const skipMin = firstReason(skip, noMinWait);
  const sqpoll = ((options.flags ?? 0) & IORING_SETUP_SQPOLL) !== 0;

  test(`liburing min-timeout: ${name}: what has come when the minimal time is over is enough`, {
    skip: skipMin,
  }, () => {
    using ring = makeRing(8, options);
    using alarms = new Alarms();
    alarms.set(ring, 1, 2, 3, 300_000, 300_000, 300_000, 300_000, 300_000);
    const submitted = ring.submitAndWaitMinTimeout(8, LONG, 60_000);
    if (!sqpoll) assert.equal(submitted, 8);
    assert.deepEqual(names(ring), [1, 2, 3]);
  });

  test(`liburing min-timeout: ${name}: the first that comes after the minimal time ends the wait`, {
    skip: skipMin,
  }, () => {
    using ring = makeRing(8, options);
    using alarms = new Alarms();
    alarms.set(ring, 30, 300_000);
    ring.submitAndWaitMinTimeout(2, LONG, 1000);
    assert.deepEqual(names(ring), [1]);
  });

  test(
    `liburing min-timeout: ${name}: without a minimal time all are waited for, or the limit`,
    { skip },
    () => {
      using ring = makeRing(8, options);
      using alarms = new Alarms();
      alarms.set(ring, 1, 300_000);
      ring.submitAndWaitMinTimeout(2, { sec: 0, nsec: 30_000_000 }, 0);
      assert.deepEqual(names(ring), [1]);
    },
  );

  test(`liburing min-timeout-wait: ${name}: some within the minimal time`, { skip: skipMin }, () => {
    using ring = makeRing(8, options);
    using alarms = new Alarms();
    alarms.set(ring, 1, 2, 300_000, 300_000);
    ring.submit();
    assert.equal(ring.waitCqesMinTimeout(4, LONG, 60_000)!.userData, 1);
    assert.deepEqual(names(ring), [1, 2]);
  });

  test(`liburing min-timeout-wait: ${name}: all within the minimal time end it`, { skip: skipMin }, () => {
    using ring = makeRing(8, options);
    using alarms = new Alarms();
    alarms.set(ring, 1, 2, 3, 4);
    ring.submit();
    assert.equal(ring.waitCqesMinTimeout(4, LONG, LONG_USEC)!.userData, 1);
    assert.deepEqual(names(ring), [1, 2, 3, 4]);
  });

  test(`liburing min-timeout-wait: ${name}: one after the minimal time`, { skip: skipMin }, () => {
    using ring = makeRing(8, options);
    using alarms = new Alarms();
    alarms.set(ring, 20, 300_000, 300_000, 300_000);
    ring.submit();
    assert.equal(ring.waitCqesMinTimeout(4, LONG, 1000)!.userData, 1);
    assert.deepEqual(names(ring), [1]);
  });

  for (const [there, count] of [["half", 2], ["all", 4]] as const) {
    test(`liburing min-timeout-wait: ${name}: ${there} are there already`, { skip: skipMin }, () => {
      using ring = makeRing(8, options);
      for (let i = 1; i <= count; i++) entry(ring, i, (sqe) => sqe.prepNop());
      ring.submitAndWait(count);
      // With all of them there, the minimal time is not waited for.
      const usec = count === 4 ? LONG_USEC : 5000;
      assert.equal(ring.waitCqesMinTimeout(4, LONG, usec)!.userData, 1);
      assert.deepEqual(names(ring), Array.from({ length: count }, (_, i) => i + 1));
    });
  }

  test(
    `liburing min-timeout-wait: ${name}: nothing comes, and the minimal time is the lesser or the greater`,
    {
      skip: skipMin,
    },
    () => {
      using ring = makeRing(8, options);
      for (const usec of [500, 2000, 20_000]) {
        assert.equal(ring.waitCqesMinTimeout(4, SHORT, usec), null);
        assert.equal(ring.cqReady(), 0);
      }
    },
  );

  test(`${name}: waitCqes waits for all, or for what comes in time`, { skip }, () => {
    using ring = makeRing(8, options);
    using alarms = new Alarms();
    alarms.set(ring, 1, 2, 3);
    ring.submit();
    assert.equal(ring.waitCqes(3, LONG)!.userData, 1);
    assert.deepEqual(names(ring), [1, 2, 3]);
    assert.equal(ring.waitCqes(1, SHORT), null);
    alarms.set(ring, 1, 300_000);
    ring.submit();
    assert.equal(ring.waitCqes(2, { sec: 0, nsec: 30_000_000 })!.userData, 1);
    assert.deepEqual(names(ring), [1]);
    alarms.set(ring, 1, 2);
    ring.submit();
    assert.equal(ring.waitCqes(2, null)!.userData, 1);
    assert.equal(ring.cqReady(), 2);
    // None of the signals is blocked while this waits, and all of them are.
    for (const sigmask of [0n, 2n ** 64n - 1n]) {
      assert.equal(ring.waitCqes(3, SHORT, { sigmask })!.userData, 1);
    }
  });

  test(
    `liburing defer-tw-timeout: ${name}: what comes while too many are waited for is there when time is up`,
    {
      skip,
    },
    () => {
      using ring = makeRing(8, options);
      using alarms = new Alarms();
      using pipe = new Pipe();
      entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
      alarms.set(ring, 1);
      ring.submitAndWaitTimeout(2, { sec: 0, nsec: 30_000_000 });
      // Without another look into the kernel.
      assert.equal(ring.cqReady(), 1);
      assert.deepEqual(names(ring), [1]);
    },
  );

  test(`liburing defer-tw-timeout: ${name}: a read of a disk`, { skip }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), content(4096));
    using memory = Mapping.anonymous(4096);
    using file = openDirect(dir.of("file"));
    using ring = makeRing(8, options);
    entry(ring, 1, (sqe) => sqe.prepRead(file.fd, memory.address, 4096, 0));
    ring.submitAndWaitTimeout(2, { sec: 0, nsec: 50_000_000 });
    // A disk may take longer than that.
    assert.deepEqual(reap(ring, 1).map(({ userData, res }) => [userData, res]), [[1, 4096]]);
  });
});

/** Opens a file past the page cache, or through it where the file system wants that. */
function openDirect(path: string): Fd {
  try {
    return Fd.open(path, O_RDONLY | O_DIRECT);
  } catch {
    return Fd.open(path, O_RDONLY);
  }
}

test("a minimal time on a kernel before 6.12", () => {
  using _old = new OldKernel("6.11");
  using ring = makeRing(4);
  const refused = { code: "EINVAL", message: /a minimum wait needs Linux 6\.12/ };
  assert.throws(() => ring.submitAndWaitMinTimeout(1, SHORT, 1), refused);
  assert.throws(() => ring.waitCqesMinTimeout(1, SHORT, 1), refused);
  assert.equal(ring.waitCqesMinTimeout(1, SHORT, 0), null);
});

/** `io_uring_enter2` with a time of our own making; its result. */
function enterUntil(ring: Ring, count: number, time: bigint, flags: number): number {
  const arg = new Uint8Array(new ArrayBuffer(io_uring_getevents_arg.size));
  const at = BigInt64Array.of(time / 1_000_000_000n, time % 1_000_000_000n);
  new DataView(arg.buffer).setBigUint64(io_uring_getevents_arg.ts, BigInt(addressOf(at)), true);
  try {
    return ring.enter(0, count, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | flags, arg);
  } catch (error) {
    return at.length === 2 ? (error as { errno: number }).errno : 0;
  }
}

const noClock = kernelHas("6.12") ? false : "needs Linux 6.12";

for (
  const [clock, id] of [["the default clock", null], ["CLOCK_MONOTONIC", CLOCK_MONOTONIC], [
    "CLOCK_BOOTTIME",
    CLOCK_BOOTTIME,
  ]] as const
) {
  test(`liburing wait-timeout: ${clock}: spans and points of time`, { skip: noClock }, () => {
    using ring = makeRing(8);
    if (id !== null) ring.registerClock(id);
    const now = (): bigint => {
      const time = new BigInt64Array(new ArrayBuffer(16));
      system().rare.clock_gettime(id ?? CLOCK_MONOTONIC, new Uint8Array(time.buffer));
      return time[0]! * 1_000_000_000n + time[1]!;
    };
    for (const absolute of [false, true]) {
      const flags = absolute ? IORING_ENTER_ABS_TIMER : 0;
      const after = (span: bigint): bigint => absolute ? now() + span : span;
      assert.equal(enterUntil(ring, 0, after(0n), flags), 0, "nothing is waited for");
      const start = now();
      assert.equal(enterUntil(ring, 1, after(5_000_000n), flags), ETIME);
      assert.ok(now() - start >= 5_000_000n);
      // A point that is long past is not waited for.
      if (absolute) assert.equal(enterUntil(ring, 1, 1n, flags), ETIME);
      entry(ring, 1, (sqe) => sqe.prepNop());
      ring.submit();
      assert.equal(enterUntil(ring, 1, after(600_000_000_000n), flags), 0);
      ring.cqAdvance(1);
    }
  });
}

test("liburing wait-timeout: a clock that is none is refused", { skip: noClock }, () => {
  using ring = makeRing(8);
  assert.throws(() => ring.register(IORING_REGISTER_CLOCK, null, 0), { syscall: "io_uring_register" });
  assert.throws(() => ring.registerClock(-1), { code: "EINVAL" });
  ring.registerClock(CLOCK_MONOTONIC);
  ring.registerClock(CLOCK_BOOTTIME);
});

/** Why programs cannot be run in a time of their own, or `false`. */
function missingTimeNamespace(): string | false {
  const own = ["--user", "--map-root-user", "--time", "--monotonic", "-10", "--fork"];
  const found = spawnSync("unshare", [...own, "true"], { encoding: "utf8" });
  if (found.error !== undefined) return "unshare is not installed";
  return found.status === 0 ? false : `no time namespace: ${found.stderr.trim().split("\n")[0]}`;
}

/** Nanoseconds until points a third of a second away were reached, by a timeout and by a wait. */
async function absoluteWaits(prefix: readonly string[]): Promise<number[]> {
  const said = await output(fixture("ring_exit.ts"), ["absolute"], { prefix });
  return [...said.matchAll(/^(\d+)/gm)].map(([digits]) => Number(digits));
}

test("liburing timens-abs-timer: points of time are those of the program's own clock", {
  skip: noClock,
}, async () => {
  for (const elapsed of await absoluteWaits([])) assert.ok(elapsed >= 333e6 && elapsed < 60e9, `${elapsed}`);
});

test(
  "liburing timens-abs-timer: in a time namespace the kernel takes both for the same clock, or both for its own",
  {
    skip: firstReason(noClock, missingTimeNamespace()),
  },
  async () => {
    const prefix = ["unshare", "--user", "--map-root-user", "--time", "--monotonic", "-10", "--fork"];
    const [timeout, wait] = await absoluteWaits(prefix) as [number, number];
    // Kernels that forget the namespace take a point of a clock that is ten seconds behind for long past.
    assert.ok(timeout < 60e9 && wait < 60e9);
    assert.equal(timeout >= 333e6, wait >= 333e6);
  },
);

const SQPOLL = { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 20 };

test("liburing sqwait: waiting for room with a kernel thread always makes some", {
  skip: missingRing(SQPOLL),
}, () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(8192));
  using file = openDirect(dir.of("file"));
  using memory = Mapping.anonymous(256 * 4096);
  using ring = makeRing(8, SQPOLL);
  let inFlight = 0;
  for (let i = 0; i < 3000; i++) {
    let sqe = ring.getSqe();
    if (sqe === null) {
      ring.sqringWait();
      sqe = ring.getSqe();
    }
    assert.ok(sqe, "there is no room after waiting for it");
    sqe.prepRead(file.fd, memory.address + i % 256 * 4096, 4096, 0);
    // Eight at a time fill the queue.
    if (i % 8 === 7) ring.submit();
    inFlight++;
    while (i % 8 === 7 && inFlight >= 128) {
      assert.equal(ring.waitCqe().res, 4096);
      ring.cqAdvance(1);
      inFlight--;
    }
  }
  assert.equal(reap(ring, inFlight).every(({ res }) => res === 4096), true);
});

const DEFER = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
const noDefer = KINDS.find(({ name }) => name === "DEFER_TASKRUN")!.skip;

test(
  "liburing defer-taskrun: an eventfd tells of work that waits, which is then fetched",
  { skip: noDefer },
  () => {
    using ring = makeRing(8, { flags: DEFER });
    using told = new EventFd();
    using polled = new Pipe();
    ring.registerEventfd(told.fd);
    assert.equal(told.take(), 0);
    entry(ring, 1, (sqe) => sqe.prepPollAdd(polled.reader.fd, POLLIN));
    ring.submit();
    assert.equal(told.take(), 0, "the poll has not ended");
    entry(ring, 2, (sqe) => sqe.prepNop());
    ring.submit();
    assert.equal(told.take(), 1);
    const cqe = ring.peekCqe()!;
    assert.deepEqual([cqe.userData, cqe.res], [2, 0]);
    ring.cqeSeen(cqe);
    polled.write("x");
    eventually(() => told.take() === 1, "the eventfd is signalled");
    assert.equal(ring.cqReady(), 0, "not before it is asked for");
    ring.getEvents();
    assert.deepEqual(names(ring), [1]);
  },
);

test("liburing defer-taskrun: the ring's flags tell of work that waits, and peeking fetches it", {
  skip: noDefer,
}, () => {
  using ring = makeRing(8, { flags: DEFER | IORING_SETUP_TASKRUN_FLAG });
  using pipe = new Pipe();
  entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
  ring.submit();
  pipe.write("x");
  eventually(() => ring.cqNeedsEnter(), "the flag is set");
  assert.equal(ring.cqReady(), 0);
  assert.equal(ring.peekCqe()!.userData, 1);
  assert.equal(ring.cqNeedsEnter(), false);
  ring.cqAdvance(1);
});

test("liburing defer-taskrun: a drained write uses the vectors as they were", { skip: noDefer }, () => {
  using ring = makeRing(8, { flags: DEFER | IORING_SETUP_TASKRUN_FLAG });
  using pair = Connection.unix();
  const pieces = Array.from({ length: 128 }, (_, i) => blockOf(String.fromCharCode(32 + i % 90)));
  const vectors = iovecs(pieces);
  entry(ring, 1, (sqe) => {
    sqe.prepWritev(pair.b.fd, vectors.address, 128, 0);
    sqe.flags = IOSQE_IO_DRAIN;
  });
  ring.submit();
  vectors.bytes.fill(0);
  assert.equal(ring.waitCqe().res, 128);
  ring.cqAdvance(1);
});

test("liburing defer-taskrun: closing a ring whose work waits to be fetched", { skip: noDefer }, () => {
  for (let i = 0; i < 20; i++) {
    using pipe = new Pipe();
    using ring = makeRing(8, { flags: DEFER | IORING_SETUP_TASKRUN_FLAG });
    entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
    ring.submit();
    pipe.write("x");
    assert.equal(ring.cqReady(), 0);
  }
  sleep(1);
});

test(
  "liburing defer-taskrun: becoming another program with a read in flight",
  { skip: noDefer },
  async () => {
    assert.match(await output(fixture("ring_exit.ts"), ["exec"]), /^becomes true\n$/);
  },
);
