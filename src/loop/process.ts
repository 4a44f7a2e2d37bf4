/**
 * What the process may do, and on how many cores.
 *
 * @module
 */
import { system } from "../ffi/system.ts";

/** Room for the bits of 8192 processors. */
const MASK = 1024;

/** Whether this thread may run on more than one core. */
export function severalCores(): boolean {
  const mask = new Uint8Array(new ArrayBuffer(MASK));
  const length = system().process.sched_getaffinity(0, mask.length, mask);
  if (length < 0) return false;
  let cores = 0;
  for (let byte of mask) for (; byte !== 0; byte &= byte - 1) cores++;
  return cores > 1;
}

/** No user and no group: what is asked for with it is told, and stays as it is. */
const NOBODY = 0xffff_ffff;

/** In whose name this thread opens files. */
export function rights(): readonly [user: number, group: number] {
  const { process } = system();
  return [process.setfsuid(NOBODY), process.setfsgid(NOBODY)];
}
