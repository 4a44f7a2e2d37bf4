/**
 * What the tests call and name.
 *
 * @module
 */
import { filesBelow, textOf } from "./sources.ts";

/** A test file. */
export interface TestFile {
  /** From the root of the repository. */
  readonly path: string;
  /** Its text without imports and comments. */
  readonly code: string;
  /** The programs of liburing's suite that titles in it name. */
  readonly twins: readonly string[];
  /** What its first comment says that it is about. */
  readonly subject: string;
}

/** The folder of the tests that are run in the lab only. */
export const LAB = "test/lab/";

/** Whether a test is run in the lab by `scripts/test`: those of its folder, and files of the suite's that it names. */
export function isRunInLab(path: string): boolean {
  return path.startsWith(LAB) || suiteInLab.has(path);
}

const suiteInLab: ReadonlySet<string> = new Set(textOf(`${LAB}suite.txt`).trim().split("\n"));

/** The folders whose tests show the API. */
const FOLDERS = [
  ...["test/ffi", "test/ring", "test/loop", "test/fs", "test/net", "test/liburing"],
  LAB.slice(0, -1),
];

/** Tables that tests go through: what they name is shown by the tests that use them. */
const TABLES: readonly { readonly file: string; readonly name: string; readonly uses: RegExp }[] = [
  { file: "test/support/rings.ts", name: "EVERYWHERE", uses: /\bKINDS\b|\bforEachKind\(/ },
  { file: "test/support/rings.ts", name: "YOUNG", uses: /\bKINDS\b|\bforEachKind\(/ },
  { file: "test/support/loop.ts", name: "FLAGS", uses: /\bFLAGS\b/ },
  { file: "test/support/loop.ts", name: "URING_KINDS", uses: /\bURING_KINDS\b/ },
];

const TITLE = /["'`]liburing ([\w-]+(?:, [\w-]+)*): /g;

/** Reads the test files, with those tables written out where they are used. */
export function readTests(): TestFile[] {
  const tables = TABLES.map(({ file, name, uses }) => ({ uses, text: tableText(file, name) }));
  return FOLDERS.flatMap((folder) => filesBelow(folder, ".test.ts")).map((path) => {
    const text = textOf(path);
    const own = bare(text);
    const code = own + tables.filter(({ uses }) => uses.test(own)).map((table) => table.text).join("");
    const twins = [...text.matchAll(TITLE)].flatMap((match) => match[1]!.split(", "));
    return { path, code, twins: [...new Set(twins)].sort(), subject: subjectOf(text) };
  });
}

function subjectOf(text: string): string {
  const comment = /^\/\*\*([\s\S]*?)\*\//.exec(text)?.[1] ?? "";
  const first = comment.split(/@module|\n\s*\*\s*\n/)[0]!;
  return first.replaceAll(/\s*\n\s*\* ?/g, " ").trim();
}

/** Without imports and comments. */
export function bare(text: string): string {
  return text
    .replaceAll(/^(?:import|export)\s[^;]*?\sfrom "[^"]*";$/gm, "")
    .replaceAll(/\/\*[\s\S]*?\*\//g, "")
    .replaceAll(/^\s*\/\/.*$/gm, "");
}

/** The text of a table: from its declaration to the line that ends it. */
function tableText(file: string, name: string): string {
  let text: string;
  try {
    text = bare(textOf(file));
  } catch {
    return "";
  }
  const at = text.search(new RegExp(`^(?:export )?const ${name}\\b`, "m"));
  if (at < 0) return "";
  const rest = text.slice(at);
  return rest.slice(0, rest.search(/^[\])}].*;$/m));
}

/** The tests of some folders in which a pattern is found, those with the most first. */
export function showing(
  tests: readonly TestFile[],
  pattern: RegExp,
  folders: readonly string[],
): readonly string[] {
  const global = new RegExp(pattern, "g");
  return tests
    .filter(({ path }) => folders.some((folder) => path.startsWith(folder)))
    .map(({ path, code }) => ({ path, count: [...code.matchAll(global)].length }))
    .filter(({ count }) => count > 0)
    .sort((a, b) => b.count - a.count || (a.path < b.path ? -1 : 1))
    .map(({ path }) => path);
}
