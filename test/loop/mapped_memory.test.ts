/** Memory that is unmapped while an operation works on it stays mapped until the kernel has let go. */
import assert from "node:assert/strict";
import { MADV_DONTNEED, MSG_DONTWAIT } from "../../src/ffi/abi.ts";
import { Mapping, type Uring } from "../../src/mod.ts";
import { vmFlags } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, makeUring, SocketPair, until } from "../support/loop.ts";
import { failure, flushed, put, Reason } from "../support/operations.ts";

checkLeaks();

/** Whether memory of the library's is mapped at an address: the runtime may put its own where some has gone. */
function isMapped(address: number): boolean {
  return vmFlags(address).includes("dc");
}

const USES: Readonly<Record<string, (uring: Uring, fd: number, memory: Uint8Array) => Promise<unknown>>> = {
  read: (uring, fd, memory) => uring.read(fd, memory),
  "read with a time limit": (uring, fd, memory) => uring.read(fd, memory, { timeout: 60_000 }),
  recv: (uring, fd, memory) => uring.recv(fd, memory.subarray(100, 200)),
  readv: (uring, fd, memory) => uring.readv(fd, [new Uint8Array(2), memory.subarray(4)]),
  "a step of a chain": (uring, fd, memory) => uring.link((l) => [l.read(fd, memory)], { hard: true }),
};

for (const [name, use] of Object.entries(USES)) {
  test(`${name}: what arrives is written nowhere else`, async () => {
    await using uring = makeUring();
    using pair = new SocketPair();
    const mapping = Mapping.anonymous(4096);
    const { address } = mapping;
    const promise = failure(use(uring, pair.a.fd, new Uint8Array(mapping.buffer)));
    await flushed(uring);
    mapping.unmap();
    assert.throws(() => mapping.buffer, TypeError);
    collect();
    await uring.timeout(1);
    assert.ok(isMapped(address), "the kernel may still write there");
    put(pair.b.fd, "a late message");
    const error = await promise;
    assert.ok(error as Error instanceof TypeError, String(error));
    assert.match(error.message, /detached/);
    await until(() => !isMapped(address), "the memory is given back");
    assert.equal(
      (await failure(uring.recv(pair.a.fd, new Uint8Array(1), { flags: MSG_DONTWAIT }))).code,
      "EAGAIN",
    );
  });
}

test("several operations, on two rings, one of them aborted: the last one counts", async () => {
  await using one = makeUring();
  await using two = makeUring();
  using pair = new SocketPair();
  const mapping = Mapping.anonymous(8192);
  const { address } = mapping;
  const view = new Uint8Array(mapping.buffer);
  const controller = new AbortController();
  const promises = [
    failure(one.recv(pair.a.fd, view.subarray(0, 10), { signal: controller.signal })),
    failure(two.recv(pair.b.fd, view.subarray(10))),
  ];
  await Promise.all([flushed(one), flushed(two)]);
  mapping.unmap();
  controller.abort(new Reason());
  assert.ok(await promises[0] as Error instanceof Reason);
  await one.nop();
  assert.ok(isMapped(address));
  put(pair.a.fd, "x");
  assert.ok(await promises[1] as Error instanceof TypeError);
  await until(() => !isMapped(address), "the memory is given back");
});

test("closing the ring ends what worked on it, and then it goes", async () => {
  const uring = makeUring();
  using pair = new SocketPair();
  const mapping = Mapping.anonymous(4096);
  const promise = failure(uring.recv(pair.a.fd, new Uint8Array(mapping.buffer)));
  const advised = failure(uring.madvise(mapping, MADV_DONTNEED, { signal: AbortSignal.abort(new Reason()) }));
  await flushed(uring);
  mapping.unmap();
  assert.ok(isMapped(mapping.address));
  await uring.disposeAsync();
  await Promise.all([promise, advised]);
  await Promise.resolve();
  assert.equal(isMapped(mapping.address), false);
});

test("memory that nothing works on goes at once", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const [used, unused] = [Mapping.anonymous(4096), Mapping.anonymous(4096)];
  const promise = uring.recv(pair.a.fd, new Uint8Array(used.buffer));
  await flushed(uring);
  unused.unmap();
  assert.equal(isMapped(unused.address), false);
  put(pair.b.fd, "x");
  assert.equal(await promise, 1);
  used.unmap();
  assert.equal(isMapped(used.address), false);
});
