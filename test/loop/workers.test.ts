/** A ring in each of several threads, and threads that end. In a process of its own: a thread's waker outlives it. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { fixture, output } from "../support/program.ts";

checkLeaks();

const SIZE = 1 << 20;
const THREADS = 4;

interface Answer {
  readonly which: number;
  readonly count: number;
  readonly error?: string;
}

/** Runs a program of threads; for Deno, the file of a thread's code has to be readable. */
async function answers(name: string, path = ""): Promise<Answer[]> {
  const permissions = ["--allow-ffi", "--allow-read"];
  const lines = await output(fixture("workers.ts"), [name, path], { permissions });
  return lines.trim().split("\n").map((line) => JSON.parse(line));
}

test(`a ring in each of ${THREADS} threads and one in the first: nothing is lost or mixed up`, async () => {
  using dir = new TempDir();
  const path = dir.of("file");
  for (let i = 0; i <= THREADS; i++) writeFileSync(`${path}${i}`, content(SIZE, i));
  const expected = Array.from({ length: THREADS }, (_, which) => ({ which, count: 5000 }));
  assert.deepEqual(await answers("reads", path), expected);
});

test("each thread has a waker of its own", async () => {
  const woken = await answers("sleeps");
  assert.equal(woken.length, THREADS);
  for (const { count, error } of woken) assert.ok(count > 0, String(error));
});

test("threads that are terminated with work in flight disturb nobody", async () => {
  const pending = await answers("terminated");
  assert.equal(pending.length, THREADS);
  for (const { count, error } of pending) assert.equal(count, 500, String(error));
});
