/** Twins of liburing's programs about entering the kernel: who may, with what, and what may change after it. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import {
  IORING_ENTER_GETEVENTS,
  IORING_ENTER_NO_IOWAIT,
  IORING_ENTER_SQ_WAKEUP,
  IORING_FEAT_SUBMIT_STABLE,
  IORING_REGISTER_ENABLE_RINGS,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_NO_SQARRAY,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  O_RDONLY,
  POSIX_FADV_DONTNEED,
  type Ring,
} from "../../src/ring/mod.ts";
import { setupRing } from "../../src/ring/setup.ts";
import { RingWaits } from "../../src/ring/waits.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { io_sqring_offsets, io_uring_params } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import { assertContent, content } from "../support/content.ts";
import { EventFd, Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { OldKernel } from "../support/old_kernel.ts";
import { block, entry, forEachKind, iovecs, makeRing, missingRing, once, reap } from "../support/rings.ts";
import { EnterThread } from "../support/threads.ts";

checkLeaks();

const EBADF = -9;
const EEXIST = -17;
const EINVAL = -22;
const EOPNOTSUPP = -95;
const SHORT = { sec: 0, nsec: 2_000_000 };

test("liburing io_uring_enter: a bad descriptor or flag is refused, and nothing is done for nothing", () => {
  using ring = makeRing(8);
  using eventfd = new EventFd();
  const { enter } = system();
  assert.equal(enter(ring.fd, 1, 0, 0xffff_ffff), EINVAL);
  assert.equal(enter(-1, 0, 0, 0), EBADF);
  assert.equal(enter(eventfd.fd, 0, 0, 0), EOPNOTSUPP);
  assert.equal(enter(ring.fd, 0, 0, 0), 0);
  assert.throws(() => ring.enter(1, 0, 0x4000_0000), { code: "EINVAL", syscall: "io_uring_enter" });
  assert.equal(ring.enter(0, 0, 0), 0);
});

forEachKind(({ name, options, skip }) => {
  const sqpoll = ((options.flags ?? 0) & IORING_SETUP_SQPOLL) !== 0;

  test(
    `liburing io_uring_enter: ${name}: waits for as many as it is told, of a whole queue`,
    { skip },
    () => {
      using dir = new TempDir();
      writeFileSync(dir.of("file"), content(64 * 4096));
      using file = Fd.open(dir.of("file"), O_RDONLY);
      using ring = makeRing(64, options);
      const buffers = Array.from({ length: 64 }, (_, i) => {
        const buffer = block(4096);
        const vector = iovecs([buffer]);
        entry(ring, i, (sqe) => sqe.prepReadv(file.fd, vector.address, 1, i * 4096));
        return buffer;
      });
      // More than there are is no mistake.
      const wake = sqpoll ? IORING_ENTER_SQ_WAKEUP : 0;
      const submitted = ring.enter(64, 0, wake);
      if (!sqpoll) assert.equal(submitted, 64);
      assert.equal(ring.enter(0, 64, IORING_ENTER_GETEVENTS), 0);
      assert.equal(ring.cqReady(), 64);
      for (const { userData, res } of reap(ring, 64)) {
        assert.equal(res, 4096);
        assertContent(buffers[userData]!.bytes, 4096, userData * 4096);
      }
    },
  );

  test(
    `liburing submit-and-wait: ${name}: more are waited for than will come, until time is up`,
    { skip },
    () => {
      using ring = makeRing(8, options);
      entry(ring, 1, (sqe) => sqe.prepNop());
      const submitted = ring.submitAndWaitTimeout(2, SHORT);
      if (!sqpoll) assert.equal(submitted, 1);
      assert.deepEqual(reap(ring, 1), [{ userData: 1, res: 0, flags: 0 }]);
      assert.equal(ring.cqReady(), 0);
    },
  );

  for (const [how, flags] of [["", 0], [" in a worker thread", IOSQE_ASYNC]] as const) {
    test(`liburing submit-reuse: ${name}: vectors may change once they are submitted${how}`, { skip }, () => {
      using dir = new TempDir();
      writeFileSync(dir.of("file"), content(32768));
      using file = Fd.open(dir.of("file"), O_RDONLY);
      using ring = makeRing(32, options);
      assert.ok((ring.features & IORING_FEAT_SUBMIT_STABLE) !== 0);
      for (let round = 0; round < 40; round++) {
        // Out of the page cache, so that reading does not end at once.
        system().rare.posix_fadvise(file.fd, 0, 0, POSIX_FADV_DONTNEED);
        const parts = round % 2 === 0 ? 16 : 1;
        const buffer = block(32768);
        const size = 32768 / parts;
        const pieces = Array.from({ length: parts }, (_, i) => ({
          address: buffer.address + i * size,
          bytes: buffer.bytes.subarray(i * size, (i + 1) * size),
          view: buffer.view,
        }));
        const vectors = iovecs(pieces);
        entry(ring, round, (sqe) => {
          sqe.prepReadv(file.fd, vectors.address, parts, 0);
          sqe.flags = flags;
        });
        ring.submit();
        // A kernel thread reads the vectors when it takes the entry.
        while (ring.sqReady() > 0) ring.getEvents();
        vectors.bytes.fill(0);
        assert.equal(reap(ring, 1)[0]!.res, 32768);
        assertContent(buffer.bytes, 32768, 0);
      }
    });
  }
});

/** A queue whose array of indices can hold what it should not. */
class BadArray extends RingWaits {
  readonly #parts;

  constructor() {
    const parts = setupRing(4, {});
    super(parts);
    this.#parts = parts;
  }

  spoil(): void {
    const { params, sqRing } = this.#parts;
    const at = params.getUint32(io_uring_params.sq_off + io_sqring_offsets.array, true) >> 2;
    new Int32Array(sqRing.buffer).fill(5, at, at + 4);
  }

  close(): void {
    system().close(this.#parts.fd);
    this.#parts.sqRing.unmap();
    this.#parts.sqes.unmap();
  }
}

test("liburing io_uring_enter: an index beyond the queue is counted as dropped", () => {
  const queue = new BadArray();
  try {
    assert.equal(queue.sqDropped(), 0);
    queue.spoil();
    queue.getSqe()!.prepNop();
    queue.enter(1, 0, 0);
    assert.equal(queue.sqDropped(), 1);
    assert.equal(queue.cqReady(), 0);
  } finally {
    queue.close();
  }
});

type ThreadCall = "enable" | { readonly toSubmit: number; readonly flags?: number };

/** What another thread gets from the calls it makes on a ring, one after the other. */
async function elsewhere(ring: Ring, ...calls: ThreadCall[]): Promise<number[]> {
  const thread = await EnterThread.start();
  const results: number[] = [];
  for (const call of calls) {
    results.push(
      await (call === "enable"
        ? thread.register({ fd: ring.fd, opcode: IORING_REGISTER_ENABLE_RINGS, times: 1 })
        : thread.enter({ minComplete: 0, flags: 0, ...call, fd: ring.fd })),
    );
  }
  await thread.end();
  return results;
}

/** Shows the kernel a NOP without submitting it. */
function publish(ring: Ring): void {
  entry(ring, 42, (sqe) => sqe.prepNop());
  assert.equal(ring.enter(0, 0, 0), 0);
}

const SINGLE = IORING_SETUP_SINGLE_ISSUER;
const noSingle = missingRing({ flags: SINGLE });

test(
  "liburing single-issuer: who made the ring may submit, and nobody else",
  { skip: noSingle },
  async () => {
    using ring = makeRing(8, { flags: SINGLE });
    assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
    publish(ring);
    assert.deepEqual(await elsewhere(ring, { toSubmit: 1 }), [EEXIST]);
    assert.equal(reap(ring, 1)[0]!.userData, 42);
  },
);

test("liburing single-issuer: a disabled ring belongs to who enables it", { skip: noSingle }, async () => {
  {
    using ring = makeRing(8, { flags: SINGLE | IORING_SETUP_R_DISABLED });
    ring.enableRings();
    publish(ring);
    assert.deepEqual(await elsewhere(ring, { toSubmit: 1 }), [EEXIST]);
    reap(ring, 1);
  }
  using ring = makeRing(8, { flags: SINGLE | IORING_SETUP_R_DISABLED });
  entry(ring, 42, (sqe) => sqe.prepNop());
  assert.throws(() => ring.submit(), { code: "EBADFD" });
  // The entry was published all the same.
  assert.deepEqual(await elsewhere(ring, "enable", { toSubmit: 1 }), [0, 1]);
  entry(ring, 43, (sqe) => sqe.prepNop());
  assert.throws(() => ring.submit(), { code: "EEXIST" });
});

test(
  "liburing single-issuer: with a kernel thread it is that which submits",
  { skip: noSingle },
  async () => {
    using ring = makeRing(8, { flags: SINGLE | IORING_SETUP_SQPOLL, sqThreadIdle: 5 });
    assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
    entry(ring, 42, (sqe) => sqe.prepNop());
    ring.enter(0, 0, 0);
    assert.deepEqual(await elsewhere(ring, { toSubmit: 1, flags: IORING_ENTER_SQ_WAKEUP }), [1]);
    assert.equal(reap(ring, 1)[0]!.userData, 42);
  },
);

const DEFER = SINGLE | IORING_SETUP_DEFER_TASKRUN;

test("liburing defer-taskrun: only the thread that the ring belongs to fetches its completions", {
  skip: missingRing({ flags: DEFER }),
}, async () => {
  using ring = makeRing(8, { flags: DEFER | IORING_SETUP_R_DISABLED });
  assert.throws(() => ring.getEvents(), { code: "EBADFD" });
  using eventfd = new EventFd();
  const buffer = block(8);
  entry(ring, 1, (sqe) => sqe.prepRead(eventfd.fd, buffer.address, 8, 0));
  assert.throws(() => ring.submit(), { code: "EBADFD" });
  assert.deepEqual(await elsewhere(ring, "enable", { toSubmit: 1 }), [0, 1]);
  assert.throws(() => ring.getEvents(), { code: "EEXIST" });
  const one = new Uint8Array(new ArrayBuffer(8));
  one[0] = 1;
  system().write(eventfd.fd, one, 8);
  // The operation ended with its thread, or is owed to it: this one does not get to wait for it.
  if (ring.cqReady() === 0) assert.throws(() => ring.waitCqe(), { code: "EEXIST" });
});

/** The flags of every enter while `body` runs. */
function entersOf(body: () => void): number[] {
  const seen: number[] = [];
  const calls = system() as unknown as Record<"enter" | "enterArg", (...args: number[]) => number>;
  const { enter, enterArg } = calls;
  const spy = (real: (...args: number[]) => number) => (...args: number[]): number => {
    seen.push(args[3]!);
    return real(...args);
  };
  calls.enter = spy(enter);
  calls.enterArg = spy(enterArg);
  try {
    body();
  } finally {
    calls.enter = enter;
    calls.enterArg = enterArg;
  }
  return seen;
}

const noIowait = kernelHas("6.15") ? false : "needs Linux 6.15";

test("liburing iowait: waiting counts as waiting for I/O, or does not", { skip: noIowait }, () => {
  using ring = makeRing(8);
  using pipe = new Pipe();
  const wait = (): boolean[] =>
    entersOf(() => {
      entry(ring, 1, (sqe) => sqe.prepPollAdd(pipe.reader.fd, 1));
      ring.submit();
      assert.equal(ring.waitCqeTimeout(SHORT), null);
      pipe.write("x");
      assert.equal(ring.waitCqe().userData, 1);
      ring.cqAdvance(1);
      pipe.read();
    }).map((flags) => (flags & IORING_ENTER_NO_IOWAIT) !== 0);
  assert.ok(wait().every((no) => !no));
  ring.setIowait(false);
  const without = wait();
  assert.ok(without.length >= 2 && without.every((no) => no));
  ring.setIowait(true);
  assert.ok(wait().every((no) => !no));
});

test("setIowait on a kernel before 6.15", () => {
  using _old = new OldKernel("6.14");
  using ring = makeRing(4);
  for (const enabled of [true, false]) {
    assert.throws(() => ring.setIowait(enabled), {
      code: "ENOTSUP",
      syscall: "io_uring_set_iowait",
      message: /IORING_ENTER_NO_IOWAIT needs Linux 6\.15/,
    });
  }
});

test("enter hands its argument on", () => {
  using ring = makeRing(4, { flags: IORING_SETUP_NO_SQARRAY });
  entry(ring, 1, (sqe) => sqe.prepNop());
  // A set of signals, empty: none is blocked while waiting.
  assert.equal(ring.enter(1, 1, IORING_ENTER_GETEVENTS, new Uint8Array(new ArrayBuffer(8))), 1);
  reap(ring, 1);
  assert.throws(() => ring.enter(0, 1, IORING_ENTER_GETEVENTS, new Uint8Array(new ArrayBuffer(7))), {
    code: "EINVAL",
  });
  ring.close();
  assert.throws(() => ring.enter(0, 0, 0), { name: "TypeError", message: "The ring is closed" });
});
