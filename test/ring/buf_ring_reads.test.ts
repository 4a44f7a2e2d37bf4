/** Reads and receives that take their buffers from a ring of them: order, exhaustion, several streams, bit by bit. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import {
  IORING_CQE_F_BUF_MORE,
  IORING_CQE_F_BUFFER,
  IORING_CQE_F_MORE,
  IOSQE_ASYNC,
  IOU_PBUF_RING_INC,
  O_DIRECT,
  O_RDONLY,
  POSIX_FADV_DONTNEED,
  SHUT_WR,
  SOCK_NONBLOCK,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { system } from "../../src/ffi/system.ts";
import { BufferGroup } from "../support/buffers.ts";
import { assertContent, content } from "../support/content.ts";
import { Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { entry, forEachKind, makeRing, missingDirect, once, reap } from "../support/rings.ts";
import { Connection } from "../support/sockets.ts";

checkLeaks();

const ENOBUFS = -105;
const EAGAIN = -11;
const noRings = kernelHas("5.19") ? false : "needs Linux 5.19";
const noMultishot = kernelHas("6.0") ? false : "needs Linux 6.0";
const noIncremental = kernelHas("6.12") ? false : "needs Linux 6.12";
const noDirect = missingDirect();

const WAYS: readonly { readonly way: string; readonly flags: number; readonly skip: string | false }[] = [
  { way: "through the cache", flags: 0, skip: noRings },
  { way: "past the cache", flags: O_DIRECT, skip: firstReason(noRings, noDirect) },
];

for (const { way, flags, skip } of WAYS) {
  for (const async of [false, true]) {
    const threads = async ? ", every other one by a worker thread" : "";
    forEachKind(({ name, options, skip: lacking }) => {
      test(
        `liburing ringbuf-read: ${name}: reads of a file ${way}${threads}`,
        { skip: firstReason(lacking, skip) },
        () => {
          const [COUNT, SIZE] = [128, 4096];
          using dir = new TempDir();
          writeFileSync(dir.of("file"), content(COUNT * SIZE));
          using file = Fd.open(dir.of("file"), O_RDONLY | flags);
          system().rare.posix_fadvise(file.fd, 0, COUNT * SIZE, POSIX_FADV_DONTNEED);
          using ring = makeRing(COUNT, options);
          using group = new BufferGroup(ring, COUNT, 1, SIZE, { firstBid: 1 });
          group.give();
          for (let i = 0; i < COUNT / 2; i++) {
            const sqe = entry(ring, i, (sqe) => sqe.prepRead(file.fd, 0, SIZE, i * SIZE));
            group.select(sqe);
            if (async && i % 2 === 0) sqe.flags |= IOSQE_ASYNC;
          }
          for (const completion of reap(ring, COUNT / 2)) {
            assert.equal(completion.res, SIZE);
            assertContent(group.content(completion), SIZE, completion.userData * SIZE);
          }
        },
      );
    });
  }
}

forEachKind(({ name, options, skip }) => {
  const [COUNT, SIZE] = [8, 256];

  test(`liburing buf-ring-stress: ${name}: all buffers are used up and given back, round after round`, {
    skip: skip || noRings,
  }, () => {
    const ROUNDS = 200;
    using dir = new TempDir();
    writeFileSync(dir.of("file"), content(COUNT * SIZE * ROUNDS));
    using file = Fd.open(dir.of("file"), O_RDONLY);
    using ring = makeRing(32, options);
    using group = new BufferGroup(ring, COUNT, 1, SIZE);
    for (let round = 0; round < ROUNDS; round++) {
      group.give();
      for (let i = 0; i < COUNT; i++) {
        const at = (round * COUNT + i) * SIZE;
        group.select(entry(ring, at, (sqe) => sqe.prepRead(file.fd, 0, SIZE, at)));
      }
      for (const completion of reap(ring, COUNT)) {
        assert.equal(completion.res, SIZE);
        assertContent(group.content(completion), SIZE, completion.userData);
      }
    }
    // One at a time.
    for (let i = 0; i < 1000; i++) {
      group.give(i % COUNT);
      const completion = once(ring, (sqe) => {
        sqe.prepRead(file.fd, 0, SIZE, i * SIZE);
        group.select(sqe);
      });
      assert.equal(group.indexOf(completion), i % COUNT);
      assertContent(group.content(completion), SIZE, i * SIZE);
    }
  });

  test(`liburing buf-ring-stress: ${name}: as many reads fail as there are buffers too few`, {
    skip: skip || noRings,
  }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), content(4 * COUNT * SIZE));
    using file = Fd.open(dir.of("file"), O_RDONLY);
    using ring = makeRing(32, options);
    using group = new BufferGroup(ring, COUNT, 1, SIZE);
    const read = (count: number): number[] => {
      for (let i = 0; i < count; i++) {
        group.select(entry(ring, i, (sqe) => sqe.prepRead(file.fd, 0, SIZE, i * SIZE)));
      }
      return reap(ring, count).map(({ res }) => res).sort((a, b) => b - a);
    };
    const some = Array<number>(COUNT).fill(SIZE);
    group.give();
    assert.deepEqual(read(2 * COUNT), [...some, ...Array<number>(COUNT).fill(ENOBUFS)]);
    group.give();
    assert.deepEqual(read(COUNT), some);
  });

  for (
    const [what, count, sends] of [
      ["enough buffers", 32, [32, 32, 32, 32]],
      ["few buffers", 8, [64, 64, 64, 64]],
      ["one stream with most of the data", 32, [128, 8, 8, 8]],
    ] as const
  ) {
    test(
      `liburing buf-ring-mshot: ${name}: four streams share ${what}`,
      { skip: skip || noMultishot },
      () => {
        shareAmongStreams(count, sends, options);
      },
    );
  }
});

/** Receives from several streams at once into the buffers of one group, which is given back as it goes. */
function shareAmongStreams(count: number, sends: readonly number[], options: object): void {
  const MESSAGE = 128;
  using ring = makeRing(64, options);
  using group = new BufferGroup(ring, count, 1, 256);
  const streams = sends.map((left) => ({ pair: Connection.unix(SOCK_NONBLOCK), left, sent: 0, received: 0 }));
  const arm = (id: number): void => {
    const fd = streams[id]!.pair.b.fd;
    group.select(entry(ring, id, (sqe) => sqe.prepRecvMultishot(fd, 0, 0, 0)));
  };
  group.give();
  streams.forEach((_, id) => arm(id));
  ring.submit();
  let open = streams.length;
  while (open > 0) {
    streams.forEach((stream, id) => {
      // Until its socket is full, and at most a few: the others get their turn.
      for (let i = 0; i < 16 && stream.left > 0; i++) {
        const message = new Uint8Array(new ArrayBuffer(MESSAGE)).fill(id + 1);
        const res = libc().send(stream.pair.a.fd, message, MESSAGE, 0);
        if (res === EAGAIN) break;
        assert.equal(res, MESSAGE);
        stream.sent += MESSAGE;
        if (--stream.left === 0) assert.equal(libc().shutdown(stream.pair.a.fd, SHUT_WR), 0);
      }
    });
    const completion = reap(ring, 1)[0]!;
    const { userData: id, res, flags } = completion;
    if (res === 0) {
      open--;
      if ((flags & IORING_CQE_F_BUFFER) !== 0) group.give(group.indexOf(completion));
      continue;
    }
    if (res !== ENOBUFS) {
      assert.ok(res > 0, `${res}`);
      assert.ok(group.content(completion).every((byte) => byte === id + 1), "it is the stream's own data");
      streams[id]!.received += res;
      group.give(group.indexOf(completion));
    }
    if ((flags & IORING_CQE_F_MORE) === 0) arm(id);
  }
  streams.forEach(({ pair, sent, received }, id) => {
    assert.equal(sent, sends[id]! * MESSAGE);
    assert.equal(received, sent, `stream ${id}`);
    pair[Symbol.dispose]();
  });
}

forEachKind(({ name, options, skip }) => {
  test(`liburing read-inc-file: ${name}: reads of a file go behind one another`, {
    skip: skip || noIncremental,
  }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), content(8 * 80));
    using file = Fd.open(dir.of("file"), O_RDONLY);
    using ring = makeRing(64, options);
    using group = new BufferGroup(ring, 32, 4, 2048, { flags: IOU_PBUF_RING_INC, firstBid: 8 });
    group.give(0);
    for (let i = 0; i < 4; i++) {
      const completion = once(ring, (sqe) => {
        sqe.prepRead(file.fd, 0, 80, i * 80);
        group.select(sqe);
      });
      assert.equal(completion.res, 80);
      assert.equal(group.indexOf(completion), 0);
    }
    // From the buffer's very beginning on, and no further.
    assertContent(group.bytes, 320, 0);
    assert.ok(group.bytes.subarray(320).every((byte) => byte === 0));
  });

  test(`liburing read-inc-buf-more: ${name}: a buffer with room left says so, also at the end`, {
    skip: skip || noIncremental,
  }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), content(4 * 32));
    using file = Fd.open(dir.of("file"), O_RDONLY);
    using pipe = new Pipe();
    using ring = makeRing(64, options);
    using group = new BufferGroup(ring, 1, 1, 256, { flags: IOU_PBUF_RING_INC });
    const read = (fd: number): number => {
      const { res, flags } = once(ring, (sqe) => {
        sqe.prepRead(fd, 0, 32, -1);
        group.select(sqe);
      });
      const both = IORING_CQE_F_BUFFER | IORING_CQE_F_BUF_MORE;
      assert.equal(flags & both, both, `after ${res} bytes`);
      return res;
    };
    group.give();
    pipe.write("hello world!");
    assert.equal(read(pipe.reader.fd), 12);
    pipe.writer.close();
    assert.equal(read(pipe.reader.fd), 0);
    for (let i = 0; i < 4; i++) assert.equal(read(file.fd), 32);
    assertContent(group.bytes.subarray(12), 128, 0);
    // What fills it up says no more.
    const rest = 256 - 140;
    const last = once(ring, (sqe) => {
      sqe.prepRead(file.fd, 0, rest, 0);
      group.select(sqe);
    });
    assert.equal(last.res, rest);
    assert.equal(last.flags & IORING_CQE_F_BUF_MORE, 0);
  });
});
