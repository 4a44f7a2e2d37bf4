/**
 * C strings.
 *
 * @module
 */

const encoder = new TextEncoder();

/**
 * A path as the kernel takes it: UTF-8 (or the bytes given) and a terminating NUL, in memory of its own.
 *
 * @throws TypeError when it contains a NUL, which would cut it short, or is of another type.
 */
export function cString(text: string | Uint8Array): Uint8Array {
  const bytes = typeof text === "string" ? encoder.encode(text) : text;
  if (!(bytes instanceof Uint8Array)) throw new TypeError("A path is a string or a Uint8Array");
  if (bytes.includes(0)) throw new TypeError("A path must not contain a NUL byte");
  const out = new Uint8Array(new ArrayBuffer(bytes.length + 1));
  out.set(bytes);
  return out;
}
