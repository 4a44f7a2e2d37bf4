/** Operations that are allowed and denied by name: what cannot be, and kernels that lack it. */
import assert from "node:assert/strict";
import { IORING_OP_NOP, IORING_OP_OPENAT, IORING_OP_READ, type OperationFilter } from "../../src/ring/mod.ts";
import { deniedOperations } from "../../src/ring/operation_filter.ts";
import { filterOperationsTask } from "../../src/ring/mod.ts";
import { Uring } from "../../src/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { forEachKind, makeRing, once } from "../support/rings.ts";
import "../support/loop.ts";

checkLeaks();

const there = kernelHas("7.0") ? "this kernel has it" : false;

test("one list is turned into the other", () => {
  const denied = deniedOperations({ allow: [IORING_OP_NOP, IORING_OP_READ] });
  assert.ok(denied.length >= 61, `${denied.length}`);
  assert.ok(!denied.includes(IORING_OP_NOP) && !denied.includes(IORING_OP_READ));
  assert.ok(denied.includes(IORING_OP_OPENAT));
  // What no kernel has yet needs no filter.
  assert.deepEqual(deniedOperations({ deny: [IORING_OP_READ, IORING_OP_NOP, 255] }), [
    IORING_OP_NOP,
    IORING_OP_READ,
  ]);
  assert.deepEqual(deniedOperations({ deny: [] }), []);
});

const WRONG: readonly [filter: unknown, error: typeof TypeError | typeof RangeError][] = [
  [null, TypeError],
  [{}, TypeError],
  [{ allow: [], deny: [] }, TypeError],
  [{ allow: IORING_OP_NOP }, TypeError],
  [{ deny: [256] }, RangeError],
  [{ deny: [-1] }, RangeError],
  [{ allow: [0.5] }, RangeError],
  [{ allow: ["IORING_OP_NOP"] }, RangeError],
];

test("what is no filter is refused", async () => {
  using ring = makeRing(2);
  await using uring = new Uring();
  for (const [filter, error] of WRONG as [OperationFilter, typeof TypeError][]) {
    assert.throws(() => ring.filterOperations(filter), error);
    assert.throws(() => filterOperationsTask(filter), error);
    await assert.rejects(uring.filterOperations(filter), error);
  }
  await assert.rejects(uring.filterOperations({ deny: [IORING_OP_NOP] }), {
    name: "RangeError",
    message: "A Uring cannot do without IORING_OP_NOP",
  });
  assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
  assert.equal(await uring.nop(), 0);
});

test("a ring that is closed has no filters", async () => {
  const ring = makeRing(2);
  ring.close();
  assert.throws(() => ring.filterOperations({ deny: [IORING_OP_READ] }), TypeError);
  const uring = new Uring();
  await uring.disposeAsync();
  await assert.rejects(uring.filterOperations({ deny: [IORING_OP_READ] }), TypeError);
});

forEachKind(({ name, options, skip }) => {
  test(`${name}: a kernel without filters says so`, { skip: skip || there }, () => {
    using ring = makeRing(4, options);
    const lacking = {
      code: "EINVAL",
      syscall: "io_uring_register",
      message: /IORING_REGISTER_BPF_FILTER needs Linux 7\.0/,
    };
    assert.throws(() => ring.filterOperations({ deny: [IORING_OP_OPENAT] }), lacking);
    assert.throws(() => ring.filterOperations({ allow: [IORING_OP_NOP] }), lacking);
    assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
  });
});

test("a kernel without filters says so of a thread, and of a Uring", { skip: there }, async () => {
  const lacking = { code: "EINVAL", message: /needs Linux 7\.0/ };
  assert.throws(() => filterOperationsTask({ allow: [IORING_OP_NOP] }), lacking);
  await using uring = new Uring();
  await assert.rejects(uring.filterOperations({ allow: [IORING_OP_READ] }), lacking);
  assert.equal(await uring.nop(), 0);
});
