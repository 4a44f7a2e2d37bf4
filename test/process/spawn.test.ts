/** Programs that are started: what they see, how they end, what comes through their pipes, and what is left behind. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import process from "node:process";
import { ChildProcess, spawn, type SpawnOptions } from "../../src/process/mod.ts";
import { UringError } from "../../src/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { until, within } from "../support/loop.ts";
import { countDescriptors } from "../support/operations.ts";
import { fixture, run } from "../support/program.ts";

checkLeaks({ sharedRings: 2 });

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

async function output(command: string, args: string[], options: SpawnOptions = {}): Promise<string> {
  const child = spawn(command, args, options);
  const { code, stdout } = await within(child.output(), command);
  assert.equal(code, 0);
  return text(stdout);
}

/** What the kernel says of a process; null when there is none. */
async function stateOf(pid: number): Promise<string | null> {
  const child = spawn("cat", [`/proc/${pid}/stat`], { stderr: "ignore" });
  const { code, stdout } = await child.output();
  return code === 0 ? text(stdout).split(") ")[1]![0]! : null;
}

test("arguments arrive as they are, the name too", async () => {
  const args = ["", "a b", "'\"$HOME\\", "*", "ünïcödé", "line\nbreak"];
  assert.equal(await output("printf", ["%s|", ...args]), args.map((arg) => `${arg}|`).join(""));
  assert.equal(await output("/bin/sh", ["-c", "echo $0"], { argv0: "-other" }), "-other\n");
});

test("the environment: this one's, one that is given, none", async () => {
  const inherited = (await output("env", [])).split("\n");
  assert.ok(inherited.includes(`PATH=${process.env.PATH}`));
  process.env.URING_SPAWN_TEST = "set later";
  assert.match(await output("env", []), /^URING_SPAWN_TEST=set later$/m);
  delete process.env.URING_SPAWN_TEST;
  assert.doesNotMatch(await output("env", []), /URING_SPAWN_TEST/);
  const given = await output("env", [], { env: { A: "1", B: "with = and space", C: undefined, D: "" } });
  assert.deepEqual(given.trim().split("\n").sort(), ["A=1", "B=with = and space", "D="]);
  assert.equal(await output("/usr/bin/env", [], { env: {} }), "");
});

test("a command is looked for in the child's PATH, past what cannot be started", async () => {
  using dir = new TempDir();
  for (const name of ["none", "a", "b", "c"]) mkdirSync(dir.of(name));
  // A directory of that name, a file that may not be executed, then the right one.
  mkdirSync(dir.of("a/tool"));
  writeFileSync(dir.of("b/tool"), "#!/bin/sh\necho wrong\n", { mode: 0o644 });
  writeFileSync(dir.of("c/tool"), "#!/bin/sh\necho $1 from c\n", { mode: 0o755 });
  const PATH = ["none", "a", "b", "c"].map((name) => dir.of(name)).join(":");
  assert.equal(await output("tool", ["hello"], { env: { PATH } }), "hello from c\n");
  assert.equal(await output("tool", ["here"], { env: { PATH: "." }, cwd: dir.of("c") }), "here from c\n");
  assert.equal(await output("./tool", ["there"], { cwd: dir.of("c") }), "there from c\n");
});

test("where it runs", async () => {
  using dir = new TempDir();
  mkdirSync(dir.of("below"));
  assert.equal(await output("pwd", [], { cwd: dir.of("below"), env: {} }), `${dir.of("below")}\n`);
});

test("what cannot be started says why, and leaves nothing open", () => {
  using dir = new TempDir();
  writeFileSync(dir.of("plain"), "text", { mode: 0o644 });
  writeFileSync(dir.of("no-program"), "text", { mode: 0o755 });
  const refused = (code: string, path: string, options: SpawnOptions = {}): void => {
    const before = countDescriptors(/./);
    assert.throws(() => spawn(path, [], { stdin: "pipe", stderr: "pipe", ...options }), (error) => {
      assert.ok(error instanceof UringError);
      assert.equal(error.code, code);
      assert.equal(error.syscall, "spawn");
      assert.equal(error.path, path);
      return true;
    });
    assert.equal(countDescriptors(/./), before);
  };
  refused("ENOENT", "no-such-program-anywhere");
  refused("ENOENT", dir.of("missing"));
  refused("EACCES", dir.of("plain"));
  refused("EACCES", dir.of(""));
  refused("ENOTDIR", dir.of("plain/x"));
  refused("ENOEXEC", dir.of("no-program"));
  refused("EACCES", "plain", { env: { PATH: dir.of("") } });
  refused("ENOENT", "/bin/true", { cwd: dir.of("missing") });
});

test("options that make no sense", () => {
  const before = countDescriptors(/./);
  const bad = (options: unknown): () => unknown => () => spawn("true", [], options as SpawnOptions);
  assert.throws(() => spawn(""), TypeError);
  assert.throws(() => spawn("true", ["a\0b"]), TypeError);
  assert.throws(() => spawn("tr\0ue"), TypeError);
  assert.throws(() => spawn("true", [1 as unknown as string]), TypeError);
  assert.throws(bad({ stdin: "pipes" }), TypeError);
  assert.throws(bad({ stdin: "pipe", stdout: -1 }), RangeError);
  assert.throws(bad({ stdin: "pipe", stderr: 1.5 }), RangeError);
  assert.throws(bad({ stdout: 999_999 }), { code: "EBADF" });
  assert.throws(bad({ killSignal: "SIGNOTHING" }), TypeError);
  assert.throws(bad({ killSignal: 65 }), TypeError);
  assert.throws(bad({ timeout: -1 }), RangeError);
  assert.throws(bad({ cwd: 5 }), TypeError);
  assert.throws(bad({ env: { "A=B": "c" } }), TypeError);
  assert.throws(bad({ env: { A: "a\0b" } }), TypeError);
  assert.throws(bad({ signal: AbortSignal.abort(new Error("mine")) }), { message: "mine" });
  assert.equal(countDescriptors(/./), before);
});

test("how it ended", async () => {
  const child = spawn("sh", ["-c", "exit 7"]);
  assert.ok(child instanceof ChildProcess);
  assert.equal(child.exitCode, null);
  assert.deepEqual(await child.exited, { code: 7, signal: null });
  assert.equal(child.exitCode, 7);
  assert.equal(child.signalCode, null);
  assert.equal(child.kill(), false);
  for (const signal of ["SIGTERM", "SIGKILL", "SIGUSR1"] as const) {
    const waiting = spawn("sleep", ["100"]);
    assert.equal(waiting.kill(0), true);
    assert.equal(waiting.kill(signal), true);
    assert.deepEqual(await waiting.exited, { code: null, signal });
    assert.equal(waiting.signalCode, signal);
    // It was waited for: there is no such process any more.
    assert.equal(await stateOf(waiting.pid), null);
    await waiting[Symbol.asyncDispose]();
  }
  const realTime = spawn("sh", ["-c", "kill -40 $$"]);
  assert.deepEqual((await realTime.output()).signal, "40");
  await child[Symbol.asyncDispose]();
});

test("signals are as in a shell: nothing blocked, nothing ignored", async () => {
  const status = await output("cat", ["/proc/self/status"]);
  for (const name of ["SigBlk", "SigIgn"]) {
    const set = new RegExp(`^${name}:\\s[0-9a-f]{8}([0-9a-f]{8})$`, "m").exec(status);
    // The highest bit of these is libc's own signal 32.
    assert.equal(Number(`0x${set?.[1]}`) & 0x7fff_ffff, 0, name);
  }
  const child = spawn("sh", ["-c", "kill -PIPE $$; echo alive"]);
  assert.deepEqual((await child.output()).signal, "SIGPIPE");
});

test("a child has its three streams and no other descriptor", async () => {
  const child = spawn("sh", ["-c", "ls /proc/self/fd"], { stdin: "pipe", stderr: "pipe" });
  const { stdout } = await child.output();
  // The fourth is the directory.
  assert.equal(text(stdout), "0\n1\n2\n3\n");
});

test("megabytes go in and come out, both ways at once", async () => {
  const data = content(5_000_000);
  await using child = spawn("cat", [], { stdin: "pipe" });
  const writer = child.stdin.getWriter();
  const written = writer.write(data).then(() => writer.close());
  const { code, stdout } = await within(child.output(), "cat");
  await written;
  assert.equal(code, 0);
  assert.equal(Buffer.compare(stdout, data), 0);
});

test("streams: web streams with backpressure, bytes into a buffer of one's own", async () => {
  const data = content(300_000);
  await using child = spawn("tee", ["/dev/stderr"], { stdin: "pipe", stderr: "pipe" });
  const blob = new Blob([data]).stream().pipeTo(child.stdin);
  const whole = new Response(child.stderr).bytes();
  const reader = child.stdout.getReader({ mode: "byob" });
  let seen = 0;
  let view = new Uint8Array(10_007);
  for (;;) {
    const { done, value } = await reader.read(view);
    if (done) break;
    assert.equal(Buffer.compare(value, data.subarray(seen, seen + value.length)), 0);
    seen += value.length;
    view = new Uint8Array(value.buffer);
  }
  assert.equal(seen, data.length);
  await blob;
  assert.equal(Buffer.compare(await whole, data), 0);
  assert.deepEqual(await child.exited, { code: 0, signal: null });
});

test("a child that does not read: the write fails, and nothing is left", async () => {
  const child = spawn("true", [], { stdin: "pipe", stdout: "ignore" });
  await child.exited;
  const writer = child.stdin.getWriter();
  await assert.rejects(writer.write(new Uint8Array(10)), { code: "EPIPE" });
  await child[Symbol.asyncDispose]();
  await assert.rejects(spawnedText(), TypeError);
});

async function spawnedText(): Promise<void> {
  await using child = spawn("cat", [], { stdin: "pipe", stdout: "ignore" });
  await child.stdin.getWriter().write("text" as unknown as Uint8Array);
}

test("descriptors of this process as streams, also those of the streams themselves", async () => {
  await using cat = spawn("cat", [], { stdin: "pipe" });
  // What this one writes goes to the other through a descriptor of ours.
  using dir = new TempDir();
  const file = await (await import("../../src/fs/mod.ts")).open(dir.of("out"), "w+");
  const child = spawn("sh", ["-c", "echo out; echo err >&2"], { stdout: file.fd, stderr: file.fd });
  assert.equal((await child.exited).code, 0);
  assert.equal(await file.readFile({ encoding: "utf8" }).then((rest) => rest), "");
  assert.equal((await file.read(new Uint8Array(20), 0, 20, 0)).bytesRead, 8);
  await file.close();
  const swapped = spawn("true", [], { stdin: 1, stdout: 2, stderr: 1 });
  assert.equal((await swapped.exited).code, 0);
  await cat.stdin.close();
  await cat.exited;
});

test("a signal and a timeout end it", async () => {
  const controller = new AbortController();
  const aborted = spawn("sleep", ["100"], { signal: controller.signal });
  controller.abort();
  assert.deepEqual(await within(aborted.exited, "the aborted"), { code: null, signal: "SIGTERM" });
  const late = spawn("sleep", ["100"], { timeout: 20, killSignal: "SIGKILL" });
  assert.deepEqual(await within(late.exited, "the late"), { code: null, signal: "SIGKILL" });
  for (const child of [aborted, late]) await child[Symbol.asyncDispose]();
});

test("disposing ends it, also while its pipes are read and written", async () => {
  const before = countDescriptors(/./);
  let reading: Promise<unknown>;
  {
    await using child = spawn("sleep", ["100"], { stdin: "pipe", stderr: "pipe" });
    reading = child.stdout.getReader().read();
    reading.catch(() => {});
    void child.stdin.getWriter().write(new Uint8Array(1_000_000)).catch(() => {});
  }
  await assert.rejects(reading, { name: "AbortError" });
  assert.ok(countDescriptors(/./) <= before);
});

test("a session of its own", async () => {
  const own = (await output("sh", ["-c", "ps -o sid= -p $$ 2>/dev/null || cut -d' ' -f6 /proc/$$/stat"]))
    .trim();
  const child = spawn("sh", ["-c", "cut -d' ' -f6 /proc/$$/stat"], { detached: true });
  const sid = Number(text((await child.output()).stdout));
  assert.equal(sid, child.pid);
  assert.notEqual(sid, Number(own));
});

test("a hundred at once", async () => {
  const children = Array.from({ length: 100 }, (_, i) => spawn("sh", ["-c", `echo ${i}; exit ${i % 50}`]));
  const outputs = await within(Promise.all(children.map((child) => child.output())), "a hundred");
  for (const [i, { code, stdout }] of outputs.entries()) {
    assert.equal(code, i % 50);
    assert.equal(text(stdout), `${i}\n`);
  }
});

test("referred to again and again, its end is seen once", async () => {
  const child = spawn("cat", [], { stdin: "pipe" });
  for (let i = 0; i < 20; i++) {
    child.unref();
    if (i % 3 === 0) await null;
    if (i % 5 === 0) await new Promise((resolve) => setImmediate(resolve));
    child.ref();
  }
  assert.equal((await within(child.output(), "cat")).code, 0);
});

test("pipes that nobody holds any more are closed", async () => {
  const before = countDescriptors(/^pipe:/);
  const drop = async (): Promise<void> => {
    for (let i = 0; i < 10; i++) await spawn("true", [], { stdin: "pipe", stderr: "pipe" }).exited;
  };
  await drop();
  const collect = globalThis as { gc?: () => void; Bun?: { gc(force: boolean): void } };
  await until(() => {
    collect.gc?.();
    collect.Bun?.gc(true);
    return countDescriptors(/^pipe:/) <= before + 3;
  }, "closed");
});

test("a program with --allow-ffi alone: the child has its environment; unref lets it end", async () => {
  const ended = await run(fixture("spawn.ts"), []);
  assert.equal(ended.stderr, "");
  assert.equal(ended.stdout, "inherited\nhello from sh\nwaited for: 3\n");
  assert.equal(ended.code, 0);
});
