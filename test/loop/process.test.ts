/** How programs end that use the loop: by themselves, at once, with the right exit code. */
import assert from "node:assert/strict";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { type Ended, fixture, output, run } from "../support/program.ts";

checkLeaks();

const PROGRAM = fixture("process.ts");

// What is in flight in these programs would take ten minutes: that they end at all is that they end early.

test("a program without work in flight ends by itself, its ring never closed", async () => {
  assert.equal(await output(PROGRAM, ["nothing in flight"]), "");
});

test("a program that awaits an operation stays alive, sleeps, and ends", async () => {
  assert.equal(await output(PROGRAM, ["sleeps"]), "slept, woken true\n");
});

test("a program that has slept ends when its last operation has", async () => {
  assert.equal(await output(PROGRAM, ["slept before"]), "done\n");
});

test("an operation that nobody awaits keeps the program alive", async () => {
  assert.equal(await output(PROGRAM, ["nobody awaits"]), "done\n");
});

test("unref() lets a program end with work in flight", async () => {
  assert.equal(await output(PROGRAM, ["unref"]), "unreferenced\n");
});

test("unref() lets a program end that sleeps already", async () => {
  assert.equal(await output(PROGRAM, ["unref asleep"]), "unreferenced\n");
});

test("an unreferenced ring does not keep another one's program from ending", async () => {
  assert.equal(await output(PROGRAM, ["unref one of two"]), "done\n");
});

test("ref() takes unref() back while asleep", async () => {
  assert.equal(await output(PROGRAM, ["ref again"]), "done\n");
});

test("unreferenced work settles as long as something else keeps the program alive", async () => {
  assert.equal(await output(PROGRAM, ["unref completes"]), "done\n");
});

for (const name of ["exit", "exit asleep", "exit in a completion"]) {
  test(`process.exit() in the middle of I/O: ${name}`, async () => {
    const { code, signal, stdout, stderr } = await run(PROGRAM, [name]);
    assert.deepEqual({ code, signal, stdout }, { code: 7, signal: null, stdout: "exiting\n" }, stderr);
  });
}

test("an uncaught exception in the middle of I/O", async () => {
  const { code, signal, stdout, stderr } = await run(PROGRAM, ["uncaught exception"]);
  assert.deepEqual({ code, signal, stdout }, { code: 1, signal: null, stdout: "" }, stderr);
  assert.match(stderr, /on purpose/);
});

test("an uncaught rejection in the middle of I/O", async () => {
  const { code, signal, stdout, stderr } = await run(PROGRAM, ["uncaught rejection"]);
  assert.deepEqual({ code, signal, stdout }, { code: 1, signal: null, stdout: "" }, stderr);
  assert.match(stderr, /EBADF/);
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  test(`${signal} ends a program that sleeps`, async () => {
    const ended: Ended = await run(PROGRAM, ["waits for a signal"], {
      onLine: (line, kill) => line === "asleep" && kill(signal),
    });
    assert.deepEqual([ended.code, ended.signal], [null, signal], ended.stderr);
    assert.equal(ended.stdout, "asleep\n");
  });
}

test("a ring with work in flight is not collected: every promise settles", async () => {
  assert.equal(await output(PROGRAM, ["dropped with work in flight"]), "settled 5\n");
});
