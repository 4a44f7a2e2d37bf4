/**
 * Node's letters for `open` flags.
 *
 * @module
 */
import { O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_SYNC, O_TRUNC, O_WRONLY } from "../ffi/abi.ts";

/** How to open a file, in Node's letters. */
export type FlagString =
  | ("r" | "rs" | "r+" | "rs+")
  | ("w" | "wx" | "w+" | "wx+")
  | ("a" | "ax" | "as" | "a+" | "ax+" | "as+");

const FLAGS: Readonly<Record<FlagString, number>> = {
  "r": O_RDONLY,
  "rs": O_RDONLY | O_SYNC,
  "r+": O_RDWR,
  "rs+": O_RDWR | O_SYNC,
  "w": O_WRONLY | O_CREAT | O_TRUNC,
  "wx": O_WRONLY | O_CREAT | O_TRUNC | O_EXCL,
  "w+": O_RDWR | O_CREAT | O_TRUNC,
  "wx+": O_RDWR | O_CREAT | O_TRUNC | O_EXCL,
  "a": O_WRONLY | O_CREAT | O_APPEND,
  "ax": O_WRONLY | O_CREAT | O_APPEND | O_EXCL,
  "as": O_WRONLY | O_CREAT | O_APPEND | O_SYNC,
  "a+": O_RDWR | O_CREAT | O_APPEND,
  "ax+": O_RDWR | O_CREAT | O_APPEND | O_EXCL,
  "as+": O_RDWR | O_CREAT | O_APPEND | O_SYNC,
};

/** `O_*` bits out of either form. */
export function openFlags(flags: number | FlagString): number {
  if (typeof flags === "number") {
    if (!Number.isInteger(flags) || flags < 0 || flags > 0x7fff_ffff) {
      throw new RangeError(`flags must be O_* bits, not ${flags}`);
    }
    return flags;
  }
  const bits = Object.hasOwn(FLAGS, flags) ? FLAGS[flags] : undefined;
  if (bits === undefined) throw new TypeError(`Unknown open flags: ${flags}`);
  return bits;
}
