/**
 * Content that tells where it comes from.
 *
 * @module
 */

/** Bytes that tell where they come from: the byte at `offset` of file `file`. */
export function byteAt(offset: number, file = 0): number {
  return Math.imul(offset + file * 7919, 0x9e37_79b1) >>> 15 & 0xff;
}

/** The content of a file of such bytes. */
export function content(length: number, file = 0): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = byteAt(i, file);
  return bytes;
}

/** Fails unless the first `length` bytes are those of a file from `offset` on. */
export function assertContent(bytes: Uint8Array, length: number, offset: number, file = 0): void {
  for (let i = 0; i < length; i++) {
    if (bytes[i] === byteAt(offset + i, file)) continue;
    throw new Error(
      `byte ${i} of a read at ${offset} of file ${file} is ${bytes[i]}, not ${byteAt(offset + i, file)}`,
    );
  }
}
