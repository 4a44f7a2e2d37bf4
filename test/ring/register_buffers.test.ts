/** Registered buffers: empty slots, tags, and the same memory in several rings. */
import assert from "node:assert/strict";
import {
  IORING_REGISTER_DST_REPLACE,
  IORING_REGISTER_SRC_REGISTERED,
  Mapping,
  type Memory,
  type Ring,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { Pipe } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect } from "../support/collect.ts";
import {
  assertQuiet,
  block,
  entry,
  eventually,
  forEachKind,
  makeRing,
  once,
  reap,
  reapResults,
} from "../support/rings.ts";

checkLeaks();

const EFAULT = -14;
const PAGE = 4096;
const noClone = kernelHas("6.12") ? false : "needs Linux 6.12";
const noParts = kernelHas("6.13") ? false : "needs Linux 6.13";

/** Pages in one mapping. */
class Pages implements Disposable {
  readonly memory: Mapping;
  readonly all: readonly { address: number; length: number }[];

  constructor(count: number) {
    this.memory = Mapping.anonymous(count * PAGE);
    this.all = Array.from({ length: count }, (_, i) => ({
      address: this.memory.address + i * PAGE,
      length: PAGE,
    }));
  }

  /** A page's first bytes as text. */
  text(index: number, length: number): string {
    return new TextDecoder().decode(new Uint8Array(this.memory.buffer, index * PAGE, length));
  }

  [Symbol.dispose](): void {
    this.memory.unmap();
  }
}

/** Reads into a page through the registered buffer of a slot; what came, or the error. */
function use(ring: Ring, pages: Pages, page: number, slot: number): string | number {
  using pipe = new Pipe();
  const content = `page ${page} by ${slot}`;
  pipe.write(content);
  const { address } = pages.all[page]!;
  const { res } = once(ring, (sqe) => sqe.prepReadFixed(pipe.reader.fd, address, content.length, -1, slot));
  return res < 0 ? res : pages.text(page, res);
}

const usable = (page: number, slot: number): string => `page ${page} by ${slot}`;

forEachKind(({ name, options, skip }) => {
  test(`liburing rsrc_tags: ${name}: a buffer's tag comes when the buffer goes`, { skip }, () => {
    using pages = new Pages(5);
    using ring = makeRing(8, options);
    const tagged = (): number => {
      const [completion] = reap(ring, 1);
      assert.equal(completion!.res, 0);
      return completion!.userData;
    };
    ring.registerBuffersTags(pages.all, [1, 2, 3, 4, 5]);
    assert.equal(ring.registeredBuffers, 5);
    assert.equal(ring.registerBuffersUpdateTag(0, [pages.all[0]!], [666]), 1);
    assert.equal(tagged(), 1);
    assert.equal(ring.registerBuffersUpdateTag(0, [pages.all[0]!], [0]), 1);
    assert.equal(tagged(), 666);
    assert.equal(ring.registerBuffersUpdateTag(0, [pages.all[0]!], []), 1);
    assertQuiet(ring);
    ring.unregisterBuffers();
    assert.deepEqual(reap(ring, 4).map(({ userData }) => userData).sort(), [2, 3, 4, 5]);
    assertQuiet(ring);
  });

  test(`liburing rsrc_tags: ${name}: a tag waits for the last operation on its buffer`, { skip }, () => {
    using pages = new Pages(3);
    using pipe = new Pipe();
    using ring = makeRing(8, options);
    ring.registerBuffersTags(pages.all, [1, 2, 3]);
    entry(ring, 100, (sqe) => sqe.prepReadFixed(pipe.reader.fd, pages.all[1]!.address, 10, -1, 1));
    ring.submit();
    eventually(() => ring.sqReady() === 0, "the read is under way");
    assertQuiet(ring);
    assert.equal(ring.registerBuffersUpdateTag(1, [pages.all[2]!], [9]), 1);
    assertQuiet(ring);
    pipe.write("ten bytes.");
    assert.deepEqual(reapResults(ring, 2), new Map([[100, 10], [2, 0]]));
    assert.equal(pages.text(1, 10), "ten bytes.");
    assert.equal(use(ring, pages, 2, 1), usable(2, 1));
    assert.equal(use(ring, pages, 1, 1), EFAULT);
  });

  test(`liburing rsrc_tags: ${name}: empty slots are filled and emptied`, { skip }, () => {
    using pages = new Pages(2);
    using ring = makeRing(8, options);
    ring.registerBuffers([pages.all[0]!, null, null, null]);
    assert.equal(use(ring, pages, 1, 1), EFAULT);
    assert.equal(ring.registerBuffersUpdateTag(1, [pages.all[1]!], []), 1);
    assert.equal(use(ring, pages, 1, 1), usable(1, 1));
    assert.equal(ring.registerBuffersUpdateTag(0, [null], []), 1);
    assert.equal(use(ring, pages, 0, 0), EFAULT);
    assert.equal(ring.registerBuffersUpdateTag(2, [null], []), 1);
    // An empty slot has neither a length nor a tag.
    assert.throws(() => ring.registerBuffersUpdateTag(3, [{ address: 0, length: 1 }], []), {
      code: "EFAULT",
    });
    assert.throws(() => ring.registerBuffersUpdateTag(3, [null], [1]), { code: "EINVAL" });
    assert.throws(() => ring.registerBuffersUpdateTag(3, [null, null], []), { code: "EINVAL" });
    ring.unregisterBuffers();
    ring.registerBuffersSparse(64);
    assert.equal(ring.registeredBuffers, 64);
    assert.equal(use(ring, pages, 0, 63), EFAULT);
    assert.equal(ring.registerBuffersUpdateTag(63, [pages.all[0]!], [1n << 63n]), 1);
    assert.equal(use(ring, pages, 0, 63), usable(0, 63));
    ring.unregisterBuffers();
    const cqe = ring.waitCqe();
    assert.equal(cqe.userData64, 1n << 63n);
  });

  test(
    `liburing regbuf-clone: ${name}: all buffers of another ring`,
    { skip: firstReason(skip, noClone) },
    () => {
      using pages = new Pages(8);
      using source = makeRing(2, options);
      using ring = makeRing(2, options);
      assert.throws(() => ring.cloneBuffers(source), { code: "ENXIO", message: /other ring/ });
      source.registerBuffers(pages.all);
      assert.equal(use(ring, pages, 0, 0), EFAULT);
      ring.cloneBuffers(source);
      assert.equal(ring.registeredBuffers, 8);
      assert.equal(use(ring, pages, 4, 4), usable(4, 4));
      assert.throws(() => ring.cloneBuffers(source), { code: "EBUSY" });
      ring.unregisterBuffers();
      assert.equal(use(ring, pages, 4, 4), EFAULT);
      assert.throws(() => ring.unregisterBuffers(), { code: "ENXIO" });
      assert.equal(use(source, pages, 4, 4), usable(4, 4));
      // They stay when the ring goes that they came from.
      ring.cloneBuffers(source);
      source.unregisterBuffers();
      assert.equal(use(source, pages, 1, 1), EFAULT);
      source.close();
      assert.equal(use(ring, pages, 1, 1), usable(1, 1));
    },
  );
});

for (const flags of [0, IORING_REGISTER_SRC_REGISTERED]) {
  for (const registered of [[true, false], [false, true], [true, true]] as const) {
    const which = `source ${registered[0] ? "" : "not "}registered, destination ${
      registered[1] ? "" : "not "
    }registered`;
    test(`liburing regbuf-clone: ${which}, flags ${flags}`, { skip: noClone }, () => {
      using pages = new Pages(2);
      using source = makeRing(1);
      using ring = makeRing(1);
      if (registered[0]) source.registerRingFd();
      if (registered[1]) ring.registerRingFd();
      source.registerBuffers(pages.all);
      ring.cloneBuffers(source, flags);
      assert.equal(use(ring, pages, 1, 1), usable(1, 1));
      source.unregisterBuffers();
      source.cloneBuffers(ring, flags);
      assert.equal(use(source, pages, 0, 0), usable(0, 0));
    });
  }
}

test("a ring that has its registered descriptor alone can be cloned from", { skip: noClone }, () => {
  using pages = new Pages(2);
  using source = makeRing(1);
  using ring = makeRing(1);
  source.registerRingFd();
  source.closeRingFd();
  source.registerBuffers(pages.all);
  ring.cloneBuffers(source, 0);
  assert.equal(use(ring, pages, 1, 1), usable(1, 1));
});

test("liburing regbuf-clone: parts, into other slots, in place of others", { skip: noParts }, () => {
  const COUNT = 16;
  const HALF = COUNT / 2;
  using pages = new Pages(COUNT);
  using source = makeRing(1);
  using ring = makeRing(1);
  source.registerBuffers(pages.all);
  assert.throws(() => ring.cloneBuffersOffset(source, 0, HALF, COUNT, 0), { code: "EOVERFLOW" });
  assert.throws(() => ring.cloneBuffersOffset(source, 0, 0, COUNT + 1, 0), { code: "EINVAL" });
  assert.throws(() => ring.cloneBuffersOffset(source, 0, 0xffff_ffff - 32, COUNT, 0), { code: "EOVERFLOW" });
  assert.equal(ring.registeredBuffers, 0);
  ring.cloneBuffersOffset(source, 0, HALF, HALF, 0);
  assert.equal(ring.registeredBuffers, HALF);
  assert.equal(use(ring, pages, HALF, 0), usable(HALF, 0));
  ring.unregisterBuffers();
  // Slots below are there and empty.
  ring.cloneBuffersOffset(source, HALF, HALF, HALF, 0);
  assert.equal(ring.registeredBuffers, COUNT);
  assert.equal(use(ring, pages, 0, 0), EFAULT);
  assert.equal(use(ring, pages, HALF, HALF), usable(HALF, HALF));
  assert.throws(() => ring.cloneBuffersOffset(source, HALF, HALF, HALF, 0), {
    code: "EBUSY",
    message: /IORING_REGISTER_DST_REPLACE/,
  });
  ring.cloneBuffersOffset(source, 0, 0, HALF, IORING_REGISTER_DST_REPLACE);
  assert.equal(use(ring, pages, 0, 0), usable(0, 0));
  ring.unregisterBuffers();
  // A table of empty slots is a table, and grows.
  ring.registerBuffersSparse(COUNT);
  assert.throws(() => ring.cloneBuffersOffset(source, 0, 0, HALF, 0), { code: "EBUSY" });
  ring.cloneBuffersOffset(source, 0, 0, HALF, IORING_REGISTER_DST_REPLACE);
  ring.cloneBuffersOffset(source, HALF, 0, COUNT, IORING_REGISTER_DST_REPLACE);
  assert.equal(ring.registeredBuffers, COUNT + HALF);
  assert.equal(use(ring, pages, 0, 0), usable(0, 0));
  assert.equal(use(ring, pages, COUNT - 1, COUNT + HALF - 1), usable(COUNT - 1, COUNT + HALF - 1));
});

test("liburing regbuf-clone: empty slots are cloned, and a ring within itself", { skip: noParts }, () => {
  using pages = new Pages(4);
  using source = makeRing(1);
  using ring = makeRing(1);
  source.registerBuffers([null, pages.all[1]!]);
  ring.cloneBuffers(source);
  assert.equal(use(ring, pages, 0, 0), EFAULT);
  assert.equal(use(ring, pages, 1, 1), usable(1, 1));
  source.cloneBuffersOffset(source, 0, 1, 1, IORING_REGISTER_DST_REPLACE);
  assert.equal(use(source, pages, 1, 0), usable(1, 0));
});

test("liburing rsrc_tags: no tag comes when registering fails", () => {
  const small = block(16);
  using ring = makeRing(1);
  const wrong: Memory = { address: 1, length: 1 };
  assert.throws(() => ring.registerBuffersTags([small.bytes, wrong], [1, 2]), { code: "EFAULT" });
  assertQuiet(ring);
  assert.equal(ring.registeredBuffers, 0);
  assert.throws(() => ring.registerBuffersTags([small.bytes], [1, 2]), RangeError);
  assert.throws(() => ring.registerBuffersUpdateTag(0, [small.bytes], []), { code: "ENXIO" });
  assert.throws(() => ring.registerBuffersSparse(0), { code: "EINVAL" });
});

test("views stay alive as long as a ring has them, cloned or put in later", { skip: noClone }, async () => {
  using source = makeRing(1);
  using ring = makeRing(1);
  const put = (): WeakRef<Uint8Array>[] => {
    const views = [0, 1].map(() => new Uint8Array(new ArrayBuffer(5000)));
    source.registerBuffersSparse(2);
    source.registerBuffersUpdateTag(1, [views[1]!], []);
    source.registerBuffersUpdateTag(0, [views[0]!], []);
    return views.map((view) => new WeakRef(view));
  };
  const refs = put();
  ring.cloneBuffers(source);
  source.unregisterBuffers();
  await collect();
  assert.ok(refs.every((ref) => ref.deref() !== undefined));
  ring.unregisterBuffers();
});
