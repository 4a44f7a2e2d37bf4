/** Errors have the shape and the wording that both runtimes give their own system errors. */
import assert from "node:assert/strict";
import { mkdirSync, openSync, readdirSync, renameSync, rmdirSync } from "node:fs";
import { errnoCode, errnoMessage } from "../../src/ffi/errno.ts";
import { check, UringError, UringUnavailableError } from "../../src/ffi/errors.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

interface SystemError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  readonly path?: string;
  readonly dest?: string;
}

/** What the runtime throws. */
function runtimeError(body: () => void): SystemError {
  try {
    body();
  } catch (error) {
    return error as SystemError;
  }
  assert.fail("nothing was thrown");
}

test("an error reads like the runtime's own", () => {
  using dir = new TempDir();
  mkdirSync(dir.of("full"));
  mkdirSync(dir.of("full/inside"));
  const missing = dir.of("no such file");
  const cases: (() => void)[] = [
    () => openSync(missing, "r"),
    () => openSync(dir.path, "w"),
    () => mkdirSync(dir.path),
    () => rmdirSync(dir.of("full")),
    () => readdirSync(missing),
    () => openSync("/proc/self/status/x", "r"),
    () => renameSync(missing, dir.of("new name")),
  ];
  for (const body of cases) {
    const theirs = runtimeError(body);
    const { path, dest } = theirs;
    const ours = new UringError(theirs.errno, theirs.syscall, { path, dest });
    assert.equal(ours.message, theirs.message);
    assert.equal(ours.code, theirs.code);
    assert.equal(ours.errno, theirs.errno);
    assert.equal(ours.syscall, theirs.syscall);
    assert.equal(ours.path, theirs.path);
    assert.equal(ours.dest, theirs.dest);
  }
});

test("the parts of a UringError", () => {
  const error = new UringError(-2, "openat", { path: "/x" });
  assert.ok(error instanceof Error);
  assert.equal(error.name, "UringError");
  assert.equal(error.message, "ENOENT: no such file or directory, openat '/x'");
  assert.equal(String(error), "UringError: ENOENT: no such file or directory, openat '/x'");
  assert.equal(error.code, "ENOENT");
  assert.equal(error.errno, -2);
  assert.equal(error.syscall, "openat");
  assert.equal(error.path, "/x");
  assert.equal("dest" in error, false);
  assert.equal(error.cause, undefined);
  assert.equal("cause" in error, false);
  assert.match(error.stack!, /errors\.test\.ts/);
});

test("the sign of the errno does not matter", () => {
  assert.equal(new UringError(2, "x").errno, -2);
  assert.equal(new UringError(2, "x").message, new UringError(-2, "x").message);
});

test("a second path, a hint and a cause", () => {
  const cause = new Error("why");
  const error = new UringError(-17, "renameat", { path: "a", dest: "b", hint: "try again", cause });
  assert.equal(error.message, "EEXIST: file already exists, renameat 'a' -> 'b' (try again)");
  assert.equal(error.dest, "b");
  assert.equal(error.cause, cause);
  assert.equal("path" in new UringError(-9, "read"), false);
});

test("an errno without a name still makes an error", () => {
  const error = new UringError(-4000, "read");
  assert.equal(error.code, "E4000");
  assert.equal(error.message, "E4000: unknown error, read");
  assert.equal(errnoCode(2), "ENOENT");
  assert.equal(errnoMessage(2), "no such file or directory");
});

test("check throws for what is negative only", () => {
  assert.equal(check(0, "read"), 0);
  assert.equal(check(7, "read"), 7);
  assert.throws(() => check(-9, "read"), {
    name: "UringError",
    code: "EBADF",
    message: "EBADF: bad file descriptor, read",
  });
});

test("UringUnavailableError says why and what to do", () => {
  const says = {
    kernel: /5\.1/,
    sysctl: /kernel\.io_uring_disabled/,
    seccomp: /profile/,
    memlock: /ulimit -l/,
    ffi: /--allow-ffi/,
  } as const;
  for (const [reason, advice] of Object.entries(says)) {
    const error = new UringUnavailableError(reason as keyof typeof says, { errno: -1 });
    assert.equal(error.name, "UringUnavailableError");
    assert.equal(error.code, "ERR_URING_UNAVAILABLE");
    assert.equal(error.reason, reason);
    assert.equal(error.errno, -1);
    assert.match(error.message, /^io_uring is unavailable: /);
    assert.match(error.message, advice);
  }
  assert.equal(new UringUnavailableError("ffi").errno, 0);
});
