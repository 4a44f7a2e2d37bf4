/** Operations that are allowed and denied by name, on rings, on threads, on a `Uring`. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import {
  IORING_OP_FSYNC,
  IORING_OP_NOP,
  IORING_OP_NOP128,
  IORING_OP_OPENAT,
  IORING_OP_OPENAT2,
  IORING_OP_READ,
  IORING_OP_SOCKET,
  IORING_SETUP_SQE_MIXED,
  LOOP_OPERATIONS,
} from "../../src/ring/mod.ts";
import { readFile } from "../../src/fs/mod.ts";
import { system } from "../../src/ffi/system.ts";
import type { Outcome, Step } from "../fixtures/task_limits.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring } from "../support/loop.ts";
import { failure } from "../support/operations.ts";
import { fixture, output } from "../support/program.ts";
import { entry, forEachKind, makeRing, once, path, reap } from "../support/rings.ts";

checkLeaks({ sharedRings: 1 });

const EACCES = -13;

async function perform(...steps: readonly Step[]): Promise<readonly Outcome[]> {
  const permissions = ["--allow-ffi", "--allow-run", "--allow-read", "--allow-env"];
  return JSON.parse(await output(fixture("task_limits.ts"), [JSON.stringify(steps)], { permissions }));
}

forEachKind(({ name, options, skip }) => {
  test(`${name}: denied operations complete with EACCES, all others work`, { skip }, () => {
    using dir = new TempDir();
    const file = path(dir.of("file"));
    using ring = makeRing(8, options);
    const open = (): number => {
      const { res } = once(ring, (sqe) => sqe.prepOpenat(-100, file, 0o102, 0o600));
      if (res >= 0) system().close(res);
      return Math.min(res, 0);
    };
    assert.equal(open(), 0);
    ring.filterOperations({ deny: [IORING_OP_OPENAT, IORING_OP_OPENAT2] });
    assert.equal(open(), EACCES);
    assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
    ring.filterOperations({ allow: [IORING_OP_OPENAT, IORING_OP_NOP] });
    // Nothing that comes later allows it again.
    assert.equal(open(), EACCES);
    assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
    assert.equal(once(ring, (sqe) => sqe.prepFsync(-1, 0)).res, EACCES);
  });
});

test("nothing works but what is allowed, and of two lists what is on both", () => {
  using ring = makeRing(8);
  const nop = (): number => once(ring, (sqe) => sqe.prepNop()).res;
  const read = (): number => once(ring, (sqe) => sqe.prepRead(-1, 0, 0, 0)).res;
  const sync = (): number => once(ring, (sqe) => sqe.prepFsync(-1, 0)).res;
  const EBADF = -9;
  ring.filterOperations({ deny: [] });
  assert.deepEqual([nop(), read(), sync()], [0, EBADF, EBADF]);
  ring.filterOperations({ allow: [IORING_OP_NOP, IORING_OP_READ] });
  assert.deepEqual([nop(), read(), sync()], [0, EBADF, EACCES]);
  ring.filterOperations({ allow: [IORING_OP_READ, IORING_OP_FSYNC] });
  assert.deepEqual([nop(), read(), sync()], [EACCES, EBADF, EACCES]);
  ring.filterOperations({ allow: [] });
  assert.equal(read(), EACCES);
});

test("operations of 128 bytes are operations of their own", () => {
  using ring = makeRing(8, { flags: IORING_SETUP_SQE_MIXED });
  ring.filterOperations({ deny: [IORING_OP_NOP128] });
  const big = ring.getSqe128()!;
  big.prepNop128();
  big.userData = 1;
  entry(ring, 2, (sqe) => sqe.prepNop());
  assert.deepEqual(reap(ring, 2).map(({ userData, res }) => [userData, res]), [[1, EACCES], [2, 0]]);
});

test("a thread's filter is on each ring that it makes from then on, and further ones only narrow it", async () => {
  const only = { allow: [IORING_OP_NOP, IORING_OP_READ] };
  const narrower = { allow: [IORING_OP_NOP, IORING_OP_SOCKET] };
  const tried = ["nop", "read", "socket"] as const;
  assert.deepEqual(
    await perform(
      "no new privileges",
      "ring",
      { only },
      ...tried,
      "ring",
      ...tried,
      { only: narrower },
      "ring",
      ...tried,
    ),
    [0, 0, 0, 0, 0, 0, 0, 0, 0, EACCES, 0, 0, 0, EACCES, EACCES],
  );
});

test("a Uring rejects what is denied, and goes on with the rest", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "content");
  await using uring = makeUring();
  const fd = await uring.openat(dir.of("file"));
  await uring.filterOperations({ deny: [IORING_OP_OPENAT] });
  const error = await failure(uring.openat(dir.of("file")));
  assert.deepEqual([error.code, error.syscall], ["EACCES", "openat"]);
  assert.equal(await uring.read(fd, new Uint8Array(7), { offset: 0 }), 7);
  await uring.close(fd);
});

test(
  "a Uring that may only read can still cancel, wait for so long, and close",
  async () => {
    await using uring = makeUring();
    const { reader: read, writer: write } = await uring.pipe();
    await uring.filterOperations({ allow: [IORING_OP_READ] });
    assert.equal((await failure(uring.write(write, new Uint8Array(1)))).code, "EACCES");
    assert.equal((await failure(uring.read(read, new Uint8Array(1), { timeout: 5 }))).code, "ETIMEDOUT");
    const controller = new AbortController();
    const reading = uring.read(read, new Uint8Array(1), { signal: controller.signal });
    await uring.nop();
    controller.abort(new Error("enough"));
    await assert.rejects(reading, { message: "enough" });
    await uring.close(read);
    await uring.close(write);
  },
);

test("a thread that may do what the loop needs can have a Uring", async () => {
  const permissions = ["--allow-ffi"];
  const allowed = JSON.stringify(LOOP_OPERATIONS);
  assert.equal(await output(fixture("filtered_loop.ts"), [allowed], { permissions }), "EACCES ETIMEDOUT 1\n");
});

test("whole files are not read around a filter", async () => {
  const { Uring } = await import("../../src/mod.ts");
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "content");
  const paths = Array.from({ length: 300 }, () => dir.of("file"));
  const uring = Uring.shared;
  await Promise.all(paths.map((each) => readFile(each)));
  await uring.filterOperations({ deny: [IORING_OP_OPENAT, IORING_OP_OPENAT2] });
  const settled = await Promise.allSettled(paths.map((each) => readFile(each)));
  for (const each of settled) {
    assert.equal(each.status, "rejected");
    assert.equal((each as PromiseRejectedResult).reason.code, "EACCES");
  }
  await uring.disposeAsync();
});
