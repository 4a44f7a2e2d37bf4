/** Workers that are terminated in the middle of what they do: the kernel goes on, their memory does not. */
import assert from "node:assert/strict";
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
