/**
 * Bytes that tell which connection they belong to and where in its stream, fast enough for a gibibyte.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import process from "node:process";
import { Random } from "./random.ts";

/** A prime, so that it divides no buffer's size. */
const PERIOD = 65521;

/** How many bytes go through each path: `URING_TRAFFIC_MIB`, in MiB. */
export const TRAFFIC: number = Number(process.env["URING_TRAFFIC_MIB"] ?? 24) * 2 ** 20;

/** The stream of one connection. */
export class Stream {
  readonly #pattern: Buffer;
  /** How many bytes were seen. */
  seen = 0;
  /** How many bytes were given out. */
  given = 0;
  readonly length: number;

  constructor(seed: number, length: number) {
    this.length = length;
    const random = new Random(seed + 1);
    this.#pattern = Buffer.alloc(2 * PERIOD);
    for (let i = 0; i < PERIOD; i++) this.#pattern[i] = this.#pattern[i + PERIOD] = random.below(256);
  }

  /** The next bytes, no more than `most`; empty at the end. */
  next(most: number): Uint8Array {
    const bytes = new Uint8Array(Math.min(most, this.length - this.given));
    for (let at = 0; at < bytes.length;) {
      const from = (this.given + at) % PERIOD;
      const count = Math.min(bytes.length - at, PERIOD);
      bytes.set(this.#pattern.subarray(from, from + count), at);
      at += count;
    }
    this.given += bytes.length;
    return bytes;
  }

  /** Fails unless these are the next bytes. */
  check(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const from = (this.seen + at) % PERIOD;
      const count = Math.min(bytes.length - at, PERIOD);
      const part = bytes.subarray(at, at + count);
      if (!this.#pattern.subarray(from, from + count).equals(part)) {
        assert.fail(`other bytes than were sent, among ${count} from ${this.seen + at} on`);
      }
      at += count;
    }
    this.seen += bytes.length;
    assert.ok(this.seen <= this.length, "more bytes than were sent");
  }

  /** Fails unless all bytes were seen. */
  end(): void {
    assert.equal(this.seen, this.length);
  }
}
