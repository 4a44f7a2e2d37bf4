/** fadvise, madvise, syncFileRange. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import {
  IORING_OP_MADVISE,
  MADV_COLD,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_FREE,
  MADV_POPULATE_WRITE,
  MADV_REMOVE,
  MADV_WILLNEED,
  MADV_WIPEONFORK,
  POSIX_FADV_DONTNEED,
  POSIX_FADV_RANDOM,
  POSIX_FADV_SEQUENTIAL,
  POSIX_FADV_WILLNEED,
  SYNC_FILE_RANGE_WAIT_AFTER,
  SYNC_FILE_RANGE_WAIT_BEFORE,
  SYNC_FILE_RANGE_WRITE,
} from "../../src/ffi/abi.ts";
import { pageSize } from "../../src/ffi/kernel.ts";
import { Mapping } from "../../src/mod.ts";
import { content } from "../support/content.ts";
import { TempDir, vmFlags } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, makeUring, URING_KINDS } from "../support/loop.ts";
import { bytes, failure, Reason, refuses, rejectsWith, WaitingPipe } from "../support/operations.ts";
import { missingOp, missingRing } from "../support/rings.ts";

checkLeaks();

const PAGE = pageSize();

test("a page is as large as the kernel says", () => {
  const line = /^KernelPageSize:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/smaps", "utf8"));
  assert.equal(PAGE, Number(line![1]) * 1024);
});

test("fadvise: of both kinds of descriptors; the content stays what it is", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const data = content(100_000);
  writeFileSync(dir.of("file"), data);
  const plain = await uring.openat(dir.of("file"), { flags: "r+" });
  const direct = await uring.openat(dir.of("file"), { direct: true });
  for (const fd of [plain, direct]) {
    await uring.fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    await uring.fadvise(fd, 4096, 8192, POSIX_FADV_RANDOM);
    await uring.fadvise(fd, 0, 100_000, POSIX_FADV_DONTNEED);
    await uring.fadvise(fd, 0n, 2n ** 40n, POSIX_FADV_WILLNEED);
    await uring.fadvise(fd, 2 ** 40, 2 ** 33, POSIX_FADV_WILLNEED, { timeout: 60_000 });
  }
  assert.deepEqual(new Uint8Array(readFileSync(dir.of("file"))), data);
  await uring.close(plain);
  await uring.close(direct);
});

test("fadvise and syncFileRange: what goes wrong is told as the system call tells it", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  using pipe = new WaitingPipe();
  const fd = await uring.openat(dir.of("file"), { flags: "w" });
  await rejectsWith(uring.fadvise(fd, 0, 0, 99), "EINVAL", "fadvise");
  await rejectsWith(uring.fadvise(pipe.reader.fd, 0, 0, 0), "ESPIPE", "fadvise");
  await rejectsWith(uring.fadvise(-1, 0, 0, 0), "EBADF", "fadvise");
  await rejectsWith(uring.syncFileRange(fd, 0, 0, 8), "EINVAL", "sync_file_range");
  await rejectsWith(uring.syncFileRange(pipe.reader.fd, 0, 0, 0), "ESPIPE", "sync_file_range");
  await rejectsWith(uring.syncFileRange(1_000_000, 0, 0, 0), "EBADF", "sync_file_range");
  for (const size of [-1, 0.5, NaN, 2 ** 53, 2n ** 63n, "1" as unknown as number]) {
    await refuses(uring, RangeError, () => uring.fadvise(fd, size, 0, 0));
    await refuses(uring, RangeError, () => uring.fadvise(fd, 0, size, 0));
    await refuses(uring, RangeError, () => uring.syncFileRange(fd, size, 0, 0));
    await refuses(uring, RangeError, () => uring.syncFileRange(fd, 0, size as number, 0));
  }
  await refuses(uring, RangeError, () => uring.syncFileRange(fd, 0, 2 ** 32, 0));
  await refuses(uring, RangeError, () => uring.syncFileRange(fd, 0, 0, -1));
  await refuses(uring, RangeError, () => uring.fadvise(fd, 0, 0, -1));
  await refuses(uring, TypeError, () => uring.fadvise("1" as unknown as number, 0, 0, 0));
  const reason = new Reason();
  const signal = AbortSignal.abort(reason);
  assert.equal(await failure(uring.fadvise(fd, 0, 0, 0, { signal })), reason);
  assert.equal(await failure(uring.syncFileRange(fd, 0, 0, 0, { signal })), reason);
  await uring.close(fd);
});

test("syncFileRange: in part and to the end, on both kinds of descriptors, in a chain", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  const fd = await uring.openat(dir.of("file"), { flags: "w+" });
  await uring.write(fd, content(20_000), { offset: 0 });
  await uring.syncFileRange(fd, 4096, 8192, SYNC_FILE_RANGE_WRITE);
  await uring.syncFileRange(fd, 0n, 0, all, { timeout: 60_000 });
  await uring.close(fd);
  const [, written] = await uring.link((l) => {
    const direct = l.direct();
    return [
      l.openat(dir.of("other"), { flags: "w", direct }),
      l.write(direct, bytes("synced")),
      l.syncFileRange(direct, 0, 0, all),
      l.fadvise(direct, 0, 0, POSIX_FADV_DONTNEED),
      l.close(direct),
    ];
  });
  assert.equal(written, 6);
  assert.equal(readFileSync(dir.of("other"), "utf8"), "synced");
});

/** Memory full of ones. */
function ones(pages: number): Mapping {
  const mapping = Mapping.anonymous(pages * PAGE);
  new Uint8Array(mapping.buffer).fill(1);
  return mapping;
}

/** Whether memory of the library's is mapped at an address: the runtime may put its own where some has gone. */
function isMapped(address: number): boolean {
  return vmFlags(address).includes("dc");
}

/** The first byte of each page. */
function heads(mapping: Mapping): number[] {
  const all = new Uint8Array(mapping.buffer);
  return Array.from({ length: all.length / PAGE }, (_, i) => all[i * PAGE]!);
}

test("madvise: a mapping loses what it is told to lose, all of it or pages of it", async () => {
  await using uring = makeUring();
  using mapping = ones(4);
  await uring.madvise(mapping, MADV_DONTNEED, { offset: PAGE, length: PAGE });
  assert.deepEqual(heads(mapping), [1, 0, 1, 1]);
  await uring.madvise(mapping, MADV_DONTNEED, { offset: 3 * PAGE });
  assert.deepEqual(heads(mapping), [1, 0, 1, 0]);
  await uring.madvise(mapping, MADV_WILLNEED);
  await uring.madvise(mapping, MADV_COLD, { length: 0 });
  await uring.madvise(mapping, MADV_DONTFORK);
  await uring.madvise(mapping, MADV_WIPEONFORK);
  assert.deepEqual(heads(mapping), [1, 0, 1, 0]);
  await uring.madvise(mapping, MADV_DONTNEED, { timeout: 60_000 });
  assert.deepEqual(heads(mapping), [0, 0, 0, 0]);
  await rejectsWith(uring.madvise(mapping, MADV_DONTNEED, { offset: 1 }), "EINVAL", "madvise");
  await rejectsWith(uring.madvise(mapping, MADV_REMOVE), "EINVAL", "madvise");
});

test("madvise: views take advice that leaves their content alone, wherever they begin", async () => {
  await using uring = makeUring();
  const view = new Uint8Array(300_000).fill(7);
  for (const part of [view, view.subarray(1), view.subarray(77, 78), new DataView(view.buffer, 5, 0)]) {
    await uring.madvise(part, MADV_WILLNEED);
    await uring.madvise(part, MADV_COLD);
  }
  await uring.madvise(view, MADV_COLD, { offset: 100, length: 200 });
  await uring.madvise(view, MADV_POPULATE_WRITE);
  await uring.madvise(new Int32Array(new SharedArrayBuffer(64)), MADV_WILLNEED);
  assert.ok(view.every((byte) => byte === 7));
  // What lies on the same pages belongs to others.
  for (const advice of [MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTFORK, MADV_WIPEONFORK]) {
    await refuses(uring, RangeError, () => uring.madvise(view, advice));
  }
});

test("madvise: what would kill the process, or is not in the memory, is refused", async () => {
  await using uring = makeUring();
  using mapping = ones(2);
  const HWPOISON = 100;
  const GUARD_INSTALL = 102;
  for (const advice of [HWPOISON, GUARD_INSTALL, -1, 0.5, 9999, "4" as unknown as number]) {
    await refuses(uring, RangeError, () => uring.madvise(mapping, advice));
    await refuses(uring, RangeError, () => uring.madvise(new Uint8Array(10), advice));
  }
  const wrong = [
    { offset: -1 },
    { offset: 2 * PAGE + 1 },
    { offset: 0.5 },
    { length: 2 * PAGE + 1 },
    { length: -1 },
    { offset: PAGE, length: PAGE + 1 },
    { offset: NaN },
    { length: "1" as unknown as number },
  ];
  for (const options of wrong) {
    await refuses(uring, RangeError, () => uring.madvise(mapping, MADV_DONTNEED, options));
  }
  for (const memory of [null, undefined, 5, {}, new ArrayBuffer(8)] as unknown as Uint8Array[]) {
    await refuses(uring, TypeError, () => uring.madvise(memory, MADV_WILLNEED));
  }
  assert.deepEqual(heads(mapping), [1, 1]);
  mapping.unmap();
  await refuses(uring, TypeError, () => uring.madvise(mapping, MADV_DONTNEED));
});

test("madvise: memory that is unmapped meanwhile stays mapped until the kernel has come to it", async () => {
  await using uring = makeUring();
  for (const timeout of [undefined, 60_000]) {
    const mapping = ones(64);
    const { address } = mapping;
    const promise = uring.madvise(mapping, MADV_DONTNEED, timeout === undefined ? {} : { timeout });
    mapping.unmap();
    assert.throws(() => mapping.buffer, TypeError);
    assert.ok(isMapped(address));
    collect();
    await promise;
    await uring.nop();
    assert.equal(isMapped(address), false);
  }
  // What never reaches the kernel lets go, too.
  const mapping = ones(1);
  const reason = new Reason();
  const promise = uring.madvise(mapping, MADV_DONTNEED, { signal: AbortSignal.abort(reason) });
  mapping.unmap();
  assert.equal(await failure(promise), reason);
  await uring.nop();
  assert.equal(isMapped(mapping.address), false);
  using kept = ones(1);
  await assert.rejects(
    uring.link((l) => {
      l.madvise(kept, MADV_DONTNEED);
      throw reason;
    }),
    Reason,
  );
  assert.deepEqual(heads(kept), [1]);
});

const noMadvise = missingOp(IORING_OP_MADVISE);
for (const [name, options] of Object.entries(URING_KINDS)) {
  const noRing = options.flags === undefined ? false : missingRing({ flags: options.flags });
  test(`${name}: advice, by itself and in a chain`, { skip: noRing || noMadvise }, async () => {
    await using uring = makeUring(options);
    using dir = new TempDir();
    using mapping = ones(2);
    writeFileSync(dir.of("file"), "content");
    const fd = await uring.openat(dir.of("file"));
    await Promise.all([
      uring.madvise(mapping, MADV_DONTNEED, { length: PAGE }),
      uring.fadvise(fd, 0, 0, POSIX_FADV_WILLNEED),
      uring.syncFileRange(fd, 0, 0, SYNC_FILE_RANGE_WRITE),
    ]);
    assert.deepEqual(heads(mapping), [0, 1]);
    await uring.link((l) => [l.fadvise(fd, 0, 0, 0), l.madvise(mapping, MADV_DONTNEED)]);
    assert.deepEqual(heads(mapping), [0, 0]);
    await uring.close(fd);
  });
}

test(
  "in a chain: the kernel stops at fadvise, and goes on past the others",
  { skip: noMadvise },
  async () => {
    await using uring = makeUring();
    using dir = new TempDir();
    using mapping = ones(1);
    const fd = await uring.openat(dir.of("file"), { flags: "w" });
    const outcome = async (steps: Promise<PromiseSettledResult<unknown>[]>): Promise<string[]> =>
      (await steps).map(({ status }) => status);
    const [ok, failed] = ["fulfilled", "rejected"];
    assert.deepEqual(await outcome(uring.linkSettled((l) => [l.fadvise(fd, 0, 0, 99), l.nop()])), [
      failed,
      failed,
    ]);
    assert.deepEqual(
      await outcome(uring.linkSettled((l) => [l.madvise(mapping, MADV_REMOVE), l.nop()])),
      [failed, ok],
    );
    assert.deepEqual(
      await outcome(uring.linkSettled((l) => [l.syncFileRange(fd, 0, 0, 8), l.nop()])),
      [failed, ok],
    );
    await uring.close(fd);
  },
);
