/** Rings that are dropped without being closed: idle ones are collected, busy ones are not. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { AF_UNIX, POLLIN, SOCK_STREAM } from "../../src/ffi/abi.ts";
import type { Uring } from "../../src/mod.ts";
import { Pipe } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks, type Snapshot, snapshot } from "../support/leaks.ts";
import { collect, FLAGS, makeUring, sleep, SocketPair, within } from "../support/loop.ts";

checkLeaks();

/** A stack that has been walked over leaves no traces of what was on it: Bun's collector reads it. */
function walkOver(depth: number): number {
  return depth === 0 ? 0 : 1 + walkOver(depth - 1);
}

function rings({ fds, mappings }: Snapshot): { fds: number; mappings: number; areas: number } {
  return {
    fds: [...fds.values()].filter((what) => what === "anon_inode:[io_uring]").length,
    mappings: mappings.get("anon_inode:[io_uring]") ?? 0,
    areas:
      readFileSync("/proc/self/smaps", "utf8").split("\n").filter((line) =>
        /^VmFlags:.* dc /.test(`${line} `)
      )
        .length,
  };
}

/** Some that the collector does not know to be gone are none of the library's fault. */
const SLACK = 8;

async function assertBackTo(before: ReturnType<typeof rings>): Promise<void> {
  let now = rings(snapshot());
  for (let i = 0; i < 100; i++) {
    now = rings(snapshot());
    if (now.fds <= before.fds + SLACK / 4 && now.mappings <= before.mappings + SLACK) break;
    walkOver(200);
    collect();
    await sleep(10);
  }
  assert.ok(now.fds <= before.fds + SLACK / 4, `${before.fds} descriptors of rings became ${now.fds}`);
  assert.ok(now.mappings <= before.mappings + SLACK, `${before.mappings} mappings became ${now.mappings}`);
  assert.ok(now.areas <= before.areas + SLACK, `${before.areas} areas of memory became ${now.areas}`);
}

/** Makes rings, uses them and drops them. */
async function makeAndDrop(count: number, use: (uring: Uring) => Promise<unknown>): Promise<void> {
  for (let i = 0; i < count; i++) {
    await use(makeUring({ entries: 8, flags: FLAGS[i % 5]!.skip === false ? FLAGS[i % 5]!.flags : 0 }));
    if (i % 20 === 19) {
      collect();
      await sleep(1);
    }
  }
}

const USES: readonly (readonly [string, (uring: Uring) => Promise<unknown>])[] = [
  ["never used", () => Promise.resolve()],
  ["used", (uring) => uring.nop()],
  ["that have slept", (uring) => uring.timeout(5)],
  ["with direct descriptors", async (uring) => {
    await uring.openat("/dev/null", { direct: true });
  }],
  ["with a pool of buffers", async (uring) => {
    using pair = new SocketPair();
    const chunks = uring.recvMultishot(pair.a.fd, { pool: uring.bufferPool({ count: 8, size: 512 }) });
    await assert.rejects(uring.read(-1, new Uint8Array(1)));
    const first = chunks.next();
    await uring.write(pair.b.fd, new Uint8Array(100));
    assert.equal((await first).value?.length, 100);
    await chunks.return();
  }],
  ["after a chain with a time limit", async (uring) => {
    const sockets = await uring.link((
      l,
    ) => [l.nop(), l.socket(AF_UNIX, SOCK_STREAM, 0, { timeout: 60_000 })]);
    await uring.close(sockets[1]);
  }],
];

for (const [name, use] of USES) {
  test(`200 dropped rings ${name} leave nothing behind`, async () => {
    // Whatever comes at first use is there from here on.
    await makeAndDrop(2, use);
    collect();
    await sleep(20);
    const before = rings(snapshot());
    await makeAndDrop(200, use);
    await assertBackTo(before);
  });
}

test("registered descriptors of dropped rings are given back, too", async () => {
  // A thread has 16 places.
  await makeAndDrop(100, (uring) => uring.nop());
  for (let i = 0; i < 20; i++) {
    walkOver(200);
    collect();
    await sleep(5);
  }
  await using uring = makeUring({ entries: 8 });
  await uring.nop();
  const { enterFd, ringFd } = uring.ring as unknown as { enterFd: number; ringFd: number };
  assert.notEqual(enterFd, ringFd);
});

test("a dropped ring with work in flight is kept until the work has ended", async () => {
  using pipe = new Pipe();
  const finalized = new Set<number>();
  const registry = new FinalizationRegistry<number>((which) => finalized.add(which));
  const pending: Promise<number>[] = [];
  (() => {
    for (let i = 0; i < 10; i++) {
      const uring = makeUring({ entries: 8 });
      registry.register(uring.ring, i);
      // The buffer, too, is known to the operation alone.
      pending.push(uring.read(pipe.reader.fd, new Uint8Array(1 + i * 300), { length: 1 }));
    }
  })();
  for (let i = 0; i < 20; i++) {
    walkOver(200);
    collect();
    await sleep(5);
  }
  assert.equal(finalized.size, 0);
  pipe.write("0123456789");
  const lengths = await within(Promise.all(pending), "the reads");
  assert.deepEqual(lengths, new Array(10).fill(1));
});

test("buffers that only their operation knows stay until it ends", async () => {
  using pipe = new Pipe();
  await using uring = makeUring();
  const buffers: WeakRef<Uint8Array>[] = [];
  const pending = (() =>
    Array.from({ length: 100 }, (_, i) => {
      const buffer = new Uint8Array(1 + i * 20);
      buffers.push(new WeakRef(buffer));
      return uring.read(pipe.reader.fd, buffer, { length: 1 });
    }))();
  for (let i = 0; i < 10; i++) {
    walkOver(200);
    collect();
    await sleep(5);
    // Something else would take the place of what was freed.
    for (let k = 0; k < 1000; k++) new Uint8Array(1 + k * 2).fill(0xee);
  }
  const alive = buffers.map((buffer) => buffer.deref());
  assert.ok(alive.every((buffer) => buffer !== undefined));
  pipe.write("x".repeat(100));
  assert.deepEqual(await within(Promise.all(pending), "the reads"), new Array(100).fill(1));
  assert.ok(alive.every((buffer) => buffer![0] === "x".charCodeAt(0)));
});

test("a thousand abandoned promises hold nothing once they have settled", async () => {
  using pipe = new Pipe();
  await using uring = makeUring();
  const buffers: WeakRef<Uint8Array>[] = [];
  await (async () => {
    const pending = Array.from({ length: 1000 }, () => {
      const buffer = new Uint8Array(2000);
      buffers.push(new WeakRef(buffer));
      return uring.read(pipe.reader.fd, buffer, { signal: AbortSignal.timeout(1) });
    });
    const outcomes = await within(Promise.allSettled(pending), "the reads");
    assert.ok(outcomes.every(({ status }) => status === "rejected"));
  })();
  const poll = uring.poll(pipe.reader.fd, POLLIN);
  let alive = 1000;
  for (let i = 0; i < 100 && alive > 100; i++) {
    walkOver(200);
    collect();
    await sleep(5);
    alive = buffers.filter((buffer) => buffer.deref() !== undefined).length;
  }
  assert.ok(alive <= 100, `${alive} buffers are still there`);
  pipe.write("x");
  assert.equal(await poll & POLLIN, POLLIN);
});
