/** Twins of liburing's programs about making rings: what is refused, memory of one's own, huge pages, shared workers. */
import assert from "node:assert/strict";
import { cpus } from "node:os";
import { writeFileSync } from "node:fs";
import {
  IORING_OFF_SQ_RING,
  IORING_SETUP_CQE32,
  IORING_SETUP_NO_MMAP,
  IORING_SETUP_NO_SQARRAY,
  IORING_SETUP_SQ_AFF,
  IORING_SETUP_SQE128,
  IORING_SETUP_SQPOLL,
  MAP_HUGETLB,
  Mapping,
  memorySize,
  mlockSize,
  O_RDWR,
  Ring,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { io_cqring_offsets, io_uring_params } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import { content } from "../support/content.ts";
import { EventFd, Fd, openRings, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { OldKernel } from "../support/old_kernel.ts";
import { entry, makeRing, missingRing, once } from "../support/rings.ts";

checkLeaks();

const EINVAL = -22;
const EFAULT = -14;
const ENOMEM = -12;
const PAGE = 4096;
const HUGE_PAGE = 2 ** 21;

/** `io_uring_setup` itself: its result. */
function setup(entries: number, fill: (params: DataView) => void): number {
  const bytes = new Uint8Array(new ArrayBuffer(io_uring_params.size));
  fill(new DataView(bytes.buffer));
  return system().setup(entries, bytes);
}

test("liburing io_uring_setup: what cannot be is refused, by the kernel and before it is asked", () => {
  const before = openRings();
  const set = (offset: number, value: number) => (params: DataView): void => {
    params.setUint32(offset, value, true);
  };
  assert.equal(setup(0, () => {}), EINVAL);
  assert.throws(() => new Ring(0), RangeError);
  assert.equal(setup(1, set(io_uring_params.resv, 1)), EINVAL);
  assert.equal(setup(1, set(io_uring_params.flags, 0xffff_ffff)), EINVAL);
  assert.throws(() => new Ring(1, { flags: 0xffff_ffff }), RangeError);
  assert.equal(setup(1, set(io_uring_params.flags, IORING_SETUP_SQ_AFF)), EINVAL);
  assert.throws(() => new Ring(1, { flags: IORING_SETUP_SQ_AFF }), RangeError);
  const beyond = { flags: IORING_SETUP_SQPOLL, sqThreadCpu: Math.max(cpus().length, 4096) };
  assert.throws(() => new Ring(1, beyond), { code: "EINVAL" });
  assert.equal(openRings(), before);
  using ring = makeRing(1);
  assert.equal(system().read(ring.fd, new Uint8Array(new ArrayBuffer(4096)), 4096), EINVAL);
});

test("liburing ignore-single-mmap: less than the whole of a ring's memory can be mapped", () => {
  using ring = makeRing(128);
  using part = Mapping.shared(128 * 4, ring.fd, IORING_OFF_SQ_RING);
  assert.ok(part.address > 0);
  assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
});

const noMmap = missingRing({ flags: IORING_SETUP_NO_MMAP });

test("liburing no-mmap-inval: memory that is not there", { skip: noMmap }, () => {
  using memory = Mapping.anonymous(2 * PAGE);
  // Only one of the two addresses is told.
  const result = setup(2, (params) => {
    params.setUint32(io_uring_params.flags, IORING_SETUP_NO_MMAP, true);
    params.setUint32(io_uring_params.cq_entries, 4, true);
    const at = io_uring_params.cq_off + io_cqring_offsets.user_addr;
    params.setBigUint64(at, BigInt(memory.address), true);
  });
  assert.ok(result === EFAULT || result === ENOMEM, `${result}`);
});

test("memory must be a mapping with room at a page's begin", () => {
  const memory = Mapping.anonymous(4 * PAGE);
  const refused = (options: object, message: RegExp, name = "RangeError"): void => {
    const before = openRings();
    assert.throws(() => new Ring(4, options), { name, message });
    assert.equal(openRings(), before);
  };
  for (const wrong of [{ address: memory.address, byteLength: 4 * PAGE }, new Uint8Array(PAGE), null]) {
    refused({ memory: wrong }, /^memory must be a Mapping$/, "TypeError");
  }
  for (const memoryOffset of [-PAGE, 1, 0.5, NaN, "0"]) {
    refused({ memory, memoryOffset }, /^memoryOffset must be a multiple of 4096, not /);
  }
  refused({ memoryOffset: 0 }, /^memoryOffset needs memory$/);
  refused({ memory, memoryOffset: 3 * PAGE }, /^a ring of 4 entries takes 8192 bytes; memory has 4096$/);
  refused({ memory, memoryOffset: 8 * PAGE }, /memory has 0$/);
  refused({ memory, hugePages: true }, /^hugePages excludes memory/);
  refused({ hugePages: 1 }, /^hugePages must be a boolean$/, "TypeError");
  memory.unmap();
  refused({ memory }, /unmapped/, "TypeError");
});

/** Sizes of queues, as in the C program. */
const SIZES: readonly (readonly [entries: number, cqEntries: number])[] = [
  [256, 16384],
  [32, 4096],
  [128, 8192],
  [4096, 32768],
  [1, 8],
  [2, 1024],
];

for (const flags of [0, IORING_SETUP_SQE128, IORING_SETUP_CQE32, IORING_SETUP_SQE128 | IORING_SETUP_CQE32]) {
  test(`liburing init-mem: with flags ${flags}, queues stay within their memory`, { skip: noMmap }, () => {
    for (const [entries, cqEntries] of SIZES) {
      // New memory for each: the kernel writes into that of a closed ring a little later.
      using memory = Mapping.anonymous(2 * HUGE_PAGE);
      const all = flags | IORING_SETUP_NO_SQARRAY;
      const size = memorySize(entries, { flags: all, cqEntries });
      assert.ok(size <= HUGE_PAGE);
      const zones = new Uint8Array(memory.buffer);
      // In front of the queues and behind them.
      const [front, back] = [zones.subarray(0, PAGE).fill(0x5a), zones.subarray(PAGE + size).fill(0xa5)];
      using ring = makeRing(entries, { flags: all, cqEntries, memory, memoryOffset: PAGE });
      assert.deepEqual([ring.sqEntries, ring.cqEntries], [entries, cqEntries]);
      const batch = Math.min(entries, 64);
      let wrong = 0;
      let next = 0;
      for (let i = 0; i < 2 * cqEntries; i += batch) {
        for (let j = 0; j < batch; j++) entry(ring, i + j, (sqe) => sqe.prepNop());
        ring.submitAndWait(batch);
        ring.forEachCqe((cqe) => {
          if (cqe.userData !== next++) wrong++;
        });
      }
      assert.deepEqual([wrong, next], [0, Math.ceil(2 * cqEntries / batch) * batch]);
      assert.ok(front.every((byte) => byte === 0x5a) && back.every((byte) => byte === 0xa5));
    }
  });
}

test("rings share a mapping, which survives them", { skip: noMmap }, () => {
  using memory = Mapping.anonymous(8 * PAGE);
  const size = memorySize(4);
  assert.equal(size, 2 * PAGE);
  const rings = [0, 1, 2, 3].map((i) => makeRing(4, { memory, memoryOffset: i * size }));
  for (let i = 0; i < 20; i++) {
    for (const ring of rings) assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
  }
  for (const ring of rings) {
    ring.close();
    for (const other of rings) if (!other.closed) assert.equal(once(other, (sqe) => sqe.prepNop()).res, 0);
  }
  assert.equal(memory.buffer.byteLength, 8 * PAGE);
});

test("memorySize counts in pages, as liburing does, and mlockSize what of it is charged", () => {
  // Entries, and then indices, completions and the array.
  assert.equal(memorySize(1), 2 * PAGE);
  assert.equal(memorySize(64), PAGE + PAGE);
  assert.equal(memorySize(256), 4 * PAGE + 3 * PAGE);
  assert.equal(memorySize(256, { flags: IORING_SETUP_NO_SQARRAY }), 4 * PAGE + 3 * PAGE);
  assert.equal(memorySize(256, { flags: IORING_SETUP_SQE128 }), 8 * PAGE + 3 * PAGE);
  assert.equal(memorySize(256, { flags: IORING_SETUP_CQE32 }), 4 * PAGE + 5 * PAGE);
  assert.equal(memorySize(200, { cqEntries: 1000 }), 4 * PAGE + 5 * PAGE);
  assert.throws(() => memorySize(0), RangeError);
  assert.throws(() => memorySize(16, { cqEntries: 4 }), RangeError);
  assert.equal(mlockSize(256), kernelHas("6.14") || !kernelHas("5.12") ? 7 * PAGE : 0);
  {
    using _old = new OldKernel("5.12");
    assert.equal(mlockSize(256), 0);
  }
  {
    using _old = new OldKernel("5.11");
    assert.equal(mlockSize(256), 7 * PAGE);
  }
});

const noHugeRing = missingRing({ hugePages: true });

test("huge pages: as many rings as there are pages, each whole", { skip: noHugeRing }, () => {
  for (const entries of [1, 64, 4096]) {
    using ring = makeRing(entries, { hugePages: true });
    assert.ok((ring.flags & IORING_SETUP_NO_MMAP) !== 0);
    for (let i = 0; i < ring.sqEntries; i++) entry(ring, i, (sqe) => sqe.prepNop());
    assert.equal(ring.submit(), ring.sqEntries);
    let next = 0;
    assert.equal(ring.forEachCqe((cqe) => assert.equal(cqe.userData, next++)), ring.sqEntries);
  }
});

test("huge pages: without one, the error says what is missing", () => {
  // More than any machine has.
  const rings: Ring[] = [];
  try {
    assert.throws(() => {
      for (let i = 0; i < 100_000; i++) rings.push(new Ring(32768, { hugePages: true }));
    }, (error: Error & { code?: string; syscall?: string }) => {
      assert.deepEqual([error.code, error.syscall], ["ENOMEM", "mmap"]);
      assert.match(error.message, /no huge page of 2 MiB is free; the sysctl vm\.nr_hugepages/);
      return true;
    });
  } finally {
    for (const ring of rings) ring.close();
  }
});

/** Why no huge pages can be mapped, or `false`. */
function missingHugePages(count: number): string | false {
  try {
    Mapping.anonymous(count * HUGE_PAGE, MAP_HUGETLB).unmap();
    return false;
  } catch (error) {
    return `${count} huge pages: ${(error as Error).message}`;
  }
}

for (const [name, pages, offset] of [["one", 1, 0], ["several", 4, 0], ["unaligned", 3, 0x1234]] as const) {
  test(`liburing fixed-hugepage: ${name}: registered buffers in huge pages`, {
    skip: missingHugePages(pages),
  }, () => {
    using dir = new TempDir();
    using memory = Mapping.anonymous(pages * HUGE_PAGE, MAP_HUGETLB);
    const length = pages * HUGE_PAGE - offset;
    const bytes = new Uint8Array(memory.buffer, offset, length);
    const expected = content(length);
    writeFileSync(dir.of("from"), expected);
    writeFileSync(dir.of("to"), "");
    using from = Fd.open(dir.of("from"), O_RDWR);
    using to = Fd.open(dir.of("to"), O_RDWR);
    using ring = makeRing(4);
    ring.registerBuffers([{ address: memory.address + offset, length }]);
    // A piece at a time, across the pages' borders.
    const step = 1_000_003;
    const each = (run: (at: number, count: number) => number): void => {
      for (let at = 0; at < length; at += step) {
        const count = Math.min(step, length - at);
        assert.equal(run(at, count), count);
      }
    };
    const address = memory.address + offset;
    each((at, count) => once(ring, (sqe) => sqe.prepReadFixed(from.fd, address + at, count, at, 0)).res);
    assert.deepEqual(bytes.subarray(0, 5000), expected.subarray(0, 5000));
    assert.ok(bytes.every((byte, i) => byte === expected[i]));
    each((at, count) => once(ring, (sqe) => sqe.prepWriteFixed(to.fd, address + at, count, at, 0)).res);
    bytes.fill(0);
    each((at, count) => once(ring, (sqe) => sqe.prepReadFixed(to.fd, address + at, count, at, 0)).res);
    assert.ok(bytes.every((byte, i) => byte === expected[i]));
    ring.unregisterBuffers();
  });
}

test("liburing shared-wq: workers are shared with a ring, and with nothing else", () => {
  using eventfd = new EventFd();
  assert.throws(() => new Ring(1, { wqFd: eventfd.fd }), { code: "EINVAL" });
  using ring = makeRing(8);
  using other = makeRing(1, { wqFd: ring.fd });
  assert.equal(once(other, (sqe) => sqe.prepNop()).res, 0);
  other.close();
  assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
});
