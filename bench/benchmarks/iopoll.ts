/**
 * Reads of an NVMe disk that is polled for completions, beside one that interrupts. Few machines have such a disk to give
 * away, so this measures in the lab (`scripts/lab`): the machine at hand compiles, starts the virtual machine, and shows
 * what was measured there.
 */

import { closeSync, fsyncSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Benchmark, Report } from "../benchmark.ts";
import { PAGE, type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
import { type Contender, type Group, longLived, type Pair, type Settings } from "../harness.ts";
import { GIVEN, inLab, measureInLab } from "../lab.ts";
import { measureGroups } from "../report.ts";
import { speed } from "./files.ts";

/** A power of two; the disk is larger. */
const PAGES = 4096;
const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const MODES = ["interrupt", "polled", "hybrid"] as const;
type Mode = typeof MODES[number];
const APIS = ["ring", "uring"] as const;

const LABELS: Readonly<Record<Mode, string>> = {
  interrupt: "interrupts",
  polled: "polled",
  hybrid: "hybrid",
};
const API_LABELS: Readonly<Record<typeof APIS[number], string>> = {
  ring: "uring/ring",
  uring: "uring, awaited",
};

/** A disk with 512-byte blocks that can be polled for. */
function polledDisk(): string {
  const fact = (name: string, what: string): string => {
    try {
      return readFileSync(`/sys/block/${name}/queue/${what}`, "utf8").trim();
    } catch {
      return "";
    }
  };
  const name = readdirSync("/sys/block").find((name) =>
    fact(name, "io_poll") === "1" && fact(name, "logical_block_size") === "512"
  );
  if (name === undefined) throw new Error("the lab has no disk that can be polled for");
  return `/dev/${name}`;
}

/** Has every page start with its own number. */
function fill(path: string): void {
  const words = new Uint32Array(PAGES * PAGE / 4);
  for (let page = 0; page < PAGES; page++) words[page * PAGE / 4] = page;
  const fd = openSync(path, "r+");
  writeSync(fd, words);
  fsyncSync(fd);
  closeSync(fd);
}

function contenders(disk: string, { roundMs }: Settings): Contender[] {
  const warmth = { minOps: 200, minMs: 400, roundMs };
  const args = (mode: Mode): string[] => [mode, disk, String(PAGES)];
  const c = MODES.map((mode) =>
    longLived({
      id: `c-${mode}`,
      label: `C with liburing, ${LABELS[mode]}`,
      warmth,
      command: () => ({ program: join(GIVEN, "iopoll"), args: args(mode) }),
    })
  );
  const ours = RUNTIMES.flatMap((runtime) =>
    APIS.flatMap((api) =>
      MODES.filter((mode) => api === "ring" || mode !== "hybrid").map((mode) =>
        longLived({
          id: `${runtime}-${api}-${mode}`,
          label: `${API_LABELS[api]} on ${RUNTIME_NAMES[runtime]}, ${LABELS[mode]}`,
          warmth: { ...warmth, minOps: 2000 },
          command: () => script(runtime, "iopoll.ts", [api, ...args(mode)]),
        })
      )
    )
  );
  return [...c, ...ours];
}

function comparisons(): Group["comparisons"] {
  const kinds = RUNTIMES.flatMap((runtime) => APIS.map((api) => `${runtime}-${api}`));
  const against = (mode: Mode, kinds: readonly string[]): Pair[] =>
    kinds.map((kind) => ({ of: `${kind}-${mode}`, peers: [`${kind}-interrupt`] }));
  const rings = RUNTIMES.map((runtime) => `${runtime}-ring`);
  return [
    speed("with interrupts", [
      ...against("polled", ["c", ...kinds]),
      ...against("hybrid", ["c", ...rings]),
    ]),
    speed(
      "C",
      rings.flatMap((kind) => MODES.map((mode) => ({ of: `${kind}-${mode}`, peers: [`c-${mode}`] }))),
    ),
  ];
}

function measureHere(settings: Settings, shown: (text: string) => void): Promise<Report> {
  const disk = polledDisk();
  fill(disk);
  const group: Group = {
    title: "iopoll, in the lab",
    parameter: "depth",
    cases: [1, 32],
    contenders: contenders(disk, settings),
    comparisons: comparisons(),
  };
  return measureGroups([group], settings, shown);
}

/** Reads at depth 1 and 32. */
export const iopoll: Benchmark = {
  name: "iopoll",
  summary: "4 KiB reads of an NVMe disk that is polled for, beside one that interrupts; in the lab",
  run(settings, shown): Promise<Report> {
    if (inLab()) return measureHere(settings, shown);
    const report = measureInLab("iopoll", settings);
    shown(report.text);
    return Promise.resolve(report);
  },
};
