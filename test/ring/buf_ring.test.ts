/** Rings of provided buffers: filled, picked from, given back, exhausted. */
import assert from "node:assert/strict";
import {
  type BufRing,
  bufRingAdd,
  bufRingAdvance,
  bufRingCqAdvance,
  bufRingMask,
  IORING_CQE_F_BUF_MORE,
  IORING_CQE_F_BUFFER,
  IORING_CQE_F_MORE,
  IORING_RECV_MULTISHOT,
  IOSQE_BUFFER_SELECT,
  IOU_PBUF_RING_INC,
  Mapping,
  type Ring,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { system } from "../../src/ffi/system.ts";
import { Fd, isMapped, Pipe } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertEntry,
  assertQuiet,
  type Completion,
  entry,
  forEachKind,
  makeRing,
  reap,
} from "../support/rings.ts";

checkLeaks();

const ENOBUFS = -105;
const SIZE = 16;
const noIncremental = kernelHas("6.12") ? false : "needs Linux 6.12";

/** A pool of buffers of {@link SIZE} bytes in a ring of them. */
class Pool implements Disposable {
  readonly memory: Mapping;
  readonly bufRing: BufRing;
  readonly #bytes: Uint8Array;

  constructor(ring: Ring, entries: number, bgid: number) {
    this.memory = Mapping.anonymous(entries * SIZE);
    this.#bytes = new Uint8Array(this.memory.buffer);
    this.bufRing = ring.setupBufRing(entries, bgid);
  }

  /** Adds buffers, to be published together. */
  give(...bids: number[]): void {
    const mask = bufRingMask(this.bufRing.entries);
    bids.forEach((bid, i) => bufRingAdd(this.bufRing, this.memory.address + bid * SIZE, SIZE, bid, mask, i));
    bufRingAdvance(this.bufRing, bids.length);
  }

  /** The content of the buffer that a completion names. */
  text({ flags, res }: Completion): string {
    assert.equal(flags & IORING_CQE_F_BUFFER, IORING_CQE_F_BUFFER);
    const at = (flags >>> 16) * SIZE;
    return new TextDecoder().decode(this.#bytes.subarray(at, at + res));
  }

  [Symbol.dispose](): void {
    this.memory.unmap();
  }
}

const bidOf = ({ flags }: Completion): number => flags >>> 16;

function socketPair(): [Fd, Fd] {
  const fds = new Int32Array(new ArrayBuffer(8));
  const AF_UNIX = 1;
  const SOCK_STREAM = 1;
  assert.equal(system().socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  return [new Fd(fds[0]!), new Fd(fds[1]!)];
}

function send(to: Fd, content: string): void {
  const bytes = new TextEncoder().encode(content);
  assert.equal(system().write(to.fd, bytes, bytes.length), bytes.length);
}

function queueRead(ring: Ring, userData: number, fd: number, bgid: number): void {
  const sqe = entry(ring, userData, (sqe) => sqe.prepRead(fd, 0, 0, 0));
  sqe.flags = IOSQE_BUFFER_SELECT;
  sqe.bufGroup = bgid;
}

forEachKind(({ name, options, skip }) => {
  test(`${name}: buffers are picked in order, run out and come back`, { skip }, () => {
    using pipe = new Pipe();
    using ring = makeRing(8, options);
    using pool = new Pool(ring, 4, 7);
    const next = (content: string): Completion => {
      pipe.write(content);
      queueRead(ring, 1, pipe.reader.fd, 7);
      return reap(ring, 1)[0]!;
    };
    pool.give(0, 1, 2, 3);
    for (let bid = 0; bid < 4; bid++) {
      const completion = next(`content ${bid}`);
      assert.equal(bidOf(completion), bid);
      assert.equal(pool.text(completion), `content ${bid}`);
    }
    const exhausted = next("unread");
    assert.equal(exhausted.res, ENOBUFS);
    assert.equal(exhausted.flags & IORING_CQE_F_BUFFER, 0);
    pool.give(2, 0);
    const again = next("!");
    assert.equal(bidOf(again), 2);
    assert.equal(pool.text(again), "unread!");
    assert.equal(bidOf(next("last")), 0);
  });

  test(`${name}: goes round many times`, { skip }, () => {
    using pipe = new Pipe();
    using ring = makeRing(8, options);
    using pool = new Pool(ring, 8, 1);
    pool.give(0, 1, 2, 3, 4, 5, 6, 7);
    for (let i = 0; i < 200; i++) {
      pipe.write(`${i}`);
      queueRead(ring, i, pipe.reader.fd, 1);
      const [completion] = reap(ring, 1);
      assert.equal(pool.text(completion!), `${i}`);
      assert.equal(bidOf(completion!), i % 8);
      pool.give(bidOf(completion!));
    }
  });

  test(`${name}: a multishot receive takes buffers until they run out`, { skip }, () => {
    using ring = makeRing(8, options);
    using pool = new Pool(ring, 4, 3);
    const [near, far] = socketPair();
    using _near = near;
    using _far = far;
    pool.give(0, 1, 2);
    const sqe = entry(ring, 9, (sqe) => sqe.prepRecvMultishot(near.fd, 0, 0, 0));
    sqe.flags = IOSQE_BUFFER_SELECT;
    sqe.bufGroup = 3;
    assertEntry(sqe, {
      opcode: sqe.opcode,
      flags: IOSQE_BUFFER_SELECT,
      ioprio: IORING_RECV_MULTISHOT,
      fd: near.fd,
      bufIndex: 3,
    });
    ring.submit();
    for (let i = 0; i < 3; i++) {
      assertQuiet(ring);
      send(far, `message ${i}`);
      const [completion] = reap(ring, 1);
      assert.equal(completion!.userData, 9);
      assert.equal(completion!.flags & IORING_CQE_F_MORE, IORING_CQE_F_MORE);
      assert.equal(pool.text(completion!), `message ${i}`);
    }
    send(far, "nowhere to go");
    const [last] = reap(ring, 1);
    assert.equal(last!.res, ENOBUFS);
    assert.equal(last!.flags & IORING_CQE_F_MORE, 0);
    // Armed anew, it receives what waited; the other end's end is the end.
    pool.give(1, 2);
    queueRecv(ring, near.fd);
    assert.equal(pool.text(reap(ring, 1)[0]!), "nowhere to go");
    far.close();
    const [end] = reap(ring, 1);
    assert.equal(end!.res, 0);
    assert.equal(end!.flags & IORING_CQE_F_MORE, 0);
  });

  test(`${name}: an incremental buffer is used up bit by bit`, { skip: skip || noIncremental }, () => {
    using pipe = new Pipe();
    using ring = makeRing(8, options);
    using memory = Mapping.anonymous(4096);
    const bufRing = ring.setupBufRing(2, 5, IOU_PBUF_RING_INC);
    bufRingAdd(bufRing, memory.address, 20, 0, bufRingMask(2), 0);
    bufRingAdvance(bufRing, 1);
    const more: number[] = [];
    for (const content of ["0123456", "789", "abcdefghij"]) {
      pipe.write(content);
      queueRead(ring, 1, pipe.reader.fd, 5);
      const [completion] = reap(ring, 1);
      assert.equal(completion!.res, content.length);
      assert.equal(bidOf(completion!), 0);
      more.push(completion!.flags & IORING_CQE_F_BUF_MORE);
    }
    assert.equal(new TextDecoder().decode(new Uint8Array(memory.buffer, 0, 20)), "0123456789abcdefghij");
    assert.deepEqual(more, [IORING_CQE_F_BUF_MORE, IORING_CQE_F_BUF_MORE, 0]);
  });
});

function queueRecv(ring: Ring, fd: number): void {
  const sqe = entry(ring, 9, (sqe) => sqe.prepRecvMultishot(fd, 0, 0, 0));
  sqe.flags = IOSQE_BUFFER_SELECT;
  sqe.bufGroup = 3;
}

test("a group can be there once", () => {
  using ring = makeRing(4);
  const first = ring.setupBufRing(4, 1);
  assert.throws(() => ring.setupBufRing(4, 1), { code: "EEXIST", syscall: "io_uring_register" });
  const second = ring.setupBufRing(4, 0xffff);
  ring.freeBufRing(first);
  assert.equal(isMapped(first.memory.address), false);
  assert.throws(() => ring.freeBufRing(first), { code: "ENOENT" });
  ring.freeBufRing(ring.setupBufRing(8, 1));
  ring.freeBufRing(second);
});

test("sizes, groups and flags that cannot be are refused", () => {
  using ring = makeRing(4);
  for (const entries of [0, 3, -4, 1.5, 65536, NaN]) {
    assert.throws(() => ring.setupBufRing(entries, 0), RangeError);
  }
  for (const bgid of [-1, 65536, 0.5]) assert.throws(() => ring.setupBufRing(4, bgid), RangeError);
  assert.throws(() => ring.setupBufRing(4, 0, 0x40), RangeError);
  // The kernel stops one short of the index's 16 bits.
  const largest = ring.setupBufRing(32768, 1);
  assert.equal(largest.entries, 32768);
  ring.freeBufRing(largest);
});

test("a group that is not there has no buffers", () => {
  using pipe = new Pipe();
  using ring = makeRing(4);
  pipe.write("x");
  queueRead(ring, 1, pipe.reader.fd, 42);
  assert.equal(reap(ring, 1)[0]!.res, ENOBUFS);
});

test("bufRingCqAdvance gives buffers back and takes completions at once", () => {
  using pipe = new Pipe();
  using ring = makeRing(4);
  using pool = new Pool(ring, 2, 1);
  pool.give(0, 1);
  for (let i = 0; i < 10; i++) {
    pipe.write(`${i}`);
    queueRead(ring, i, pipe.reader.fd, 1);
    ring.submitAndWait(1);
    const { flags, res, userData } = ring.waitCqe();
    assert.equal(pool.text({ flags, res, userData }), `${i}`);
    const bid = flags >>> 16;
    bufRingAdd(pool.bufRing, pool.memory.address + bid * SIZE, SIZE, bid, bufRingMask(2), 0);
    bufRingCqAdvance(ring, pool.bufRing, 1);
    assert.equal(ring.cqReady(), 0);
  }
});

test("the ring's 16-bit tail wraps", () => {
  using pipe = new Pipe();
  using ring = makeRing(4);
  using pool = new Pool(ring, 2, 1);
  // Published and taken alternate, so that the tail passes 65536.
  pool.give(0);
  const read = (i: number): void => {
    queueRead(ring, i, pipe.reader.fd, 1);
    ring.submit();
    if (ring.forEachCqe((cqe) => assert.equal(cqe.res, 1)) !== 1) assert.fail(`no completion in round ${i}`);
    bufRingAdd(pool.bufRing, pool.memory.address, SIZE, 0, 1, 0);
    bufRingAdvance(pool.bufRing, 1);
  };
  const one = new Uint8Array(1);
  for (let i = 0; i < 66_000; i++) {
    system().write(pipe.writer.fd, one, 1);
    read(i);
  }
});
