/** How much memory a process takes while it streams 4 GiB: how far the resident set rises above where it was before. */

import { closeSync, ftruncateSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { Benchmark, Report, Verdict } from "../benchmark.ts";
import { Child, MissingError } from "../child.ts";
import { type Runtime, RUNTIME_NAMES, scratchFile, script } from "../environment.ts";
import { progress } from "../progress.ts";
import { number } from "../stats.ts";
import { table } from "../table.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZE = 4 * 1024 * MIB;
const SMALL = 256 * KIB;
const MOST = 32 * MIB;

/** What streams, and whether it is the library that does. */
interface Way {
  readonly way: string;
  readonly label: string;
  readonly only?: Runtime;
  readonly own?: boolean;
}

const WAYS: readonly Way[] = [
  { way: "web", label: "readableWebStream" },
  { way: "web-slow", label: "readableWebStream, into a slow WritableStream" },
  { way: "web-byob", label: "readableWebStream, BYOB" },
  { way: "web-write", label: "writableWebStream" },
  { way: "web-copy", label: "readableWebStream.pipeTo(writableWebStream)" },
  { way: "node", label: "createReadStream" },
  { way: "node-slow", label: "createReadStream, into a slow Writable" },
  { way: "node-write", label: "createWriteStream" },
  { way: "pull", label: "pull" },
  { way: "chunks", label: "readChunks" },
  { way: "write-file", label: "writeFile of an iterable" },
  { way: "own-node", label: "node:fs createReadStream", own: true },
  { way: "own-bun", label: "Bun.file().stream()", only: "bun", own: true },
  { way: "own-deno", label: "Deno.open().readable", only: "deno", own: true },
];

interface Measured {
  readonly runtime: Runtime;
  readonly label: string;
  readonly own: boolean;
  readonly before: number;
  readonly peak: number;
  readonly missing: string | null;
}

/** A field of `/proc/PID/status` in bytes. */
function field(pid: number, name: string): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
  if (kib === undefined) throw new MissingError(`/proc tells no ${name}`);
  return Number(kib) * KIB;
}

/** Has the kernel forget how large the resident set once was. */
function resetPeak(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, "5");
  } catch (error) {
    throw new MissingError((error as Error).message);
  }
}

/** A file without blocks. */
function sparse(path: string, size: number): string {
  const fd = openSync(path, "w");
  ftruncateSync(fd, size);
  closeSync(fd);
  return path;
}

async function measure(
  runtime: Runtime,
  { way, label, own = false }: Way,
  files: string[],
): Promise<Measured> {
  progress("memory: 4 GiB", `${label} on ${RUNTIME_NAMES[runtime]}`);
  const about = { runtime, label, own };
  const [large, small] = files;
  const child = new Child(
    script(runtime, "memory.ts", [way, large!, String(SIZE), small!], {
      allow: ["ffi", "read", "write", "sys", "env"],
    }),
  );
  try {
    if (await child.nextLine() !== "ready") throw new MissingError("it was not ready");
    resetPeak(child.pid);
    const before = field(child.pid, "VmRSS");
    const said = await child.ask("go");
    if (said !== `done ${SIZE}`) throw new Error(`${label} on ${runtime} said ${said}`);
    return { ...about, before, peak: field(child.pid, "VmHWM"), missing: null };
  } catch (error) {
    if (!(error instanceof MissingError)) throw error;
    return { ...about, before: 0, peak: 0, missing: error.message };
  } finally {
    await child.stop();
  }
}

const mib = (bytes: number): string => `${number(bytes / MIB)} MiB`;

function text(measured: readonly Measured[]): string {
  const columns = [
    { heading: "" },
    { heading: "before", right: true },
    { heading: "at most", right: true },
    { heading: "above", right: true },
    { heading: "" },
  ];
  const rows = measured.map(({ runtime, label, own, before, peak, missing }) => {
    const name = `${label} on ${RUNTIME_NAMES[runtime]}`;
    if (missing !== null) return [name, "–", "–", "–", `missing: ${missing}`];
    const met = peak - before <= MOST ? "met" : "missed";
    return [name, mib(before), mib(peak), mib(peak - before), own ? "" : `target ≤ ${mib(MOST)}: ${met}`];
  });
  return `memory while 4 GiB are streamed\n${table(columns, rows)}\n`;
}

function verdicts(measured: readonly Measured[]): Verdict[] {
  return measured.filter(({ missing, own }) => missing === null && !own).map((
    { runtime, label, before, peak },
  ) => ({
    what: `memory: ${label} on ${RUNTIME_NAMES[runtime]}`,
    target: `≤ ${mib(MOST)}`,
    measured: mib(peak - before),
    met: peak - before <= MOST,
  }));
}

/** The most memory that a stream of 4 GiB takes. */
export const memory: Benchmark = {
  name: "memory",
  summary: "resident memory while 4 GiB are streamed",
  async run(_settings, shown): Promise<Report> {
    const files = [sparse(scratchFile("sparse"), SIZE), sparse(scratchFile("sparse-small"), SMALL)];
    const measured: Measured[] = [];
    try {
      for (const runtime of ["bun", "deno"] as const) {
        for (const way of WAYS) {
          if (way.only !== undefined && way.only !== runtime) continue;
          measured.push(await measure(runtime, way, files));
        }
      }
    } finally {
      for (const path of files) rmSync(path, { force: true });
    }
    shown(text(measured));
    return { text: text(measured), raw: measured, verdicts: verdicts(measured) };
  },
};
