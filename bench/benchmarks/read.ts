/**
 * 4 KiB reads at random pages of a 64 MiB file in the page cache.
 *
 * uring and C read through one open file. The runtimes' own APIs are measured that way too and, since Deno lets only
 * one operation at a time touch an open file, with a file opened for each reader ("a file each").
 */

import type { Benchmark, Report } from "../benchmark.ts";
import { compiled, dataFile, PAGE, type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
import {
  type Comparison,
  type Contender,
  type Group,
  longLived,
  type Pair,
  type Settings,
  type Targets,
} from "../harness.ts";
import { measureGroups } from "../report.ts";

const PAGES = 16384;
const DEPTHS = [1, 32, 128];

/** A runtime's own way to read. */
interface OwnApi {
  readonly runtime: Runtime;
  readonly api: string;
  readonly label: string;
  readonly sharing: "one" | "each";
  readonly kind: "async" | "sync";
}

const OWN: readonly OwnApi[] = [
  { runtime: "bun", api: "fs-promises", label: "fs.promises", sharing: "one", kind: "async" },
  { runtime: "bun", api: "fs-callback", label: "fs.read callback", sharing: "one", kind: "async" },
  { runtime: "bun", api: "bun-file", label: "Bun.file().slice()", sharing: "one", kind: "async" },
  { runtime: "bun", api: "fs-sync", label: "fs.readSync", sharing: "one", kind: "sync" },
  { runtime: "deno", api: "fs-promises", label: "fs.promises", sharing: "one", kind: "async" },
  { runtime: "deno", api: "fs-promises", label: "fs.promises, a file each", sharing: "each", kind: "async" },
  { runtime: "deno", api: "fs-callback", label: "fs.read callback", sharing: "one", kind: "async" },
  {
    runtime: "deno",
    api: "fs-callback",
    label: "fs.read callback, a file each",
    sharing: "each",
    kind: "async",
  },
  {
    runtime: "deno",
    api: "deno-file",
    label: "FsFile seek + read, a file each",
    sharing: "each",
    kind: "async",
  },
  {
    runtime: "deno",
    api: "deno-file-seek-sync",
    label: "FsFile seekSync + read, a file each",
    sharing: "each",
    kind: "async",
  },
  { runtime: "deno", api: "fs-sync", label: "fs.readSync", sharing: "one", kind: "sync" },
  {
    runtime: "deno",
    api: "deno-file-sync",
    label: "FsFile seekSync + readSync",
    sharing: "one",
    kind: "sync",
  },
];

function ownId({ runtime, api, sharing }: OwnApi): string {
  return `${runtime}-${api}${sharing === "each" ? "-each" : ""}`;
}

function contenders(path: string, settings: Settings): Contender[] {
  const { roundMs } = settings;
  const warmth = { minOps: 20_000, minMs: 400, roundMs };
  const c = (mode: string, label: string): Contender =>
    longLived({ id: `c-${mode}`, label, warmth, command: () => compiled("read", [mode, path]) });
  const uring = (runtime: Runtime): Contender =>
    longLived({
      id: `uring-${runtime}`,
      label: `uring on ${RUNTIME_NAMES[runtime]}`,
      warmth: { ...warmth, minOps: 400_000 },
      command: () => script(runtime, "read.ts", ["uring", path], { allow: ["ffi", "read"] }),
    });
  const own = (one: OwnApi): Contender =>
    longLived({
      id: ownId(one),
      label: `${RUNTIME_NAMES[one.runtime]}: ${one.label}`,
      warmth,
      command: () => script(one.runtime, "read.ts", [one.api, path, one.sharing], { allow: ["read"] }),
    });
  return [c("uring", "C, liburing"), c("pread", "C, pread"), uring("bun"), uring("deno"), ...OWN.map(own)];
}

function own(runtime: Runtime, targets: Targets, wanted: (one: OwnApi) => boolean): Pair {
  const peers = OWN.filter((one) => one.runtime === runtime && one.kind === "async" && wanted(one)).map(
    ownId,
  );
  return { of: `uring-${runtime}`, peers, targets };
}

function comparisons(): Comparison[] {
  const ofC = (of: string): Pair => ({ of, peers: ["c-uring"], targets: { 32: 0.95, 128: 0.95 } });
  const isPromises = ({ api, sharing }: OwnApi): boolean => api === "fs-promises" && sharing === "one";
  const oneFile = ({ sharing }: OwnApi): boolean => sharing === "one";
  const bestOfBun = { 32: 2.5, 128: 2.5 };
  const bestOfDeno = { 32: 30, 128: 30 };
  return [
    { heading: "the same", kind: "speed", pairs: [ofC("uring-bun"), ofC("uring-deno")] },
    {
      heading: "the runtime's fs.promises",
      kind: "speed",
      pairs: [own("bun", { 1: 10 }, isPromises), own("deno", { 1: 10 }, isPromises)],
    },
    {
      heading: "its best asynchronous API, one file",
      kind: "speed",
      pairs: [own("bun", bestOfBun, oneFile), own("deno", bestOfDeno, oneFile)],
    },
    {
      heading: "its best asynchronous API",
      kind: "speed",
      pairs: [own("deno", bestOfDeno, () => true)],
    },
  ];
}

/** Random reads at depth 1, 32 and 128; once as the scheduler likes, once with every process on one CPU. */
export const read: Benchmark = {
  name: "read",
  summary: "4 KiB random reads of a cached file, beside C and the runtimes' own APIs",
  run(settings, shown): Promise<Report> {
    const free: Group = {
      title: "read",
      parameter: "depth",
      cases: DEPTHS,
      contenders: contenders(dataFile(PAGES), settings),
      comparisons: comparisons(),
      bytesPerOp: PAGE,
    };
    return measureGroups([free, { ...free, title: "read on one CPU", cpu: 1 }], settings, shown);
  },
};
