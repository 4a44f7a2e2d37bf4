/** From views to addresses: what is written through the address appears in the view. */
import assert from "node:assert/strict";
import { check } from "../../src/ffi/errors.ts";
import { addressOf, pinned } from "../../src/ffi/pin.ts";
import { Ring } from "../../src/ring/mod.ts";
import { collect } from "../support/collect.ts";
import { Pipe } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

/** Has the kernel write to an address, out of a pipe, as any read through a ring would. */
function writeAt(address: number, content: string): void {
  using pipe = new Pipe();
  pipe.write(content);
  using ring = new Ring(1);
  const sqe = ring.getSqe()!;
  sqe.prepRead(pipe.reader.fd, address, content.length, 0);
  ring.submitAndWait(1);
  ring.forEachCqe((cqe) => check(cqe.res, "read"));
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const SIZES = [1, 8, 16, 63, 64, 100, 999, 1000, 1001, 4096, 100_000];

for (const size of SIZES) {
  test(`a view of ${size} bytes stays where its address says`, async () => {
    // Made without an ArrayBuffer of its own: in Bun such a small one moves when its buffer is first touched.
    const view = new Uint8Array(size);
    view.fill(46);
    const address = addressOf(view);
    const word = "kernel wrote this".slice(0, size);
    writeAt(address, word);
    assert.equal(text(view.subarray(0, word.length)), word);
    void view.buffer;
    assert.equal(addressOf(view), address);
    await collect();
    assert.equal(addressOf(view), address);
    const again = "and this afterwards".slice(0, size);
    writeAt(address, again);
    assert.equal(text(view.subarray(0, again.length)), again);
  });
}

test("many small views keep their addresses while garbage is collected", async () => {
  const views = Array.from({ length: 500 }, (_, i) => new Uint8Array(8 + i % 64).fill(i));
  const addresses = views.map(addressOf);
  assert.equal(new Set(addresses).size, 500);
  await collect();
  // Long enough that functions which touch the views are compiled.
  for (let round = 0; round < 200; round++) {
    for (let i = 0; i < 500; i++) if (addressOf(views[i]!) !== addresses[i]) assert.fail(`view ${i} moved`);
  }
  for (let i = 0; i < 500; i += 50) {
    writeAt(addresses[i]!, "01234567");
    assert.equal(text(views[i]!.subarray(0, 8)), "01234567");
  }
});

test("a view's address counts its offset", () => {
  const buffer = new ArrayBuffer(64);
  const start = addressOf(new Uint8Array(buffer));
  for (const offset of [0, 1, 7, 8, 63]) {
    assert.equal(addressOf(new Uint8Array(buffer, offset, 1)), start + offset);
  }
  assert.equal(addressOf(new DataView(buffer, 5)), start + 5);
  assert.equal(addressOf(new Float64Array(buffer, 8)), start + 8);
  assert.equal(addressOf(new Uint8Array(buffer).subarray(9, 20)), start + 9);
});

test("every kind of view has an address", () => {
  const views = [
    new Int8Array(2),
    new Uint8Array(2),
    new Uint8ClampedArray(2),
    new Int16Array(2),
    new Uint16Array(2),
    new Int32Array(2),
    new Uint32Array(2),
    new Float32Array(2),
    new Float64Array(2),
    new BigInt64Array(2),
    new BigUint64Array(2),
    new DataView(new ArrayBuffer(2)),
  ];
  for (const view of views) {
    const address = addressOf(view);
    assert.ok(Number.isSafeInteger(address) && address > 4096, view.constructor.name);
    writeAt(address, "hi");
    assert.equal(text(new Uint8Array(view.buffer, view.byteOffset, 2)), "hi");
  }
});

test("shared memory has an address, too", () => {
  const view = new Uint8Array(new SharedArrayBuffer(32));
  writeAt(addressOf(view), "shared");
  assert.equal(text(view.slice(0, 6)), "shared");
});

test("an empty view is at 0", () => {
  assert.equal(addressOf(new Uint8Array(0)), 0);
  assert.equal(addressOf(new Uint8Array(new ArrayBuffer(8), 8)), 0);
  assert.equal(addressOf(new DataView(new ArrayBuffer(0))), 0);
});

test("a detached buffer is refused", () => {
  for (const size of [0, 8, 4096]) {
    const view = new Uint8Array(new ArrayBuffer(size));
    view.buffer.transfer();
    assert.throws(() => addressOf(view), TypeError);
    const sent = new Uint8Array(new ArrayBuffer(size));
    structuredClone(sent, { transfer: [sent.buffer] });
    assert.throws(() => addressOf(sent), TypeError);
  }
});

test("a resizable buffer is refused, also one that cannot grow any more", () => {
  const buffer = new ArrayBuffer(8, { maxByteLength: 64 });
  assert.throws(() => addressOf(new Uint8Array(buffer)), /^TypeError: The buffer is resizable/);
  assert.throws(() => addressOf(new Uint8Array(buffer, 2, 4)), TypeError);
  assert.throws(() => addressOf(new Uint8Array(new ArrayBuffer(8, { maxByteLength: 8 }))), TypeError);
  // A growable shared one only ever grows, in place.
});

test("what is no view is refused", () => {
  for (const wrong of [null, undefined, 5, "text", {}, [], new ArrayBuffer(8)]) {
    assert.throws(() => addressOf(wrong as unknown as Uint8Array), TypeError);
  }
});

test("pinned memory is zeroed and in one place", async () => {
  for (const size of [1, 16, 1000, 5000]) {
    const memory = pinned(size);
    assert.equal(memory.bytes.length, size);
    assert.ok(memory.bytes.every((byte) => byte === 0));
    await collect();
    assert.equal(addressOf(memory.bytes), memory.address);
    writeAt(memory.address, "x");
    assert.equal(memory.bytes[0], "x".charCodeAt(0));
  }
});
