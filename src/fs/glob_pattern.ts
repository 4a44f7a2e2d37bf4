/**
 * Patterns of paths, taken apart.
 *
 * @module
 */

/** A name between two slashes: itself, `**`, or what matches it. */
export type Piece = string | RegExp;

const MAGIC = /[*?[\\]/;
const SPECIAL = /[.+^${}()|\\\]]/;

/** A pattern as the pieces between its slashes; several, when braces stand for alternatives. */
export function piecesOf(pattern: string): Piece[][] {
  return alternatives(pattern).map((one) => {
    const names = one.split("/");
    // Slashes in a row are one; the first may begin an absolute path, the last asks for a directory.
    const kept = names.filter((name, i) => name !== "" || i === 0 || i === names.length - 1);
    return kept.filter((name, i) => name !== "**" || kept[i - 1] !== "**").map(pieceOf);
  });
}

function pieceOf(name: string): Piece {
  if (name === "**") return name;
  return MAGIC.test(name) ? new RegExp(`^${sourceOf(name)}$`, "su") : name;
}

/** `{a,b}` written out, also within each other: every combination. */
function alternatives(pattern: string): string[] {
  const start = unescaped(pattern, "{", 0);
  if (start < 0) return [pattern];
  let depth = 0;
  const cuts = [start];
  for (let i = start; i < pattern.length; i++) {
    if (pattern[i] === "\\") i++;
    else if (pattern[i] === "{") depth++;
    else if (pattern[i] === "," && depth === 1) cuts.push(i);
    else if (pattern[i] === "}" && --depth === 0) {
      cuts.push(i);
      return expand(pattern, start, i, cuts);
    }
  }
  // Never closed: it means itself.
  return alternatives(pattern.slice(start + 1)).map((rest) => `${pattern.slice(0, start)}\\{${rest}`);
}

function expand(pattern: string, start: number, end: number, cuts: readonly number[]): string[] {
  const before = pattern.slice(0, start);
  const after = alternatives(pattern.slice(end + 1));
  const choices = range(pattern.slice(start + 1, end)) ??
    (cuts.length === 2
      ? [`\\{${pattern.slice(start + 1, end)}\\}`]
      : cuts.slice(1).map((cut, i) => pattern.slice(cuts[i]! + 1, cut)));
  return choices.flatMap((choice) =>
    alternatives(choice).flatMap((one) => after.map((rest) => `${before}${one}${rest}`))
  );
}

/** `1..3` written out. */
function range(inner: string): string[] | null {
  const match = /^(-?\d+)\.\.(-?\d+)$/.exec(inner);
  if (match === null) return null;
  const [from, to] = [Number(match[1]), Number(match[2])];
  const count = Math.abs(to - from) + 1;
  return Array.from({ length: count }, (_, i) => String(from < to ? from + i : from - i));
}

function unescaped(text: string, wanted: string, from: number): number {
  for (let i = from; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === wanted) return i;
  }
  return -1;
}

function sourceOf(name: string): string {
  let source = "";
  for (let i = 0; i < name.length; i++) {
    const letter = name[i]!;
    if (letter === "\\" && i + 1 < name.length) source += escaped(name[++i]!);
    else if (letter === "*") source += "[^/]*";
    else if (letter === "?") source += "[^/]";
    else if (letter === "[") {
      const end = classEnd(name, i + (name[i + 1] === "!" || name[i + 1] === "^" ? 2 : 1));
      if (end < 0) source += "\\[";
      else {
        source += classOf(name.slice(i + 1, end));
        i = end;
      }
    } else source += escaped(letter);
  }
  return source;
}

/** Where a class ends whose members begin at `from`: a `]` that is neither the first nor part of `[:name:]`. */
function classEnd(name: string, from: number): number {
  for (let i = from; i < name.length; i++) {
    if (name.startsWith("[:", i)) {
      const end = name.indexOf(":]", i + 2);
      if (end > 0) i = end + 1;
    } else if (name[i] === "]" && i > from) return i;
  }
  return -1;
}

const NAMED: Readonly<Record<string, string>> = {
  "[:alpha:]": "\\p{L}",
  "[:digit:]": "\\d",
  "[:alnum:]": "\\p{L}\\d",
  "[:lower:]": "\\p{Ll}",
  "[:upper:]": "\\p{Lu}",
  "[:space:]": "\\s",
};

function classOf(inner: string): string {
  const not = inner.startsWith("!") || inner.startsWith("^");
  let members = (not ? inner.slice(1) : inner).replace(/[\\[\]^]/g, "\\$&");
  for (const [name, source] of Object.entries(NAMED)) {
    members = members.replaceAll(name.replace(/[[\]]/g, "\\$&"), source);
  }
  return `[${not ? "^/" : ""}${members}]`;
}

function escaped(letter: string): string {
  return SPECIAL.test(letter) || letter === "*" || letter === "?" || letter === "[" ? `\\${letter}` : letter;
}
