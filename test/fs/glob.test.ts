/** glob: the patterns and what they find. */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import * as fs from "../../src/fs/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { failure } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

const FILES = [
  "a.ts",
  "b.js",
  ".hidden",
  "[odd]",
  "x*y",
  "src/a.ts",
  "src/b.tsx",
  "src/deep/c.ts",
  "src/deep/er/d.ts",
  "src/deep/er/.dot/e.ts",
  "test/a.test.ts",
  "1",
  "2",
  "3",
  "10",
];

function tree(dir: TempDir): void {
  for (const file of FILES) {
    mkdirSync(dir.of(file.split("/").slice(0, -1).join("/") || "."), { recursive: true });
    writeFileSync(dir.of(file), "");
  }
  symlinkSync("src", dir.of("link"));
  symlinkSync("..", dir.of("src/up"));
}

async function all<T>(iterable: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of iterable) found.push(one);
  return found;
}

const CASES: readonly (readonly [string | string[], string[]])[] = [
  ["*.ts", ["a.ts"]],
  ["*", [".hidden", "1", "10", "2", "3", "[odd]", "a.ts", "b.js", "link", "src", "test", "x*y"]],
  ["src/*.ts", ["src/a.ts"]],
  ["src/*.{ts,tsx}", ["src/a.ts", "src/b.tsx"]],
  ["**/*.ts", [
    "a.ts",
    "src/a.ts",
    "src/deep/c.ts",
    "src/deep/er/.dot/e.ts",
    "src/deep/er/d.ts",
    "test/a.test.ts",
  ]],
  ["src/**/d.ts", ["src/deep/er/d.ts"]],
  ["src/deep/**", [
    "src/deep",
    "src/deep/c.ts",
    "src/deep/er",
    "src/deep/er/.dot",
    "src/deep/er/.dot/e.ts",
    "src/deep/er/d.ts",
  ]],
  ["?.js", ["b.js"]],
  ["[ab].[tj]s", ["a.ts", "b.js"]],
  ["[!a].[tj]s", ["b.js"]],
  ["[[:digit:]]", ["1", "2", "3"]],
  ["{1..3}", ["1", "2", "3"]],
  ["{3..1}", ["1", "2", "3"]],
  ["\\[odd\\]", ["[odd]"]],
  ["[[]odd]", ["[odd]"]],
  ["x\\*y", ["x*y"]],
  ["{a.ts,b.js,none}", ["a.ts", "b.js"]],
  ["{a,{b,c}}.{ts,js}", ["a.ts", "b.js"]],
  ["{a.ts", []],
  ["link/a.ts", ["link/a.ts"]],
  ["link/*.ts", ["link/a.ts"]],
  ["src/up/a.ts", ["src/up/a.ts"]],
  ["./a.ts", ["./a.ts"]],
  ["src/../a.ts", ["src/../a.ts"]],
  ["none/*", []],
  ["a.ts/*", []],
  [["*.js", "a.*", "*.ts"], ["a.ts", "b.js"]],
];

test("glob: patterns", async () => {
  using dir = new TempDir();
  tree(dir);
  for (const [pattern, expected] of CASES) {
    assert.deepEqual((await all(fs.glob(pattern, { cwd: dir.path }))).sort(), expected, String(pattern));
  }
});

test("glob: absolute patterns, URLs, everything", async () => {
  using dir = new TempDir();
  tree(dir);
  assert.deepEqual(await all(fs.glob(`${dir.path}/*.js`)), [dir.of("b.js")]);
  assert.deepEqual(await all(fs.glob("*.js", { cwd: pathToFileURL(dir.path) })), ["b.js"]);
  const everything = await all(fs.glob("**", { cwd: dir.path }));
  assert.ok(everything.includes(".") && everything.includes("src/deep/er/.dot/e.ts"));
  assert.ok(
    !everything.some((path) => path.startsWith("link/") || path.startsWith("src/up/")),
    "links are not followed",
  );
});

test("glob: exclude, by patterns and by a function; Dirents; links followed when asked for", async () => {
  using dir = new TempDir();
  tree(dir);
  const without = await all(fs.glob("**/*.ts", { cwd: dir.path, exclude: ["src/deep/**", "test"] }));
  assert.deepEqual(without.sort(), ["a.ts", "src/a.ts"]);
  const asked: string[] = [];
  const chosen = await all(fs.glob("**/*.ts", {
    cwd: dir.path,
    exclude: (path: string) => {
      asked.push(path);
      return path === "src";
    },
  }));
  assert.deepEqual(chosen.sort(), ["a.ts", "test/a.test.ts"]);
  assert.ok(!asked.some((path) => path.startsWith("src/")));
  const entries = await all(fs.glob("src/*.ts", { cwd: dir.path, withFileTypes: true }));
  assert.deepEqual(entries.map(({ name, parentPath }) => [name, parentPath]), [["a.ts", dir.of("src")]]);
  assert.ok(entries[0]!.isFile());
  mkdirSync(dir.of("one"));
  symlinkSync("../test", dir.of("one/two"));
  assert.deepEqual(await all(fs.glob("one/**/*.ts", { cwd: dir.path })), []);
  const followed = await all(fs.glob("one/**/*.ts", { cwd: dir.path, followSymlinks: true }));
  assert.deepEqual(followed, ["one/two/a.test.ts"]);
});

test("glob: ends early, and refuses what is no pattern", async () => {
  using dir = new TempDir();
  tree(dir);
  for await (const _ of fs.glob("**/*", { cwd: dir.path })) break;
  const error = await failure(all(fs.glob(5 as never))) as Error & { code: string };
  assert.equal(error.code, "ERR_INVALID_ARG_TYPE");
});
