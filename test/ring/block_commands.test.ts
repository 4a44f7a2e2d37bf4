/** Commands to block devices: discarding, and the zones of zoned ones. */
import assert from "node:assert/strict";
import {
  BLOCK_URING_CMD_DISCARD,
  BLOCK_URING_CMD_ZONE_RESET_ALL,
  IORING_OP_URING_CMD,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  O_CREAT,
  O_DIRECT,
  O_RDONLY,
  O_RDWR,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { labDisk, LoopDevice, missingLabDisk, missingLoop, setReadOnly } from "../support/devices.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertEntry,
  block,
  blockOf,
  entry,
  forEachKind,
  makeRing,
  missingOp,
  once,
  reap,
} from "../support/rings.ts";

checkLeaks();

const BLOCK = 512;
const BLOCKS = 1024;
const EPERM = -1;
const EBADF = -9;
const EINVAL = -22;
const EOPNOTSUPP = -95;

const skip = missingOp(IORING_OP_URING_CMD);
const noLoop = firstReason(skip, kernelHas("6.12") ? false : "needs Linux 6.12", missingLoop());

forEachKind(({ name, options, skip: lacking }) => {
  test(`liburing cmd-discard: ${name}: one range after the other, and many at once`, {
    skip: firstReason(lacking, noLoop),
  }, () => {
    using device = new LoopDevice(BLOCKS * BLOCK);
    using disk = Fd.open(device.path, O_RDWR);
    using ring = makeRing(16, options);
    ring.registerFiles([disk.fd]);
    const data = blockOf(new Uint8Array(BLOCKS * BLOCK).fill(7));
    const back = block(BLOCKS * BLOCK);
    const zeroes = (): number => {
      const { res } = once(ring, (sqe) => sqe.prepRead(disk.fd, back.address, back.bytes.length, 0));
      assert.equal(res, back.bytes.length);
      return back.bytes.filter((byte) => byte === 0).length;
    };
    for (const [first, count] of [[0, 1], [7, 15], [1, BLOCKS - 1]] as const) {
      assert.equal(
        once(ring, (sqe) => sqe.prepWrite(disk.fd, data.address, data.bytes.length, 0)).res,
        512 * 1024,
      );
      assert.equal(once(ring, (sqe) => sqe.prepFsync(disk.fd, 0)).res, 0);
      assert.equal(once(ring, (sqe) => sqe.prepCmdDiscard(disk.fd, first * BLOCK, count * BLOCK)).res, 0);
      assert.equal(zeroes(), count * BLOCK);
    }
    for (let i = 0; i < 16; i++) {
      const sqe = entry(
        ring,
        i,
        (sqe) => sqe.prepCmdDiscard(i % 4 === 3 ? 0 : disk.fd, i * 8 * BLOCK, 8 * BLOCK),
      );
      if (i % 4 === 3) sqe.flags |= IOSQE_FIXED_FILE;
      if (i % 2 === 0) sqe.flags |= IOSQE_ASYNC;
    }
    for (const { res } of reap(ring, 16)) assert.equal(res, 0);
  });
});

test(
  "liburing cmd-discard: ranges and descriptors that cannot be, with nothing in between",
  { skip: noLoop },
  () => {
    using device = new LoopDevice(BLOCKS * BLOCK);
    using disk = Fd.open(device.path, O_RDWR | O_DIRECT);
    using readOnly = Fd.open(device.path, O_RDONLY | O_DIRECT);
    using ring = makeRing(4);
    const discard = (fd: number, from: number | bigint, length: number): number =>
      once(ring, (sqe) => sqe.prepCmdDiscard(fd, from, length)).res;
    const size = BLOCKS * BLOCK;
    assert.equal(discard(disk.fd, size, BLOCK), EINVAL);
    assert.equal(discard(disk.fd, size - BLOCK, 2 * BLOCK), EINVAL);
    // Round the end of all numbers.
    assert.equal(discard(disk.fd, -BLOCK, BLOCK + 2), EINVAL);
    assert.equal(discard(disk.fd, -BLOCK, 2 * BLOCK), EINVAL);
    assert.equal(discard(disk.fd, BLOCK / 2, BLOCK), EINVAL);
    assert.equal(discard(disk.fd, 0, BLOCK / 2), EINVAL);
    assert.equal(discard(readOnly.fd, 0, BLOCK), EBADF);
    setReadOnly(disk.fd, true);
    try {
      assert.equal(discard(disk.fd, 0, BLOCK), EPERM);
    } finally {
      setReadOnly(disk.fd, false);
    }
    assert.equal(discard(disk.fd, 0, BLOCK), 0);
  },
);

test("what the entries say", { skip }, () => {
  using ring = makeRing(4);
  using dir = new TempDir();
  using file = Fd.open(dir.of("file"), O_RDWR | O_CREAT);
  const discard = entry(ring, 1, (sqe) => sqe.prepCmdDiscard(file.fd, 0x1_2345_6789, 4096));
  assertEntry(discard, {
    opcode: IORING_OP_URING_CMD,
    fd: file.fd,
    off: BigInt(BLOCK_URING_CMD_DISCARD),
    addr: 0x1_2345_6789n,
    addr3: 4096n,
  });
  const reset = entry(ring, 2, (sqe) => sqe.prepCmdZoneResetAll(file.fd));
  assertEntry(reset, {
    opcode: IORING_OP_URING_CMD,
    fd: file.fd,
    off: BigInt(BLOCK_URING_CMD_ZONE_RESET_ALL),
  });
  // A file on a disk is no disk.
  for (const { res } of reap(ring, 2)) assert.equal(res, EOPNOTSUPP);
});

const zoned = labDisk("zoned");

const young = kernelHas("7.3") ? "this kernel may know how" : false;

test("a zoned disk under a kernel that cannot reset all its zones yet", {
  skip: firstReason(missingLabDisk("zoned"), young),
}, () => {
  using disk = Fd.open(`/dev/${zoned}`, O_RDWR);
  using ring = makeRing(4);
  const { res } = once(ring, (sqe) => sqe.prepCmdZoneResetAll(disk.fd));
  assert.equal(res, EINVAL);
});
