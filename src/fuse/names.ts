/**
 * Names between the kernel's bytes and the file system's text.
 *
 * @module
 */
import { AnswerError, EILSEQ, EINVAL, refuse } from "./failure.ts";
import type { MountOptions } from "./mount_types.ts";
import type { Name } from "./types.ts";

/** How names come and go. */
export interface NameCodec {
  /** The name in these bytes. */
  decode(bytes: Uint8Array, from: number, to: number): Name;
  /** Writes a name at a place and returns its length; −1 when there is no room for it up to `end`. */
  encode(name: Name, into: Uint8Array, at: number, end: number): number;
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();
const ASCII_END = 0x80;
const BYTE_END = 0x100;

/** Text whose bytes are all below `end`, or null. */
function simpleText(bytes: Uint8Array, from: number, to: number, end: number): string | null {
  let text = "";
  for (let i = from; i < to; i++) {
    const byte = bytes[i]!;
    if (byte >= end) return null;
    text += String.fromCharCode(byte);
  }
  return text;
}

/** Writes text whose characters are all below `limit`; −1: no room, −2: another character. */
function encodeSimple(text: string, into: Uint8Array, at: number, end: number, limit: number): number {
  const { length } = text;
  if (at + length > end) return -1;
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code >= limit) return -2;
    into[at + i] = code;
  }
  return length;
}

function encodeBytes(name: Uint8Array, into: Uint8Array, at: number, end: number): number {
  if (at + name.length > end) return -1;
  into.set(name, at);
  return name.length;
}

function encodeUtf8(name: Name, into: Uint8Array, at: number, end: number): number {
  if (typeof name !== "string") return encodeBytes(checkName(name), into, at, end);
  const length = encodeSimple(name, into, at, end, ASCII_END);
  if (length >= 0) return length;
  return encodeBytes(encoder.encode(name), into, at, end);
}

function checkName(name: unknown): Uint8Array {
  if (name instanceof Uint8Array) return name;
  throw new AnswerError("A name is a string or a Uint8Array");
}

const utf8: NameCodec = {
  decode(bytes, from, to) {
    const text = simpleText(bytes, from, to, ASCII_END);
    if (text !== null) return text;
    try {
      return strict.decode(bytes.subarray(from, to));
    } catch {
      return refuse(EILSEQ);
    }
  },
  encode: encodeUtf8,
};

const latin1: NameCodec = {
  decode: (bytes, from, to) => simpleText(bytes, from, to, BYTE_END)!,
  encode(name, into, at, end) {
    if (typeof name !== "string") return encodeBytes(checkName(name), into, at, end);
    const length = encodeSimple(name, into, at, end, BYTE_END);
    if (length === -2) throw new AnswerError("A name has characters that are no bytes");
    return length;
  },
};

const bytes: NameCodec = {
  decode: (memory, from, to) => memory.slice(from, to),
  encode: encodeUtf8,
};

const CODECS: Readonly<Record<NonNullable<MountOptions["names"]>, NameCodec>> = { utf8, latin1, bytes };

/** The codec that an option names. */
export function nameCodec(names: MountOptions["names"] = "utf8"): NameCodec {
  const codec = Object.hasOwn(CODECS, names) ? CODECS[names] : undefined;
  if (codec === undefined) throw new RangeError(`names must be "utf8", "latin1" or "bytes", not ${names}`);
  return codec;
}

/** Where a C string ends: at its NUL. */
export function endOfName(bytes: Uint8Array, from: number, to: number): number {
  let end = from;
  while (end < to && bytes[end] !== 0) end++;
  return end < to ? end : refuse(EINVAL);
}
