/** Operations that wait or steer: nop, poll, timeout, cancel. */
import assert from "node:assert/strict";
import { IORING_OP_BIND, IORING_OP_SOCKET, POLLHUP, POLLIN, POLLOUT, POLLRDHUP } from "../../src/ffi/abi.ts";
import { type UringError } from "../../src/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { DEFERRED, makeUring, noDeferred, SocketPair, within } from "../support/loop.ts";
import {
  bytes,
  failure,
  failures,
  put,
  refuses,
  rejectsWith,
  text,
  WaitingPipe,
} from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

const noCancelByFd = missingOp(IORING_OP_SOCKET);

test(
  "nop: one, and thousands in one turn with one system call for each ring full",
  { skip: noDeferred },
  async () => {
    await using uring = makeUring({ ...DEFERRED, entries: 64 });
    await uring.nop();
    const { enters } = uring.stats;
    let ended = 0;
    await Promise.all(Array.from({ length: 5000 }, () => uring.nop().then(() => ended++)));
    assert.equal(ended, 5000);
    assert.ok(uring.stats.enters - enters <= 5000 / 64 + 2, `${uring.stats.enters - enters} system calls`);
    assert.equal(uring.stats.inFlight, 0);
  },
);

test("nop: settles in the order asked for", async () => {
  await using uring = makeUring({ entries: 8 });
  const order: number[] = [];
  await Promise.all(Array.from({ length: 50 }, (_, i) => uring.nop().then(() => order.push(i))));
  assert.deepEqual(order, Array.from({ length: 50 }, (_, i) => i));
});

test("poll: what is there, what comes, what hangs up", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  assert.equal(await uring.poll(pair.a.fd, POLLOUT), POLLOUT);
  assert.equal(await uring.poll(pair.a.fd, POLLIN | POLLOUT), POLLOUT);
  const waiting = uring.poll(pair.a.fd, POLLIN);
  await uring.nop();
  assert.equal(uring.stats.inFlight, 1);
  put(pair.b.fd, "x");
  assert.equal(await within(waiting, "poll"), POLLIN);
  assert.equal(await uring.poll(pair.a.fd, POLLIN), POLLIN, "what nobody read is still there");
  pair.b.close();
  const events = await uring.poll(pair.a.fd, POLLIN | POLLRDHUP);
  assert.equal(events & (POLLHUP | POLLRDHUP), POLLHUP | POLLRDHUP);
});

test("timeout: not before its time, in the order of their lengths, 0 and fractions", async () => {
  await using uring = makeUring();
  const start = performance.now();
  const order: number[] = [];
  const wait = (milliseconds: number): Promise<void> =>
    uring.timeout(milliseconds).then(() => {
      // The kernel's clock and the runtime's may differ by a rounding.
      assert.ok(performance.now() - start >= milliseconds - 1, `${milliseconds} ms`);
      order.push(milliseconds);
    });
  await Promise.all([120, 0, 60, 0.5].map(wait));
  assert.deepEqual(order, [0, 0.5, 60, 120]);
});

test("timeout: a long one can be cancelled", async () => {
  await using uring = makeUring();
  const controller = new AbortController();
  const far = uring.timeout(Number.MAX_SAFE_INTEGER, { signal: controller.signal });
  await uring.nop();
  controller.abort("enough");
  assert.equal(await failure(far), "enough");
});

test("cancel: one of several on a descriptor, then all of them", { skip: noCancelByFd }, async () => {
  await using uring = makeUring();
  using pipe = new WaitingPipe();
  using other = new WaitingPipe();
  const outcomes: string[] = [];
  const read = (name: string, fd: number): Promise<void> =>
    uring.read(fd, new Uint8Array(8)).then(
      (length) => void outcomes.push(`${name}: ${length}`),
      (error: UringError) => void outcomes.push(`${name}: ${error.message}`),
    );
  const reads = ["a", "b", "c"].map((name) => read(name, pipe.reader.fd));
  const bystander = read("other", other.reader.fd);
  await uring.nop();
  assert.equal(await uring.cancel({ fd: pipe.reader.fd }), 1);
  await within(Promise.race(reads), "one cancelled read");
  assert.equal(outcomes.length, 1);
  assert.match(outcomes[0]!, /^[abc]: ECANCELED: operation canceled, read$/);
  assert.equal(await uring.cancel({ fd: pipe.reader.fd, all: true }), 2);
  await within(Promise.all(reads), "all cancelled reads");
  assert.equal(outcomes.length, 3);
  assert.equal(await uring.cancel({ fd: pipe.reader.fd }), 0);
  assert.equal(await uring.cancel({ fd: pipe.reader.fd, all: true }), 0);
  other.write("spared");
  await within(bystander, "the other pipe");
  assert.equal(outcomes[3], "other: 6");
});

test("cancel: everything in flight", { skip: noCancelByFd }, async () => {
  await using uring = makeUring();
  await using untouched = makeUring();
  using pair = new SocketPair();
  const pending = [
    uring.recv(pair.a.fd, new Uint8Array(1)),
    uring.poll(pair.a.fd, POLLIN),
    uring.timeout(1e9),
    uring.recv(pair.b.fd, new Uint8Array(1)),
  ];
  const elsewhere = untouched.recv(pair.b.fd, new Uint8Array(1));
  await Promise.all([uring.nop(), untouched.nop()]);
  const ended = failures(pending);
  assert.equal(await uring.cancel({ any: true }), 4);
  const errors = await ended;
  assert.deepEqual(errors.map(({ code, syscall }) => `${code} ${syscall}`), [
    "ECANCELED recv",
    "ECANCELED poll",
    "ECANCELED timeout",
    "ECANCELED recv",
  ]);
  assert.equal(await uring.cancel({ any: true }), 0);
  put(pair.a.fd, "x");
  assert.equal(await within(elsewhere, "the other ring"), 1);
});

test("cancel: on a direct descriptor", { skip: missingOp(IORING_OP_BIND) }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const path = `\0uring-cancel-${dir.path}`;
  const server = await uring.socket(1, 1, 0, { direct: true });
  await uring.bind(server, { family: "unix", path });
  await uring.listen(server);
  const accepting = [uring.accept(server), uring.accept(server), uring.accept(server, { direct: true })];
  const ended = failures(accepting);
  await uring.nop();
  // The number of the slot is no descriptor of the process.
  assert.equal(
    await uring.cancel({ fd: 4000 + server.slot }).catch((error: UringError) => error.code),
    "EBADF",
  );
  assert.equal(await uring.cancel({ fd: server }), 1);
  await Promise.race(accepting.map((promise) => failure(promise)));
  assert.equal(await uring.cancel({ fd: server, all: true }), 2);
  for (const { code, syscall } of await ended) assert.deepEqual([code, syscall], ["ECANCELED", "accept"]);
  await uring.close(server);
});

test("a cancelled read has taken nothing: the next one gets all", { skip: noCancelByFd }, async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const buffer = new Uint8Array(8);
  const cancelled = uring.recv(pair.a.fd, buffer);
  await uring.nop();
  const [count] = await Promise.all([
    uring.cancel({ fd: pair.a.fd }),
    rejectsWith(cancelled, "ECANCELED", "recv"),
  ]);
  assert.equal(count, 1);
  await uring.send(pair.b.fd, bytes("whole"));
  assert.equal(text(buffer, await uring.recv(pair.a.fd, buffer)), "whole");
});

test("drain: starts when everything before has ended, and holds back what comes after", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const order: string[] = [];
  const note = (name: string, promise: Promise<unknown>): Promise<unknown> =>
    promise.then(() => order.push(name));
  const all = [
    note("recv", uring.recv(pair.a.fd, new Uint8Array(1))),
    note("drained", uring.nop({ drain: true })),
    note("after", uring.nop()),
  ];
  // Of another ring, so that it is not held back itself.
  await using other = makeUring();
  await other.timeout(20);
  assert.deepEqual(order, []);
  put(pair.b.fd, "x");
  await within(Promise.all(all), "drain");
  assert.deepEqual(order, ["recv", "drained", "after"]);
});

test("wrong arguments are refused", async () => {
  await using uring = makeUring();
  for (const timeout of [-1, NaN, Infinity, "5", null, 2 ** 60, 5n]) {
    const wrong = timeout as number;
    await refuses(uring, RangeError, () => uring.timeout(wrong));
    await refuses(uring, RangeError, () => uring.nop({ timeout: wrong }));
    await refuses(uring, RangeError, () => uring.timeoutMultishot(wrong));
    await refuses(uring, RangeError, () => uring.pollMultishot(0, POLLIN, { timeout: wrong }));
  }
  for (const events of [-1, 1.5, 2 ** 32, "1"]) {
    await refuses(uring, RangeError, () => uring.poll(0, events as number));
    await refuses(uring, RangeError, () => uring.pollMultishot(0, events as number));
  }
});
