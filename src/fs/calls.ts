/**
 * System calls that io_uring has no operation for, called directly. With the inode in memory they take one or two
 * microseconds, less than a thread's turn; where the kernel must ask a disk or a server first, the event loop waits.
 *
 * @module
 */
import { UringError } from "../ffi/errors.ts";
import { type System, system } from "../ffi/system.ts";

/** Makes a call; its failure carries Node's name for it and the path. */
export function call(
  syscall: string,
  path: string | Uint8Array | null,
  make: (files: System["files"]) => number,
): number {
  const result = make(system().files);
  if (result >= 0) return result;
  throw new UringError(result, syscall, path === null ? {} : { path: textOf(path) });
}

/** A path in an error's words. */
export function textOf(path: string | Uint8Array): string {
  return typeof path === "string" ? path : new TextDecoder().decode(path);
}

/** How many calls in a row are made at once, before timers and sockets get their turn. */
const IN_A_ROW = 64;
let made = 0;

/** A promise to wait for before the next direct call, now and then: a loop of them must not keep everything else waiting. */
export function breath(): Promise<void> | undefined {
  if (++made % IN_A_ROW !== 0) return undefined;
  return new Promise((resolve) => setImmediate(() => resolve()));
}

/** A promise of what is done at once. */
export function directly<T>(make: () => T): Promise<T> {
  const wait = breath();
  return wait === undefined ? new Promise((resolve) => resolve(make())) : wait.then(make);
}
