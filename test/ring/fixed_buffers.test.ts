/** Reads and writes with registered buffers, whole, in part and in vectors of parts. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import {
  AF_UNIX,
  IORING_CQE_F_MORE,
  IORING_CQE_F_NOTIF,
  IORING_OP_READV_FIXED,
  IOSQE_IO_LINK,
  MAP_NORESERVE,
  Mapping,
  MSG_WAITALL,
  O_CREAT,
  O_DIRECT,
  O_RDONLY,
  O_RDWR,
  type Ring,
  SOCK_STREAM,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { iovec, msghdr } from "../../src/ffi/structs.ts";
import { adapter, system } from "../../src/ffi/system.ts";
import { assertContent, content } from "../support/content.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import {
  block,
  entry,
  forEachKind,
  makeRing,
  missingDirect,
  missingOp,
  once,
  reap,
  reapResults,
} from "../support/rings.ts";
import { Connection } from "../support/sockets.ts";

checkLeaks();

const PAGE = 4096;
const EFAULT = -14;
const noDirect = missingDirect();
const noVectors = missingOp(IORING_OP_READV_FIXED);
const noSparse = kernelHas("5.19") ? false : "needs Linux 5.19";

/** Memory that begins at a page, with its bytes. */
class Pages implements Disposable {
  readonly memory: Mapping;
  readonly bytes: Uint8Array;
  readonly address: number;

  constructor(count: number) {
    this.memory = Mapping.anonymous(count * PAGE, MAP_NORESERVE);
    this.bytes = new Uint8Array(this.memory.buffer);
    this.address = this.memory.address;
  }

  /** From `start` on, as it is registered. */
  from(start: number, length: number = this.bytes.length - start): { address: number; length: number } {
    return { address: this.address + start, length };
  }

  [Symbol.dispose](): void {
    this.memory.unmap();
  }
}

forEachKind(({ name, options, skip }) => {
  test(`liburing fixed-buf-iter: ${name}: a buffer filled by one device goes to another`, { skip }, () => {
    using ring = makeRing(8, options);
    using pages = new Pages(1);
    using random = Fd.open("/dev/urandom", O_RDONLY);
    using zero = Fd.open("/dev/zero", O_RDWR);
    ring.registerBuffers([pages.from(0)]);
    assert.equal(once(ring, (sqe) => sqe.prepReadFixed(random.fd, pages.address, PAGE, 0, 0)).res, PAGE);
    assert.ok(pages.bytes.some((byte) => byte !== 0));
    assert.equal(once(ring, (sqe) => sqe.prepWriteFixed(zero.fd, pages.address, PAGE, 0, 0)).res, PAGE);
    assert.equal(once(ring, (sqe) => sqe.prepReadFixed(zero.fd, pages.address, PAGE, 0, 0)).res, PAGE);
    assert.ok(pages.bytes.every((byte) => byte === 0));
  });

  test(`liburing fixed-buf-merge: ${name}: pages inside one large buffer`, { skip: skip || noDirect }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), content(4 * PAGE));
    using file = Fd.open(dir.of("file"), O_RDONLY | O_DIRECT);
    using ring = makeRing(4, options);
    using pages = new Pages(128);
    ring.registerBuffers([pages.from(0)]);
    for (let i = 0; i < 3; i++) {
      const address = pages.address + (i + 1) * PAGE;
      entry(ring, i, (sqe) => sqe.prepReadFixed(file.fd, address, PAGE, i * PAGE, 0));
    }
    for (const { res } of reap(ring, 3)) assert.equal(res, PAGE);
    assertContent(pages.bytes.subarray(PAGE), 3 * PAGE, 0);
    assert.ok(pages.bytes.subarray(0, PAGE).every((byte) => byte === 0));
    assert.ok(pages.bytes.subarray(4 * PAGE, 5 * PAGE).every((byte) => byte === 0));
  });

  test(`liburing fixed-link: ${name}: linked reads into two buffers`, { skip }, () => {
    using ring = makeRing(32, options);
    using zero = Fd.open("/dev/zero", O_RDONLY);
    const buffers = [block(64), block(64)];
    for (const { bytes } of buffers) bytes.fill(1);
    ring.registerBuffers(buffers.map(({ address, bytes }) => ({ address, length: bytes.length })));
    buffers.forEach(({ address }, i) => {
      const sqe = entry(ring, i, (sqe) => sqe.prepReadFixed(zero.fd, address, 18, 0, i));
      if (i === 0) sqe.flags = IOSQE_IO_LINK;
    });
    assert.deepEqual(reap(ring, 2).map(({ userData, res }) => [userData, res]), [[0, 18], [1, 18]]);
    for (const { bytes } of buffers) {
      assert.deepEqual(
        [...bytes],
        Array.from(bytes, (_, i) => i < 18 ? 0 : 1),
      );
    }
  });

  for (const start of [0, 512, 3584]) {
    const what = `${name}: a buffer that begins ${start} bytes into a page`;
    test(`liburing fixed-seg: ${what}`, { skip: skip || noDirect }, () => {
      using dir = new TempDir();
      writeFileSync(dir.of("file"), content(16 * PAGE));
      using file = Fd.open(dir.of("file"), O_RDWR | O_DIRECT);
      using ring = makeRing(8, options);
      using pages = new Pages(32);
      ring.registerBuffers([pages.from(start)]);
      for (
        const [length, at] of [[PAGE, start], [2 * PAGE, PAGE], [PAGE, PAGE], [8 * PAGE, 5 * PAGE]] as const
      ) {
        pages.bytes.fill(0);
        const address = pages.address + at;
        assert.equal(once(ring, (sqe) => sqe.prepReadFixed(file.fd, address, length, 0, 0)).res, length);
        assertContent(pages.bytes.subarray(at), length, 0);
        assert.ok(pages.bytes.subarray(0, at).every((byte) => byte === 0));
        assert.ok(pages.bytes.subarray(at + length).every((byte) => byte === 0));
      }
      ring.unregisterBuffers();
    });
  }

  test(`${name}: what lies outside of the buffer is refused`, { skip }, () => {
    using ring = makeRing(8, options);
    using pages = new Pages(4);
    using zero = Fd.open("/dev/zero", O_RDWR);
    ring.registerBuffers([pages.from(PAGE, PAGE), pages.from(2 * PAGE, PAGE)]);
    pages.bytes.fill(1);
    for (const [at, length] of [[PAGE - 1, 1], [2 * PAGE, 1], [PAGE + 1, PAGE], [0, 2 * PAGE]] as const) {
      const { res } = once(ring, (sqe) => sqe.prepReadFixed(zero.fd, pages.address + at, length, 0, 0));
      assert.equal(res, EFAULT, `${at} ${length}`);
    }
    // A place that holds nothing, or is none.
    for (const index of [2, 0xffff]) {
      assert.equal(once(ring, (sqe) => sqe.prepReadFixed(zero.fd, pages.address, 1, 0, index)).res, EFAULT);
    }
    assert.ok(pages.bytes.every((byte) => byte === 1));
  });
});

test(
  "liburing regbuf-merge: neighbouring pages without memory before and behind them",
  { skip: noSparse },
  () => {
    using ring = makeRing(16);
    using zero = Fd.open("/dev/zero", O_RDWR);
    using all = new Pages(3);
    // The outer pages go: the one in the middle has no neighbours to be merged with.
    const PROT_NONE = 0;
    assert.equal(protect(all.address, PROT_NONE), 0);
    assert.equal(protect(all.address + 2 * PAGE, PROT_NONE), 0);
    ring.registerBuffers([{ address: 0, length: 0 }, all.from(PAGE, PAGE)]);
    all.bytes.fill(1, PAGE, 2 * PAGE);
    const address = all.address + PAGE;
    assert.equal(once(ring, (sqe) => sqe.prepReadFixed(zero.fd, address, PAGE, 0, 1)).res, PAGE);
    assert.equal(once(ring, (sqe) => sqe.prepReadFixed(zero.fd, address, PAGE + 1, 0, 1)).res, EFAULT);
    assert.equal(once(ring, (sqe) => sqe.prepReadFixed(zero.fd, address, 1, 0, 0)).res, EFAULT);
    assert.ok(all.bytes.subarray(PAGE, 2 * PAGE).every((byte) => byte === 0));
    // A buffer that reaches into a page without memory cannot be had at all.
    ring.unregisterBuffers();
    assert.throws(() => ring.registerBuffers([all.from(0, 2 * PAGE)]), { code: "EFAULT" });
  },
);

/** Changes what may be done with a page. */
function protect(address: number, protection: number): number {
  const { mprotect } = adapter.open(system().libc, {
    mprotect: { result: "i32", args: ["word", "word", "i32"] },
  });
  return mprotect(address, PAGE, protection);
}

/** A part of the memory. */
type Part = readonly [start: number, length: number];

const SIZE = 32 * PAGE;
const INNER: Part = [1, 3];
const WHOLE_PAGE: Part = [0, PAGE];
const BIG: Part = [0, 12 * PAGE + 33];
const BIG_UNALIGNED: Part = [10, 7 * PAGE + 41];
const MOST_SEGMENTS: Part = [PAGE - 1, PAGE + 2];

/** One write after the other through the same ring, whose own memory for vectors grows and shrinks. */
const SEQUENCES: Readonly<Record<string, readonly (readonly Part[])[]>> = {
  "a page": [[WHOLE_PAGE]],
  "a page twice": [[WHOLE_PAGE], [WHOLE_PAGE]],
  "many pages": [[BIG], [BIG]],
  "a few bytes": [[INNER], [INNER]],
  "many pages, not aligned": [[BIG_UNALIGNED], [BIG_UNALIGNED]],
  "more pages than before": [[WHOLE_PAGE], [BIG_UNALIGNED]],
  "fewer pages than before": [[BIG_UNALIGNED], [WHOLE_PAGE]],
  "several parts": [[WHOLE_PAGE, BIG, INNER, BIG_UNALIGNED], [WHOLE_PAGE, BIG, INNER, BIG_UNALIGNED]],
  "more and more parts": [[WHOLE_PAGE], [WHOLE_PAGE, WHOLE_PAGE], [WHOLE_PAGE, WHOLE_PAGE, WHOLE_PAGE]],
  "fewer and fewer parts": [[BIG, BIG, BIG], [BIG, BIG], [BIG]],
  "up to the end": [[[SIZE - PAGE + 5, PAGE - 5]], [[SIZE - PAGE - 5, PAGE + 5]]],
  "all of it": [[[0, SIZE]], [[0, SIZE], [0, SIZE], [0, SIZE]]],
  "all but a byte": [[[1, SIZE - 1]], [[1, SIZE - 1], [1, SIZE - 1]]],
  "parts across pages": [Array(3).fill(MOST_SEGMENTS), Array(6).fill(MOST_SEGMENTS), [MOST_SEGMENTS]],
};

/** An array of `struct iovec`. */
function vectors(parts: readonly (readonly [address: number, length: number])[]): number {
  const made = block(parts.length * iovec.size);
  parts.forEach(([address, length], i) => {
    made.view.setBigUint64(i * iovec.size + iovec.iov_base, BigInt(address), true);
    made.view.setBigUint64(i * iovec.size + iovec.iov_len, BigInt(length), true);
  });
  return made.address;
}

function within(pages: Pages, parts: readonly Part[]): (readonly [number, number])[] {
  return parts.map(([start, length]) => [pages.address + start, length]);
}

/** A ring with a table of 128 buffers, whose eighth is this memory. */
function ringWith(pages: Pages, options: object): Ring {
  const ring = makeRing(32, options);
  ring.registerBuffersSparse(128);
  ring.registerBuffersUpdateTag(8, [pages.from(0)], []);
  return ring;
}

const lengthOf = (parts: readonly Part[]): number => parts.reduce((sum, [, length]) => sum + length, 0);

forEachKind(({ name, options, skip }) => {
  for (const [what, sequence] of Object.entries(SEQUENCES)) {
    test(`liburing vec-regbuf: ${name}: ${what}`, { skip: firstReason(skip, noVectors) }, () => {
      using dir = new TempDir();
      using file = Fd.open(dir.of("file"), O_RDWR | O_CREAT);
      using pages = new Pages(SIZE / PAGE);
      using ring = ringWith(pages, options);
      pages.bytes.set(content(SIZE));
      for (const parts of sequence) {
        const total = lengthOf(parts);
        const iov = vectors(within(pages, parts));
        const written = once(ring, (sqe) => sqe.prepWritevFixed(file.fd, iov, parts.length, 0, 0, 8));
        assert.equal(written.res, total);
        const back = new Uint8Array(total);
        assert.equal(readAll(file.fd, back), total);
        let at = 0;
        for (const [start, length] of parts) {
          assertContent(back.subarray(at), length, start);
          at += length;
        }
      }
    });
  }

  test(`liburing vec-regbuf: ${name}: reads into parts`, { skip: firstReason(skip, noVectors) }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), content(4 * PAGE));
    using file = Fd.open(dir.of("file"), O_RDONLY);
    using pages = new Pages(SIZE / PAGE);
    using ring = ringWith(pages, options);
    const cases: readonly (readonly Part[])[] = [
      [WHOLE_PAGE],
      [[0, PAGE], [PAGE, PAGE], [2 * PAGE, PAGE]],
      [[1, PAGE - 1]],
      [[5 * PAGE - 3, 6], [10, 1], [SIZE - 1, 1]],
    ];
    for (const parts of cases) {
      pages.bytes.fill(0);
      const iov = vectors(within(pages, parts));
      const { res } = once(ring, (sqe) => sqe.prepReadvFixed(file.fd, iov, parts.length, 0, 0, 8));
      assert.equal(res, lengthOf(parts));
      let at = 0;
      for (const [start, length] of parts) {
        assertContent(pages.bytes.subarray(start), length, at);
        at += length;
      }
    }
  });

  test(`liburing vec-regbuf: ${name}: through a socket`, { skip: firstReason(skip, noVectors) }, () => {
    const fds = new Int32Array(new ArrayBuffer(8));
    assert.equal(system().socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    using near = new Fd(fds[0]!);
    using far = new Fd(fds[1]!);
    using pages = new Pages(SIZE / PAGE);
    using ring = ringWith(pages, options);
    pages.bytes.set(content(SIZE));
    const parts: readonly Part[] = [[PAGE - 100, 200], INNER, [SIZE - 500, 500]];
    entry(ring, 1, (sqe) => sqe.prepWritevFixed(near.fd, vectors(within(pages, parts)), 3, 0, 0, 8));
    const into: readonly Part[] = [[3 * PAGE, 3], [8 * PAGE - 350, 700]];
    entry(ring, 2, (sqe) => sqe.prepReadvFixed(far.fd, vectors(within(pages, into)), 2, 0, 0, 8));
    assert.deepEqual(reapResults(ring, 2), new Map([[1, 703], [2, 703]]));
    assertContent(pages.bytes.subarray(3 * PAGE), 3, PAGE - 100);
    assertContent(pages.bytes.subarray(8 * PAGE - 350), 197, PAGE - 97);
    assertContent(pages.bytes.subarray(8 * PAGE - 350 + 197), 3, 1);
  });

  test(`liburing vec-regbuf: ${name}: a message of parts, without a copy`, {
    skip: firstReason(skip, noVectors),
  }, () => {
    using pair = Connection.tcp();
    using pages = new Pages(SIZE / PAGE);
    using ring = ringWith(pages, options);
    pages.bytes.set(content(SIZE));
    /** Sends parts; the result, once the kernel is done with them. */
    const send = (parts: readonly (readonly [number, number])[]): number => {
      const message = block(msghdr.size);
      message.view.setBigUint64(msghdr.msg_iov, BigInt(vectors(parts)), true);
      message.view.setBigUint64(msghdr.msg_iovlen, BigInt(parts.length), true);
      entry(ring, 1, (sqe) => sqe.prepSendmsgZcFixed(pair.a.fd, message.address, 0, 8));
      const { res, flags } = reap(ring, 1)[0]!;
      if ((flags & IORING_CQE_F_MORE) !== 0) {
        assert.equal(reap(ring, 1)[0]!.flags & IORING_CQE_F_NOTIF, IORING_CQE_F_NOTIF);
      }
      return res;
    };
    const parts: readonly Part[] = [WHOLE_PAGE, INNER, MOST_SEGMENTS, [SIZE - 5, 5]];
    assert.equal(send(within(pages, parts)), lengthOf(parts));
    for (const [start, length] of parts) {
      const back = new Uint8Array(new ArrayBuffer(length));
      assert.equal(libc().recv(pair.b.fd, back, length, MSG_WAITALL), length);
      assertContent(back, length, start);
    }
    for (const [at, length] of [[-1, 1], [SIZE, 1], [SIZE - 1, 2]] as const) {
      assert.equal(send([[pages.address + at, length]]), EFAULT);
    }
  });

  test(`liburing vec-regbuf: ${name}: what is outside of the buffer is refused`, {
    skip: firstReason(skip, noVectors),
  }, () => {
    using dir = new TempDir();
    using file = Fd.open(dir.of("file"), O_RDWR | O_CREAT);
    using pages = new Pages(SIZE / PAGE);
    using ring = ringWith(pages, options);
    const write = (parts: readonly (readonly [number, number])[]): number =>
      once(ring, (sqe) => sqe.prepWritevFixed(file.fd, vectors(parts), parts.length, 0, 0, 8)).res;
    const end = pages.address + SIZE;
    for (
      const [address, length] of [
        [0, 1],
        [0xffff_ffff, 1],
        [pages.address - 1, 1],
        [end, 1],
        [end - 1, 2],
        [pages.address, SIZE + 1],
      ] as const
    ) {
      assert.equal(write([[address, length]]), EFAULT, `${address - pages.address} ${length}`);
      assert.equal(write([[pages.address, 1], [address, length]]), EFAULT);
    }
    // Nothing but empty parts is nothing, or nothing to be had.
    assert.ok(write(Array.from({ length: 8 }, () => [pages.address, 0] as const)) <= 0);
    assert.equal(readAll(file.fd, new Uint8Array(10)), 0);
  });
});

/** What a file holds, from the beginning. */
function readAll(fd: number, into: Uint8Array): number {
  const { pread } = adapter.open(system().libc, {
    pread: { result: "word", args: ["i32", "bytes", "word", "word"] },
  });
  return Number(pread(fd, into, into.length, 0));
}
