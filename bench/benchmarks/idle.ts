/** What a process costs that only waits. All contenders wait at the same time: none should disturb another. */

import { readdirSync, readFileSync } from "node:fs";
import type { Benchmark, Report, Verdict } from "../benchmark.ts";
import { Child, MissingError } from "../child.ts";
import { type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
import { progress } from "../progress.ts";
import { number } from "../stats.ts";
import { table } from "../table.ts";

/** Long enough for the runtimes' threads to be done with what starting left them. */
const SETTLE_MS = 2000;
const WATCH_MS = 5000;
const MAX_CPU_PERCENT = 0.5;
/**
 * Wake-ups a second, of the JavaScript thread and beyond those of the runtime's own `setTimeout`, that still count as
 * none: the runtimes wake up now and then by themselves, and not always equally often.
 */
const MAX_WAKEUPS_PER_SECOND = 1;

const WAITS: Readonly<Record<string, string>> = {
  timer: "setTimeout, without uring",
  socket: "a connection, without uring",
  read: "uring, a read on an empty pipe",
  timeout: "uring, a time-out",
  poll: "uring, a poll",
};

/** A process's counters: CPU time and voluntary context switches of all its threads, switches of the main one. */
interface Counters {
  readonly atMs: number;
  readonly cpuNs: number;
  readonly switches: number;
  readonly mainSwitches: number;
}

function threadCounters(directory: string): { cpuNs: number; switches: number } {
  // A thread that ended since its name was read counts as nothing.
  try {
    const [cpuNs = 0] = readFileSync(`${directory}/schedstat`, "utf8").split(" ").map(Number);
    const status = readFileSync(`${directory}/status`, "utf8");
    const switches = Number(/^voluntary_ctxt_switches:\s*(\d+)/m.exec(status)?.[1] ?? 0);
    return { cpuNs, switches };
  } catch {
    return { cpuNs: 0, switches: 0 };
  }
}

function counters(pid: number): Counters {
  const threads = readdirSync(`/proc/${pid}/task`).map((tid) => threadCounters(`/proc/${pid}/task/${tid}`));
  return {
    atMs: performance.now(),
    cpuNs: threads.reduce((sum, { cpuNs }) => sum + cpuNs, 0),
    switches: threads.reduce((sum, { switches }) => sum + switches, 0),
    mainSwitches: threadCounters(`/proc/${pid}/task/${pid}`).switches,
  };
}

/** How one contender waited, or why it did not. */
interface Waited {
  readonly runtime: Runtime;
  readonly wait: string;
  readonly cpuPercent: number;
  readonly wakeupsPerSecond: number;
  readonly mainWakeupsPerSecond: number;
  readonly missing: string | null;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function watch(runtime: Runtime, wait: string): Promise<Waited> {
  let child: Child | null = null;
  const nothing = { runtime, wait, cpuPercent: NaN, wakeupsPerSecond: NaN, mainWakeupsPerSecond: NaN };
  try {
    child = new Child(script(runtime, "idle.ts", [wait]));
    const line = await child.nextLine();
    if (line !== "waiting") throw new MissingError(`said "${line}"`);
    await pause(SETTLE_MS);
    const before = counters(child.pid);
    await pause(WATCH_MS);
    const after = counters(child.pid);
    const ms = after.atMs - before.atMs;
    return {
      ...nothing,
      cpuPercent: (after.cpuNs - before.cpuNs) / 1e6 / ms * 100,
      wakeupsPerSecond: (after.switches - before.switches) / ms * 1000,
      mainWakeupsPerSecond: (after.mainSwitches - before.mainSwitches) / ms * 1000,
      missing: null,
    };
  } catch (error) {
    if (!(error instanceof MissingError)) throw error;
    return { ...nothing, missing: error.message };
  } finally {
    await child?.stop(0);
  }
}

function verdicts(waited: readonly Waited[]): Verdict[] {
  const measured = waited.filter(({ missing }) => missing === null);
  const alone = (wait: string): boolean => wait === "timer" || wait === "socket";
  return measured.filter(({ wait }) => !alone(wait)).flatMap((one) => {
    const what = `idle: ${RUNTIME_NAMES[one.runtime]}, ${WAITS[one.wait]}`;
    // Beside the timer and not the connection: that the waker holds a socket is the library's choice.
    const own = measured.find(({ runtime, wait }) => runtime === one.runtime && wait === "timer");
    const extra = one.mainWakeupsPerSecond - (own?.mainWakeupsPerSecond ?? 0);
    return [
      {
        what: `${what}, CPU`,
        target: `≤ ${MAX_CPU_PERCENT} %`,
        measured: `${one.cpuPercent.toFixed(3)} %`,
        met: one.cpuPercent <= MAX_CPU_PERCENT,
      },
      {
        what: `${what}, wake-ups of the JavaScript thread beyond those with setTimeout`,
        target: "0/s",
        measured: `${number(extra)}/s`,
        met: extra <= MAX_WAKEUPS_PER_SECOND,
      },
    ];
  });
}

function text(waited: readonly Waited[]): string {
  const columns = [
    { heading: "" },
    { heading: "CPU", right: true },
    { heading: "wake-ups of the JavaScript thread", right: true },
    { heading: "of all threads", right: true },
    { heading: "" },
  ];
  const rows = waited.map((one) => {
    const label = `${RUNTIME_NAMES[one.runtime]}: ${WAITS[one.wait]}`;
    if (one.missing !== null) return [label, "–", "–", "–", `missing: ${one.missing}`];
    const perSecond = [one.mainWakeupsPerSecond, one.wakeupsPerSecond].map((value) => `${number(value)}/s`);
    return [label, `${one.cpuPercent.toFixed(3)} %`, ...perSecond];
  });
  return `idle, ${WATCH_MS / 1000} s\n${table(columns, rows)}\n`;
}

/** CPU time and wake-ups of processes that wait. */
export const idle: Benchmark = {
  name: "idle",
  summary: "CPU time and wake-ups with an operation pending for 5 s",
  async run(_settings, shown): Promise<Report> {
    progress("idle: watching processes that wait", `${(SETTLE_MS + WATCH_MS) / 1000} s`);
    const contenders = (["bun", "deno"] as const).flatMap((runtime) =>
      Object.keys(WAITS)
        // Deno needs no second baseline: it never wakes up by itself.
        .filter((wait) => runtime === "bun" || wait !== "socket")
        .map((wait) => watch(runtime, wait))
    );
    const waited = await Promise.all(contenders);
    shown(text(waited));
    return { text: text(waited), raw: waited, verdicts: verdicts(waited) };
  },
};
