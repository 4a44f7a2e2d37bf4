/** Every prep against what liburing's `io_uring_prep_*` of the same name writes (abi/golden.json). */
import assert from "node:assert/strict";
import golden from "../../abi/golden.json" with { type: "json" };
import { IORING_SETUP_SQE128, type Ring, type Sqe } from "../../src/ring/mod.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { KINDS, makeRing, missingRing } from "../support/rings.ts";

checkLeaks();

interface Vector {
  readonly prep: string;
  readonly args: readonly (number | string)[];
  readonly sqe: string;
}

/** All of liburing's helpers, `io_uring_prep_rw` among them. */
const HELPERS = 104;
const FD_AT = 4;
const USER_DATA_AT = 32;
const USER_DATA = 0xfedc_ba98_7654_3210n;

const vectors: readonly Vector[] = golden.vectors;

/** `read_fixed` → `prepReadFixed`. */
function methodOf(prep: string): string {
  return `prep_${prep}`.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

type Prep = (...args: (number | bigint)[]) => void;

function prepOf(sqe: Sqe, name: string): Prep | undefined {
  return (sqe as unknown as Record<string, Prep | undefined>)[methodOf(name)];
}

/** Hexadecimal strings are for what a JavaScript number may not hold. */
function argument(value: number | string, wide: boolean): number | bigint {
  if (typeof value === "number") return value;
  const exact = BigInt(value);
  return wide || exact > BigInt(Number.MAX_SAFE_INTEGER) ? exact : Number(exact);
}

/** What `getSqe()` and the prep leave behind: what the vector leaves open is 0, but for `user_data`. */
function expectedBytes(vector: Vector, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  new DataView(bytes.buffer).setBigUint64(USER_DATA_AT, USER_DATA, true);
  for (let i = 0; i < vector.sqe.length / 2; i++) {
    const byte = vector.sqe.slice(2 * i, 2 * i + 2);
    if (byte !== "??") bytes[i] = parseInt(byte, 16);
  }
  return bytes;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Takes an entry that an earlier round has filled with ones; `user_data` is set before the prep and must survive. */
function dirtyEntry(ring: Ring): Sqe {
  const dirty = ring.getSqe()!;
  dirty.bytes.fill(0xff, 0, 64);
  dirty.prepNop();
  dirty.flags = 0;
  dirty.ioprio = 0;
  dirty.opFlags = 0;
  dirty.bufIndex = 0;
  dirty.personality = 0;
  ring.submitAndWait(1);
  ring.cqAdvance(ring.cqReady());
  const sqe = ring.getSqe()!;
  assert.equal(sqe, dirty, "a ring of one entry has one slot");
  sqe.userData64 = USER_DATA;
  return sqe;
}

function compare(ring: Ring, vector: Vector, wide: boolean): void {
  const sqe = dirtyEntry(ring);
  // One that adds to another's entry leaves the descriptor alone, and what else the other has written.
  if (vector.sqe.startsWith("??", 2 * FD_AT)) sqe.bytes.fill(0, 0, USER_DATA_AT);
  prepOf(sqe, vector.prep)!.apply(sqe, vector.args.map((value) => argument(value, wide)));
  const message = `${vector.prep}(${vector.args.join(", ")})`;
  assert.equal(hex(sqe.bytes), hex(expectedBytes(vector, sqe.bytes.length)), message);
  assert.equal(sqe.userData64, USER_DATA, message);
  // Nothing of it is to be run.
  sqe.bytes.fill(0);
  sqe.prepNop();
  ring.submitAndWait(1);
  ring.cqAdvance(ring.cqReady());
}

const SIZES = [["64", 0], ["128", IORING_SETUP_SQE128]] as const;

for (const [size, flags] of SIZES) {
  const skip = missingRing({ flags });
  for (const wide of [false, true]) {
    const numbers = wide ? "bigints" : "numbers";
    test(`preps write liburing's bytes into entries of ${size} bytes from ${numbers}`, { skip }, () => {
      using ring = makeRing(1, { flags });
      const sqe = ring.getSqe()!;
      sqe.prepNop();
      assert.equal(sqe.bytes.length, Number(size));
      ring.submitAndWait(1);
      ring.cqAdvance(1);
      const covered = new Set<string>();
      for (const vector of vectors) {
        assert.ok(prepOf(sqe, vector.prep) !== undefined, `no ${methodOf(vector.prep)}`);
        compare(ring, vector, wide);
        covered.add(vector.prep);
      }
      assert.equal(covered.size, HELPERS, [...covered].join(" "));
    });
  }
}

test("every prep that the library has is among the vectors", () => {
  using ring = makeRing(1);
  const known = new Set(vectors.map(({ prep }) => methodOf(prep)));
  const missing = new Set<string>();
  let type = Object.getPrototypeOf(ring.getSqe());
  for (; type !== Object.prototype; type = Object.getPrototypeOf(type)) {
    for (const name of Object.getOwnPropertyNames(type)) {
      if (name.startsWith("prep") && !known.has(name)) missing.add(name);
    }
  }
  assert.deepEqual([...missing], []);
});

test("a prep leaves user_data alone, also one that is set before it", () => {
  using ring = makeRing(2);
  const sqe = ring.getSqe()!;
  sqe.userData = 7;
  sqe.prepRead(0, 0, 0, 0);
  assert.equal(sqe.userData, 7);
  sqe.clear();
  assert.equal(sqe.userData, 7);
});

test("the preps that OR into ioprio keep what is there, as liburing's do", () => {
  using ring = makeRing(2);
  const sqe = ring.getSqe()!;
  sqe.ioprio = 0x80;
  sqe.prepRecvMultishot(0, 0, 0, 0);
  assert.equal(sqe.ioprio, 0x82);
  sqe.prepMultishotAccept(0, 0, 0, 0);
  assert.equal(sqe.ioprio, 0x83);
});

test("liburing's close_direct(ALLOC) would close descriptor 0: refused", () => {
  using ring = makeRing(2);
  const sqe = ring.getSqe()!;
  for (const slot of [0xffff_ffff, -1, 2 ** 32]) assert.throws(() => sqe.prepCloseDirect(slot), RangeError);
});

for (const { name, options, skip } of KINDS) {
  test(`${name}: entries hold liburing's bytes whatever the kind of ring`, { skip }, () => {
    using ring = makeRing(4, options);
    const vector = vectors.find(({ prep }) => prep === "write_fixed")!;
    for (let slot = 0; slot < 4; slot++) {
      const sqe = ring.getSqe()!;
      sqe.userData64 = USER_DATA;
      prepOf(sqe, vector.prep)!.apply(sqe, vector.args.map((value) => argument(value, false)));
      assert.equal(hex(sqe.bytes), hex(expectedBytes(vector, sqe.bytes.length)), `slot ${slot}`);
    }
  });
}
