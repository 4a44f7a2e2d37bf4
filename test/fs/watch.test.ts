/** watch: what changes is told, and nothing is left open. */
import assert from "node:assert/strict";
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import * as fs from "../../src/fs/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { within } from "../support/loop.ts";
import { countDescriptors, failure } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

/** How many files and directories this process watches. */
function watches(): number {
  let count = 0;
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      if (!readlinkSync(`/proc/self/fd/${fd}`).includes("inotify")) continue;
      count += readFileSync(`/proc/self/fdinfo/${fd}`, "utf8").match(/^inotify wd:/gm)?.length ?? 0;
    } catch {
      // Closed since its name was read.
    }
  }
  return count;
}

/** Waits until that many are watched: what changes before is not told. */
async function watched(count: number): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (watches() < count) {
    assert.ok(performance.now() < deadline, `${watches()} are watched, not ${count}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Changes until `enough` of them are there, once `count` files and directories are watched. */
async function changes(
  path: string,
  options: fs.WatchOptions,
  count: number,
  act: () => void,
  enough: (seen: string[]) => boolean,
): Promise<string[]> {
  const before = watches();
  const watching = fs.watch(path, options as fs.WatchOptions & { encoding?: undefined });
  const seen: string[] = [];
  // It watches from the first `next()` on.
  const first = watching.next();
  await watched(before + count);
  act();
  for (let next = await within(first, "watch"); !next.done; next = await within(watching.next(), "watch")) {
    seen.push(`${next.value.eventType} ${next.value.filename}`);
    if (enough(seen)) break;
  }
  await watching.return(undefined);
  return seen;
}

test("watch: a directory", async () => {
  using dir = new TempDir();
  const before = countDescriptors(/inotify/);
  const seen = await changes(dir.path, {}, 1, () => {
    writeFileSync(dir.of("grüße"), "x");
    renameSync(dir.of("grüße"), dir.of("b"));
    rmSync(dir.of("b"));
  }, (seen) => seen.filter((one) => one === "rename b").length === 2);
  assert.equal(seen[0], "rename grüße");
  assert.ok(seen.includes("change grüße"));
  assert.equal(countDescriptors(/inotify/), before);
});

test("watch: a file", async () => {
  using dir = new TempDir();
  const path = dir.of("file");
  writeFileSync(path, "");
  const seen = await changes(path, {}, 1, () => appendFileSync(path, "x"), (seen) => seen.length > 0);
  assert.deepEqual(seen, ["change file"]);
});

test("watch: everything below, also what is made later", async () => {
  using dir = new TempDir();
  mkdirSync(dir.of("a/b"), { recursive: true });
  const seen = await changes(dir.path, { recursive: true }, 3, () => {
    writeFileSync(dir.of("a/b/c"), "");
    mkdirSync(dir.of("new/deep"), { recursive: true });
    writeFileSync(dir.of("new/deep/file"), "");
  }, (seen) => seen.includes("rename a/b/c") && seen.includes("rename new/deep/file"));
  assert.ok(seen.includes("rename new"), seen.join());
});

test("watch: what is left out", async () => {
  using dir = new TempDir();
  mkdirSync(dir.of("sub/node_modules/x"), { recursive: true });
  const names = ["a.txt", ".b.txt", "sub/a.txt", "sub/.h", "c.md"];
  const cases: readonly (readonly [fs.WatchOptions["ignore"], number, string])[] = [
    // Three directories and the watched one; what is left out is not watched.
    ["*.txt", 4, ".b.txt sub/.h c.md"],
    ["sub/*.txt", 4, "a.txt .b.txt sub/.h c.md"],
    ["**/*.txt", 4, ".b.txt sub/.h c.md"],
    ["node_modules", 2, "a.txt .b.txt sub/a.txt sub/.h c.md"],
    ["**/node_modules/**", 3, "a.txt .b.txt sub/a.txt sub/.h c.md"],
    ["sub/**", 2, "a.txt .b.txt sub/.h c.md"],
    ["{a,b}.txt", 4, ".b.txt sub/.h c.md"],
    [/a/, 4, ".b.txt sub/.h c.md"],
    [(name: string) => name === "a.txt", 4, ".b.txt sub/a.txt sub/.h c.md"],
    [["*.md", /^sub/], 1, "a.txt .b.txt"],
  ];
  for (const [ignore, count, expected] of cases) {
    const seen = await changes(dir.path, { recursive: true, ignore }, count, () => {
      for (const name of names) writeFileSync(dir.of(name), "");
      writeFileSync(dir.of("end"), "");
    }, (seen) => seen.includes("rename end"));
    const told = seen.filter((one) => one.startsWith("rename ")).map((one) => one.slice("rename ".length));
    assert.deepEqual(told, [...expected.split(" "), "end"], String(ignore));
    for (const name of [...names, "end"]) rmSync(dir.of(name));
  }
  for (const [ignore, code] of [["", "VALUE"], [5, "TYPE"], [[null], "TYPE"], [[""], "VALUE"]] as const) {
    const error = await failure(fs.watch(dir.path, { ignore: ignore as never }).next());
    assert.equal(error.code, `ERR_INVALID_ARG_${code}`);
  }
});

test("watch: names as bytes, and aborting", async () => {
  using dir = new TempDir();
  const before = countDescriptors(/inotify/);
  const stop = new AbortController();
  const watching = fs.watch(dir.path, { encoding: "buffer", signal: stop.signal });
  const first = watching.next();
  await watched(1);
  writeFileSync(dir.of("x"), "");
  assert.deepEqual((await within(first, "watch")).value!.filename, Buffer.from("x"));
  stop.abort(new Error("enough"));
  const error = await failure((async () => {
    for await (const _ of watching);
  })());
  assert.equal(error.name, "AbortError");
  const early = await failure(fs.watch(dir.path, { signal: AbortSignal.abort() }).next());
  assert.equal(early.name, "AbortError");
  assert.equal(countDescriptors(/inotify/), before);
});

test("watch: errors", async () => {
  using dir = new TempDir();
  const none = await failure(fs.watch(dir.of("none")).next());
  assert.equal(none.message, `ENOENT: no such file or directory, watch '${dir.of("none")}'`);
  for (const options of [{ maxQueue: -1 }, { overflow: "x" }, { encoding: "x" }]) {
    const error = await failure(fs.watch(dir.path, options as never).next()) as Error & { code: string };
    assert.match(error.code, /^ERR_(OUT_OF_RANGE|INVALID_ARG_VALUE)$/);
  }
});

test("watch: too many events are dropped, or thrown", async () => {
  using dir = new TempDir();
  const burst = (): void => {
    for (let i = 0; i < 50; i++) writeFileSync(dir.of(`f${i}`), "");
  };
  const seen = await changes(dir.path, { maxQueue: 5 }, 1, burst, (seen) => seen.length === 5);
  assert.equal(seen.length, 5);
  const watching = fs.watch(dir.path, { maxQueue: 5, overflow: "throw" });
  const first = watching.next();
  await watched(1);
  for (let i = 0; i < 50; i++) writeFileSync(dir.of(`g${i}`), "");
  const error = await failure((async () => {
    await first;
    for await (const _ of watching);
  })()) as Error & { code: string };
  assert.equal(error.code, "ERR_FS_WATCH_QUEUE_OVERFLOW");
});
