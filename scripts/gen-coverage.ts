/**
 * Writes `docs/coverage.md`: what of io_uring is where in the API, and which test shows it. Everything in it is found in
 * the data of `abi/`, the sources and the tests. Runs under Bun and under Deno.
 *
 * ```sh
 * bun scripts/gen-coverage.ts           # writes the page
 * bun scripts/gen-coverage.ts --check   # writes nothing; fails when the page is old or something is not accounted for
 * ```
 *
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type CoverageData, loadCoverage, type Program, ROOT } from "./coverage/data.ts";
import { before, type Row, Rows, type Tables } from "./coverage/rows.ts";
import { isRunInLab, LAB } from "./coverage/tests.ts";

const PAGE = "docs/coverage.md";
/** How many places and tests a cell names at most; the rest would only make it unreadable. */
const MOST_PLACES = 4;
const MOST_TESTS = 2;

/** What stands on the page, and what is not accounted for. */
export interface Coverage {
  readonly text: string;
  readonly problems: readonly string[];
}

/** Makes the page. */
export function coverage(data: CoverageData = loadCoverage()): Coverage {
  const rows = new Rows(data);
  const tables = rows.tables();
  return { text: page(data, tables, rows), problems: problems(data, tables, rows.twins) };
}

/** The rows of all tables. */
function allRows(tables: Tables): Row[] {
  const { functions, ...others } = tables;
  return [...Object.values(others).flat(), ...Object.values(functions).flat()];
}

const MISSING = "**missing**";

function list(items: readonly string[], most: number): string {
  const more = items.length > most ? "…" : "";
  return items.slice(0, most).join(", ") + more;
}

function code(places: readonly string[]): string {
  const shown = places.map((place) => `\`${place.replace(/^(\w+)\.constructor$/, "new $1")}\``);
  return list(shown, MOST_PLACES);
}

function links(paths: readonly string[]): string {
  return list(
    paths.map((path) => `[${path.replace(/^test\//, "").replace(/\.test\.ts$/, "")}](../${path})`),
    MOST_TESTS,
  ).replace(/…$/, "");
}

/** Where it is and what shows it, or why not. */
function placeOf({ ring, why }: Row): string {
  return ring.length > 0 ? code(ring) : why ?? MISSING;
}

function testsOf({ tests, why, ring }: Row): string {
  if (tests.length > 0) return links(tests);
  if (why === undefined) return MISSING;
  return ring.length > 0 ? why : "";
}

function seenOn({ seen }: Row): string {
  return seen.join(", ");
}

function short(name: string): string {
  return `\`${name.replace(/^io_uring_/, "")}\``;
}

type Column = readonly [title: string, cell: (row: Row) => string];

const NAME: Column = ["", ({ name }) => short(name)];
const KERNEL: Column = ["Linux", ({ kernel }) => kernel];
const RING: Column = ["`uring/ring`", placeOf];
const LOOP: Column = ["`uring`", ({ loop }) => code(loop)];
const TESTS: Column = ["shown by", testsOf];
const SEEN: Column = ["seen on", seenOn];
const WITHOUT: Column = ["a kernel without it", ({ without }) => without];

function table(rows: readonly Row[], columns: readonly Column[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |\n`;
  return line(columns.map(([title]) => title)) + line(columns.map(() => "---")) +
    rows.map((row) => line(columns.map(([, cell]) => cell(row)))).join("");
}

function counts(tables: Tables): string {
  const count = (rows: readonly Row[]): string => `${rows.filter(isDone).length} of ${rows.length}`;
  const lines: [string, readonly Row[]][] = [
    ["operations", tables.opcodes],
    ["preps", tables.preps],
    ["functions of liburing", Object.values(tables.functions).flat()],
    ["register operations", tables.register],
    ["setup flags", tables.setup],
    ["enter flags", tables.enter],
    ["flags of submissions", tables.sqe],
    ["flags of completions", tables.cqe],
    ["features", tables.features],
  ];
  return lines.map(([what, rows]) => `| ${what} | ${count(rows)} |\n`).join("");
}

function isDone(row: Row): boolean {
  return (row.ring.length > 0 || row.why !== undefined) && (row.tests.length > 0 || row.why !== undefined);
}

function programCounts(programs: CoverageData["programs"], twins: Rows["twins"]): string {
  const entries = Object.entries(programs);
  const twinned = entries.filter(([name]) => twins.has(name));
  const explained = entries.filter(([name, { why }]) => !twins.has(name) && why !== undefined);
  return `${twinned.length} of ${entries.length} have a twin, ${explained.length} mean nothing for a binding`;
}

const IN_C: Readonly<Record<Program["c"], string>> = {
  pass: "passes",
  skip: "skips itself",
  slow: "takes over 25 s",
  fail: "fails",
};

function programTable(programs: CoverageData["programs"], twins: Rows["twins"]): string {
  const rows = Object.entries(programs).map(([name, { c, why }]) => {
    const paths = twins.get(name);
    return `| ${name} | ${IN_C[c]} | ${paths === undefined ? why ?? MISSING : links(paths)} |\n`;
  });
  return `| program | in C | twin, or why there is none |\n| --- | --- | --- |\n${rows.join("")}`;
}

function featureTable(rows: readonly Row[], { features }: CoverageData["exceptions"]): string {
  const meaning: Column = [
    "what it tells, and what a kernel without it means here",
    ({ name }) => features[name] ?? MISSING,
  ];
  return table(rows, [NAME, KERNEL, meaning, TESTS, SEEN]);
}

/** What is run in the lab, by subject. */
function labTable(lab: Rows["lab"]): string {
  const rows = lab.map(({ path, subject }) => `| ${subject} | ${links([path])} |\n`);
  return `| subject | shown by |\n| --- | --- |\n${rows.join("")}`;
}

function page(data: CoverageData, tables: Tables, { lab, twins }: Rows): string {
  const { kernels } = data.exceptions;
  const functions = Object.entries(tables.functions)
    .map(([subject, rows]) => `### ${subject}\n\n${table(rows, [NAME, KERNEL, RING, LOOP, TESTS, SEEN])}\n`)
    .join("");
  return `# Coverage

<!-- Generated by scripts/gen-coverage.ts. Do not edit. -->

All of io_uring as liburing 2.15 knows it: the kernel that brought each thing, where it is in the API, a test that shows
it under both runtimes, and what happens on a kernel without it. What the running kernel has is to be had from \`probe()\`
of \`uring\`, and from \`ring.getProbe()\`, \`ring.features\` and \`queryOpcodes()\` of \`uring/ring\`.

"Seen on" are the kernels on which \`./scripts/test\` sees it working: Linux ${kernels.suite} on a virtual machine of a cloud, and Linux
${kernels.lab} in [the lab](lab.md), by what is in \`${LAB}\` and the files of the suite that are named there. What was seen on ${kernels.lab}
alone is too young for the other, or needs a device that the lab has. The rest of the suite runs in the lab by \`./scripts/lab test\`.

| | done |
| --- | --- |
${counts(tables)}| liburing's test programs | ${programCounts(data.programs, twins)} |

## Operations

A kernel that does not know an operation completes it with \`-EINVAL\`. Of a raw ring that is the \`res\` of the completion;
\`Uring\` asks the kernel which operations it has and rejects with an error that names the operation and the Linux version
that brought it.

${table(tables.opcodes, [NAME, KERNEL, RING, LOOP, TESTS, SEEN, WITHOUT])}
## Preps

What a prep asks for may be younger than its operation: then, too, an older kernel answers \`-EINVAL\`.

${table(tables.preps, [NAME, KERNEL, RING, LOOP, TESTS, SEEN, WITHOUT])}
## Setup flags

\`new Ring\` and \`new Uring\` throw a \`UringError\` that names each flag that is too young for the kernel, and the version
that brought it. The flags that \`Uring\` sets by itself are left out where they are not known.

${table(tables.setup, [NAME, KERNEL, RING, TESTS, SEEN, WITHOUT])}
## Register operations

They throw \`UringError\`; its message names the operation and, when the kernel lacks it, the version that brought it.

${table(tables.register, [NAME, KERNEL, RING, LOOP, TESTS, SEEN, WITHOUT])}
## Flags of \`io_uring_enter\`

${table(tables.enter, [NAME, KERNEL, RING, TESTS, SEEN, WITHOUT])}
## Flags of submissions

${table(tables.sqe, [NAME, KERNEL, RING, LOOP, TESTS, SEEN, WITHOUT])}
## Flags of completions

${table(tables.cqe, [NAME, KERNEL, RING, LOOP, TESTS, SEEN, WITHOUT])}
## Features

\`Ring.features\` has them as the kernel reports them.

${featureTable(tables.features, data.exceptions)}
## Functions

liburing's functions beside the preps, by subject.

${functions}## In the lab

What needs the lab's kernel or its devices, by the files of its tests.

${labTable(lab)}
## liburing's test programs

liburing 2.15 tests itself with ${
    Object.keys(data.programs).length
  } programs. How each fares in C on Linux 6.18 in a virtual machine, and its
twin here. The title of a twin begins with \`liburing\` and the program's name.

${programTable(data.programs, twins)}`;
}

/** What is not accounted for. */
function problems(data: CoverageData, tables: Tables, twins: Rows["twins"]): string[] {
  const { programs, exceptions } = data;
  const rows = allRows(tables);
  const found = strayExceptions(data, rows);
  for (const row of rows) {
    const { name, ring, tests, why } = row;
    if (ring.length === 0 && why === undefined) found.push(`${name} has no place in the API`);
    if (tests.length === 0 && why === undefined) found.push(`${name} has no test`);
    if (isUnseen(row, exceptions)) {
      found.push(`${name} needs a test in ${LAB}, or in a file that ${LAB}suite.txt names`);
    }
  }
  for (const [name, { why }] of Object.entries(programs)) {
    if (twins.has(name) === (why !== undefined)) found.push(`${name} must have either a twin or a reason`);
  }
  for (const name of twins.keys()) {
    if (programs[name] === undefined) found.push(`liburing has no test program called ${name}`);
  }
  for (const { name } of tables.features) {
    if (exceptions.features[name] === undefined) found.push(`${name} is not explained`);
  }
  return found;
}

/** Whether something that only the lab can show has no test there. */
function isUnseen({ name, kernel, tests, why }: Row, exceptions: CoverageData["exceptions"]): boolean {
  const onlyInLab = before(exceptions.kernels.suite, kernel) || exceptions.labOnly[name] !== undefined;
  return onlyInLab && why === undefined && !tests.some(isRunInLab);
}

/** Exceptions about what is not there, or needs none. */
function strayExceptions({ exceptions }: CoverageData, rows: readonly Row[]): string[] {
  const byName = new Map(rows.map((row) => [row.name, row]));
  const { ring, loop, why, tests, untested, features, without, labOnly } = exceptions;
  const names = [ring, loop, why, tests, untested, features, without, labOnly].flatMap((part) =>
    Object.keys(part)
  );
  const stray = names.filter((name) => !byName.has(name)).map((name) =>
    `abi/coverage.json: what is ${name}?`
  );
  for (const name of Object.keys(why)) {
    if (byName.get(name)?.ring.length !== 0) stray.push(`abi/coverage.json: ${name} is in the API`);
  }
  for (const name of Object.keys(untested)) {
    if (byName.get(name)?.tests.length !== 0) stray.push(`abi/coverage.json: ${name} has a test`);
  }
  return stray;
}

/** Whether the page that is there is the one that would be written. */
export function isStale({ text }: Coverage): boolean {
  try {
    return readFileSync(new URL(PAGE, ROOT), "utf8") !== text;
  } catch {
    return true;
  }
}

function main(args: readonly string[]): number {
  const made = coverage();
  for (const problem of made.problems) console.error(problem);
  if (args.includes("--check")) {
    const old = isStale(made);
    if (old) console.error(`${PAGE} is out of date: run scripts/gen-coverage.ts`);
    return old || made.problems.length > 0 ? 1 : 0;
  }
  writeFileSync(new URL(PAGE, ROOT), made.text);
  return made.problems.length > 0 ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main(process.argv.slice(2));
