/** Servers that throw, stall, are killed or unmounted, and clients that are: nobody waits for ever. */
import assert from "node:assert/strict";
import process from "node:process";
import { type FileSystem, mount, type Request } from "../../src/fuse/mod.ts";
import {
  missingFuse,
  mounted,
  MountPoint,
  oneFile,
  shell,
  start,
  systemError,
  TRANSPORTS,
  tried,
} from "../support/fuse.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { until, within } from "../support/loop.ts";
import { fixture, run } from "../support/program.ts";

checkLeaks();

const skip = missingFuse();
const SIZE = 1_000_000;

/** A handler that never answers, and how often it was asked. */
function stalling(): { asked: number; read: () => Promise<number> } {
  const made = {
    asked: 0,
    read: (): Promise<number> => {
      made.asked++;
      return new Promise(() => {});
    },
  };
  return made;
}

for (const transport of TRANSPORTS.length > 0 ? TRANSPORTS : ["classic"] as const) {
  const each = (name: string, body: () => Promise<void>): void =>
    test(`${transport}: ${name}`, { skip }, body);

  each("what a handler throws reaches the client", async () => {
    const thrown: [unknown, RegExp][] = [
      [systemError("EDQUOT"), /quota exceeded/],
      [{ errno: -27 }, /File too large/],
      [{ errno: 11 }, /Resource temporarily unavailable/],
      [Object.assign(new Error(), { code: "ENOTSUP" }), /not supported/],
    ];
    let next = 0;
    const told: unknown[] = [];
    const fs = oneFile(SIZE, {
      mkdir: () => Promise.reject(new DOMException("x", "AbortError")),
      read: () => {
        const error = thrown[next >> 1]![0];
        if (next++ % 2 === 0) throw error;
        return Promise.reject(error);
      },
    });
    await mounted(fs, { transport, onError: (error) => told.push(error) }, async (path) => {
      for (const [, message] of thrown.flatMap((pair) => [pair, pair])) {
        const { err } = await tried("dd if=f bs=4096 count=1 iflag=direct status=none", path);
        assert.match(err, message);
      }
      assert.match((await tried("mkdir d", path)).err, /Interrupted system call/);
    });
    assert.deepEqual(told, []);
  });

  each("what is no system error is EIO for the client, and told", async () => {
    const told: string[] = [];
    const strange: (() => unknown)[] = [
      () => {
        throw new TypeError("a mistake");
      },
      () => Promise.reject("no error at all"),
      () => -1,
      () => SIZE + 1,
      () => "many",
      () => undefined,
    ];
    let next = 0;
    const fs = oneFile(SIZE, {
      open: () => ({ handle: 1, directIo: true }),
      read: () => strange[next++]!() as number,
    });
    const onError = (error: unknown, { operation, node }: { operation: string; node: number }): void => {
      told.push(`${operation} ${node} ${error instanceof Error ? error.name : String(error)}`);
      throw new Error("from onError itself");
    };
    await mounted(fs, { transport, onError }, async (path) => {
      for (const _ of strange) assert.match((await tried("cat f", path)).err, /Input\/output error/);
      assert.match((await tried("cat g", path)).err, /No such file/);
    });
    assert.deepEqual(told, [
      "read 2 TypeError",
      "read 2 no error at all",
      ...Array(4).fill("read 2 AnswerError"),
    ]);
  });

  each("answers that make no sense do no harm", async () => {
    const told: string[] = [];
    const strange = (answer: unknown): never => answer as never;
    const fs = oneFile(SIZE, {
      lookup: (_, name) => strange(name === "f" ? { node: 0, attributes: { mode: 0o100644 } } : null),
      mkdir: () => strange({ node: 3 }),
      create: () => strange({ entry: { node: 4, attributes: { mode: 0o100644 } }, opened: { handle: -1 } }),
      readdir: (_, __, offset, out) => {
        if (offset === 0) out.add("", 3, 0, 1);
      },
    });
    await mounted(
      fs,
      { transport, onError: (_, { operation }) => told.push(operation) },
      async (path) => {
        for (const line of ["cat f", "mkdir d", "echo >new", "ls"]) {
          assert.match((await tried(line, path)).err, /Input\/output error/, line);
        }
        assert.equal((await tried("test -d .", path)).status, 0);
      },
    );
    assert.deepEqual([...new Set(told)].sort(), ["create", "lookup", "mkdir", "readdir"]);
  });

  each("a handler that stalls: ETIMEDOUT, however many, and the others go on", async () => {
    const stall = stalling();
    const fs = oneFile(SIZE, { open: () => ({ handle: 1, directIo: true }), read: stall.read });
    await mounted(fs, { transport, requestTimeout: 150, queueDepth: 2 }, async (path, { stats }) => {
      assert.equal(stats.timedOut, 0);
      const said = await tried(
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do cat f & done; wait; stat -c %s f",
        path,
      );
      assert.equal(said.err.match(/Connection timed out/g)?.length, 12, said.err);
      assert.equal(said.out, `${SIZE}\n`);
    });
    assert.equal(stall.asked, 12);
  });

  each("what a handler does after its time harms nobody, and is taken back", async () => {
    const late: { answer: () => void; buffer: Uint8Array }[] = [];
    const released: number[] = [];
    const forgotten: number[] = [];
    let stall = true;
    const fs: FileSystem = oneFile(SIZE, {
      open: () => ({ handle: 1, directIo: true }),
      read(_, __, buffer) {
        if (!stall) {
          buffer.fill(1);
          return buffer.length;
        }
        return new Promise((resolve) => late.push({ answer: () => resolve(7), buffer }));
      },
      create: (_, name) =>
        new Promise((resolve) =>
          late.push({
            answer: () =>
              resolve({ entry: { node: name.length + 10, attributes: { mode: 0o100644 } }, opened: 77 }),
            buffer: new Uint8Array(0),
          })
        ),
      release: (_, handle) => void released.push(handle),
      forget: (node) => void forgotten.push(node),
    });
    await mounted(fs, { transport, requestTimeout: 100, queueDepth: 1 }, async (path, { stats }) => {
      assert.match((await tried("cat f", path)).err, /timed out/);
      assert.match((await tried("echo >new", path)).err, /timed out/);
      // Some shells and clients ask more than once.
      const reader = late.find(({ buffer }) => buffer.length > 0)!;
      assert.ok(late.some(({ buffer }) => buffer.length === 0));
      stall = false;
      // On one core, all come by the slot that the first reader's handler has still got the memory of.
      const line =
        "for cpu in 0 1; do taskset -c $cpu head -c 300000 f 2>/dev/null; done | tr -d '\\001' | wc -c";
      const reading = shell(line, path);
      reader.buffer.fill(9);
      assert.equal((await reading).trim(), "0");
      assert.ok(reader.buffer.every((byte) => byte === 9));
      for (const { answer } of late) answer();
      await until(() => released.includes(77) && forgotten.includes(13), "taken back");
      assert.equal(stats.inFlight, 0);
      assert.equal((await shell(line, path)).trim(), "0");
    });
  });

  each("a client that is killed in the middle is gone, and its handler knows", async () => {
    const signals: AbortSignal[] = [];
    let listen = true;
    const fs = oneFile(SIZE, {
      open: () => ({ handle: 1, directIo: true }),
      read: (_, __, ___, ____, request: Request) => {
        const { signal } = request;
        signals.push(signal);
        if (!listen) return new Promise(() => {});
        return new Promise((_, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason));
        });
      },
    });
    await mounted(fs, { transport }, async (path, mount) => {
      for (listen of [true, false]) {
        const before = signals.length;
        const client = start("cat", [`${path}/f`]);
        await until(() => signals.length > before, "asked");
        client.kill("SIGKILL");
        assert.equal((await within(client.ended, "the client that was killed")).status, "SIGKILL");
        await until(() => signals[before]!.aborted, "the handler knows");
        assert.equal((signals[before]!.reason as { code: string }).code, "EINTR");
      }
      assert.equal(mount.stats.interrupted, 2);
      await until(() => mount.stats.inFlight === 0, "nothing left behind");
      assert.equal(await shell("stat -c %s f", path), `${SIZE}\n`);
    });
  });

  each("a signal that a client handles does not disturb its request", async () => {
    let answer: (() => void) | null = null;
    const fs = oneFile(4, {
      open: () => ({ handle: 1, directIo: true }),
      read: (_, __, buffer, offset) => {
        if (offset > 0) return 0;
        buffer.set([111, 107, 33, 10]);
        return new Promise((resolve) => answer = () => resolve(4));
      },
    });
    await mounted(fs, { transport }, async (path, mount) => {
      // SIGWINCH is ignored by default, SIGCHLD too; dd handles SIGUSR1 by saying how far it is.
      const client = start("dd", [`if=${path}/f`, "bs=4096"]);
      await until(() => answer !== null, "asked");
      process.kill(client.pid, "SIGUSR1");
      await until(() => mount.stats.interrupted === 1, "interrupted");
      answer!();
      const { status, out } = await client.ended;
      assert.deepEqual({ status, out }, { status: 0, out: "ok!\n" });
    });
  });

  each("unmounting with requests in flight", async () => {
    using point = new MountPoint();
    const stall = stalling();
    let signal: AbortSignal | undefined;
    const fs = oneFile(SIZE, {
      open: (_, __, request) => {
        signal ??= request.signal;
        return { handle: 1, directIo: true };
      },
      read: stall.read,
    });
    const served = await mount(point.path, fs, { transport });
    const clients = Array.from({ length: 20 }, () => start("cat", [`${point.path}/f`]));
    await until(() => stall.asked > 7, "asked");
    const unmounting = served.unmount({ timeout: 100 });
    assert.equal(point.mounts, 0);
    await within(unmounting, "unmounting");
    await served.finished;
    for (const { ended } of clients) {
      const { status, err } = await within(ended, "a client");
      assert.equal(status, 1);
      assert.match(err, /connection abort|not connected|No such/i);
    }
    assert.ok(signal !== undefined);
    await served.unmount();
  });

  each("what is written into the kernel's cache comes before the end", async () => {
    using point = new MountPoint();
    const file = new Uint8Array(SIZE);
    const fs = oneFile(SIZE, {
      setattr: () => ({ mode: 0o100644, size: SIZE }),
      // What is written is the part of a page.
      read(_, __, buffer, offset) {
        buffer.set(file.subarray(offset, offset + buffer.length));
        return Math.min(buffer.length, SIZE - offset);
      },
      write: async (_, __, data, offset) => {
        await new Promise((resolve) => setTimeout(resolve, 2));
        file.set(data, offset);
        return data.length;
      },
    });
    const served = await mount(point.path, fs, { transport, writebackCache: true });
    await shell(
      "head -c 1000000 /dev/zero | tr '\\0' x | dd of=f conv=notrunc bs=100000 status=none",
      point.path,
    );
    await served.unmount();
    assert.ok(file.every((byte) => byte === 120));
  });

  each("unmounted by somebody else", async () => {
    using point = new MountPoint();
    let destroyed = 0;
    const served = await mount(point.path, oneFile(SIZE, { destroy: () => void destroyed++ }), { transport });
    await shell("stat f", point.path);
    await shell(`umount ${point.path}`, "/");
    await within(served.finished, "the end");
    assert.equal(destroyed, 1);
    assert.equal(point.mounts, 0);
  });

  each("cut off by force: it ends, and the mount point is free", async () => {
    using point = new MountPoint();
    const stall = stalling();
    const fs = oneFile(SIZE, { open: () => ({ handle: 1, directIo: true }), read: stall.read });
    const served = await mount(point.path, fs, { transport });
    const client = start("cat", [`${point.path}/f`]);
    await until(() => stall.asked === 1, "asked");
    // The first cuts the connection, although it fails: somebody uses it.
    await tried(`umount -f ${point.path}`, "/");
    assert.match((await within(client.ended, "the client")).err, /abort|not connected/i);
    // The handler gets as long as it would when unmounting.
    await within(served.finished, "the end");
    assert.equal(point.mounts, 0);
  });

  each("a server that is killed: its clients get an error, and the next one clears up", async () => {
    using point = new MountPoint();
    let pid = 0;
    let client: ReturnType<typeof start> | null = null;
    const ended = await run(fixture("fuse_server.ts"), [point.path, transport, "stall"], {
      permissions: ["--allow-ffi"],
      prefix: ["sh", "-c", 'echo $$; exec "$@"', "sh"],
      onLine(line) {
        if (/^\d+$/.test(line)) pid = Number(line);
        else if (line === "mounted") client = start("cat", [`${point.path}/f`]);
        else process.kill(pid, "SIGKILL");
      },
    });
    assert.equal(ended.signal, "SIGKILL", `${ended.stdout}${ended.stderr}`);
    const { status, err } = await within(client!.ended, "the client");
    assert.equal(status, 1);
    assert.match(err, /abort|not connected/i);
    assert.equal(point.mounts, 1);
    assert.match((await tried(`stat ${point.path}`, "/")).err, /not connected/);
    const served = await mount(point.path, oneFile(SIZE), { transport });
    assert.equal(point.mounts, 1);
    assert.equal(await shell("stat -c %s f", point.path), `${SIZE}\n`);
    await served.unmount();
    assert.equal(point.mounts, 0);
  });

  each("a process that exits leaves nothing mounted, and no client waiting", async () => {
    using point = new MountPoint();
    let client: ReturnType<typeof start> | null = null;
    const { code, stderr } = await run(fixture("fuse_server.ts"), [point.path, transport, "exit"], {
      onLine(line) {
        if (line === "mounted") client = start("cat", [`${point.path}/f`]);
      },
    });
    assert.equal(code, 0, stderr);
    assert.match((await within(client!.ended, "the client")).err, /abort|not connected/i);
    assert.equal(point.mounts, 0);
  });
}
