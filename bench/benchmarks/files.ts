/** `uring/fs` beside C and the runtimes' own APIs: whole files, direct reads, appends, copies, scans, trees. */

import type { Benchmark, Report } from "../benchmark.ts";
import {
  compiled,
  dataFile,
  entriesBelow,
  MODULES,
  PAGE,
  type Runtime,
  RUNTIME_NAMES,
  scratchFile,
  script,
  smallFiles,
} from "../environment.ts";
import { type Contender, type Group, longLived, type Pair, type Settings, type Targets } from "../harness.ts";
import { measureGroups } from "../report.ts";

const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const MIB = 1024 * 1024;
const SMALL_FILES = 20_000;
const AT_ONCE = 500;
const DATA_PAGES = 65_536;
const DATA_MIB = DATA_PAGES * PAGE / MIB;

/** One way to do it: in C, or through an API of one runtime. */
interface Way {
  readonly api: string;
  readonly label: string;
  /** Only in this runtime. */
  readonly only?: Runtime;
}

const PROMISES: Way = { api: "fs-promises", label: "fs.promises" };

/** Contenders of one kind of work. */
function contenders(
  what: string,
  c: readonly Way[],
  ways: readonly Way[],
  args: readonly string[],
  settings: Settings,
): Contender[] {
  const { roundMs } = settings;
  const warmth = { minOps: 1, minMs: 400, roundMs };
  const inC = c.map(({ api, label }) =>
    longLived({
      id: `c-${api}`,
      label: `C, ${label}`,
      warmth,
      command: () => compiled("files", [api, ...args]),
    })
  );
  const rest = RUNTIMES.flatMap((runtime) =>
    ways.filter(({ only }) => only === undefined || only === runtime).map(({ api, label }) =>
      longLived({
        id: `${runtime}-${api}`,
        label: `${label} on ${RUNTIME_NAMES[runtime]}`,
        warmth,
        command: () =>
          script(runtime, "files.ts", [what, api, ...args], {
            allow: ["ffi", "read", "write", "sys", "env"],
          }),
      })
    )
  );
  return [...inC, ...rest];
}

/** The same comparison in both runtimes. */
function both(of: string, peers: (runtime: Runtime) => readonly string[], targets?: Targets): Pair[] {
  return RUNTIMES.map((runtime) => ({
    of: `${runtime}-${of}`,
    peers: peers(runtime),
    ...(targets === undefined ? {} : { targets }),
  }));
}

const speed = (heading: string, pairs: readonly Pair[]) => ({ heading, kind: "speed", pairs }) as const;

function own(ways: readonly Way[]): (runtime: Runtime) => string[] {
  return (runtime) =>
    ways.filter(({ api, only }) => !api.startsWith("uring") && (only ?? runtime) === runtime)
      .map(({ api }) => `${runtime}-${api}`);
}

const SMALL_WAYS: readonly Way[] = [
  { api: "uring-readFile", label: "uring readFile" },
  { api: "uring-readFiles", label: "uring readFiles" },
  PROMISES,
  { api: "bun-file", label: "Bun.file", only: "bun" },
  { api: "deno-readFile", label: "Deno.readFile", only: "deno" },
];

function small(settings: Settings): Group {
  const c = [{ api: "small-uring", label: "liburing" }, { api: "small-posix", label: "open, read, close" }];
  return {
    title: "small-files",
    parameter: "at once",
    cases: [AT_ONCE],
    contenders: contenders("small", c, SMALL_WAYS, [smallFiles(SMALL_FILES), String(SMALL_FILES)], settings),
    comparisons: [
      speed("C with liburing", both("uring-readFiles", () => ["c-small-uring"], { [AT_ONCE]: 0.8 })),
      speed("the runtime's best", both("uring-readFile", own(SMALL_WAYS), { [AT_ONCE]: 2 })),
      speed("the runtime's best", both("uring-readFiles", own(SMALL_WAYS))),
    ],
  };
}

const DIRECT_WAYS: readonly Way[] = [
  { api: "uring", label: "uring readFixed" },
  { api: "uring-loop", label: "Uring.readFixed" },
  PROMISES,
];

function direct(settings: Settings): Group {
  const targets = (least: number): Targets => ({ 32: least, 128: least });
  const c = [{ api: "direct-uring", label: "liburing" }];
  return {
    title: "direct",
    parameter: "depth",
    cases: [1, 32, 128],
    contenders: contenders("direct", c, DIRECT_WAYS, [dataFile(DATA_PAGES)], settings),
    comparisons: [
      speed("C", both("uring", () => ["c-direct-uring"], targets(0.97))),
      speed("C", both("uring-loop", () => ["c-direct-uring"])),
      speed("fs.promises", both("uring", own(DIRECT_WAYS), targets(2))),
    ],
    bytesPerOp: PAGE,
  };
}

const APPEND_WAYS: readonly Way[] = [{ api: "uring", label: "uring append" }, PROMISES];

function append(settings: Settings): Group {
  const c = [
    { api: "append-sync", label: "write, fdatasync" },
    { api: "append-dsync", label: "RWF_DSYNC" },
    { api: "append-direct", label: "O_DIRECT, RWF_DSYNC" },
  ];
  const all = contenders("append", c, APPEND_WAYS, [scratchFile("append")], settings);
  return {
    title: "append",
    parameter: "writers",
    cases: [1, 32],
    contenders: all.map((one) => one.id.startsWith("c-") ? { ...one, cases: [1] } : one),
    comparisons: [
      speed("C's best", both("uring", () => c.map(({ api }) => `c-${api}`), { 1: 0.95 })),
      speed("fs.promises", both("uring", own(APPEND_WAYS), { 1: 1.3, 32: 5 })),
    ],
    bytesPerOp: PAGE,
  };
}

const COPY_WAYS: readonly Way[] = [{ api: "uring", label: "uring copyFile" }, PROMISES];

function copy(settings: Settings): Group {
  return {
    title: "copy",
    parameter: "MiB",
    cases: [DATA_MIB],
    contenders: contenders(
      "copy",
      [{ api: "copy", label: "copy_file_range, as cp" }],
      COPY_WAYS,
      [dataFile(DATA_PAGES), scratchFile("copy")],
      settings,
    ),
    comparisons: [
      speed("C, as cp", both("uring", () => ["c-copy"], { [DATA_MIB]: 1 })),
      speed("fs.promises", both("uring", own(COPY_WAYS))),
    ],
    bytesPerOp: MIB,
  };
}

const SCAN_WAYS: readonly Way[] = [
  { api: "uring", label: "uring stream" },
  { api: "uring-read", label: "uring read" },
  { api: "fs-stream", label: "fs.createReadStream" },
  { api: "node-read", label: "FileHandle.read" },
  { api: "bun-stream", label: "Bun.file().stream()", only: "bun" },
  { api: "deno-stream", label: "Deno.open().readable", only: "deno" },
];

function scan(settings: Settings): Group {
  const c = [{ api: "scan-read", label: "pread" }, { api: "scan-uring", label: "liburing" }];
  return {
    title: "scan",
    parameter: "MiB",
    cases: [DATA_MIB],
    contenders: contenders("scan", c, SCAN_WAYS, [dataFile(DATA_PAGES)], settings),
    comparisons: [
      speed("C's best", both("uring", () => c.map(({ api }) => `c-${api}`), { [DATA_MIB]: 0.95 })),
      speed("C's best", both("uring-read", () => c.map(({ api }) => `c-${api}`))),
      speed("the runtime's best", both("uring", own(SCAN_WAYS), { [DATA_MIB]: 1 })),
    ],
    bytesPerOp: MIB,
  };
}

const TREE_WAYS: readonly Way[] = [{ api: "uring", label: "uring readdir, lstat" }, PROMISES];

function tree(settings: Settings): Group {
  const entries = entriesBelow(MODULES);
  return {
    title: "tree",
    parameter: "entries",
    cases: [entries],
    contenders: contenders("tree", [{ api: "tree", label: "fstatat" }], TREE_WAYS, [MODULES], settings),
    comparisons: [
      speed("C", both("uring", () => ["c-tree"])),
      speed("fs.promises", both("uring", own(TREE_WAYS), { [entries]: 1.5 })),
    ],
  };
}

function benchmark(name: string, summary: string, group: (settings: Settings) => Group): Benchmark {
  return {
    name,
    summary,
    run: (settings, shown): Promise<Report> => measureGroups([group(settings)], settings, shown),
  };
}

/** The benchmarks of `uring/fs`. */
export const files: readonly Benchmark[] = [
  benchmark("small-files", "20,000 cached files of 1 to 4 KiB, read whole", small),
  benchmark("direct", "4 KiB random reads past the page cache", direct),
  benchmark("append", "4 KiB records, durable each: one writer, and 32", append),
  benchmark("copy", "copies of a file of 256 MiB", copy),
  benchmark("scan", "a cached file of 256 MiB from its beginning to its end", scan),
  benchmark("tree", "lstat of everything below node_modules", tree),
];
