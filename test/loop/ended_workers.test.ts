/** Workers that are terminated in the middle of what they do: the kernel goes on, their memory does not. */
import assert from "node:assert/strict";
import { FIELDS, STRUCT_SIZE } from "../../src/ffi/thread_end.ts";
import { evaluate, missingCompiler } from "../support/cc.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { FLAGS } from "../support/loop.ts";
import { fixture, output } from "../support/program.ts";

checkLeaks();

// The thread of SQPOLL lives as long as the ring and goes on by itself; the others' work ends with the Worker's thread,
// except what the kernel's worker threads are at.
const CASES = FLAGS.flatMap((kind) => [
  { ...kind, asynchronous: true },
  ...(kind.name === "SQPOLL" ? [{ ...kind, asynchronous: false }] : []),
]);

for (const { name, flags, asynchronous, skip } of CASES) {
  const how = asynchronous ? ", in the kernel's worker threads" : "";
  test(`${name}: memory of a terminated Worker is not written to${how}`, { skip }, async () => {
    const said = await output(fixture("ended_worker.ts"), [String(flags), String(asynchronous)], {
      permissions: ["--allow-all"],
    });
    assert.deepEqual(JSON.parse(said), { operations: 28, written: [], corrupted: 0 });
  });
}

test("every kind of Worker is known for one", async () => {
  const said = await output(fixture("is_worker.ts"), [], { permissions: ["--allow-all"] });
  assert.deepEqual(JSON.parse(said), { main: false, web: true, node: true });
});

for (const how of ["terminated", "by itself", "dropped"]) {
  const which = how === "dropped" ? "terminated, and had dropped some of them" : how;
  test(`rings are closed when their Worker ends, and nobody else's files and memory: ${which}`, async () => {
    const { library, during, after, closed, overwritten } = JSON.parse(
      await output(fixture("thread_end.ts"), [how], { permissions: ["--allow-all"] }),
    );
    assert.equal(during, true);
    assert.deepEqual({ closed, overwritten }, { closed: [], overwritten: 0 });
    // Without liburing there is nobody to do it. Memory that was dropped and not collected yet stays.
    if (library !== "liburing") return;
    const mappings = how === "dropped" ? after.mappings : 0;
    assert.deepEqual(after, { descriptors: 0, mappings, threads: 0 });
  });
}

const noHeader = missingCompiler(["liburing.h"]);

test("the fields by which a ring is closed are where liburing has them", { skip: noHeader }, () => {
  const expressions = Object.keys(FIELDS).map((name) => ({
    name,
    c: `offsetof(struct io_uring, ${name})`,
  }));
  const values = evaluate(["liburing.h"], [
    ...expressions,
    { name: "size", c: "sizeof(struct io_uring)" },
  ]);
  assert.equal(values.get("size"), BigInt(STRUCT_SIZE));
  for (const [name, at] of Object.entries(FIELDS)) {
    // That of liburing 2.4.
    if (name !== "sq.sqes_sz" || values.has(name)) assert.equal(values.get(name), BigInt(at), name);
  }
});
