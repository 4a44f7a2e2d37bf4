/** What disks are asked for is checked before anything reaches the kernel, and a kernel without the driver says so. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import process from "node:process";
import type { UringError } from "../../src/mod.ts";
import { createDisk, deleteDisk, diskInfo, recoverDisk, ublkFeatures } from "../../src/ublk/mod.ts";
import { errnoOf } from "../../src/ublk/failure.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { failure } from "../support/operations.ts";

checkLeaks();

const MIB = 1 << 20;
const handlers = { read: (): void => {} };

const WRONG: readonly [what: string, options: unknown, error: typeof RangeError | typeof TypeError][] = [
  ["no options", undefined, TypeError],
  ["options that are null", null, TypeError],
  ["no size", {}, RangeError],
  ["a size of nothing", { size: 0 }, RangeError],
  ["a size below zero", { size: -512 }, RangeError],
  ["a size that is no whole number of blocks", { size: 1000 }, RangeError],
  ["a size that is no whole number of its blocks", { size: 4608, blockSize: 4096 }, RangeError],
  ["a size that no number holds", { size: 2 ** 54 }, RangeError],
  ["a size as text", { size: "1M" }, RangeError],
  ["blocks that are too small", { size: MIB, blockSize: 256 }, RangeError],
  ["blocks that are too large", { size: MIB, blockSize: 8192 }, RangeError],
  ["blocks that are no power of two", { size: MIB, blockSize: 1536 }, RangeError],
  ["physical blocks below the others", { size: MIB, blockSize: 4096, physicalBlockSize: 512 }, RangeError],
  ["no queue", { size: MIB, queues: 0 }, RangeError],
  ["no place", { size: MIB, depth: 0 }, RangeError],
  ["more places than a queue has", { size: MIB, depth: 4097 }, RangeError],
  ["more places than a ring has", { size: MIB, depth: 4096, queues: 5 }, RangeError],
  ["requests of no page", { size: MIB, maxRequest: 512 }, RangeError],
  ["requests of a page and a half", { size: MIB, maxRequest: 6144 }, RangeError],
  ["requests that are too large", { size: MIB, maxRequest: 64 * MIB }, RangeError],
  ["a number below zero", { size: MIB, id: -1 }, RangeError],
  ["no time at all", { size: MIB, timeout: 0 }, RangeError],
  ["a time that never ends", { size: MIB, timeout: Infinity }, RangeError],
  ["somebody to tell who is nobody", { size: MIB, onError: "print" }, TypeError],
  ["another recovery", { size: MIB, recovery: "always" }, TypeError],
  ["another way of not copying", { size: MIB, zeroCopy: "auto" }, TypeError],
  ["a switch that is a number", { size: MIB, rotational: 1 }, TypeError],
];

for (const [what, options, error] of WRONG) {
  test(`a disk with ${what} is refused`, () => {
    assert.throws(() => createDisk(options as never, handlers), error);
  });
}

test("handlers are functions", () => {
  assert.throws(() => createDisk({ size: MIB }, undefined as never), TypeError);
  assert.throws(() => createDisk({ size: MIB }, {} as never), TypeError);
  for (const kind of ["read", "write", "flush", "discard", "writeZeroes"]) {
    assert.throws(() => createDisk({ size: MIB }, { ...handlers, [kind]: 1 } as never), TypeError);
  }
});

test("devices have numbers", () => {
  for (const id of [-1, 1.5, NaN, 2 ** 20, "0", undefined]) {
    assert.throws(() => recoverDisk(id as never, handlers), RangeError);
  }
  assert.throws(() => recoverDisk(0, handlers, { wait: -1 }), RangeError);
  assert.throws(() => recoverDisk(0, handlers, { timeout: NaN }), RangeError);
});

test("numbers are checked by what resolves, too", async () => {
  await assert.rejects(diskInfo(-1), RangeError);
  await assert.rejects(deleteDisk(0.5), RangeError);
});

test("clients get the errno of what was thrown", () => {
  assert.equal(errnoOf({ code: "ENOSPC" }), 28);
  assert.equal(errnoOf({ code: "NO_SUCH_CODE", errno: -30 }), 30);
  assert.equal(errnoOf({ errno: 28 }), 28);
  for (
    const error of [null, undefined, "text", {}, { errno: 0 }, { errno: 5000 }, { errno: NaN }, { code: 5 }]
  ) {
    assert.equal(errnoOf(error), 5);
  }
});

const driver = firstReason(
  existsSync("/dev/ublk-control") && "the driver is there",
  process.getuid?.() === 0 ? false : "only root would get further",
);

test("a kernel without the driver is told by what it lacks", { skip: driver }, async () => {
  const calls: Promise<unknown>[] = [
    createDisk({ size: MIB }, handlers),
    recoverDisk(0, handlers),
    ublkFeatures(),
    diskInfo(0),
    deleteDisk(0),
  ];
  for (const call of calls) {
    const error: UringError = await failure(call);
    assert.deepEqual([error.code, error.syscall, error.path], ["ENOENT", "open", "/dev/ublk-control"]);
    assert.match(error.message, /modprobe ublk_drv.*Linux 6\.5 with CONFIG_BLK_DEV_UBLK/);
  }
});
