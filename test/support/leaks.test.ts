/** The leak check itself: each case is a test file of its own, run by the same runtime in a subprocess. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "./gate.ts";
import { checkLeaks } from "./leaks.ts";

checkLeaks();

const LEAKS = new URL("./leaks.ts", import.meta.url).href;

function run(body: string): { failed: boolean; output: string } {
  const dir = mkdtempSync(join(tmpdir(), "uring-leaks-"));
  try {
    const file = join(dir, "case.test.ts");
    writeFileSync(
      file,
      `import test from "node:test";
import { openSync, closeSync } from "node:fs";
import { checkLeaks, setInFlightProbe } from ${JSON.stringify(LEAKS)};
import { createServer } from "node:net";
${body}
`,
    );
    const deno = ["test", "-A", "--no-check", "--no-config", "--v8-flags=--expose-gc", file];
    const args = "Deno" in globalThis ? deno : ["test", file];
    const child = spawnSync(process.execPath, args, { encoding: "utf8", cwd: dir });
    return { failed: child.status !== 0, output: child.stdout + child.stderr };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

test("a file that cleans up passes", () => {
  const { failed, output } = run(`checkLeaks(); test("t", () => closeSync(openSync("/", "r")));`);
  assert.equal(failed, false, output);
});

test("a descriptor left open fails the file", () => {
  const { failed, output } = run(`checkLeaks(); test("t", () => { openSync(import.meta.dirname, "r"); });`);
  assert.equal(failed, true, output);
  assert.match(output, /leaked: descriptor \d+ \(\/.*uring-leaks-/);
});

test("a listening socket beyond the waker's fails the file", () => {
  const { failed, output } = run(`checkLeaks(); test("t", async () => {
  for (let i = 0; i < 3; i++) {
    await new Promise<void>((resolve) => { createServer().listen(0, () => resolve()).unref(); });
  }
});`);
  assert.equal(failed, true, output);
  assert.match(output, /leaked: descriptor \d+ \(socket:/);
});

test("an allowed descriptor passes", () => {
  const { failed, output } = run(
    `checkLeaks({ allow: (leak) => leak.kind === "file" }); test("t", () => { openSync(import.meta.dirname, "r"); });`,
  );
  assert.equal(failed, false, output);
});

test("an operation in flight fails the file", () => {
  const { failed, output } = run(`setInFlightProbe(() => 2); checkLeaks(); test("t", () => {});`);
  assert.equal(failed, true, output);
  assert.match(output, /leaked: in flight \(2 operations\)/);
});

/** Maps shared anonymous memory through the runtime's own FFI: the library may be what is broken. */
const MMAP = `async function mmap(): Promise<void> {
  if ("Bun" in globalThis) {
    const { dlopen } = await import("bun:ffi");
    const args = ["ptr", "u64", "i32", "i32", "i32", "i64"] as const;
    const { symbols } = dlopen("libc.so.6", { mmap: { args: [...args], returns: "ptr" } });
    symbols.mmap(null, 4096, 3, 0x21, -1, 0);
  } else {
    const parameters = ["pointer", "usize", "i32", "i32", "i32", "i64"] as const;
    const { symbols } = Deno.dlopen("libc.so.6", { mmap: { parameters, result: "pointer" } });
    symbols.mmap(null, 4096n, 3, 0x21, -1, 0n);
  }
}`;

test("shared memory beyond the waker's fails the file", () => {
  const { failed, output } = run(`${MMAP}
checkLeaks(); test("t", async () => { for (let i = 0; i < 4; i++) await mmap(); });`);
  assert.equal(failed, true, output);
  assert.match(output, /leaked: mapping \(shared anonymous memory\)/);
});

test("the memory of one shared ring passes when it is meant to be", () => {
  const { failed, output } = run(`${MMAP}
checkLeaks({ sharedRings: 1 }); test("t", async () => { for (let i = 0; i < 4; i++) await mmap(); });`);
  assert.equal(failed, false, output);
});
