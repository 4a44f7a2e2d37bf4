/**
 * A hash table of bytes. Keys are looked up where they lie, among what came from the network, and a key lies beside its value
 * in large blocks of memory: finding one makes no string and no object, and waits for two or three lines of memory instead
 * of the six that objects would be scattered over.
 */
import { bulkInto, bulkLength, copy } from "./resp.ts";

/** A record's place in its block, and the block's number, make one number: its handle. 0 is none. */
const UNIT = 32;
const BLOCK = 1024 * 1024;
const UNITS = BLOCK / UNIT;
const MAX_BLOCKS = 2 ** 31 / UNITS;
/** Larger records have a block of their own. */
const LARGEST = 64 * 1024;
/** A record: the lengths of its key and of its value, 32 bits each, when it expires, 64 bits, the key, the value. */
const HEAD = 16;
/** A slot of the table: a key's hash, and the record's handle. */
const SLOT = 2;
const SMALLEST = 1024;
const NEVER = Infinity;
/** So that nobody can prepare keys that all have the same hash. */
const SEED = (Math.random() * 2 ** 32) | 0;

/** One stretch of memory. */
class Block {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  readonly times: Float64Array;

  /** @param length In bytes, a multiple of 8. */
  constructor(length: number) {
    const buffer = new ArrayBuffer(length);
    this.bytes = new Uint8Array(buffer);
    this.words = new Int32Array(buffer);
    this.times = new Float64Array(buffer);
  }
}

/** Keys with values. */
export class Store {
  /** The number of keys. */
  size = 0;
  /** Where the value lies that was found last, as it is sent. */
  bytes: Uint8Array = new Uint8Array();
  start = 0;
  end = 0;
  #table = new Int32Array(SMALLEST * SLOT);
  #blocks: (Block | null)[] = [];
  /** Numbers of blocks that were given back. */
  #vacant: number[] = [];
  /** By size in units: the first record that is free. Each holds the handle of the next. */
  #free = new Int32Array(2 * LARGEST / UNIT + 1);
  /** Where the block ends, as a handle, that new records are cut from, and where it is cut. */
  #limit = 0;
  #next = 0;
  /** How many keys expire one day. */
  #mortal = 0;
  #swept = 0;
  /** The slot that was found last, or the empty one where the key would stand. */
  #slot = 0;

  /** The record of the key that lies in `bytes`; 0 if there is none that has not expired at `now`. */
  find(bytes: Uint8Array, start: number, end: number, now: number): number {
    const hash = hashOf(bytes, start, end);
    const table = this.#table;
    const mask = table.length - 1;
    let slot = (hash << 1) & mask;
    for (let handle = table[slot + 1]!; handle !== 0; handle = table[slot + 1]!) {
      if (table[slot] === hash && this.#holds(handle, bytes, start, end)) {
        this.#slot = slot;
        if (this.#mortal === 0 || this.expires(handle) > now) return handle;
        this.delete(handle);
        return 0;
      }
      slot = (slot + SLOT) & mask;
    }
    return 0;
  }

  /** Whether a record has this key; notes where its value is. */
  #holds(handle: number, bytes: Uint8Array, start: number, end: number): boolean {
    const block = this.#block(handle);
    const at = placeOf(handle);
    const length = block.words[at >> 2]!;
    if (length !== end - start) return false;
    const own = block.bytes;
    for (let i = start, j = at + HEAD; i < end; i++, j++) if (own[j] !== bytes[i]) return false;
    this.bytes = own;
    this.start = at + HEAD + length;
    this.end = this.start + block.words[(at >> 2) + 1]!;
    return true;
  }

  #block(handle: number): Block {
    return this.#blocks[handle >>> 15]!;
  }

  /** When a record expires, in milliseconds since 1970; `Infinity` if never. */
  expires(handle: number): number {
    return this.#block(handle).times[(placeOf(handle) >> 3) + 1]!;
  }

  setExpires(handle: number, time: number): void {
    const { times } = this.#block(handle);
    const at = (placeOf(handle) >> 3) + 1;
    if (times[at] !== NEVER) this.#mortal--;
    if (time !== NEVER) this.#mortal++;
    times[at] = time;
  }

  /** Gives the record that was found last another value; false without memory for it. */
  replace(handle: number, bytes: Uint8Array, start: number, end: number): boolean {
    const block = this.#block(handle);
    const at = placeOf(handle);
    const keyLength = block.words[at >> 2]!;
    const length = bulkLength(end - start);
    if (unitsOf(HEAD + keyLength + length) === unitsOf(HEAD + keyLength + this.end - this.start)) {
      block.words[(at >> 2) + 1] = length;
      bulkInto(block.bytes, this.start, bytes, start, end);
      return true;
    }
    const key = at + HEAD;
    const other = this.#write(block.bytes, key, key + keyLength, bytes, start, end, this.expires(handle));
    if (other === 0) return false;
    this.#table[this.#slot + 1] = other;
    this.#release(handle);
    return true;
  }

  /** Adds a key that there is none of, from `key` to `keyEnd` of `bytes`; false without memory for it. */
  add(
    keyBytes: Uint8Array,
    key: number,
    keyEnd: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    expires: number,
  ): boolean {
    // Half of the table stays empty, so that what is looked for is close.
    if (2 * (this.size + 1) * SLOT > this.#table.length) this.#grow();
    const handle = this.#write(keyBytes, key, keyEnd, bytes, start, end, expires);
    if (handle === 0) return false;
    this.#insert(hashOf(keyBytes, key, keyEnd), handle);
    this.size++;
    if (expires !== NEVER) this.#mortal++;
    return true;
  }

  /** Removes the record that was found last. */
  delete(handle: number): void {
    this.#removeAt(this.#slot);
    if (this.expires(handle) !== NEVER) this.#mortal--;
    this.#release(handle);
    this.size--;
  }

  clear(): void {
    this.#table = new Int32Array(SMALLEST * SLOT);
    this.#blocks = [];
    this.#vacant = [];
    this.#free.fill(0);
    this.size =
      this.#limit =
      this.#next =
      this.#mortal =
        0;
  }

  /** Removes what has expired from some of the slots; the next call goes on with others. */
  sweep(now: number, slots: number): void {
    if (this.#mortal === 0) return;
    for (let i = Math.min(slots, this.#table.length / SLOT); i > 0; i--) {
      this.#swept = (this.#swept + SLOT) & (this.#table.length - 1);
      let handle = this.#table[this.#swept + 1]!;
      while (handle !== 0 && this.expires(handle) <= now) {
        this.#slot = this.#swept;
        this.delete(handle);
        // Another one may have moved up.
        handle = this.#table[this.#swept + 1]!;
      }
    }
  }

  #insert(hash: number, handle: number): void {
    const table = this.#table;
    const mask = table.length - 1;
    let slot = (hash << 1) & mask;
    while (table[slot + 1] !== 0) slot = (slot + SLOT) & mask;
    table[slot] = hash;
    table[slot + 1] = handle;
  }

  /** Empties a slot, and moves up those behind it that stand away from their own place. */
  #removeAt(empty: number): void {
    const table = this.#table;
    const mask = table.length - 1;
    for (let slot = (empty + SLOT) & mask; table[slot + 1] !== 0; slot = (slot + SLOT) & mask) {
      const home = (table[slot]! << 1) & mask;
      if (((slot - home) & mask) < ((slot - empty) & mask)) continue;
      table[empty] = table[slot]!;
      table[empty + 1] = table[slot + 1]!;
      empty = slot;
    }
    table[empty + 1] = 0;
  }

  #grow(): void {
    const old = this.#table;
    this.#table = new Int32Array(2 * old.length);
    for (let slot = 0; slot < old.length; slot += SLOT) {
      if (old[slot + 1] !== 0) this.#insert(old[slot]!, old[slot + 1]!);
    }
  }

  #write(
    keyBytes: Uint8Array,
    key: number,
    keyEnd: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    expires: number,
  ): number {
    const keyLength = keyEnd - key;
    const length = bulkLength(end - start);
    const handle = this.#take(HEAD + keyLength + length);
    if (handle === 0) return 0;
    const block = this.#block(handle);
    const at = placeOf(handle);
    block.words[at >> 2] = keyLength;
    block.words[(at >> 2) + 1] = length;
    block.times[(at >> 3) + 1] = expires;
    copy(keyBytes, key, keyEnd, block.bytes, at + HEAD);
    bulkInto(block.bytes, at + HEAD + keyLength, bytes, start, end);
    return handle;
  }

  /** Memory for a record; 0 without. */
  #take(length: number): number {
    const units = unitsOf(length);
    if (length > LARGEST) return this.#map((units + 1) * UNIT);
    const handle = this.#free[units]!;
    if (handle !== 0) {
      this.#free[units] = this.#block(handle).words[placeOf(handle) >> 2]!;
      return handle;
    }
    if (this.#next + units > this.#limit) {
      const first = this.#map(BLOCK);
      if (first === 0) return 0;
      this.#next = first;
      this.#limit = first - 1 + UNITS;
    }
    const taken = this.#next;
    this.#next += units;
    return taken;
  }

  /** A block of so many bytes. Its first unit stays empty, so that no handle is 0. */
  #map(length: number): number {
    const number = this.#vacant.pop() ?? this.#blocks.length;
    if (number >= MAX_BLOCKS) return 0;
    this.#blocks[number] = new Block(length);
    return number * UNITS + 1;
  }

  #release(handle: number): void {
    const { words } = this.#block(handle);
    const at = placeOf(handle) >> 2;
    const length = HEAD + words[at]! + words[at + 1]!;
    if (length > LARGEST) {
      this.#blocks[handle >>> 15] = null;
      this.#vacant.push(handle >>> 15);
      return;
    }
    const units = unitsOf(length);
    words[at] = this.#free[units]!;
    this.#free[units] = handle;
  }
}

/** Where in its block a record begins. */
function placeOf(handle: number): number {
  return (handle & (UNITS - 1)) * UNIT;
}

/** How many units a record of so many bytes has: sizes that differ little are one, so that what is freed fits again. */
function unitsOf(length: number): number {
  const units = Math.ceil(length / UNIT);
  if (units <= 4) return units;
  const step = 1 << (30 - Math.clz32(units - 1));
  return Math.ceil(units / step) * step;
}

/** FNV-1a, with its high bits folded into the low ones, which choose the slot. */
function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = SEED;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return hash ^ (hash >>> 15);
}
