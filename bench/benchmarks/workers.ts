/** One port, several threads. */

import type { Benchmark, Report, Verdict } from "../benchmark.ts";
import { runToEnd } from "../child.ts";
import { compiled, example, type Runtime, RUNTIME_NAMES } from "../environment.ts";
import type { GroupResult } from "../harness.ts";
import { measureServers, type Served, type Server, type ServerContender, startServer } from "../servers.ts";
import { median, times } from "../stats.ts";

const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const CONNECTIONS = 64;
const SIZE = 64;
const WARM_MS = 50;
const FIRST_WARM_MS = 500;
/** What two threads do beside one. */
const LEAST = 1.8;

function contender(runtime: Runtime, workers: number): ServerContender {
  const allowed = { allow: ["ffi", "read"] } as const;
  return {
    id: `${runtime}-${workers}`,
    label: `${workers === 1 ? "one Worker" : `${workers} Workers`} on ${RUNTIME_NAMES[runtime]}`,
    start: () => startServer(example(runtime, "workers.ts", ["0", "--workers", String(workers)], allowed)),
  };
}

async function load(server: Server, warmMs: number, ms: number): Promise<Served> {
  const args = ["echo", server.port, server.pid, CONNECTIONS, SIZE, warmMs, ms].map(String);
  const { stdout } = await runToEnd(compiled("load", args));
  const [ops = NaN, wallNs = NaN, cpuNs = NaN] = stdout.split(" ").slice(1).map(Number);
  return { ops, wallNs, cpuNs };
}

/**
 * Two threads have two CPUs' time; what they do beside one is twice what a second of CPU time is worth to them. Time itself
 * tells nothing where the client needs one of the CPUs.
 */
function verdicts(cpu: GroupResult): Verdict[] {
  const perCpu = (id: string): number[] =>
    cpu.series.find(({ contender }) => contender === id)?.samples.map(({ ops, ns }) => ops / ns) ?? [];
  return RUNTIMES.flatMap((runtime) => {
    const one = perCpu(`${runtime}-1`);
    const two = perCpu(`${runtime}-2`);
    const gains = two.flatMap((value, round) => one[round] === undefined ? [] : [2 * value / one[round]]);
    if (gains.length === 0) return [];
    return [{
      what: `workers: ${RUNTIME_NAMES[runtime]}, two Workers beside one, by CPU time`,
      target: `≥ ${times(LEAST)}`,
      measured: times(median(gains)),
      met: median(gains) >= LEAST,
    }];
  });
}

/** Two Workers beside one. */
export const workers: Benchmark = {
  name: "workers",
  summary: "echo in two Workers at one port, beside one; nothing is pinned",
  async run(settings, shown): Promise<Report> {
    const report = await measureServers(
      {
        title: "workers",
        unit: "message",
        parameter: "connections",
        cases: [CONNECTIONS],
        contenders: RUNTIMES.flatMap((runtime) => [1, 2].map((count) => contender(runtime, count))),
        measure: (server, _, warming) =>
          load(server, warming ? FIRST_WARM_MS : WARM_MS, 2 * settings.roundMs),
        cpu: [{
          heading: "one Worker",
          kind: "speed",
          pairs: RUNTIMES.map((runtime) => ({ of: `${runtime}-2`, peers: [`${runtime}-1`] })),
        }],
        wall: [{
          heading: "one Worker",
          kind: "speed",
          pairs: RUNTIMES.map((runtime) => ({ of: `${runtime}-2`, peers: [`${runtime}-1`] })),
        }],
      },
      settings,
      shown,
    );
    const [cpu] = report.groups;
    return { ...report, verdicts: cpu === undefined ? [] : verdicts(cpu) };
  },
};
