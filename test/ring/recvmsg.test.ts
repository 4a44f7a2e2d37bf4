/** Messages with `struct msghdr`: whole ones, cut ones, into provided buffers; what a multishot receive writes. */
import assert from "node:assert/strict";
import { io_uring_recvmsg_out, iovec, msghdr, sockaddr_in } from "../../src/ffi/structs.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import {
  type Cmsg,
  cmsgAlign,
  cmsgFirsthdr,
  cmsgLen,
  cmsgNexthdr,
  cmsgPut,
  cmsgSpace,
  IORING_CQE_BUFFER_SHIFT,
  IORING_CQE_F_BUFFER,
  IORING_CQE_F_MORE,
  IOSQE_ASYNC,
  IOSQE_BUFFER_SELECT,
  IOU_PBUF_RING_INC,
  Mapping,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_TRUNC,
  MSG_WAITALL,
  recvmsgCmsgFirsthdr,
  recvmsgCmsgNexthdr,
  recvmsgControl,
  recvmsgName,
  recvmsgPayload,
  recvmsgPayloadLength,
  recvmsgValidate,
  type Ring,
  SO_SNDBUF,
  SOL_SOCKET,
  type Sqe,
} from "../../src/ring/mod.ts";
import { bufRingAdd, bufRingAdvance, bufRingMask } from "../../src/ring/mod.ts";
import { BufferGroup } from "../support/buffers.ts";
import { assertContent, content } from "../support/content.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import {
  assertQuiet,
  type Block,
  block,
  blockOf,
  type Completion,
  entry,
  forEachKind,
  iovecs,
  makeRing,
  once,
  reap,
  sleep,
  text,
} from "../support/rings.ts";
import { Bound, Connection, loopback, receive, send, setOption } from "../support/sockets.ts";

checkLeaks();

const EFAULT = -14;
const EINVAL = -22;
const ENOBUFS = -105;
const BGID = 10;

const noMultishot = kernelHas("6.0") ? false : "needs Linux 6.0";

interface MessageParts {
  readonly vectors?: Block;
  readonly count?: number;
  readonly name?: Block;
  readonly control?: Block;
}

/** A `struct msghdr`. */
function message({ vectors, count, name, control }: MessageParts): Block {
  const made = block(msghdr.size);
  const pointer = (at: number, to: Block | undefined): void => {
    if (to !== undefined) made.view.setBigUint64(at, BigInt(to.address), true);
  };
  pointer(msghdr.msg_iov, vectors);
  made.view.setBigUint64(
    msghdr.msg_iovlen,
    BigInt(count ?? (vectors === undefined ? 0 : vectors.bytes.length / iovec.size)),
    true,
  );
  pointer(msghdr.msg_name, name);
  made.view.setUint32(msghdr.msg_namelen, name?.bytes.length ?? 0, true);
  pointer(msghdr.msg_control, control);
  made.view.setBigUint64(msghdr.msg_controllen, BigInt(control?.bytes.length ?? 0), true);
  return made;
}

/** Parts of a block, one byte each but for the last. */
function split(whole: Block, count: number): Block {
  const made = block(iovec.size * count);
  for (let i = 0; i < count; i++) {
    const length = i === count - 1 ? whole.bytes.length - i : 1;
    made.view.setBigUint64(i * iovec.size + iovec.iov_base, BigInt(whole.address + i), true);
    made.view.setBigUint64(i * iovec.size + iovec.iov_len, BigInt(length), true);
  }
  return made;
}

const WORDS = "This is a test of sendmsg and recvmsg over io_uring!";

forEachKind(({ name, options, skip }) => {
  for (const async of [false, true]) {
    const how = async ? ", in a worker thread" : "";

    for (const count of [1, 10]) {
      test(`liburing send_recvmsg: ${name}: ${count} vectors${how}`, { skip }, () => {
        using ring = makeRing(4, options);
        using receiver = Bound.udp();
        using sender = Bound.udp();
        const into = block(128);
        const from = block(sockaddr_in.size);
        const incoming = message({ vectors: split(into, count), name: from });
        entry(ring, 1, (sqe) => {
          sqe.prepRecvmsg(receiver.fd, incoming.address, 0);
          if (async) sqe.flags |= IOSQE_ASYNC;
        });
        ring.submit();
        const outgoing = message({ vectors: iovecs([blockOf(WORDS)]), name: loopback(receiver.port) });
        entry(ring, 2, (sqe) => sqe.prepSendmsg(sender.fd, outgoing.address, 0));
        ring.submit();
        const results = new Map(reap(ring, 2).map(({ userData, res }) => [userData, res]));
        assert.deepEqual([results.get(1), results.get(2)], [WORDS.length, WORDS.length]);
        assert.equal(text(into, WORDS.length), WORDS);
        assert.equal(incoming.view.getUint32(msghdr.msg_namelen, true), sockaddr_in.size);
        assert.deepEqual(from.bytes, loopback(sender.port).bytes);
      });
    }

    for (const classic of [false, true]) {
      const kind = classic ? "classic buffers" : "a ring of buffers";
      test(`liburing send_recvmsg: ${name}: into ${kind}${how}`, { skip }, () => {
        using ring = makeRing(4, options);
        using pair = Connection.udp();
        using group = new BufferGroup(ring, 1, classic ? BGID + 1 : BGID, 129, { firstBid: 89 });
        const vectors = block(iovec.size);
        vectors.view.setBigUint64(iovec.iov_len, 128n, true);
        const incoming = message({ vectors });
        const prep = (sqe: Sqe): void => {
          sqe.prepRecvmsg(pair.b.fd, incoming.address, 0);
          sqe.flags |= IOSQE_BUFFER_SELECT | (async ? IOSQE_ASYNC : 0);
          sqe.bufGroup = BGID;
        };
        send(pair.a.fd, blockOf(WORDS).bytes);
        // Without a buffer there is nowhere to put it.
        assert.equal(once(ring, prep).res, ENOBUFS);
        const memory = block(129);
        if (classic) {
          assert.equal(once(ring, (sqe) => sqe.prepProvideBuffers(memory.address, 128, 1, BGID, 89)).res, 0);
        } else group.give();
        const { res, flags } = once(ring, prep);
        assert.equal(res, WORDS.length);
        assert.equal(flags & IORING_CQE_F_BUFFER, IORING_CQE_F_BUFFER);
        assert.equal(flags >>> IORING_CQE_BUFFER_SHIFT, 89);
        const bytes = classic ? memory.bytes : group.bytes;
        assert.equal(new TextDecoder().decode(bytes.subarray(0, res)), WORDS);
      });
    }
  }

  test(`liburing recv-msgall: ${name}: MSG_WAITALL takes one datagram and no more`, { skip }, () => {
    using ring = makeRing(4, options);
    for (const withHeader of [false, true]) {
      using pair = Connection.udp();
      const into = block(512);
      const incoming = message({ vectors: iovecs([into]) });
      entry(ring, 1, (sqe) => {
        if (withHeader) sqe.prepRecvmsg(pair.b.fd, incoming.address, MSG_WAITALL);
        else sqe.prepRecv(pair.b.fd, into.address, 512, MSG_WAITALL);
      });
      ring.submit();
      for (const half of [content(256), content(256, 1)]) send(pair.a.fd, half);
      assert.equal(reap(ring, 1)[0]!.res, 256);
      assertContent(into.bytes, 256, 0);
    }
  });

  test(`liburing recv-msgall-stream: ${name}: MSG_WAITALL takes all of a stream`, { skip }, () => {
    using ring = makeRing(4, options);
    for (const withHeader of [false, true]) {
      for (const unix of [false, true]) {
        using pair = unix ? Connection.unix() : Connection.tcp();
        const into = block(512);
        const incoming = message({ vectors: split(into, 3) });
        entry(ring, 1, (sqe) => {
          if (withHeader) sqe.prepRecvmsg(pair.b.fd, incoming.address, MSG_WAITALL);
          else sqe.prepRecv(pair.b.fd, into.address, 512, MSG_WAITALL);
        });
        ring.submit();
        send(pair.a.fd, content(512).subarray(0, 256));
        assertQuiet(ring);
        send(pair.a.fd, content(512).subarray(256));
        assert.equal(reap(ring, 1)[0]!.res, 512);
        assertContent(into.bytes, 512, 0);
      }
    }
  });

  test(`liburing sendmsg_iov_clean: ${name}: many sends that wait, whose vectors are gone`, { skip }, () => {
    using ring = makeRing(64, options);
    using pair = Connection.tcp();
    setOption(pair.a.fd, SOL_SOCKET, SO_SNDBUF, 8 * 1024);
    const filler = new Uint8Array(1024);
    let before = 0;
    for (;;) {
      const sent = libc().send(pair.a.fd, filler, filler.length, MSG_DONTWAIT);
      if (sent <= 0) break;
      before += sent;
    }
    const COUNT = 64;
    const data = blockOf(content(64));
    // More than the kernel keeps beside the request, and written over as soon as it was submitted.
    const vectors = iovecs(Array<Block>(16).fill(data));
    const outgoing = message({ vectors });
    for (let i = 0; i < COUNT; i++) entry(ring, i, (sqe) => sqe.prepSendmsg(pair.a.fd, outgoing.address, 0));
    ring.submit();
    if (!name.includes("SQPOLL")) {
      vectors.bytes.fill(0xff);
      outgoing.bytes.fill(0xff);
    }
    const results: Completion[] = [];
    let drained = 0;
    while (results.length < COUNT) {
      drained += receive(pair.b.fd, 65536).length;
      ring.submitAndGetEvents();
      while (ring.cqReady() > 0) results.push(...reap(ring, 1));
    }
    const sent = results.reduce((sum, { res }) => sum + Math.max(res, 0), 0);
    assert.ok(results.every(({ res }) => res > 0), JSON.stringify(results));
    for (let i = 0; drained < before + sent && i < 1000; i++) {
      const more = receive(pair.b.fd, 65536);
      if (more.length === 0) sleep(5);
      for (let at = Math.max(0, before - drained); at < more.length; at++) {
        assert.equal(more[at], data.bytes[(drained + at - before) % 64]);
      }
      drained += more.length;
    }
    assert.equal(drained, before + sent);
  });

  test(`${name}: a multishot receive: addresses, control messages, cut data`, {
    skip: firstReason(skip, noMultishot),
  }, () => {
    using ring = makeRing(8, options);
    using receiver = Bound.udp();
    using sender = Bound.udp();
    using group = new BufferGroup(ring, 4, BGID, 16 + 16 + 24 + 20);
    group.give();
    const room = { namelen: sockaddr_in.size, controllen: 24 };
    const incoming = message({ name: block(room.namelen), control: block(room.controllen) });
    entry(ring, 1, (sqe) => {
      sqe.prepRecvmsgMultishot(receiver.fd, incoming.address, 0);
      group.select(sqe);
    });
    ring.submit();
    // SO_TIMESTAMP: a struct timeval comes along.
    setOption(receiver.fd, SOL_SOCKET, 29, 1);
    for (const words of ["short", "of the same length..", "longer than there is room for"]) {
      const outgoing = message({ vectors: iovecs([blockOf(words)]), name: loopback(receiver.port) });
      entry(ring, 2, (sqe) => sqe.prepSendmsg(sender.fd, outgoing.address, 0));
      ring.submit();
      const both = reap(ring, 2);
      const completion = both.find(({ userData }) => userData === 1)!;
      assert.ok((completion.flags & IORING_CQE_F_MORE) !== 0);
      const buffer = group.content(completion);
      const out = recvmsgValidate(buffer, completion.res, room)!;
      assert.equal(out.namelen, sockaddr_in.size);
      assert.deepEqual(new Uint8Array(recvmsgName(out, room)), loopback(sender.port).bytes);
      assert.equal(out.payloadlen, Math.min(words.length, 20));
      assert.equal((out.flags & MSG_TRUNC) !== 0, words.length > 20);
      assert.equal(recvmsgPayloadLength(out, completion.res, room), Math.min(words.length, 20));
      const data = recvmsgPayload(out, completion.res, room);
      assert.equal(new TextDecoder().decode(data), words.slice(0, 20));
      // 32 bytes would be needed.
      assert.equal(out.flags & MSG_CTRUNC, MSG_CTRUNC);
      assert.equal(recvmsgControl(out, room).length, 24);
      group.give(group.indexOf(completion));
    }
  });
});

test(
  "a multishot receive whose buffers are too small for what comes beside the data",
  { skip: noMultishot },
  () => {
    using ring = makeRing(4);
    using pair = Connection.udp();
    using group = new BufferGroup(ring, 1, BGID, 16);
    group.give();
    send(pair.a.fd, new Uint8Array(4));
    const incoming = message({ name: block(16) });
    const { res } = once(ring, (sqe) => {
      sqe.prepRecvmsgMultishot(pair.b.fd, incoming.address, 0);
      group.select(sqe);
    });
    assert.equal(res, EFAULT);
  },
);

/** A ring of buffers that are given up when less than `minLeft` bytes are left, or why there is none. */
function minLeftGroup(ring: Ring, entries: number, size: number, minLeft: number): Mapping | number {
  const memory = Mapping.anonymous(4096);
  const buffers = Mapping.anonymous(entries * size);
  try {
    const bufRing = ring.registerBufRing(memory, entries, BGID, { flags: IOU_PBUF_RING_INC, minLeft });
    for (let i = 0; i < entries; i++) {
      bufRingAdd(bufRing, buffers.address + i * size, size, i, bufRingMask(entries), i);
    }
    bufRingAdvance(bufRing, entries);
    return buffers;
  } catch (error) {
    memory.unmap();
    buffers.unmap();
    return (error as { errno: number }).errno;
  }
}

function missingMinLeft(): string | false {
  if (!kernelHas("6.12")) return "needs Linux 6.12";
  using ring = makeRing(1);
  const made = minLeftGroup(ring, 1, 64, 32);
  if (typeof made !== "number") return false;
  assert.equal(made, EINVAL);
  return "this kernel does not give up the rest of a buffer";
}

test("liburing recvmsg-inc-tail: a rest that is too small for a header is skipped", {
  skip: missingMinLeft(),
}, () => {
  using ring = makeRing(8);
  using pair = Connection.tcp();
  const SIZE = 1024;
  const buffers = minLeftGroup(ring, 4, SIZE, 32) as Mapping;
  const bytes = new Uint8Array(buffers.buffer);
  const room = { namelen: sockaddr_in.size, controllen: 0 };
  const incoming = message({ name: block(room.namelen) });
  entry(ring, 1, (sqe) => {
    sqe.prepRecvmsgMultishot(pair.b.fd, incoming.address, 0);
    sqe.flags |= IOSQE_BUFFER_SELECT;
    sqe.bufGroup = BGID;
  });
  ring.submit();
  const header = io_uring_recvmsg_out.size + room.namelen;
  const used = [0, 0, 0, 0];
  const bids: number[] = [];
  let cursor = 0;
  const data = content(2 * 480 + 7 * 305);
  for (const length of [480, 480, 305, 305, 305, 305, 305, 305, 305]) {
    send(pair.a.fd, data.subarray(cursor, cursor + length));
    const [{ res, flags }] = reap(ring, 1) as [Completion];
    assert.ok(res >= header, `${res}`);
    const bid = flags >>> IORING_CQE_BUFFER_SHIFT;
    bids.push(bid);
    const buffer = bytes.subarray(bid * SIZE + used[bid]!, bid * SIZE + used[bid]! + res);
    used[bid]! += res;
    const out = recvmsgValidate(buffer, res, room)!;
    assert.equal(out.controllen, 0);
    assert.equal(recvmsgPayloadLength(out, res, room), res - header);
    assertContent(recvmsgPayload(out, res, room), res - header, cursor);
    cursor += res - header;
  }
  assert.equal(cursor, data.length);
  assert.deepEqual(bids, [0, 0, 1, 1, 1, 2, 2, 2, 3]);
  ring.unregisterBufRing(BGID);
});

test("control messages: sizes, order, what is cut off", () => {
  assert.deepEqual([0, 1, 4, 8, 9].map(cmsgAlign), [0, 8, 8, 8, 16]);
  assert.deepEqual([0, 4, 12].map(cmsgSpace), [16, 24, 32]);
  assert.deepEqual([0, 4, 12].map(cmsgLen), [16, 20, 28]);
  const control = new Uint8Array(64);
  const second = cmsgPut(control, 0, 1, 2, new Uint8Array([1, 2, 3, 4]));
  assert.equal(second, 24);
  assert.equal(cmsgPut(control, second, -3, 7, new Uint8Array(0)), 40);
  const first = cmsgFirsthdr(control)!;
  assert.deepEqual([first.at, first.level, first.type, [...first.data]], [0, 1, 2, [1, 2, 3, 4]]);
  const next = cmsgNexthdr(control, first)!;
  assert.deepEqual([next.at, next.level, next.type, next.data.length], [24, -3, 7, 0]);
  // A length of 0 ends it.
  assert.equal(cmsgNexthdr(control, next), null);
  assert.equal(cmsgFirsthdr(control, 15), null);
  assert.equal(cmsgFirsthdr(new Uint8Array(0)), null);
  assert.equal(cmsgFirsthdr(new Uint8Array(64)), null);
  assert.equal(cmsgNexthdr(control, first, 39), null);
  assert.deepEqual([...cmsgFirsthdr(control, 18)!.data], [1, 2]);
});

test("the parts of a multishot message", () => {
  const room = { namelen: 4, controllen: 24 };
  const buffer = new Uint8Array(16 + 4 + 24 + 3);
  const view = new DataView(buffer.buffer);
  view.setUint32(io_uring_recvmsg_out.namelen, 2, true);
  view.setUint32(io_uring_recvmsg_out.controllen, 20, true);
  view.setUint32(io_uring_recvmsg_out.payloadlen, 9, true);
  view.setUint32(io_uring_recvmsg_out.flags, MSG_TRUNC, true);
  buffer.set([8, 9], 16);
  cmsgPut(buffer, 20, 1, 1, new Uint8Array([5, 6, 7, 8]));
  buffer.set([1, 2, 3], 44);
  const out = recvmsgValidate(buffer, 47, room)!;
  assert.deepEqual([out.namelen, out.controllen, out.payloadlen, out.flags], [2, 20, 9, MSG_TRUNC]);
  assert.deepEqual([...recvmsgName(out, room)], [8, 9]);
  const cmsg: Cmsg = recvmsgCmsgFirsthdr(out, room)!;
  assert.deepEqual([...cmsg.data], [5, 6, 7, 8]);
  assert.equal(recvmsgCmsgNexthdr(out, room, cmsg), null);
  assert.deepEqual([...recvmsgPayload(out, 47, room)], [1, 2, 3]);
  assert.equal(recvmsgPayloadLength(out, 44, room), 0);
  assert.equal(recvmsgPayloadLength(out, 10, room), 0);
  // Too short for the header and what has room.
  assert.equal(recvmsgValidate(buffer, 43, room), null);
  assert.equal(recvmsgValidate(buffer, -1, room), null);
  assert.equal(recvmsgValidate(buffer.subarray(0, 20), 47, room), null);
});
