/**
 * Memory for chunks that are given away.
 *
 * Only the collector can free a chunk that a reader was given, and it does not hurry: V8 begins when 64 MiB of them wait, and
 * JavaScriptCore frees beside a program that allocates on. So it is told when it is worth its while.
 *
 * @module
 */
import { adapter } from "../ffi/system.ts";

let given = 0;

/** Memory whose content does not matter, for whoever gets it to keep. */
export function chunkMemory(byteLength: number): Uint8Array<ArrayBuffer> {
  given += byteLength;
  if (given >= adapter.hurryAfter) {
    given = 0;
    adapter.hurryCollector();
  }
  return adapter.uninitialized(byteLength);
}
