/** Multishot reads: messages one after the other, buffers that run out, queues that overflow, buffers used bit by bit. */
import assert from "node:assert/strict";
import {
  IORING_CQE_F_MORE,
  IORING_OP_READ_MULTISHOT,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  IOU_PBUF_RING_INC,
  O_CREAT,
  O_RDWR,
  type Ring,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { BufferGroup } from "../support/buffers.ts";
import { Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  type Completion,
  entry,
  forEachKind,
  makeRing,
  missingOp,
  reap,
} from "../support/rings.ts";

checkLeaks();

const ENOBUFS = -105;
const EBADFD = -77;
const EINVAL = -22;
const lacking = missingOp(IORING_OP_READ_MULTISHOT);
const noIncremental = firstReason(lacking, kernelHas("6.12") ? false : "needs Linux 6.12");

function arm(ring: Ring, fd: number, group: BufferGroup, flags = 0): void {
  const sqe = entry(ring, 1, (sqe) => sqe.prepReadMultishot(fd, 0, 0, group.bgid));
  sqe.flags |= flags;
  ring.submit();
}

const more = ({ flags }: Completion): boolean => (flags & IORING_CQE_F_MORE) !== 0;

/** Waits until a message has been read: what is written into a pipe that holds something is read with it. */
function writeAndReap(ring: Ring, pipe: Pipe, message: string): Completion {
  pipe.write(message);
  return reap(ring, 1)[0]!;
}

forEachKind(({ name, options, skip }) => {
  for (const async of [false, true]) {
    for (const early of [false, true]) {
      for (const incremental of [false, true]) {
        const how = [
          async && "by a worker thread",
          early && "a message is there already",
          incremental && "one buffer, bit by bit",
        ].filter((part) => part !== false);
        const title = [`liburing read-mshot: ${name}: messages one after the other`, ...how].join(", ");
        test(title, { skip: firstReason(skip, incremental ? noIncremental : lacking) }, () => {
          const [COUNT, SIZE] = [16, 32];
          using pipe = new Pipe();
          using ring = makeRing(4, options);
          using group = incremental
            ? new BufferGroup(ring, 1, 1, COUNT * SIZE, { flags: IOU_PBUF_RING_INC, firstBid: 1 })
            : new BufferGroup(ring, COUNT, 1, SIZE, { firstBid: 1 });
          group.give();
          const message = (i: number): string => `this is message ${i}\n`;
          if (early) pipe.write(message(0));
          arm(ring, pipe.reader.fd, group, async ? IOSQE_ASYNC : 0);
          for (let i = 0; i < COUNT; i++) {
            const completion = early && i === 0 ? reap(ring, 1)[0]! : writeAndReap(ring, pipe, message(i));
            assert.equal(group.text(completion), message(i));
            // A worker thread may have read it by itself; then it is armed anew.
            if (!more(completion)) {
              assert.ok(async, `message ${i} was the last`);
              arm(ring, pipe.reader.fd, group);
            }
          }
          if (incremental) return;
          const last = writeAndReap(ring, pipe, "one too many");
          assert.equal(last.res, ENOBUFS);
          assert.equal(more(last), false);
          group.give();
          arm(ring, pipe.reader.fd, group);
          assert.equal(group.text(reap(ring, 1)[0]!), "one too many");
        });
      }
    }
  }

  test(`liburing read-mshot: ${name}: a queue of completions that is full loses nothing`, {
    skip: firstReason(skip, lacking),
  }, () => {
    const COUNT = 32;
    using pipe = new Pipe();
    using ring = makeRing(2, { ...options, cqEntries: 4 });
    using group = new BufferGroup(ring, COUNT, 1, 32);
    group.give();
    arm(ring, pipe.reader.fd, group);
    let read = "";
    let armed = true;
    const take = (): void => {
      for (const completion of reap(ring, 1)) {
        if (completion.res > 0) read += group.text(completion);
        else assert.equal(completion.res, ENOBUFS);
        armed = more(completion);
      }
    };
    let written = "";
    for (let i = 0; i < COUNT; i++) {
      const message = `${String(i).padStart(3, "0")}|`;
      pipe.write(message);
      written += message;
      // Each of them is a completion of its own, as long as the kernel reads on by itself.
      ring.getEvents();
    }
    let endings = 0;
    while (read.length < written.length) {
      if (!armed) {
        armed = true;
        endings++;
        arm(ring, pipe.reader.fd, group);
      }
      take();
    }
    assert.equal(read, written);
    // The kernel's own thread may be late, and read several messages at once.
    if ((ring.flags & IORING_SETUP_SQPOLL) === 0) assert.ok(endings > 0, "the full queue ended the read");
  });

  for (const async of [false, true]) {
    test(
      `liburing read-mshot: ${name}: a file on a disk cannot be read so${
        async ? ", by a worker thread" : ""
      }`,
      {
        skip: firstReason(skip, lacking),
      },
      () => {
        using dir = new TempDir();
        using file = Fd.open(dir.of("file"), O_RDWR | O_CREAT);
        using ring = makeRing(2, options);
        using group = new BufferGroup(ring, 1, 1, 32);
        group.give();
        arm(ring, file.fd, group, async ? IOSQE_ASYNC : 0);
        const completion = reap(ring, 1)[0]!;
        assert.equal(completion.res, EBADFD);
        assert.equal(more(completion), false);
      },
    );
  }

  test(`liburing read-mshot: ${name}: the size of one buffer does not bind the next`, {
    skip: firstReason(skip, lacking),
  }, () => {
    using pipe = new Pipe();
    using ring = makeRing(4, options);
    using small = new BufferGroup(ring, 4, 1, 16);
    // A buffer of half the size, then larger ones.
    using large = new BufferGroup(ring, 4, 2, 64);
    small.give(0);
    large.give(0);
    arm(ring, pipe.reader.fd, small);
    const first = writeAndReap(ring, pipe, "a".repeat(16));
    assert.deepEqual([first.res, more(first)], [16, true]);
    small.bufRing.add(large.memory.address, 64, 1, 3, 0);
    small.bufRing.add(large.memory.address + 64, 64, 2, 3, 1);
    small.bufRing.advance(2);
    for (const length of [32, 16]) {
      const next = writeAndReap(ring, pipe, "b".repeat(length));
      assert.deepEqual([next.res, more(next)], [length, true]);
    }
  });

  test(`${name}: a length is refused`, { skip: firstReason(skip, lacking) }, () => {
    using pipe = new Pipe();
    using ring = makeRing(4, options);
    using group = new BufferGroup(ring, 1, 1, 16);
    group.give();
    entry(ring, 1, (sqe) => sqe.prepReadMultishot(pipe.reader.fd, 8, 0, 1));
    const { res } = reap(ring, 1)[0]!;
    assert.equal(res, EINVAL);
  });

  for (const multishot of [true, false]) {
    const what = multishot ? "multishot" : "one read after the other";
    test(`liburing read-mshot: ${name}: each buffer is filled before the next is begun, ${what}`, {
      skip: firstReason(skip, noIncremental),
    }, () => {
      const [COUNT, SIZE] = [4, 2048];
      using pipe = new Pipe();
      using ring = makeRing(64, options);
      // Neighbours in the ring are no neighbours in memory.
      using group = new BufferGroup(ring, COUNT, 1, SIZE, {
        flags: IOU_PBUF_RING_INC,
        place: (index) => COUNT - 1 - index,
      });
      group.give();
      const again = (): void => {
        if (multishot) arm(ring, pipe.reader.fd, group);
        else group.select(entry(ring, 2, (sqe) => sqe.prepRead(pipe.reader.fd, 0, 0, 0)));
        ring.submit();
      };
      again();
      const filled = Array<number>(COUNT).fill(0);
      let current = 0;
      let pending = "";
      let total = 0;
      let sent = 0;
      while (total < COUNT * SIZE) {
        if (pending === "") {
          const length = Math.min(31, COUNT * SIZE - sent);
          pending = String.fromCharCode(97 + sent % 26).repeat(length);
          pipe.write(pending);
          sent += length;
        }
        const completion = reap(ring, 1)[0]!;
        const index = group.indexOf(completion);
        if (index !== current) {
          assert.equal(filled[current], SIZE, `buffer ${current} when ${index} was begun`);
          current = index;
        }
        assert.equal(group.text(completion), pending.slice(0, completion.res));
        pending = pending.slice(completion.res);
        filled[index]! += completion.res;
        total += completion.res;
        if (!more(completion) && total < COUNT * SIZE) again();
      }
      assert.deepEqual(filled, Array<number>(COUNT).fill(SIZE));
    });
  }

  test(`liburing read-mshot-empty: ${name}: all that is there is read, however many buffers it takes`, {
    skip: firstReason(skip, lacking),
  }, () => {
    const SIZE = 32;
    using pipe = new Pipe();
    using ring = makeRing(8, options);
    using group = new BufferGroup(ring, 4, 17, SIZE);
    group.give();
    arm(ring, pipe.reader.fd, group);
    assertQuiet(ring);
    // Two messages in one write, twice: each time both are read without another wake-up between them.
    for (const [a, b] of [["1", "2"], ["3", "4"]] as const) {
      pipe.write(a.repeat(SIZE) + b.repeat(SIZE));
      const both = reap(ring, 2);
      assert.deepEqual(both.map((one) => group.text(one)), [a.repeat(SIZE), b.repeat(SIZE)]);
      assert.ok(both.every(more));
    }
  });
});
