/** The benchmarks' command line; `scripts/bench` starts it. */

import { writeFileSync } from "node:fs";
import process from "node:process";
import type { Benchmark, Report, Verdict } from "./benchmark.ts";
import { awaitNop } from "./benchmarks/await_nop.ts";
import { append, copy, direct, scan } from "./benchmarks/data_files.ts";
import { fuse } from "./benchmarks/fuse.ts";
import { heap } from "./benchmarks/heap.ts";
import { idle } from "./benchmarks/idle.ts";
import { iopoll } from "./benchmarks/iopoll.ts";
import { memory } from "./benchmarks/memory.ts";
import { servers } from "./benchmarks/net.ts";
import { nop } from "./benchmarks/nop.ts";
import { read } from "./benchmarks/read.ts";
import { small } from "./benchmarks/small_files.ts";
import { startup } from "./benchmarks/startup.ts";
import { syscalls } from "./benchmarks/syscalls.ts";
import { tree } from "./benchmarks/trees.ts";
import { ublk } from "./benchmarks/ublk.ts";
import { type Machine, machine } from "./environment.ts";
import type { Settings } from "./harness.ts";
import { endProgress } from "./progress.ts";
import { compare, groupVerdicts } from "./report.ts";
import { table } from "./table.ts";

const BENCHMARKS: readonly Benchmark[] = [
  nop,
  awaitNop,
  read,
  startup,
  idle,
  syscalls,
  heap,
  memory,
  small,
  direct,
  append,
  copy,
  scan,
  tree,
  fuse,
  iopoll,
  ublk,
  ...servers,
];
const MAX_ROUNDS = 1000;

const USAGE = `usage: scripts/bench [name…] [--rounds N] [--round-ms N] [--json FILE] [--list]

  name…           which benchmarks; all without one
  --rounds N      how often each contender has its turn (7)
  --round-ms N    how long a turn lasts, about, in milliseconds (150)
  --json FILE     write every sample and the machine's data to FILE
  --list          tell the benchmarks' names
`;

/** What was asked for. */
interface Options {
  readonly names: readonly string[];
  readonly settings: Settings;
  readonly json: string | null;
  readonly list: boolean;
  readonly help: boolean;
}

/** A command line that cannot be understood. */
class UsageError extends Error {}

function wholeNumber(option: string, text: string | undefined, max: number): number {
  const value = Number(text);
  if (text === undefined || !Number.isInteger(value) || value < 1 || value > max) {
    throw new UsageError(`${option} takes a whole number from 1 to ${max}`);
  }
  return value;
}

function parse(args: readonly string[]): Options {
  const names: string[] = [];
  let [rounds, roundMs, json, list, help] = [7, 150, null as string | null, false, false];
  const rest = args.flatMap((arg) => arg.startsWith("--") ? arg.split(/=(.*)/s).slice(0, 2) : [arg]);
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === "--rounds") rounds = wholeNumber(arg, rest.shift(), MAX_ROUNDS);
    else if (arg === "--round-ms") roundMs = wholeNumber(arg, rest.shift(), 60_000);
    else if (arg === "--list") list = true;
    else if (arg === "--help" || arg === "-h") help = true;
    else if (arg === "--json") {
      json = rest.shift() ?? null;
      if (json === null) throw new UsageError("--json takes the name of a file");
    } else if (BENCHMARKS.some(({ name }) => name === arg)) names.push(arg);
    else throw new UsageError(arg.startsWith("-") ? `no option ${arg}` : `no benchmark "${arg}"; see --list`);
  }
  return { names, settings: { rounds, roundMs }, json, list, help };
}

/** Every sample, and what it was measured on. */
function toJson(found: Machine, settings: Settings, reports: ReadonlyMap<string, Report>): string {
  const benchmarks = [...reports].map(([name, report]) => ({
    name,
    groups: report.groups?.map((result) => ({
      title: result.group.title,
      parameter: result.group.parameter,
      rounds: result.rounds,
      contenders: result.group.contenders.map(({ id, label }) => ({ id, label })),
      series: result.series,
      comparisons: compare(result),
    })),
    verdicts: report.verdicts,
    raw: report.raw,
  }));
  return `${JSON.stringify({ machine: found, settings, benchmarks }, null, 2)}\n`;
}

function machineLines(found: Machine): string {
  return [
    `${found.cpu}, ${found.cpus} CPUs, ${found.memoryMiB} MiB; ${found.kernel}`,
    `Bun ${found.bun}; ${found.deno}; liburing ${found.liburing}; ${found.compiler}`,
    `commit ${found.commit}; ${found.date}`,
  ].join("\n");
}

/** How many targets were met, and those that were not. */
function verdictTable(verdicts: readonly Verdict[]): string {
  const missed = verdicts.filter(({ met }) => !met);
  const count = `targets: ${verdicts.length - missed.length} of ${verdicts.length} met`;
  if (missed.length === 0) return `${count}\n`;
  const columns = [{ heading: "missed" }, { heading: "target" }, { heading: "measured" }];
  const rows = missed.map(({ what, target, measured }) => [what, target, measured]);
  return `${count}\n${table(columns, rows)}\n`;
}

async function measure(options: Options): Promise<void> {
  const { names, settings, json } = options;
  const found = machine();
  const show = (text: string): void => {
    endProgress();
    process.stdout.write(`${text}\n`);
  };
  show(`${machineLines(found)}\n`);
  const reports = new Map<string, Report>();
  for (const benchmark of BENCHMARKS) {
    if (names.length > 0 && !names.includes(benchmark.name)) continue;
    reports.set(benchmark.name, await benchmark.run(settings, show));
    // After each, so that what is measured is not lost if a later one fails.
    if (json !== null) writeFileSync(json, toJson(found, settings, reports));
  }
  const verdicts = [...reports.values()].flatMap((report) => [
    ...(report.groups ?? []).flatMap(groupVerdicts),
    ...(report.verdicts ?? []),
  ]);
  if (verdicts.length > 0) show(verdictTable(verdicts));
}

async function main(): Promise<number> {
  const options = parse(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(USAGE);
  } else if (options.list) {
    const rows = BENCHMARKS.map(({ name, summary }) => `${name.padEnd(11)} ${summary}\n`);
    process.stdout.write(rows.join(""));
  } else {
    await measure(options);
  }
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  endProgress();
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`${error.message}\n\n${USAGE}`);
  process.exitCode = 2;
}
