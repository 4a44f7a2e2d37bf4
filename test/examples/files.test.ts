import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after } from "node:test";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { run, start } from "./programs.ts";

checkLeaks();

const scratch = mkdtempSync(join(tmpdir(), "uring-examples-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

test("write.ts writes a file, and replaces what was there", async () => {
  const path = join(scratch, "written ü");
  writeFileSync(path, "something longer that was there before");
  const { status, out, err } = await run("write.ts", [path, "grüße"]);
  assert.deepEqual([status, out.toString(), err], [0, `7 bytes are on disk in ${path}\n`, ""]);
  assert.equal(readFileSync(path, "utf8"), "grüße");
});

test("write.ts makes the file, with a text of its own", async () => {
  const path = join(scratch, "new");
  assert.equal((await run("write.ts", [path])).status, 0);
  assert.equal(readFileSync(path, "utf8"), "Written with io_uring.\n");
  assert.equal(statSync(path).mode & 0o777, 0o666 & ~process.umask());
});

test("write.ts fails with the step that failed", async () => {
  const missing = join(scratch, "missing", "file");
  const nowhere = await run("write.ts", [missing]);
  const message = `write: ENOENT: no such file or directory, openat '${missing}'\n`;
  assert.deepEqual([nowhere.status, nowhere.err], [1, message]);
  assert.equal((await run("write.ts", [])).status, 2);
});

test("write.ts says so when the device is full", {
  skip: existsSync("/dev/full") ? false : "there is no /dev/full",
}, async () => {
  const full = await run("write.ts", ["/dev/full"]);
  assert.equal(full.status, 1);
  assert.match(full.err, /^write: ENOSPC: .*, write/);
});

// Around the size of its chunks (128 KiB) and of what it reads at once (eight of them).
const sizes = [0, 1, 131_071, 131_072, 131_073, 1_048_575, 1_048_576, 1_048_577, 5_000_000];
const contents = sizes.map((size) => randomBytes(size));
const paths = sizes.map((size) => join(scratch, `size-${size}`));
paths.forEach((path, i) => writeFileSync(path, contents[i]!));

test("cat.ts copies files in order", async () => {
  const { status, out, err } = await run("cat.ts", [...paths, paths[1]!]);
  assert.deepEqual([status, err], [0, ""]);
  assert.ok(out.equals(Buffer.concat([...contents, contents[1]!])));
});

test("cat.ts copies its standard input", async () => {
  const input = contents.at(-1)!;
  for (const args of [[], ["-"]]) {
    const { status, out, err } = await run("cat.ts", args, input);
    assert.deepEqual([status, err], [0, ""]);
    assert.ok(out.equals(input));
  }
});

test("cat.ts copies files that have no size", async () => {
  const { status, out } = await run("cat.ts", ["/proc/self/status"]);
  assert.equal(status, 0);
  assert.match(out.toString(), /^Name:\t[^]*\nPid:\t\d+\n/);
});

test("cat.ts reports what it cannot read and goes on", async () => {
  const missing = join(scratch, "missing");
  const { status, out, err } = await run("cat.ts", [missing, paths[1]!, scratch, paths[2]!]);
  assert.equal(status, 1);
  assert.ok(out.equals(Buffer.concat([contents[1]!, contents[2]!])));
  assert.match(err, /^cat: .*: ENOENT: .*openat.*\ncat: .*: EISDIR: .*, read\n$/);
});

test("cat.ts ends quietly when nobody reads any more", async () => {
  const { child, ended } = start("cat.ts", paths.at(-1)!, paths.at(-1)!);
  child.stdout.once("data", () => child.stdout.destroy());
  const { status, err } = await ended;
  assert.deepEqual([status, err], [0, ""]);
});
