/**
 * The demo's tables.
 *
 * @module
 */
import type { Ready } from "./reader.ts";
import { SMALL } from "./tree.ts";

/** How long a way took: the median of its rounds. */
export interface Timing {
  readonly seconds: number;
  readonly files: number;
  readonly bytes: number;
}

/** Ways by their id. */
export type ByWay<T> = ReadonlyMap<string, T>;

/** What was measured under one runtime. */
export interface Measured {
  readonly ready: Ready;
  readonly cached: ByWay<Timing>;
  /** The small files among them. */
  readonly small: ByWay<Timing>;
  readonly uncached: ByWay<Timing>;
  readonly hashed: ByWay<Timing>;
  /** System calls of reading all cached files once; empty where they cannot be counted. */
  readonly calls: ByWay<number>;
  /** How often uring entered the kernel for that by its own count. */
  readonly enters: number;
  /** The part of the files that came from devices when uncached; null where that is not known. */
  readonly fetched: number | null;
}

const LABEL = 46;

/** A whole number with its thousands apart. */
export function whole(n: number): string {
  return Math.round(n).toLocaleString("en");
}

/** 1.53×, 15.3×, 153×. */
export function times(ratio: number): string {
  return `${ratio < 10 ? ratio.toFixed(2) : ratio < 100 ? ratio.toFixed(1) : whole(ratio)}×`;
}

function line(label: string, ...cells: readonly string[]): string {
  const widths = [9, 8, 7, 9];
  return (label.padEnd(LABEL) + cells.map((cell, i) => cell.padStart(widths[i]!)).join("")).trimEnd();
}

function section(measured: Measured, title: string, timings: ByWay<Timing>, withCalls: boolean): string[] {
  const lines = [`  ${title}`];
  const base = timings.get("uring")!;
  if (base.files === 0) return [];
  for (const { id, label, blocks } of measured.ready.ways) {
    const timing = timings.get(id)!;
    const calls = withCalls ? callsOf(measured, id) : "";
    const name = `    ${label}${blocks ? " *" : ""}`;
    if (timing.files === 0) {
      lines.push(line(name, "–", "–", "–", calls));
      continue;
    }
    const { files, bytes, seconds } = timing;
    const each = seconds / files / (base.seconds / base.files);
    lines.push(line(name, whole(files / seconds), whole(bytes / 1e6 / seconds), times(each), calls));
  }
  return lines;
}

function callsOf(measured: Measured, id: string): string {
  const calls = measured.calls.get(id);
  if (calls !== undefined) return whole(calls);
  return id === "uring" ? whole(measured.enters) : "–";
}

/** One runtime's table. */
export function tableOf(measured: Measured): string {
  const { fetched } = measured;
  const source = fetched === null ? "" : ` (${Math.round(fetched * 100)} % came from the device)`;
  return [
    line(measured.ready.runtime, "files/s", "MB/s", "time", "calls"),
    ...section(measured, "in the page cache", measured.cached, true),
    ...section(measured, `in the page cache, those of up to ${SMALL / 1024} KiB`, measured.small, false),
    ...section(measured, `dropped from the page cache${source}`, measured.uncached, false),
    ...section(measured, "in the page cache, with SHA-256 of each file", measured.hashed, false),
  ].join("\n");
}

/** How uring compares with the best of the runtime's own that does not block. */
export function summaryOf(measured: Measured): string {
  const against = (timings: ByWay<Timing>): string => {
    const base = timings.get("uring")!;
    const others = measured.ready.ways.filter(({ id, blocks }) => !blocks && id !== "uring")
      .map(({ id, label }) => ({ label, timing: timings.get(id)! }))
      .filter(({ timing }) => timing.files > 0)
      .map(({ label, timing }) => ({
        label,
        ratio: timing.seconds / timing.files / (base.seconds / base.files),
      }))
      .sort((a, b) => a.ratio - b.ratio);
    const [best] = others;
    return best === undefined ? "–" : `${times(best.ratio)} (${best.label})`;
  };
  return [
    `${measured.ready.runtime}: uring's speed, the best of the runtime's own promises being 1`,
    `  cached            ${against(measured.cached)}`,
    `  cached and small  ${against(measured.small)}`,
    `  uncached          ${against(measured.uncached)}`,
    `  with SHA-256      ${against(measured.hashed)}`,
  ].join("\n");
}

/** What the columns mean. */
export function notes(all: readonly Measured[], sampled: boolean): string {
  const traced = all.every(({ calls }) => calls.size > 0);
  const enters = all.map(({ ready, enters }) => `${whole(enters)} under ${ready.runtime}`).join(", ");
  const lines = [
    "time: for the same files, uring's being 1; medians, the ways take turns. *: blocks the event loop meanwhile.",
    "calls: system calls of all threads for reading all cached files once.",
  ];
  if (traced) {
    lines.push("  They are counted by strace, without those for memory and between threads.");
    if (sampled) lines.push("  Counted for a part of the files, and scaled.");
  } else lines.push("  Only uring's are known: strace is not there or may not look at other processes.");
  lines.push(`  uring's own count of io_uring_enter (uring.stats.enters) when not traced: ${enters}.`);
  return lines.join("\n");
}
