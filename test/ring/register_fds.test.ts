/** Rings by their registered descriptor, eventfds registered and not, credentials, worker threads. */
import assert from "node:assert/strict";
import { chmodSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import {
  IORING_FEAT_REG_REG_RING,
  IORING_SETUP_NO_MMAP,
  IORING_SETUP_REGISTERED_FD_ONLY,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  IOSQE_IO_LINK,
  O_RDONLY,
  type Ring,
} from "../../src/ring/mod.ts";
import { adapter, system } from "../../src/ffi/system.ts";
import { EventFd, openRings, Pipe, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  block,
  entry,
  eventually,
  forEachKind,
  makeRing,
  missingRing,
  once,
  path,
  reap,
  reapResults,
} from "../support/rings.ts";

checkLeaks();

const EACCES = -13;
const EINVAL = -22;

function missingRegReg(): string | false {
  const ring = makeRing(1);
  const there = (ring.features & IORING_FEAT_REG_REG_RING) !== 0;
  ring.close();
  return there ? false : "needs Linux 6.3";
}
const noRegReg = missingRegReg();

/** Fills the queue with NOPs a few times. */
function runNops(ring: Ring, rounds = 4): void {
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < ring.sqEntries; i++) entry(ring, i, (sqe) => sqe.prepNop());
    assert.equal(ring.submit(), ring.sqEntries);
    assert.equal(reap(ring, ring.sqEntries).length, ring.sqEntries);
  }
}

forEachKind(({ name, options, skip }) => {
  const only = ((options.flags ?? 0) & IORING_SETUP_REGISTERED_FD_ONLY) !== 0;

  test(`liburing reg-reg-ring: ${name}: a ring goes on without its descriptor`, {
    skip: firstReason(skip, noRegReg),
  }, () => {
    const before = openRings();
    using ring = makeRing(8, options);
    if (only) {
      // There never was one.
      assert.equal(ring.registerRingFd(), false);
      assert.throws(() => ring.closeRingFd(), { code: "EBADF", syscall: "io_uring_close_ring_fd" });
      return;
    }
    assert.throws(() => ring.closeRingFd(), { code: "EINVAL" });
    assert.equal(ring.registerRingFd(), true);
    assert.equal(ring.registerRingFd(), false);
    ring.registerIowqMaxWorkers(0, 0);
    assert.equal(openRings(), before + 1);
    ring.closeRingFd();
    assert.equal(ring.fd, -1);
    assert.equal(openRings(), before);
    assert.equal(ring.closed, false);
    const [bounded, unbounded] = ring.registerIowqMaxWorkers(0, 0);
    assert.ok(bounded > 0 && unbounded > 0);
    runNops(ring);
    assert.equal(ring.setupBufRing(4, 1).entries, 4);
    assert.throws(() => ring.closeRingFd(), { code: "EBADF" });
    assert.throws(() => ring.resizeRings(16), /EBADF|EINVAL/);
    ring.close();
    assert.throws(() => ring.closeRingFd(), TypeError);
  });
});

for (const sqpoll of [0, IORING_SETUP_SQPOLL]) {
  const options = { flags: IORING_SETUP_REGISTERED_FD_ONLY | IORING_SETUP_NO_MMAP | sqpoll, sqThreadIdle: 5 };
  test(`liburing reg-fd-only: ${sqpoll === 0 ? "" : "SQPOLL, "}one page and more`, {
    skip: missingRing(options),
  }, () => {
    for (const entries of [16, 512]) {
      using ring = makeRing(entries, options);
      assert.equal(ring.fd, -1);
      assert.equal(ring.registerRingFd(), false);
      assert.throws(() => ring.closeRingFd(), { code: "EBADF" });
      const [bounded, unbounded] = ring.registerIowqMaxWorkers(0, 0);
      assert.ok(bounded > 0 && unbounded > 0);
      runNops(ring);
    }
  });
}

test("liburing eventfd-reg: one at a time, a hundred times", () => {
  using first = new EventFd();
  using second = new EventFd();
  using ring = makeRing(8);
  ring.registerEventfd(first.fd);
  assert.throws(() => ring.registerEventfd(second.fd), { code: "EBUSY", message: /registered already/ });
  assert.throws(() => ring.registerEventfdAsync(second.fd), { code: "EBUSY" });
  ring.unregisterEventfd();
  for (let i = 0; i < 100; i++) {
    ring.registerEventfd(first.fd);
    ring.unregisterEventfd();
  }
  assert.throws(() => ring.unregisterEventfd(), { code: "ENXIO", message: /no eventfd/ });
  ring.registerEventfd(second.fd);
  runNops(ring, 1);
  assert.ok(second.take() > 0);
  assert.equal(first.take(), 0);
});

const notRoot = process.getuid?.() === 0 ? false : "only root can change its credentials";

test("liburing personality: operations with credentials of before", { skip: notRoot }, () => {
  const NOBODY = 65534;
  const { setfsuid } = adapter.open(system().libc, { setfsuid: { result: "i32", args: ["u32"] } });
  using dir = new TempDir();
  chmodSync(dir.path, 0o755);
  writeFileSync(dir.of("secret"), "");
  chmodSync(dir.of("secret"), 0o600);
  const name = path(dir.of("secret"));
  using ring = makeRing(8);
  const id = ring.registerPersonality();
  const open = (personality: number, linked = false): number => {
    if (linked) {
      entry(ring, 1, (sqe) => {
        sqe.prepNop();
        sqe.flags = IOSQE_IO_LINK;
      });
    }
    entry(ring, 2, (sqe) => {
      sqe.prepOpenat(-1, name, O_RDONLY, 0);
      sqe.personality = personality;
    });
    const res = reapResults(ring, linked ? 2 : 1).get(2)!;
    if (res >= 0) system().close(res);
    return res;
  };
  assert.ok(open(0) >= 0);
  setfsuid(NOBODY);
  try {
    assert.equal(open(0), EACCES);
    assert.ok(open(id) >= 0);
    assert.ok(open(id, true) >= 0);
    // As they are now is a personality, too.
    const nobody = ring.registerPersonality();
    assert.notEqual(nobody, id);
    assert.equal(open(nobody), EACCES);
    setfsuid(0);
    assert.equal(open(nobody), EACCES);
    ring.unregisterPersonality(nobody);
    assert.equal(open(nobody), EINVAL);
  } finally {
    setfsuid(0);
  }
  ring.unregisterPersonality(id);
  assert.equal(open(id), EINVAL);
  assert.throws(() => ring.unregisterPersonality(id), { code: "EINVAL", message: /no such personality/ });
});

test("liburing personality: what is none is refused", () => {
  using ring = makeRing(2);
  assert.throws(() => ring.unregisterPersonality(2), { code: "EINVAL" });
  const { res } = once(ring, (sqe) => {
    sqe.prepNop();
    sqe.personality = 2;
  });
  assert.equal(res, EINVAL);
});

/** The processors that this process's threads of that name may run on, as /proc lists them. */
function processorsOf(name: RegExp): string[] {
  const found: string[] = [];
  for (const task of readdirSync("/proc/self/task")) {
    try {
      const status = readFileSync(`/proc/self/task/${task}/status`, "utf8");
      if (!name.test(/^Name:\s*(.*)$/m.exec(status)![1]!)) continue;
      found.push(/^Cpus_allowed_list:\s*(.*)$/m.exec(status)![1]!);
    } catch {
      // It has ended meanwhile.
    }
  }
  return found;
}

const [cpus = ""] = processorsOf(/./);
const oneCpu = /[-,]/.test(cpus) ? false : "needs two processors";
const first = Number(/^\d+/.exec(cpus)?.[0]);
const last = Number(/\d+$/.exec(cpus)?.[0]);

for (const sqpoll of [false, true]) {
  test(`liburing wq-aff: worker threads${sqpoll ? " of SQPOLL" : ""} run where they are told to`, {
    skip: oneCpu,
  }, () => {
    using pipe = new Pipe();
    using ring = makeRing(
      8,
      sqpoll ? { flags: IORING_SETUP_SQPOLL, sqThreadCpu: first, sqThreadIdle: 5 } : {},
    );
    const buffer = block(64);
    // Not where the workers of the test before were.
    const cpu = sqpoll ? last : first;
    ring.registerIowqAff([cpu]);
    entry(ring, 1, (sqe) => {
      sqe.prepRead(pipe.reader.fd, buffer.address, 64, 0);
      sqe.flags = IOSQE_ASYNC;
    });
    ring.submit();
    eventually(
      () => processorsOf(/^iou-wrk/).includes(`${cpu}`),
      `a worker is bound to processor ${cpu}`,
    );
    if (sqpoll) {
      eventually(() => processorsOf(/^iou-sqp/).includes(`${first}`), "the kernel's thread is bound");
    }
    ring.unregisterIowqAff();
    pipe.write("x");
    reap(ring, 1);
  });
}

test("liburing wq-aff: processors that are not there are refused", () => {
  assert.throws(() => makeRing(1, { flags: IORING_SETUP_SQPOLL, sqThreadCpu: 4000 }), { code: "EINVAL" });
  using ring = makeRing(1);
  assert.throws(() => ring.registerIowqAff([-1]), RangeError);
  assert.throws(() => ring.registerIowqAff([0.5]), RangeError);
  assert.throws(() => ring.registerIowqAff([]), RangeError);
  ring.registerIowqAff([first, last]);
  ring.unregisterIowqAff();
});
