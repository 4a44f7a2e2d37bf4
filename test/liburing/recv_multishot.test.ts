/** Receives with many completions: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import {
  bufRingAdd,
  bufRingAdvance,
  bufRingMask,
  IORING_CQE_F_BUFFER,
  IORING_CQE_F_MORE,
  IORING_OP_RECV,
  IORING_RECVSEND_BUNDLE,
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  IOSQE_BUFFER_SELECT,
  IOSQE_CQE_SKIP_SUCCESS,
  IPPROTO_IP,
  Mapping,
  MSG_TRUNC,
  recvmsgCmsgFirsthdr,
  recvmsgCmsgNexthdr,
  recvmsgName,
  type RecvmsgOut,
  recvmsgPayload,
  recvmsgPayloadLength,
  type RecvmsgRoom,
  recvmsgValidate,
  type Ring,
  SHUT_RDWR,
  type Sqe,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { msghdr } from "../../src/ffi/structs.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { Peer } from "../support/peer.ts";
import {
  assertQuiet,
  type Block,
  block,
  type Completion,
  entry,
  eventually,
  forEachKind,
  makeRing,
  missingOp,
  missingRing,
  once,
  reap,
} from "../support/rings.ts";
import { Connection, send, setOption } from "../support/sockets.ts";

checkLeaks();

const ENOBUFS = -105;
const ECANCELED = -125;

const IP_RECVORIGDSTADDR = 20;
const DEFER = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

const RECV = 1234;
const GROUP = 7;
const SENDS = 8;
const WORD = 4;
const ROOM: RecvmsgRoom = { namelen: 128, controllen: 144 };
const HEADER = 16 + ROOM.namelen + ROOM.controllen;

/** What ends a receive before its time. */
const ENDS = ["nothing", "no buffers", "the sender", "a cancellation", "an overflow"] as const;

interface Case {
  readonly stream: boolean;
  readonly waitEach: boolean;
  readonly recvmsg: boolean;
  readonly end: (typeof ENDS)[number];
}

/** Words 0, 1, 2…, of which the n-th send takes n. */
const words = new Uint8Array(Uint32Array.from({ length: 64 }, (_, i) => i).buffer);
/** Where the n-th send begins. */
const sendAt = (n: number): number => WORD * n * (n + 1) / 2;

/** One provided buffer after the other, of different sizes. */
function provide(ring: Ring, { stream, recvmsg, end }: Case): Block[] {
  const count = end === "no buffers" ? 3 : 64;
  return Array.from({ length: count }, (_, i) => {
    const size = WORD * (i % 2 === 0 && (stream || recvmsg) ? 1 : SENDS) + (recvmsg ? HEADER : 0);
    const buffer = block(size);
    assert.equal(once(ring, (sqe) => sqe.prepProvideBuffers(buffer.address, size, 1, GROUP, i)).res, 0);
    return buffer;
  });
}

function arm(ring: Ring, fd: number, { stream, recvmsg }: Case): void {
  const message = block(msghdr.size);
  message.view.setUint32(msghdr.msg_namelen, ROOM.namelen, true);
  message.view.setUint32(msghdr.msg_controllen, ROOM.controllen, true);
  entry(ring, RECV, (sqe) => {
    if (recvmsg) sqe.prepRecvmsgMultishot(fd, message.address, stream ? 0 : MSG_TRUNC);
    else sqe.prepRecvMultishot(fd, 0, 0, 0);
    sqe.flags = IOSQE_BUFFER_SELECT;
    sqe.bufGroup = GROUP;
  });
  ring.submit();
}

/** The data of a completion, and how much of it there was. */
function payload(bytes: Uint8Array, { stream, recvmsg }: Case): { data: Uint8Array; length: number } {
  if (!recvmsg) return { data: bytes, length: bytes.length };
  const out = recvmsgValidate(bytes, bytes.length, ROOM);
  assert.ok(out !== null);
  if (!stream) assertAddresses(out);
  const data = recvmsgPayload(out, bytes.length, ROOM);
  assert.equal(data.length, recvmsgPayloadLength(out, bytes.length, ROOM));
  assert.equal((out.flags & MSG_TRUNC) !== 0, data.length < out.payloadlen);
  return { data, length: out.payloadlen };
}

/** Where a datagram came from and where it went, by its name and its one control message. */
function assertAddresses(out: RecvmsgOut): void {
  const LOCALHOST = [127, 0, 0, 1];
  const name = recvmsgName(out, ROOM);
  assert.deepEqual([name.length, ...name.subarray(4, 8)], [16, ...LOCALHOST]);
  const message = recvmsgCmsgFirsthdr(out, ROOM);
  assert.ok(message !== null);
  assert.deepEqual([message.level, message.type], [IPPROTO_IP, IP_RECVORIGDSTADDR]);
  assert.deepEqual([...message.data.subarray(4, 8)], LOCALHOST);
  assert.equal(recvmsgCmsgNexthdr(out, ROOM, message), null);
}

/** Whether these completions are all that will come. */
function complete(found: readonly Completion[], { stream, end }: Case): boolean {
  const last = found.at(-1);
  if (last !== undefined && (last.flags & IORING_CQE_F_MORE) === 0) return true;
  if (stream || end === "no buffers" || end === "a cancellation") return false;
  return found.length === (end === "the sender" ? 3 : SENDS);
}

/** Sends everything, or what there is until the end comes. */
function sendAll(ring: Ring, pair: Connection, which: Case, found: Completion[]): void {
  const { stream, waitEach, end } = which;
  for (let i = 0; i < SENDS; i++) {
    send(pair.b.fd, words.slice(sendAt(i), sendAt(i + 1)));
    if (i === 2 && end === "a cancellation") {
      eventually(() => {
        ring.getEvents();
        return found.length + ring.cqReady() >= (stream ? 1 : 3);
      }, "what was sent has come");
      entry(ring, 0x888, (sqe) => {
        sqe.prepCancel64(RECV, 0);
        sqe.flags = IOSQE_CQE_SKIP_SUCCESS;
      });
      ring.submit();
      return;
    }
    if (i === 2 && end === "the sender") {
      if (stream) assert.equal(libc().shutdown(pair.b.fd, SHUT_RDWR), 0);
      return;
    }
    if (waitEach && !complete(found, which)) found.push(...reap(ring, 1));
    if (complete(found, which)) return;
  }
  if (stream) pair.b.close();
}

function assertLast({ res, flags }: Completion, bytes: Uint8Array, which: Case): void {
  const { stream, recvmsg, end } = which;
  assert.equal(flags & IORING_CQE_F_MORE, 0);
  if (end === "no buffers") assert.equal(res, ENOBUFS);
  else if (end === "a cancellation") assert.equal(res, ECANCELED);
  else if (end === "an overflow" && res !== 0) assert.ok(res > 0, `${res}`);
  else {
    assert.ok(stream, "datagrams have no end");
    if (recvmsg && (flags & IORING_CQE_F_BUFFER) !== 0) assert.equal(payload(bytes, which).length, 0);
    else assert.equal(res, 0);
  }
  if (res <= 0) assert.equal(flags & IORING_CQE_F_BUFFER, 0);
}

function run(options: Parameters<typeof makeRing>[1], which: Case): void {
  const { stream, recvmsg, end } = which;
  const [entries, more] = end === "an overflow" ? [4, { cqEntries: 4 }] : [32, {}];
  using ring = makeRing(entries, { ...options, ...more });
  using pair = stream ? Connection.tcp() : Connection.udp();
  if (!stream) setOption(pair.a.fd, IPPROTO_IP, IP_RECVORIGDSTADDR, 1);
  const buffers = provide(ring, which);
  arm(ring, pair.a.fd, which);
  const found: Completion[] = [];
  sendAll(ring, pair, which, found);
  while (!complete(found, which)) found.push(...reap(ring, 1));
  assertQuiet(ring);

  let received = 0;
  for (const [i, cqe] of found.entries()) {
    assert.equal(cqe.userData, RECV);
    const bytes = (cqe.flags & IORING_CQE_F_BUFFER) === 0
      ? new Uint8Array(0)
      : buffers[cqe.flags >>> 16]!.bytes.subarray(0, cqe.res);
    const ended = (cqe.flags & IORING_CQE_F_MORE) === 0;
    assert.equal(ended && i < found.length - 1, false, "something came after the last");
    if (ended) assertLast(cqe, bytes, which);
    if (cqe.res <= 0) continue;
    assert.equal(cqe.flags & IORING_CQE_F_BUFFER, IORING_CQE_F_BUFFER);
    const { data, length } = payload(bytes, which);
    const at = stream ? received : sendAt(length / WORD - 1);
    assert.deepEqual(data, words.subarray(at, at + data.length));
    received += stream || !recvmsg ? data.length : length;
  }
  if (end === "nothing") assert.equal(received, sendAt(SENDS));
  if (end === "the sender" || (end === "a cancellation" && !stream)) assert.equal(received, sendAt(3));
  if (end === "no buffers") {
    assert.equal(found.length, 4);
    if (!stream) assert.equal(received, sendAt(3));
  }
}

forEachKind(({ name, options, skip }) => {
  for (const end of ENDS) {
    test(`liburing recv-multishot: ${name}: ended by ${end}`, { skip }, () => {
      for (let i = 0; i < 8; i++) {
        run(options, { stream: (i & 1) !== 0, waitEach: (i & 2) !== 0, recvmsg: (i & 4) !== 0, end });
      }
    });
  }

  test(`liburing recv-multishot: ${name}: buffers run out`, { skip }, () => {
    using ring = makeRing(8, options);
    using pair = Connection.udp();
    const buffers = block(2);
    entry(ring, 0, (sqe) => sqe.prepProvideBuffers(buffers.address, 1, 2, 0, 0));
    entry(ring, 1, (sqe) => {
      sqe.prepRecvMultishot(pair.a.fd, 0, 0, 0);
      sqe.flags = IOSQE_BUFFER_SELECT;
    });
    ring.submit();
    for (let i = 0; i < 3; i++) send(pair.b.fd, new TextEncoder().encode("?"));
    const found = reap(ring, 4);
    assert.deepEqual(found.map(({ userData, res }) => [userData, res]), [[0, 0], [1, 1], [1, 1], [
      1,
      ENOBUFS,
    ]]);
    const both = IORING_CQE_F_BUFFER | IORING_CQE_F_MORE;
    assert.deepEqual(found.map(({ flags }) => flags & both), [0, both, both, 0]);
  });
});

test("liburing recv-multishot: a message's header is only believed where it fits", () => {
  const bytes = new Uint8Array(64);
  const room = (namelen: number, controllen: number): RecvmsgRoom => ({ namelen, controllen });
  const out = recvmsgValidate(bytes, 64, room(4, 8));
  assert.ok(out !== null);
  assert.ok(recvmsgValidate(bytes, 28, room(4, 8)) !== null, "it fits exactly");
  assert.equal(recvmsgValidate(bytes, 27, room(4, 8)), null);
  assert.equal(recvmsgValidate(bytes, -1, room(4, 8)), null);
  assert.equal(recvmsgValidate(bytes, 15, room(0, 0)), null);
  assert.equal(recvmsgValidate(bytes, 64, room(4, 0xffff_ffff - 16)), null);
  assert.equal(recvmsgPayloadLength(out, 64, room(4, 8)), 36);
  assert.equal(recvmsgPayloadLength(out, -1, room(4, 8)), 0);
  assert.equal(recvmsgPayloadLength(out, 64, room(40, 30)), 0);
});

/** A receive into provided buffers. */
function prepReceive(sqe: Sqe, fd: number, group: number, length = 0): void {
  sqe.prepRecvMultishot(fd, 0, length, 0);
  sqe.flags = IOSQE_BUFFER_SELECT;
  sqe.bufGroup = group;
}

test("liburing recv-mshot-drain: buffers run out again and again while data comes", async () => {
  const [COUNT, SIZE, BUFFERS, BUFFER] = [4096, 64, 4, 128] as const;
  using peer = await Peer.start();
  using ring = makeRing(32);
  using memory = Mapping.anonymous(4096);
  using pair = Connection.tcp();
  const bytes = new Uint8Array(memory.buffer);
  const bufRing = ring.setupBufRing(BUFFERS, 1);
  const refill = (bids: readonly number[]): void => {
    bids.forEach((bid, i) => {
      bufRingAdd(bufRing, memory.address + bid * BUFFER, BUFFER, bid, bufRingMask(BUFFERS), i);
    });
    bufRingAdvance(bufRing, bids.length);
  };
  refill([0, 1, 2, 3]);
  const rearm = (): void => {
    entry(ring, 1, (sqe) => prepReceive(sqe, pair.b.fd, 1));
    assert.equal(ring.submit(), 1);
  };
  rearm();
  peer.begin({ kind: "streams", fd: pair.a.fd, count: COUNT, size: SIZE });
  let received = 0;
  let exhausted = 0;
  const used: number[] = [];
  for (;;) {
    const { res, flags } = reap(ring, 1)[0]!;
    if (res === 0) break;
    if (res === ENOBUFS) {
      assert.equal(flags & (IORING_CQE_F_MORE | IORING_CQE_F_BUFFER), 0);
      assert.equal(used.length, BUFFERS);
      refill(used.splice(0));
      exhausted++;
      rearm();
      continue;
    }
    assert.ok(res > 0 && (flags & IORING_CQE_F_BUFFER) !== 0, `${res}`);
    const bid = flags >>> 16;
    for (let i = 0; i < res; i++, received++) {
      assert.equal(bytes[bid * BUFFER + i], Math.floor(received / SIZE) & 0xff);
    }
    used.push(bid);
    if ((flags & IORING_CQE_F_MORE) === 0) rearm();
  }
  await peer.end();
  assert.equal(received, COUNT * SIZE);
  assert.ok(exhausted > 100, `${exhausted} times`);
});

const noLimit = firstReason(
  missingOp(IORING_OP_RECV),
  kernelHas("6.17") ? false : "limits of multishot receives need Linux 6.17",
);

for (
  const [kind, flags] of [["DEFER_TASKRUN", DEFER], ["COOP_TASKRUN", IORING_SETUP_COOP_TASKRUN]] as const
) {
  for (const bundle of [false, true]) {
    for (const limited of [false, true]) {
      const how = `${bundle ? "bundles" : "single buffers"}${limited ? ", 4 KiB an arming" : ""}`;
      test(`liburing recv-mshot-fair: ${kind}: ${how}`, { skip: missingRing({ flags }) || noLimit }, () => {
        const [STREAMS, BUFFERS, BUFFER, TURN, LIMIT, TOTAL] = [4, 2048, 32, 1024, 4096, 8192] as const;
        using ring = makeRing(16, { flags, cqEntries: 4096 });
        using memory = Mapping.anonymous(BUFFERS * BUFFER);
        const bufRing = ring.setupBufRing(BUFFERS, 8);
        for (let bid = 0; bid < BUFFERS; bid++) {
          bufRingAdd(bufRing, memory.address + bid * BUFFER, BUFFER, bid, bufRingMask(BUFFERS), bid);
        }
        bufRingAdvance(bufRing, BUFFERS);
        const pairs = Array.from({ length: STREAMS }, () => Connection.tcp());
        for (const { a } of pairs) send(a.fd, new Uint8Array(TOTAL).fill(0xa5));
        const arm = (which: number): void => {
          entry(ring, which, (sqe) => {
            prepReceive(sqe, pairs[which]!.b.fd, 8, TURN);
            if (limited) sqe.fileIndex = LIMIT;
            if (bundle) sqe.ioprio |= IORING_RECVSEND_BUNDLE;
          });
        };
        for (let i = 0; i < STREAMS; i++) arm(i);
        assert.equal(ring.submit(), STREAMS);
        const left = new Array<number>(STREAMS).fill(TOTAL);
        const sinceArmed = new Array<number>(STREAMS).fill(0);
        let [last, turn] = [-1, 0];
        let waiting = 0;
        while (left.some((bytes) => bytes > 0)) {
          // Entries stay queued until there is one for each stream: they are to be armed together.
          const cqe = ring.waitCqeTimeout({ sec: 10, nsec: 0 });
          assert.ok(cqe !== null);
          const { userData: which, res, flags } = cqe;
          ring.cqeSeen(cqe);
          assert.ok(res > 0 && (flags & IORING_CQE_F_BUFFER) !== 0, `${res}`);
          if (which !== last) [last, turn] = [which, 0];
          turn += res;
          left[which]! -= res;
          sinceArmed[which]! += res;
          // While others have data waiting, nobody takes more than his turn.
          const others = left.filter((bytes, i) => i !== which && bytes > 0).length;
          if (others === STREAMS - 1) assert.ok(turn <= TURN + BUFFER, `${turn} bytes in a row`);
          if (limited) assert.ok(sinceArmed[which]! <= LIMIT, `${sinceArmed[which]} bytes`);
          if ((flags & IORING_CQE_F_MORE) === 0) {
            sinceArmed[which] = 0;
            if (left[which]! > 0) {
              arm(which);
              waiting++;
            }
          }
          if (waiting === STREAMS) {
            ring.submit();
            waiting = 0;
          }
        }
        for (const pair of pairs) pair[Symbol.dispose]();
      });
    }
  }
}
