/** HTTP/1.1 requests without bodies, read where they lie: an ordinary one makes no string and no object. */

/** A request that cannot be served; the client gets the status, and its connection ends. */
export class RequestError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const LF = 10;
const CR = 13;
const SPACE = 32;
const COLON = 58;
const MAX_HEAD = 16 * 1024;
const decoder = new TextDecoder("latin1");

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

const [GET, HEAD] = [bytesOf("GET"), bytesOf("HEAD")];
const [HTTP, CLOSE, KEEP_ALIVE] = [bytesOf("HTTP/1."), bytesOf("close"), bytesOf("keep-alive")];

/** A header field that is of interest. Its value lies in the buffer from `start` to `end`; `start` is −1 without one. */
class Field {
  readonly name: Uint8Array;
  start = -1;
  end = -1;

  constructor(name: string) {
    this.name = bytesOf(name);
  }
}

/** A piece of the buffer and a word, without regard to case; the word is in small letters. */
function same(bytes: Uint8Array, start: number, end: number, word: Uint8Array): boolean {
  if (end - start !== word.length) return false;
  for (let i = 0; i < word.length; i++) if ((bytes[start + i]! | 0x20) !== word[i]!) return false;
  return true;
}

function exactly(bytes: Uint8Array, start: number, end: number, word: Uint8Array): boolean {
  if (end - start < word.length) return false;
  for (let i = 0; i < word.length; i++) if (bytes[start + i] !== word[i]) return false;
  return true;
}

/** Reads requests out of a buffer, one after the other. What it tells holds until the next one is read. */
export class Requests {
  bytes: Uint8Array = new Uint8Array();
  /** Where the next request begins. */
  at = 0;
  method: "GET" | "HEAD" | "other" = "GET";
  /** Where the request target lies. */
  targetStart = 0;
  targetEnd = 0;
  /** FNV-1a of the target. */
  targetHash = 0;
  /** Whether the client wants to go on with this connection. */
  keepAlive = true;
  /** Whether there are conditions or a range. */
  special = false;
  readonly range: Field = new Field("range");
  readonly ifRange: Field = new Field("if-range");
  readonly ifNoneMatch: Field = new Field("if-none-match");
  readonly ifModifiedSince: Field = new Field("if-modified-since");
  readonly #host = new Field("host");
  readonly #connection = new Field("connection");
  readonly #length = new Field("content-length");
  readonly #encoding = new Field("transfer-encoding");
  readonly #fields: readonly Field[] = [
    this.#host,
    this.#connection,
    this.range,
    this.ifRange,
    this.ifNoneMatch,
    this.ifModifiedSince,
    this.#length,
    this.#encoding,
  ];

  feed(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.at = 0;
  }

  /** Reads a request; false if there is none or not all of it. Throws a `RequestError`. */
  next(): boolean {
    const { bytes } = this;
    // Some clients send an empty line after a request.
    while (this.at < bytes.length && (bytes[this.at] === CR || bytes[this.at] === LF)) this.at++;
    const first = this.#lineEnd(this.at);
    if (first < 0) return this.#incomplete();
    for (const field of this.#fields) field.start = -1;
    const minor = this.#requestLine(this.at, this.#trimmed(this.at, first));
    let line = first + 1;
    for (;;) {
      const end = this.#lineEnd(line);
      if (end < 0) return this.#incomplete();
      const last = this.#trimmed(line, end);
      if (last === line) {
        line = end + 1;
        break;
      }
      this.#field(line, last);
      line = end + 1;
    }
    if (line - this.at > MAX_HEAD) throw new RequestError(431, "the head is too long");
    this.at = line;
    this.#conclude(minor);
    return true;
  }

  #incomplete(): false {
    if (this.bytes.length - this.at > MAX_HEAD) throw new RequestError(431, "the head is too long");
    return false;
  }

  #lineEnd(start: number): number {
    const { bytes } = this;
    const limit = bytes.length;
    let i = start;
    while (i < limit && bytes[i] !== LF) i++;
    return i < limit ? i : -1;
  }

  #trimmed(start: number, end: number): number {
    return end > start && this.bytes[end - 1] === CR ? end - 1 : end;
  }

  /** Returns the minor version. */
  #requestLine(start: number, end: number): number {
    const { bytes } = this;
    let space = start;
    while (space < end && bytes[space] !== SPACE) space++;
    let hash = 0x811c9dc5 | 0;
    let i = space + 1;
    for (; i < end && bytes[i] !== SPACE; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
    const minor = (bytes[end - 1] ?? 0) - 48;
    const versioned = end - i - 1 === HTTP.length + 1 && exactly(bytes, i + 1, end, HTTP) && minor >= 0 &&
      minor <= 9;
    if (!versioned || i === space + 1 || space === start) throw new RequestError(400, "no request line");
    const get = space - start === 3 && exactly(bytes, start, space, GET);
    this.method = get ? "GET" : space - start === 4 && exactly(bytes, start, space, HEAD) ? "HEAD" : "other";
    this.targetStart = space + 1;
    this.targetEnd = i;
    this.targetHash = hash;
    return minor;
  }

  #field(start: number, end: number): void {
    const { bytes } = this;
    let colon = start;
    while (colon < end && bytes[colon] !== COLON) colon++;
    if (colon === end || colon === start || bytes[colon - 1]! <= SPACE || bytes[start]! <= SPACE) {
      throw new RequestError(400, "no header field");
    }
    for (const field of this.#fields) {
      if (!same(bytes, start, colon, field.name)) continue;
      if (field.start >= 0 && field === this.#host) throw new RequestError(400, "two hosts");
      field.start = colon + 1;
      while (field.start < end && bytes[field.start]! <= SPACE) field.start++;
      field.end = end;
      while (field.end > field.start && bytes[field.end - 1]! <= SPACE) field.end--;
      return;
    }
  }

  #conclude(minor: number): void {
    const { bytes } = this;
    if (minor >= 1 && this.#host.start < 0) throw new RequestError(400, "no host");
    const { start, end } = this.#connection;
    this.keepAlive = start < 0
      ? minor >= 1
      : minor >= 1
      ? !same(bytes, start, end, CLOSE)
      : same(bytes, start, end, KEEP_ALIVE);
    const empty = this.#length.start < 0 || this.text(this.#length) === "0";
    // Nothing here takes a body; with one the next request's beginning would have to be looked for.
    if (!empty || this.#encoding.start >= 0) {
      throw new RequestError(this.method === "other" ? 405 : 400, "a body");
    }
    this.special = this.range.start >= 0 || this.ifNoneMatch.start >= 0 || this.ifModifiedSince.start >= 0;
  }

  /** A field's value; null without one. */
  text(field: Field): string | null {
    return field.start < 0 ? null : decoder.decode(this.bytes.subarray(field.start, field.end));
  }

  get target(): string {
    return decoder.decode(this.bytes.subarray(this.targetStart, this.targetEnd));
  }

  /** Whether the target is these bytes. */
  isFor(target: Uint8Array): boolean {
    return this.targetEnd - this.targetStart === target.length &&
      exactly(this.bytes, this.targetStart, this.targetEnd, target);
  }
}
