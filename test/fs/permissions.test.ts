/** Everything of `uring/fs` works with `--allow-ffi` alone in Deno, and a program that uses it ends by itself. */
import assert from "node:assert/strict";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { fixture, run } from "../support/program.ts";

checkLeaks();

test("a tour of uring/fs with no more rights than FFI", async () => {
  using dir = new TempDir();
  const { code, stdout, stderr } = await run(fixture("fs_tour.ts"), [dir.path]);
  assert.deepEqual([code, stderr], [0, ""]);
  assert.equal(stdout, "files metadata links directories handles streams watch\n");
});
