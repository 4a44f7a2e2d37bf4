/** File systems on the kernel of the lab; with FUSE over io_uring switched off, too, which a shared machine must not be. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { mount } from "../../src/fuse/mod.ts";
import { Client } from "../support/client.ts";
import { missingFuse, mounted, MountPoint, oneFile, shell, start } from "../support/fuse.ts";
import { test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";
import { until } from "../support/loop.ts";

checkLeaks();

const skip = missingFuse();
const SWITCH = "/sys/module/fuse/parameters/enable_uring";
const SIZE = 300_000;

/** Runs `body` while the tests of the other runtime do not: the switch is everybody's. */
async function alone(body: () => Promise<void>): Promise<void> {
  const lock = "/tmp/uring-lab-fuse";
  for (;;) {
    try {
      mkdirSync(lock);
      break;
    } catch {
      await sleep(20);
    }
  }
  const before = readFileSync(SWITCH, "utf8");
  try {
    await body();
  } finally {
    writeFileSync(SWITCH, before);
    rmdirSync(lock);
  }
}

test("requests over io_uring and by the device: what was written is read", { skip }, () =>
  alone(async () => {
    writeFileSync(SWITCH, "Y");
    await using client = await Client.start();
    for (const transport of ["uring", "classic"] as const) {
      const file = new Uint8Array(SIZE);
      const fs = oneFile(SIZE, {
        open: () => ({ handle: 1, directIo: true }),
        setattr: () => ({ mode: 0o100644, size: SIZE }),
        async write(_, __, data, offset) {
          await Promise.resolve();
          file.set(data, offset);
          return data.length;
        },
        read(_, __, buffer, offset) {
          const part = file.subarray(offset, offset + buffer.length);
          buffer.set(part);
          return part.length;
        },
      });
      await mounted(fs, { transport }, async (path) => {
        const same = await client.run(
          ({ fs }, path, size) => {
            const data = new Uint8Array(size).map((_, i) => i % 251);
            const fd = fs.openSync(path, "r+");
            const read = new Uint8Array(size);
            const counts = [fs.writeSync(fd, data, 0, size, 0), fs.readSync(fd, read, 0, size, 0)];
            fs.closeSync(fd);
            return counts.every((count) => count === size) && read.every((byte, i) => byte === i % 251);
          },
          `${path}/f`,
          SIZE,
        );
        assert.ok(same);
      });
    }
  }));

test("a client that is killed is gone, and its handler knows", { skip }, () =>
  alone(async () => {
    writeFileSync(SWITCH, "Y");
    let signal: AbortSignal | undefined;
    const fs = oneFile(SIZE, {
      open: () => ({ handle: 1, directIo: true }),
      read: (_, __, ___, ____, request) => {
        signal = request.signal;
        return new Promise(() => {});
      },
    });
    await mounted(fs, { transport: "uring" }, async (path, { stats }) => {
      const client = start("dd", [`if=${path}/f`, "of=/dev/null", "bs=4096", "count=1"]);
      await until(() => signal !== undefined, "asked");
      client.kill("SIGKILL");
      assert.equal((await client.ended).status, "SIGKILL");
      await until(() => signal!.aborted, "the handler knows");
      assert.equal(stats.timedOut, 0);
    });
  }));

test(
  "switched off: what was insisted on fails and says what to do, the rest goes by the device",
  { skip },
  () =>
    alone(async () => {
      writeFileSync(SWITCH, "N");
      using point = new MountPoint();
      await assert.rejects(mount(point.path, oneFile(SIZE), { transport: "uring" }), {
        code: "ENOSYS",
        message: /switched off: echo Y > \/sys\/module\/fuse\/parameters\/enable_uring/,
      });
      assert.equal(point.mounts, 0);
      await mounted(oneFile(SIZE), {}, async (path, { transport }) => {
        assert.equal(transport, "classic");
        assert.equal((await shell("stat -c %s f", path)).trim(), String(SIZE));
      });
    }),
);
