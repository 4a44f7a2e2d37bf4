/** Whole small files: content alone and with `stat`, in the page cache and not. */

import type { Benchmark } from "../benchmark.ts";
import { smallFiles, smallPaths } from "../environment.ts";
import type { Group, Preparation, Settings, Targets } from "../harness.ts";
import { dropFromPageCache } from "../page_cache.ts";
import { benchmark, both, contenders, own, PROMISES, speed, type Way, type Work } from "./files.ts";

const FILES = 20_000;
const AT_ONCE = 500;

const WAYS: readonly Way[] = [
  { api: "uring-readFile", label: "uring readFile" },
  { api: "uring-readFiles", label: "uring readFiles" },
  PROMISES,
  { api: "bun-file", label: "Bun.file", only: "bun" },
  { api: "deno-readFile", label: "Deno.readFile", only: "deno" },
];

/** Cold: each file once, with nothing of them in the page cache. */
const COLD: Preparation = {
  ops: () => FILES,
  prepare: () => dropFromPageCache(smallPaths(FILES)),
};

function work(stat: boolean, cold: boolean): Work {
  const directory = smallFiles(FILES);
  const kind = stat ? "stat" : "read";
  return {
    program: "small_files",
    c: [
      { api: "uring", label: "liburing", args: ["uring", kind, directory, String(FILES)] },
      { api: "posix", label: "open, read, close", args: ["posix", kind, directory, String(FILES)] },
    ],
    what: stat ? "small-stat" : "small",
    ways: stat ? WAYS.filter(({ api }) => api !== "uring-readFiles") : WAYS,
    args: [directory, String(FILES)],
    checkedOps: () => FILES,
    ...(cold ? { preparation: COLD } : {}),
  };
}

const target = (least: number): Targets => ({ [AT_ONCE]: least });

function readOnly(cold: boolean, settings: Settings): Group {
  const beside = cold ? { c: 0.95, own: 2.5 } : { c: 0.8, own: 2 };
  return {
    title: cold ? "small-files, not in the page cache" : "small-files",
    parameter: "at once",
    cases: [AT_ONCE],
    contenders: contenders(work(false, cold), settings),
    comparisons: [
      speed("C with liburing", both("uring-readFiles", () => ["c-uring"], target(beside.c))),
      speed("the runtime's best", both("uring-readFile", own(WAYS), target(beside.own))),
      speed("the runtime's best", both("uring-readFiles", own(WAYS), cold ? target(beside.own) : undefined)),
    ],
  };
}

function withStat(cold: boolean, settings: Settings): Group {
  const c = (): string[] => ["c-uring", "c-posix"];
  return {
    title: cold ? "small-files with stat, not in the page cache" : "small-files with stat",
    parameter: "at once",
    cases: [AT_ONCE],
    contenders: contenders(work(true, cold), settings),
    comparisons: [
      speed("C's best", both("uring-readFile", c)),
      speed("the runtime's best", both("uring-readFile", own(WAYS))),
    ],
  };
}

/** 20,000 small files. */
export const small: Benchmark = benchmark(
  "small-files",
  "20,000 files of 1 to 4 KiB, read whole, with stat and without, in the page cache and not",
  (settings) => [
    readOnly(false, settings),
    readOnly(true, settings),
    withStat(false, settings),
    withStat(true, settings),
  ],
);
