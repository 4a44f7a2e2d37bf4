/** Mapped memory: where it comes from, and when it goes. */
import assert from "node:assert/strict";
import { IORING_OFF_SQES } from "../../src/ffi/abi.ts";
import { Mapping } from "../../src/ffi/memory.ts";
import { addressOf } from "../../src/ffi/pin.ts";
import { Ring } from "../../src/ring/mod.ts";
import { collect, collectUntil } from "../support/collect.ts";
import { isMapped, vmFlags } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

test("anonymous memory is zeroed and at its address", () => {
  using mapping = Mapping.anonymous(3 * 4096);
  assert.equal(mapping.byteLength, 3 * 4096);
  assert.equal(mapping.buffer.byteLength, 3 * 4096);
  assert.equal(mapping.address % 4096, 0);
  const bytes = new Uint8Array(mapping.buffer);
  assert.ok(bytes.every((byte) => byte === 0));
  assert.equal(addressOf(bytes), mapping.address);
  bytes.fill(7);
  assert.equal(new Uint8Array(mapping.buffer)[5000], 7);
  assert.ok(isMapped(mapping.address));
});

test("sizes that are not whole pages work", () => {
  using mapping = Mapping.anonymous(100);
  assert.equal(mapping.buffer.byteLength, 100);
  const { address } = mapping;
  mapping.unmap();
  assert.equal(isMapped(address), false);
});

test("a size that cannot be is an error of mmap", () => {
  assert.throws(() => Mapping.anonymous(0), { code: "EINVAL", syscall: "mmap" });
  assert.throws(() => Mapping.anonymous(2 ** 50), { code: "ENOMEM", syscall: "mmap" });
  assert.throws(() => Mapping.shared(4096, 1_000_000, IORING_OFF_SQES), { code: "EBADF", syscall: "mmap" });
});

test("a forked child does not see it", () => {
  using mapping = Mapping.anonymous(4096);
  assert.ok(vmFlags(mapping.address).includes("dc"), "MADV_DONTFORK");
  using ring = new Ring(4);
  const shared = Mapping.shared(4096, ring.fd, IORING_OFF_SQES);
  assert.ok(vmFlags(shared.address).includes("dc"), "MADV_DONTFORK");
  shared.unmap();
});

test("unmapping empties every view first, and again does no harm", () => {
  const mapping = Mapping.anonymous(8192);
  const { address, buffer } = mapping;
  const bytes = new Uint8Array(buffer);
  const words = new Int32Array(buffer, 4096, 4);
  const data = new DataView(buffer);
  bytes[0] = 1;
  mapping.unmap();
  assert.equal(isMapped(address), false);
  assert.equal(buffer.byteLength, 0);
  assert.equal(buffer.detached, true);
  assert.equal(bytes.length, 0);
  assert.equal(bytes[0], undefined);
  assert.equal(words.length, 0);
  bytes[0] = 5;
  words[0] = 5;
  assert.throws(() => data.getUint8(0), TypeError);
  assert.throws(() => Atomics.load(words, 0));
  assert.throws(() => mapping.buffer, /^TypeError: The memory is unmapped$/);
  assert.throws(() => addressOf(bytes), TypeError);
  mapping.unmap();
  mapping[Symbol.dispose]();
});

test("a second unmap leaves memory alone that came to the same place", () => {
  const first = Mapping.anonymous(64 * 4096);
  first.unmap();
  const second = Mapping.anonymous(64 * 4096);
  first.unmap();
  assert.ok(isMapped(second.address));
  new Uint8Array(second.buffer)[0] = 1;
  second.unmap();
});

/** Maps memory and forgets it; what is returned is all that is left of it. */
function dropped(): number {
  return Mapping.anonymous(200 * 4096).address;
}

test("memory that is dropped is unmapped once collected", async () => {
  const addresses = Array.from({ length: 10 }, dropped);
  assert.ok(isMapped(addresses[0]!));
  // A value left on the stack may keep one of them.
  await collectUntil(() => addresses.filter(isMapped).length <= 1, "dropped memory is unmapped");
});

const VIEWS: Record<string, (buffer: ArrayBuffer) => ArrayBufferView | ArrayBuffer> = {
  "the buffer": (buffer) => buffer,
  "a Uint8Array": (buffer) => new Uint8Array(buffer),
  "a subarray": (buffer) => new Uint8Array(buffer).subarray(100, 200),
  "a DataView": (buffer) => new DataView(buffer, 4096),
  "an Int32Array": (buffer) => new Int32Array(buffer, 0, 4),
};

for (const [name, view] of Object.entries(VIEWS)) {
  test(`memory of which ${name} is left is not unmapped`, async () => {
    let kept: (ArrayBufferView | ArrayBuffer)[] = [];
    const addresses: number[] = [];
    const make = (): void => {
      const mapping = Mapping.anonymous(50 * 4096);
      new Uint8Array(mapping.buffer).fill(9);
      kept.push(view(mapping.buffer));
      addresses.push(mapping.address);
    };
    for (let i = 0; i < 5; i++) make();
    await collect();
    assert.deepEqual(addresses.map(isMapped), [true, true, true, true, true]);
    for (const it of kept) {
      const buffer = ArrayBuffer.isView(it) ? it.buffer : it;
      assert.equal(new Uint8Array(buffer)[8000], 9);
    }
    kept = [];
    await collectUntil(() => addresses.filter(isMapped).length <= 1, "memory without views is unmapped");
  });
}

test("memory that was unmapped by hand is not unmapped again when collected", async () => {
  const place = ((): number => {
    const mapping = Mapping.anonymous(300 * 4096);
    mapping.unmap();
    return mapping.address;
  })();
  const next = Mapping.anonymous(300 * 4096);
  await collect();
  assert.ok(isMapped(next.address), `${place} ${next.address}`);
  new Uint8Array(next.buffer).fill(1);
  next.unmap();
});
