/** Groups of provided buffers: registered, refused, shared between the old way and the new one. */
import assert from "node:assert/strict";
import {
  IORING_OP_PROVIDE_BUFFERS,
  IORING_REGISTER_PBUF_RING,
  IORING_SETUP_NO_SQARRAY,
  IOSQE_ASYNC,
  IOSQE_BUFFER_SELECT,
  IOU_PBUF_RING_INC,
  IOU_PBUF_RING_MMAP,
  Mapping,
  O_RDONLY,
  PROT_NONE,
  type Ring,
  SOCK_DGRAM,
} from "../../src/ring/mod.ts";
import { bufRingAdd, bufRingAdvance, bufRingMask, IORING_CQE_BUFFER_SHIFT } from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { io_uring_buf_reg } from "../../src/ffi/structs.ts";
import { Fd, isMapped } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc, openLibc } from "../support/libc.ts";
import {
  type Block,
  block,
  entry,
  forEachKind,
  makeRing,
  missingOp,
  missingRing,
  once,
  reap,
} from "../support/rings.ts";
import { Connection } from "../support/sockets.ts";

checkLeaks();

const PAGE = 4096;
const ENOBUFS = -105;
const EEXIST = -17;
const EINVAL = -22;
const ENOENT = -2;
/** One group in the kernel's array of the first ones, one in what holds the rest. */
const GROUPS = [1, 127];

const noRings = kernelHas("5.19") ? false : "needs Linux 5.19";
const noMapped = kernelHas("6.4") ? false : "needs Linux 6.4";
const noIncremental = kernelHas("6.12") ? false : "needs Linux 6.12";
const noLegacy = missingOp(IORING_OP_PROVIDE_BUFFERS);

/** Registers a ring of buffers at an address that nobody checks. */
function registerAt(ring: Ring, address: number, entries: number, bgid: number): void {
  const { bytes, view } = block(io_uring_buf_reg.size);
  view.setBigUint64(io_uring_buf_reg.ring_addr, BigInt(address), true);
  view.setUint32(io_uring_buf_reg.ring_entries, entries, true);
  view.setUint16(io_uring_buf_reg.bgid, bgid, true);
  ring.register(IORING_REGISTER_PBUF_RING, bytes, 1);
}

function provide(ring: Ring, buffers: Block, size: number, bgid: number): number {
  const count = buffers.bytes.length / size;
  return once(ring, (sqe) => sqe.prepProvideBuffers(buffers.address, size, count, bgid, 0)).res;
}

/** Reads a byte into a buffer of the group; the buffer's id, or the error. */
function readOne(ring: Ring, fd: number, bgid: number): number {
  const { res, flags } = once(ring, (sqe) => {
    sqe.prepRead(fd, 0, 1, 0);
    sqe.flags = IOSQE_BUFFER_SELECT;
    sqe.bufGroup = bgid;
  });
  if (res < 0) return res;
  assert.equal(res, 1);
  return flags >>> IORING_CQE_BUFFER_SHIFT;
}

forEachKind(({ name, options, skip }) => {
  for (const bgid of GROUPS) {
    test(
      `liburing buf-ring: ${name}: group ${bgid} is registered and taken back`,
      { skip: skip || noRings },
      () => {
        using ring = makeRing(2, options);
        ring.freeBufRing(ring.setupBufRing(32, bgid));
        // Nowhere is no place for it.
        assert.throws(() => registerAt(ring, PAGE, 32, bgid), { code: "EFAULT" });
        const bufRing = ring.setupBufRing(32, bgid);
        assert.throws(() => registerAt(ring, bufRing.memory.address, 32, bgid), { code: "EEXIST" });
        assert.throws(() => ring.setupBufRing(32, bgid), { code: "EEXIST" });
        ring.freeBufRing(bufRing);
        assert.throws(() => ring.unregisterBufRing(bgid), { code: "ENOENT" });
      },
    );

    test(`liburing buf-ring: ${name}: group ${bgid} has buffers of one kind`, {
      skip: firstReason(skip, noRings, noLegacy),
    }, () => {
      using ring = makeRing(2, options);
      const buffers = block(8 * 1024);
      assert.ok(provide(ring, buffers, 1024, bgid) >= 0);
      assert.throws(() => ring.setupBufRing(32, bgid), { code: "EEXIST" });
      // Without its buffers, the group can be had anew.
      assert.equal(once(ring, (sqe) => sqe.prepRemoveBuffers(8, bgid)).res, 8);
      const bufRing = ring.setupBufRing(32, bgid);
      assert.ok([EEXIST, EINVAL].includes(provide(ring, buffers, 1024, bgid)));
      const removed = once(ring, (sqe) => sqe.prepRemoveBuffers(8, bgid)).res;
      assert.ok([ENOENT, EINVAL].includes(removed), `${removed}`);
      ring.freeBufRing(bufRing);
    });
  }

  test(`liburing buf-ring: ${name}: a ring of a page, before a page without memory`, {
    skip: skip || noRings,
  }, () => {
    using memory = Mapping.anonymous(2 * PAGE);
    const { mprotect } = openLibc({ mprotect: { result: "i32", args: ["word", "word", "i32"] } });
    assert.equal(mprotect(memory.address + PAGE, PAGE, PROT_NONE), 0);
    using ring = makeRing(2, options);
    registerAt(ring, memory.address, PAGE / 16, 1);
    assert.throws(() => registerAt(ring, memory.address, PAGE / 8, 2), { code: "EFAULT" });
  });

  test(`${name}: buffers provided the old way are picked, and removed`, { skip: skip || noLegacy }, () => {
    using zero = Fd.open("/dev/zero", O_RDONLY);
    using ring = makeRing(2, options);
    const buffers = block(4 * 16);
    buffers.bytes.fill(1);
    assert.ok(provide(ring, buffers, 16, 5) >= 0);
    const picked = new Set([readOne(ring, zero.fd, 5), readOne(ring, zero.fd, 5)]);
    assert.equal(picked.size, 2);
    for (let id = 0; id < 4; id++) assert.equal(buffers.bytes[id * 16], picked.has(id) ? 0 : 1);
    assert.equal(once(ring, (sqe) => sqe.prepRemoveBuffers(10, 5)).res, 2);
    assert.equal(readOne(ring, zero.fd, 5), ENOBUFS);
    assert.equal(once(ring, (sqe) => sqe.prepRemoveBuffers(10, 6)).res, ENOENT);
  });
});

for (
  const [what, flags, skip] of [["of ours", 0, noRings], [
    "of the kernel's",
    IOU_PBUF_RING_MMAP,
    noMapped,
  ]] as const
) {
  for (const entries of [1, 4096, 32768]) {
    test(`liburing buf-ring: ${entries} buffers in a ring ${what}, each picked once`, { skip }, () => {
      using zero = Fd.open("/dev/zero", O_RDONLY);
      using ring = makeRing(256);
      const bufRing = ring.setupBufRing(entries, 2, flags);
      const { bytes, address } = block(8);
      const mask = bufRingMask(entries);
      for (let round = 0; round < (entries > 10_000 ? 1 : 3); round++) {
        for (let id = 0; id < entries; id++) bufRingAdd(bufRing, address, 8, id, mask, id);
        bufRingAdvance(bufRing, entries);
        const picked = new Uint8Array(entries);
        bytes.fill(1);
        for (let left = entries; left > 0;) {
          const some = Math.min(left, 256);
          for (let i = 0; i < some; i++) {
            const sqe = ring.getSqe()!;
            sqe.prepRead(zero.fd, 0, 1, 0);
            sqe.flags = IOSQE_BUFFER_SELECT;
            sqe.bufGroup = 2;
          }
          ring.submitAndWait(some);
          left -= ring.forEachCqe((cqe) => {
            if (cqe.res !== 1) assert.fail(`${cqe.res}`);
            picked[cqe.flags >>> IORING_CQE_BUFFER_SHIFT]!++;
          });
        }
        assert.ok(picked.every((count) => count === 1));
        assert.deepEqual([...bytes], [0, 1, 1, 1, 1, 1, 1, 1]);
        assert.equal(readOne(ring, zero.fd, 2), ENOBUFS);
      }
      ring.freeBufRing(bufRing);
    });
  }
}

test("liburing buf-ring-put: memory of the kernel's outlives its registration, and its ring", {
  skip: noMapped,
}, () => {
  using ring = makeRing(1);
  // Across the border between the kernel's two ways to find a group.
  const bufRings = Array.from({ length: 10 }, (_, i) => ring.setupBufRing(512, 60 + i, IOU_PBUF_RING_MMAP));
  for (let bgid = 60; bgid < 70; bgid++) ring.unregisterBufRing(bgid);
  const scribble = (): void => {
    for (let round = 0; round < 50; round++) {
      for (const { memory } of bufRings) {
        const bytes = new Uint8Array(memory.buffer);
        bytes.fill(round);
        assert.ok(bytes.every((byte) => byte === round));
      }
    }
  };
  scribble();
  ring.close();
  scribble();
  for (const { memory } of bufRings) {
    memory.unmap();
    assert.equal(isMapped(memory.address), false);
  }
});

test("liburing buf-ring-upgrade: an old buffer comes back to a group that has a ring by now", {
  skip: firstReason(noRings, noLegacy),
}, () => {
  using pair = Connection.unix(0, SOCK_DGRAM);
  using ring = makeRing(2);
  const BGID = 0x444;
  const old = block(PAGE);
  const fresh = block(PAGE);
  using memory = Mapping.anonymous(1024 * 16);
  assert.ok(provide(ring, old, PAGE, BGID) >= 0);
  const nothing = new Uint8Array(new ArrayBuffer(1));
  let registered = false;
  const after = 200;
  for (let i = 0, left = after; i < 5000 && left > 0; i++) {
    assert.equal(libc().send(pair.b.fd, nothing, 0, 0), 0);
    const sqe = entry(ring, i, (sqe) => sqe.prepRecv(pair.a.fd, 0, 1, 0));
    sqe.flags = IOSQE_ASYNC | IOSQE_BUFFER_SELECT;
    sqe.bufGroup = BGID;
    ring.submit();
    // A worker thread has taken the only buffer, and gives it back since nothing came in it: the group is empty meanwhile.
    for (let attempt = 0; attempt < 50 && !registered; attempt++) {
      try {
        const bufRing = ring.registerBufRing(memory, 1024, BGID);
        for (let id = 0; id < 1024; id++) {
          bufRingAdd(bufRing, fresh.address, PAGE, id, bufRingMask(1024), id);
        }
        bufRingAdvance(bufRing, 1024);
        registered = true;
      } catch (error) {
        assert.equal((error as { code?: string }).code, "EEXIST");
      }
    }
    if (registered) left--;
    const { res } = reap(ring, 1)[0]!;
    assert.ok(res === 0 || res === ENOBUFS, `${res}`);
  }
  // Where the race was never won, the group still has its old buffer, and what follows goes there.
  old.bytes.fill(1);
  fresh.bytes.fill(1);
  assert.equal(libc().send(pair.b.fd, new Uint8Array(new ArrayBuffer(1)), 1, 0), 1);
  const { res } = once(ring, (sqe) => {
    sqe.prepRecv(pair.a.fd, 0, 1, 0);
    sqe.flags = IOSQE_BUFFER_SELECT;
    sqe.bufGroup = BGID;
  });
  assert.equal(res, 1);
  assert.deepEqual([old.bytes[0], fresh.bytes[0]], registered ? [1, 0] : [0, 1]);
});

const noSquare = missingRing({ flags: IORING_SETUP_NO_SQARRAY });

test("liburing ringbuf-loop: a buffer that is the ring of buffers itself", {
  skip: firstReason(noIncremental, noSquare),
}, () => {
  using pair = Connection.unix(0, SOCK_DGRAM);
  using ring = makeRing(1, { flags: IORING_SETUP_NO_SQARRAY });
  const bufRing = ring.setupBufRing(2, 0, IOU_PBUF_RING_INC);
  bufRingAdd(bufRing, bufRing.memory.address, PAGE, 0, bufRingMask(2), 0);
  bufRingAdvance(bufRing, 1);
  // What arrives wipes out the entry that said where it was to go.
  assert.equal(libc().send(pair.a.fd, new Uint8Array(new ArrayBuffer(32)), 32, 0), 32);
  const { res } = once(ring, (sqe) => {
    sqe.prepRecv(pair.b.fd, 0, 0, 0);
    sqe.flags = IOSQE_BUFFER_SELECT;
    sqe.bufGroup = 0;
  });
  assert.equal(res, 32);
  assert.ok(new Uint8Array(bufRing.memory.buffer, 0, 32).every((byte) => byte === 0));
  ring.freeBufRing(bufRing);
  // The ring itself works as before.
  assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
});
