/** The write-ahead log: what was acknowledged is there after any crash, and what is torn is not. */
import assert from "node:assert/strict";
import { appendFileSync, existsSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import process from "node:process";
import { Wal } from "../../examples/wal.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { Random } from "../support/random.ts";
import { run, start } from "./programs.ts";

checkLeaks({ sharedRings: 1 });

// The suite runs four times (two runtimes, with liburing and without): together at least 200.
const KILLS = 50;
const LINES = 4000;
const SECTOR_KILLS = 10;
const SECTOR = 4096;
/** What a record has before its payload. */
const HEADER = 8;

async function recover(log: string): Promise<string[]> {
  const { status, out, err } = await run("wal.ts", [log, "recover"]);
  assert.equal(status, 0, err);
  return out.toString().split("\n").slice(0, -1);
}

/** Without a process of its own, which takes longer than the recovery. */
async function recoverHere(log: string): Promise<string[]> {
  const { wal, records } = await Wal.open(log);
  await using _ = wal;
  return records.map((record) => new TextDecoder().decode(record));
}

test("wal.ts: appends, recovers, goes on", async () => {
  using dir = new TempDir();
  const log = dir.of("log");
  const first = await run("wal.ts", [log, "append"], Buffer.from("one\n\nzwölf\n"));
  assert.deepEqual([first.status, first.out.toString()], [0, "0\n1\n2\n"]);
  assert.equal((await run("wal.ts", [log, "append"], Buffer.from("last, without a newline"))).status, 0);
  assert.deepEqual(await recover(log), ["one", "", "zwölf", "last, without a newline"]);
});

test("wal.ts: a torn or a wrong end is cut off, wherever it is torn", async () => {
  using dir = new TempDir();
  const [log, torn] = [dir.of("log"), dir.of("torn")];
  await run("wal.ts", [log, "append"], Buffer.from("one\ntwo\nthree\n"));
  const bytes = readFileSync(log);
  const two = 8 + 3 + 8 + 3;
  for (const length of [two, two + 1, two + 7, two + 8, bytes.length - 1]) {
    writeFileSync(torn, bytes);
    truncateSync(torn, length);
    assert.deepEqual(await recover(torn), ["one", "two"], `${length} bytes`);
    assert.equal(statSync(torn).size, two);
  }
  bytes[bytes.length - 1]! ^= 1;
  writeFileSync(torn, bytes);
  assert.deepEqual(await recover(torn), ["one", "two"]);
  appendFileSync(torn, Buffer.alloc(4096));
  assert.deepEqual(await recover(torn), ["one", "two"], "zeros are no records");
});

/** Has a log written and killed in the middle, and looks at what is left; gives how many records were acknowledged. */
async function killed(dir: TempDir, random: Random, name: string, lines: readonly string[]): Promise<number> {
  const log = dir.of(name);
  const { child, ended } = start("wal.ts", log, "append");
  child.stdin.on("error", () => {});
  child.stdin.write(lines.join("\n"));
  const delay = random.below(40);
  // Deno's child.kill() closes the pipes first: the half of a line that was there by then would count as the last line.
  child.stdout.once("data", () => setTimeout(() => process.kill(child.pid!, "SIGKILL"), delay));
  const { status, out } = await ended;
  assert.equal(status, "SIGKILL");
  const numbers = out.toString().split("\n").slice(0, -1).map(Number);
  assert.ok(numbers.length > 0 && existsSync(log));
  const records = await recoverHere(log);
  for (const number of numbers) assert.equal(records[number], lines[number], `${name}, record ${number}`);
  // Whatever else is there is whole, and in order.
  records.forEach((record, n) => assert.equal(record, lines[n]));
  return numbers.length;
}

test(`wal.ts: killed ${KILLS} times in the middle, it loses nothing that it has acknowledged`, async () => {
  using dir = new TempDir();
  const random = new Random(2026);
  let acknowledged = 0;
  for (let i = 0; i < KILLS; i++) {
    const lines = Array.from({ length: LINES }, (_, n) => `${n} ${"x".repeat(random.below(200))}`);
    acknowledged += await killed(dir, random, `log${i}`, lines);
  }
  assert.ok(acknowledged > KILLS);
});

test(`wal.ts: killed ${SECTOR_KILLS} times while it writes whole sectors`, async () => {
  using dir = new TempDir();
  const random = new Random(4096);
  const lines = Array.from({ length: 1500 }, (_, n) => `${n} `.padEnd(SECTOR - HEADER, String(n % 10)));
  for (let i = 0; i < SECTOR_KILLS; i++) {
    assert.ok(await killed(dir, random, `sectors${i}`, lines) > 0);
  }
});
