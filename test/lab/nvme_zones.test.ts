/** `uring/nvme`: zones. */
import assert from "node:assert/strict";
import { NvmeError, type NvmeNamespace, type Zone } from "../../src/nvme/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";
import { openNamespace } from "../support/nvme_devices.ts";
import "../support/loop.ts";

checkLeaks();

const BLOCK = 4096;
const ZONE = 4096;

async function code(command: Promise<unknown>): Promise<string> {
  try {
    await command;
    return "";
  } catch (error) {
    assert.ok(error instanceof NvmeError, String(error));
    return error.code;
  }
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
    const data = content(COUNT * BLOCK, 5);
    const all = Array.from({ length: COUNT }, (_, i) => i);
    // All at once: which one is where is for the device to say.
    const places = await Promise.all(
      all.map((i) => disk.zoneAppend(data, { block: start, offset: i * BLOCK, length: BLOCK })),
    );
    assert.deepEqual([...places].sort((a, b) => a - b), all.map((i) => start + i));
    const back = new Uint8Array(COUNT * BLOCK);
    await Promise.all(places.map((block, i) => disk.read(back, { block, offset: i * BLOCK, length: BLOCK })));
    assertContent(back, COUNT * BLOCK, 0, 5);
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
  await disk.write(new Uint8Array(BLOCK), { block: start });
  await disk.closeZone(start);
  assert.equal(await state(), "closed");
  await disk.finishZone(start);
  assert.equal(await state(), "full");
  assert.equal(await code(disk.zoneAppend(new Uint8Array(BLOCK), { block: start })), "NVME_SC_ZONE_FULL");
  assert.equal(await code(disk.openZone(start)), "NVME_SC_ZONE_INVALID_TRANSITION");
  await disk.resetZone(start);
  assert.equal(await state(), "empty");
  assert.equal(
    await code(disk.write(new Uint8Array(BLOCK), { block: start + 1 })),
    "NVME_SC_ZONE_INVALID_WRITE",
  );
  assert.equal(await code(disk.resetZone(start + 1)), "NVME_SC_INVALID_FIELD");
});

test("nothing is written beyond a zone's end", async () => {
  await using disk = await openNamespace("zoned");
  const start = 7 * ZONE;
  await disk.resetZone(start);
  const piece = new Uint8Array(disk.maxTransfer);
  const blocks = piece.length / BLOCK;
  for (let at = 0; at + blocks < ZONE; at += blocks) await disk.write(piece, { block: start + at });
  const short = { length: piece.length - BLOCK };
  await disk.write(piece, { ...short, block: start + ZONE - blocks });
  assert.equal(
    await code(disk.write(piece, { length: 2 * BLOCK, block: start + ZONE - 1 })),
    "NVME_SC_ZONE_BOUNDARY_ERROR",
  );
  await disk.write(piece, { length: BLOCK, block: start + ZONE - 1 });
  assert.equal((await zone(disk, start)).state, "full");
  await disk.resetZone(start);
});

test("an append larger than the device takes is refused before it gets there", async () => {
  await using disk = await openNamespace("zoned");
  assert.ok(disk.maxAppend > 0 && disk.maxAppend <= disk.maxTransfer);
  const large = new Uint8Array(disk.maxAppend + BLOCK);
  assert.throws(() => disk.zoneAppend(large, { block: 0 }), RangeError);
});
