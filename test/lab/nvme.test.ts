/** `uring/nvme`: who devices are, blocks, statuses, polling, memory, zones. */
import assert from "node:assert/strict";
import { NvmeController, NvmeError, NvmeNamespace, UringError, type Zone } from "../../src/nvme/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { labDisk } from "../support/devices.ts";
import { test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";
import { genericPath, openNamespace } from "../support/nvme_devices.ts";
import "../support/loop.ts";

checkLeaks();

/** The error of a command that fails. */
async function status(command: Promise<unknown>): Promise<NvmeError> {
  try {
    await command;
  } catch (error) {
    assert.ok(error instanceof NvmeError, String(error));
    return error;
  }
  assert.fail("the command has succeeded");
}

test("a controller says who it is, and which namespaces it has", async () => {
  const path = `/dev/${/^nvme\d+/.exec(labDisk("plain")!)![0]}`;
  await using controller = await NvmeController.open(path);
  const { info } = controller;
  assert.deepEqual(await controller.identify(), info);
  assert.equal(info.serialNumber, "labnvme");
  assert.match(info.modelNumber, /QEMU NVMe/);
  assert.equal(info.vendorId, 0x1b36);
  assert.match(info.version, /^1\.4\.\d+$/);
  assert.match(info.subsystemName, /^nqn\.\d{4}/);
  assert.equal(info.maxTransfer, 512 * 1024);
  assert.equal(info.volatileWriteCache, true);
  assert.equal(info.bytes.length, 4096);
  assert.deepEqual(await controller.namespaces(), [1, 2, 3]);
  const [plain, integrity, zoned] = await Promise.all([1, 2, 3].map((n) => controller.identifyNamespace(n)));
  assert.deepEqual([plain!.blockSize, plain!.metadataSize, plain!.protectionType], [512, 0, 0]);
  assert.equal(plain!.blocks * 512, 256 << 20);
  assert.deepEqual([plain!.commandSet, plain!.zones], [0, null]);
  assert.deepEqual([integrity!.blockSize, integrity!.metadataSize, integrity!.protectionType], [4096, 8, 1]);
  assert.equal(integrity!.extended, false);
  assert.ok(integrity!.formats.length > integrity!.format);
  assert.deepEqual(
    [zoned!.blockSize, zoned!.commandSet, zoned!.zones],
    [4096, 2, { blocks: 4096, maxActive: Infinity, maxOpen: Infinity }],
  );
  const error = await status(controller.identifyNamespace(0xffff_fffe));
  assert.deepEqual([error.code, error.command], ["NVME_SC_INVALID_NS", "nvme_identify"]);
  assert.equal((await status(controller.command({ opcode: 0xc3 }))).code, "NVME_SC_INVALID_OPCODE");
});

test("what is no controller or namespace is refused", async () => {
  await assert.rejects(NvmeController.open("/dev/nvme4711"), { code: "ENOENT", syscall: "openat" });
  await assert.rejects(NvmeNamespace.open("/dev/ng0n4711"), { code: "ENOENT", syscall: "openat" });
  await assert.rejects(NvmeNamespace.open("/dev/null"), { name: "TypeError" });
  const controller = `/dev/${/^nvme\d+/.exec(labDisk("plain")!)![0]}`;
  await assert.rejects(NvmeNamespace.open("/dev/null", { controller }), {
    code: "ENOTTY",
    message: /not the character device of an NVMe namespace/,
  });
  for (const path of ["/dev/null", "/dev/zero", "/etc/passwd", genericPath("plain")]) {
    await assert.rejects(NvmeController.open(path), {
      code: "ENOTTY",
      path,
      message: /not the character device of an NVMe controller/,
    });
  }
});

const WAYS = [
  ["interrupts", false],
  ["polling", true],
  ["hybrid polling", "hybrid"],
] as const;

for (const [name, poll] of WAYS) {
  test(`${name}: blocks are written and read, borrowed and registered`, async () => {
    await using disk = await openNamespace("plain", { poll, entries: 16 });
    const SIZE = 8192;
    const COUNT = 64;
    const all = Array.from({ length: COUNT }, (_, i) => i);
    const block = (i: number): number => i * SIZE / 512;
    await using registered = disk.registerBuffer(COUNT * SIZE);
    const borrowed = new Uint8Array(COUNT * SIZE);
    for (const memory of [borrowed, registered]) {
      const bytes = memory === registered ? registered.bytes : borrowed;
      bytes.set(content(COUNT * SIZE, 3));
      const part = (i: number) => ({ block: block(i), offset: i * SIZE, length: SIZE });
      await Promise.all(all.map((i) => disk.write(memory, part(i))));
      await disk.flush();
      bytes.fill(0);
      await Promise.all(all.map((i) => disk.read(memory, part(i))));
      assertContent(bytes, COUNT * SIZE, 0, 3);
      await disk.compare(memory, part(5));
      await disk.writeZeroes({ block: 0, blocks: COUNT * SIZE / 512 });
    }
    // One at a time: the event loop must not fall asleep over it.
    const one = new Uint8Array(512).fill(1);
    for (let i = 0; i < 20; i++) await disk.read(one, { block: i });
    assert.ok(one.every((byte) => byte === 0));
    assert.equal((await status(disk.read(one, { block: disk.info.blocks }))).code, "NVME_SC_LBA_RANGE");
  });
}

test("views of any kind and place in memory", async () => {
  await using disk = await openNamespace("plain");
  const memory = new ArrayBuffer(4096);
  const words = new Uint32Array(memory, 1024, 256).fill(0x1234_5678);
  await disk.write(words, { block: 7n });
  await disk.read(new DataView(memory, 100, 1024), { block: 7, forceUnitAccess: true });
  assert.deepEqual([...new Uint8Array(memory, 100, 4)], [0x78, 0x56, 0x34, 0x12]);
  await disk.deallocate([{ block: 7, blocks: 1 }, { block: 8, blocks: 1 }]);
});

test("what the device refuses has the name of its status", async () => {
  await using disk = await openNamespace("plain");
  const buffer = new Uint8Array(512);
  const beyond = await status(disk.write(buffer, { block: 2 ** 40 }));
  assert.deepEqual(
    { name: beyond.name, code: beyond.code, status: beyond.status, retryable: beyond.retryable },
    { name: "NvmeError", code: "NVME_SC_LBA_RANGE", status: 0x80, retryable: false },
  );
  assert.match(
    beyond.message,
    /^NVME_SC_LBA_RANGE: blocks beyond the namespace's end, nvme_write \(status 0x[46]080\)$/,
  );
  await disk.write(buffer, { block: 0 });
  assert.equal((await status(disk.compare(buffer.fill(1), { block: 0 }))).code, "NVME_SC_COMPARE_FAILED");
  const invalid = await status(disk.command({ opcode: 0x7f }));
  assert.deepEqual([invalid.code, invalid.command], ["NVME_SC_INVALID_OPCODE", "nvme_command"]);
  // Linux itself looks at the namespace.
  await assert.rejects(disk.command({ opcode: 0, nsid: 4711 }), { name: "UringError", code: "EINVAL" });
  assert.equal(await disk.command({ opcode: 0 }), 0n);
  await assert.rejects(disk.zones(), { name: "TypeError", message: /has no zones/ });
});

test("wrong arguments throw, and nothing reaches the device", async () => {
  await using disk = await openNamespace("plain");
  const buffer = new Uint8Array(1024);
  const read = (memory: unknown, options?: unknown) => () => disk.read(memory as never, options as never);
  for (const memory of [undefined, 5, new ArrayBuffer(512)]) {
    assert.throws(read(memory, { block: 0 }), TypeError);
  }
  assert.throws(read(buffer), TypeError);
  for (
    const options of [
      {},
      { block: -1 },
      { block: 0.5 },
      { block: 2n ** 64n },
      { block: 0, length: 100 },
      { block: 0, length: 0 },
      { block: 0, length: 2048 },
      { block: 0, offset: 1024 },
      { block: 0, offset: -512 },
      { block: 0, offset: 1 },
      { block: 0, timeout: -1 },
      { block: 0, metadata: new Uint8Array(8) },
      { block: 0, protection: { appTag: 0x1_0000 } },
      { block: 0, protection: { refTag: -1 } },
    ]
  ) assert.throws(read(buffer, options), RangeError, JSON.stringify(options, (_, value) => `${value}`));
  assert.throws(read(new Uint8Array(disk.maxTransfer + 512), { block: 0 }), RangeError);
  assert.throws(() => disk.writeZeroes({ block: 0, blocks: 0 }), RangeError);
  assert.throws(() => disk.writeZeroes({ block: 0, blocks: 65537 }), RangeError);
  assert.throws(() => disk.deallocate([]), RangeError);
  assert.throws(() => disk.command({ opcode: 256 }), RangeError);
  assert.throws(() => disk.command({ opcode: 0, cdw10: -1 }), RangeError);
  const detached = new Uint8Array(512);
  detached.buffer.transfer();
  assert.throws(read(detached, { block: 0, length: 512 }), /TypeError|RangeError/);
  await using other = await openNamespace("plain");
  using foreign = other.registerBuffer(512);
  assert.throws(read(foreign, { block: 0 }), TypeError);
  assert.equal(disk.controller.queue.uring.stats.inFlight, 0);
});

test("a buffer that is detached in flight says so", async () => {
  await using disk = await openNamespace("plain");
  const buffer = new Uint8Array(512);
  const reading = disk.read(buffer, { block: 0 });
  // The memory stays where it is, with another owner.
  const kept = buffer.buffer.transfer();
  await assert.rejects(reading, { name: "TypeError", message: /detached/ });
  assert.equal(kept.byteLength, 512);
});

test("closing waits for what is in flight, and refuses the rest", async () => {
  const disk = await openNamespace("plain", { entries: 4 });
  const reads = Array.from({ length: 40 }, (_, i) => disk.read(new Uint8Array(4096), { block: 8 * i }));
  const closing = disk[Symbol.asyncDispose]();
  const settled = await Promise.allSettled(reads);
  await closing;
  for (const each of settled) {
    if (each.status === "rejected") assert.equal((each.reason as UringError).code, "ECANCELED");
  }
  assert.throws(() => disk.read(new Uint8Array(512), { block: 0 }), TypeError);
  await disk[Symbol.asyncDispose]();
});

test("protection information: metadata is asked for, made, and checked", async () => {
  await using disk = await openNamespace("integrity");
  const buffer = content(8192, 9);
  const at = { block: 16 };
  assert.throws(() => disk.read(buffer, at), {
    name: "RangeError",
    message: /have 16 bytes of metadata, not 0/,
  });
  assert.throws(() => disk.read(buffer, { ...at, metadata: new Uint8Array(8) }), RangeError);
  // The controller makes it, and the tags are found again.
  const appTag = 0x1234;
  await disk.write(buffer, { ...at, protection: { byController: true, appTag } });
  const metadata = new Uint8Array(16);
  const back = new Uint8Array(8192);
  const checks = { checkGuard: true, checkAppTag: true, checkRefTag: true, appTag };
  await disk.read(back, { ...at, metadata, protection: checks });
  assertContent(back, 8192, 0, 9);
  const tuples = new DataView(metadata.buffer);
  assert.deepEqual([0, 8].map((i) => [tuples.getUint16(i + 2), tuples.getUint32(i + 4)]), [
    [appTag, 16],
    [appTag, 17],
  ]);
  // What is written with it may have any tags, and is refused when it is wrong.
  await disk.write(back, { ...at, metadata, protection: checks });
  const wrong = async (change: object): Promise<string> =>
    (await status(disk.read(back, { ...at, metadata, protection: { ...checks, ...change } }))).code;
  assert.equal(await wrong({ appTag: 0x4321 }), "NVME_SC_APPTAG_CHECK");
  await disk.read(back, {
    ...at,
    metadata,
    protection: { ...checks, appTag: 0x4334, appMask: 0x00ff & 0x0004 },
  });
  tuples.setUint16(0, tuples.getUint16(0) ^ 1);
  const guard = await status(disk.write(back, { ...at, metadata, protection: checks }));
  assert.equal(guard.code, "NVME_SC_GUARD_CHECK");
  // Without looking at anything.
  await disk.read(back, { ...at, protection: { byController: true } });
});

const ZONED_BLOCK = 4096;
const ZONE = 4096;

async function code(command: Promise<unknown>): Promise<string> {
  return (await status(command)).code;
}

async function zone(disk: NvmeNamespace, start: number): Promise<Zone> {
  const [found] = await disk.zones(start, 1);
  return found!;
}

test("all zones are reported, and some", async () => {
  await using disk = await openNamespace("zoned");
  await disk.resetZone("all");
  const zones = await disk.zones();
  assert.equal(zones.length, disk.info.blocks / ZONE);
  assert.equal(zones.length, 16);
  zones.forEach((each, i) => {
    assert.deepEqual(each, {
      start: i * ZONE,
      capacity: ZONE,
      writePointer: i * ZONE,
      state: "empty",
      sequential: true,
      attributes: 0,
    });
  });
  assert.deepEqual((await disk.zones(3 * ZONE, 2)).map(({ start }) => start), [3 * ZONE, 4 * ZONE]);
  assert.deepEqual((await disk.zones(15 * ZONE)).length, 1);
  assert.deepEqual(await disk.zones(disk.info.blocks), []);
});

for (const poll of [false, true] as const) {
  test(`${poll ? "polling" : "interrupts"}: blocks are appended, and say where they are`, async () => {
    await using disk = await openNamespace("zoned", { poll });
    const start = 2 * ZONE;
    await disk.resetZone(start);
    const COUNT = 32;
    const data = content(COUNT * ZONED_BLOCK, 5);
    const all = Array.from({ length: COUNT }, (_, i) => i);
    // All at once: which one is where is for the device to say.
    const places = await Promise.all(
      all.map((i) => disk.zoneAppend(data, { block: start, offset: i * ZONED_BLOCK, length: ZONED_BLOCK })),
    );
    assert.deepEqual([...places].sort((a, b) => a - b), all.map((i) => start + i));
    const back = new Uint8Array(COUNT * ZONED_BLOCK);
    await Promise.all(
      places.map((block, i) => disk.read(back, { block, offset: i * ZONED_BLOCK, length: ZONED_BLOCK })),
    );
    assertContent(back, COUNT * ZONED_BLOCK, 0, 5);
    const after = await zone(disk, start);
    assert.deepEqual([after.state, after.writePointer], ["implicitly open", start + COUNT]);
    await disk.resetZone(start);
    assert.equal((await zone(disk, start)).state, "empty");
  });
}

test("zones are opened, closed, finished and reset", async () => {
  await using disk = await openNamespace("zoned");
  await disk.resetZone("all");
  const start = 5 * ZONE;
  const state = async (): Promise<string> => (await zone(disk, start)).state;
  await disk.openZone(start);
  assert.equal(await state(), "explicitly open");
  await disk.write(new Uint8Array(ZONED_BLOCK), { block: start });
  await disk.closeZone(start);
  assert.equal(await state(), "closed");
  await disk.finishZone(start);
  assert.equal(await state(), "full");
  assert.equal(
    await code(disk.zoneAppend(new Uint8Array(ZONED_BLOCK), { block: start })),
    "NVME_SC_ZONE_FULL",
  );
  assert.equal(await code(disk.openZone(start)), "NVME_SC_ZONE_INVALID_TRANSITION");
  await disk.resetZone(start);
  assert.equal(await state(), "empty");
  assert.equal(
    await code(disk.write(new Uint8Array(ZONED_BLOCK), { block: start + 1 })),
    "NVME_SC_ZONE_INVALID_WRITE",
  );
  assert.equal(await code(disk.resetZone(start + 1)), "NVME_SC_INVALID_FIELD");
});

test("nothing is written beyond a zone's end", async () => {
  await using disk = await openNamespace("zoned");
  const start = 7 * ZONE;
  await disk.resetZone(start);
  const piece = new Uint8Array(disk.maxTransfer);
  const blocks = piece.length / ZONED_BLOCK;
  for (let at = 0; at + blocks < ZONE; at += blocks) await disk.write(piece, { block: start + at });
  const short = { length: piece.length - ZONED_BLOCK };
  await disk.write(piece, { ...short, block: start + ZONE - blocks });
  assert.equal(
    await code(disk.write(piece, { length: 2 * ZONED_BLOCK, block: start + ZONE - 1 })),
    "NVME_SC_ZONE_BOUNDARY_ERROR",
  );
  await disk.write(piece, { length: ZONED_BLOCK, block: start + ZONE - 1 });
  assert.equal((await zone(disk, start)).state, "full");
  await disk.resetZone(start);
});

test("an append larger than the device takes is refused before it gets there", async () => {
  await using disk = await openNamespace("zoned");
  assert.ok(disk.maxAppend > 0 && disk.maxAppend <= disk.maxTransfer);
  const large = new Uint8Array(disk.maxAppend + ZONED_BLOCK);
  assert.throws(() => disk.zoneAppend(large, { block: 0 }), RangeError);
});
