/**
 * From views to addresses: the one place where memory of JavaScript's is handed to the kernel.
 *
 * @module
 */
import type { Pinned } from "./adapter.ts";
import { system } from "./system.ts";

let lookUp: ((view: ArrayBufferView) => number) | undefined;

/**
 * The address of a view's first byte; 0 for an empty view. Whoever keeps the address must keep the view: memory that
 * is reachable by its address alone is collected.
 *
 * @throws TypeError when the view's buffer is detached or resizable (it could go away under the kernel).
 */
export function addressOf(view: ArrayBufferView): number {
  // Touching `buffer` first matters: Bun moves a typed array of 1000 bytes or fewer when that happens.
  const buffer = view.buffer as ArrayBuffer;
  if (view.byteLength === 0) {
    if (buffer.detached) throw new TypeError("The buffer is detached");
    return 0;
  }
  if (buffer.resizable) throw new TypeError("The buffer is resizable; the kernel needs memory that stays");
  const address = (lookUp ??= system().address)(view);
  if (!(address > 0)) throw new TypeError("The runtime gave no address for this buffer");
  return address;
}

/** Memory of our own for a struct that the kernel reads or writes: zeroed, and in one place for as long as it is held. */
export function pinned(byteLength: number): Pinned {
  const bytes = new Uint8Array(new ArrayBuffer(byteLength));
  return { bytes, address: addressOf(bytes) };
}
