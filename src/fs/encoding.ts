/**
 * Bytes, text and `Buffer`.
 *
 * `Buffer` is the global one, looked up when it is first needed: in Deno that takes 4 ms, once, and text in UTF-8 never
 * needs it. What has no encoding is a real `Buffer`, as in Node: with a plain `Uint8Array`, code that says
 * `data.toString()` would go on with the wrong text.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { bytesOf } from "./arguments.ts";
import { typeError } from "./errors.ts";

/** How text stands for bytes: Node's names. */
export type Encoding =
  | ("utf8" | "utf-8" | "ascii" | "latin1" | "binary")
  | ("hex" | "base64" | "base64url")
  | ("utf16le" | "utf-16le" | "ucs2" | "ucs-2");

/** What can be written: text, or the bytes that a view shows. */
export type Data = string | ArrayBufferView;

/** What a file can be written from: data, or pieces of it as they come (an iterable, a stream). */
export type Contents = Data | Iterable<Data> | AsyncIterable<Data>;

const encoder = new TextEncoder();
// As Buffer's own: a byte order mark is part of the text.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

let global: typeof Buffer | undefined;

function nodeBuffer(): typeof Buffer {
  return global ??= (globalThis as unknown as { Buffer: typeof Buffer }).Buffer;
}

function isUtf8(encoding: Encoding | null | undefined): boolean {
  return encoding === undefined || encoding === null || encoding === "utf8" || encoding === "utf-8";
}

/** Checks an encoding. */
export function checkEncoding(encoding: Encoding | null | undefined): void {
  if (isUtf8(encoding) || nodeBuffer().isEncoding(encoding!)) return;
  throw typeError(
    "ERR_INVALID_ARG_VALUE",
    `The argument 'encoding' is invalid encoding. Received '${encoding}'`,
  );
}

/** A `Buffer` on the same memory. */
export function asBuffer(bytes: Uint8Array): Buffer<ArrayBuffer> {
  return nodeBuffer().from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

/** A `Buffer` with a copy of bytes, in memory that nobody else has. */
export function copyOf(bytes: Uint8Array): Buffer<ArrayBuffer> {
  // A third of what `slice` and a `Buffer` on the result take.
  const copy = nodeBuffer().allocUnsafeSlow(bytes.length) as Buffer<ArrayBuffer>;
  copy.set(bytes);
  return copy;
}

/** Text out of bytes that are valid only now; without an encoding, a `Buffer` with a copy of them. */
export function decodeBorrowed(
  bytes: Uint8Array,
  encoding: Encoding | null | undefined,
): string | Buffer<ArrayBuffer> {
  return encoding === undefined || encoding === null ? copyOf(bytes) : decode(bytes, encoding);
}

/** Text out of bytes; without an encoding, a `Buffer` of them. */
export function decode(
  bytes: Uint8Array,
  encoding: Encoding | null | undefined,
): string | Buffer<ArrayBuffer> {
  if (encoding === undefined || encoding === null) return asBuffer(bytes);
  return isUtf8(encoding) ? utf8Of(bytes) : asBuffer(bytes).toString(encoding as "hex");
}

/** Text in UTF-8. Too much of it makes Deno's decoder fail; Bun's gives nothing then. */
function utf8Of(bytes: Uint8Array): string {
  let text = "";
  try {
    text = decoder.decode(bytes);
  } catch {
    // It takes whatever the bytes are, so there is one reason.
  }
  if (text.length === 0 && bytes.length > 0) throw tooLong();
  return text;
}

function tooLong(): Error {
  const { process } = globalThis as unknown as {
    process: { getBuiltinModule(name: string): { constants: { MAX_STRING_LENGTH: number } } };
  };
  const most = process.getBuiltinModule("node:buffer").constants.MAX_STRING_LENGTH;
  return Object.assign(new Error(`Cannot create a string longer than 0x${most.toString(16)} characters`), {
    code: "ERR_STRING_TOO_LONG",
  });
}

/** Bytes out of data. */
export function encode(data: Data, encoding?: Encoding | null): Uint8Array {
  if (typeof data === "string") {
    return isUtf8(encoding) ? encoder.encode(data) : nodeBuffer().from(data, encoding as "hex");
  }
  if (ArrayBuffer.isView(data)) return bytesOf(data);
  throw typeError(
    "ERR_INVALID_ARG_TYPE",
    `The "data" argument must be of type string or an instance of Buffer, TypedArray, or DataView. ` +
      `Received ${data === null ? "null" : typeof data}`,
  );
}

/** How a name is to be given: as text in an encoding (default UTF-8), or as a `Buffer` with its very bytes. */
export type NameEncoding = Encoding | "buffer" | null | undefined;

/** Options of what gives names: an encoding alone, or as a property. */
export type NameOptions = Encoding | { encoding?: Encoding | null | undefined };

/** Checks a {@link NameEncoding}. */
export function checkNameEncoding(encoding: NameEncoding): void {
  if (encoding !== "buffer") checkEncoding(encoding);
}

/** A name out of its bytes, which are copied. */
export function nameOf(bytes: Uint8Array, encoding: NameEncoding): string | Buffer<ArrayBuffer> {
  if (encoding === "buffer") return copyOf(bytes);
  return decode(bytes, encoding ?? "utf8");
}

/** The bytes of {@link Contents}, piece by piece; checked at once as far as they are there. */
export function chunksOf(
  data: Contents,
  encoding?: Encoding | null,
): readonly Uint8Array[] | AsyncGenerator<Uint8Array> {
  if (typeof data === "string" || ArrayBuffer.isView(data)) return [encode(data, encoding)];
  if (
    data !== null && typeof data === "object" && (Symbol.asyncIterator in data || Symbol.iterator in data)
  ) {
    return encodedPieces(data as AsyncIterable<Data>, encoding);
  }
  return [encode(data as Data, encoding)];
}

async function* encodedPieces(
  data: AsyncIterable<Data> | Iterable<Data>,
  encoding: Encoding | null | undefined,
): AsyncGenerator<Uint8Array> {
  for await (const piece of data) yield encode(piece, encoding);
}
