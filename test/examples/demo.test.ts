import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { appendFileSync, chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { linkSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { Uring } from "uring";
import type { Result } from "../../examples/demo/reader.ts";
import { parseSummary } from "../../examples/demo/trace.ts";
import { walk } from "../../examples/demo/tree.ts";
import { Verifier } from "../../examples/demo/verdict.ts";
import { readAll, waysHere } from "../../examples/demo/ways.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

const DEMO = fileURLToPath(new URL("../../scripts/demo", import.meta.url));
const ROOT = process.getuid?.() === 0;
const scratch = mkdtempSync(join(tmpdir(), "uring-demo-test-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

interface Ended {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

function demo(...args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(DEMO, [...args], { encoding: "utf8" }, (error, out, err) => {
      resolve({ status: error === null ? 0 : Number(error.code), out, err });
    });
  });
}

function makeTree(name: string): string {
  const root = join(scratch, name);
  mkdirSync(join(root, "a", "b"), { recursive: true });
  writeFileSync(join(root, "empty"), "");
  writeFileSync(join(root, "a", "text ü.txt"), "text");
  writeFileSync(join(root, "a", "b", "chunk"), new Uint8Array(128 * 1024).fill(1));
  writeFileSync(join(root, "a", "b", "large"), new Uint8Array(300_001).fill(2));
  for (let i = 0; i < 200; i++) writeFileSync(join(root, "a", `${i}`), `file ${i}`.repeat(i));
  linkSync(join(root, "a", "1"), join(root, "z"));
  symlinkSync("nowhere", join(root, "dangling"));
  symlinkSync("..", join(root, "a", "loop"));
  return root;
}

const mkfifo = (path: string): Promise<void> =>
  new Promise((resolve, reject) => execFile("mkfifo", [path], (error) => error ? reject(error) : resolve()));

test("scripts/demo reads a tree under both runtimes, and skips what is no regular file", async () => {
  const root = makeTree("tree");
  await mkfifo(join(root, "fifo"));
  const locked = join(root, "locked");
  writeFileSync(locked, "secret");
  chmodSync(locked, 0);
  const { status, out, err } = await demo(root);
  assert.equal(status, 0, out + err);
  // Root may read everything.
  const readable = ROOT ? 205 : 204;
  assert.match(out, /^205 files \(/);
  assert.match(out, new RegExp(`^${readable} of 205 digests agree in all 10 readings$`, "m"));
  if (!ROOT) assert.match(out, new RegExp(`^  ${locked}: EACCES$`, "m"));
  for (const name of ["Bun", "Deno"]) assert.match(out, new RegExp(`^${name} \\d.* files/s +MB/s`, "m"));
  assert.equal(out.match(/^ {4}uring +[\d,]+ +[\d,]+ +1\.00×/gm)?.length, 8);
  assert.match(out, /^ {4}Bun\.file\(\)\.bytes\(\) /m);
  assert.match(out, /^ {4}Deno\.readFile /m);
  assert.match(out, /uring\.stats\.enters\) when not traced: [1-9]\d* under Bun/);
  // No terminal: one line a stage, nothing rewritten.
  assert.match(err, /^Bun .*: reading, cached$/m);
  assert.ok(!err.includes("\r") && !err.includes("\x1b"));
});

// A tree whose files have no size, and one of which nobody may read, not even root.
const FLUSH = "/proc/sys/net/ipv4/route";
test("a file that cannot be read is reported and does not stop the demo", {
  skip: firstReason(!existsSync(join(FLUSH, "flush")) && `there is no ${FLUSH}`),
}, async () => {
  const { status, out, err } = await demo(FLUSH);
  assert.equal(status, 0, out + err);
  assert.match(out, /^files that were not compared:$/m);
  assert.match(out, /^ {2}\/proc\/sys\/net\/ipv4\/route\/flush: EACCES$/m);
});

test("a missing directory, an empty one, a file, too many arguments", async () => {
  const empty = join(scratch, "empty");
  mkdirSync(join(empty, "below"), { recursive: true });
  const missing = join(scratch, "missing");
  const file = join(scratch, "file");
  writeFileSync(file, "");
  const cases: readonly (readonly [readonly string[], number, string])[] = [
    [[missing], 1, `demo: cannot read ${missing}: ENOENT\n`],
    [[empty], 1, `demo: there are no files under ${empty}\n`],
    [[file], 1, `demo: ${file} is not a directory\n`],
    [[empty, empty], 2, "usage: scripts/demo [directory]\n"],
  ];
  for (const [args, status, message] of cases) {
    const ended = await demo(...args);
    assert.deepEqual([ended.status, ended.err], [status, message]);
  }
});

test("every way reads all there is, and reports what vanished after the listing", async () => {
  const root = makeTree("vanishing");
  const { paths, small, bytes } = walk(root);
  assert.equal(paths.length, 204);
  assert.equal(small.length, 202);
  assert.equal(bytes, paths.reduce((sum, path) => sum + statSync(path).size, 0));
  const gone = join(root, "a", "5");
  rmSync(gone);
  await using uring = new Uring();
  for (const way of waysHere(uring)) {
    const sizes = new Map<number, number>();
    const pass = await readAll(way, paths, {
      open: (index) => (piece) => sizes.set(index, (sizes.get(index) ?? 0) + piece.length),
    });
    assert.deepEqual(pass.failures, [{ index: paths.indexOf(gone), message: "ENOENT" }], way.id);
    assert.equal(pass.files, paths.length - 1, way.id);
    paths.forEach((path, index) => {
      if (path !== gone) assert.equal(sizes.get(index) ?? 0, statSync(path).size, `${way.id} ${path}`);
    });
  }
});

test("digests that differ are a fault, unless the file changed", async () => {
  const still = join(scratch, "still");
  const changing = join(scratch, "changing");
  const vanishing = join(scratch, "vanishing-one");
  const unreadable = join(scratch, "unreadable");
  for (const path of [still, changing, vanishing, unreadable]) writeFileSync(path, "x");
  await new Promise((resolve) => setTimeout(resolve, 50));
  const verifier = new Verifier([still, changing, vanishing, unreadable, still], Date.now());
  const result = (digests: (string | null)[], ...failed: number[]): Result => ({
    ...{ seconds: 1, files: 1, bytes: 1, enters: 1, digests },
    failures: failed.map((index) => ({ index, message: "EIO" })),
  });
  verifier.add("one", result(["a", "a", "a", null, "s"], 3));
  appendFileSync(changing, "y");
  rmSync(vanishing);
  verifier.add("two", result(["b", "b", null, null, "s"], 2, 3));
  assert.deepEqual(verifier.verdict(), {
    agreed: 1,
    reports: [
      `${changing}: changed while it was being read`,
      `${vanishing}: gone while it was being read (ENOENT)`,
      `${unreadable}: EIO`,
    ],
    faults: [`${still}: the digests differ`],
  });
});

test("the summary of strace is added up without calls for memory and threads", () => {
  const summary = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           6       100           io_uring_enter
 30.00    0.000300           3        90        20 openat
 10.00    0.000100           1        70           futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           3       260        20 total
`;
  assert.equal(parseSummary(summary), 190);
});
