/** Discarding on an NVMe disk: blocks that are needed no more. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { O_DIRECT, O_RDONLY, O_RDWR } from "../../src/ring/mod.ts";
import { Mapping } from "../../src/mod.ts";
import { content } from "../support/content.ts";
import { Fd } from "../support/descriptors.ts";
import { labDisk } from "../support/devices.ts";
import { test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";
import { FLAGS, makeUring } from "../support/loop.ts";
import { failure } from "../support/operations.ts";

checkLeaks();

const SIZE = 1 << 20;

for (const { name, flags, skip } of FLAGS) {
  test(`${name}: what was discarded reads as zeroes, the rest is as it was`, { skip }, async () => {
    await using uring = makeUring({ flags });
    using disk = Fd.open(`/dev/${labDisk("plain")}`, O_RDWR | O_DIRECT);
    using memory = Mapping.anonymous(SIZE);
    const bytes = new Uint8Array(memory.buffer);
    const expected = content(SIZE, 4);
    bytes.set(expected);
    assert.equal(await uring.write(disk.fd, bytes, { offset: 0 }), SIZE);
    const ranges = [[0, 4096], [8192, 65536], [SIZE - 512, 512]] as const;
    await Promise.all(ranges.map(([from, length]) => uring.discard(disk.fd, from, length)));
    for (const [from, length] of ranges) expected.fill(0, from, from + length);
    assert.equal(await uring.read(disk.fd, bytes, { offset: 0 }), SIZE);
    assert.equal(Buffer.compare(bytes, expected), 0);
  });
}

test("ranges and descriptors that cannot be", async () => {
  await using uring = makeUring();
  using disk = Fd.open(`/dev/${labDisk("plain")}`, O_RDWR);
  using readOnly = Fd.open(`/dev/${labDisk("plain")}`, O_RDONLY);
  const part = await failure(uring.discard(disk.fd, 100, 512));
  assert.match(part.message, /^EINVAL: .*whole blocks of the device/);
  assert.equal((await failure(uring.discard(disk.fd, 2 ** 40, 512))).code, "EINVAL");
  assert.equal((await failure(uring.discard(readOnly.fd, 0, 512))).code, "EBADF");
});
