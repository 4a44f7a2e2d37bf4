/** Large files: direct reads, durable appends, copies, scans. */

import type { Benchmark } from "../benchmark.ts";
import { closeSync, openSync, readSync, rmSync, statSync } from "node:fs";
import { assertRoom, dataFile, PAGE, removeDataFile, scratchFile } from "../environment.ts";
import type { Group, Preparation, Settings, Targets } from "../harness.ts";
import { benchmark, both, contenders, own, program, PROMISES, speed, type Way } from "./files.ts";

const MIB = 1024 * 1024;
const DIRECT_PAGES = 65_536;
const DATA_PAGES = 262_144;
const DATA_MIB = DATA_PAGES * PAGE / MIB;

const DIRECT_WAYS: readonly Way[] = [
  { api: "uring", label: "uring readFixed" },
  { api: "uring-loop", label: "Uring.readFixed" },
  PROMISES,
  { api: "fs-read", label: "fs.read" },
];

function directReads(settings: Settings): Group {
  const targets = (least: number): Targets => ({ 32: least, 128: least });
  const path = dataFile(DIRECT_PAGES);
  const c = [
    { api: "uring", label: "liburing", args: ["direct-uring", path] },
    { api: "pread", label: "pread", args: ["direct-pread", path] },
  ];
  const all = contenders(
    { program: "files", c, what: "direct", ways: DIRECT_WAYS, args: [path], checkedOps: () => 1024 },
    settings,
  );
  return {
    title: "direct",
    parameter: "depth",
    cases: [1, 32, 128],
    contenders: all.map((one) => one.id === "c-pread" ? { ...one, cases: [1] } : one),
    comparisons: [
      speed("C with liburing", both("uring", () => ["c-uring"], targets(0.97))),
      speed("C with liburing", both("uring-loop", () => ["c-uring"])),
      speed("the runtime's best", both("uring", own(DIRECT_WAYS), targets(2))),
    ],
    bytesPerOp: PAGE,
  };
}

const APPEND_WAYS: readonly Way[] = [
  { api: "uring", label: "uring append" },
  { api: "fs-promises", label: "fs.promises, datasync" },
  { api: "fs-promises-dsync", label: "fs.promises, O_DSYNC" },
];

function appends(settings: Settings): Group {
  const path = scratchFile("append");
  const c = [
    { api: "sync", label: "write, fdatasync", args: ["append-sync", path] },
    { api: "dsync", label: "RWF_DSYNC", args: ["append-dsync", path] },
    { api: "direct", label: "O_DIRECT, RWF_DSYNC", args: ["append-direct", path] },
  ];
  const targets: Targets = { 1: 1.3, 32: 5 };
  return {
    title: "append",
    parameter: "writers",
    cases: [1, 32],
    contenders: contenders(
      {
        program: "files",
        c,
        what: "append",
        ways: APPEND_WAYS,
        args: [path],
        checkedOps: (writers) => writers * 8,
      },
      settings,
    ),
    comparisons: [
      speed("C's best", both("uring", () => c.map(({ api }) => `c-${api}`), { 1: 0.95 })),
      speed("fs.promises with datasync", both("uring", (runtime) => [`${runtime}-fs-promises`], targets)),
      speed("fs.promises with O_DSYNC", both("uring", (runtime) => [`${runtime}-fs-promises-dsync`])),
    ],
    bytesPerOp: PAGE,
  };
}

const COPY_WAYS: readonly Way[] = [
  { api: "uring", label: "uring copyFile" },
  PROMISES,
  { api: "bun-write", label: "Bun.write", only: "bun" },
  { api: "deno-copyFile", label: "Deno.copyFile", only: "deno" },
];

/** Throws unless two files hold the same. */
function assertSame(one: string, other: string): void {
  if (statSync(one).size !== statSync(other).size) throw new Error(`${other} is not as long as ${one}`);
  const fds = [openSync(one, "r"), openSync(other, "r")];
  const pieces = [Buffer.alloc(4 * MIB), Buffer.alloc(4 * MIB)];
  for (let count = -1; count !== 0;) {
    count = readSync(fds[0]!, pieces[0]!);
    readSync(fds[1]!, pieces[1]!);
    if (!pieces[0]!.equals(pieces[1]!)) throw new Error(`${other} holds something else than ${one}`);
  }
  fds.forEach(closeSync);
}

function copies(settings: Settings): Group {
  const [from, to] = [dataFile(DATA_PAGES), scratchFile("copy")];
  assertRoom(DATA_PAGES * PAGE);
  const preparation: Preparation = {
    ops: () => DATA_MIB,
    prepare: () => rmSync(to, { force: true }),
    verify: () => assertSame(from, to),
  };
  const c = [{ api: "copy", label: "copy_file_range", args: ["copy", from, to] }];
  return {
    title: "copy",
    parameter: "MiB",
    cases: [DATA_MIB],
    contenders: [
      program("cp", "cp", ["cp", from, to], preparation),
      ...contenders(
        { program: "files", c, what: "copy", ways: COPY_WAYS, args: [from, to], preparation },
        settings,
      ),
    ],
    comparisons: [
      speed("cp", both("uring", () => ["cp"], { [DATA_MIB]: 1 })),
      speed("C", both("uring", () => ["c-copy"])),
      speed("the runtime's best", both("uring", own(COPY_WAYS))),
    ],
    bytesPerOp: MIB,
  };
}

const SCAN_WAYS: readonly Way[] = [
  { api: "uring-chunks", label: "uring readChunks" },
  { api: "uring", label: "uring stream" },
  { api: "uring-read", label: "uring read" },
  { api: "fs-stream", label: "fs.createReadStream" },
  { api: "node-read", label: "FileHandle.read" },
  { api: "bun-stream", label: "Bun.file().stream()", only: "bun" },
  { api: "deno-stream", label: "Deno.open().readable", only: "deno" },
];

function scans(settings: Settings): Group {
  const path = dataFile(DATA_PAGES);
  const c = [
    { api: "read", label: "pread", args: ["scan-read", path] },
    { api: "uring", label: "liburing", args: ["scan-uring", path] },
  ];
  const inC = (): string[] => c.map(({ api }) => `c-${api}`);
  return {
    title: "scan",
    parameter: "MiB",
    cases: [DATA_MIB],
    contenders: contenders(
      { program: "files", c, what: "scan", ways: SCAN_WAYS, args: [path], checkedOps: () => DATA_MIB },
      settings,
    ),
    comparisons: [
      speed("C's best", both("uring-chunks", inC, { [DATA_MIB]: 0.95 })),
      speed("C's best", both("uring-read", inC)),
      speed("C's best", both("uring", inC)),
      speed("the runtime's best", both("uring-chunks", own(SCAN_WAYS), { [DATA_MIB]: 1 })),
      speed("the runtime's best", both("uring", own(SCAN_WAYS))),
    ],
    bytesPerOp: MIB,
  };
}

/** 4 KiB at random places, past the page cache. */
export const direct: Benchmark = benchmark("direct", "4 KiB random reads past the page cache", (settings) => [
  directReads(settings),
]);

/** Durable records. */
export const append: Benchmark = benchmark(
  "append",
  "4 KiB records, durable each: one writer, and 32",
  (settings) => [appends(settings)],
  () => rmSync(scratchFile("append"), { force: true }),
);

/** A large file copied. */
export const copy: Benchmark = benchmark(
  "copy",
  "copies of a file of 1 GiB",
  (settings) => [copies(settings)],
  () => {
    rmSync(scratchFile("copy"), { force: true });
    removeDataFile(DATA_PAGES);
  },
);

/** A large file read from its beginning to its end. */
export const scan: Benchmark = benchmark(
  "scan",
  "a cached file of 1 GiB from its beginning to its end",
  (settings) => [scans(settings)],
  () => removeDataFile(DATA_PAGES),
);
