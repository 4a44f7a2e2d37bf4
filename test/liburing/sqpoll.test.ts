/** Twins of liburing's programs about kernel threads that submit, and about reading what the kernel tells of rings. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import {
  AT_FDCWD,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SQPOLL,
  IORING_SQ_NEED_WAKEUP,
  IOSQE_FIXED_FILE,
  Mapping,
  O_CLOEXEC,
  O_RDONLY,
  O_WRONLY,
  POLLIN,
  Ring,
  type RingOptions,
} from "../../src/ring/mod.ts";
import { content } from "../support/content.ts";
import { EventFd, Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { fixture, output } from "../support/program.ts";
import {
  block,
  blockOf,
  entry,
  eventually,
  iovecs,
  KINDS,
  makeRing,
  missingRing,
  once,
  path,
  reap,
  sleep,
} from "../support/rings.ts";

checkLeaks();

const SQPOLL: RingOptions = { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 5 };
const skip = missingRing(SQPOLL);

/** How many threads of the kernel's submit for this process. */
function submitters(): number {
  return readdirSync("/proc/self/task").filter((task) => {
    try {
      return readFileSync(`/proc/self/task/${task}/comm`, "utf8").startsWith("iou-sqp-");
    } catch {
      return false;
    }
  }).length;
}

/** Reads blocks of a file on several rings at once, and waits for all. */
function readAll(file: Fd, rings: readonly Ring[], memory: Mapping): void {
  for (const ring of rings) {
    for (let i = 0; i < 64; i++) {
      entry(ring, i, (sqe) => sqe.prepRead(file.fd, memory.address + i * 4096, 4096, i * 4096));
    }
    ring.submit();
  }
  for (const ring of rings) assert.ok(reap(ring, 64).every(({ res }) => res === 4096));
}

test("liburing sq-poll-share: four rings share a kernel thread", { skip }, () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(64 * 4096));
  using file = Fd.open(dir.of("file"), O_RDONLY);
  using memory = Mapping.anonymous(64 * 4096);
  eventually(() => submitters() === 0, "earlier threads have ended");
  using first = makeRing(64, SQPOLL);
  using second = makeRing(64, { ...SQPOLL, wqFd: first.fd });
  using third = makeRing(64, { ...SQPOLL, wqFd: first.fd });
  using fourth = makeRing(64, { ...SQPOLL, wqFd: first.fd });
  // It takes its name a moment after it was made.
  eventually(() => submitters() === 1, "one thread works for all");
  for (let round = 0; round < 8; round++) readAll(file, [first, second, third, fourth], memory);
  assert.equal(submitters(), 1);
});

for (const closes of [false, true]) {
  test(
    `liburing sq-poll-dup: the ring that the others share with ${closes ? "closes" : "keeps"} its descriptor`,
    {
      skip,
    },
    () => {
      using dir = new TempDir();
      writeFileSync(dir.of("file"), content(64 * 4096));
      using file = Fd.open(dir.of("file"), O_RDONLY);
      using memory = Mapping.anonymous(64 * 4096);
      using first = makeRing(64, SQPOLL);
      using second = makeRing(64, { ...SQPOLL, wqFd: first.fd });
      using third = makeRing(64, { ...SQPOLL, wqFd: first.fd });
      readAll(file, [first, second, third], memory);
      // Another way to the same ring.
      first.registerRingFd();
      if (closes) first.closeRingFd();
      readAll(file, [second, third], memory);
      readAll(file, [first], memory);
      // Long enough for the thread to fall asleep: it is woken through the other way.
      sleep(30);
      readAll(file, [first], memory);
      first.close();
      readAll(file, [second, third], memory);
    },
  );
}

test("liburing sq-poll-kthread: the kernel thread ends with its ring", { skip }, () => {
  eventually(() => submitters() === 0, "earlier threads have ended");
  using pipe = new Pipe();
  {
    using ring = makeRing(16, SQPOLL);
    eventually(() => submitters() === 1, "the thread is there");
    ring.registerFiles([pipe.writer.fd]);
    const vector = iovecs([blockOf("x".repeat(128))]);
    const { res } = once(ring, (sqe) => {
      sqe.prepWritev(0, vector.address, 1, 0);
      sqe.flags = IOSQE_FIXED_FILE;
    });
    assert.equal(res, 128);
  }
  eventually(() => submitters() === 0, "the thread has ended");
});

test("liburing sq-poll-kthread: a program with a kernel thread ends", { skip }, async () => {
  assert.equal(await output(fixture("ring_exit.ts"), ["sqpoll"]), "done\n");
});

test("liburing sqpoll-disable-exit: a ring that was never enabled goes", { skip }, async () => {
  for (let i = 0; i < 5; i++) makeRing(4, { flags: IORING_SETUP_SQPOLL | IORING_SETUP_R_DISABLED }).close();
  eventually(() => submitters() === 0, "the threads have ended");
  assert.equal(await output(fixture("ring_exit.ts"), ["disabled"]), "done\n");
});

test("liburing sqpoll-exit-hang: a program whose ring polls itself ends", { skip }, async () => {
  assert.equal(await output(fixture("ring_exit.ts"), ["poll-self"]), "done\n");
});

test("liburing sqpoll-exec: a program that was closed can be run", { skip }, () => {
  using dir = new TempDir();
  // Where it is one of many in a single program, its name says which.
  const program = dir.of("true");
  copyFileSync("/bin/true", program);
  chmodSync(program, 0o755);
  using ring = makeRing(8, SQPOLL);
  const name = path(program);
  for (let i = 0; i < 20; i++) {
    const fd = once(ring, (sqe) => sqe.prepOpenat(AT_FDCWD, name, O_WRONLY | O_CLOEXEC, 0)).res;
    assert.ok(fd > 0);
    assert.equal(once(ring, (sqe) => sqe.prepClose(fd)).res, 0);
    // ETXTBSY, were it still open for writing.
    const { status, error } = spawnSync(program, [], { stdio: "ignore" });
    assert.equal(error, undefined);
    assert.equal(status, 0);
  }
});

/** A ring that tells whether its kernel thread sleeps. */
class WatchedRing extends Ring {
  get asleep(): boolean {
    const { sqWords, sqFlagsAt } = this.layout;
    return (Atomics.load(sqWords, sqFlagsAt) & IORING_SQ_NEED_WAKEUP) !== 0;
  }
}

test("liburing sqpoll-sleep: the kernel thread says when it has fallen asleep", { skip }, () => {
  using ring = new WatchedRing(1, { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 20 });
  for (let i = 0; i < 3; i++) {
    entry(ring, i, (sqe) => sqe.prepNop());
    ring.submit();
    assert.equal(ring.waitCqe().userData, i);
    ring.cqAdvance(1);
    eventually(() => ring.asleep, "it sleeps");
  }
});

/** What the kernel tells of a ring. It tells nothing while the ring's thread works on it. */
function fdinfo(ring: Ring): string {
  for (let i = 0;; i++) {
    const told = readFileSync(`/proc/${process.pid}/fdinfo/${ring.fd}`, "utf8");
    if (told.includes("SqMask") || i === 1000) return told;
    sleep(1);
  }
}

for (const kind of KINDS) {
  if (kind.name === "REGISTERED_FD_ONLY") continue;
  test(
    `liburing fdinfo: ${kind.name}: what the kernel tells of a ring while it works`,
    { skip: kind.skip },
    () => {
      using dir = new TempDir();
      writeFileSync(dir.of("file"), content(64 * 4096));
      using file = Fd.open(dir.of("file"), O_RDONLY);
      using ring = makeRing(64, kind.options);
      ring.registerFiles([file.fd]);
      const buffer = block(4096);
      ring.registerBuffers([{ address: buffer.address, length: 4096 }]);
      for (let round = 0; round < 10; round++) {
        for (let i = 0; i < 64; i++) {
          entry(ring, i, (sqe) => {
            sqe.prepReadFixed(0, buffer.address, 4096, i * 4096, 0);
            sqe.flags = IOSQE_FIXED_FILE;
          });
          if (i % 16 === 0) assert.match(fdinfo(ring), /^SqMask:\s*0x3f$/m);
        }
        ring.submit();
        const told = fdinfo(ring);
        assert.match(told, /^CqMask:\s*0x7f$/m);
        assert.match(told, /^UserFiles:\s*1$/m);
        assert.match(told, /^UserBufs:\s*1$/m);
        assert.ok(reap(ring, 64).every(({ res }) => res === 4096));
      }
    },
  );

  test(`liburing fdinfo: ${kind.name}: while a read of an eventfd waits`, { skip: kind.skip }, () => {
    using eventfd = new EventFd();
    using ring = makeRing(64, kind.options);
    entry(ring, 1, (sqe) => sqe.prepPollAdd(eventfd.fd, POLLIN));
    ring.submit();
    while (ring.sqReady() > 0) ring.getEvents();
    assert.match(fdinfo(ring), /^PollList:\n\s+op=6\b/m);
    const one = blockOf(new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]));
    entry(ring, 2, (sqe) => sqe.prepWrite(eventfd.fd, one.address, 8, 0));
    assert.deepEqual(new Set(reap(ring, 2).map(({ userData }) => userData)), new Set([1, 2]));
  });
}

test("liburing fdinfo-sqpoll: reading it while the kernel thread ends", { skip }, () => {
  for (let i = 0; i < 100; i++) {
    using ring = makeRing(8, { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 1 });
    using info = Fd.open(`/proc/self/fdinfo/${ring.fd}`, O_RDONLY);
    const told = fdinfo(ring);
    assert.match(told, /^SqThread:\s*(-1|\d+)$/m);
    if (i % 2 === 0) ring.close();
    // A descriptor of the file outlives the ring's.
    const bytes = block(4096);
    using other = makeRing(1);
    assert.ok(once(other, (sqe) => sqe.prepRead(info.fd, bytes.address, 4096, 0)).res >= -2);
  }
});
