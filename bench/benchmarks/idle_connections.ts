/** What connections cost on which nothing happens. One server after the other. */

import { readFileSync } from "node:fs";
import type { Benchmark, Report, Verdict } from "../benchmark.ts";
import { Child, type Command, MissingError } from "../child.ts";
import { compiled, example, type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
import { progress } from "../progress.ts";
import { asClient, asServer, cpuTime, startServer } from "../servers.ts";
import { number } from "../stats.ts";
import { table } from "../table.ts";

const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const CONNECTIONS = 10_000;
const FIRST = 10;
/** Until the runtimes' collectors and threads are done with what connecting left them. */
const SETTLE_MS = 1500;
const WATCH_MS = 1500;
const MAX_BYTES = 2048;
const MAX_CPU_PERCENT = 0.5;

interface Contender {
  readonly label: string;
  /** Whether there are targets for it. */
  readonly judged: boolean;
  readonly command: () => Command;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const own = (runtime: Runtime, style: string, label: string): Contender => ({
  label: `${label} on ${RUNTIME_NAMES[runtime]}`,
  // A function that reads has a buffer of its own for each connection.
  judged: style === "handlers",
  command: () => example(runtime, "echo.ts", ["0", "--style", style]),
});

const through = (runtime: Runtime, api: string, label: string): Contender => ({
  label: `${label} on ${RUNTIME_NAMES[runtime]}`,
  judged: false,
  command: () => script(runtime, "echo.ts", [api], { allow: ["net", "env", "read"] }),
});

const CONTENDERS: readonly Contender[] = [
  { label: "C, liburing", judged: false, command: () => compiled("echo_uring", ["0"]) },
  ...RUNTIMES.flatMap((runtime) => [
    own(runtime, "handlers", "uring, handlers"),
    own(runtime, "streams", "uring, read and write"),
  ]),
  through("bun", "bun-listen", "Bun.listen"),
  through("deno", "deno-listen", "Deno.listen"),
  through("bun", "node-net", "node:net"),
  through("deno", "node-net", "node:net"),
];

/** With as many descriptors as may be had. */
function unlimited({ program, args, ...rest }: Command): Command {
  return {
    ...rest,
    program: "sh",
    args: ["-c", 'ulimit -n "$(ulimit -H -n)"; exec "$0" "$@"', program, ...args],
  };
}

/** Bytes of memory that a process has of its own. */
function memory(pid: number): number {
  const [, kib = "NaN"] = /^RssAnon:\s*(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kib) * 1024;
}

/** What one server needed, or why that is not known. */
interface Cost {
  readonly contender: Contender;
  readonly bytes: number;
  readonly cpuPercent: number;
  readonly missing: string | null;
}

async function connected(port: number, count: number): Promise<Child> {
  const child = new Child(asClient(compiled("load", ["idle", String(port), String(count)])));
  const line = await child.nextLine();
  if (line !== "connected") throw new MissingError(`said "${line}"`);
  return child;
}

async function watch(contender: Contender): Promise<Cost> {
  let client: Child | null = null;
  let server: Awaited<ReturnType<typeof startServer>> | null = null;
  try {
    server = await startServer(unlimited(asServer(contender.command())));
    const { pid, port } = server;
    // Some that come and go, so that whatever is made at first use has been made.
    await (await connected(port, FIRST)).stop();
    const before = memory(pid);
    client = await connected(port, CONNECTIONS);
    await pause(SETTLE_MS);
    const bytes = (memory(pid) - before) / CONNECTIONS;
    const [cpu, at] = [await cpuTime(pid), performance.now()];
    await pause(WATCH_MS);
    const cpuPercent = (await cpuTime(pid) - cpu) / 1e4 / (performance.now() - at);
    return { contender, bytes, cpuPercent, missing: null };
  } catch (error) {
    if (!(error instanceof MissingError)) throw error;
    return { contender, bytes: NaN, cpuPercent: NaN, missing: error.message };
  } finally {
    await client?.stop();
    await server?.stop();
  }
}

function text(costs: readonly Cost[]): string {
  const columns = [
    { heading: "" },
    { heading: "memory of each", right: true },
    { heading: "CPU", right: true },
    { heading: "" },
  ];
  const rows = costs.map(({ contender, bytes, cpuPercent, missing }) =>
    missing === null
      ? [contender.label, `${number(bytes)} B`, `${cpuPercent.toFixed(3)} %`]
      : [contender.label, "–", "–", `missing: ${missing}`]
  );
  return `idle-connections, ${CONNECTIONS} of them\n${table(columns, rows)}\n`;
}

function verdicts(costs: readonly Cost[]): Verdict[] {
  return costs.filter(({ contender, missing }) => contender.judged && missing === null).flatMap((cost) => [
    {
      what: `idle-connections: ${cost.contender.label}, memory of each`,
      target: `≤ ${MAX_BYTES} B`,
      measured: `${number(cost.bytes)} B`,
      met: cost.bytes <= MAX_BYTES,
    },
    {
      what: `idle-connections: ${cost.contender.label}, CPU`,
      target: `≤ ${MAX_CPU_PERCENT} %`,
      measured: `${cost.cpuPercent.toFixed(3)} %`,
      met: cost.cpuPercent <= MAX_CPU_PERCENT,
    },
  ]);
}

/** Ten thousand connections that say nothing. */
export const idleConnections: Benchmark = {
  name: "idle-connections",
  summary: "memory and CPU time of servers with 10,000 connections that say nothing",
  async run(_settings, shown): Promise<Report> {
    const costs: Cost[] = [];
    for (const contender of CONTENDERS) {
      progress("idle-connections: watching", contender.label);
      costs.push(await watch(contender));
    }
    const raw = costs.map(({ contender, ...rest }) => ({ label: contender.label, ...rest }));
    shown(text(costs));
    return { text: text(costs), raw, verdicts: verdicts(costs) };
  },
};
