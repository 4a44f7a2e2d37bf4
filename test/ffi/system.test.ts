/** The system calls: which library they come from, how failures come back, and what is known of the kernel. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import process from "node:process";
import { IORING_REGISTER_PROBE, O_CLOEXEC, O_RDONLY } from "../../src/ffi/abi.ts";
import { ARCH } from "../../src/ffi/arch.ts";
import { cString } from "../../src/ffi/cstring.ts";
import { kernelHas, kernelVersion, readSmallFile } from "../../src/ffi/kernel.ts";
import { pinned } from "../../src/ffi/pin.ts";
import { io_uring_params } from "../../src/ffi/structs.ts";
import { adapter, system } from "../../src/ffi/system.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

const isDeno = "Deno" in globalThis;
const CHILD = `
import { system } from ${JSON.stringify(new URL("../../src/ffi/system.ts", import.meta.url).href)};
import { Ring } from ${JSON.stringify(new URL("../../src/ring/mod.ts", import.meta.url).href)};
const ring = new Ring(4);
ring.getSqe().prepNop();
ring.submitAndWait(1);
ring.registerRingFd();
const got = ring.peekCqe() !== null;
ring.close();
console.log(system().library, got);
`;

/** Runs a program under the same runtime; in Deno with --allow-ffi alone. */
function runChild(program: string, env: Record<string, string>): string {
  using dir = new TempDir();
  const file = dir.of("child.mjs");
  writeFileSync(file, program);
  const args = isDeno ? ["run", "--no-prompt", "--no-config", "--allow-ffi", file] : [file];
  const child = spawnSync(process.execPath, args, { encoding: "utf8", env: { ...process.env, ...env } });
  assert.equal(child.status, 0, child.stderr);
  return child.stdout.trim();
}

/** Asks the C library itself whether liburing can be loaded. */
function librariesLoaded(): string {
  return readFileSync("/proc/self/maps", "utf8");
}

test("the adapter is this runtime's", () => {
  assert.equal(adapter.name, isDeno ? "deno" : "bun");
});

test("liburing when it is there, libc's syscall otherwise", () => {
  const { library } = system();
  assert.equal(system(), system(), "opened once");
  const loaded = /\/liburing\.so\.2/.test(librariesLoaded());
  assert.equal(library, loaded ? "liburing" : "libc");
});

test("without liburing everything goes through libc", () => {
  using dir = new TempDir();
  // An empty file that comes first on the library path stands for a library that is not there.
  mkdirSync(dir.of("hidden"));
  writeFileSync(dir.of("hidden/liburing.so.2"), "");
  assert.equal(runChild(CHILD, { LD_LIBRARY_PATH: dir.of("hidden") }), "libc true");
});

const installed = ["/usr/lib", "/lib", "/usr/lib64", "/lib64"].some((lib) =>
  [lib, `${lib}/x86_64-linux-gnu`, `${lib}/aarch64-linux-gnu`].some((dir) =>
    existsSync(`${dir}/liburing.so.2`)
  )
);

test(
  "liburing is taken where it is installed",
  { skip: installed ? false : "liburing is not installed" },
  () => {
    assert.equal(runChild(CHILD, { LD_LIBRARY_PATH: "" }), "liburing true");
  },
);

test("failures come back as -errno, whatever the library", () => {
  const sys = system();
  const EBADF = -9;
  const EINVAL = -22;
  const params = new Uint8Array(new ArrayBuffer(io_uring_params.size));
  assert.equal(sys.setup(0, params), EINVAL);
  assert.equal(sys.enter(1_000_000, 0, 0, 0), EBADF);
  assert.equal(sys.enterArg(1_000_000, 0, 0, 0, pinned(64), 64), EBADF);
  assert.equal(sys.register(1_000_000, IORING_REGISTER_PROBE, null, 0), EBADF);
  assert.equal(sys.close(1_000_000), EBADF);
  assert.equal(sys.read(1_000_000, params, 1), EBADF);
  assert.equal(sys.mmap(0, 4096, 1, 2, 1_000_000, 0), EBADF);
  assert.equal(sys.munmap(1, 4096), EINVAL);
  const ENOENT = -2;
  assert.equal(sys.rare.open(cString("/no such file"), O_RDONLY, 0), ENOENT);
});

test("errno belongs to the call that failed, not to one before", () => {
  const sys = system();
  for (let i = 0; i < 200; i++) {
    assert.equal(sys.close(1_000_000), -9);
    assert.equal(sys.munmap(1, 4096), -22);
    assert.equal(sys.rare.open(cString("/no such file"), O_RDONLY | O_CLOEXEC, 0), -2);
  }
});

test("a socketpair carries bytes", () => {
  const sys = system();
  const fds = new Int32Array(new ArrayBuffer(8));
  const AF_UNIX = 1;
  const SOCK_STREAM = 1;
  assert.equal(sys.socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  assert.equal(sys.write(fds[0]!, new TextEncoder().encode("hello"), 5), 5);
  const bytes = new Uint8Array(new ArrayBuffer(8));
  assert.equal(sys.read(fds[1]!, bytes, 8), 5);
  assert.equal(new TextDecoder().decode(bytes.subarray(0, 5)), "hello");
  assert.equal(sys.close(fds[0]!), 0);
  assert.equal(sys.close(fds[1]!), 0);
});

test("importing makes no ring and opens no library", () => {
  const program = `
import { readFileSync } from "node:fs";
await import(${JSON.stringify(new URL("../../src/ring/mod.ts", import.meta.url).href)});
const maps = readFileSync("/proc/self/maps", "utf8");
console.log(/liburing|io_uring/.test(maps));
`;
  using dir = new TempDir();
  const file = dir.of("child.mjs");
  writeFileSync(file, program);
  const args = isDeno ? ["run", "-A", "--no-config", file] : [file];
  const child = spawnSync(process.execPath, args, { encoding: "utf8" });
  assert.equal(child.stdout.trim(), "false", child.stderr);
});

test("the kernel's version is uname's", () => {
  const [major, minor] = release().split(".").map((part) => parseInt(part, 10));
  assert.deepEqual(kernelVersion(), [major, minor]);
});

test("kernelHas compares numbers, not text", () => {
  const [major, minor] = kernelVersion();
  assert.equal(kernelHas(`${major}.${minor}`), true);
  assert.equal(kernelHas(`${major}.${minor + 1}`), false);
  assert.equal(kernelHas(`${major + 1}.0`), false);
  assert.equal(kernelHas("5.1"), true);
  assert.equal(kernelHas(`${major - 1}.999`), true);
  assert.equal(kernelHas(`${major}`), true);
});

test("small files are read, missing ones are null", () => {
  assert.match(readSmallFile("/proc/self/status")!, /^Name:/);
  assert.equal(readSmallFile("/no such file"), null);
  assert.equal(readSmallFile("/proc"), null, "a directory");
  assert.throws(() => readSmallFile("/proc\0"), TypeError);
});

test("the architecture is the machine's", () => {
  assert.equal(ARCH, process.arch === "arm64" ? "aarch64" : "x86_64");
});
