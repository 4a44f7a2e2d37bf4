/**
 * Paths as callers give them.
 *
 * @module
 */
import { AT_FDCWD } from "../ffi/abi.ts";

/** A path: text, or the bytes of a name that is no UTF-8. */
export type Path = string | Uint8Array;

const NUL = 0;

/** Checks a path, or another text that C ends with a NUL. */
export function checkPath(path: Path, what = "A path"): void {
  const bad = typeof path === "string"
    ? path.includes("\0")
    : path instanceof Uint8Array
    ? path.includes(NUL)
    : null;
  if (bad === null) throw new TypeError(`${what} is a string or a Uint8Array`);
  if (bad) throw new TypeError(`${what} must not contain a NUL byte`);
}

/** A path for an error's message. */
export function textOf(path: Path): string {
  return typeof path === "string" ? path : new TextDecoder().decode(path);
}

/** The descriptor of the directory that a relative path starts from. */
export function dirfdOf(dirfd: number | undefined): number {
  if (dirfd === undefined) return AT_FDCWD;
  if (dirfd !== (dirfd | 0)) throw new TypeError(`dirfd must be a descriptor, not ${dirfd}`);
  return dirfd;
}
