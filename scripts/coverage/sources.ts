/**
 * What the library's sources declare, as far as the coverage page needs it. The files are formatted by `deno fmt`, so
 * indentation tells a class from its members and these from their bodies.
 *
 * @module
 */
import { readdirSync, readFileSync } from "node:fs";
import { ROOT } from "./data.ts";

/** A method, accessor, property or function. */
export interface Member {
  /** The file, from the root of the repository. */
  readonly file: string;
  /** The class or interface, or null for a function of the module. */
  readonly owner: string | null;
  readonly name: string;
  /** Whether it can be used from outside. */
  readonly open: boolean;
  /** Its doc comment. */
  doc: string;
  /** Its text. */
  body: string;
}

/** The declarations of some files. */
export interface Sources {
  readonly members: readonly Member[];
  /** What a class extends. */
  readonly parents: ReadonlyMap<string, string>;
}

const TYPE = /^(?:export )?(?:abstract )?(?:class|interface) (\w+)(?:<[^{]*?>)?(?: extends (\w+))?/;
const FUNCTION = /^(export )?(?:async )?function\*? (\w+)/;
const CONST = /^(export )?const (\w+)\b/;
const MEMBER =
  /^ {2}((?:(?:public|protected|private|override|static|async|abstract|readonly|get|set|declare) )*)\*?(#?\w+)\??\s*(?:[<(:=;]|$)/;

/** The files below a folder whose names end in this, sorted. */
export function filesBelow(folder: string, suffix: string): string[] {
  return readdirSync(new URL(`${folder}/`, ROOT), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(suffix))
    .map((name) => `${folder}/${name}`)
    .sort();
}

/** The text of a file of the repository. */
export function textOf(path: string): string {
  return readFileSync(new URL(path, ROOT), "utf8");
}

/** Reads the declarations of a folder. */
export function readSources(folder: string): Sources {
  const members: Member[] = [];
  const parents = new Map<string, string>();
  for (const file of filesBelow(folder, ".ts")) readFile(file, members, parents);
  return { members, parents };
}

function readFile(file: string, members: Member[], parents: Map<string, string>): void {
  let owner: string | null = null;
  let current: Member | null = null;
  let doc = "";
  let inDoc = false;
  const begin = (name: string, open: boolean): Member => {
    const member = { file, owner, name, open: open && !doc.includes("@internal"), doc, body: "" };
    members.push(member);
    doc = "";
    return member;
  };
  for (const line of textOf(file).split("\n")) {
    if (inDoc || /^\s{0,2}\/\*\*/.test(line)) {
      if (!inDoc) doc = "";
      doc += `${line}\n`;
      inDoc = !line.includes("*/");
      continue;
    }
    const type = TYPE.exec(line);
    const declared = FUNCTION.exec(line) ?? CONST.exec(line);
    const member = owner === null ? null : MEMBER.exec(line);
    if (type !== null) {
      [owner, current, doc] = [type[1]!, null, ""];
      if (type[2] !== undefined) parents.set(owner, type[2]);
    } else if (declared !== null) {
      owner = null;
      current = begin(declared[2]!, declared[1] !== undefined);
    } else if (member !== null) {
      current = begin(member[2]!, !member[2]!.startsWith("#") && !/private|protected/.test(member[1]!));
    } else if (line.startsWith("}")) {
      owner = null;
    }
    if (current !== null) current.body += `${line}\n`;
  }
}

/** `descendant` and every class that it extends. */
export function family(sources: Sources, descendant: string): Set<string> {
  const found = new Set<string>();
  for (let name: string | undefined = descendant; name !== undefined; name = sources.parents.get(name)) {
    found.add(name);
  }
  return found;
}

/**
 * The members among the `wanted` whose text matches, by themselves or through the private ones and the functions that they
 * call.
 */
export function reaching(
  sources: Sources,
  pattern: RegExp,
  wanted: (member: Member) => boolean,
): Member[] {
  let level = sources.members.filter(({ body }) => pattern.test(body));
  // A few steps up: from a private helper to what calls it.
  for (let step = 0; step < 4 && level.length > 0; step++) {
    const found = level.filter((member) => member.open && wanted(member));
    if (found.length > 0) return found;
    const callees = level;
    level = sources.members.filter((member) =>
      callees.some((callee) => callee !== member && calls(member, callee))
    );
  }
  return [];
}

function calls(caller: Member, callee: Member): boolean {
  if (callee.owner === null) return new RegExp(`(?<![.\\w#])${callee.name}\\(`).test(caller.body);
  if (callee.file !== caller.file) return false;
  return new RegExp(`\\.${callee.name}(?![\\w])`).test(caller.body);
}
