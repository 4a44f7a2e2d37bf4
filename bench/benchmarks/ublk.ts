/**
 * Disks that a program serves, beside those that the kernel has by itself: `fio` reads at random places. The kernel's ublk
 * driver is rarely loaded, so this measures in the lab (`scripts/lab`): the machine at hand compiles, starts the virtual
 * machine, and shows what was measured there.
 */

import { rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Benchmark, Report } from "../benchmark.ts";
import { Child, type Command, MissingError, runToEnd } from "../child.ts";
import { example, PAGE, type Runtime, RUNTIME_NAMES } from "../environment.ts";
import type { Comparison, Contender, Group, Pair, Runner, Sample, Settings, Targets } from "../harness.ts";
import { GIVEN, inLab, measureInLab } from "../lab.ts";
import { measureGroups } from "../report.ts";

const MEBIBYTES = 128;
const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const DEPTHS: readonly number[] = [1, 32];
const WARM_MS = 2000;
/** `fio` takes a while to start, and counts in milliseconds. */
const LEAST_MS = 500;

/** What `fio` has measured. */
async function fio(path: string, rw: string, depth: number, ms: number, ...more: string[]): Promise<Sample> {
  const { stdout } = await runToEnd({
    program: "fio",
    args: [
      "--name=bench",
      `--filename=${path}`,
      `--rw=${rw}`,
      `--bs=${rw === "randread" ? PAGE : "256k"}`,
      "--direct=1",
      "--ioengine=io_uring",
      `--iodepth=${depth}`,
      "--thread",
      "--norandommap",
      "--output-format=json",
      ...(ms > 0 ? ["--time_based", `--runtime=${ms}ms`] : []),
      ...more,
    ],
  });
  const { jobs: [job] } = JSON.parse(stdout.slice(stdout.indexOf("{"))) as {
    jobs: { read: { total_ios: number; runtime: number } }[];
  };
  return { ops: job!.read.total_ios, ns: job!.read.runtime * 1e6 };
}

/** A device that is read at random places. */
function reader(path: string, { roundMs }: Settings, stop: () => Promise<void>): Runner {
  const ms = Math.max(roundMs, LEAST_MS);
  return {
    warm: async (depth) => {
      // Nothing is read that was never written: it would cost less.
      await fio(path, "write", 8, 0, `--size=${MEBIBYTES}m`);
      await fio(path, "randread", depth, WARM_MS);
    },
    run: (depth) => fio(path, "randread", depth, ms),
    stop,
  };
}

function served(id: string, label: string, settings: Settings, command: () => Command): Contender {
  return {
    id,
    label,
    async start() {
      const child = new Child({ ...command(), endedBy: "SIGTERM" });
      const line = await child.nextLine();
      const path = /^serving (\S+)$/.exec(line)?.[1];
      if (path === undefined) throw new MissingError(`said "${line}"`);
      return reader(path, settings, () => child.stop());
    },
  };
}

/** A loop device on a file in memory. */
function loop(settings: Settings): Contender {
  return {
    id: "loop",
    label: "loop device on tmpfs",
    async start() {
      const file = "/dev/shm/uring-bench-loop";
      writeFileSync(file, "");
      truncateSync(file, MEBIBYTES * 2 ** 20);
      const { stdout } = await runToEnd({ program: "losetup", args: ["--find", "--show", file] });
      const path = stdout.trim();
      return reader(path, settings, async () => {
        await runToEnd({ program: "losetup", args: ["--detach", path] });
        rmSync(file);
      });
    },
  };
}

function comparisons(): Comparison[] {
  const against = (peer: string, least?: number): Pair[] =>
    RUNTIMES.map((runtime) => ({
      of: `${runtime}-ram`,
      peers: [peer],
      ...(least === undefined
        ? {}
        : { targets: Object.fromEntries(DEPTHS.map((d) => [d, least])) as Targets }),
    }));
  return [
    { heading: "C, nothing", kind: "speed", pairs: against("c-null", 0.8) },
    { heading: "C, memory", kind: "speed", pairs: against("c-ram") },
    { heading: "loop", kind: "speed", pairs: against("loop") },
  ];
}

function measureHere(settings: Settings, shown: (text: string) => void): Promise<Report> {
  const inC = (kind: string, label: string): Contender =>
    served(`c-${kind}`, label, settings, () => ({
      program: join(GIVEN, "ublk"),
      args: [kind, String(MEBIBYTES)],
    }));
  const group: Group = {
    title: "ublk, in the lab",
    parameter: "depth",
    cases: DEPTHS,
    contenders: [
      inC("null", "C with liburing, nothing behind it"),
      inC("ram", "C with liburing, memory"),
      ...RUNTIMES.map((runtime) =>
        served(
          `${runtime}-ram`,
          `uring/ublk on ${RUNTIME_NAMES[runtime]}, memory`,
          settings,
          () => example(runtime, "ramdisk.ts", [String(MEBIBYTES)]),
        )
      ),
      loop(settings),
    ],
    comparisons: comparisons(),
    bytesPerOp: PAGE,
  };
  return measureGroups([group], settings, shown);
}

/** Reads at random places, at depth 1 and 32. */
export const ublk: Benchmark = {
  name: "ublk",
  summary: "4 KiB at random places of a disk in memory that a program serves; in the lab",
  run(settings, shown): Promise<Report> {
    if (inLab()) return measureHere(settings, shown);
    const report = measureInLab("ublk", settings);
    shown(report.text);
    return Promise.resolve(report);
  },
};
