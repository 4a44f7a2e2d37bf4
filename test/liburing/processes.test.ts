/** Processes and threads that fork, end or crash in the middle of work: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import {
  AT_FDCWD,
  CLOCK_MONOTONIC,
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQPOLL,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_WRONLY,
  type Ring,
} from "../../src/ring/mod.ts";
import { check } from "../../src/ffi/errors.ts";
import { itimerspec } from "../../src/ffi/structs.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { until } from "../support/loop.ts";
import { fixture, output, run } from "../support/program.ts";
import {
  block,
  blockOf,
  entry,
  forEachKind,
  iovecs,
  makeRing,
  missingRing,
  once,
  path,
  reap,
} from "../support/rings.ts";

checkLeaks();

const EOPNOTSUPP = -95;
const ECANCELED = -125;

const TFD_CLOEXEC = 0x8_0000;

const PROGRAM = fixture("raw_process.ts");
const DEFER = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
const FLAGS = [
  ["default", 0],
  ["SQPOLL", IORING_SETUP_SQPOLL],
  ["COOP_TASKRUN", IORING_SETUP_COOP_TASKRUN],
  ["DEFER_TASKRUN", DEFER],
].map(([name, flags]) => ({
  name: name as string,
  flags: flags as number,
  skip: missingRing({ flags: flags as number }),
}));

/** What a child says until it says `end`. */
async function listen(child: ChildProcess, end: string): Promise<string> {
  let said = "";
  await new Promise<void>((resolve, reject) => {
    child.on("error", reject);
    child.stdout!.on("data", (data) => {
      said += String(data);
      if (said.includes(end)) resolve();
    });
  });
  return said;
}

function append(ring: Ring, fd: Fd, text: string): void {
  const vectors = iovecs([blockOf(text)]);
  entry(ring, text.length, (sqe) => sqe.prepWritev(fd.fd, vectors.address, 1, 0));
}

forEachKind(({ name, options, skip }) => {
  test(
    `liburing across-fork: ${name}: a child has nothing of the ring, which goes on`,
    { skip },
    async () => {
      using dir = new TempDir();
      using ring = makeRing(16, options);
      const open = (file: string): Fd => {
        const place = path(dir.of(file));
        const flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
        return new Fd(
          check(once(ring, (sqe) => sqe.prepOpenat(AT_FDCWD, place, flags, 0o600)).res, "openat"),
        );
      };
      using shared = open("shared");
      using parent = open("parent");
      append(ring, shared, "before fork\n");
      ring.submit();
      const script = "cat /proc/self/maps; ls -l /proc/self/fd; echo end; read line";
      const child = spawn("sh", ["-c", script], { stdio: ["pipe", "pipe", "inherit"] });
      const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
      const said = await listen(child, "end\n");
      assert.match(said, /\[stack\]/);
      assert.doesNotMatch(said, /io_uring/);

      append(ring, shared, "during the child\n");
      append(ring, parent, "parent\n");
      const sizes = reap(ring, 3).map(({ userData, res }) => [userData, res]);
      assert.ok(sizes.every(([asked, written]) => asked === written), JSON.stringify(sizes));
      child.stdin!.end("\n");
      assert.equal(await ended, 0);
      append(ring, shared, "after the child\n");
      assert.equal(reap(ring, 1)[0]!.res, 16);
      assert.equal(
        readFileSync(dir.of("shared"), "utf8"),
        "before fork\nduring the child\nafter the child\n",
      );
      assert.equal(readFileSync(dir.of("parent"), "utf8"), "parent\n");
    },
  );
});

for (const { name, flags, skip } of FLAGS) {
  test(`liburing pollfree: ${name}: processes end while they read their signals`, { skip }, async () => {
    for (let i = 0; i < 2; i++) assert.equal(await output(PROGRAM, ["reads signals", `${flags}`]), "");
  });

  // The rest differs little between them, and each takes a process.
  if (flags !== 0 && flags !== DEFER) continue;

  test(`liburing accept: ${name}: a process ends while an accept waits`, { skip }, async () => {
    assert.equal(await output(PROGRAM, ["accept", `${flags}`]), "");
  });

  test(`liburing accept: ${name}: a process is ended while it waits for an accept`, { skip }, async () => {
    const onLine = (_line: string, kill: (signal: "SIGTERM") => void): void => kill("SIGTERM");
    assert.equal((await run(PROGRAM, ["accept, waiting", `${flags}`], { onLine })).signal, "SIGTERM");
  });

  test(
    `liburing coredump: ${name}: a process that dumps its core in the middle of a read`,
    { skip },
    async () => {
      using dir = new TempDir();
      const shell = ["sh", "-c", `cd "${dir.path}"; ulimit -c 64; exec "$@"`, "sh"];
      const { signal } = await run(PROGRAM, ["dumps core", `${flags}`], { prefix: shell });
      assert.equal(signal, "SIGQUIT");
    },
  );

  test(
    `liburing poll-cancel: ${name}: a process ends while polls and time limits wait`,
    { skip },
    async () => {
      assert.equal(await output(PROGRAM, ["polls with time limits", `${flags}`]), "");
    },
  );

  test(`liburing poll-ring: ${name}: a process ends while its ring polls itself`, { skip }, async () => {
    assert.equal(await output(PROGRAM, ["polls itself", `${flags}`]), "");
  });
}

test("liburing poll: a ring that polls itself 65,536 times is closed, and its process ends", async () => {
  assert.equal(await output(PROGRAM, ["polls itself 65,536 times"]), "");
});

/** Submits on a thread that ends right after it, and waits until it has. */
async function submitAndEnd(ring: Ring, toSubmit: number): Promise<number> {
  const worker = new Worker(new URL("../support/submit_worker.ts", import.meta.url), { type: "module" });
  const answer = await new Promise<{ submitted: number; thread: string }>((resolve, reject) => {
    worker.onerror = (event): void => reject(new Error(event.message));
    worker.onmessage = ({ data }): void => {
      if (data === null) worker.postMessage({ fd: ring.fd, toSubmit });
      else resolve(data);
    };
  });
  worker.terminate();
  await until(() => !existsSync(`/proc/${answer.thread}`), "the thread has ended");
  return answer.submitted;
}

/** Has a timer go off now. */
function fire(timer: Fd): void {
  const when = block(itimerspec.size);
  when.view.setBigInt64(itimerspec.it_value + 8, 1n, true);
  check(libc().timerfd_settime(timer.fd, 0, when.bytes, null), "timerfd_settime");
}

for (
  const [name, flags, expected] of [
    ["default", 0, ECANCELED],
    ["IOPOLL", IORING_SETUP_IOPOLL, EOPNOTSUPP],
    ["SQPOLL", IORING_SETUP_SQPOLL, 8],
  ] as const
) {
  test(`liburing read-before-exit: ${name}: a thread ends right after it has submitted`, {
    skip: missingRing({ flags }),
  }, async () => {
    for (let i = 0; i < 5; i++) {
      using first = new Fd(check(libc().timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create"));
      using second = new Fd(check(libc().timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create"));
      const buffer = block(16);
      const idle = flags === IORING_SETUP_SQPOLL ? { sqThreadIdle: 5 } : {};
      using ring = makeRing(8, { flags: flags | IORING_SETUP_R_DISABLED, ...idle });
      entry(ring, 1, (sqe) => sqe.prepRead(first.fd, buffer.address, 8, 0));
      entry(ring, 2, (sqe) => sqe.prepRead(second.fd, buffer.address + 8, 8, 0));
      // The entries are there for any thread to see, and none has submitted them.
      assert.throws(() => ring.submitAndWait(1), { code: "EBADFD" });
      ring.enableRings();
      assert.equal(await submitAndEnd(ring, 2), 2);
      if (expected !== EOPNOTSUPP) {
        assert.equal(ring.cqReady(), 0);
        // What the ended thread has submitted can no longer be done; the kernel's own thread goes on.
        for (const timer of [first, second]) fire(timer);
      }
      await until(() => ring.cqReady() === 2, "both reads have ended");
      const found: [number, number][] = [];
      ring.forEachCqe(({ userData, res }) => found.push([userData, res]));
      assert.deepEqual(found.sort(), [[1, expected], [2, expected]]);
    }
  });
}
