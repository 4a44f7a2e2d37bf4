/** `probe()`, and what it and `new Uring()` say where io_uring cannot be used. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, mkdirSync, writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { kernelVersion } from "../../src/ffi/kernel.ts";
import { system } from "../../src/ffi/system.ts";
import { probe, Uring } from "../../src/mod.ts";
import { missingCompiler } from "../support/cc.ts";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

const root = process.getuid?.() === 0;
const isBun = "Bun" in globalThis;

test("where it works: kernel, library, features, operations", async () => {
  const found = probe();
  assert.ok(found.available, JSON.stringify(found));
  assert.match(found.kernel, /^\d+\.\d+$/);
  assert.equal(found.kernel, kernelVersion().slice(0, 2).join("."));
  assert.equal(found.library, system().library);
  for (const name of ["IORING_OP_NOP", "IORING_OP_READV", "IORING_OP_POLL_ADD"]) {
    assert.ok(found.operations.has(name), name);
  }
  assert.ok(found.features.size > 0);
  for (const name of found.features) assert.match(name, /^IORING_FEAT_/);
  for (const name of found.operations) assert.match(name, /^IORING_OP_/);
  await using uring = new Uring();
  await uring.nop();
});

test("it is cheap to ask again, and leaves nothing open", () => {
  for (let i = 0; i < 20; i++) assert.equal(probe().available, true);
});

/** What the program below prints. */
interface Answer {
  readonly probe: { available: boolean; reason?: string; message?: string };
  readonly entries?: number;
  readonly error?: { name: string; code: string; reason: string; errno: number; message: string };
}

const PROGRAM = `
import { probe, Uring } from "./src/mod.ts";
const answer = {};
try {
  await using uring = new Uring();
  answer.entries = uring.ring.sqEntries;
  await uring.nop();
  // Long enough to sleep.
  await uring.timeout(30);
} catch ({ name, code, reason, errno, message }) {
  answer.error = { name, code, reason, errno, message };
}
const { available, reason, message } = probe();
answer.probe = { available, reason, message };
console.log(JSON.stringify(answer));
`;

/** A copy of the library that every user may read, with the program beside it. */
class Stage extends TempDir {
  readonly program: string = this.of("program.ts");
  runtime: string = process.execPath;

  constructor() {
    super();
    chmodSync(this.path, 0o755);
    cpSync(fileURLToPath(new URL("../../src", import.meta.url)), this.of("src"), { recursive: true });
    writeFileSync(this.of("deno.json"), "{}");
    writeFileSync(this.program, PROGRAM);
    mkdirSync(this.of("home"));
    chmodSync(this.of("home"), 0o777);
  }

  /** Copies the runtime when the user of this command may not run it where it is. */
  provideRuntime(prefix: readonly string[]): void {
    const [command, ...args] = [...prefix, process.execPath, "--version"];
    if (spawnSync(command!, args).status === 0) return;
    this.runtime = this.of("runtime");
    copyFileSync(process.execPath, this.runtime);
    chmodSync(this.runtime, 0o755);
  }

  /** Runs the program behind a command. */
  run(prefix: readonly string[]): Answer {
    const args = isBun
      ? ["run", this.program]
      : ["run", "--no-check", "--allow-ffi", "--allow-read", this.program];
    const [command, ...rest] = [...prefix, this.runtime, ...args];
    const ended = spawnSync(command!, rest, {
      encoding: "utf8",
      cwd: this.path,
      env: {
        ...process.env,
        HOME: this.of("home"),
        XDG_CACHE_HOME: this.of("home"),
        DENO_DIR: this.of("home/deno"),
        TMPDIR: this.of("home"),
      },
      timeout: 60_000,
    });
    assert.equal(
      ended.status,
      0,
      `status ${ended.status}, signal ${ended.signal}:\n${ended.stdout}${ended.stderr}`,
    );
    return JSON.parse(ended.stdout.trim().split("\n").at(-1)!) as Answer;
  }
}

/** Checks that probe and constructor give the same reason. */
function assertUnavailable({ probe, error }: Answer, reason: string, errno: number): void {
  assert.deepEqual([probe.available, probe.reason], [false, reason], JSON.stringify(probe));
  assert.ok(error !== undefined, "a ring was made");
  assert.deepEqual([error.name, error.code, error.reason], [
    "UringUnavailableError",
    "ERR_URING_UNAVAILABLE",
    reason,
  ]);
  assert.equal(error.errno, errno);
  assert.match(error.message, /^io_uring is unavailable: /);
  assert.match(probe.message!, /^io_uring is unavailable: /);
}

/** A launcher: answers `io_uring_setup` with an errno by a seccomp filter, then becomes the command. */
const LAUNCHER = `
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int argc, char **argv) {
  struct sock_filter filter[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 425, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | atoi(argv[1])),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 101;
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 102;
  execv(argv[2], argv + 2);
  return 103;
}
`;

const noLauncher = missingCompiler(["linux/filter.h", "linux/seccomp.h", "sys/prctl.h"]);

test("a seccomp filter: reason seccomp, whether it answers EPERM or ENOSYS", { skip: noLauncher }, () => {
  using stage = new Stage();
  const launcher = stage.of("launcher");
  writeFileSync(`${launcher}.c`, LAUNCHER);
  execFileSync("cc", ["-w", "-o", launcher, `${launcher}.c`]);
  for (const [name, errno] of [["EPERM", 1], ["ENOSYS", 38]] as const) {
    const answer = stage.run([launcher, String(errno)]);
    assertUnavailable(answer, "seccomp", -errno);
    assert.match(answer.probe.message!, /seccomp/, name);
  }
});

const noPrlimit = spawnSync("prlimit", ["--version"]).error === undefined
  ? false
  : "prlimit is not installed";
const noOtherUser = firstReason(
  noPrlimit,
  root ? false : "needs root, to become a user that uses no memory for rings elsewhere",
  spawnSync("setpriv", ["--version"]).error === undefined ? false : "setpriv is not installed",
);

/** A command that limits the memory for rings; as root, for a user of this process's own, since users are counted. */
function limited(bytes: number): string[] {
  const limit = ["prlimit", `--memlock=${bytes}:${bytes}`];
  if (!root) return limit;
  const user = String(200_000 + process.pid % 100_000);
  return [...limit, "setpriv", `--reuid=${user}`, `--regid=${user}`, "--clear-groups", "--inh-caps=-all"];
}

test("no memory for rings: reason memlock", { skip: root ? noOtherUser : noPrlimit }, () => {
  using stage = new Stage();
  const prefix = limited(0);
  stage.provideRuntime(prefix);
  const answer = stage.run(prefix);
  assertUnavailable(answer, "memlock", -12);
  assert.match(answer.probe.message!, /RLIMIT_MEMLOCK/);
});

test("little memory for rings: the default takes fewer entries, and works", { skip: noOtherUser }, () => {
  using stage = new Stage();
  stage.provideRuntime(limited(1 << 20));
  const entries: number[] = [];
  for (const kibibytes of [8, 16, 64, 1024]) {
    const answer = stage.run(limited(kibibytes * 1024));
    assert.equal(answer.error, undefined, `${kibibytes} KiB: ${JSON.stringify(answer)}`);
    entries.push(answer.entries!);
  }
  assert.ok(entries[0]! >= 16 && entries[0]! < 256, entries.join());
  assert.equal(entries.at(-1), 256);
});

test("an ordinary user", { skip: noOtherUser }, () => {
  using stage = new Stage();
  const prefix = limited(8 << 20);
  stage.provideRuntime(prefix);
  const answer = stage.run(prefix);
  assert.deepEqual([answer.probe.available, answer.entries, answer.error], [true, 256, undefined]);
});
