/**
 * What a program pays before its first operation: a whole process with the library, as sources and as the package that is
 * installed from npm, beside an empty script.
 */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { Benchmark, Report } from "../benchmark.ts";
import { type Command, runToEnd } from "../child.ts";
import { compiled, onCpu, ROOT, type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
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

const PROGRAM = "startup_nop.ts";

/** A directory, outside of the repository and its import map, of a program that has the package installed. */
function installed(): string {
  const directory = mkdtempSync(join(tmpdir(), "uring-bench-"));
  execFileSync(process.execPath, [
    join(ROOT, "scripts/build-package.ts"),
    join(directory, "node_modules/uring"),
  ]);
  writeFileSync(join(directory, "package.json"), '{ "type": "module", "dependencies": { "uring": "*" } }');
  const source = readFileSync(join(ROOT, "bench/programs", PROGRAM), "utf8");
  writeFileSync(join(directory, PROGRAM), source.replace("../../src/mod.ts", "uring"));
  return directory;
}

/** Process time from start to exit, with the runtimes' caches of compiled code warm. */
export const startup: Benchmark = {
  name: "startup",
  summary: "import and first awaited operation, beside an empty script",
  async run(settings, shown): Promise<Report> {
    const directory = installed();
    const runtime = (of: Runtime): Contender[] => [
      oneShot(`${of}-empty`, `${RUNTIME_NAMES[of]}, empty script`, () => script(of, "startup_empty.ts", [])),
      oneShot(
        `${of}-package`,
        `${RUNTIME_NAMES[of]}, the package and one NOP`,
        () => script(of, join(directory, PROGRAM), []),
      ),
      oneShot(`${of}-nop`, `${RUNTIME_NAMES[of]}, the sources and one NOP`, () => script(of, PROGRAM, [])),
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
          { of: "bun-package", peers: ["bun-empty"], targets: { 1: TARGET_NS } },
          { of: "bun-nop", peers: ["bun-empty"], targets: { 1: TARGET_NS } },
          { of: "deno-package", peers: ["deno-empty"], targets: { 1: TARGET_NS } },
          { of: "deno-nop", peers: ["deno-empty"], targets: { 1: TARGET_NS } },
        ],
      }],
      leastRounds: LEAST_ROUNDS,
    };
    try {
      return await measureGroups([group], settings, shown);
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
};
