/** A directory mounted a second time: pass-through file systems, and what the directory itself takes. */

import { statSync } from "node:fs";
import { basename } from "node:path";
import type { Benchmark, Report } from "../benchmark.ts";
import { type Command, runToEnd } from "../child.ts";
import {
  CACHE,
  compiled,
  dataFile,
  example,
  PAGE,
  type Runtime,
  RUNTIME_NAMES,
  smallFiles,
  smallPaths,
} from "../environment.ts";
import type { Comparison, Pair, Settings, Targets } from "../harness.ts";
import { type Mounted, startMount, withFuseUring } from "../mounts.ts";
import {
  asClient,
  asServer,
  measureServers,
  type Served,
  type ServerContender,
  type ServerGroup,
} from "../servers.ts";

const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const PAGES = 16_384;
const FILES = 5_000;
const CLIENTS: readonly number[] = [1, 16];
const WARM_MS = 50;
const FIRST_WARM_MS = 1000;

const inC = (id: string, label: string, command: (path: string) => Command): ServerContender<Mounted> => ({
  id,
  label,
  start: () => startMount(id, (path) => asServer(command(path))),
});

const libfuse = (kind: "single" | "multi", label: string): ServerContender<Mounted> =>
  inC(
    `c-libfuse-${kind}`,
    label,
    (path) => compiled("fuse_libfuse", [kind, CACHE, path], ["fuse3", "pthread"]),
  );

const uring = (
  runtime: Runtime,
  transport: "uring" | "classic",
  label: string,
): ServerContender<Mounted> => ({
  id: `${runtime}-${transport}`,
  label: `${label} on ${RUNTIME_NAMES[runtime]}`,
  start: () =>
    startMount(`${runtime}-${transport}`, (path) => {
      const args = [CACHE, path, "--cache", "none", "--transport", transport];
      return asServer(example(runtime, "passthrough.ts", args));
    }),
});

const CONTENDERS: readonly ServerContender<Mounted>[] = [
  libfuse("single", "C, libfuse, one thread"),
  libfuse("multi", "C, libfuse, its threads"),
  inC("c-loop", "C, /dev/fuse", (path) => compiled("fuse_loop", [CACHE, path])),
  ...RUNTIMES.map((runtime) => uring(runtime, "uring", "uring/fuse, io_uring")),
  ...RUNTIMES.map((runtime) => uring(runtime, "classic", "uring/fuse, /dev/fuse")),
  {
    id: "bare",
    label: "the directory itself",
    start: () => Promise.resolve({ path: CACHE, pid: 0, stop: () => Promise.resolve() }),
  },
];

/** One turn of the client. */
async function load(args: readonly (string | number)[]): Promise<Served> {
  const { stdout } = await runToEnd(asClient(compiled("mount_load", args.map(String), ["pthread"])));
  const [ops = NaN, wallNs = NaN, cpuNs = NaN, roundTripNs = NaN] = stdout.split(" ").slice(1).map(Number);
  return { ops, wallNs, cpuNs, roundTripNs };
}

const both = (peers: readonly string[], targets?: Targets): Pair[] =>
  RUNTIMES.map((runtime) => ({
    of: `${runtime}-uring`,
    peers,
    ...(targets === undefined ? {} : { targets }),
  }));

const LIBFUSE = ["c-libfuse-single", "c-libfuse-multi"];

function comparisons(ofLibfuse?: Targets, ofLoop?: Targets): Comparison[] {
  return [
    { heading: "C's best with libfuse", kind: "speed", pairs: both(LIBFUSE, ofLibfuse) },
    { heading: "C's loop", kind: "speed", pairs: both(["c-loop"], ofLoop) },
  ];
}

const bare: Comparison = { heading: "without", kind: "speed", pairs: both(["bare"]) };

function reads(settings: Settings): ServerGroup<Mounted> {
  const file = basename(dataFile(PAGES));
  const each = (least: number): Targets => Object.fromEntries(CLIENTS.map((clients) => [clients, least]));
  return {
    title: "fuse, reads of 4 KiB",
    unit: "read",
    parameter: "clients",
    cases: CLIENTS,
    contenders: CONTENDERS,
    measure: ({ path, pid }, clients, warming) =>
      load([
        "read",
        `${path}/${file}`,
        PAGES,
        clients,
        pid,
        warming ? FIRST_WARM_MS : WARM_MS,
        settings.roundMs,
      ]),
    wall: [...comparisons(each(0.8), each(1)), bare],
    cpu: comparisons(),
    bytesPerOp: PAGE,
  };
}

function lists(settings: Settings): ServerGroup<Mounted> {
  const directory = basename(smallFiles(FILES));
  const bytes = smallPaths(FILES).reduce((sum, path) => sum + statSync(path).size, 0);
  return {
    title: "fuse, names and attributes",
    unit: "file",
    parameter: "files",
    cases: [FILES],
    contenders: CONTENDERS,
    measure: ({ path, pid }, files, warming) =>
      load([
        "list",
        `${path}/${directory}`,
        files,
        bytes,
        pid,
        warming ? FIRST_WARM_MS : 0,
        settings.roundMs,
        path,
      ]),
    wall: [...comparisons(), bare],
    cpu: comparisons(),
  };
}

/** Pass-through file systems. */
export const fuse: Benchmark = {
  name: "fuse",
  summary: "a directory mounted a second time: random reads of 4 KiB, a list of 5,000 files with attributes",
  run: (settings, shown) =>
    withFuseUring(async (): Promise<Report> => {
      const first = await measureServers(reads(settings), settings, shown);
      const second = await measureServers(lists(settings), settings, shown);
      return { text: `${first.text}\n${second.text}`, groups: [...first.groups, ...second.groups] };
    }),
};
