/** Rings of provided buffers in the kernel's memory and in the program's, and what the kernel has taken of them. */
import assert from "node:assert/strict";
import {
  type BufRing,
  bufRingAdd,
  bufRingAdvance,
  bufRingCqAdvance,
  bufRingInit,
  bufRingMask,
  IORING_CQE_BUFFER_SHIFT,
  IORING_CQE_F_BUF_MORE,
  IORING_CQE_F_BUFFER,
  IOSQE_BUFFER_SELECT,
  IOU_PBUF_RING_INC,
  IOU_PBUF_RING_MMAP,
  Mapping,
  type Ring,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { isMapped, Pipe } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { type Block, block, entry, forEachKind, makeRing, reap, text } from "../support/rings.ts";

checkLeaks();

const noMmap = kernelHas("6.4") ? false : "needs Linux 6.4";
const noStatus = kernelHas("6.8") ? false : "needs Linux 6.8";
const noIncremental = kernelHas("6.12") ? false : "needs Linux 6.12";

/** Puts a buffer in and reads into it from a pipe; the buffer's id and what it then holds. */
function readOnce(ring: Ring, bufRing: BufRing, buffer: Block, bid: number): [bid: number, content: string] {
  using pipe = new Pipe();
  bufRingAdd(bufRing, buffer.address, buffer.bytes.length, bid, bufRingMask(bufRing.entries), 0);
  bufRingAdvance(bufRing, 1);
  const sqe = entry(ring, 1, (sqe) => sqe.prepRead(pipe.reader.fd, 0, 0, -1));
  sqe.flags = IOSQE_BUFFER_SELECT;
  sqe.bufGroup = bufRing.bgid;
  ring.submit();
  pipe.write("Hello");
  const [completion] = reap(ring, 1);
  assert.equal(completion!.flags & IORING_CQE_F_BUFFER, IORING_CQE_F_BUFFER);
  return [completion!.flags >>> IORING_CQE_BUFFER_SHIFT, text(buffer, completion!.res)];
}

forEachKind(({ name, options, skip }) => {
  test(`liburing buf-ring-nommap: ${name}: buffers in a ring that the kernel has allocated`, {
    skip: firstReason(skip, noMmap),
  }, () => {
    using ring = makeRing(2, options);
    if (ring.fd < 0) {
      // There is no descriptor to map through.
      assert.throws(() => ring.setupBufRing(1, 5, IOU_PBUF_RING_MMAP), { code: "EBADF" });
      return;
    }
    const bufRing = ring.setupBufRing(1, 5, IOU_PBUF_RING_MMAP);
    const { address } = bufRing.memory;
    assert.ok(isMapped(address));
    for (let i = 0; i < 5; i++) assert.deepEqual(readOnce(ring, bufRing, block(32), 89), [89, "Hello"]);
    const other = ring.setupBufRing(512, 2047, IOU_PBUF_RING_MMAP);
    assert.deepEqual(readOnce(ring, other, block(32), 7), [7, "Hello"]);
    ring.freeBufRing(bufRing);
    assert.equal(isMapped(address), false);
    assert.throws(() => ring.setupBufRing(4, 2047, IOU_PBUF_RING_MMAP), { code: "EEXIST" });
  });

  test(`${name}: buffers in a ring in memory of the program's`, { skip }, () => {
    using memory = Mapping.anonymous(8192);
    using ring = makeRing(2, options);
    const bufRing = ring.registerBufRing(memory, 4, 9);
    assert.deepEqual(readOnce(ring, bufRing, block(32), 3), [3, "Hello"]);
    ring.unregisterBufRing(9);
    assert.throws(() => ring.unregisterBufRing(9), { code: "ENOENT", message: /no ring of buffers/ });
    // The memory is the program's still, and as good as new.
    const again = ring.registerBufRing(memory, 4, 10);
    assert.deepEqual(readOnce(ring, again, block(32), 4), [4, "Hello"]);
  });

  test(
    `liburing ringbuf-status: ${name}: how far the kernel has come`,
    { skip: firstReason(skip, noStatus) },
    () => {
      using pipe = new Pipe();
      using memory = Mapping.anonymous(4096);
      using ring = makeRing(8, options);
      const bufRing = ring.setupBufRing(8, 1);
      assert.equal(ring.bufRingAvailable(bufRing), 0);
      for (let i = 0; i < 8; i++) bufRingAdd(bufRing, memory.address + 32 * i, 32, i + 1, bufRingMask(8), i);
      bufRingAdvance(bufRing, 8);
      assert.equal(ring.bufRingHead(1), 0);
      assert.equal(ring.bufRingAvailable(bufRing), 8);
      assert.throws(() => ring.bufRingHead(11), { code: "ENOENT" });
      const sqe = entry(ring, 1, (sqe) => sqe.prepRead(pipe.reader.fd, 0, 32, -1));
      sqe.flags = IOSQE_BUFFER_SELECT;
      sqe.bufGroup = 1;
      ring.submit();
      assert.equal(ring.bufRingHead(1), 0, "a read that waits has taken none");
      pipe.write("x");
      assert.equal(reap(ring, 1)[0]!.res, 1);
      assert.equal(ring.bufRingHead(1), 1);
      assert.equal(ring.bufRingAvailable(bufRing), 7);
    },
  );
});

test("liburing ringbuf-status: the largest ring, half full and full", { skip: noStatus }, () => {
  using memory = Mapping.anonymous(4096);
  using ring = makeRing(1);
  const COUNT = 32768;
  const bufRing = ring.setupBufRing(COUNT, 1);
  assert.equal(ring.bufRingAvailable(bufRing), 0);
  for (let half = 1; half <= 2; half++) {
    for (let i = 0; i < COUNT / 2; i++) bufRingAdd(bufRing, memory.address, 32, i, bufRingMask(COUNT), i);
    bufRingAdvance(bufRing, COUNT / 2);
    assert.equal(ring.bufRingAvailable(bufRing), half * COUNT / 2);
  }
});

test("what does not fit is refused", () => {
  using memory = Mapping.anonymous(4096);
  using ring = makeRing(1);
  assert.throws(() => ring.registerBufRing(memory, 512, 1), RangeError);
  assert.throws(() => ring.registerBufRing(memory, 4, 1, { flags: IOU_PBUF_RING_MMAP }), RangeError);
  assert.throws(() => ring.registerBufRing(memory, 3, 1), RangeError);
  assert.throws(() => ring.setupBufRing(4, 1, 0x8000), RangeError);
  assert.throws(() => ring.setupBufRing(4, 2048, IOU_PBUF_RING_MMAP), RangeError);
  ring.registerBufRing(memory, 256, 1);
  assert.throws(() => ring.registerBufRing(memory, 256, 1), {
    code: "EEXIST",
    message: /has buffers already/,
  });
});

test("an incremental ring in the kernel's memory", { skip: noIncremental }, () => {
  using ring = makeRing(1);
  const bufRing = ring.setupBufRing(2, 3, IOU_PBUF_RING_MMAP | IOU_PBUF_RING_INC);
  assert.deepEqual(readOnce(ring, bufRing, block(64), 1), [1, "Hello"]);
});

test("a buffer with fewer bytes left than asked for is done with", { skip: noIncremental }, () => {
  using pipe = new Pipe();
  using memory = Mapping.anonymous(4096);
  using ring = makeRing(2);
  assert.throws(() => ring.registerBufRing(memory, 4, 1, { minLeft: 16 }), {
    code: "EINVAL",
    message: /minLeft needs/,
  });
  let bufRing: BufRing;
  try {
    bufRing = ring.registerBufRing(memory, 4, 1, { flags: IOU_PBUF_RING_INC, minLeft: 16 });
  } catch (error) {
    assert.match(String(error), /EINVAL.*kernel that knows min_left/);
    return;
  }
  const buffer = block(40);
  bufRingAdd(bufRing, buffer.address, 40, 0, 3, 0);
  bufRingAdvance(bufRing, 1);
  const more = [10, 20].map((length) => {
    pipe.write("x".repeat(length));
    const sqe = entry(ring, 1, (sqe) => sqe.prepRead(pipe.reader.fd, 0, 0, -1));
    sqe.flags = IOSQE_BUFFER_SELECT;
    sqe.bufGroup = 1;
    const [completion] = reap(ring, 1);
    assert.equal(completion!.res, length);
    return completion!.flags & IORING_CQE_F_BUF_MORE;
  });
  assert.deepEqual(more, [IORING_CQE_F_BUF_MORE, 0]);
});

test(
  "a ring that is emptied begins anew; completions and buffers are counted apart",
  { skip: noStatus },
  () => {
    using pipe = new Pipe();
    using memory = Mapping.anonymous(4096);
    using ring = makeRing(2);
    const bufRing = ring.setupBufRing(4, 1);
    bufRingAdd(bufRing, 4096, 32, 1, 3, 0);
    bufRingAdvance(bufRing, 1);
    bufRingInit(bufRing);
    assert.equal(ring.bufRingAvailable(bufRing), 0);
    bufRingAdd(bufRing, memory.address, 32, 7, 3, 0);
    bufRingAdvance(bufRing, 1);
    pipe.write("x");
    const sqe = entry(ring, 1, (sqe) => sqe.prepRead(pipe.reader.fd, 0, 32, -1));
    sqe.flags = IOSQE_BUFFER_SELECT;
    sqe.bufGroup = 1;
    ring.submitAndWait(1);
    assert.equal(ring.waitCqe().flags >>> IORING_CQE_BUFFER_SHIFT, 7);
    for (let i = 0; i < 2; i++) bufRingAdd(bufRing, memory.address, 32, i, 3, i);
    bufRingCqAdvance(ring, bufRing, 1, 2);
    assert.equal(ring.cqReady(), 0);
    assert.equal(ring.bufRingAvailable(bufRing), 2);
  },
);
