/**
 * What `watch` leaves out.
 *
 * @module
 */
import { typeError } from "./errors.ts";
import { type Piece, piecesOf } from "./glob_pattern.ts";

/**
 * A pattern, an expression or a function that says which paths are left out. Patterns are `glob`'s, but wildcards do not
 * match a dot that a name begins with; one without a slash stands for a name in any directory.
 */
export type Ignore = string | RegExp | ((filename: string) => boolean);

/** Whether a path is left out. */
export type Ignored = (path: string) => boolean;

/** `*` or `?` at the beginning. */
const WILD = /^\^\[\^\\?\/\]/;

/** A function that knows what is left out. Throws `ERR_INVALID_ARG_TYPE` and `ERR_INVALID_ARG_VALUE`. */
export function ignoredBy(ignore: Ignore | readonly Ignore[] | null | undefined): Ignored {
  if (ignore === undefined || ignore === null) return () => false;
  if (!Array.isArray(ignore)) return oneOf("options.ignore", ignore);
  const all = ignore.map((one, i) => oneOf(`options.ignore[${i}]`, one));
  return (path) => all.some((ignored) => ignored(path));
}

function oneOf(name: string, ignore: unknown): Ignored {
  if (typeof ignore === "function") return ignore as Ignored;
  if (ignore instanceof RegExp) return (path) => ignore.exec(path) !== null;
  if (typeof ignore !== "string") {
    throw typeError(
      "ERR_INVALID_ARG_TYPE",
      `The "${name}" property must be one of type string or function or an instance of RegExp. ` +
        `Received ${ignore === null ? "null" : typeof ignore}`,
    );
  }
  if (ignore === "") {
    throw typeError(
      "ERR_INVALID_ARG_VALUE",
      `The property '${name}' must be a non-empty string. Received ''`,
    );
  }
  const patterns = piecesOf(ignore);
  return (path) => {
    const names = path.split("/");
    return patterns.some((pieces) => matches(pieces, pieces.length === 1 ? names.slice(-1) : names));
  };
}

function matches(pieces: readonly Piece[], names: readonly string[]): boolean {
  const [first, ...others] = pieces;
  if (first === undefined) return names.length === 0;
  const [name, ...rest] = names;
  if (name === undefined) return false;
  if (first === "**") {
    // At the end it stands for one name at least.
    if (others.length > 0 && matches(others, names)) return true;
    return !name.startsWith(".") && (rest.length === 0 ? others.length === 0 : matches(pieces, rest));
  }
  if (typeof first === "string") return first === name && matches(others, rest);
  if (name.startsWith(".") && WILD.test(first.source)) return false;
  return first.test(name) && matches(others, rest);
}
