/** Messages from ring to ring: data, flags, files; to rings of every kind, to full ones, to what is no ring. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { kernelHas } from "../../src/ffi/kernel.ts";
import {
  AT_FDCWD,
  detachedSqe,
  IORING_MSG_RING_CQE_SKIP,
  IORING_OP_MSG_RING,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SINGLE_ISSUER,
  IOSQE_FIXED_FILE,
  registerSyncMsg,
  type Ring,
  type RingOptions,
  type Sqe,
} from "../../src/ring/mod.ts";
import { Pipe, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  block,
  blockOf,
  type Completion,
  entry,
  forEachKind,
  makeRing,
  missingOp,
  missingRing,
  once,
  path,
  reap,
  reapResults,
  text,
} from "../support/rings.ts";

checkLeaks();

const EBADF = -9;
const EINVAL = -22;
const ENXIO = -6;
const EBADFD = -77;

const DEFER = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
const noMessages = missingOp(IORING_OP_MSG_RING);
const noSync = kernelHas("6.13") ? false : "needs Linux 6.13";
const noFlags = kernelHas("6.3") ? false : "needs Linux 6.3";

/** Sends from one ring to another and checks what the sender is told. */
function send(ring: Ring, prep: (sqe: Sqe) => void): void {
  entry(ring, 1, prep);
  ring.submit();
  assert.deepEqual(reap(ring, 1).map(({ userData, res }) => [userData, res]), [[1, 0]]);
}

function one(ring: Ring): Completion {
  return reap(ring, 1)[0]!;
}

/** The kinds of ring that messages go to, beside those that this library makes. */
const TARGETS: readonly { readonly name: string; readonly options: RingOptions }[] = [
  { name: "a plain ring", options: {} },
  { name: "DEFER_TASKRUN", options: { flags: DEFER } },
  { name: "IOPOLL", options: { flags: IORING_SETUP_IOPOLL } },
  { name: "DEFER_TASKRUN IOPOLL", options: { flags: DEFER | IORING_SETUP_IOPOLL } },
];

forEachKind(({ name, options, skip }) => {
  const reason = firstReason(skip, noMessages);

  test(`liburing msg-ring: ${name}: to itself, to another, to what is no ring`, { skip: reason }, () => {
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    if (ring.fd >= 0) {
      entry(ring, 1, (sqe) => sqe.prepMsgRing(ring.fd, 0x10, 0x1234, 0));
      ring.submit();
      assert.deepEqual(reapResults(ring, 2), new Map([[1, 0], [0x1234, 0x10]]));
      if (noSync === false) {
        const sqe = detachedSqe();
        sqe.prepMsgRing(ring.fd, 0x11, 0x1235, 0);
        assert.equal(registerSyncMsg(sqe), 0);
        assert.deepEqual(reapResults(ring, 1), new Map([[0x1235, 0x11]]));
      }
    }
    for (const target of TARGETS) {
      if (missingRing(target.options) !== false) continue;
      using other = makeRing(8, target.options);
      send(ring, (sqe) => sqe.prepMsgRing(other.fd, 0x20, 0x5aa5, 0));
      const { userData, res, flags } = one(other);
      assert.deepEqual([userData, res, flags], [0x5aa5, 0x20, 0], target.name);
      assertQuiet(other);
    }
    assert.equal(once(ring, (sqe) => sqe.prepMsgRing(pipe.reader.fd, 0, 0x8989, 0)).res, EBADFD);
    assert.equal(once(ring, (sqe) => sqe.prepMsgRing(1_000_000, 0, 0x8989, 0)).res, EBADF);
    for (let i = 0; i < 2; i++) {
      ring.registerFiles([pipe.reader.fd]);
      const { res } = once(ring, (sqe) => {
        sqe.prepMsgRing(0, 0, 0x8989, 0);
        sqe.flags |= IOSQE_FIXED_FILE;
      });
      assert.equal(res, EBADFD);
      ring.unregisterFiles();
    }
    assertQuiet(ring);
  });

  test(`liburing msg-ring: ${name}: a ring that is not enabled`, { skip: reason }, () => {
    using ring = makeRing(8, options);
    for (const flags of [IORING_SETUP_R_DISABLED, IORING_SETUP_R_DISABLED | DEFER]) {
      using disabled = makeRing(8, { flags });
      const { res } = once(ring, (sqe) => sqe.prepMsgRing(disabled.fd, 0x10, 0x1234, 0));
      assert.ok(res === 0 || res === EBADFD, `${res}`);
    }
  });

  test(
    `liburing msg-ring-flags: ${name}: the receiver's flags`,
    { skip: firstReason(reason, noFlags) },
    () => {
      using ring = makeRing(2, options);
      for (const { name: kind, options: targetOptions } of TARGETS.slice(0, 2)) {
        using other = makeRing(2, targetOptions);
        const prep = (sqe: Sqe): void => sqe.prepMsgRingCqeFlags(other.fd, 0x20, 0x5aa5, 0, 0x42);
        send(ring, prep);
        assert.deepEqual(one(other), { userData: 0x5aa5, res: 0x20, flags: 0x42 }, kind);
        // More than the other's queue holds.
        for (let i = 0; i < 8; i++) send(ring, prep);
        for (let i = 0; i < 8; i++) {
          assert.deepEqual(one(other), { userData: 0x5aa5, res: 0x20, flags: 0x42 });
        }
        assertQuiet(other);
      }
    },
  );

  for (const [from, to] of [[0, 1], [0, 2], [1, 1], [1, 0], [1, "alloc"]] as const) {
    test(`liburing fd-pass: ${name}: from slot ${from} to ${to}`, { skip: reason }, () => {
      using dir = new TempDir();
      writeFileSync(dir.of("file"), "x".repeat(128));
      using source = makeRing(8, options);
      using target = makeRing(8);
      source.registerFilesSparse(8);
      target.registerFilesSparse(8);
      if (to === "alloc") {
        target.registerFileAllocRange(1, 1);
      }
      const where = path(dir.of("file"));
      assert.equal(once(source, (sqe) => sqe.prepOpenatDirect(AT_FDCWD, where, 0, 0o644, from)).res, 0);
      const buffer = block(128);
      const read = (ring: Ring, slot: number): number =>
        once(ring, (sqe) => {
          sqe.prepRead(slot, buffer.address, 128, 0);
          sqe.flags |= IOSQE_FIXED_FILE;
        }).res;
      assert.equal(read(source, from), 128);
      const { res: passed } = once(source, (sqe) => {
        if (to === "alloc") sqe.prepMsgRingFdAlloc(target.fd, from, 0x89, 0);
        else sqe.prepMsgRingFd(target.fd, from, to, 0x89, 0);
      });
      assert.ok(passed >= 0, `${passed}`);
      const { userData, res } = one(target);
      assert.deepEqual([userData, res], [0x89, to === "alloc" ? 1 : 0]);
      const slot = to === "alloc" ? res : to;
      assert.equal(read(target, slot), 128);
      assert.equal(once(source, (sqe) => sqe.prepCloseDirect(from)).res, 0);
      assert.equal(read(source, from), EBADF);
      buffer.bytes.fill(0);
      assert.equal(read(target, slot), 128);
      assert.equal(text(buffer), "x".repeat(128));
    });
  }

  test(`liburing msg-ring-fd: ${name}: a pipe's end`, { skip: reason }, () => {
    using source = makeRing(8, options);
    const content = blockOf("thirty-two bytes, no more no less");
    for (const { options: targetOptions } of TARGETS.slice(0, 2)) {
      using target = makeRing(8, targetOptions);
      using pipe = new Pipe();
      // Without a table there is no place for it.
      source.registerFiles([pipe.reader.fd]);
      assert.equal(once(source, (sqe) => sqe.prepMsgRingFd(target.fd, 0, 0, 10, 0)).res, ENXIO);
      target.registerFiles([-1]);
      entry(source, 1, (sqe) => sqe.prepWrite(pipe.writer.fd, content.address, content.bytes.length, 0));
      entry(source, 2, (sqe) => sqe.prepMsgRingFd(target.fd, 0, 0, 10, 0));
      source.submit();
      assert.deepEqual(reapResults(source, 2), new Map([[1, content.bytes.length], [2, 0]]));
      const { userData, res } = one(target);
      assert.deepEqual([userData, res], [10, 0]);
      const buffer = block(64);
      const read = once(target, (sqe) => {
        sqe.prepRead(0, buffer.address, 64, 0);
        sqe.flags |= IOSQE_FIXED_FILE;
      });
      assert.equal(text(buffer, read.res), "thirty-two bytes, no more no less");
      // Without a completion for the receiver; it finds the file all the same.
      assert.equal(once(target, (sqe) => sqe.prepCloseDirect(0)).res, 0);
      const quiet = once(source, (sqe) => sqe.prepMsgRingFd(target.fd, 0, 0, 10, IORING_MSG_RING_CQE_SKIP));
      assert.equal(quiet.res, 0);
      assertQuiet(target);
      assert.equal(once(target, (sqe) => sqe.prepCloseDirect(0)).res, 0);
      // An empty slot, one that is not there, and the ring itself.
      assert.equal(once(source, (sqe) => sqe.prepMsgRingFd(target.fd, 5, 0, 10, 0)).res, EBADF);
      if (source.fd >= 0) {
        assert.equal(once(source, (sqe) => sqe.prepMsgRingFd(source.fd, 0, 0, 10, 0)).res, EINVAL);
      }
      assert.equal(once(source, (sqe) => sqe.prepMsgRingFd(target.fd, 0, 7, 10, 0)).res, EINVAL);
      source.unregisterFiles();
    }
  });
});

for (const { name, options } of TARGETS) {
  const skip = firstReason(noMessages, missingRing(options));
  test(`liburing msg-ring-overflow: ${name}: more messages than the queue holds`, { skip }, () => {
    using source = makeRing(8);
    using target = makeRing(4, { ...options, cqEntries: 4 });
    for (let i = 1; i <= 8; i++) entry(source, i, (sqe) => sqe.prepMsgRing(target.fd, 0x10 + i, 0x1234, 0));
    assert.equal(source.submit(), 8);
    assert.deepEqual([...reapResults(source, 8).values()], Array(8).fill(0));
    const got = reap(target, 8);
    assert.ok(got.every(({ userData }) => userData === 0x1234));
    assert.deepEqual(got.map(({ res }) => res), [1, 2, 3, 4, 5, 6, 7, 8].map((i) => 0x10 + i));
    assertQuiet(target);
  });
}
