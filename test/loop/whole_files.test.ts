/** Whole files by chains: content, failures, files that go on, many at once, closing in the middle. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { O_NONBLOCK, O_RDONLY, O_RDWR } from "../../src/ffi/abi.ts";
import { adapter, system } from "../../src/ffi/system.ts";
import { Uring, UringError } from "../../src/mod.ts";
import { collect } from "../support/collect.ts";
import { content } from "../support/content.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { digest } from "../support/operations.ts";

checkLeaks();

const notRoot = process.getuid?.() === 0 ? false : "only root can change its credentials";

type Outcome = { bytes: Uint8Array } | { rest: number } | { error: UringError };

/** Reads a file; what is more than the chain reads is only counted. */
function whole(uring: Uring, path: string, flags: number = O_RDONLY): Promise<Outcome> {
  return new Promise((resolve) => {
    uring.wholeFile({
      path,
      flags,
      mode: 0,
      whole: (bytes) => resolve({ bytes: bytes.slice() }),
      async more(beginning, file): Promise<void> {
        const buffer = new Uint8Array(1 << 20);
        let length = beginning.length;
        for (let count = -1; count !== 0; length += count) count = await uring.read(file, buffer);
        resolve({ rest: length });
      },
      failed: (error) => resolve({ error }),
    });
  });
}

test("whole files: every size up to the first read's, beyond it, and of unknown size", async () => {
  using dir = new TempDir();
  await using uring = new Uring();
  for (const size of [0, 1, 4095, 65_535]) {
    writeFileSync(dir.of("file"), content(size));
    const outcome = await whole(uring, dir.of("file"));
    assert.ok("bytes" in outcome);
    assert.equal(digest(outcome.bytes), digest(content(size)), String(size));
  }
  for (const size of [65_537, 69_632, 300_000]) {
    writeFileSync(dir.of("file"), content(size));
    assert.deepEqual(await whole(uring, dir.of("file")), { rest: size });
  }
  const version = await whole(uring, "/proc/version");
  assert.ok("bytes" in version);
  assert.equal(new TextDecoder().decode(version.bytes), readFileSync("/proc/version", "utf8"));
  assert.equal(uring.stats.inFlight, 0);
});

test("whole files: thousands at once, with failures among them, and collections between", async () => {
  using dir = new TempDir();
  await using uring = new Uring({ entries: 16 });
  for (let i = 0; i < 300; i++) writeFileSync(dir.of(`f${i}`), content(i * 17, i));
  const paths = Array.from(
    { length: 3000 },
    (_, i) => i % 7 === 3 ? dir.of("none") : i % 11 === 5 ? dir.path : dir.of(`f${i % 300}`),
  );
  const outcomes = paths.map((path) => whole(uring, path));
  collect();
  for (const [i, promise] of outcomes.entries()) {
    const outcome = await promise;
    if (i % 7 === 3) {
      assert.ok("error" in outcome);
      assert.deepEqual([outcome.error.code, outcome.error.syscall, outcome.error.path], [
        "ENOENT",
        "openat",
        dir.of("none"),
      ]);
    } else if (i % 11 === 5) {
      assert.ok("error" in outcome);
      assert.deepEqual([outcome.error.code, outcome.error.syscall], ["EISDIR", "read"]);
    } else {
      assert.ok("bytes" in outcome);
      assert.equal(digest(outcome.bytes), digest(content(i % 300 * 17, i % 300)), paths[i]!);
    }
  }
  assert.equal(uring.stats.inFlight, 0);
});

test("whole files: their number is bounded by the table of direct descriptors", async () => {
  using dir = new TempDir();
  await using uring = new Uring({ directDescriptors: 4 });
  writeFileSync(dir.of("file"), content(5000));
  const before = await uring.openat(dir.of("file"), { direct: true });
  const outcomes = await Promise.all(Array.from({ length: 200 }, () => whole(uring, dir.of("file"))));
  assert.ok(outcomes.every((outcome) => "bytes" in outcome && outcome.bytes.length === 5000));
  await uring.close(before);
  assert.equal(uring.stats.inFlight, 0);
});

test("whole files: paths of every length", async () => {
  using dir = new TempDir();
  await using uring = new Uring();
  // The longest that the kernel takes has 4095 bytes.
  for (const length of [200, 1364, 1365, 1366, 4095]) {
    let directory = dir.path;
    while (directory.length < length - 103) directory += `/${"d".repeat(100)}`;
    mkdirSync(directory, { recursive: true });
    const path = `${directory}/`.padEnd(length, "f");
    writeFileSync(path, content(length));
    const outcome = await whole(uring, path);
    assert.ok("bytes" in outcome, String(length));
    assert.equal(digest(outcome.bytes), digest(content(length)));
  }
  const outcome = await whole(uring, `${dir.path}/${"x/".repeat(3000)}`);
  assert.ok("error" in outcome);
  assert.equal(outcome.error.code, "ENAMETOOLONG");
});

test(
  "whole files: whoever may not read a file does not by the ring that helps",
  { skip: notRoot },
  async () => {
    using dir = new TempDir();
    await using uring = new Uring();
    const secret = dir.of("secret");
    writeFileSync(secret, "root's", { mode: 0o600 });
    chmodSync(dir.path, 0o755);
    const many = async (): Promise<Set<string>> => {
      const outcomes = await Promise.all(Array.from({ length: 300 }, () => whole(uring, secret)));
      return new Set(outcomes.map((outcome) => "error" in outcome ? outcome.error.code : "read"));
    };
    assert.deepEqual(await many(), new Set(["read"]));
    const { setfsuid } = adapter.open(system().libc, { setfsuid: { result: "i32", args: ["u32"] } });
    setfsuid(65534);
    try {
      assert.deepEqual(await many(), new Set(["EACCES"]));
    } finally {
      setfsuid(0);
    }
    assert.deepEqual(await many(), new Set(["read"]));
  },
);

test("whole files: none stays open", async () => {
  using dir = new TempDir();
  await using uring = new Uring();
  // The kernel lists the files in a ring's table there, by their names.
  const table = (): string => readFileSync(`/proc/self/fdinfo/${uring.ring.fd}`, "utf8");
  for (let i = 0; i < 100; i++) writeFileSync(dir.of(`file${i}`), content(100));
  const last = whole(uring, dir.of("file0"));
  const seen = new Promise<string>((resolve) => {
    uring.wholeFile({
      path: "/dev/zero",
      flags: O_RDONLY,
      mode: 0,
      whole: () => {},
      async more(): Promise<void> {
        await Promise.resolve();
        resolve(table());
      },
      failed: () => {},
    });
  });
  assert.match(await seen, /zero/);
  await last;
  await Promise.all(Array.from({ length: 100 }, (_, i) => whole(uring, dir.of(`file${i}`))));
  await uring.nop();
  assert.doesNotMatch(table(), /file\d|zero/);
});

test("whole files: closing the ring in the middle tells every one of them", async () => {
  using dir = new TempDir();
  execFileSync("mkfifo", [dir.of("fifo")]);
  writeFileSync(dir.of("file"), content(5000));
  // A writer that never writes: reads wait.
  using _writer = Fd.open(dir.of("fifo"), O_RDWR | O_NONBLOCK);
  const uring = new Uring();
  const waiting = Array.from({ length: 200 }, () => whole(uring, dir.of("fifo")));
  const behind = Array.from({ length: 100 }, () => whole(uring, dir.of("file")));
  await uring.nop();
  await uring.disposeAsync();
  for (const outcome of await Promise.all([...waiting, ...behind])) {
    assert.ok("error" in outcome);
    assert.equal(outcome.error.code, "ECANCELED");
  }
  assert.throws(() => uring.wholeFile({} as never), TypeError);
});
