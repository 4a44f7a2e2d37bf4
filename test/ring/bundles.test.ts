/** Bundles: one completion for many provided buffers, received and sent; whole buffers, and bit by bit. */
import assert from "node:assert/strict";
import { io_uring_buf } from "../../src/ffi/structs.ts";
import {
  IORING_CQE_BUFFER_SHIFT,
  IORING_CQE_F_BUF_MORE,
  IORING_CQE_F_BUFFER,
  IORING_CQE_F_MORE,
  IORING_FEAT_RECVSEND_BUNDLE,
  IORING_RECVSEND_BUNDLE,
  IOSQE_BUFFER_SELECT,
  IOU_PBUF_RING_INC,
  MSG_DONTWAIT,
  type Ring,
  SO_SNDBUF,
  SOCK_DGRAM,
  SOL_SOCKET,
  type Sqe,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { BufferGroup } from "../support/buffers.ts";
import { assertContent, content } from "../support/content.ts";
import { Pipe } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import {
  block,
  type Completion,
  entry,
  forEachKind,
  makeRing,
  missingFeature,
  once,
  reap,
} from "../support/rings.ts";
import { Connection, send, setOption } from "../support/sockets.ts";

checkLeaks();

const EAGAIN = -11;
const ENOBUFS = -105;
const BGID = 3;

const noBundles = missingFeature(IORING_FEAT_RECVSEND_BUNDLE, "IORING_FEAT_RECVSEND_BUNDLE");
const noIncremental = firstReason(noBundles, kernelHas("6.12") ? false : "needs Linux 6.12");

function armRecv(ring: Ring, group: BufferGroup, fd: number, userData: number, bundle = true): void {
  entry(ring, userData, (sqe) => {
    sqe.prepRecvMultishot(fd, 0, 0, 0);
    if (bundle) sqe.ioprio |= IORING_RECVSEND_BUNDLE;
    group.select(sqe);
  });
}

/** What a bundle has put into buffers that were given in the order of their ids. */
function gather(group: BufferGroup, { res, flags }: Completion): Uint8Array {
  const all = new Uint8Array(res);
  let bid = flags >>> IORING_CQE_BUFFER_SHIFT;
  for (let at = 0; at < res; at += group.size, bid = (bid + 1) % group.entries) {
    const from = bid * group.size;
    all.set(group.bytes.subarray(from, from + Math.min(group.size, res - at)), at);
  }
  return all;
}

/** The buffers that a bundle took, in order. */
function taken(group: BufferGroup, { res, flags }: Completion): number[] {
  const first = flags >>> IORING_CQE_BUFFER_SHIFT;
  return Array.from({ length: Math.ceil(res / group.size) }, (_, i) => (first + i) % group.entries);
}

forEachKind(({ name, options, skip }) => {
  const reason = firstReason(skip, noBundles);

  test(`liburing recv-bundle-buf-len: ${name}: a failing bundle leaves the buffer as long as it was`, {
    skip: reason,
  }, () => {
    using ring = makeRing(8, options);
    using group = new BufferGroup(ring, 2, BGID, 4096);
    using pair = Connection.unix(0, SOCK_DGRAM);
    using pipe = new Pipe();
    group.give();
    const prep = (length: number, fd: number) => (sqe: Sqe): void => {
      sqe.prepRecv(fd, 0, length, MSG_DONTWAIT);
      sqe.ioprio |= IORING_RECVSEND_BUNDLE;
      group.select(sqe);
    };
    assert.equal(once(ring, prep(1, pair.a.fd)).res, EAGAIN);
    const lengths = new DataView(group.bufRing.memory.buffer);
    assert.equal(lengths.getUint32(io_uring_buf.len, true), 4096);
    // Whoever takes it next has all of it.
    pipe.write("Z".repeat(4096));
    const read = once(ring, (sqe) => {
      sqe.prepRead(pipe.reader.fd, 0, 4096, 0);
      group.select(sqe);
    });
    assert.equal(read.res, 4096);
    assert.equal(group.indexOf(read), 0);
  });

  test(`liburing recv-bundle-buf-len: ${name}: a bundle of less than a buffer`, { skip: reason }, () => {
    using ring = makeRing(8, options);
    using group = new BufferGroup(ring, 2, BGID, 4096);
    using pair = Connection.unix();
    group.give();
    send(pair.b.fd, content(64));
    const short = once(ring, (sqe) => {
      sqe.prepRecv(pair.a.fd, 0, 32, MSG_DONTWAIT);
      sqe.ioprio |= IORING_RECVSEND_BUNDLE;
      group.select(sqe);
    });
    assert.equal(short.res, 32);
    assert.equal(group.indexOf(short), 0);
    assertContent(group.bytes, 32, 0);
  });

  test(`liburing recv-bundle-short-ooo: ${name}: several receives of one connection keep its order`, {
    skip: reason,
  }, () => {
    using ring = makeRing(16, options);
    using group = new BufferGroup(ring, 4, BGID, 1024);
    using pair = Connection.tcp();
    group.give();
    const TOTAL = 128 * 1024;
    send(pair.b.fd, content(TOTAL));
    pair.b.close();
    for (let i = 0; i < 4; i++) armRecv(ring, group, pair.a.fd, i);
    ring.submit();
    let received = 0;
    for (let rounds = 0; received < TOTAL && rounds < 5000; rounds++) {
      const [completion] = reap(ring, 1);
      const { res, flags, userData } = completion!;
      if (res > 0) {
        const data = gather(group, completion!);
        assertContent(data, res, received);
        received += res;
        group.give(...taken(group, completion!));
      } else assert.ok(res === 0 || res === ENOBUFS, `${res}`);
      if ((flags & IORING_CQE_F_MORE) === 0 && res !== 0) {
        armRecv(ring, group, pair.a.fd, userData);
        ring.submit();
      }
    }
    assert.equal(received, TOTAL);
  });

  test(`liburing recv-inc-ooo: ${name}: bit by bit, across the ends of buffers`, {
    skip: firstReason(skip, noIncremental),
  }, () => {
    using ring = makeRing(16, options);
    using group = new BufferGroup(ring, 4, BGID, 1024, { flags: IOU_PBUF_RING_INC });
    using pair = Connection.tcp();
    group.give();
    armRecv(ring, group, pair.a.fd, 7);
    ring.submit();
    const data = content(2048);
    let cursor = 0;
    for (const length of [512, 333, 777, 426]) {
      const end = cursor + length;
      send(pair.b.fd, data.subarray(cursor, end));
      while (cursor < end) {
        const [{ res, flags }] = reap(ring, 1) as [Completion];
        assert.ok(res > 0 && res <= 1024, `${res}`);
        assert.equal((flags & IORING_CQE_F_BUF_MORE) !== 0, (cursor + res) % 1024 !== 0);
        // The buffers lie one behind the other, and so does what was received.
        assertContent(group.bytes.subarray(cursor), res, cursor);
        cursor += res;
      }
    }
    assert.equal(cursor, 2048);
  });
});

const MESSAGE = 128;

/** Where a test's messages come from and where they go. */
interface Way {
  readonly title: string;
  readonly sendBundle: boolean;
  readonly recvBundle: boolean;
  readonly classic?: boolean;
  readonly incremental?: boolean;
  readonly udp?: boolean;
}

const WAYS: readonly Way[] = [
  { title: "neither", sendBundle: false, recvBundle: false },
  { title: "received", sendBundle: false, recvBundle: true },
  { title: "sent", sendBundle: true, recvBundle: false },
  { title: "both", sendBundle: true, recvBundle: true },
  { title: "both, classic buffers", sendBundle: true, recvBundle: false, classic: true },
  { title: "datagrams", sendBundle: false, recvBundle: false, udp: true },
  { title: "received bit by bit", sendBundle: false, recvBundle: true, incremental: true },
  { title: "both, bit by bit", sendBundle: true, recvBundle: true, incremental: true },
];

/** Messages in buffers that a send takes by itself. */
function provide(ring: Ring, count: number, data: Uint8Array, classic: boolean): Disposable {
  if (!classic) {
    const group = new BufferGroup(ring, count, 1, MESSAGE);
    group.bytes.set(data);
    group.give();
    return group;
  }
  const memory = block(data.length);
  memory.bytes.set(data);
  assert.equal(once(ring, (sqe) => sqe.prepProvideBuffers(memory.address, MESSAGE, count, 1, 0)).res, 0);
  return { [Symbol.dispose]: () => {} };
}

/** Sends messages out of provided buffers, as far as the socket takes them. */
class Sending {
  readonly #ring: Ring;
  readonly #fd: number;
  readonly #bundle: boolean;
  #left: number;
  #armed = false;

  constructor(ring: Ring, fd: number, count: number, bundle: boolean) {
    this.#ring = ring;
    this.#fd = fd;
    this.#bundle = bundle;
    this.#left = count * MESSAGE;
  }

  /** Goes on as far as that is possible at the moment. */
  go(): void {
    const ring = this.#ring;
    for (;;) {
      if (!this.#armed && this.#left > 0) this.#arm();
      ring.submitAndGetEvents();
      if (ring.cqReady() === 0) return;
      const [{ res, flags }] = reap(ring, 1) as [Completion];
      assert.ok(res > 0, `${res}`);
      assert.ok(this.#bundle || res === MESSAGE);
      this.#left -= res;
      this.#armed = (flags & IORING_CQE_F_MORE) !== 0;
    }
  }

  #arm(): void {
    entry(this.#ring, 1, (sqe) => {
      if (this.#bundle) sqe.prepSendBundle(this.#fd, 0, 0);
      else sqe.prepSend(this.#fd, 0, 0, 0);
      sqe.flags |= IOSQE_BUFFER_SELECT;
      sqe.bufGroup = 1;
    });
    this.#armed = true;
  }
}

function exchange(way: Way, count: number, backlog: boolean): void {
  using sender = makeRing(16);
  using receiver = makeRing(16, { cqEntries: 4096 });
  using pair = way.udp === true ? Connection.udp() : Connection.tcp();
  const incremental = way.incremental === true;
  const BUFFERS = 8192;
  using group = incremental
    ? new BufferGroup(receiver, 8, BGID, BUFFERS * MESSAGE, { flags: IOU_PBUF_RING_INC })
    : new BufferGroup(receiver, BUFFERS, BGID, MESSAGE);
  if (incremental) group.give(0);
  else group.give();
  setOption(pair.a.fd, SOL_SOCKET, SO_SNDBUF, 1024 * MESSAGE);
  let before = 0;
  // Almost full: the bundle does not fit as a whole.
  const filler = content(1 << 20);
  if (backlog) {
    for (;;) {
      const part = filler.subarray(before, before + MESSAGE);
      const sent = libc().send(pair.a.fd, part, MESSAGE, MSG_DONTWAIT);
      if (sent < MESSAGE) {
        if (sent > 0) before += sent;
        break;
      }
      before += sent;
      if (before >= BUFFERS * MESSAGE / 2) break;
    }
  }
  const data = content(count * MESSAGE, 1);
  using _provided = provide(sender, count, data, way.classic === true);
  armRecv(receiver, group, pair.b.fd, 2, way.recvBundle);
  receiver.submit();
  const sending = new Sending(sender, pair.a.fd, count, way.sendBundle);
  sending.go();
  const total = before + data.length;
  const all = new Uint8Array(total);
  for (let at = 0; at < total;) {
    if (receiver.cqReady() === 0) sending.go();
    const [completion] = reap(receiver, 1);
    const { res, flags } = completion!;
    assert.ok(res > 0, `${res}`);
    assert.ok((flags & IORING_CQE_F_BUFFER) !== 0);
    if (!way.recvBundle) assert.ok(res <= MESSAGE);
    if (incremental) {
      assert.equal(flags >>> IORING_CQE_BUFFER_SHIFT, 0);
      assert.ok((flags & IORING_CQE_F_BUF_MORE) !== 0);
      all.set(group.bytes.subarray(at, at + res), at);
    } else all.set(gather(group, completion!), at);
    at += res;
    if ((flags & IORING_CQE_F_MORE) === 0 && at < total) {
      armRecv(receiver, group, pair.b.fd, 2, way.recvBundle);
      receiver.submit();
    }
  }
  assertContent(all, before, 0);
  assertContent(all.subarray(before), data.length, 0, 1);
}

/** All sizes, with and without a socket that is full. */
function exchanges(way: Way): void {
  for (const count of [4, 32]) {
    exchange(way, count, false);
    // A datagram that does not fit is lost.
    if (way.udp !== true) exchange(way, count, true);
  }
}

for (const way of WAYS) {
  if (way.incremental === true) {
    test(`liburing recvsend_bundle-inc: ${way.title}`, { skip: noIncremental }, () => exchanges(way));
  } else test(`liburing recvsend_bundle: ${way.title}`, { skip: noBundles }, () => exchanges(way));
}

test("a bundle out of an empty group has no buffers", { skip: noBundles }, () => {
  using ring = makeRing(4);
  using group = new BufferGroup(ring, 2, BGID, 16);
  using pair = Connection.unix();
  const { res, flags } = once(ring, (sqe) => {
    sqe.prepSendBundle(pair.a.fd, 0, 0);
    group.select(sqe);
  });
  assert.deepEqual([res, flags & IORING_CQE_F_MORE], [ENOBUFS, 0]);
});
