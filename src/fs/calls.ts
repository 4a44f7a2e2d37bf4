/**
 * System calls that io_uring has no operation for, called directly. With the inode in memory they take one or two
 * microseconds, less than a thread's turn. Where the kernel must ask a disk or a server first, the event loop would wait.
 *
 * @module
 */
import { STATX_TYPE } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { type System, system } from "../ffi/system.ts";
import { Uring } from "../mod.ts";
import { statTurn } from "./stat_cached.ts";

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

/** A promise to wait for before the next direct call, when there were many in this turn: timers and sockets come between. */
export function breath(): Promise<void> | undefined {
  return statTurn();
}

/** Lets timers and sockets have their turn. */
export function pause(): Promise<void> {
  return new Promise((resolve) => setImmediate(() => resolve()));
}

/** A promise of what is done at once. */
export function directly<T>(make: () => T): Promise<T> {
  const wait = breath();
  return wait === undefined ? new Promise((resolve) => resolve(make())) : wait.then(make);
}

/** What takes longer than this many milliseconds has waited for a disk or a server. */
const SLOW = 0.1;
/** After such a one, so many paths are looked up by the ring first. */
const CAREFUL = 128;
let careful = 0;

/**
 * A promise of what a direct call does with a path. When one has had to wait, the ring looks the next ones up first, on threads
 * of the kernel's, so that the calls find them in memory. `flags`: `AT_SYMLINK_NOFOLLOW` or 0.
 */
export async function onPath<T>(path: string | Uint8Array, flags: number, make: () => T): Promise<T> {
  const wait = breath();
  if (wait !== undefined) await wait;
  if (careful > 0) {
    careful--;
    // Whatever is wrong with it, the call will tell.
    await Uring.shared.statx(path, { flags, mask: STATX_TYPE }).catch(() => {});
  }
  const start = performance.now();
  try {
    return make();
  } finally {
    if (performance.now() - start > SLOW) careful = CAREFUL;
  }
}
