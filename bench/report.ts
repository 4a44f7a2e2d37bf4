/** From samples to tables. */

import type { Report, Verdict } from "./benchmark.ts";
import {
  type Comparison,
  type Group,
  type GroupResult,
  type Pair,
  runGroup,
  type Series,
  type Settings,
} from "./harness.ts";
import { duration, median, rate, summarize, type Summary, times } from "./stats.ts";
import { type Column, table } from "./table.ts";

/** Nanoseconds per operation, by round. */
function perOp(series: Series): number[] {
  return series.samples.map(({ ops, ns }) => ns / ops);
}

/** A comparison's outcome for one contender in one case. */
export interface Compared {
  readonly heading: string;
  readonly contender: string;
  readonly peer: string;
  readonly parameter: number;
  readonly kind: Comparison["kind"];
  readonly summary: Summary;
  readonly target: number | null;
  readonly met: boolean | null;
}

function find(result: GroupResult, contender: string, parameter: number): Series | null {
  const found = result.series.find((one) => one.contender === contender && one.parameter === parameter);
  return found === undefined || found.samples.length === 0 ? null : found;
}

function compareOne(
  result: GroupResult,
  comparison: Comparison,
  { of, peers, targets }: Pair,
  parameter: number,
): Compared | null {
  const series = find(result, of, parameter);
  const candidates = peers.map((peer) => find(result, peer, parameter)).filter((peer) => peer !== null);
  const [peer] = candidates.sort((a, b) => median(perOp(a)) - median(perOp(b)));
  if (series === null || peer === undefined) return null;
  const mine = perOp(series);
  const theirs = perOp(peer);
  const { kind, heading } = comparison;
  const byRound = mine.map((ns, round) => {
    const other = theirs[round] ?? NaN;
    return kind === "speed" ? other / ns : ns - other;
  });
  const summary = summarize(byRound);
  const target = targets?.[parameter] ?? null;
  const met = target === null ? null : kind === "speed" ? summary.median >= target : summary.median <= target;
  return { heading, contender: of, peer: peer.contender, parameter, kind, summary, target, met };
}

/** Every comparison of a group. */
export function compare(result: GroupResult): Compared[] {
  return result.group.comparisons.flatMap((comparison) =>
    comparison.pairs.flatMap((pair) =>
      result.group.cases.flatMap((parameter) => compareOne(result, comparison, pair, parameter) ?? [])
    )
  );
}

function showRange({ kind, summary }: Compared): string {
  const show = kind === "speed" ? times : duration;
  return `${show(summary.min)} – ${show(summary.max)}`;
}

function showMedian({ kind, summary }: Compared): string {
  return kind === "speed" ? times(summary.median) : duration(summary.median);
}

function showTarget({ kind, target, met }: Compared): string {
  if (target === null || met === null) return "";
  const sign = kind === "speed" ? `≥ ${times(target)}` : `≤ ${duration(target)}`;
  return `target ${sign}: ${met ? "met" : "missed"}`;
}

function labelOf(group: Group, id: string): string {
  return group.contenders.find((one) => one.id === id)?.label ?? id;
}

function caseCells(group: Group, parameter: number): string[] {
  return group.parameter === "" ? [] : [String(parameter)];
}

function caseColumns(group: Group): Column[] {
  return group.parameter === "" ? [] : [{ heading: group.parameter, right: true }];
}

function sampleCells(result: GroupResult, series: Series, inline: readonly Compared[]): string[] {
  const { group } = result;
  const start = [...caseCells(group, series.parameter), labelOf(group, series.contender)];
  if (series.samples.length === 0) {
    const empty = [group.bytesPerOp, ...inline.slice(0, 1)].flatMap((one, i) =>
      one === undefined ? [] : i === 0 ? [""] : ["", ""]
    );
    return [...start, "–", "", "", ...empty, `missing: ${series.missing ?? "no samples"}`];
  }
  const { median, min, max } = summarize(perOp(series));
  const row = [...start, duration(median), `${duration(min)} – ${duration(max)}`, rate(1e9 / median)];
  if (group.bytesPerOp !== undefined) row.push(`${Math.round(group.bytesPerOp * 1e3 / median)} MB/s`);
  const found = inline.find(({ contender, parameter }) =>
    contender === series.contender && parameter === series.parameter
  );
  return found === undefined ? row : [...row, showMedian(found), showRange(found), showTarget(found)];
}

/** A row for each contender in each case, cases apart. */
function sampleTable(result: GroupResult, inline: readonly Compared[]): string {
  const { group } = result;
  const columns: Column[] = [
    ...caseColumns(group),
    { heading: "" },
    { heading: "median", right: true },
    { heading: "min – max" },
    { heading: "rate", right: true },
  ];
  if (group.bytesPerOp !== undefined) columns.push({ heading: "", right: true });
  if (inline.length > 0) {
    columns.push({ heading: inline[0]?.heading ?? "", right: true }, { heading: "min – max" });
  }
  columns.push({ heading: "" });
  const rows = group.cases.flatMap((parameter, index) => {
    const some = result.series.filter((series) => series.parameter === parameter);
    const block = some.map((series) => sampleCells(result, series, inline));
    return index === 0 ? block : [null, ...block];
  });
  return table(columns, rows);
}

/** A row for each pair in each case. */
function comparisonTable(group: Group, compared: readonly Compared[]): string {
  const columns: Column[] = [
    ...caseColumns(group),
    { heading: "" },
    { heading: "beside" },
    { heading: "median", right: true },
    { heading: "min – max" },
    { heading: "" },
  ];
  const rows = group.cases.flatMap((parameter) =>
    compared.filter((one) => one.parameter === parameter).map((one) => [
      ...caseCells(group, parameter),
      labelOf(group, one.contender),
      `${one.heading}: ${labelOf(group, one.peer)}`,
      showMedian(one),
      showRange(one),
      showTarget(one),
    ])
  );
  return table(columns, rows);
}

/** What a group gave. A single comparison stands beside the samples, several have a table of their own. */
export function groupTable(result: GroupResult): string {
  const { group, rounds } = result;
  const compared = compare(result);
  const several = group.comparisons.length > 1;
  const title = `${group.title}  (${rounds} rounds)`;
  const samples = sampleTable(result, several ? [] : compared);
  const rest = several && compared.length > 0 ? `\n\n${comparisonTable(group, compared)}` : "";
  return `${title}\n${samples}${rest}\n`;
}

/** The targets of a group that could be measured. */
export function groupVerdicts(result: GroupResult): Verdict[] {
  const { group } = result;
  return compare(result).flatMap((compared) => {
    const { heading, contender, parameter, kind, target, met } = compared;
    if (target === null || met === null) return [];
    const where = group.parameter === "" ? "" : `, ${group.parameter} ${parameter}`;
    const sign = kind === "speed" ? "≥" : "≤";
    return [{
      what: `${group.title}${where}: ${labelOf(group, contender)}, ${heading}`,
      target: `${sign} ${kind === "speed" ? times(target) : duration(target)}`,
      measured: showMedian(compared),
      met,
    }];
  });
}

/** Measures groups one after the other and shows each table as soon as it is there. */
export async function measureGroups(
  groups: readonly Group[],
  settings: Settings,
  shown: (text: string) => void,
): Promise<Report> {
  const results: GroupResult[] = [];
  for (const group of groups) {
    const result = await runGroup(group, settings);
    results.push(result);
    shown(groupTable(result));
  }
  return { text: results.map(groupTable).join("\n"), groups: results };
}
