/** The examples that work on trees, beside the system's own programs. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { run } from "./programs.ts";

checkLeaks();

/** Printable text: of anything else, `wc` has opinions of its own. */
function words(length: number, seed: number): string {
  return Buffer.from(content(length, seed)).toString("base64").replaceAll("A", "\n").replaceAll("B", " \t");
}

function tree(dir: TempDir): string {
  mkdirSync(dir.of("tree/a/b"), { recursive: true });
  for (let i = 0; i < 50; i++) writeFileSync(dir.of(`tree/a/file ${i}`), words(i * 1000, i));
  writeFileSync(dir.of("tree/text"), "one two\n  three\tfour\n\nfive");
  writeFileSync(dir.of("tree/a/b/empty"), "");
  writeFileSync(dir.of("tree/large"), words(1_234_567, 1));
  chmodSync(dir.of("tree/text"), 0o600);
  symlinkSync("text", dir.of("tree/link"));
  return dir.of("tree");
}

/** `wc`'s lines by name, whatever its spaces. */
function counts(output: string): Map<string, string> {
  return new Map(
    output.trim().split("\n").map((line) => {
      const [, numbers, name] = /^\s*(\d+\s+\d+\s+\d+) (.*)$/.exec(line)!;
      return [name!, numbers!.replace(/\s+/g, " ")];
    }),
  );
}

test("wc.ts counts as wc does", async () => {
  using dir = new TempDir();
  const path = tree(dir);
  const { status, out, err } = await run("wc.ts", [path]);
  assert.deepEqual([status, err], [0, ""]);
  const files = execFileSync("find", [path, "-type", "f", "-print0"]).toString().split("\0").filter(Boolean);
  const theirs = execFileSync("wc", files, { env: { LC_ALL: "C" } }).toString();
  assert.deepEqual([...counts(out.toString())].sort(), [...counts(theirs)].sort());
});

test("wc.ts says what it cannot read, and goes on", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("text"), "a b\n");
  const { status, out, err } = await run("wc.ts", [dir.of("none"), dir.of("text")]);
  assert.deepEqual([status, err], [1, `wc: ENOENT: no such file or directory, lstat '${dir.of("none")}'\n`]);
  assert.deepEqual(counts(out.toString()).get(dir.of("text")), "1 2 4");
  assert.equal((await run("wc.ts", [])).status, 2);
});

test("cp.ts copies as cp does", async () => {
  using dir = new TempDir();
  const path = tree(dir);
  const first = await run("cp.ts", [path, dir.of("copy")]);
  assert.deepEqual([first.status, first.err], [0, ""]);
  assert.equal(spawnSync("diff", ["-r", "--no-dereference", path, dir.of("copy")]).status, 0);
  mkdirSync(dir.of("into"));
  assert.equal((await run("cp.ts", [path, dir.of("tree/text"), dir.of("into")])).status, 0);
  assert.equal(spawnSync("diff", ["-r", "--no-dereference", path, dir.of("into/tree")]).status, 0);
  assert.equal(spawnSync("cmp", [dir.of("tree/text"), dir.of("into/text")]).status, 0);
});

test("cp.ts says what it cannot do", async () => {
  using dir = new TempDir();
  const none = await run("cp.ts", [dir.of("none"), dir.of("to")]);
  assert.deepEqual([none.status, none.err], [
    1,
    `cp: ENOENT: no such file or directory, lstat '${dir.of("none")}'\n`,
  ]);
  assert.equal((await run("cp.ts", ["x"])).status, 2);
});
