/** Zero-copy sends, entry by entry: a result, then the notification that the memory may be used again. */
import assert from "node:assert/strict";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { iovec, msghdr } from "../../src/ffi/structs.ts";
import {
  IORING_CQE_F_MORE,
  IORING_CQE_F_NOTIF,
  IORING_NOTIF_USAGE_ZC_COPIED,
  IORING_OP_READV_FIXED,
  IORING_OP_SEND_ZC,
  IORING_OP_SENDMSG_ZC,
  IORING_RECVSEND_FIXED_BUF,
  IORING_RECVSEND_POLL_FIRST,
  IORING_SEND_VECTORIZED,
  IORING_SEND_ZC_REPORT_USAGE,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_TIMEOUT_ETIME_SUCCESS,
  IOSQE_ASYNC,
  IOSQE_IO_LINK,
  Mapping,
  MSG_MORE,
  MSG_WAITALL,
  type Ring,
  SO_ZEROCOPY,
  SOL_SOCKET,
  type Sqe,
} from "../../src/ring/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  type Block,
  block,
  blockOf,
  type Completion,
  entry,
  forEachKind,
  makeRing,
  missingOp,
  reap,
  timespec,
} from "../support/rings.ts";
import { ADDRESS_SIZE, Bound, Connection, loopback, receive, setOption } from "../support/sockets.ts";

checkLeaks();

const EFAULT = -14;
const EINVAL = -22;
const ETIME = -62;

const noSend = missingOp(IORING_OP_SEND_ZC);
const noSendmsg = firstReason(noSend, missingOp(IORING_OP_SENDMSG_ZC));
const noFixedVectors = firstReason(noSendmsg, missingOp(IORING_OP_READV_FIXED));

function notified({ flags }: Completion): boolean {
  return (flags & IORING_CQE_F_NOTIF) !== 0;
}

/** Runs a send and returns its result; checks that its notification comes after it, and nothing else. */
function sendOnce(ring: Ring, prep: (sqe: Sqe) => void): { res: number; usage: number | null } {
  entry(ring, 1, prep);
  ring.submit();
  const [result] = reap(ring, 1) as [Completion];
  assert.ok(!notified(result), "the notification came first");
  assert.equal(result.userData, 1);
  if ((result.flags & IORING_CQE_F_MORE) === 0) {
    assertQuiet(ring);
    return { res: result.res, usage: null };
  }
  const [notification] = reap(ring, 1) as [Completion];
  assert.deepEqual([notification.userData, notification.flags], [1, IORING_CQE_F_NOTIF]);
  assertQuiet(ring);
  return { res: result.res, usage: notification.res };
}

/** A `struct msghdr` for vectors, and an address. */
function message(vectors: Block, name?: Block): Block {
  const made = block(msghdr.size);
  made.view.setBigUint64(msghdr.msg_iov, BigInt(vectors.address), true);
  made.view.setBigUint64(msghdr.msg_iovlen, BigInt(vectors.bytes.length / iovec.size), true);
  if (name !== undefined) {
    made.view.setBigUint64(msghdr.msg_name, BigInt(name.address), true);
    made.view.setUint32(msghdr.msg_namelen, name.bytes.length, true);
  }
  return made;
}

forEachKind(({ name, options, skip }) => {
  test(
    `liburing send-zerocopy: ${name}: a result and a notification`,
    { skip: firstReason(skip, noSend) },
    () => {
      using ring = makeRing(8, options);
      using pair = Connection.tcp();
      const data = blockOf(content(100));
      const sent = sendOnce(ring, (sqe) => sqe.prepSendZc(pair.a.fd, data.address, 100, 0, 0));
      assert.deepEqual(sent, { res: 100, usage: 0 });
      assertContent(receive(pair.b.fd), 100, 0);
      // Two vectors at once, where the kernel knows it.
      const halves = block(2 * iovec.size);
      for (const i of [0, 1]) {
        halves.view.setBigUint64(i * iovec.size + iovec.iov_base, BigInt(data.address + 50 * i), true);
        halves.view.setBigUint64(i * iovec.size + iovec.iov_len, 50n, true);
      }
      const vectored = sendOnce(ring, (sqe) => {
        sqe.prepSendZc(pair.a.fd, halves.address, 2, 0, IORING_SEND_VECTORIZED);
      });
      assert.ok(vectored.res === 100 || (vectored.res === EINVAL && !kernelHas("6.17")), `${vectored.res}`);
      if (vectored.res === 100) assertContent(receive(pair.b.fd), 100, 0);
    },
  );

  test(`liburing send-zerocopy: ${name}: faults`, { skip: firstReason(skip, noSendmsg) }, () => {
    using ring = makeRing(8, options);
    using pair = Connection.tcp();
    const data = blockOf(content(100));
    // A notification may come after a failure or not, and never before it.
    assert.equal(sendOnce(ring, (sqe) => sqe.prepSendZc(pair.a.fd, 1, 100, 0, 0)).res, EFAULT);
    const nowhere = sendOnce(ring, (sqe) => {
      sqe.prepSendZc(pair.a.fd, data.address, 100, 0, 0);
      sqe.prepSendSetAddr(1, 28);
    });
    assert.equal(nowhere.res, EFAULT);
    const flags = sendOnce(ring, (sqe) => sqe.prepSendZc(pair.a.fd, data.address, 100, 0, 0xffff));
    assert.equal(flags.res, EINVAL);
    const nothing = sendOnce(ring, (sqe) => {
      sqe.prepSendmsgZc(pair.a.fd, 0, MSG_WAITALL);
      sqe.flags |= IOSQE_ASYNC;
    });
    assert.equal(nothing.res, EFAULT);
    assert.equal(receive(pair.b.fd).length, 0);
  });

  test(`liburing send-zerocopy: ${name}: the address is copied at submission`, {
    skip: firstReason(skip, noSend),
  }, () => {
    using ring = makeRing(8, options);
    using receiver = Bound.udp();
    using sender = Bound.udp();
    const data = blockOf("x");
    const address = loopback(receiver.port);
    entry(ring, 1, (sqe) => {
      sqe.prepTimeout(timespec(30), 0, IORING_TIMEOUT_ETIME_SUCCESS);
      sqe.flags |= IOSQE_IO_LINK;
    });
    entry(ring, 2, (sqe) => {
      sqe.prepSendZc(sender.fd, data.address, 1, 0, 0);
      sqe.prepSendSetAddr(address.address, ADDRESS_SIZE);
    });
    ring.submit();
    // With SQPOLL another thread reads it, some time soon.
    if (name !== "SQPOLL") address.bytes.fill(0);
    const [timeout, result, notification] = reap(ring, 3) as [Completion, Completion, Completion];
    assert.deepEqual([timeout.userData, timeout.res], [1, ETIME]);
    assert.deepEqual([result.userData, result.res], [2, 1]);
    assert.ok(notified(notification));
    assert.equal(receive(receiver.fd).length, 1);
  });

  test(
    `liburing send-zerocopy: ${name}: the notification tells of copies`,
    { skip: firstReason(skip, noSend, kernelHas("6.2") ? false : "needs Linux 6.2") },
    () => {
      using ring = makeRing(8, options);
      using pair = Connection.tcp();
      const data = blockOf("x");
      const { res, usage } = sendOnce(
        ring,
        (sqe) => sqe.prepSendZc(pair.a.fd, data.address, 1, 0, IORING_SEND_ZC_REPORT_USAGE),
      );
      assert.equal(res, 1);
      // On the loopback everything is copied.
      assert.equal(usage! >>> 0, IORING_NOTIF_USAGE_ZC_COPIED);
    },
  );

  test(`liburing sendzc-bug: ${name}: a buffer that is unregistered and gone`, {
    skip: firstReason(skip, noFixedVectors),
  }, () => {
    using ring = makeRing(4, options);
    using pair = Connection.tcp();
    setOption(pair.a.fd, SOL_SOCKET, SO_ZEROCOPY, 1);
    const SIZE = 1 << 20;
    const memory = Mapping.anonymous(SIZE);
    new Uint8Array(memory.buffer).fill(0x42);
    ring.registerBuffers([{ address: memory.address, length: SIZE }]);
    const vectors = block(iovec.size);
    vectors.view.setBigUint64(iovec.iov_base, BigInt(memory.address), true);
    vectors.view.setBigUint64(iovec.iov_len, BigInt(SIZE), true);
    const outgoing = message(vectors);
    entry(ring, 1, (sqe) => sqe.prepSendmsgZcFixed(pair.a.fd, outgoing.address, 0, 0));
    ring.submit();
    const [{ res, flags }] = reap(ring, 1) as [Completion];
    assert.ok(res > 0, `${res}`);
    ring.unregisterBuffers();
    memory.unmap();
    let received = 0;
    while (received < res) {
      const part = receive(pair.b.fd);
      assert.ok(part.every((byte) => byte === 0x42), "other memory was sent");
      received += part.length;
    }
    if ((flags & IORING_CQE_F_MORE) !== 0) assert.ok(notified(reap(ring, 1)[0]!));
  });
});

/** What varies from send to send. */
interface Conf {
  readonly withHeader: boolean;
  readonly pollFirst: boolean;
  readonly fixed: boolean;
  readonly addressed: boolean;
  readonly cork: boolean;
  readonly mixed: boolean;
  readonly async: boolean;
  readonly zeroCopy: boolean;
  readonly vectors: boolean;
}

const REQUESTS = 5;

function confOf(bits: number): Conf {
  const bit = (i: number): boolean => (bits >> i & 1) !== 0;
  return {
    withHeader: bit(0),
    pollFirst: bit(1),
    fixed: bit(2),
    addressed: bit(3),
    cork: bit(4),
    mixed: bit(5),
    async: bit(6),
    zeroCopy: bit(7),
    vectors: bit(8),
  };
}

/** Whether a combination makes sense. */
function sensible(conf: Conf, tcp: boolean, connected: boolean): boolean {
  if (conf.vectors && (!conf.withHeader || conf.cork)) return false;
  if (!conf.zeroCopy && (conf.fixed || conf.mixed)) return false;
  if (tcp && (conf.cork || conf.addressed)) return false;
  if (conf.mixed && (!conf.cork || conf.fixed)) return false;
  return connected || conf.addressed;
}

/** One send: `length` bytes at `at` of the registered memory. */
function prepare(sqe: Sqe, fd: number, conf: Conf, i: number, at: number, length: number, to: Block): void {
  const flags = MSG_WAITALL | (conf.cork && i < REQUESTS - 1 ? MSG_MORE : 0);
  if (conf.withHeader) {
    const count = conf.vectors ? 4 : 1;
    const vectors = block(count * iovec.size);
    for (let j = 0, from = at; j < count; j++) {
      // The second one is large, the others a byte each.
      const size = count === 1 ? length : j === 1 ? length - count + 1 : 1;
      vectors.view.setBigUint64(j * iovec.size + iovec.iov_base, BigInt(from), true);
      vectors.view.setBigUint64(j * iovec.size + iovec.iov_len, BigInt(size), true);
      from += size;
    }
    const { address } = message(vectors, conf.addressed ? to : undefined);
    if (conf.zeroCopy) sqe.prepSendmsgZc(fd, address, flags);
    else sqe.prepSendmsg(fd, address, flags);
  } else {
    if (conf.zeroCopy) sqe.prepSendZc(fd, at, length, flags, 0);
    else sqe.prepSend(fd, at, length, flags);
    if (conf.addressed) sqe.prepSendSetAddr(to.address, ADDRESS_SIZE);
  }
  if (conf.fixed || (conf.mixed && i % 2 === 0)) {
    sqe.ioprio |= IORING_RECVSEND_FIXED_BUF;
    sqe.bufIndex = 0;
  }
  if (conf.pollFirst) sqe.ioprio |= IORING_RECVSEND_POLL_FIRST;
  if (conf.async) sqe.flags |= IOSQE_ASYNC;
}

/** Sends from one end and receives at the other, in one ring. */
function exchange(
  ring: Ring,
  from: number,
  to: number,
  conf: Conf,
  memory: Mapping,
  start: number,
  length: number,
  address: Block,
): void {
  const into = block(length);
  const count = conf.cork ? REQUESTS : 1;
  const chunk = Math.floor(length / count);
  for (let i = 0; i < count; i++) {
    const size = i === count - 1 ? length - chunk * (count - 1) : chunk;
    entry(ring, i, (sqe) => {
      prepare(sqe, from, conf, i, memory.address + start + i * chunk, size, address);
      if (i < count - 1) sqe.flags |= IOSQE_IO_LINK;
    });
  }
  entry(ring, 99, (sqe) => sqe.prepRecv(to, into.address, length, MSG_WAITALL));
  ring.submit();
  let sent = 0;
  for (let left = count + 1; left > 0; left--) {
    const [{ userData, res, flags }] = reap(ring, 1) as [Completion];
    if (userData === 99) {
      assert.equal(res, length, JSON.stringify(conf));
      continue;
    }
    const notification = (flags & IORING_CQE_F_NOTIF) !== 0;
    assert.ok(!notification || (flags & IORING_CQE_F_MORE) === 0);
    if (notification) continue;
    if ((flags & IORING_CQE_F_MORE) !== 0) left++;
    assert.ok(res > 0, `${res} ${JSON.stringify(conf)}`);
    sent += res;
  }
  assert.equal(sent, length);
  assertContent(into.bytes, length, start);
}

for (
  const [kind, flags] of [
    ["default", 0],
    ["DEFER_TASKRUN", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN],
  ] as const
) {
  for (const tcp of [true, false]) {
    for (const connected of tcp ? [true] : [true, false]) {
      const what = tcp ? "TCP" : connected ? "connected datagrams" : "datagrams with addresses";
      test(`liburing send-zerocopy: ${kind}: ${what}, every combination`, { skip: noFixedVectors }, () => {
        using ring = makeRing(32, { flags });
        using receiver = Bound.udp();
        using lone = Bound.udp();
        using pair = tcp ? Connection.tcp() : Connection.udp();
        const SIZE = 256 * 1024;
        using memory = Mapping.anonymous(SIZE);
        new Uint8Array(memory.buffer).set(content(SIZE));
        ring.registerBuffers([{ address: memory.address, length: SIZE }]);
        const sizes: [number, number][] = [[4096, 4096], [0, 137], [41, 8192 - 41 - 13]];
        const address = loopback(receiver.port);
        const [from, to] = tcp || connected ? [pair.a.fd, pair.b.fd] : [lone.fd, receiver.fd];
        for (let bits = 0; bits < 512; bits++) {
          const conf = confOf(bits);
          if (!sensible(conf, tcp, connected && !conf.addressed)) continue;
          // A datagram with an address comes to the other receiver.
          if (connected && conf.addressed) continue;
          for (const [start, length] of sizes) exchange(ring, from, to, conf, memory, start, length, address);
        }
        if (tcp) {
          const conf = confOf(0b1000_0000);
          exchange(ring, from, to, conf, memory, 13, SIZE - 26, address);
          exchange(ring, from, to, { ...conf, fixed: true }, memory, 13, SIZE - 26, address);
        }
        ring.unregisterBuffers();
      });
    }
  }
}

test("a registered buffer of another place, and one that is not there", { skip: noFixedVectors }, () => {
  using ring = makeRing(4);
  using pair = Connection.tcp();
  const inside = blockOf(content(64));
  const outside = blockOf(content(64));
  const prep = (at: number, index: number) => (sqe: Sqe): void =>
    sqe.prepSendZcFixed(pair.a.fd, at, 64, 0, 0, index);
  ring.registerBuffers([{ address: inside.address, length: 64 }]);
  assert.equal(sendOnce(ring, prep(inside.address, 0)).res, 64);
  assert.equal(sendOnce(ring, prep(outside.address, 0)).res, EFAULT);
  assert.equal(sendOnce(ring, prep(inside.address, 1)).res, EFAULT);
  ring.unregisterBuffers();
  assert.equal(receive(pair.b.fd).length, 64);
});
