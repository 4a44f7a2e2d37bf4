/** readFiles: everything once, bounded, and ended early. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import * as fs from "../../src/fs/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { digest, failure } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

const COUNT = 500;

function files(dir: TempDir): string[] {
  return Array.from({ length: COUNT }, (_, i) => {
    writeFileSync(dir.of(`f${i}`), content(i === 7 ? 200_000 : i * 13, i));
    return dir.of(`f${i}`);
  });
}

test("readFiles: each path once, with its content or its error", async () => {
  using dir = new TempDir();
  const paths = files(dir);
  const odd = [dir.of("none"), dir.path, "/proc/version"];
  const seen = new Map<string, fs.FileResult<Buffer, string>>();
  for await (const result of fs.readFiles([...paths, ...odd, ...paths.slice(0, 3)])) {
    seen.set(result.path, result);
  }
  assert.equal(seen.size, COUNT + 3);
  for (const [i, path] of paths.entries()) {
    const { data, error } = seen.get(path)!;
    assert.equal(error, undefined);
    assert.equal(digest(data!), digest(content(i === 7 ? 200_000 : i * 13, i)), path);
  }
  assert.equal(
    seen.get(dir.of("none"))!.error!.message,
    `ENOENT: no such file or directory, open '${dir.of("none")}'`,
  );
  assert.equal(seen.get(dir.path)!.error!.code, "EISDIR");
  assert.match(seen.get("/proc/version")!.data!.toString(), /^Linux/);
});

test("readFiles: nothing to read; text; async sources", async () => {
  using dir = new TempDir();
  files(dir);
  for await (const _ of fs.readFiles([])) assert.fail("there is nothing");
  let count = 0;
  for await (const { path, data } of fs.readFiles(fs.glob(`${dir.path}/f1*`), "latin1")) {
    const i = Number(path.slice(dir.path.length + 2));
    assert.equal(data, Buffer.from(content(i * 13, i)).toString("latin1"));
    count++;
  }
  assert.equal(count, 111);
});

test("readFiles: no more is read than is taken", async () => {
  using dir = new TempDir();
  const paths = files(dir);
  let asked = 0;
  function* source(): Generator<string> {
    for (const path of paths) {
      asked++;
      yield path;
    }
  }
  let taken = 0;
  for await (const { data } of fs.readFiles(source(), { concurrency: 10 })) {
    assert.ok(data !== undefined);
    taken++;
    assert.ok(asked <= taken + 10, `${asked} paths were asked for when ${taken} files were taken`);
    if (taken % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(taken, COUNT);
});

test("readFiles: ended early by break, by a signal, by a failing source", async () => {
  using dir = new TempDir();
  const paths = files(dir);
  let returned = false;
  function* source(): Generator<string> {
    try {
      yield* paths;
    } finally {
      returned = true;
    }
  }
  for await (const _ of fs.readFiles(source())) break;
  assert.ok(returned);
  const stop = new AbortController();
  let taken = 0;
  const aborted = await failure((async () => {
    for await (const _ of fs.readFiles(paths, { signal: stop.signal })) if (++taken === 20) stop.abort();
  })());
  assert.deepEqual([aborted.name, taken], ["AbortError", 20]);
  const before = await failure(fs.readFiles(paths, { signal: AbortSignal.abort() }).next());
  assert.equal(before.name, "AbortError");
  async function* failing(): AsyncGenerator<string> {
    yield paths[0]!;
    await Promise.resolve();
    throw new Error("no more");
  }
  const failed = await failure((async () => {
    for await (const _ of fs.readFiles(failing()));
  })());
  assert.equal(failed.message, "no more");
});

test("readFiles: wrong arguments", async () => {
  for (const options of [{ concurrency: 0 }, { concurrency: 1.5 }, { encoding: "x" }, { signal: {} }]) {
    await failure(fs.readFiles([], options as never).next());
  }
  await failure(fs.readFiles([5 as never]).next());
});
