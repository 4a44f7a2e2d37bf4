/** openat2: how a path is looked up. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import process from "node:process";
import {
  O_CLOEXEC,
  O_CREAT,
  O_PATH,
  O_RDWR,
  RESOLVE_BENEATH,
  RESOLVE_CACHED,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  RESOLVE_NO_XDEV,
} from "../../src/ffi/abi.ts";
import { O_TMPFILE } from "../../src/ffi/arch.ts";
import { DirectDescriptor, type Open2Options, type Uring } from "../../src/mod.ts";
import { fdFlags, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { DEFERRED, makeUring, noDeferred } from "../support/loop.ts";
import {
  abortLate,
  assertAllFree,
  bytes,
  countDescriptors,
  failure,
  refuses,
  rejectsWith,
  text,
} from "../support/operations.ts";

checkLeaks();

/** Opens, and says what was in it or why not. */
async function outcome(uring: Uring, path: string, options: Open2Options): Promise<string> {
  try {
    const fd = await uring.openat2(path, options);
    const buffer = new Uint8Array(64);
    const content = text(buffer, await uring.read(fd, buffer).catch(() => 0));
    await uring.close(fd);
    return content;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

/** A directory with a file inside and one outside, and symbolic links of both kinds to either. */
function tree(dir: TempDir): void {
  mkdirSync(dir.of("root/sub"), { recursive: true });
  writeFileSync(dir.of("root/file"), "inside");
  writeFileSync(dir.of("file"), "outside");
  symlinkSync("file", dir.of("root/link"));
  symlinkSync("../file", dir.of("root/out"));
  symlinkSync("/file", dir.of("root/absolute"));
}

test("every RESOLVE_* restricts what it says", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  tree(dir);
  const dirfd = await uring.openat(dir.of("root"), { flags: O_PATH });
  const cases: readonly (readonly [path: string, resolve: number, expected: string])[] = [
    ["file", 0, "inside"],
    ["../file", 0, "outside"],
    ["link", 0, "inside"],
    ["out", 0, "outside"],
    ["file", RESOLVE_BENEATH, "inside"],
    ["sub/../file", RESOLVE_BENEATH, "inside"],
    ["link", RESOLVE_BENEATH, "inside"],
    ["../file", RESOLVE_BENEATH, "EXDEV"],
    ["out", RESOLVE_BENEATH, "EXDEV"],
    ["absolute", RESOLVE_BENEATH, "EXDEV"],
    [dir.of("root/file"), RESOLVE_BENEATH, "EXDEV"],
    ["../file", RESOLVE_IN_ROOT, "inside"],
    ["/file", RESOLVE_IN_ROOT, "inside"],
    ["out", RESOLVE_IN_ROOT, "inside"],
    ["absolute", RESOLVE_IN_ROOT, "inside"],
    ["file", RESOLVE_NO_SYMLINKS, "inside"],
    ["link", RESOLVE_NO_SYMLINKS, "ELOOP"],
    ["link", RESOLVE_NO_MAGICLINKS, "inside"],
    [`/proc/self/fd/${dirfd}/file`, RESOLVE_NO_MAGICLINKS, "ELOOP"],
    ["file", RESOLVE_NO_XDEV, "inside"],
    ["/proc/self/comm", RESOLVE_NO_XDEV, "EXDEV"],
    ["file", RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV, "inside"],
    ["file", RESOLVE_BENEATH | RESOLVE_IN_ROOT, "EINVAL"],
    ["file", 0x4000, "EINVAL"],
  ];
  for (const [path, resolve, expected] of cases) {
    assert.equal(await outcome(uring, path, { dirfd, resolve }), expected, `${path} with ${resolve}`);
  }
  await uring.close(dirfd);
});

test("RESOLVE_CACHED: opens what is known, and does not look for what is not", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "content");
  statSync(dir.of("file"));
  const resolve = RESOLVE_CACHED;
  assert.equal(await outcome(uring, dir.of("file"), { resolve }), "content");
  // Nobody has asked for this name: whether it exists is not known without looking.
  assert.equal(await outcome(uring, dir.of("never seen"), { resolve }), "EAGAIN");
  assert.equal(await outcome(uring, dir.of("new"), { resolve, flags: "w" }), "EAGAIN");
});

test("a path that leads out is told with its path and the operation", async () => {
  await using uring = makeUring();
  const error = await failure(uring.openat2("../x", { resolve: RESOLVE_BENEATH }));
  assert.equal(error.message, "EXDEV: cross-device link not permitted, openat2 '../x'");
  assert.deepEqual([error.errno, error.syscall, error.path], [-18, "openat2", "../x"]);
});

test("flags and modes are those of openat; O_CLOEXEC is set", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const umask = process.umask(0o022);
  try {
    const fd = await uring.openat2(dir.of("new"), { flags: "w+" });
    assert.equal(fdFlags(fd) & O_CLOEXEC, O_CLOEXEC);
    assert.equal(await uring.write(fd, bytes("abc"), { offset: 0 }), 3);
    await uring.close(fd);
    assert.equal(readFileSync(dir.of("new"), "utf8"), "abc");
    assert.equal(statSync(dir.of("new")).mode & 0o777, 0o644);
    await uring.close(await uring.openat2(dir.of("mine"), { flags: O_RDWR | O_CREAT, mode: 0o640 }));
    assert.equal(statSync(dir.of("mine")).mode & 0o777, 0o640);
    const unnamed = await uring.openat2(dir.path, { flags: O_TMPFILE | O_RDWR }).catch((error) => error.code);
    if (typeof unnamed === "number") await uring.close(unnamed);
    else assert.equal(unnamed, "ENOTSUP", "a file system without unnamed files");
  } finally {
    process.umask(umask);
  }
});

test("unlike openat it refuses what it does not know", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  const path = dir.of("file");
  await rejectsWith(uring.openat2(path, { mode: 0o600 }), "EINVAL", "openat2");
  await rejectsWith(uring.openat2(path, { flags: "w", mode: 0o100_000 }), "EINVAL", "openat2");
  await rejectsWith(uring.openat2(path, { flags: 0x4000_0000 }), "EINVAL", "openat2");
  await rejectsWith(uring.openat2(dir.of("none")), "ENOENT", "openat2");
  await rejectsWith(uring.openat2(dir.of("file/below")), "ENOTDIR", "openat2");
  await rejectsWith(uring.openat2(path, { flags: "wx" }), "EEXIST", "openat2");
  await rejectsWith(uring.openat2("x", { dirfd: 1_000_000 }), "EBADF", "openat2");
  await rejectsWith(uring.openat2(""), "ENOENT", "openat2");
});

test("wrong arguments are refused at once", async () => {
  await using uring = makeUring();
  for (const resolve of [-1, 0.5, 2 ** 32, NaN, "8" as unknown as number]) {
    await refuses(uring, RangeError, () => uring.openat2("x", { resolve }));
  }
  await refuses(uring, RangeError, () => uring.openat2("x", { mode: -1 }));
  await refuses(uring, TypeError, () => uring.openat2("x", { flags: "y" as "r" }));
  await refuses(uring, TypeError, () => uring.openat2("a\0b"));
  await refuses(uring, TypeError, () => uring.openat2("x", { dirfd: 1.5 }));
});

test("as a direct descriptor, by itself and in a chain", async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "content");
  const dirfd = await uring.openat(dir.path, { flags: O_PATH });
  const resolve = RESOLVE_BENEATH;
  const file = await uring.openat2("file", { dirfd, resolve, direct: true, flags: O_CLOEXEC });
  assert.ok(file instanceof DirectDescriptor);
  assert.equal(countDescriptors(/uring-test-.*file/), 0);
  const buffer = new Uint8Array(7);
  assert.equal(text(buffer, await uring.read(file, buffer)), "content");
  await uring.close(file);
  buffer.fill(0);
  const [, length] = await uring.link((l) => {
    const direct = l.direct();
    return [l.openat2("file", { dirfd, resolve, direct }), l.read(direct, buffer), l.close(direct)];
  });
  assert.equal(text(buffer, length), "content");
  const settled = await uring.linkSettled((l) => {
    const direct = l.direct();
    return [l.openat2("../file", { dirfd, resolve, direct }), l.read(direct, buffer), l.close(direct)];
  });
  assert.deepEqual(
    settled.map((step) => step.status === "rejected" && step.reason.code),
    ["EXDEV", "ECANCELED", "ECANCELED"],
  );
  await uring.close(dirfd);
  await assertAllFree(uring, 2);
});

test("what arrives after its abort is closed", { skip: noDeferred }, async () => {
  await using uring = makeUring({ ...DEFERRED, directDescriptors: 4 });
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  const path = dir.of("file");
  await uring.timeout(1);
  const before = countDescriptors(/./);
  for (let i = 0; i < 3; i++) {
    await abortLate(uring, (signal) => uring.openat2(path, { async: true, signal }));
    await abortLate(uring, (signal) => uring.openat2(path, { direct: true, async: true, signal }));
  }
  assert.equal(countDescriptors(/./), before);
  await assertAllFree(uring, 2);
});
