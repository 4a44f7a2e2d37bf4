/** What promises cost on top of the ring: awaited NOPs beside a C loop that keeps as many in its batches. */

import type { Benchmark, Report } from "../benchmark.ts";
import { compiled, type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
import { type Contender, type Group, longLived, type Settings } from "../harness.ts";
import { measureGroups } from "../report.ts";

/** As `Uring` makes its ring: SINGLE_ISSUER | DEFER_TASKRUN, ring descriptor registered. */
const C_ARGS = [String(1 << 12 | 1 << 13), "1"];

function contenders(settings: Settings): Contender[] {
  const warmth = { minOps: 1_000_000, minMs: 200, roundMs: settings.roundMs };
  const c = longLived({ id: "c", label: "C, liburing", warmth, command: () => compiled("nop", C_ARGS) });
  const uring = (runtime: Runtime, way: "workers" | "all"): Contender =>
    longLived({
      id: `${way}-${runtime}`,
      label: `uring on ${RUNTIME_NAMES[runtime]}${way === "all" ? ", Promise.all" : ""}`,
      cases: way === "all" ? [128] : [1, 128],
      warmth,
      command: () => script(runtime, "await_nop.ts", [way]),
    });
  return [c, uring("bun", "workers"), uring("deno", "workers"), uring("bun", "all"), uring("deno", "all")];
}

/** `await uring.nop()` at depth 1 and 128. */
export const awaitNop: Benchmark = {
  name: "await-nop",
  summary: "awaited NOPs: one after the other, and 128 in flight",
  run(settings, shown): Promise<Report> {
    const group: Group = {
      title: "await-nop",
      parameter: "depth",
      cases: [1, 128],
      contenders: contenders(settings),
      comparisons: [{
        heading: "speed ÷ C",
        kind: "speed",
        pairs: ["workers-bun", "workers-deno", "all-bun", "all-deno"].map((of) => ({
          of,
          peers: ["c"],
          targets: { 1: 0.75, 128: 0.6 },
        })),
      }],
    };
    return measureGroups([group], settings, shown);
  },
};
