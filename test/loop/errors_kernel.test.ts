/** What the kernel refuses: an error of the form that both runtimes give their own. */
import assert from "node:assert/strict";
import {
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { FALLOC_FL_KEEP_SIZE, IORING_OP_BIND, IORING_OP_FTRUNCATE, POLLIN } from "../../src/ffi/abi.ts";
import { operationError } from "../../src/loop/failure.ts";
import { type Uring, UringError } from "../../src/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring } from "../support/loop.ts";
import { bytes, failure } from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

/** The fields of a system error. */
function fields(error: unknown): Record<string, unknown> {
  const { code, errno, syscall, path, dest, message } = error as Record<string, unknown>;
  return { code, errno, syscall, path, dest, message };
}

function thrown(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  assert.fail("the runtime's own call has succeeded");
}

/** Checks that both failed alike; `theirs` and `ours` are what each calls the system call. */
async function alike(
  own: Promise<unknown>,
  call: () => unknown,
  ours: string,
  theirs: string,
): Promise<void> {
  const expected = fields(thrown(call));
  const error = await failure(own, ours);
  assert.ok(error instanceof UringError);
  assert.ok(error instanceof Error);
  assert.equal(error.name, "UringError");
  const message = String(expected.message).replace(`, ${theirs}`, `, ${ours}`);
  assert.deepEqual(fields(error), { ...expected, syscall: ours, message });
}

test("the same as node:fs: code, errno, path, dest, message", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  mkdirSync(dir.of("full"));
  writeFileSync(dir.of("full/file"), "");
  symlinkSync("loop", dir.of("loop"));
  const missing = dir.of("missing");
  const below = dir.of("file/below");
  const long = dir.of("x".repeat(300));
  for (const path of [missing, below, long, dir.of("loop")]) {
    await alike(uring.openat(path), () => openSync(path, "r"), "openat", "open");
    await alike(uring.statx(path), () => statSync(path), "statx", "stat");
  }
  await alike(
    uring.openat(dir.of("file"), { flags: "wx" }),
    () => openSync(dir.of("file"), "wx"),
    "openat",
    "open",
  );
  await alike(uring.openat(dir.path, { flags: "w" }), () => openSync(dir.path, "w"), "openat", "open");
  await alike(uring.mkdirat(dir.of("full")), () => mkdirSync(dir.of("full")), "mkdirat", "mkdir");
  await alike(uring.unlinkat(missing), () => unlinkSync(missing), "unlinkat", "unlink");
  await alike(
    uring.unlinkat(dir.of("full"), { directory: true }),
    () => rmdirSync(dir.of("full")),
    "unlinkat",
    "rmdir",
  );
  await alike(
    uring.renameat(missing, dir.of("other")),
    () => renameSync(missing, dir.of("other")),
    "renameat",
    "rename",
  );
  await alike(
    uring.renameat(dir.of("file"), dir.of("full")),
    () => renameSync(dir.of("file"), dir.of("full")),
    "renameat",
    "rename",
  );
});

test("the form: what it says, and what it does not have", async () => {
  await using uring = makeUring();
  const error = await failure(uring.openat("/nonexistent"));
  assert.equal(error.message, "ENOENT: no such file or directory, openat '/nonexistent'");
  assert.equal(String(error), "UringError: ENOENT: no such file or directory, openat '/nonexistent'");
  assert.deepEqual([error.code, error.errno, error.syscall, error.path], [
    "ENOENT",
    -2,
    "openat",
    "/nonexistent",
  ]);
  assert.equal("dest" in error, false);
  const rename = await failure(uring.renameat("/nonexistent", bytes("/b")));
  assert.equal(rename.message, "ENOENT: no such file or directory, renameat '/nonexistent' -> '/b'");
  assert.equal(rename.dest, "/b");
  const fd = await failure(uring.fsync(1_000_000));
  assert.equal(fd.message, "EBADF: bad file descriptor, fsync");
  assert.equal("path" in fd, false);
  assert.match(error.stack ?? "", /ENOENT/);
});

test("a path that is no UTF-8 is shown as well as it can be", async () => {
  await using uring = makeUring();
  const error = await failure(uring.openat(new Uint8Array([0x2f, 0x78, 0xff])));
  assert.equal(error.path, "/x\ufffd");
});

const WRONG_FD: Readonly<Record<string, (uring: Uring, fd: number) => Promise<unknown>>> = {
  read: (uring, fd) => uring.read(fd, new Uint8Array(1)),
  write: (uring, fd) => uring.write(fd, new Uint8Array(1)),
  readv: (uring, fd) => uring.readv(fd, [new Uint8Array(1)]),
  writev: (uring, fd) => uring.writev(fd, [new Uint8Array(1)]),
  close: (uring, fd) => uring.close(fd),
  fallocate: (uring, fd) => uring.fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1),
  fsync: (uring, fd) => uring.fsync(fd),
  fdatasync: (uring, fd) => uring.fdatasync(fd),
  ftruncate: (uring, fd) => uring.ftruncate(fd, 0),
  bind: (uring, fd) => uring.bind(fd, { family: "unix", path: "" }),
  listen: (uring, fd) => uring.listen(fd),
  accept: (uring, fd) => uring.accept(fd),
  connect: (uring, fd) => uring.connect(fd, { family: "unix", path: "" }),
  send: (uring, fd) => uring.send(fd, new Uint8Array(1)),
  recv: (uring, fd) => uring.recv(fd, new Uint8Array(1)),
  shutdown: (uring, fd) => uring.shutdown(fd, 0),
  poll: (uring, fd) => uring.poll(fd, POLLIN),
  openat: (uring, fd) => uring.openat("x", { dirfd: fd }),
  statx: (uring, fd) => uring.statx("x", { dirfd: fd }),
  unlinkat: (uring, fd) => uring.unlinkat("x", { dirfd: fd }),
  mkdirat: (uring, fd) => uring.mkdirat("x", { dirfd: fd }),
  renameat: (uring, fd) => uring.renameat("x", "y", { dirfd: fd }),
  cancel: (uring, fd) => uring.cancel({ fd }),
};

const GATES: Readonly<Record<string, string | false>> = {
  bind: missingOp(IORING_OP_BIND),
  listen: missingOp(IORING_OP_BIND),
  ftruncate: missingOp(IORING_OP_FTRUNCATE),
};

for (const [name, run] of Object.entries(WRONG_FD)) {
  test(`${name} of a wrong descriptor: EBADF`, { skip: GATES[name] ?? false }, async () => {
    await using uring = makeUring();
    for (const fd of [1_000_000, -1, -5, 2 ** 31 - 1]) {
      const error = await failure(run(uring, fd), `${name} of ${fd}`);
      assert.deepEqual([error.code, error.errno, error.syscall], ["EBADF", -9, name], `${name} of ${fd}`);
    }
    assert.equal(uring.stats.inFlight, 0);
  });
}

test("EINVAL of an operation that the kernel has does not say that it is lacking", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const error = await failure(uring.renameat(dir.path, dir.of("itself")));
  assert.equal(error.message, `EINVAL: invalid argument, renameat '${dir.path}' -> '${dir.of("itself")}'`);
  assert.equal(
    operationError(uring.ring, -22, { name: "nop", path: undefined, dest: undefined }).message,
    "EINVAL: invalid argument, nop",
  );
  assert.equal(
    operationError(uring.ring, -22, { name: "no such operation", path: "/p", dest: "/d" }).message,
    "EINVAL: invalid argument, no such operation '/p' -> '/d'",
  );
});

test("an error in the middle of many operations is that of its own", async () => {
  await using uring = makeUring({ entries: 16 });
  const own = readFileSync("/proc/self/comm");
  const fd = openSync("/proc/self/comm", "r");
  const results = await Promise.allSettled(Array.from({ length: 300 }, (_, i) => {
    if (i % 3 === 0) return uring.openat(`/nonexistent-${i}`);
    if (i % 3 === 1) return uring.read(fd, new Uint8Array(100), { offset: 0 });
    return uring.fsync(1_000_000 + i);
  }));
  results.forEach((result, i) => {
    if (i % 3 === 1) assert.deepEqual(result, { status: "fulfilled", value: own.length });
    else {
      assert.equal(result.status, "rejected");
      const { code, path } = (result as PromiseRejectedResult).reason as UringError;
      assert.deepEqual([code, path], i % 3 === 0 ? ["ENOENT", `/nonexistent-${i}`] : ["EBADF", undefined]);
    }
  });
  await uring.close(fd);
});
