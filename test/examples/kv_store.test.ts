import assert from "node:assert/strict";
import { Store } from "../../examples/kv/store.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { Random } from "../support/random.ts";

checkLeaks();

/** A value and when it expires, as a `Map` keeps it. */
interface Kept {
  readonly value: Uint8Array;
  readonly expires: number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("latin1");

function sent(value: Uint8Array): string {
  return `$${value.length}\r\n${decoder.decode(value)}\r\n`;
}

test("kv.ts: the store keeps what a Map keeps, whatever is done to it", () => {
  const random = new Random(20260101);
  const store = new Store();
  const map = new Map<string, Kept>();
  const names = Array.from({ length: 3000 }, (_, i) => `key ${i} ${"x".repeat(i % 50)}`);
  const sizes = [0, 1, 9, 10, 30, 99, 100, 1000, 9999, 65_400, 65_500, 65_536, 100_000, 1_000_000];
  let now = 1000;
  for (let step = 0; step < 60_000; step++) {
    const name = names[random.below(names.length)]!;
    const key = encoder.encode(name);
    const expected = map.get(name);
    if (expected !== undefined && expected.expires <= now) map.delete(name);
    const kept = map.get(name);
    const handle = store.find(key, 0, key.length, now);
    assert.equal(handle !== 0, kept !== undefined, `${name} at step ${step}`);
    if (handle !== 0) {
      const found = decoder.decode(store.bytes.subarray(store.start, store.end));
      assert.ok(found === sent(kept!.value), `${name} at step ${step}`);
      assert.equal(store.expires(handle), kept!.expires);
    }
    const choice = random.below(10);
    // Large ones now and then: they take time.
    const size = sizes[random.below(step % 50 === 0 ? sizes.length : 8)]!;
    const value = new Uint8Array(size).fill(step);
    const expires = random.below(3) === 0 ? now + random.below(2000) : Infinity;
    if (choice < 5) {
      if (handle === 0) assert.ok(store.add(key, 0, key.length, value, 0, size, expires));
      else {
        store.setExpires(handle, expires);
        assert.ok(store.replace(handle, value, 0, size));
      }
      map.set(name, { value, expires });
    } else if (choice < 7 && handle !== 0) {
      store.delete(handle);
      map.delete(name);
    } else if (choice === 7) {
      now += random.below(20);
      store.sweep(now, 64);
    }
    if (step === 40_000) {
      store.clear();
      map.clear();
    }
  }
  for (let i = 0; i < 20; i++) store.sweep(now, 1 << 20);
  const alive = [...map.values()].filter(({ expires }) => expires > now).length;
  assert.equal(store.size, alive);
});
