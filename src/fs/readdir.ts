/**
 * `readdir`.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { DT_DIR } from "../ffi/abi.ts";
import { optionsOf, type PathLike, pathOf } from "./arguments.ts";
import { textOf } from "./calls.ts";
import { Dirent } from "./dirent.ts";
import { checkNameEncoding, encode, type Encoding, type NameEncoding, nameOf } from "./encoding.ts";
import { entriesAt, type Entry, join, pathIn, typeOf } from "./scan.ts";

/** Options of {@link readdir}. */
export interface ReaddirOptions {
  /** How names are given; default UTF-8. */
  encoding?: Encoding | "buffer" | null | undefined;
  /** `Dirent`s instead of names. */
  withFileTypes?: boolean | undefined;
  /** Everything below it, too; names are then paths that start from it. Symbolic links are not followed. */
  recursive?: boolean | undefined;
}

/** How many directories below one are read at a time. */
const AT_ONCE = 16;

type Texts = { encoding?: Encoding | null | undefined; recursive?: boolean | undefined };
type Bytes = { encoding: "buffer"; recursive?: boolean | undefined };

/**
 * The names in a directory, without `.` and `..`, in order.
 *
 * @throws UringError (rejects) with Node's `code`, `syscall` (`scandir`) and `path`.
 *
 * @example
 * ```ts
 * import { readdir } from "uring/fs";
 * for (const entry of await readdir("/etc", { withFileTypes: true })) {
 *   if (entry.isDirectory()) console.log(entry.name);
 * }
 * ```
 */
export function readdir(
  path: PathLike,
  options?: (Texts & { withFileTypes?: false | undefined }) | Encoding | null,
): Promise<string[]>;
/** The names in a directory as bytes. */
export function readdir(
  path: PathLike,
  options: (Bytes & { withFileTypes?: false | undefined }) | "buffer",
): Promise<Buffer<ArrayBuffer>[]>;
/** The names in a directory. */
export function readdir(
  path: PathLike,
  options?: (Texts & { withFileTypes?: false | undefined }) | Encoding | null,
): Promise<string[] | Buffer<ArrayBuffer>[]>;
/** The entries of a directory. */
export function readdir(path: PathLike, options: Texts & { withFileTypes: true }): Promise<Dirent[]>;
/** The entries of a directory, with names as bytes. */
export function readdir(
  path: PathLike,
  options: Bytes & { withFileTypes: true },
): Promise<Dirent<Buffer<ArrayBuffer>>[]>;
export async function readdir(
  path: PathLike,
  options?: ReaddirOptions | string | null,
): Promise<unknown> {
  const { encoding, withFileTypes = false, recursive = false } = optionsOf<ReaddirOptions>(options);
  checkNameEncoding(encoding as NameEncoding);
  const root = pathOf(path);
  const wanted = encoding as NameEncoding;
  const found: Found[] = [];
  await collect(root, "", recursive || withFileTypes, recursive, found);
  if (withFileTypes) {
    const start = textOf(root);
    return found.map(({ entry, below, type }) =>
      new Dirent(encoded(entry, wanted), below === "" ? start : join(start, textOf(below)), type)
    );
  }
  return found.map(({ entry, below }) => {
    if (below === "") return encoded(entry, wanted);
    const path = pathIn(below, entry);
    return typeof path === "string" ? encoded({ text: path, bytes: null }, wanted) : nameOf(path, wanted);
  });
}

interface Found {
  readonly entry: Entry;
  /** The directory that it is in, from the root on. */
  readonly below: string | Uint8Array;
  readonly type: number;
}

function encoded(entry: Pick<Entry, "text" | "bytes">, encoding: NameEncoding): string | Buffer<ArrayBuffer> {
  if (encoding === undefined || encoding === null || encoding === "utf8" || encoding === "utf-8") {
    return entry.text;
  }
  return nameOf(entry.bytes ?? encode(entry.text), encoding);
}

/** Adds a directory's entries to `found`, then those of the directories in it, level by level. */
async function collect(
  root: string | Uint8Array,
  below: string,
  types: boolean,
  recursive: boolean,
  found: Found[],
): Promise<void> {
  let level: { path: string | Uint8Array; below: string | Uint8Array }[] = [{ path: root, below }];
  while (level.length > 0) {
    const next: typeof level = [];
    for (let i = 0; i < level.length; i += AT_ONCE) {
      const some = level.slice(i, i + AT_ONCE);
      const lists = await Promise.all(some.map(({ path }) => entriesAt("scandir", path)));
      for (const [j, { path, below }] of some.entries()) {
        for (const entry of lists[j]!) {
          const type = types ? (entry.type === 0 ? await typeOf(path, entry) : entry.type) : 0;
          found.push({ entry, below, type });
          if (recursive && type === DT_DIR) {
            next.push({ path: pathIn(path, entry), below: pathIn(below, entry) });
          }
        }
      }
    }
    level = next;
  }
}
