/** What a ring is made of, and what is refused before or by `io_uring_setup`; a failure leaves no descriptor behind. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import {
  IORING_SETUP_ATTACH_WQ,
  IORING_SETUP_CLAMP,
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_CQE32,
  IORING_SETUP_CQE_MIXED,
  IORING_SETUP_CQSIZE,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_HYBRID_IOPOLL,
  IORING_SETUP_NO_MMAP,
  IORING_SETUP_REGISTERED_FD_ONLY,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQ_AFF,
  IORING_SETUP_SQ_REWIND,
  IORING_SETUP_SQE128,
  IORING_SETUP_SQE_MIXED,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_TASKRUN_FLAG,
  O_RDONLY,
  Ring,
  type RingOptions,
  UringError,
} from "../../src/ring/mod.ts";
import { cString } from "../../src/ffi/cstring.ts";
import { check } from "../../src/ffi/errors.ts";
import { system } from "../../src/ffi/system.ts";
import { EventFd, isMapped, openRings } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { forEachKind, makeRing } from "../support/rings.ts";

checkLeaks();

/** Each is refused by the library, which names what is wrong. */
function refuses(entries: unknown, options: unknown, message: RegExp): void {
  const before = openRings();
  assert.throws(() => new Ring(entries as number, options as RingOptions), (error: unknown) => {
    assert.ok(error instanceof RangeError, String(error));
    assert.match(error.message, message);
    return true;
  });
  assert.equal(openRings(), before);
}

test("entries must be a whole number that the kernel can give", () => {
  const wrong = [0, 1.5, -1, 2 ** 33, NaN, Infinity, -0.5, 32769, "8", null, undefined, 8n, [8]];
  for (const entries of wrong) refuses(entries, {}, /^entries must be an integer from 1 to 32768, not /);
});

test("CLAMP lets the kernel cut entries down", () => {
  for (const entries of [0, 1.5, -1, 2 ** 33, NaN]) {
    refuses(entries, { flags: IORING_SETUP_CLAMP }, /^entries must be an integer from 1 to 4294967295/);
  }
  using ring = makeRing(100_000, { flags: IORING_SETUP_CLAMP });
  assert.equal(ring.sqEntries, 32768);
  assert.equal(ring.cqEntries, 65536);
});

test("flags must be known bits", () => {
  for (const flags of [-1, 0.5, 2 ** 32, NaN, "1", 1n]) {
    refuses(4, { flags }, /^flags must be IORING_SETUP_\* bits/);
  }
  refuses(4, { flags: 0x8000_0000 }, /^Unknown setup flags: 0x80000000$/);
});

test("flags that contradict each other are refused by name", () => {
  const cases: [number, RegExp][] = [
    [IORING_SETUP_DEFER_TASKRUN, /DEFER_TASKRUN needs IORING_SETUP_SINGLE_ISSUER/],
    [
      IORING_SETUP_SQPOLL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
      /SQPOLL excludes .*DEFER/,
    ],
    [IORING_SETUP_SQPOLL | IORING_SETUP_COOP_TASKRUN, /SQPOLL excludes IORING_SETUP_COOP_TASKRUN/],
    [IORING_SETUP_TASKRUN_FLAG, /TASKRUN_FLAG needs IORING_SETUP_COOP_TASKRUN or IORING_SETUP_DEFER_TASKRUN/],
    [IORING_SETUP_HYBRID_IOPOLL, /HYBRID_IOPOLL needs IORING_SETUP_IOPOLL/],
    [IORING_SETUP_REGISTERED_FD_ONLY, /REGISTERED_FD_ONLY needs IORING_SETUP_NO_MMAP/],
    [IORING_SETUP_CQE_MIXED | IORING_SETUP_CQE32, /CQE_MIXED excludes IORING_SETUP_CQE32/],
    [IORING_SETUP_SQ_AFF, /SQ_AFF needs IORING_SETUP_SQPOLL/],
    [IORING_SETUP_CQSIZE, /CQSIZE needs cqEntries/],
    [IORING_SETUP_ATTACH_WQ, /ATTACH_WQ needs wqFd/],
    [IORING_SETUP_SQE_MIXED | IORING_SETUP_SQE128, /SQE_MIXED excludes IORING_SETUP_SQE128/],
    [IORING_SETUP_SQ_REWIND | IORING_SETUP_SQPOLL, /SQ_REWIND excludes IORING_SETUP_SQPOLL/],
  ];
  for (const [flags, message] of cases) refuses(4, { flags }, message);
});

test("options must be in range", () => {
  for (const cqEntries of [0, -1, 1.5, NaN, 65537, "8"]) refuses(4, { cqEntries }, /^cqEntries must be/);
  refuses(16, { cqEntries: 8 }, /^cqEntries \(8\) must not be below entries \(16\)$/);
  for (const wqFd of [-1, 0.5, 2 ** 31, NaN]) refuses(4, { wqFd }, /^wqFd must be a descriptor/);
  const flags = IORING_SETUP_SQPOLL;
  for (const sqThreadCpu of [-1, 0.5, 2 ** 16]) refuses(4, { flags, sqThreadCpu }, /^sqThreadCpu must be/);
  for (const sqThreadIdle of [-1, 0.5, 2 ** 32]) refuses(4, { flags, sqThreadIdle }, /^sqThreadIdle must be/);
  refuses(4, { sqThreadCpu: 0 }, /SQ_AFF needs IORING_SETUP_SQPOLL/);
});

/** What the library cannot know is refused by the kernel. */
function kernelRefuses(options: RingOptions, code: string): void {
  const before = openRings();
  assert.throws(() => new Ring(4, options), (error: unknown) => {
    assert.ok(error instanceof UringError, String(error));
    assert.equal(error.code, code);
    assert.equal(error.syscall, "io_uring_setup");
    return true;
  });
  assert.equal(openRings(), before);
}

test("ATTACH_WQ needs the descriptor of a ring", () => {
  kernelRefuses({ wqFd: 1_000_000 }, "ENXIO");
  using eventfd = new EventFd();
  kernelRefuses({ wqFd: eventfd.fd }, "EINVAL");
});

test("SQ_AFF needs a processor that is there", () => {
  kernelRefuses({ flags: IORING_SETUP_SQPOLL, sqThreadCpu: 0xffff }, "EINVAL");
});

/** The kernel's limit on descriptors; so many are opened by one test. */
const limit = Number(/^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1]);
const MOST_OPENED = 100_000;
const unlimited = limit <= MOST_OPENED ? false : `the limit on descriptors is ${limit}`;

test("a ring for which no descriptor is left says EMFILE", { skip: unlimited }, () => {
  const fds: number[] = [];
  try {
    const name = cString("/dev/null");
    for (;;) {
      const fd = system().rare.open(name, O_RDONLY, 0);
      if (fd < 0) break;
      fds.push(fd);
    }
    assert.throws(() => new Ring(4), { code: "EMFILE", syscall: "io_uring_setup" });
    assert.throws(() => new Ring(4, { flags: IORING_SETUP_NO_MMAP }), { code: "EMFILE" });
  } finally {
    for (const fd of fds) system().close(fd);
  }
});

test("sizes are rounded up to powers of two, the completion queue's to twice as many", () => {
  for (const [asked, entries] of [[1, 1], [2, 2], [3, 4], [5, 8], [100, 128], [129, 256]] as const) {
    using ring = makeRing(asked);
    assert.equal(ring.sqEntries, entries);
    assert.equal(ring.cqEntries, 2 * entries);
    assert.equal(ring.sqSpaceLeft(), entries);
  }
});

test("cqEntries are honoured and rounded up", () => {
  for (const [asked, entries] of [[4, 4], [5, 8], [100, 128], [4096, 4096]] as const) {
    using ring = makeRing(4, { cqEntries: asked });
    assert.equal(ring.sqEntries, 4);
    assert.equal(ring.cqEntries, entries);
    assert.equal(ring.flags, IORING_SETUP_CQSIZE);
  }
});

test("the options imply their flags", () => {
  using first = makeRing(2);
  assert.equal(first.flags, 0);
  using attached = makeRing(2, { wqFd: first.fd });
  assert.equal(attached.flags, IORING_SETUP_ATTACH_WQ);
});

forEachKind(({ name, options, skip }) => {
  test(`${name}: has what was asked for, and gives everything back`, { skip }, () => {
    const before = openRings();
    const ring = makeRing(10, options);
    assert.equal(ring.sqEntries, 16);
    assert.equal(ring.cqEntries, 32);
    assert.equal(ring.flags, options.flags);
    assert.ok(ring.features > 0);
    assert.equal(ring.closed, false);
    const sqe = ring.getSqe()!;
    const address = system().address(sqe.bytes);
    assert.ok(isMapped(address));
    ring.close();
    assert.equal(isMapped(address), false);
    assert.equal(ring.closed, true);
    assert.equal(ring.fd, -1);
    assert.equal(openRings(), before);
  });
});

test("io_uring_enter refuses a descriptor that is no ring, and unknown flags", () => {
  using eventfd = new EventFd();
  using ring = makeRing(2);
  const { enter } = system();
  assert.throws(() => check(enter(eventfd.fd, 1, 0, 0), "io_uring_enter"), { errno: -95 });
  assert.throws(() => check(enter(1_000_000, 1, 0, 0), "io_uring_enter"), { code: "EBADF" });
  assert.throws(() => check(enter(ring.fd, 0, 0, 0x4000_0000), "io_uring_enter"), { code: "EINVAL" });
  // More than what is queued submits what is there.
  assert.equal(enter(ring.fd, 100, 0, 0), 0);
});

test("io_uring_register refuses an opcode that is none", () => {
  using ring = makeRing(2);
  assert.throws(() => ring.register(0x7fff, null, 0), {
    name: "UringError",
    code: "EINVAL",
    syscall: "io_uring_register",
    message: "EINVAL: invalid argument, io_uring_register (IORING_REGISTER_32767)",
  });
});
