/** What every file in `bench/benchmarks/` exports. */

import type { GroupResult, Settings } from "./harness.ts";

/** One target of the project, and whether it was reached. */
export interface Verdict {
  readonly what: string;
  readonly target: string;
  readonly measured: string;
  readonly met: boolean;
}

/** What a benchmark gave. */
export interface Report {
  /** Tables, ready to be printed. */
  readonly text: string;
  /** Groups measured by contenders that take turns. */
  readonly groups?: readonly GroupResult[];
  /** Whatever else belongs into the JSON file. */
  readonly raw?: unknown;
  /** Targets that are not among the groups' comparisons. */
  readonly verdicts?: readonly Verdict[];
}

/** A benchmark. */
export interface Benchmark {
  readonly name: string;
  readonly summary: string;
  run(settings: Settings, shown: (text: string) => void): Promise<Report>;
}
