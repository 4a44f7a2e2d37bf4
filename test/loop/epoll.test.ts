/** Epoll descriptors. */
import assert from "node:assert/strict";
import {
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLONESHOT,
  EPOLLOUT,
  IORING_OP_EPOLL_WAIT,
  O_CLOEXEC,
} from "../../src/ffi/abi.ts";
import { epollCreate, type EpollEvent, type U64 } from "../../src/mod.ts";
import { Fd, fdFlags } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, makeUring, SocketPair, URING_KINDS, within } from "../support/loop.ts";
import {
  failure,
  failures,
  flushed,
  put,
  Reason,
  refuses,
  rejectsWith,
  WaitingPipe,
} from "../support/operations.ts";
import { missingOp, missingRing } from "../support/rings.ts";

checkLeaks();

const noWait = missingOp(IORING_OP_EPOLL_WAIT);

function epoll(): Fd {
  return new Fd(epollCreate());
}

test("watches, sees, watches otherwise, watches no more", { skip: noWait }, async () => {
  await using uring = makeUring();
  using ep = epoll();
  using pair = new SocketPair();
  using pipe = new WaitingPipe();
  assert.equal(fdFlags(ep.fd) & O_CLOEXEC, O_CLOEXEC);
  await uring.epollCtl(ep.fd, EPOLL_CTL_ADD, pair.a.fd, { events: EPOLLIN, data: pair.a.fd });
  await uring.epollCtl(ep.fd, EPOLL_CTL_ADD, pipe.reader.fd, { events: EPOLLIN | EPOLLONESHOT, data: 7 });
  const waiting = uring.epollWait(ep.fd);
  await uring.nop();
  put(pair.b.fd, "x");
  assert.deepEqual(await waiting, [{ events: EPOLLIN, data: pair.a.fd }]);
  pipe.write("x");
  const both = await uring.epollWait(ep.fd);
  assert.deepEqual(both.map(({ data }) => data).sort(), [pair.a.fd, 7].sort());
  assert.deepEqual(await uring.epollWait(ep.fd), [{ events: EPOLLIN, data: pair.a.fd }]);
  await uring.epollCtl(ep.fd, EPOLL_CTL_MOD, pair.a.fd, { events: EPOLLOUT | EPOLLET, data: 8 });
  assert.deepEqual(await uring.epollWait(ep.fd), [{ events: EPOLLOUT, data: 8 }]);
  await uring.epollCtl(ep.fd, EPOLL_CTL_DEL, pair.a.fd);
  await uring.epollCtl(ep.fd, EPOLL_CTL_MOD, pipe.reader.fd, { events: 0, data: 9 });
  pipe.writer.close();
  assert.deepEqual(await uring.epollWait(ep.fd), [{ events: EPOLLHUP, data: 9 }]);
});

test("64 bits of data come back as they were", { skip: noWait }, async () => {
  await using uring = makeUring();
  using ep = epoll();
  using pipe = new WaitingPipe();
  pipe.write("x");
  const values: readonly (readonly [U64, U64])[] = [
    [0, 0],
    [2 ** 31, 2 ** 31],
    [2 ** 32 + 5, 2 ** 32 + 5],
    [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
    [5n, 5],
    [2n ** 53n + 1n, 2n ** 53n + 1n],
    [2n ** 64n - 1n, 2n ** 64n - 1n],
  ];
  await uring.epollCtl(ep.fd, EPOLL_CTL_ADD, pipe.reader.fd, { events: EPOLLIN, data: 1 });
  for (const [data, expected] of values) {
    await uring.epollCtl(ep.fd, EPOLL_CTL_MOD, pipe.reader.fd, { events: EPOLLIN, data });
    assert.deepEqual(await uring.epollWait(ep.fd), [{ events: EPOLLIN, data: expected }]);
  }
});

test("at most so many at once, and the others next", { skip: noWait }, async () => {
  await using uring = makeUring();
  using ep = epoll();
  const pipes = Array.from({ length: 10 }, () => new WaitingPipe());
  await Promise.all(
    pipes.map(({ reader }, data) =>
      uring.epollCtl(ep.fd, EPOLL_CTL_ADD, reader.fd, { events: EPOLLIN | EPOLLET, data })
    ),
  );
  for (const pipe of pipes) pipe.write("x");
  const seen: EpollEvent[][] = [];
  while (seen.flat().length < 10) seen.push(await uring.epollWait(ep.fd, { maxEvents: 4 }));
  assert.deepEqual(seen.map((events) => events.length), [4, 4, 2]);
  assert.deepEqual(seen.flat().map(({ data }) => Number(data)).sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  for (const pipe of pipes) pipe[Symbol.dispose]();
});

test("what goes wrong is told as the system call tells it", { skip: noWait }, async () => {
  await using uring = makeUring();
  using ep = epoll();
  using pipe = new WaitingPipe();
  const { fd } = pipe.reader;
  const event = { events: EPOLLIN, data: 0 };
  await uring.epollCtl(ep.fd, EPOLL_CTL_ADD, fd, event);
  const error = await failure(uring.epollCtl(ep.fd, EPOLL_CTL_ADD, fd, event));
  assert.deepEqual([error.message, error.errno], ["EEXIST: file already exists, epoll_ctl", -17]);
  await rejectsWith(uring.epollCtl(ep.fd, EPOLL_CTL_DEL, pipe.writer.fd), "ENOENT", "epoll_ctl");
  await rejectsWith(uring.epollCtl(ep.fd, EPOLL_CTL_ADD, 1_000_000, event), "EBADF", "epoll_ctl");
  await rejectsWith(uring.epollCtl(-1, EPOLL_CTL_ADD, fd, event), "EBADF", "epoll_ctl");
  await rejectsWith(uring.epollCtl(fd, EPOLL_CTL_ADD, pipe.writer.fd, event), "EINVAL", "epoll_ctl");
  await rejectsWith(uring.epollCtl(ep.fd, 77, fd, event), "EINVAL", "epoll_ctl");
  await rejectsWith(uring.epollWait(fd), "EINVAL", "epoll_wait");
  await rejectsWith(uring.epollWait(-1), "EBADF", "epoll_wait");
  const file = await uring.openat("/proc/self/comm");
  await rejectsWith(uring.epollCtl(ep.fd, EPOLL_CTL_ADD, file, event), "EPERM", "epoll_ctl");
  await uring.close(file);
});

test("wrong arguments are refused at once", async () => {
  await using uring = makeUring();
  using ep = epoll();
  const direct = await uring.openat("/proc/self/comm", { direct: true });
  for (const wrong of [direct, "1", 0.5, null, 2 ** 31] as unknown as number[]) {
    await refuses(uring, TypeError, () => uring.epollCtl(wrong, EPOLL_CTL_DEL, 0));
    await refuses(uring, TypeError, () => uring.epollCtl(ep.fd, EPOLL_CTL_DEL, wrong));
  }
  await refuses(uring, TypeError, () => uring.epollCtl(ep.fd, EPOLL_CTL_ADD, 0));
  await refuses(uring, TypeError, () => uring.epollCtl(ep.fd, EPOLL_CTL_MOD, 0));
  for (const value of [-1, 0.5, 2 ** 53, NaN, 2n ** 64n, -1n, "1", undefined] as unknown as number[]) {
    const event = { events: EPOLLIN, data: value };
    await refuses(uring, RangeError, () => uring.epollCtl(ep.fd, EPOLL_CTL_ADD, 0, event));
    await refuses(uring, RangeError, () => uring.epollCtl(ep.fd, value, 0, { events: 0, data: 0 }));
  }
  // Combined by JavaScript's operators, EPOLLET is a sign.
  for (const events of [0.5, 2 ** 32, -(2 ** 31) - 1, NaN, "1", undefined] as number[]) {
    await refuses(uring, RangeError, () => uring.epollCtl(ep.fd, EPOLL_CTL_ADD, 0, { events, data: 0 }));
  }
  for (const maxEvents of [0, -1, 65537, 0.5, NaN]) {
    await refuses(uring, RangeError, () => uring.epollWait(ep.fd, { maxEvents }));
  }
  await uring.close(direct);
});

test("a wait ends by a signal, a time limit, the ring's end; memory collected meanwhile", {
  skip: noWait,
}, async () => {
  const uring = makeUring();
  using ep = epoll();
  using pipe = new WaitingPipe();
  await uring.epollCtl(ep.fd, EPOLL_CTL_ADD, pipe.reader.fd, { events: EPOLLIN, data: 1 });
  const controller = new AbortController();
  const aborted = failure(uring.epollWait(ep.fd, { signal: controller.signal }));
  await flushed(uring);
  const reason = new Reason();
  controller.abort(reason);
  assert.equal(await within(aborted, "aborted"), reason);
  const limited = await failure(uring.epollWait(ep.fd, { timeout: 5 }));
  assert.deepEqual([limited.code, limited.syscall], ["ETIMEDOUT", "epoll_wait"]);
  const waiting = uring.epollWait(ep.fd);
  await uring.timeout(1);
  collect();
  pipe.write("x");
  assert.deepEqual(await within(waiting, "an event"), [{ events: EPOLLIN, data: 1 }]);
  await uring.read(pipe.reader.fd, new Uint8Array(1));
  const closed = failures([uring.epollWait(ep.fd)]);
  await uring.nop();
  await uring.disposeAsync();
  assert.deepEqual((await closed).map(({ code }) => code), ["ECANCELED"]);
});

for (const [name, options] of Object.entries(URING_KINDS)) {
  const noRing = options.flags === undefined ? false : missingRing({ flags: options.flags });
  test(`${name}: in a chain`, { skip: firstReason(noRing, noWait) }, async () => {
    await using uring = makeUring(options);
    using ep = epoll();
    using pipe = new WaitingPipe();
    const event = { events: EPOLLIN, data: 3 };
    const chain = uring.link((l) => [
      l.epollCtl(ep.fd, EPOLL_CTL_ADD, pipe.reader.fd, event),
      l.epollWait(ep.fd),
    ]);
    await uring.nop();
    pipe.write("x");
    assert.deepEqual((await within(chain, "a chain"))[1], [event]);
    const settled = await uring.linkSettled((l) => [
      l.epollCtl(ep.fd, EPOLL_CTL_ADD, pipe.reader.fd, event),
      l.epollWait(ep.fd),
    ]);
    assert.deepEqual(
      settled.map((step) => step.status === "rejected" && step.reason.code),
      ["EEXIST", "ECANCELED"],
    );
  });
}
