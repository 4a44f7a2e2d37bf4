/** Disks of `uring/ublk` in files: data that goes between a file and whoever uses the disk. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { O_RDONLY, O_RDWR } from "../../src/ffi/abi.ts";
import type { UringError } from "../../src/mod.ts";
import { type DiskHandlers, type DiskRequest, ublkFeatures } from "../../src/ublk/mod.ts";
import { Fd } from "../support/descriptors.ts";
import { assertPattern, DiskClient, exercise, makeDisk, noDisks, pattern } from "../support/disks.ts";
import { test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, until, within } from "../support/loop.ts";
import { failure, WaitingPipe } from "../support/operations.ts";

checkLeaks();

const MIB = 1 << 20;
const skip = noDisks;
const features = skip === false ? await ublkFeatures() : null;
const noZeroCopy = skip || (features!.zeroCopy ? false : "needs Linux 6.15");
const noAuto = skip || (features!.autoBuffers ? false : "needs Linux 6.16");

const dir = mkdtempSync(join(tmpdir(), "uring-ublk-"));
process.on("exit", () => rmSync(dir, { recursive: true, force: true }));

function file(name: string, bytes: Uint8Array): string {
  const path = join(dir, name);
  writeFileSync(path, bytes);
  return path;
}

const inFile = (backing: Fd): DiskHandlers => ({
  read: (request) => request.transfer(backing),
  write: (request) => request.transfer(backing),
});

const WAYS: readonly [name: string, zeroCopy: boolean | "commands", skip: string | false][] = [
  ["with copies", false, skip],
  ["with pages that the kernel registers", true, noAuto],
  ["with pages that commands register", "commands", noZeroCopy],
];

for (const [name, zeroCopy, skip] of WAYS) {
  test(`a disk in a file, ${name}`, { skip }, async () => {
    await using uring = makeUring();
    const size = 8 * MIB;
    const path = file("disk", new Uint8Array(size));
    using backing = Fd.open(path, O_RDWR);
    const { disk, reported } = await makeDisk({ size, zeroCopy }, inFile(backing));
    await using _ = disk;
    assert.equal(disk.zeroCopy, zeroCopy);
    await exercise(uring, disk.path, size, 5);
    await using client = await DiskClient.open(uring, disk.path);
    await using buffer = uring.registerBuffer(2 * MIB);
    await client.write(buffer, 0, MIB, 2 * MIB, 4);
    assertPattern(readFileSync(path).subarray(MIB, 3 * MIB), 4);
    await client.verify(buffer, 0, MIB, 2 * MIB, 4);
    assert.deepEqual([disk.stats.failed, reported.length], [0, 0]);
  });

  test(`requests are copied from and to memory, ${name}`, { skip }, async () => {
    await using uring = makeUring();
    const memory = new Uint8Array(MIB);
    const halves = (request: DiskRequest): Uint8Array[] => {
      const bytes = memory.subarray(request.offset, request.offset + request.length);
      return [bytes.subarray(0, request.length / 2), bytes.subarray(request.length / 2)];
    };
    const copy = (request: DiskRequest): void => {
      const [first, second] = halves(request);
      request.copy(second!, request.length / 2);
      request.copy(first!);
      request.copy(new Uint8Array(0));
      assert.throws(() => request.copy(new Uint8Array(512), request.length - 511), RangeError);
      assert.throws(() => request.copy(new Uint8Array(512), -1), RangeError);
      if (zeroCopy !== false) assert.throws(() => request.data, TypeError);
    };
    const { disk, reported } = await makeDisk({ size: MIB, zeroCopy }, { read: copy, write: copy });
    await using _ = disk;
    await exercise(uring, disk.path, MIB, 4);
    assert.deepEqual(reported, []);
  });

  test(`a mirror of two files, ${name}`, { skip }, async () => {
    await using uring = makeUring();
    using one = Fd.open(file("one", new Uint8Array(MIB)), O_RDWR);
    using two = Fd.open(file("two", new Uint8Array(2 * MIB)), O_RDWR);
    const { disk } = await makeDisk({ size: MIB, zeroCopy }, {
      read: (request) => request.transfer(two, MIB + request.offset),
      write: (request) => Promise.all([request.transfer(one), request.transfer(two, MIB + request.offset)]),
    });
    await using _ = disk;
    await exercise(uring, disk.path, MIB, 4);
    assert.ok(readFileSync(join(dir, "two")).subarray(MIB).equals(readFileSync(join(dir, "one"))));
  });

  test(`files that end, and files that fail, ${name}`, { skip }, async () => {
    await using uring = makeUring();
    const path = file("short", pattern(MIB, 0));
    using backing = Fd.open(path, O_RDONLY);
    const { disk, reported } = await makeDisk({ size: MIB, zeroCopy }, inFile(backing));
    await using _ = disk;
    await using client = await DiskClient.open(uring, disk.path);
    await using buffer = uring.registerBuffer(8192);
    await client.verify(buffer, 0, 0, 8192, 0);
    assert.equal((await failure(uring.writeFixed(client.fd, buffer, { offset: 0 }))).code, "EIO");
    assert.equal((reported.at(-1)!.error as UringError).code, "EBADF");
    truncateSync(path, MIB - 4096);
    const last = { offset: MIB - 8192, length: 8192 };
    assert.equal((await failure(uring.readFixed(client.fd, buffer, last))).code, "EIO");
    assert.match((reported.at(-1)!.error as UringError).message, /the file ends at 1044480/);
    assert.equal(await uring.readFixed(client.fd, buffer, { offset: 0 }), 8192);
  });

  test(`a transfer that stalls fails its client in time, ${name}`, { skip }, async () => {
    await using uring = makeUring();
    using backing = Fd.open(file("stalled", pattern(MIB, 0)), O_RDONLY);
    using pipe = new WaitingPipe();
    let stalls = false;
    const late: Promise<void>[] = [];
    const { disk } = await makeDisk({ size: MIB, depth: 2, zeroCopy, timeout: 200 }, {
      read: (request) => {
        const transfer = request.transfer(stalls ? pipe.reader : backing, stalls ? 0 : undefined);
        if (stalls) late.push(transfer);
        return transfer;
      },
    });
    await using client = await DiskClient.open(uring, disk.path, O_RDONLY);
    await using buffer = uring.registerBuffer(4096);
    await until(() => disk.stats.pending === 0, "the kernel's own reads");
    stalls = true;
    const read = failure(uring.readFixed(client.fd, buffer, { offset: 0 }));
    await until(() => late.length > 0, "the stalled read");
    if (zeroCopy !== false) {
      // The request's own pages are being read into: its client has them back when that has ended.
      await until(() => disk.stats.timedOut === 1, "the time limit");
      pipe.write("x".repeat(4096));
    }
    assert.equal((await within(read, "the failure")).code, "ETIMEDOUT");
    if (zeroCopy === false) {
      stalls = false;
      await client.verify(buffer, 0, 0, 4096, 0);
      pipe.write("y".repeat(100));
    }
    const outcome = await within(
      late[0]!.then(() => "done", (error: UringError) => error.code),
      "the transfer",
    );
    assert.equal(outcome, zeroCopy === false ? "ECANCELED" : "done");
    await within(disk.stop(), "stopping");
  });
}

test("what a transfer is asked for is checked", { skip }, async () => {
  await using uring = makeUring();
  const wrong: unknown[] = [];
  const attempt = (call: () => unknown): void => {
    try {
      call();
    } catch (error) {
      wrong.push((error as Error).name);
    }
  };
  const { disk } = await makeDisk({ size: MIB }, {
    read: (request) => {
      if (wrong.length > 0) return;
      attempt(() => request.transfer(-1));
      attempt(() => request.transfer(1.5));
      attempt(() => request.transfer(null as never));
      attempt(() => request.transfer({} as never));
      attempt(() => request.transfer(0, -1));
      attempt(() => request.transfer(0, 2 ** 60));
      attempt(() => request.copy("bytes" as never));
    },
    flush: (request) => {
      attempt(() => request.data);
      attempt(() => request.transfer(0));
      attempt(() => request.copy(new Uint8Array(1)));
    },
    write: () => {},
  });
  await using _ = disk;
  await using client = await DiskClient.open(uring, disk.path);
  await uring.fdatasync(client.fd);
  await until(() => wrong.length >= 10, "the checks");
  const refusals = wrong.slice().sort();
  assert.deepEqual(refusals, [...Array<string>(6).fill("RangeError"), ...Array<string>(4).fill("TypeError")]);
});
