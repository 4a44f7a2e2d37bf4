/** Direct descriptors through chains: opened, used and closed without ever becoming descriptors of the process. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { AF_UNIX, IORING_OP_BIND, SOCK_STREAM } from "../../src/ffi/abi.ts";
import { DirectDescriptor, UringError } from "../../src/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, SocketPair } from "../support/loop.ts";
import {
  assertAllFree,
  bytes,
  countDescriptors,
  failure,
  flushed,
  put,
  text,
} from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

/** Whether what a settled step says is an error with this code. */
function code(result: PromiseSettledResult<unknown>): string {
  if (result.status === "fulfilled") return "ok";
  return result.reason instanceof UringError ? result.reason.code : String(result.reason);
}

test("open, read, close: no descriptor of the process is ever seen", async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  using dir = new TempDir();
  using pair = new SocketPair();
  writeFileSync(dir.of("file"), "content");
  const buffer = new Uint8Array(7);
  let file: DirectDescriptor | undefined;
  const chain = uring.link((l) => {
    file = l.direct();
    return [
      l.openat(dir.of("file"), { direct: file }),
      l.read(file, buffer),
      // Here it stops, with the file open.
      l.recv(pair.a.fd, new Uint8Array(1)),
      l.close(file),
    ];
  });
  await flushed(uring);
  await uring.timeout(5);
  assert.equal(text(buffer), "content");
  assert.equal(countDescriptors(/uring-test-.*file/), 0);
  put(pair.b.fd, "x");
  const results = await chain;
  assert.equal(results[0], file);
  assert.equal(results[1], 7);
  assert.ok(file!.closed);
  assert.equal(countDescriptors(/uring-test-.*file/), 0);
  await assertAllFree(uring, 2);
});

test("the file goes on being usable after the chain that opened it", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const [file] = await uring.link((l) => {
    const file = l.direct();
    return [l.openat(dir.of("file"), { flags: "w+", direct: file }), l.write(file, bytes("kept"))];
  });
  const buffer = new Uint8Array(8);
  assert.equal(text(buffer, await uring.read(file, buffer, { offset: 0 })), "kept");
  await uring.link((l) => [l.fsync(file), l.close(file)]);
  assert.ok(file.closed);
});

test("thousands of files through a table of four", async () => {
  await using uring = makeUring({ directDescriptors: 8, entries: 16 });
  using dir = new TempDir();
  for (let i = 0; i < 20; i++) writeFileSync(dir.of(String(i)), `file ${String(i).padStart(3, "0")}`);
  const worker = async (first: number): Promise<void> => {
    for (let i = first; i < 1000; i += 4) {
      const buffer = new Uint8Array(8);
      await uring.link((l) => {
        const file = l.direct();
        return [l.openat(dir.of(String(i % 20)), { direct: file }), l.read(file, buffer), l.close(file)];
      });
      assert.equal(text(buffer), `file ${String(i % 20).padStart(3, "0")}`);
    }
  };
  await Promise.all([0, 1, 2, 3].map(worker));
  await assertAllFree(uring, 4);
});

test("an open that fails: the rest is cancelled, the slot is free again", async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  for (const hard of [false, true]) {
    for (let i = 0; i < 5; i++) {
      const results = await uring.linkSettled((l) => {
        const file = l.direct();
        return [
          l.openat("/nonexistent", { direct: file }),
          l.read(file, new Uint8Array(1)),
          l.close(file),
        ];
      }, { hard });
      assert.deepEqual(
        results.map(code),
        hard ? ["ENOENT", "EBADF", "EBADF"] : ["ENOENT", "ECANCELED", "ECANCELED"],
      );
    }
    await assertAllFree(uring, 2);
  }
});

test("a close that was cancelled closes all the same", async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  for (let i = 0; i < 5; i++) {
    let file: DirectDescriptor | undefined;
    const results = await uring.linkSettled((l) => {
      file = l.direct();
      return [
        l.openat("/proc/self/comm", { direct: file }),
        // Shorter than asked for: the chain ends here.
        l.read(file, new Uint8Array(10_000)),
        l.close(file),
      ];
    });
    assert.deepEqual(results.map(code), ["ok", "ok", "ECANCELED"]);
    assert.ok(file!.closed);
  }
  await assertAllFree(uring, 2);
});

test("a close of a file that was open before, cancelled or never submitted", async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  for (let i = 0; i < 5; i++) {
    const file = await uring.openat("/proc/self/comm", { direct: true });
    const results = await uring.linkSettled((l) => [l.read(file, new Uint8Array(10_000)), l.close(file)]);
    assert.deepEqual(results.map(code), ["ok", "ECANCELED"]);
    assert.ok(file.closed);
    await uring.nop();
    const second = await uring.openat("/proc/self/comm", { direct: true });
    await assert.rejects(
      uring.link((l) => [l.close(second), l.read(0, new Uint8Array(1), { offset: -2 })]),
      RangeError,
    );
    assert.ok(second.closed);
    await uring.nop();
  }
  await assertAllFree(uring, 2);
});

test("an aborted open: its slot is given back once, whatever the chain does", async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  for (const when of ["before", "same turn", "submitted"] as const) {
    for (const read of [1, 10_000]) {
      const controller = new AbortController();
      if (when === "before") controller.abort("reason");
      const chain = uring.linkSettled((l) => {
        const file = l.direct();
        return [
          l.openat("/proc/self/comm", { direct: file, signal: controller.signal }),
          l.read(file, new Uint8Array(read)),
          l.close(file),
        ];
      });
      if (when === "same turn") controller.abort("reason");
      if (when === "submitted") {
        await flushed(uring);
        controller.abort("reason");
      }
      const results = await chain;
      if (when !== "submitted") {
        assert.deepEqual(results.map(code), ["reason", "ECANCELED", "ECANCELED"], `${when} ${read}`);
      }
      await assertAllFree(uring, 2);
    }
  }
});

test("one that was reserved and not used is given back", async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  for (let i = 0; i < 5; i++) {
    await uring.link((l) => {
      l.direct();
      return [l.nop()];
    });
    await uring.link((l) => {
      l.direct();
      l.direct();
      return [];
    });
    await assert.rejects(uring.link((l) => {
      l.direct();
      throw new Error("no");
    }));
    await assert.rejects(uring.link((l) => {
      const file = l.direct();
      l.openat("/proc/self/comm", { direct: file });
      l.close(file);
      throw new Error("no");
    }));
  }
  // More than there are.
  const error = await failure(
    uring.link((l) => [l.close(l.direct()), l.close(l.direct()), l.close(l.direct())]),
  );
  assert.equal(error.code, "ENFILE");
  await assertAllFree(uring, 2);
});

test("closed twice in a chain: the second says so, the slot is free once", async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  const results = await uring.linkSettled((l) => {
    const file = l.direct();
    return [l.openat("/proc/self/comm", { direct: file }), l.close(file), l.close(file)];
  });
  assert.deepEqual(results.map(code), ["ok", "ok", "EBADF"]);
  await assertAllFree(uring, 2);
});

test("a socket through a chain", { skip: missingOp(IORING_OP_BIND) }, async () => {
  await using uring = makeUring();
  const address = { family: "unix", path: `\0uring-links-${performance.now()}` } as const;
  const [server] = await uring.link((l) => {
    const server = l.direct();
    return [
      l.socket(AF_UNIX, SOCK_STREAM, 0, { direct: server }),
      l.bind(server, address),
      l.listen(server),
    ];
  });
  const accepting = uring.link((l) => {
    const connection = l.direct();
    return [
      l.accept(server, { direct: connection }),
      l.send(connection, bytes("welcome")),
      l.close(connection),
    ];
  });
  const buffer = new Uint8Array(16);
  const results = await uring.linkSettled((l) => {
    const client = l.direct();
    return [
      l.socket(AF_UNIX, SOCK_STREAM, 0, { direct: client }),
      l.connect(client, address),
      l.recv(client, buffer, { length: 7 }),
      l.close(client),
    ];
  });
  assert.deepEqual(results.map(code), ["ok", "ok", "ok", "ok"]);
  assert.equal(text(buffer, 7), "welcome");
  await accepting;
  await uring.close(server);
});

test("a ring closed in the same turn: what was opened is closed with it", async () => {
  await using watcher = makeUring();
  await watcher.timeout(1);
  const before = countDescriptors(/./);
  for (const direct of [false, true]) {
    const uring = makeUring();
    const single = uring.openat("/proc/self/comm", { timeout: 60_000 });
    const chain = uring.linkSettled((l) => [
      direct ? l.openat("/proc/self/comm", { direct: l.direct() }) : l.openat("/proc/self/comm"),
      l.nop(),
    ]);
    const [error] = await Promise.all([failure(single), uring.disposeAsync()]);
    assert.equal(error.code, "ECANCELED");
    assert.deepEqual((await chain).map(code), ["ECANCELED", "ECANCELED"]);
    assert.equal(countDescriptors(/./), before);
  }
});
