/** Commands to drivers: block devices that discard, and whatever command a driver has. */
import assert from "node:assert/strict";
import process from "node:process";
import {
  BLOCK_URING_CMD_DISCARD,
  IORING_OP_URING_CMD,
  IORING_SETUP_CQE32,
  IORING_SETUP_SQE128,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  POLLIN,
} from "../../src/ffi/abi.ts";
import { O_DIRECT } from "../../src/ffi/arch.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import type { Fd as Descriptor, Uring } from "../../src/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { labDisk, LoopDevice, missingLabDisk, missingLoop, setReadOnly } from "../support/devices.ts";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { FLAGS, makeUring, openFile, within } from "../support/loop.ts";
import { closeAll, dial, failure, listener, refuses, rejectsWith } from "../support/operations.ts";
import {
  encodeNvme,
  namespaceOf,
  NVME_ADDRESS,
  NVME_COMMAND_SIZE,
  NVME_READ,
  NVME_URING_CMD_IO,
  NVME_WRITE,
} from "../support/nvme.ts";
import { missingOp, missingRing } from "../support/rings.ts";

checkLeaks();

const skip = missingOp(IORING_OP_URING_CMD);
const noDiscard = firstReason(skip, kernelHas("6.12") ? false : "needs Linux 6.12");
const noLoop = firstReason(noDiscard, missingLoop());

const BLOCK = 512;
const BLOCKS = 1024;

/** Checks that blocks of a device hold what was written, or nothing. */
async function assertBlocks(
  uring: Uring,
  fd: Descriptor,
  first: number,
  count: number,
  zero: boolean,
): Promise<void> {
  const buffer = new Uint8Array(count * BLOCK);
  assert.equal(await uring.read(fd, buffer, { offset: first * BLOCK }), buffer.length);
  const expected = zero
    ? new Uint8Array(buffer.length)
    : DATA.subarray(first * BLOCK, (first + count) * BLOCK);
  assert.ok(buffer.every((byte, i) => byte === expected[i]), `blocks ${first} to ${first + count}`);
}

const DATA = content(BLOCKS * BLOCK);

async function fill(uring: Uring, fd: number): Promise<void> {
  assert.equal(await uring.write(fd, DATA, { offset: 0 }), DATA.length);
  await uring.fsync(fd);
}

for (const kind of FLAGS) {
  test(`liburing cmd-discard: ${kind.name}: what is discarded is gone`, {
    skip: firstReason(kind.skip, noLoop),
  }, async () => {
    await using uring = makeUring({ flags: kind.flags });
    using device = new LoopDevice(BLOCKS * BLOCK);
    using disk = openFile(device.path, O_RDWR);
    for (const [first, count] of [[0, 1], [7, 15], [1, BLOCKS - 1]] as const) {
      await fill(uring, disk.fd);
      assert.equal(await uring.discard(disk.fd, first * BLOCK, count * BLOCK), 0);
      await assertBlocks(uring, disk.fd, first, count, true);
      if (first > 0) await assertBlocks(uring, disk.fd, 0, first, false);
      const rest = BLOCKS - first - count;
      if (rest > 0) await assertBlocks(uring, disk.fd, first + count, rest, false);
    }
    // Many at once, here and in worker threads; by a direct descriptor as well.
    await fill(uring, disk.fd);
    await using direct = await uring.registerFile(disk.fd);
    await within(
      Promise.all(Array.from({ length: 100 }, (_, i) => {
        const options = { async: i % 2 === 0 };
        const target = i % 3 === 0 ? direct : disk.fd;
        return uring.discard(target, BigInt((i * 37 % 1016) * BLOCK), 8n * BigInt(BLOCK), options);
      })),
      "discards",
    );
    for (let i = 0; i < 100; i++) await assertBlocks(uring, disk.fd, i * 37 % 1016, 8, true);
    await uring.link((l) => [l.discard(disk.fd, 0, BLOCK), l.write(disk.fd, DATA, { offset: 0 })]);
    await assertBlocks(uring, disk.fd, 0, BLOCKS, false);
  });
}

test("liburing cmd-discard: ranges and descriptors that cannot be", { skip: noLoop }, async () => {
  await using uring = makeUring();
  using device = new LoopDevice(BLOCKS * BLOCK);
  using disk = openFile(device.path, O_RDWR | O_DIRECT);
  const size = BLOCKS * BLOCK;
  for (
    const [offset, length] of [
      [size, BLOCK], // beyond its end
      [size - BLOCK, 2 * BLOCK],
      [2n ** 63n - BigInt(BLOCK), BLOCK],
      [BLOCK / 2, BLOCK], // no whole blocks
      [0, BLOCK / 2],
      [0, 0],
    ] as const
  ) {
    const error = await failure(uring.discard(disk.fd, offset, length), `${offset} ${length}`);
    assert.deepEqual({ code: error.code, syscall: error.syscall }, { code: "EINVAL", syscall: "discard" });
    assert.match(error.message, /whole blocks/);
  }
  // Wrapping round is refused before.
  await refuses(uring, RangeError, () => uring.discard(disk.fd, -BLOCK, BLOCK + 2));
  await refuses(uring, RangeError, () => uring.discard(disk.fd, 2n ** 64n - 512n, BLOCK + 2));
  await refuses(uring, RangeError, () => uring.discard(disk.fd, 0, 1.5));
  using readOnly = openFile(device.path, O_RDONLY);
  await rejectsWith(uring.discard(readOnly.fd, 0, BLOCK), "EBADF", "discard");
  setReadOnly(disk.fd, true);
  try {
    await rejectsWith(uring.discard(disk.fd, 0, BLOCK), "EPERM", "discard");
  } finally {
    setReadOnly(disk.fd, false);
  }
  await uring.discard(disk.fd, 0, BLOCK);
});

const noDisk = firstReason(noDiscard, missingLabDisk("plain"));

test("liburing cmd-discard: a disk", { skip: noDisk }, async () => {
  await using uring = makeUring();
  using disk = openFile(`/dev/${labDisk("plain")}`, O_RDWR);
  await fill(uring, disk.fd);
  await uring.discard(disk.fd, 7 * BLOCK, 15 * BLOCK);
  await assertBlocks(uring, disk.fd, 0, 7, false);
  await assertBlocks(uring, disk.fd, 7, 15, true);
  await assertBlocks(uring, disk.fd, 22, 100, false);
});

test("what is no block device cannot discard", { skip: noDiscard }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  using file = openFile(dir.of("file"), O_RDWR | O_CREAT);
  const error = await failure(uring.discard(file.fd, 0, 4096));
  assert.deepEqual({ code: error.code, syscall: error.syscall }, { code: "ENOTSUP", syscall: "discard" });
  assert.match(error.message, /no block device/);
  await rejectsWith(uring.discard(-1, 0, 4096), "EBADF", "discard");
});

test("resetting zones: a kernel without it says so, and what is no zoned device too", {
  skip: firstReason(skip, process.getuid?.() === 0 ? noLoop : false),
}, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  using file = openFile(dir.of("file"), O_RDWR | O_CREAT);
  const error = await failure(uring.zoneResetAll(file.fd));
  assert.deepEqual({ code: error.code, syscall: error.syscall }, {
    code: "ENOTSUP",
    syscall: "zone_reset_all",
  });
  assert.match(error.message, /zone_reset_all|no block device/);
  await rejectsWith(uring.zoneResetAll(-1), "EBADF", "zone_reset_all");
  if (noLoop !== false) return;
  using device = new LoopDevice(1 << 20);
  using disk = openFile(device.path, O_RDWR);
  const refused = await failure(uring.zoneResetAll(disk.fd));
  assert.ok(["EINVAL", "ENOTSUP"].includes(refused.code), refused.message);
});

test("a command by its number, with its arguments in the entry", { skip: noLoop }, async () => {
  await using uring = makeUring();
  using device = new LoopDevice(BLOCKS * BLOCK);
  using disk = openFile(device.path, O_RDWR);
  await fill(uring, disk.fd);
  // What discard says in `addr` cannot be said like this; its length, the first eight bytes of the command, can.
  const command = new Uint8Array(BigUint64Array.of(BigInt(4 * BLOCK)).buffer);
  assert.equal(await uring.uringCmd(disk.fd, BLOCK_URING_CMD_DISCARD, { command }), 0);
  await assertBlocks(uring, disk.fd, 0, 4, true);
  await assertBlocks(uring, disk.fd, 4, 4, false);
});

const noSockets = firstReason(skip, kernelHas("6.7") ? false : "needs Linux 6.7");

test("a command of a socket", { skip: noSockets }, async () => {
  await using uring = makeUring();
  const SOCKET_URING_OP_SIOCINQ = 0;
  const { fd, address } = await listener(uring);
  const client = await dial(uring, address);
  const server = await uring.accept(fd);
  assert.equal(await uring.send(client, new Uint8Array(33)), 33);
  await uring.poll(server, POLLIN);
  assert.equal(await uring.uringCmd(server, SOCKET_URING_OP_SIOCINQ), 33);
  await using direct = await uring.registerFile(server);
  assert.equal(await uring.uringCmd(direct, SOCKET_URING_OP_SIOCINQ, { timeout: 60_000 }), 33);
  closeAll(fd, client, server);
});

test("a command to a driver without any", { skip }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  using file = openFile(dir.of("file"), O_RDWR | O_CREAT);
  const error = await failure(uring.uringCmd(file.fd, 1));
  assert.deepEqual({ code: error.code, syscall: error.syscall }, {
    code: "ENOTSUP",
    syscall: "uring_cmd",
  });
  assert.match(error.message, /knows no such command/);
  await using buffer = uring.registerBuffer(4096);
  const argument = buffer.bytes.subarray(10, 20);
  await rejectsWith(uring.uringCmd(file.fd, 1, { buffer, argument }), "ENOTSUP", "uring_cmd");
});

for (const [name, flags, room] of [["", 0, 16], [" with large entries", IORING_SETUP_SQE128, 80]] as const) {
  test(
    `commands${name} that cannot be are refused`,
    { skip: firstReason(skip, missingRing({ flags })) },
    async () => {
      await using uring = makeUring({ flags });
      await using other = makeUring();
      const bad = (options: object): () => unknown => () => uring.uringCmd(0, 1, options);
      await refuses(uring, RangeError, bad({ command: new Uint8Array(room + 1) }));
      await refuses(uring, TypeError, bad({ command: [1, 2] }));
      const view = new Uint8Array(1);
      const command = new Uint8Array(room);
      for (const at of [-1, room - 7, 0.5, NaN]) {
        await refuses(uring, RangeError, bad({ command, memory: [{ at, view }] }));
      }
      await refuses(uring, RangeError, bad({ memory: [{ at: 0, view }] }));
      await refuses(uring, TypeError, bad({ command, memory: [{ at: 0, view: 5 }] }));
      await refuses(uring, TypeError, bad({ argument: 5 }));
      await refuses(uring, TypeError, bad({ buffer: view }));
      const detached = new Uint8Array(8);
      detached.buffer.transfer();
      await refuses(uring, TypeError, bad({ argument: detached }));
      await using buffer = other.registerBuffer(1);
      await refuses(uring, TypeError, bad({ buffer }));
      await refuses(uring, RangeError, () => uring.uringCmd(0, -1));
      await refuses(uring, RangeError, () => uring.uringCmd(0, 2 ** 32));
      // The largest there may be gets through to the kernel.
      await rejectsWith(
        uring.uringCmd(-1, 1, { command, memory: [{ at: room - 8, view }] }),
        "EBADF",
        "uring_cmd",
      );
    },
  );
}

const LARGE = IORING_SETUP_SQE128 | IORING_SETUP_CQE32;

test("liburing io_uring_passthrough: commands with memory of the caller's, and of a registered buffer", {
  skip: firstReason(skip, missingLabDisk("plain"), missingRing({ flags: LARGE })),
}, async () => {
  await using uring = makeUring({ flags: LARGE });
  using disk = openFile(`/dev/${labDisk("plain")!.replace("nvme", "ng")}`, O_RDWR);
  const nsid = namespaceOf(disk.fd);
  const command = (opcode: number, block: number): Uint8Array => {
    const bytes = new Uint8Array(NVME_COMMAND_SIZE);
    encodeNvme(bytes, { opcode, nsid, block, blocks: 8, address: 0, length: 8 * BLOCK });
    return bytes;
  };
  await using buffer = uring.registerBuffer(3 * 8 * BLOCK);
  buffer.bytes.set(content(3 * 8 * BLOCK));
  // Out of the middle of a registered buffer, into ordinary memory, and into the registered buffer again.
  const part = buffer.bytes.subarray(8 * BLOCK, 16 * BLOCK);
  const write = { command: command(NVME_WRITE, 64), memory: [{ at: NVME_ADDRESS, view: part }], buffer };
  assert.equal(await uring.uringCmd(disk.fd, NVME_URING_CMD_IO, write), 0);
  const plain = new Uint8Array(8 * BLOCK);
  const read = { command: command(NVME_READ, 64), memory: [{ at: NVME_ADDRESS, view: plain }] };
  assert.equal(await uring.uringCmd(disk.fd, NVME_URING_CMD_IO, read), 0);
  assertContent(plain, plain.length, 8 * BLOCK);
  buffer.bytes.fill(0);
  const last = buffer.bytes.subarray(16 * BLOCK);
  const back = { command: command(NVME_READ, 64), memory: [{ at: NVME_ADDRESS, view: last }], buffer };
  const reading = uring.uringCmd(disk.fd, NVME_URING_CMD_IO, back);
  assert.equal(await reading, 0);
  assertContent(last, last.length, 8 * BLOCK);
  assert.ok(buffer.bytes.subarray(0, 16 * BLOCK).every((byte) => byte === 0));
  // Memory that is not the buffer's is refused by the kernel.
  const foreign = { ...read, buffer };
  assert.equal((await failure(uring.uringCmd(disk.fd, NVME_URING_CMD_IO, foreign))).code, "EFAULT");
});
