/** Disks: polling for completions, where that can be and where it cannot, and discarding. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { unlinkSync, writeFileSync } from "node:fs";
import {
  IORING_SETUP_HYBRID_IOPOLL,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SQPOLL,
  IOSQE_FIXED_FILE,
  Mapping,
  O_DIRECT,
  O_RDONLY,
  O_RDWR,
} from "../../src/ring/mod.ts";
import { Uring } from "../../src/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { Fd } from "../support/descriptors.ts";
import { labDisk } from "../support/devices.ts";
import { outsideLab, test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";
import { FLAGS, makeUring } from "../support/loop.ts";
import { loadModule } from "../support/modules.ts";
import { failure } from "../support/operations.ts";
import { entry, makeRing, reap } from "../support/rings.ts";

checkLeaks();

const SIZE = 4096;
const COUNT = 64;
const DEVICE = "/dev/nullb0";
const POLL = IORING_SETUP_IOPOLL;
const HYBRID = IORING_SETUP_IOPOLL | IORING_SETUP_HYBRID_IOPOLL;
const WAYS = [
  ["IOPOLL", POLL],
  ["HYBRID_IOPOLL", HYBRID],
  ["IOPOLL SQPOLL", POLL | IORING_SETUP_SQPOLL],
  ["HYBRID_IOPOLL SQPOLL", HYBRID | IORING_SETUP_SQPOLL],
] as const;

if (outsideLab() === false) {
  loadModule("null_blk", "queue_mode=2", "poll_queues=1", "memory_backed=1", "gb=1");
}

for (const [name, flags] of WAYS) {
  test(`${name}: writes and reads of a device in memory`, () => {
    using disk = Fd.open(DEVICE, O_RDWR | O_DIRECT);
    using memory = Mapping.anonymous(COUNT * SIZE);
    const bytes = new Uint8Array(memory.buffer);
    using ring = makeRing(COUNT, { flags, sqThreadIdle: 20 });
    ring.registerFiles([disk.fd]);
    ring.registerBuffers([{ address: memory.address, length: memory.byteLength }]);
    const all = (prep: "Write" | "Read", registered: boolean): void => {
      for (let i = 0; i < COUNT; i++) {
        const at = memory.address + i * SIZE;
        entry(ring, i, (sqe) => {
          if (registered) sqe[`prep${prep}Fixed`](0, at, SIZE, i * SIZE, 0);
          else sqe[`prep${prep}`](disk.fd, at, SIZE, i * SIZE);
          if (registered) sqe.flags = IOSQE_FIXED_FILE;
        });
      }
      for (const { res } of reap(ring, COUNT)) assert.equal(res, SIZE);
    };
    for (const registered of [false, true]) {
      bytes.set(content(COUNT * SIZE, flags));
      all("Write", registered);
      bytes.fill(0);
      all("Read", registered);
      assertContent(bytes, COUNT * SIZE, 0, flags);
    }
  });

  test(`${name}: a Uring polls, and does so for no longer than there is work`, async () => {
    using disk = Fd.open(DEVICE, O_RDWR | O_DIRECT);
    using memory = Mapping.anonymous(COUNT * SIZE);
    const bytes = new Uint8Array(memory.buffer);
    const block = (i: number): Uint8Array => bytes.subarray(i * SIZE, (i + 1) * SIZE);
    await using uring = new Uring({ flags, sqThreadIdle: 20 });
    const all = Array.from({ length: COUNT }, (_, i) => i);
    bytes.set(content(COUNT * SIZE, 8));
    await Promise.all(all.map((i) => uring.write(disk.fd, block(i), { offset: i * SIZE })));
    bytes.fill(0);
    await Promise.all(all.map((i) => uring.read(disk.fd, block(i), { offset: i * SIZE })));
    assertContent(bytes, COUNT * SIZE, 0, 8);
    assert.equal(uring.stats.inFlight, 0);
  });
}

for (const [name, flags] of WAYS) {
  test(`${name}: files in memory and disks without queues to poll say so`, async () => {
    const file = "/dev/shm/uring-polling";
    writeFileSync(file, content(SIZE));
    try {
      for (const path of [file, "/dev/vda"]) {
        using fd = Fd.open(path, O_RDONLY | O_DIRECT);
        await using uring = new Uring({ flags, sqThreadIdle: 20 });
        using memory = Mapping.anonymous(SIZE);
        const error = await failure(uring.read(fd.fd, new Uint8Array(memory.buffer), { offset: 0 }));
        assert.equal(error.code, "ENOTSUP", path);
        assert.match(error.message, /needs a file opened with O_DIRECT on a disk that can be polled for/);
      }
    } finally {
      unlinkSync(file);
    }
  });
}

const DISCARD_SIZE = 1 << 20;

for (const { name, flags, skip } of FLAGS) {
  test(`${name}: what was discarded reads as zeroes, the rest is as it was`, { skip }, async () => {
    await using uring = makeUring({ flags });
    using disk = Fd.open(`/dev/${labDisk("plain")}`, O_RDWR | O_DIRECT);
    using memory = Mapping.anonymous(DISCARD_SIZE);
    const bytes = new Uint8Array(memory.buffer);
    const expected = content(DISCARD_SIZE, 4);
    bytes.set(expected);
    assert.equal(await uring.write(disk.fd, bytes, { offset: 0 }), DISCARD_SIZE);
    const ranges = [[0, 4096], [8192, 65536], [DISCARD_SIZE - 512, 512]] as const;
    await Promise.all(ranges.map(([from, length]) => uring.discard(disk.fd, from, length)));
    for (const [from, length] of ranges) expected.fill(0, from, from + length);
    assert.equal(await uring.read(disk.fd, bytes, { offset: 0 }), DISCARD_SIZE);
    assert.equal(Buffer.compare(bytes, expected), 0);
  });
}

test("discarding: ranges and descriptors that cannot be", async () => {
  await using uring = makeUring();
  using disk = Fd.open(`/dev/${labDisk("plain")}`, O_RDWR);
  using readOnly = Fd.open(`/dev/${labDisk("plain")}`, O_RDONLY);
  const part = await failure(uring.discard(disk.fd, 100, 512));
  assert.match(part.message, /^EINVAL: .*whole blocks of the device/);
  assert.equal((await failure(uring.discard(disk.fd, 2 ** 40, 512))).code, "EINVAL");
  assert.equal((await failure(uring.discard(readOnly.fd, 0, 512))).code, "EBADF");
});
