/** What a program pays before its first operation: a whole process with the library beside an empty script. */

import type { Benchmark, Report } from "../benchmark.ts";
import { type Command, runToEnd } from "../child.ts";
import { compiled, onCpu, type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
import type { Contender, Group, Runner, Sample } from "../harness.ts";
import { measureGroups } from "../report.ts";

const WARM_RUNS = 5;
const LEAST_ROUNDS = 21;
const TARGET_NS = 15e6;

/** A contender that is started anew for every sample. */
function oneShot(id: string, label: string, command: () => Command): Contender {
  return {
    id,
    label,
    start(cpu): Runner {
      const plain = command();
      const pinned = cpu === null ? plain : onCpu(cpu, plain);
      const run = async (): Promise<Sample> => ({ ops: 1, ns: (await runToEnd(pinned)).ns });
      return {
        async warm(): Promise<void> {
          for (let i = 0; i < WARM_RUNS; i++) await run();
        },
        run,
        stop: () => Promise.resolve(),
      };
    },
  };
}

/** Process time from start to exit, with the runtimes' caches of compiled code warm. */
export const startup: Benchmark = {
  name: "startup",
  summary: "import and first awaited operation, beside an empty script",
  run(settings, shown): Promise<Report> {
    const runtime = (of: Runtime): Contender[] => [
      oneShot(`${of}-empty`, `${RUNTIME_NAMES[of]}, empty script`, () => script(of, "startup_empty.ts", [])),
      oneShot(`${of}-nop`, `${RUNTIME_NAMES[of]}, uring and one NOP`, () => script(of, "startup_nop.ts", [])),
    ];
    const group: Group = {
      title: "startup",
      parameter: "",
      cases: [1],
      contenders: [
        oneShot("c-empty", "C, empty", () => compiled("startup", ["empty"])),
        oneShot("c-nop", "C, liburing and one NOP", () => compiled("startup", ["nop"])),
        ...runtime("bun"),
        ...runtime("deno"),
      ],
      comparisons: [{
        heading: "longer than empty",
        kind: "extra",
        pairs: [
          { of: "c-nop", peers: ["c-empty"] },
          { of: "bun-nop", peers: ["bun-empty"], targets: { 1: TARGET_NS } },
          { of: "deno-nop", peers: ["deno-empty"], targets: { 1: TARGET_NS } },
        ],
      }],
      leastRounds: LEAST_ROUNDS,
    };
    return measureGroups([group], settings, shown);
  },
};
