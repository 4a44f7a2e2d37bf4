/** Mounting, what is said of it, and what cannot be. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type Mount, mount, type MountOptions } from "../../src/fuse/mod.ts";
import { answerInit, offersUring } from "../../src/fuse/handshake.ts";
import { FUSE_INIT_EXT, FUSE_OVER_IO_URING } from "../../src/fuse/abi.ts";
import { possibleProcessors } from "../../src/fuse/uring_queues.ts";
import { missingFuse, mounted, MountPoint, oneFile, shell, TRANSPORTS, tried } from "../support/fuse.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { until } from "../support/loop.ts";
import { fixture, run } from "../support/program.ts";

checkLeaks();

const skip = missingFuse();
const FS = oneFile(10);

/** The line of a mount point in a table. */
function lineOf(path: string): string {
  return readFileSync("/proc/self/mounts", "utf8").split("\n").find((line) => line.includes(` ${path} `)) ??
    "";
}

test("what is wrong is told before anything is mounted", { skip }, async () => {
  using point = new MountPoint();
  const wrong: [MountOptions, RegExp][] = [
    [{ transport: "smoke" as never }, /transport/],
    [{ names: "ebcdic" as never }, /names/],
    [{ names: "toString" as never }, /names/],
    [{ maxWrite: 5000 }, /maxWrite/],
    [{ maxWrite: 2 ** 21 }, /maxWrite/],
    [{ queueDepth: 0 }, /queueDepth/],
    [{ maxBackground: 0 }, /maxBackground/],
    [{ maxReadahead: -1 }, /maxReadahead/],
    [{ entryTimeout: -1 }, /entryTimeout/],
    [{ attributeTimeout: NaN }, /attributeTimeout/],
    [{ negativeTimeout: Infinity }, /negativeTimeout/],
    [{ requestTimeout: -1 }, /requestTimeout/],
  ];
  for (const [options, message] of wrong) {
    await assert.rejects(mount(point.path, FS, options), { name: "RangeError", message }, String(message));
  }
  await assert.rejects(mount(point.path, {} as never), TypeError);
  await assert.rejects(mount(point.path, null as never), TypeError);
  await assert.rejects(mount("a\0b", FS), TypeError);
  await assert.rejects(mount(point.path, FS, { source: "" }), TypeError);
  await assert.rejects(mount("/nowhere/at/all", FS), { code: "ENOENT", path: "/nowhere/at/all" });
  writeFileSync(point.of("file"), "");
  await assert.rejects(mount(point.of("file"), FS), { code: "ENOTDIR", syscall: "mount" });
  await shell("rm file", point.path);
  assert.equal(point.mounts, 0);
});

test("without the privilege: EPERM, and what to do", { skip }, async () => {
  using point = new MountPoint();
  const { code, stderr } = await run(fixture("fuse_server.ts"), [point.path, "classic", "stall"], {
    prefix: ["setpriv", "--bounding-set=-sys_admin"],
  });
  assert.notEqual(code, 0);
  assert.match(stderr, /EPERM.*run as root/);
  assert.equal(point.mounts, 0);
});

test("what the kernel offers, and what it is answered", () => {
  const init = new DataView(new ArrayBuffer(104));
  assert.equal(offersUring(init), false);
  init.setUint32(40 + 16, FUSE_OVER_IO_URING / 2 ** 32, true);
  // The upper half counts only where the lower says so.
  assert.equal(offersUring(init), false);
  init.setUint32(40 + 12, FUSE_INIT_EXT, true);
  assert.equal(offersUring(init), true);
  const wishes = {
    uring: true,
    readdirplus: false,
    writebackCache: false,
    atomicTruncate: false,
    cacheSymlinks: false,
    maxWrite: 4096,
    maxReadahead: undefined,
    maxBackground: 1,
    cutAfter: 0,
  };
  init.setUint32(40, 7, true);
  init.setUint32(44, 27, true);
  assert.throws(() => answerInit(-1, init, wishes), { code: "EPROTO", message: /Linux 4\.20/ });
  init.setUint32(44, 28, true);
  assert.throws(() => answerInit(-1, init, wishes), { code: "EBADF" });
});

test("there is a queue for each processor that there can be", () => {
  const online = Number(readFileSync("/sys/devices/system/cpu/online", "utf8").match(/(\d+)\s*$/)![1]) + 1;
  assert.ok(possibleProcessors() >= online);
});

for (const transport of TRANSPORTS.length > 0 ? TRANSPORTS : ["classic"] as const) {
  const each = (name: string, body: () => Promise<void>): void =>
    test(`${transport}: ${name}`, { skip }, body);

  each("what is mounted is what was asked for", async () => {
    using point = new MountPoint();
    const options = { transport, source: "some where", subtype: "own", readOnly: true, allowOther: true };
    const served = await mount(point.path, FS, { ...options, defaultPermissions: true });
    assert.equal(served.transport, transport);
    assert.equal(served.mountpoint, point.path);
    assert.match(
      lineOf(point.path),
      /^some\\040where \S+ fuse\.own ro,nosuid,nodev.*default_permissions,allow_other/,
    );
    assert.match((await tried("echo >f", point.path)).err, /Read-only/);
    const { requests, inFlight } = served.stats;
    assert.ok(requests > 0);
    assert.equal(inFlight, 0);
    await served[Symbol.asyncDispose]();
    await mounted(FS, { transport, suid: true, dev: true }, async (path) => {
      await Promise.resolve();
      assert.match(lineOf(path), /^uring \S+ fuse rw,relatime/);
    });
  });

  each("by a relative path, and one over the other", async () => {
    using point = new MountPoint();
    const first = await mount(`${point.path}/../${point.path.split("/").at(-1)!}/.`, FS, { transport });
    assert.equal(first.mountpoint, point.path);
    const second = await mount(point.path, oneFile(20), { transport });
    assert.equal(await shell("stat -c %s f", point.path), "20\n");
    // The lower one is not what is found there: it stays until the upper one has gone.
    await second.unmount();
    assert.equal(await shell("stat -c %s f", point.path), "10\n");
    await first.unmount();
    assert.equal(point.mounts, 0);
  });

  each("many at a time, and again and again", async () => {
    const points = Array.from({ length: 8 }, () => new MountPoint());
    for (let round = 0; round < 3; round++) {
      const served: Mount[] = await Promise.all(
        points.map(({ path }, i) => mount(path, oneFile(i), { transport })),
      );
      const sizes = await shell(`stat -c %s ${points.map((point) => point.of("f")).join(" ")}`, "/");
      assert.equal(sizes, "0\n1\n2\n3\n4\n5\n6\n7\n");
      await Promise.all(served.map((mount) => mount.unmount()));
      await Promise.all(served.map((mount) => mount.unmount()));
    }
    for (const point of points) point[Symbol.dispose]();
  });

  each("files that are open are served for a while after unmounting", async () => {
    using point = new MountPoint();
    let opened = false;
    const fs = oneFile(10, {
      open() {
        opened = true;
        return { handle: 1, directIo: true };
      },
      read: (_, __, buffer, offset) => offset === 0 ? (buffer.fill(120, 0, 5), 5) : 0,
    });
    const served = await mount(point.path, fs, { transport });
    const reading = shell(
      "exec <f; cd /; until ! grep -q $0 /proc/self/mounts; do sleep 0.01; done; cat",
      point.path,
    );
    await until(() => opened, "opened");
    const unmounting = served.unmount({ timeout: 10_000 });
    assert.equal(await reading, "xxxxx");
    await unmounting;
    await assert.rejects(served.unmount({ timeout: -1 }), RangeError);
    await assert.rejects(served.invalidate(1), { code: "ENODEV" });
  });

  each("a mounted file system costs nothing while nobody uses it", async () => {
    await mounted(FS, { transport }, async (path) => {
      await shell("stat f", path);
      await sleep(50);
      const before = processorTime();
      await sleep(300);
      assert.ok(processorTime() - before < 150_000, "it uses a processor all the time");
    });
  });
}

/** Microseconds of processor time of this process. */
function processorTime(): number {
  const [, rest] = readFileSync("/proc/self/stat", "latin1").split(") ");
  const fields = rest!.split(" ");
  const TICK_US = 10_000;
  return (Number(fields[11]) + Number(fields[12])) * TICK_US;
}
