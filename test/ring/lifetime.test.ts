/** Closing, dropping, and what a ring leaves behind; visitors that throw. */
import assert from "node:assert/strict";
import {
  BPF_RET,
  bpfStmt,
  bufRingAdvance,
  type Cqe,
  IORING_REGISTER_PROBE,
  IOU_PBUF_RING_MMAP,
  O_CLOEXEC,
  type Ring,
} from "../../src/ring/mod.ts";
import { addressOf } from "../../src/ffi/pin.ts";
import { collectUntil } from "../support/collect.ts";
import { EventFd, fdFlags, isMapped, openRings, vmFlags } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { assertQuiet, entry, forEachKind, makeRing, once, reap } from "../support/rings.ts";

checkLeaks();

/** Every call that a ring has. */
const CALLS: Record<string, (ring: Ring) => unknown> = {
  getSqe: (ring) => ring.getSqe(),
  sqReady: (ring) => ring.sqReady(),
  sqSpaceLeft: (ring) => ring.sqSpaceLeft(),
  sqDropped: (ring) => ring.sqDropped(),
  submit: (ring) => ring.submit(),
  submitAndWait: (ring) => ring.submitAndWait(1),
  submitAndGetEvents: (ring) => ring.submitAndGetEvents(),
  submitAndWaitTimeout: (ring) => ring.submitAndWaitTimeout(1, { sec: 0, nsec: 0 }),
  getEvents: (ring) => ring.getEvents(),
  cqReady: (ring) => ring.cqReady(),
  cqHasOverflow: (ring) => ring.cqHasOverflow(),
  cqOverflowed: (ring) => ring.cqOverflowed(),
  cqNeedsEnter: (ring) => ring.cqNeedsEnter(),
  cqEventfdEnabled: (ring) => ring.cqEventfdEnabled(),
  cqEventfdToggle: (ring) => ring.cqEventfdToggle(true),
  peekCqe: (ring) => ring.peekCqe(),
  peekBatchCqe: (ring) => ring.peekBatchCqe([undefined]),
  waitCqe: (ring) => ring.waitCqe(),
  waitCqeNr: (ring) => ring.waitCqeNr(2),
  waitCqeTimeout: (ring) => ring.waitCqeTimeout({ sec: 0, nsec: 0 }),
  cqAdvance: (ring) => ring.cqAdvance(1),
  forEachCqe: (ring) => ring.forEachCqe(() => {}),
  register: (ring) => ring.register(IORING_REGISTER_PROBE, null, 0),
  registerRingFd: (ring) => ring.registerRingFd(),
  enableRings: (ring) => ring.enableRings(),
  registerBuffers: (ring) => ring.registerBuffers([new Uint8Array(8)]),
  unregisterBuffers: (ring) => ring.unregisterBuffers(),
  registerFiles: (ring) => ring.registerFiles([0]),
  registerFilesSparse: (ring) => ring.registerFilesSparse(1),
  registerFilesUpdate: (ring) => ring.registerFilesUpdate(0, [0]),
  unregisterFiles: (ring) => ring.unregisterFiles(),
  registerFileAllocRange: (ring) => ring.registerFileAllocRange(0, 1),
  registerEventfd: (ring) => ring.registerEventfd(0),
  registerEventfdAsync: (ring) => ring.registerEventfdAsync(0),
  unregisterEventfd: (ring) => ring.unregisterEventfd(),
  registerIowqMaxWorkers: (ring) => ring.registerIowqMaxWorkers(0, 0),
  registerSyncCancel: (ring) => ring.registerSyncCancel({}),
  getProbe: (ring) => ring.getProbe(),
  registerProbe: (ring) => ring.registerProbe(1),
  registerQuery: (ring) => ring.registerQuery([{ op: 0, data: new Uint8Array(8) }]),
  setupBufRing: (ring) => ring.setupBufRing(1, 0),
  setupMappedBufRing: (ring) => ring.setupBufRing(1, 0, IOU_PBUF_RING_MMAP),
  unregisterBufRing: (ring) => ring.unregisterBufRing(0),
  bufRingHead: (ring) => ring.bufRingHead(0),
  closeRingFd: (ring) => ring.closeRingFd(),
  registerFilesTags: (ring) => ring.registerFilesTags([0], [1]),
  registerFilesUpdateTag: (ring) => ring.registerFilesUpdateTag(0, [0], [1]),
  registerBuffersTags: (ring) => ring.registerBuffersTags([new Uint8Array(8)], [1]),
  registerBuffersSparse: (ring) => ring.registerBuffersSparse(1),
  registerBuffersUpdateTag: (ring) => ring.registerBuffersUpdateTag(0, [null], []),
  cloneBuffers: (ring) => ring.cloneBuffers(ring),
  registerRegion: (ring) => ring.registerRegion({ size: 4096 }),
  registerWaitReg: (ring) => ring.registerWaitReg(1),
  submitAndWaitReg: (ring) => ring.submitAndWaitReg(1, 0),
  registerClock: (ring) => ring.registerClock(1),
  registerNapi: (ring) => ring.registerNapi({}),
  unregisterNapi: (ring) => ring.unregisterNapi(),
  registerPersonality: (ring) => ring.registerPersonality(),
  unregisterPersonality: (ring) => ring.unregisterPersonality(0),
  registerRestrictions: (ring) => ring.registerRestrictions([]),
  registerBpfFilter: (ring) => ring.registerBpfFilter({ opcode: 0, program: [bpfStmt(BPF_RET, 1)] }),
  registerIowqAff: (ring) => ring.registerIowqAff([0]),
  unregisterIowqAff: (ring) => ring.unregisterIowqAff(),
  importIfq: (ring) => ring.importIfq(0),
  registerZcrxCtrl: (ring) => ring.registerZcrxCtrl(0, 0),
  resizeRings: (ring) => ring.resizeRings(8),
};

forEachKind(({ name, options, skip }) => {
  test(`${name}: a closed ring throws, whatever is asked of it`, { skip }, () => {
    const ring = makeRing(4, options);
    once(ring, (sqe) => sqe.prepNop());
    const sqe = ring.getSqe()!;
    ring.close();
    ring.close();
    ring[Symbol.dispose]();
    for (const [call, body] of Object.entries(CALLS)) assert.throws(() => body(ring), TypeError, call);
    assert.equal(ring.closed, true);
    assert.equal(ring.fd, -1);
    // An entry kept too long writes nowhere.
    sqe.prepNop();
    assert.throws(() => sqe.bytes, TypeError);
  });

  test(`${name}: a full queue does not hide that the ring is closed`, { skip }, () => {
    const ring = makeRing(2, options);
    ring.getSqe();
    ring.getSqe();
    ring.close();
    assert.throws(() => ring.getSqe(), /^TypeError: The ring is closed$/);
  });

  test(`${name}: a ring that is dropped goes once collected`, { skip }, async () => {
    const before = openRings();
    const places: number[] = [];
    const drop = (): void => {
      const ring = makeRing(64, options);
      once(ring, (sqe) => sqe.prepNop());
      places.push(addressOf(ring.getSqe()!.bytes));
    };
    for (let i = 0; i < 4; i++) drop();
    await collectUntil(() => openRings() <= before + 1, "descriptors are closed");
    await collectUntil(() => places.filter(isMapped).length <= 1, "memory is unmapped");
  });

  test(`${name}: nothing of a ring is seen by a forked child`, { skip }, () => {
    using ring = makeRing(4, options);
    assert.ok(vmFlags(addressOf(ring.getSqe()!.bytes)).includes("dc"), "MADV_DONTFORK");
    if (ring.fd >= 0) assert.equal(fdFlags(ring.fd) & O_CLOEXEC, O_CLOEXEC);
  });
});

test("dropped rings give back their places among the registered ones", async () => {
  // A thread has 16: more than that many can only be had one after the other.
  const drop = (): boolean => {
    const ring = makeRing(1);
    try {
      return ring.registerRingFd();
    } catch {
      ring.close();
      return false;
    }
  };
  for (let i = 0; i < 40; i++) await collectUntil(drop, "there is a free place");
  // Leave room for the tests that follow.
  await collectUntil(() => {
    const rings = Array.from({ length: 8 }, () => makeRing(1));
    try {
      return rings.every((ring) => ring.registerRingFd());
    } catch {
      return false;
    } finally {
      for (const ring of rings) ring.close();
    }
  }, "there are free places");
});

test("a buffer ring's memory goes with its ring", () => {
  const ring = makeRing(4);
  const bufRing = ring.setupBufRing(4, 1);
  const { address } = bufRing.memory;
  assert.ok(isMapped(address));
  ring.close();
  assert.equal(isMapped(address), false);
  assert.throws(() => bufRingAdvance(bufRing, 1), TypeError);
});

forEachKind(({ name, options, skip }) => {
  test(`${name}: a visitor that throws has visited, and the rest is still there`, { skip }, () => {
    using ring = makeRing(8, options);
    for (let i = 0; i < 5; i++) entry(ring, i, (sqe) => sqe.prepNop());
    ring.submitAndWait(5);
    ring.waitCqeNr(5);
    const seen: number[] = [];
    const visit = (cqe: Cqe): void => {
      seen.push(cqe.userData);
      if (cqe.userData === 1) throw new Error("enough");
    };
    assert.throws(() => ring.forEachCqe(visit), /^Error: enough$/);
    assert.deepEqual(seen, [0, 1]);
    assert.equal(ring.cqReady(), 3);
    assert.equal(ring.forEachCqe(visit), 3);
    assert.deepEqual(seen, [0, 1, 2, 3, 4]);
    assertQuiet(ring);
  });

  test(`${name}: a visitor may submit`, { skip }, () => {
    using ring = makeRing(4, options);
    let left = 20;
    const next = (): void => {
      entry(ring, left--, (sqe) => sqe.prepNop());
      ring.submit();
    };
    next();
    const seen: number[] = [];
    while (seen.length < 21) {
      ring.submitAndWait(1);
      ring.forEachCqe((cqe) => {
        seen.push(cqe.userData);
        if (left >= 0) next();
      });
    }
    assert.deepEqual(seen, Array.from({ length: 21 }, (_, i) => 20 - i));
  });
});

test("many rings at once keep their completions apart", () => {
  const rings = Array.from({ length: 10 }, () => makeRing(8));
  for (const [r, ring] of rings.entries()) {
    for (let i = 0; i < 8; i++) entry(ring, 100 * r + i, (sqe) => sqe.prepNop());
  }
  for (const ring of rings) ring.submit();
  for (const [r, ring] of rings.entries()) {
    assert.deepEqual(
      reap(ring, 8).map(({ userData }) => userData),
      [0, 1, 2, 3, 4, 5, 6, 7].map((i) => 100 * r + i),
    );
    ring.close();
  }
});

test("closing does not wait for what is in flight", () => {
  using eventfd = new EventFd();
  const before = openRings();
  for (let i = 0; i < 5; i++) {
    const ring = makeRing(4);
    const words = new Uint8Array(8);
    entry(ring, 1, (sqe) => sqe.prepRead(eventfd.fd, addressOf(words), 8, 0));
    ring.submit();
    assert.equal(ring.registerSyncCancel({ userData: 1 }), 0);
    ring.close();
  }
  assert.equal(openRings(), before);
});
