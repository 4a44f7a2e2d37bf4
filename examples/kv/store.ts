/**
 * A hash table whose keys are looked up where they lie, among the bytes that came from the network: finding one makes no
 * string and no object.
 */

/** A key with its value. */
export interface Entry {
  readonly key: Uint8Array;
  readonly hash: number;
  /** The value as it is sent: a RESP bulk string. */
  reply: Uint8Array;
  /** When it expires, in milliseconds since 1970; `Infinity` if never. */
  expires: number;
  next: Entry | null;
}

const SMALLEST = 1024;
/** So that nobody can prepare keys that all have the same hash. */
const SEED = (Math.random() * 2 ** 32) | 0;

/** Keys and values. */
export class Store {
  /** The number of entries. */
  size = 0;
  #buckets: (Entry | null)[] = new Array<Entry | null>(SMALLEST).fill(null);
  #swept = 0;

  /** The entry of the key that lies in `bytes`, unless it has expired at `now`. */
  get(bytes: Uint8Array, start: number, end: number, now: number): Entry | null {
    const hash = hashOf(bytes, start, end);
    let entry = this.#buckets[hash & (this.#buckets.length - 1)] ?? null;
    while (entry !== null && !(entry.hash === hash && equal(entry.key, bytes, start, end))) {
      entry = entry.next;
    }
    if (entry === null || entry.expires > now) return entry;
    this.#remove(entry);
    return null;
  }

  /** Sets a key that has no entry. */
  add(key: Uint8Array, reply: Uint8Array, expires: number): void {
    if (this.size >= this.#buckets.length) this.#resize(2 * this.#buckets.length);
    const hash = hashOf(key, 0, key.length);
    const slot = hash & (this.#buckets.length - 1);
    this.#buckets[slot] = { key, hash, reply, expires, next: this.#buckets[slot] ?? null };
    this.size++;
  }

  /** Removes the key that lies in `bytes`; whether there was one. */
  delete(bytes: Uint8Array, start: number, end: number, now: number): boolean {
    const entry = this.get(bytes, start, end, now);
    if (entry !== null) this.#remove(entry);
    return entry !== null;
  }

  clear(): void {
    this.#buckets = new Array<Entry | null>(SMALLEST).fill(null);
    this.size = 0;
  }

  /** Removes what has expired from some of the buckets; the next call goes on with others. */
  sweep(now: number, buckets: number): void {
    for (let i = Math.min(buckets, this.#buckets.length); i > 0; i--) {
      this.#swept = (this.#swept + 1) & (this.#buckets.length - 1);
      for (let entry = this.#buckets[this.#swept] ?? null; entry !== null; entry = entry.next) {
        if (entry.expires <= now) this.#remove(entry);
      }
    }
  }

  #remove(entry: Entry): void {
    const slot = entry.hash & (this.#buckets.length - 1);
    let before: Entry | null = null;
    for (let one = this.#buckets[slot] ?? null; one !== null && one !== entry; one = one.next) before = one;
    if (before === null) this.#buckets[slot] = entry.next;
    else before.next = entry.next;
    this.size--;
  }

  #resize(length: number): void {
    const old = this.#buckets;
    const buckets = new Array<Entry | null>(length).fill(null);
    for (let entry of old) {
      while (entry !== null) {
        const { next } = entry;
        const slot = entry.hash & (length - 1);
        entry.next = buckets[slot] ?? null;
        buckets[slot] = entry;
        entry = next;
      }
    }
    this.#buckets = buckets;
  }
}

/** FNV-1a, with its high bits folded into the low ones, which choose the bucket. */
function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = SEED;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return hash ^ (hash >>> 15);
}

function equal(key: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (key.length !== end - start) return false;
  for (let i = 0; i < key.length; i++) if (key[i] !== bytes[start + i]) return false;
  return true;
}
