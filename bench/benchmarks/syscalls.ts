/** The system calls of 1,000 reads that are asked for in one turn, counted by strace. */

import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Benchmark, Report, Verdict } from "../benchmark.ts";
import { type Command, MissingError, runToEnd } from "../child.ts";
import { CACHE, dataFile, hasProgram, type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
import { progress } from "../progress.ts";
import { table } from "../table.ts";

const READS = 1000;
const MAX_ENTERS = 8;
/** Other calls that count as "nothing else per read". */
const MAX_OTHERS = 10;
/**
 * What the runtimes do for the memory of a thousand buffers and promises, and between their threads: there whatever
 * does the reading, and never once a read. (Bun's collector asks for the memory there is by openat, fstat, read, close.)
 */
const HOUSEKEEPING: ReadonlySet<string> = new Set(
  "brk clock_nanosleep futex getpid getrusage gettid madvise mmap mprotect munmap sched_getaffinity sched_yield"
    .split(
      " ",
    ),
);
const PAGES = 1024;

type Api = "uring" | "fs-promises";
type Counts = ReadonlyMap<string, number>;

/** What one contender called, or why that is not known. */
interface Traced {
  readonly runtime: Runtime;
  readonly api: Api;
  readonly withReads: Counts;
  readonly without: Counts;
  readonly missing: string | null;
}

/** Counts the calls of all threads between the two marks. A call that was resumed counts where it began. */
export function countCalls(log: string): Counts {
  const lines = log.split("\n");
  const begin = lines.findLastIndex((line) => line.includes("/uring-bench-begin"));
  const end = lines.findIndex((line) => line.includes("/uring-bench-end"));
  if (begin < 0 || end < begin) throw new MissingError("the marks are not in the trace");
  const counts = new Map<string, number>();
  for (const line of lines.slice(begin + 1, end)) {
    const name = /^(?:\d+\s+)?(\w+)\(/.exec(line)?.[1];
    if (name !== undefined) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

async function trace(command: Command): Promise<Counts> {
  if (!hasProgram("strace")) throw new MissingError("no strace");
  const log = join(CACHE, "syscalls.log");
  const args = ["-f", "-qq", "-o", log, command.program, ...command.args];
  try {
    await runToEnd({ ...command, program: "strace", args });
    return countCalls(readFileSync(log, "utf8"));
  } finally {
    rmSync(log, { force: true });
  }
}

async function traceBoth(runtime: Runtime, api: Api, path: string): Promise<Traced> {
  const none: Counts = new Map();
  const command = (count: number): Command =>
    script(runtime, "syscalls.ts", [api, path, String(count)], { allow: ["ffi", "read"] });
  progress("syscalls: tracing", `${RUNTIME_NAMES[runtime]}, ${api}`);
  try {
    const [without, withReads] = [await trace(command(0)), await trace(command(READS))];
    return { runtime, api, without, withReads, missing: null };
  } catch (error) {
    if (!(error instanceof MissingError)) throw error;
    return { runtime, api, without: none, withReads: none, missing: error.message };
  }
}

function total(counts: Counts): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

function housekeeping(counts: Counts): number {
  return total(new Map([...counts].filter(([name]) => HOUSEKEEPING.has(name))));
}

function byCount(counts: Counts): string {
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${name} ${count}`);
  return parts.join(", ");
}

function text(traced: readonly Traced[]): string {
  const columns = [
    { heading: "" },
    { heading: "calls", right: true },
    { heading: "for memory and threads", right: true },
    { heading: "which" },
  ];
  const rows = traced.flatMap(({ runtime, api, withReads, without, missing }) => {
    const label = `${RUNTIME_NAMES[runtime]}, ${api === "uring" ? "uring" : "fs.promises"}`;
    if (missing !== null) return [[label, "–", "–", `missing: ${missing}`]];
    return [
      [
        `${label}, ${READS} reads`,
        String(total(withReads)),
        String(housekeeping(withReads)),
        byCount(withReads),
      ],
      [`${label}, none`, String(total(without)), String(housekeeping(without)), byCount(without)],
    ];
  });
  return `syscalls, all threads, 4 KiB reads of a cached file asked for in one turn\n${
    table(columns, rows)
  }\n`;
}

function verdicts(traced: readonly Traced[]): Verdict[] {
  return traced.filter(({ api, missing }) => api === "uring" && missing === null).flatMap((one) => {
    const enters = one.withReads.get("io_uring_enter") ?? 0;
    const others = total(one.withReads) - enters - housekeeping(one.withReads);
    const what = `syscalls: uring on ${RUNTIME_NAMES[one.runtime]}, ${READS} reads`;
    return [
      {
        what: `${what}, io_uring_enter`,
        target: `≤ ${MAX_ENTERS}`,
        measured: String(enters),
        met: enters <= MAX_ENTERS,
      },
      {
        what: `${what}, other calls but for memory and threads`,
        target: "none per read",
        measured: String(others),
        met: others <= MAX_OTHERS,
      },
    ];
  });
}

/** Counts of system calls. */
export const syscalls: Benchmark = {
  name: "syscalls",
  summary: "system calls of 1,000 reads asked for in one turn (strace)",
  async run(_settings, shown): Promise<Report> {
    const path = dataFile(PAGES);
    const traced: Traced[] = [];
    for (const runtime of ["bun", "deno"] as const) {
      for (const api of ["uring", "fs-promises"] as const) traced.push(await traceBoth(runtime, api, path));
    }
    shown(text(traced));
    const raw = traced.map((one) => ({
      ...one,
      withReads: Object.fromEntries(one.withReads),
      without: Object.fromEntries(one.without),
    }));
    return { text: text(traced), raw, verdicts: verdicts(traced) };
  },
};
