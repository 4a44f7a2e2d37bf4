/** The raw ring beside liburing: what the library's own code costs, since a NOP costs the kernel next to nothing. */

import type { Benchmark, Report } from "../benchmark.ts";
import { compiled, type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
import { type Contender, type Group, longLived, type Settings, type Targets } from "../harness.ts";
import { measureGroups } from "../report.ts";

const SINGLE_ISSUER = 1 << 12;
const DEFER_TASKRUN = 1 << 13;
const BATCHES = [1, 8, 32, 128, 256];
const TARGETS: Targets = { 1: 0.95, 8: 1, 32: 1, 128: 1, 256: 1 };

function contenders(flags: number, registered: boolean, settings: Settings): Contender[] {
  const args = [String(flags), registered ? "1" : "0"];
  const warmth = { minOps: 1_000_000, minMs: 200, roundMs: settings.roundMs };
  const c = longLived({ id: "c", label: "C, liburing", warmth, command: () => compiled("nop", args) });
  const uring = (runtime: Runtime): Contender =>
    longLived({
      id: `uring-${runtime}`,
      label: `uring on ${RUNTIME_NAMES[runtime]}`,
      warmth,
      command: () => script(runtime, "nop.ts", args),
    });
  return [c, uring("bun"), uring("deno")];
}

function group(flags: number, registered: boolean, settings: Settings): Group {
  const flagNames = flags === 0 ? "no flags" : "SINGLE_ISSUER | DEFER_TASKRUN";
  return {
    title: `nop, ${flagNames}, ring descriptor ${registered ? "registered" : "not registered"}`,
    parameter: "batch",
    cases: BATCHES,
    contenders: contenders(flags, registered, settings),
    comparisons: [{
      heading: "speed ÷ C",
      kind: "speed",
      pairs: ["uring-bun", "uring-deno"].map((of) => ({ of, peers: ["c"], targets: TARGETS })),
    }],
  };
}

/** NOPs in batches of 1 to 256, with each pair of choices a program has. */
export const nop: Benchmark = {
  name: "nop",
  summary: "NOPs through the raw ring in batches, beside C with liburing",
  run(settings, shown): Promise<Report> {
    const flags = SINGLE_ISSUER | DEFER_TASKRUN;
    const groups = [group(flags, true, settings), group(flags, false, settings)];
    return measureGroups([...groups, group(0, true, settings), group(0, false, settings)], settings, shown);
  },
};
