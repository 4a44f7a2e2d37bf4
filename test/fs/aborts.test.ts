/** Aborting at any moment: what was asked for settles, nothing is left open, and what is written is whole or a beginning. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import * as fs from "../../src/fs/mod.ts";
import { Uring, UringError } from "../../src/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { within } from "../support/loop.ts";
import { countDescriptors } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

const SIZE = 300_000;
const DATA = content(SIZE);

/** From the very turn on in which something is asked for until it has probably ended. */
const MOMENTS: readonly (() => Promise<unknown> | undefined)[] = [
  () => undefined,
  ...Array.from({ length: 8 }, (_, i) => async () => {
    for (let j = 0; j <= i; j++) await null;
  }),
  ...Array.from({ length: 4 }, (_, i) => async () => {
    for (let j = 0; j <= i; j++) await new Promise((resolve) => setImmediate(resolve));
  }),
  ...[1, 2, 4].map((ms) => () => new Promise((resolve) => setTimeout(resolve, ms))),
];

/** How it ended: `"done"`, or `"aborted"` in one of the two ways in which that is told; anything else is thrown. */
async function ending(
  work: Promise<unknown>,
  signal: AbortSignal,
  what: string,
): Promise<"done" | "aborted"> {
  try {
    await within(work, what);
    return "done";
  } catch (error) {
    if (signal.aborted && (error === signal.reason || (error as Error).name === "AbortError")) {
      return "aborted";
    }
    throw error;
  }
}

async function drained(all: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of all);
}

/** A descriptor of a file whose opening was aborted may be on its way to being closed. */
async function assertClosed(what: string, path: string, before: number): Promise<void> {
  const pattern = new RegExp(path);
  const deadline = performance.now() + 10_000;
  while (countDescriptors(pattern) > before) {
    assert.ok(performance.now() < deadline, `${what} has left something open`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Does it, and aborts it, at every moment. */
async function atEveryMoment(
  dir: TempDir,
  what: string,
  start: (signal: AbortSignal) => Promise<unknown>,
  after: (ended: "done" | "aborted") => void = () => {},
): Promise<void> {
  const before = countDescriptors(new RegExp(dir.path));
  let aborted = 0;
  for (const [i, moment] of MOMENTS.entries()) {
    const stop = new AbortController();
    const work = start(stop.signal);
    work.catch(() => {});
    await moment();
    stop.abort(new Error(`moment ${i}`));
    const ended = await ending(work, stop.signal, `${what}, moment ${i}`);
    if (ended === "aborted") aborted++;
    after(ended);
    await assertClosed(`${what}, moment ${i}`, dir.path, before);
  }
  assert.ok(aborted > 0, `${what} was never aborted`);
}

test("abort: whole files", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), DATA);
  const [path, to] = [dir.of("file"), dir.of("to")];
  await atEveryMoment(dir, "readFile", (signal) => fs.readFile(path, { signal }));
  await atEveryMoment(dir, "stat", (signal) => fs.stat(path, { signal }));
  await atEveryMoment(dir, "lstat", (signal) => fs.lstat(path, { signal }));
  const beginning = (ended: "done" | "aborted"): void => {
    const written = existsSync(to) ? readFileSync(to) : new Uint8Array(0);
    assert.deepEqual(
      Buffer.compare(written, DATA.subarray(0, written.length)),
      0,
      "a beginning of what was to be",
    );
    if (ended === "done") assert.equal(written.length, SIZE);
    rmSync(to, { force: true });
  };
  await atEveryMoment(dir, "writeFile", (signal) => fs.writeFile(to, DATA, { signal }), beginning);
  const pieces = function* (): Generator<Uint8Array> {
    for (let at = 0; at < SIZE; at += 50_000) yield DATA.subarray(at, at + 50_000);
  };
  await atEveryMoment(
    dir,
    "writeFile",
    (signal) => fs.writeFile(to, pieces(), { signal, flush: true }),
    beginning,
  );
  await atEveryMoment(dir, "appendFile", (signal) => fs.appendFile(to, DATA, { signal }), beginning);
});

test("abort: open files and their streams", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), DATA);
  const opened =
    (use: (file: fs.FileHandle, signal: AbortSignal) => Promise<unknown>) =>
    async (signal: AbortSignal): Promise<void> => {
      await using file = await fs.open(dir.of("file"), "r+");
      await use(file, signal);
    };
  const uses: Readonly<Record<string, (file: fs.FileHandle, signal: AbortSignal) => Promise<unknown>>> = {
    "readFile": (file, signal) => file.readFile({ signal }),
    "writeFile": (file, signal) => file.writeFile(DATA, { signal }),
    "stat": (file, signal) => file.stat({ signal }),
    "createReadStream": (file, signal) => drained(file.createReadStream({ signal })),
    "pull": (file, signal) => drained(file.pull({ signal })),
    "pipeTo": (file, signal) => file.readableWebStream().pipeTo(new WritableStream(), { signal }),
  };
  for (const [what, use] of Object.entries(uses)) await atEveryMoment(dir, what, opened(use));
  assert.equal(Buffer.compare(readFileSync(dir.of("file")), DATA), 0);
});

test("abort: many files, and watching", async () => {
  using dir = new TempDir();
  const paths = Array.from({ length: 100 }, (_, i) => dir.of(`f${i}`));
  for (const path of paths) writeFileSync(path, DATA.subarray(0, 100_000));
  await atEveryMoment(dir, "readFiles", (signal) => drained(fs.readFiles(paths, { signal })));
  await atEveryMoment(dir, "watch", (signal) => fs.watch(dir.path, { signal }).next());
});

test("abort: what changes names has done so or has not", async () => {
  using dir = new TempDir();
  const [from, to] = [dir.of("from"), dir.of("to")];
  writeFileSync(from, "content");
  const uring = Uring.shared;
  const missing = (error: unknown): void => {
    if (!(error instanceof UringError) || error.code !== "ENOENT") throw error;
  };
  await atEveryMoment(dir, "renameat", (signal) => uring.renameat(from, to, { signal }), (ended) => {
    assert.notEqual(existsSync(from), existsSync(to));
    if (ended === "done") assert.ok(existsSync(to));
    assert.equal(readFileSync(existsSync(to) ? to : from, "utf8"), "content");
    rmSync(from, { force: true });
    rmSync(to, { force: true });
    writeFileSync(from, "content");
  });
  await atEveryMoment(dir, "openat", async (signal) => {
    await uring.close(await uring.openat(to, { flags: "w", signal }));
  }, () => rmSync(to, { force: true }));
  await atEveryMoment(dir, "mkdirat", (signal) => uring.mkdirat(to, { signal }), (ended) => {
    if (ended === "done") assert.ok(existsSync(to));
    rmSync(to, { recursive: true, force: true });
  });
  mkdirSync(to);
  await atEveryMoment(
    dir,
    "unlinkat",
    (signal) => uring.unlinkat(from, { signal }).catch(missing),
    (ended) => {
      if (ended === "done") assert.ok(!existsSync(from));
      writeFileSync(from, "content");
    },
  );
});
