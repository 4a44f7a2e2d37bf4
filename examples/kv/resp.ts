/** RESP2, the protocol of Redis: requests in, replies out. Neither allocates for an ordinary request. */

/** What a client has done wrong; it is told, and its connection ends. */
export class ProtocolError extends Error {}

const CR = 13;
const LF = 10;
const SPACE = 32;
const DOLLAR = 36;
const STAR = 42;
const ZERO = 48;
const MAX_ARGUMENTS = 1024 * 1024;
const MAX_BULK = 512 * 1024 * 1024;
const MAX_INLINE = 64 * 1024;
/** Longer than any number of a header. */
const MAX_HEADER = 32;
const FEW = 48;
const USUAL = 64 * 1024;
const MAX_KEPT = 1024 * 1024;

/**
 * Reads requests out of a buffer. After `next` has said true, argument `i` lies in `bytes` from `starts[i]` to `ends[i]`.
 * An incomplete request is read again from its beginning when there is more; `wanted` tells how much that is at least, so
 * that a value of megabytes is not gone over with each packet.
 */
export class Requests {
  bytes: Uint8Array = new Uint8Array();
  starts: Int32Array = new Int32Array(16);
  ends: Int32Array = new Int32Array(16);
  /** The number of arguments, with the name; 0 for an empty line. */
  count = 0;
  /** Where the next request begins. */
  at = 0;
  /** How many bytes from `at` on the next request takes at least. */
  wanted = 1;
  #limit = 0;
  #cursor = 0;

  /** Goes on with other bytes. */
  feed(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.#limit = bytes.length;
    this.at = 0;
    this.wanted = 1;
  }

  /** Reads a request; false if there is none or not all of it. Throws a `ProtocolError`. */
  next(): boolean {
    if (this.at >= this.#limit) {
      this.wanted = 1;
      return false;
    }
    return this.bytes[this.at] === STAR ? this.#array() : this.#line();
  }

  #array(): boolean {
    this.#cursor = this.at + 1;
    const count = this.#number(MAX_ARGUMENTS, "invalid multibulk length");
    if (count < 0) return false;
    if (count > this.starts.length) this.#grow(count);
    for (let i = 0; i < count; i++) {
      if (this.#cursor >= this.#limit) return this.#more(this.#cursor + 1);
      if (this.bytes[this.#cursor] !== DOLLAR) {
        throw new ProtocolError(`expected '$', got '${String.fromCharCode(this.bytes[this.#cursor]!)}'`);
      }
      this.#cursor++;
      const length = this.#number(MAX_BULK, "invalid bulk length");
      if (length < 0) return false;
      const end = this.#cursor + length;
      if (end + 2 > this.#limit) return this.#more(end + 2);
      this.starts[i] = this.#cursor;
      this.ends[i] = end;
      this.#cursor = end + 2;
    }
    this.count = count;
    this.at = this.#cursor;
    return true;
  }

  /** The number up to the end of the line; negative if the line is not complete. */
  #number(most: number, complaint: string): number {
    const { bytes } = this;
    const limit = this.#limit;
    let cursor = this.#cursor;
    let value = 0;
    for (; cursor < limit; cursor++) {
      const digit = bytes[cursor]! - ZERO;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
      if (value > most) throw new ProtocolError(complaint);
    }
    if (cursor + 2 > limit) {
      if (cursor - this.#cursor > MAX_HEADER) throw new ProtocolError(complaint);
      this.#more(cursor + 2);
      return -1;
    }
    if (cursor === this.#cursor || bytes[cursor] !== CR || bytes[cursor + 1] !== LF) {
      throw new ProtocolError(complaint);
    }
    this.#cursor = cursor + 2;
    return value;
  }

  /** A request as a person types it: words in a line. */
  #line(): boolean {
    const { bytes } = this;
    let end = bytes.indexOf(LF, this.at);
    if (end < 0 || end >= this.#limit) {
      if (this.#limit - this.at > MAX_INLINE) throw new ProtocolError("too big inline request");
      return this.#more(this.#limit + 1);
    }
    const next = end + 1;
    if (end > this.at && bytes[end - 1] === CR) end--;
    this.count = 0;
    for (let start = this.at; start < end;) {
      let stop = start;
      while (stop < end && bytes[stop] !== SPACE) stop++;
      if (stop > start) {
        if (this.count === this.starts.length) this.#grow(2 * this.count);
        this.starts[this.count] = start;
        this.ends[this.count++] = stop;
      }
      start = stop + 1;
    }
    this.at = next;
    return true;
  }

  #more(end: number): false {
    this.wanted = end - this.at;
    return false;
  }

  #grow(count: number): void {
    const [starts, ends] = [this.starts, this.ends];
    this.starts = new Int32Array(count);
    this.ends = new Int32Array(count);
    this.starts.set(starts);
    this.ends.set(ends);
  }
}

const encoder = new TextEncoder();

/** Replies one after the other, in a buffer that grows. */
export class Replies {
  bytes: Uint8Array = new Uint8Array(USUAL);
  length = 0;

  /** Makes room for `count` more bytes. */
  #room(count: number): void {
    if (this.length + count <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.bytes.length, this.length + count));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  /** Bytes that are a reply, or several, already. */
  raw(bytes: Uint8Array, start: number = 0, end: number = bytes.length): void {
    this.#room(end - start);
    copy(bytes, start, end, this.bytes, this.length);
    this.length += end - start;
  }

  /** The bytes from `start` to `end` as a value. */
  bulk(bytes: Uint8Array, start: number = 0, end: number = bytes.length): void {
    const length = bulkLength(end - start);
    this.#room(length);
    bulkInto(this.bytes, this.length, bytes, start, end);
    this.length += length;
  }

  /** Forgets everything, and memory that only an unusually large reply has needed. */
  trim(): void {
    this.length = 0;
    if (this.bytes.length > MAX_KEPT) this.bytes = new Uint8Array(USUAL);
  }

  text(reply: string): void {
    this.#room(3 * reply.length);
    this.length += encoder.encodeInto(reply, this.bytes.subarray(this.length)).written;
  }

  integer(value: number): void {
    this.text(`:${value}\r\n`);
  }

  error(message: string): void {
    this.text(`-${message}\r\n`);
  }

  array(length: number): void {
    this.text(`*${length}\r\n`);
  }
}
/** How long a value of so many bytes is as it is sent: `$3\r\nabc\r\n`. */
export function bulkLength(length: number): number {
  let digits = 1;
  for (let rest = length; rest >= 10; rest = Math.floor(rest / 10)) digits++;
  return digits + length + 5;
}

/** Puts the bytes from `start` to `end` at `at` of `to`, as they are sent. */
export function bulkInto(to: Uint8Array, at: number, bytes: Uint8Array, start: number, end: number): void {
  const length = end - start;
  const digits = bulkLength(length) - length - 5;
  to[at] = DOLLAR;
  for (let i = at + digits, rest = length; i > at; i--, rest = Math.floor(rest / 10)) {
    to[i] = ZERO + rest % 10;
  }
  const value = at + digits + 3;
  to[value - 2] = CR;
  to[value - 1] = LF;
  copy(bytes, start, end, to, value);
  to[value + length] = CR;
  to[value + length + 1] = LF;
}

/** Copies bytes. Most keys and values have a few, for which a call costs more than a loop. */
export function copy(from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): void {
  if (end - start > FEW) to.set(from.subarray(start, end), at);
  else for (let i = start; i < end; i++) to[at++] = from[i]!;
}
