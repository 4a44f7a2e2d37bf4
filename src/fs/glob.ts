/**
 * `glob`.
 *
 * @module
 */
import { AT_SYMLINK_NOFOLLOW, DT_DIR, DT_LNK, STATX_TYPE } from "../ffi/abi.ts";
import { Uring, UringError } from "../mod.ts";
import { Dirent, typeOfMode } from "./dirent.ts";
import { typeError } from "./errors.ts";
import { entriesAt, type Entry, join, typeOf } from "./scan.ts";
import { checkOptions, pathOf } from "./arguments.ts";
import { type Piece, piecesOf } from "./glob_pattern.ts";

/** Options of {@link glob}. */
export interface GlobOptions {
  /** Where to start; default: the working directory. */
  cwd?: string | URL | undefined;
  /** `Dirent`s instead of paths. */
  withFileTypes?: boolean | undefined;
  /**
   * What to leave out: patterns, or a function that is given each path (each `Dirent`, `withFileTypes`) and says so.
   * Directories that are left out are not looked into.
   */
  exclude?: ((entry: never) => boolean) | readonly string[] | undefined;
  /** Look into directories that symbolic links point to, when `**` comes to them. */
  followSymlinks?: boolean | undefined;
}

interface Found {
  /** The path as it is told: from the start on. */
  readonly path: string;
  readonly entry: Dirent;
}

/** A place in the tree, and the patterns that still have to match from there. */
interface Place {
  readonly path: string;
  readonly rests: readonly (readonly Piece[])[];
}

/**
 * The paths that match a pattern, as they are found: `*`, `?`, `[a-z]`, `{a,b}` within a name, `**` over any number of
 * directories. Names that begin with a dot match like others, as in Node.
 *
 * @example
 * ```ts
 * import { glob } from "uring/fs";
 * for await (const path of glob("src/**\\/*.ts")) console.log(path);
 * ```
 */
export function glob(
  pattern: string | readonly string[],
  options: GlobOptions & { withFileTypes: true },
): AsyncGenerator<Dirent, undefined>;
/** The paths that match a pattern. */
export function glob(
  pattern: string | readonly string[],
  options?: GlobOptions & { withFileTypes?: false | undefined },
): AsyncGenerator<string, undefined>;
/** The paths or entries that match a pattern. */
export function glob(
  pattern: string | readonly string[],
  options?: GlobOptions,
): AsyncGenerator<Dirent | string, undefined>;
export async function* glob(
  pattern: string | readonly string[],
  options: GlobOptions = {},
): AsyncGenerator<Dirent | string, undefined> {
  const patterns = (Array.isArray(pattern) ? pattern : [pattern]) as readonly string[];
  for (const one of patterns) {
    if (typeof one !== "string") {
      throw typeError(
        "ERR_INVALID_ARG_TYPE",
        `The "patterns" argument must be of type string. Received ${typeof one}`,
      );
    }
  }
  checkOptions(options);
  checkExclude(options.exclude);
  const walk = new Walk(options);
  const seen = new Set<string>();
  for await (const { path, entry } of walk.find(patterns.flatMap(piecesOf))) {
    if (seen.has(path)) continue;
    seen.add(path);
    yield options.withFileTypes === true ? entry : path;
  }
  return undefined;
}

function checkExclude(exclude: unknown): void {
  if (exclude === undefined || typeof exclude === "function") return;
  if (Array.isArray(exclude) && exclude.every((one) => typeof one === "string")) return;
  throw typeError(
    "ERR_INVALID_ARG_TYPE",
    'The "options.exclude" property must be a function or an instance of string[].',
  );
}

class Walk {
  readonly #cwd: string;
  readonly #follow: boolean;
  readonly #excluded: (path: string, entry: Dirent) => boolean;

  constructor(options: GlobOptions) {
    const cwd = pathOf(options.cwd ?? ".", "cwd");
    this.#cwd = typeof cwd === "string" ? cwd : new TextDecoder().decode(cwd);
    this.#follow = options.followSymlinks === true;
    const { exclude } = options;
    if (exclude === undefined) this.#excluded = () => false;
    else if (typeof exclude === "function") {
      const asks = exclude as (entry: string | Dirent) => boolean;
      this.#excluded = (path, entry) => asks(options.withFileTypes === true ? entry : path);
    } else {
      const patterns = exclude.flatMap(piecesOf);
      this.#excluded = (path) => patterns.some((pieces) => matches(pieces, path.split("/")));
    }
  }

  async *find(patterns: readonly (readonly Piece[])[]): AsyncGenerator<Found> {
    const absolute = patterns.filter((pieces) => pieces[0] === "");
    const relative = patterns.filter((pieces) => pieces[0] !== "");
    if (relative.length > 0) yield* this.#descend({ path: "", rests: relative });
    if (absolute.length > 0) {
      yield* this.#descend({ path: "/", rests: absolute.map((pieces) => pieces.slice(1)) });
    }
  }

  #where(path: string): string {
    return path.startsWith("/") ? path : path === "" ? this.#cwd : join(this.#cwd, path);
  }

  async *#descend(place: Place): AsyncGenerator<Found> {
    const { path, rests } = place;
    if (path === "" && rests.some((rest) => rest.every((piece) => piece === "**"))) {
      const here = new Dirent(".", this.#cwd, DT_DIR);
      if (!this.#excluded(".", here)) yield { path: ".", entry: here };
    }
    // A pattern that goes on with plain names needs no directory to be read.
    if (rests.every(isPlain)) yield* this.#plain(path, rests);
    else yield* this.#listed(path, rests);
  }

  async *#plain(path: string, rests: readonly (readonly Piece[])[]): AsyncGenerator<Found> {
    for (const rest of rests) {
      const name = rest[0] as string;
      const next = name === "" ? path : join(path, name);
      const type = await typeAt(this.#where(next));
      if (type !== null) yield* this.#visit(path, name, next, type, [rest.slice(1)]);
    }
  }

  async *#listed(path: string, rests: readonly (readonly Piece[])[]): AsyncGenerator<Found> {
    let entries: Entry[];
    try {
      entries = await entriesAt("scandir", this.#where(path));
    } catch (error) {
      // What cannot be read has nothing that matches, as for a shell.
      if (error instanceof UringError) return;
      throw error;
    }
    for (const rest of rests) {
      // These are no entries of the directory.
      if (rest[0] === "." || rest[0] === ".." || rest[0] === "") yield* this.#plain(path, [rest]);
    }
    for (const entry of entries) {
      const next = rests.flatMap((rest) => step(rest, entry.text));
      if (next.length === 0) continue;
      const type = await typeOf(this.#where(path), entry);
      yield* this.#visit(path, entry.text, join(path, entry.text), type, next);
    }
  }

  async *#visit(
    parent: string,
    name: string,
    path: string,
    type: number,
    rests: readonly (readonly Piece[])[],
  ): AsyncGenerator<Found> {
    const entry = new Dirent(name, this.#where(parent), type);
    if (this.#excluded(path, entry)) return;
    if (rests.some(isOver)) yield { path, entry };
    const deeper = rests.filter((rest) => rest.length > 0);
    if (deeper.length === 0) return;
    if (type === DT_DIR) yield* this.#descend({ path, rests: deeper });
    else if (type === DT_LNK) {
      // `**` stops at links, since they may lead back; a name that the pattern gives is followed.
      const followed = this.#follow ? deeper : deeper.filter((rest) => rest[0] !== "**");
      if (followed.length > 0) yield* this.#descend({ path, rests: followed });
    }
  }
}

/** Whether nothing more has to match: the end of the pattern, or `**` that matches nothing. */
function isOver(rest: readonly Piece[]): boolean {
  return rest.every((piece) => piece === "**" || piece === "");
}

/** What is left of a pattern below an entry that its next piece matches; of `**`, both ways to go on. */
function step(rest: readonly Piece[], name: string): (readonly Piece[])[] {
  const [first, ...others] = rest;
  if (first === undefined) return [];
  if (first === "**") return [rest, ...step(others, name)];
  if (typeof first === "string" ? first === name : first.test(name)) return [others];
  return [];
}

/** Whether the next piece is a name and no pattern. */
function isPlain(rest: readonly Piece[]): boolean {
  return typeof rest[0] === "string" && rest[0] !== "**";
}

/** Whether a whole pattern matches a whole path. */
function matches(pieces: readonly Piece[], names: readonly string[]): boolean {
  if (pieces.length === 0) return names.length === 0;
  const [first, ...others] = pieces;
  if (first === "**") {
    for (let i = 0; i <= names.length; i++) if (matches(others, names.slice(i))) return true;
    return false;
  }
  const name = names[0];
  if (name === undefined) return false;
  if (!(typeof first === "string" ? first === name : first!.test(name))) return false;
  return matches(others, names.slice(1));
}

async function typeAt(path: string): Promise<number | null> {
  try {
    const about = await Uring.shared.statx(path, { flags: AT_SYMLINK_NOFOLLOW, mask: STATX_TYPE });
    return typeOfMode(about.mode);
  } catch (error) {
    if (error instanceof UringError) return null;
    throw error;
  }
}
