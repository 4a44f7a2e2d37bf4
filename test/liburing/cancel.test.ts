/** Twins of liburing's programs about cancelling. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { system } from "../../src/ffi/system.ts";
import {
  IORING_ASYNC_CANCEL_ALL,
  IORING_ASYNC_CANCEL_ANY,
  IORING_ASYNC_CANCEL_FD,
  IORING_ASYNC_CANCEL_FD_FIXED,
  IORING_ASYNC_CANCEL_USERDATA,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  O_DIRECT,
  O_RDWR,
  POLLIN,
  type Ring,
  type Sqe,
} from "../../src/ring/mod.ts";
import { Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  block,
  entry,
  eventually,
  forEachKind,
  iovecs,
  makeRing,
  missingDirect,
  missingRing,
  reap,
  reapResults,
  sleep,
  timespec,
} from "../support/rings.ts";
import { EnterThread, publish } from "../support/threads.ts";

checkLeaks();

const ENOENT = -2;
const EINTR = -4;
const EAGAIN = -11;
const ETIME = -62;
const EALREADY = -114;
const ECANCELED = -125;

const noFd = kernelHas("6.0") ? false : "needs Linux 6.0";
const noUserData = kernelHas("6.6") ? false : "needs Linux 6.6";

function queue(ring: Ring, userData: number, flags: number, prep: (sqe: Sqe) => void): void {
  entry(ring, userData, (sqe) => {
    prep(sqe);
    sqe.flags = flags;
  });
}

const sorted = (results: Map<number, number>): number[][] => [...results].sort(([a], [b]) => a - b);

/** Cancels what has this `user_data` and works on this descriptor. */
function cancelBoth(fd: number, target: number, fixed: boolean): (sqe: Sqe) => void {
  return (sqe) => {
    const flags = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_USERDATA;
    sqe.prepCancel64(target, flags | (fixed ? IORING_ASYNC_CANCEL_FD_FIXED : 0));
    sqe.fd = fd;
  };
}

forEachKind(({ name, options, skip }) => {
  const gate = { skip: firstReason(skip, noUserData, noFd) };

  test(`liburing cancel-fd-userdata: ${name}: by descriptor and user_data at once`, gate, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    for (const fixed of [false, true]) {
      if (fixed) ring.registerFiles([pipe.reader.fd, pipe.writer.fd]);
      const fd = fixed ? 0 : pipe.reader.fd;
      const flags = fixed ? IOSQE_FIXED_FILE : 0;
      for (let i = 1; i <= 4; i++) queue(ring, i, flags, (sqe) => sqe.prepPollAdd(fd, POLLIN));
      ring.submit();
      queue(ring, 100, 0, cancelBoth(fd, 2, fixed));
      assert.deepEqual(sorted(reapResults(ring, 2)), [[2, ECANCELED], [100, 0]]);
      assertQuiet(ring);
      queue(ring, 200, 0, (sqe) => {
        sqe.prepCancel64(
          0,
          IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD | (fixed ? IORING_ASYNC_CANCEL_FD_FIXED : 0),
        );
        sqe.fd = fd;
      });
      assert.deepEqual(sorted(reapResults(ring, 4)), [...[1, 3, 4].map((i) => [i, ECANCELED]), [200, 3]]);
      if (fixed) ring.unregisterFiles();
    }
  });

  test(`liburing cancel-fd-userdata: ${name}: the same user_data on two descriptors`, gate, () => {
    using ring = makeRing(8, options);
    using first = new Pipe();
    using second = new Pipe();
    queue(ring, 1, 0, (sqe) => sqe.prepPollAdd(second.reader.fd, POLLIN));
    queue(ring, 1, 0, (sqe) => sqe.prepPollAdd(first.reader.fd, POLLIN));
    queue(ring, 2, 0, (sqe) => sqe.prepPollAdd(first.reader.fd, POLLIN));
    ring.submit();
    queue(ring, 100, 0, cancelBoth(first.reader.fd, 1, false));
    assert.deepEqual(sorted(reapResults(ring, 2)), [[1, ECANCELED], [100, 0]]);
    // The poll of the second pipe is the one that is left.
    first.write("x");
    assert.deepEqual(reap(ring, 1), [{ userData: 2, res: POLLIN, flags: 0 }]);
    queue(ring, 200, 0, (sqe) => sqe.prepCancel64(0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL));
    assert.deepEqual(sorted(reapResults(ring, 2)), [[1, ECANCELED], [200, 1]]);
  });

  test(`liburing cancel-race: ${name}: a poll and its cancellation, submitted together`, { skip }, () => {
    using ring = makeRing(64, options);
    using pipe = new Pipe();
    for (let i = 0; i < 200; i++) {
      queue(ring, 2 * i, 0, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
      queue(ring, 2 * i + 1, 0, (sqe) => sqe.prepCancel64(2 * i, 0));
      const results = reapResults(ring, 2);
      assert.equal(results.get(2 * i), ECANCELED);
      assert.ok([0, EALREADY].includes(results.get(2 * i + 1)!), `${results.get(2 * i + 1)}`);
    }
    assertQuiet(ring);
  });

  test(`liburing cancel-race: ${name}: a read and its cancellation, submitted together`, { skip }, () => {
    using ring = makeRing(64, options);
    using pipe = new Pipe();
    const { address } = block(32);
    for (let i = 0; i < 200; i++) {
      queue(ring, 2 * i, 0, (sqe) => sqe.prepRead(pipe.reader.fd, address, 32, 0));
      queue(ring, 2 * i + 1, 0, (sqe) => sqe.prepCancel64(2 * i, 0));
      const results = reapResults(ring, 2);
      const [read, cancel] = [results.get(2 * i)!, results.get(2 * i + 1)!];
      if (read === EAGAIN) assert.equal(cancel, ENOENT);
      else {
        assert.ok([ECANCELED, EINTR].includes(read), `${read}`);
        assert.ok([0, EALREADY].includes(cancel), `${cancel}`);
      }
    }
    pipe.write("x");
    assertQuiet(ring);
    assert.equal(pipe.read(), "x", "nothing reads any more");
  });

  test(`liburing io-cancel: ${name}: what another ring does is not cancelled`, { skip }, () => {
    using first = makeRing(8, options);
    using second = makeRing(8, options);
    using pipe = new Pipe();
    const buffer = block(16);
    queue(first, 1, IOSQE_ASYNC, (sqe) => sqe.prepRead(pipe.reader.fd, buffer.address, 10, 0));
    first.submit();
    for (let i = 0; i < 3; i++) {
      queue(second, 2, 0, (sqe) => sqe.prepCancel64(1, 0));
      assert.deepEqual(reap(second, 1), [{ userData: 2, res: ENOENT, flags: 0 }]);
    }
    queue(second, 3, 0, (sqe) => sqe.prepCancel64(0, IORING_ASYNC_CANCEL_ANY));
    assert.deepEqual(reap(second, 1), [{ userData: 3, res: 0, flags: 0 }]);
    assert.equal(first.waitCqeTimeout({ sec: 0, nsec: 10_000_000 }), null);
    pipe.write("x");
    assert.deepEqual(reap(first, 1), [{ userData: 1, res: 1, flags: 0 }]);
  });
});

test("liburing cancel-race: another thread's ring cancels whatever it can, which is nothing of this one", async () => {
  using ring = makeRing(64);
  using pipe = new Pipe();
  const worker = new Worker(new URL("../fixtures/cancel_worker.ts", import.meta.url), { type: "module" });
  try {
    const answers: unknown[] = [];
    await new Promise<void>((resolve, reject) => {
      worker.onerror = (event): void => reject(new Error(event.message));
      worker.onmessage = (): void => resolve();
    });
    const ended = new Promise<void>((resolve) => {
      worker.onmessage = ({ data }): void => resolve(void answers.push(data));
    });
    worker.postMessage({ cancels: 2000 });
    for (let i = 1; i <= 1000; i++) {
      queue(ring, i, 0, (sqe) => sqe.prepPollAdd(pipe.reader.fd, POLLIN));
      if (i % 16 === 0 || i === 1000) assert.ok(ring.submit() > 0);
      assert.equal(ring.peekCqe(), null);
    }
    await ended;
    assert.deepEqual(answers, [{ found: 0, sent: 2000 }]);
    assertQuiet(ring);
    queue(ring, 0, 0, (sqe) => sqe.prepCancel64(0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL));
    const results = reapResults(ring, 1001);
    for (const [userData, res] of results) assert.equal(res, userData === 0 ? 1000 : ECANCELED);
  } finally {
    worker.terminate();
  }
});

/** Completions of entries that this thread has not submitted itself. */
function take(ring: Ring, count: number): [userData: number, res: number][] {
  return Array.from({ length: count }, () => {
    const cqe = ring.waitCqeTimeout({ sec: 10, nsec: 0 })!;
    const found: [number, number] = [cqe.userData, cqe.res];
    ring.cqeSeen(cqe);
    return found;
  });
}

test("liburing io-cancel: a read that another thread has submitted is cancelled", async () => {
  using ring = makeRing(8, { flags: IORING_SETUP_R_DISABLED });
  using pipe = new Pipe();
  const { address } = block(16);
  queue(ring, 1, IOSQE_ASYNC, (sqe) => sqe.prepRead(pipe.reader.fd, address, 10, 0));
  queue(ring, 2, 0, (sqe) => sqe.prepCancel64(1, 0));
  publish(ring);
  assert.equal(system().enter(ring.fd, 1, 0, 0), 1);
  assert.equal(ring.waitCqeTimeout({ sec: 0, nsec: 5_000_000 }), null);
  const thread = await EnterThread.start();
  try {
    assert.equal(await thread.enter({ fd: ring.fd, toSubmit: 1, minComplete: 0, flags: 0 }), 1);
    const results = new Map(take(ring, 2));
    assert.ok([ECANCELED, EINTR].includes(results.get(1)!), `${results.get(1)}`);
    assert.ok([0, EALREADY].includes(results.get(2)!), `${results.get(2)}`);
  } finally {
    await thread.end();
  }
});

test("liburing io-cancel: what works on the ring itself ends with the thread that submitted it", async () => {
  using ring = makeRing(8, { flags: IORING_SETUP_R_DISABLED });
  // Longer than the thread takes to end: a timeout that ends would end the poll, too.
  const ts = timespec(1500);
  queue(ring, 1, IOSQE_IO_LINK, (sqe) => sqe.prepPollAdd(ring.fd, POLLIN));
  queue(ring, 2, 0, (sqe) => sqe.prepTimeout(ts, 0, 0));
  queue(ring, 3, 0, (sqe) => sqe.prepTimeout(ts, 0, 0));
  publish(ring);
  const thread = await EnterThread.start();
  assert.equal(await thread.enter({ fd: ring.fd, toSubmit: 3, minComplete: 0, flags: 0 }), 3);
  await thread.end();
  assert.deepEqual(take(ring, 3), [[1, ECANCELED], [2, ECANCELED], [3, ETIME]]);
});

const sqpoll = { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 5 };

test("liburing io-cancel: closing a ring with a kernel thread ends what its worker threads do", {
  skip: missingRing(sqpoll),
}, () => {
  using pipe = new Pipe();
  const { address } = block(16);
  {
    using ring = makeRing(8, sqpoll);
    queue(ring, 1, IOSQE_ASYNC | IOSQE_IO_LINK, (sqe) => sqe.prepRead(pipe.reader.fd, address, 10, 0));
    queue(ring, 2, IOSQE_ASYNC, (sqe) => sqe.prepWrite(pipe.writer.fd, address, 10, 0));
    ring.submit();
    eventually(() => ring.sqReady() === 0, "the thread has taken them");
    sleep(5);
  }
  pipe.writer.close();
  // The end of the file is seen once the ring has let go of the other end.
  const byte = new Uint8Array(new ArrayBuffer(1));
  eventually(() => system().read(pipe.reader.fd, byte, 1) === 0, "nothing holds the pipe");
});

const PAGE = 4096;
const PAGES = 32;

/** Vectors of one page each, aligned as O_DIRECT needs it. */
function vectors(): number[] {
  const { bytes, address } = block((PAGES + 1) * PAGE);
  const start = address + (PAGE - address % PAGE) % PAGE;
  return Array.from({ length: PAGES }, (_, i) => {
    const view = new DataView(bytes.buffer);
    return iovecs([{ address: start + i * PAGE, bytes: bytes.subarray(0, PAGE), view }]).address;
  });
}

test(
  "liburing io-cancel: reads and writes of a disk are cancelled or done",
  { skip: missingDirect() },
  () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), new Uint8Array(PAGES * PAGE));
    using file = Fd.open(dir.of("file"), O_RDWR | O_DIRECT);
    const pages = vectors();
    for (let i = 0; i < 8; i++) {
      const [write, partial, async] = [(i & 1) !== 0, (i & 2) !== 0, (i & 4) !== 0];
      using ring = makeRing(4 * PAGES);
      for (let n = 0; n < PAGES; n++) {
        const offset = n * 7 % PAGES * PAGE;
        queue(ring, n, 0, (sqe) => {
          if (write) sqe.prepWritev(file.fd, pages[n]!, 1, offset);
          else sqe.prepReadv(file.fd, pages[n]!, 1, offset);
        });
      }
      assert.equal(ring.submit(), PAGES);
      const targets = Array.from({ length: PAGES }, (_, n) => n).filter((n) => !partial || n % 2 === 0);
      for (const n of targets) {
        queue(
          ring,
          1000 + n,
          async ? IOSQE_ASYNC : 0,
          (sqe) => sqe.prepCancel64(n, 0),
        );
      }
      assert.equal(ring.submit(), targets.length);
      const results = reapResults(ring, PAGES + targets.length);
      for (let n = 0; n < PAGES; n++) {
        const cancel = results.get(1000 + n);
        assert.ok([undefined, 0, ENOENT, EALREADY].includes(cancel), `${cancel}`);
        const expected = cancel === undefined || cancel === ENOENT ? [PAGE] : [PAGE, ECANCELED, EINTR];
        assert.ok(expected.includes(results.get(n)!), `${n}: ${results.get(n)}, ${cancel}`);
        assert.equal(cancel !== undefined, targets.includes(n));
      }
      assert.equal(ring.peekCqe(), null);
    }
  },
);
