/** Disks of `uring/ublk`, served by this thread, and clients of the same thread that go to the device. */
import assert from "node:assert/strict";
import { diskInfo, type DiskOptions, type DiskRequest } from "../../src/ublk/mod.ts";
import {
  assertPattern,
  DiskClient,
  exercise,
  inMemory,
  makeDisk,
  noDisks,
  sizeOf,
} from "../support/disks.ts";
import { test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring } from "../support/loop.ts";

checkLeaks();

const MIB = 1 << 20;
const skip = noDisks;

const KINDS: readonly [name: string, options: Partial<DiskOptions>][] = [
  ["as it is", {}],
  ["of 4 KiB blocks, two queues, 4 deep", { blockSize: 4096, queues: 2, depth: 4 }],
  ["of one place and small requests", { depth: 1, maxRequest: 4096 }],
];

for (const [name, options] of KINDS) {
  test(`a disk in memory ${name} keeps what is written to it`, { skip }, async () => {
    await using uring = makeUring();
    const memory = new Uint8Array(8 * MIB);
    const { disk, reported } = await makeDisk({ size: memory.length, ...options }, inMemory(memory));
    await using _ = disk;
    assert.equal(sizeOf(disk.path), memory.length);
    const info = await diskInfo(disk.id);
    assert.deepEqual([info?.state, info?.size, info?.pid], ["live", memory.length, process.pid]);
    assert.equal(info?.blockSize, disk.blockSize);
    if (disk.blockSize === 512) await exercise(uring, disk.path, memory.length, disk.depth === 1 ? 1 : 3);
    await using client = await DiskClient.open(uring, disk.path);
    await using buffer = uring.registerBuffer(MIB);
    await client.write(buffer, 0, MIB, MIB, 5);
    assertPattern(memory.subarray(MIB, 2 * MIB), 5);
    await client.verify(buffer, 0, MIB, MIB, 5);
    assert.ok(disk.stats.requests > 2);
    assert.deepEqual([disk.stats.failed, disk.stats.timedOut, reported.length], [0, 0, 0]);
  });
}

test("handlers may take their time", { skip }, async () => {
  await using uring = makeUring();
  const memory = new Uint8Array(4 * MIB);
  const served = inMemory(memory);
  let now = 0;
  let most = 0;
  const later =
    (handler: (request: DiskRequest) => unknown) => async (request: DiskRequest): Promise<void> => {
      most = Math.max(most, ++now);
      if (request.tag % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
      else await Promise.resolve();
      handler(request);
    };
  const { disk } = await makeDisk({ size: memory.length, depth: 16 }, {
    read: later(served.read),
    write: later(served.write!),
  });
  await using _ = disk;
  await exercise(uring, disk.path, memory.length, 6);
  assert.ok(most > 1, "nothing went on at once");
  assert.equal(disk.stats.failed, 0);
});

test(
  "what is discarded and filled with zeros is told to the handlers, and so are flushes",
  { skip },
  async () => {
    await using uring = makeUring();
    const memory = new Uint8Array(4 * MIB);
    const seen: string[] = [];
    const note = ({ kind, offset, length }: DiskRequest): void =>
      void seen.push(`${kind} ${offset} ${length}`);
    const served = inMemory(memory);
    const { disk } = await makeDisk({ size: memory.length }, {
      ...served,
      discard: (request) => (note(request), served.discard!(request)),
      flush: note,
    });
    await using _ = disk;
    await using client = await DiskClient.open(uring, disk.path);
    await using buffer = uring.registerBuffer(MIB);
    await client.write(buffer, 0, 0, MIB, 1);
    await uring.discard(client.fd, 64 * 1024, 128 * 1024);
    await uring.fdatasync(client.fd);
    assert.deepEqual(seen, ["discard 65536 131072", "flush 0 0"]);
    assert.ok(memory.subarray(65536, 65536 + 131072).every((byte) => byte === 0));
    assertPattern(memory.subarray(0, 65536), 1);
    // FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE: the block layer's request to write zeros.
    await uring.fallocate(client.fd, 17, 0, 32 * 1024);
    assert.ok(memory.subarray(0, 32 * 1024).every((byte) => byte === 0));
  },
);
