/**
 * Which memory of JavaScript's the library knows the addresses of. To be imported before anything that looks one up.
 *
 * @module
 */
import { isMapped } from "../../src/ffi/memory.ts";
import { system } from "../../src/ffi/system.ts";

/** With what is kept, so that nothing else comes there. */
let known: { view: ArrayBufferView; from: number; to: number }[] = [];

const sys = system() as { address: (view: ArrayBufferView) => number };
const lookUp = sys.address;
sys.address = (view) => {
  const address = lookUp(view);
  if (!isMapped(view.buffer)) known.push({ view, from: address, to: address + view.byteLength });
  return address;
};

/** Whether an address lies in memory of JavaScript's that was looked up. */
export function isKnown(address: number): boolean {
  return known.some(({ from, to }) => address >= from && address < to);
}

/** How many views were looked up. */
export function lookedUp(): number {
  return known.length;
}

/** Begins anew. */
export function forgetMemory(): void {
  known = [];
}
