/** The example that writes a file with the raw ring, under both runtimes. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const EXAMPLE = "examples/raw-write.ts";
const TEXT = "Written by io_uring, without a file descriptor.\n";

/** The runtimes' binaries, as scripts/setup.sh exports them, and how each runs a program. */
const RUNTIMES: [name: string, binary: string | undefined, args: string[]][] = [
  ["bun", process.env["BUN"], []],
  ["deno", process.env["DENO"], ["run", "--no-prompt", "--allow-ffi"]],
];

for (const [name, binary, args] of RUNTIMES) {
  const skip = binary === undefined ? `${name.toUpperCase()} is not set to its binary` : false;
  const run = (...rest: string[]): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(binary!, [...args, EXAMPLE, ...rest], { cwd: ROOT, encoding: "utf8" });

  test(`raw-write under ${name}: writes the file and says what it did`, { skip }, () => {
    using dir = new TempDir();
    const file = dir.of("written.txt");
    writeFileSync(file, "x".repeat(1000));
    const { status, stdout, stderr } = run(file);
    assert.equal(stderr, "");
    assert.equal(status, 0);
    assert.equal(readFileSync(file, "utf8"), TEXT);
    assert.deepEqual(stdout.trim().split("\n"), [
      "submitted 4 operations with one system call",
      "open: 0",
      `write: ${TEXT.length}`,
      "fsync: 0",
      "close: 0",
      `wrote ${TEXT.length} bytes to ${file}, and they are on the disk`,
    ]);
  });

  test(`raw-write under ${name}: says what went wrong`, { skip }, () => {
    using dir = new TempDir();
    const file = dir.of("no such directory/file");
    const { status, stdout, stderr } = run(file);
    assert.equal(status, 1);
    assert.equal(stderr.trim(), `ENOENT: no such file or directory, open '${file}'`);
    assert.match(stdout, /^open: ENOENT\nwrite: ECANCELED\nfsync: ECANCELED\nclose: ECANCELED$/m);
    assert.equal(existsSync(file), false);
  });
}
