/** Whether the raw ring allocates: the heap after ten million operations, and collections on the way. */

import type { Benchmark, Report, Verdict } from "../benchmark.ts";
import { MissingError, runToEnd } from "../child.ts";
import { type Runtime, RUNTIME_NAMES, script, type ScriptOptions } from "../environment.ts";
import { progress } from "../progress.ts";
import { number } from "../stats.ts";
import { table } from "../table.ts";

const OPERATIONS = 10_000_000;
/** Less than this is the runtimes' own: compiled code, feedback. One byte in fifty operations would be more. */
const MAX_GROWTH = 200_000;

/** How each runtime is made to log its collections. */
const LOGGED: Readonly<Record<Runtime, ScriptOptions>> = {
  bun: { env: { BUN_JSC_logGC: "1" } },
  deno: { flags: ["--v8-flags=--expose-gc,--trace-gc"], allow: ["ffi", "sys"] },
};

/** How many collections JavaScriptCore logged between the program's marks; both go to stderr, in order. */
function collectionsInBun(stderr: string): number {
  const log = stderr.slice(stderr.indexOf("begin\n"), stderr.indexOf("end\n"));
  return log.split("\n").filter((text) => /^\[GC.*START/.test(text)).length;
}

/**
 * How many collections V8 logged between the last two that the program forced, which are those before and after the
 * loop. V8 buffers its log, so that marks of the program's own would stand in the wrong places.
 */
function collectionsInDeno(stdout: string): number {
  const lines = stdout.split("\n").filter((text) => /\bms: /.test(text));
  const forced = lines.flatMap((text, index) => /\btesting\b/.test(text) ? [index] : []);
  const [from, to] = forced.slice(-2);
  if (from === undefined || to === undefined) throw new MissingError("V8 logged no forced collections");
  return to - from - 1;
}

/** What the program printed, and the collections between its marks. */
interface Measured {
  readonly runtime: Runtime;
  readonly operations: number;
  readonly before: number;
  readonly after: number;
  readonly ms: number;
  readonly collections: number;
  readonly missing: string | null;
}

async function measure(runtime: Runtime): Promise<Measured> {
  progress("heap: ten million NOPs", RUNTIME_NAMES[runtime]);
  try {
    const { stdout, stderr } = await runToEnd(
      script(runtime, "heap.ts", [String(OPERATIONS)], LOGGED[runtime]),
    );
    const json = /^\{"operations".*\}$/m.exec(stdout)?.[0];
    if (json === undefined) throw new MissingError("it printed no result");
    const collections = runtime === "bun" ? collectionsInBun(stderr) : collectionsInDeno(stdout);
    return { runtime, ...JSON.parse(json), collections, missing: null };
  } catch (error) {
    if (!(error instanceof MissingError)) throw error;
    const nothing = { operations: 0, before: 0, after: 0, ms: 0, collections: 0 };
    return { runtime, ...nothing, missing: error.message };
  }
}

function text(measured: readonly Measured[]): string {
  const columns = [
    { heading: "" },
    { heading: "before", right: true },
    { heading: "after", right: true },
    { heading: "growth", right: true },
    { heading: "collections in the loop", right: true },
    { heading: "" },
  ];
  const rows = measured.map(({ runtime, before, after, collections, missing }) =>
    missing === null
      ? [
        RUNTIME_NAMES[runtime],
        `${number(before / 1024)} KiB`,
        `${number(after / 1024)} KiB`,
        `${number((after - before) / 1024)} KiB`,
        String(collections),
      ]
      : [RUNTIME_NAMES[runtime], "–", "–", "–", "–", `missing: ${missing}`]
  );
  return `heap, ${number(OPERATIONS)} NOPs through the raw ring\n${table(columns, rows)}\n`;
}

function verdicts(measured: readonly Measured[]): Verdict[] {
  return measured.filter(({ missing }) => missing === null).map((
    { runtime, before, after, collections },
  ) => ({
    what: `heap: ${RUNTIME_NAMES[runtime]}, growth over ${number(OPERATIONS)} NOPs`,
    target: "none",
    measured: `${number((after - before) / 1024)} KiB, ${collections} collections`,
    met: after - before <= MAX_GROWTH && collections === 0,
  }));
}

/** Growth of the heap and collections made. */
export const heap: Benchmark = {
  name: "heap",
  summary: "growth of the heap over ten million NOPs through the raw ring",
  async run(_settings, shown): Promise<Report> {
    const measured = [await measure("bun"), await measure("deno")];
    shown(text(measured));
    return { text: text(measured), raw: measured, verdicts: verdicts(measured) };
  },
};
