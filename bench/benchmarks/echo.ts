/** Servers that send back what they receive. */

import type { Benchmark, Report, Verdict } from "../benchmark.ts";
import { compiled, example, type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
import type { GroupResult, Pair, Settings, Targets } from "../harness.ts";
import {
  asClient,
  asServer,
  load,
  loadCommand,
  measureServers,
  type ServerContender,
  type ServerGroup,
  startServer,
} from "../servers.ts";
import { median, times } from "../stats.ts";

const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const WARM_MS = 50;
const FIRST_WARM_MS = 400;
const SMALL = 64;
/** Messages that a server has had before it is measured: what is run often is compiled by then. */
const FIRST_MESSAGES = 60_000;
/** Where a message takes long: on one connection, or for its size. */
const FIRST_FEW = 10_000;
const FIRST_LARGE = 400;
const MIB = 1024 * 1024;
/** What messages per second may lose from 64 to 4096 connections. */
const LEAST_OF_MANY = 0.85;

const inC = (kind: string, label: string, ...args: string[]): ServerContender => ({
  id: `c-${kind}`,
  label,
  start: () => startServer(asServer(compiled(`echo_${kind}`, ["0", ...args]))),
});

const through = (
  runtime: Runtime,
  api: string,
  label: string,
  cases?: readonly number[],
): ServerContender => ({
  id: `${runtime}-${api}`,
  label: `${label} on ${RUNTIME_NAMES[runtime]}`,
  ...(cases === undefined ? {} : { cases }),
  start: () => startServer(asServer(script(runtime, "echo.ts", [api], { allow: ["net", "env", "read"] }))),
});

const uring = (runtime: Runtime, style: string, label: string): ServerContender => ({
  id: `${runtime}-${style}`,
  label: `${label} on ${RUNTIME_NAMES[runtime]}`,
  start: () => startServer(asServer(example(runtime, "echo.ts", ["0", "--style", style]))),
});

function contenders(nodeCases: readonly number[], ...buffers: string[]): ServerContender[] {
  return [
    inC("uring", "C, liburing", ...buffers),
    inC("epoll", "C, epoll"),
    ...RUNTIMES.flatMap((runtime) => [
      uring(runtime, "handlers", "uring, handlers"),
      uring(runtime, "streams", "uring, read and write"),
    ]),
    through("bun", "bun-listen", "Bun.listen"),
    through("deno", "deno-listen", "Deno.listen"),
    ...RUNTIMES.map((runtime) => through(runtime, "node-net", "node:net", nodeCases)),
  ];
}

/** One turn of the client. */
function measure(size: number, settings: Settings): ServerGroup["measure"] {
  return (server, connections, warming) => {
    const messages = size === MIB ? FIRST_LARGE : connections === 1 ? FIRST_FEW : FIRST_MESSAGES;
    const warm = warming ? { ms: FIRST_WARM_MS, messages } : { ms: WARM_MS, messages: 2 * connections };
    return load(asClient(loadCommand(server, connections, size, warm, settings.roundMs)));
  };
}

const both = (style: string, peers: readonly string[], targets?: Targets): Pair[] =>
  RUNTIMES.map((runtime) => pair(runtime, style, peers, targets));

const pair = (runtime: Runtime, style: string, peers: readonly string[], targets?: Targets): Pair => ({
  of: `${runtime}-${style}`,
  peers,
  ...(targets === undefined ? {} : { targets }),
});

/** Beside `Bun.listen` and `Deno.listen`. What a runtime's own users have instead is what has to be reached. */
function besideListen(style: string, bun: Targets, deno: Targets) {
  return [
    speed("Bun.listen", [
      pair("bun", style, ["bun-bun-listen"], bun),
      pair("deno", style, ["bun-bun-listen"]),
    ]),
    speed("Deno.listen", [
      pair("deno", style, ["deno-deno-listen"], deno),
      pair("bun", style, ["deno-deno-listen"]),
    ]),
  ];
}

const speed = (heading: string, pairs: readonly Pair[]) => ({ heading, kind: "speed", pairs }) as const;

const at64And512 = (least: number): Targets => ({ 64: least, 512: least });

function small(settings: Settings, shown: (text: string) => void) {
  return measureServers(
    {
      title: "echo, 64 B",
      unit: "message",
      parameter: "connections",
      cases: [1, 64, 512, 4096],
      contenders: contenders([64, 512]),
      measure: measure(SMALL, settings),
      cpu: [
        speed("C, liburing", both("handlers", ["c-uring"], at64And512(1))),
        ...besideListen("handlers", at64And512(1.15), at64And512(1.4)),
        speed(
          "node:net",
          RUNTIMES.map((runtime) => pair(runtime, "handlers", [`${runtime}-node-net`], at64And512(1.4))),
        ),
        ...besideListen("streams", at64And512(1), at64And512(1.2)),
      ],
      roundTrip: [speed("C, epoll", both("handlers", ["c-epoll"], { 1: 1 / 1.05 }))],
    },
    settings,
    shown,
  );
}

function large(settings: Settings, shown: (text: string) => void) {
  return measureServers(
    {
      title: "echo, 4 KiB",
      unit: "message",
      parameter: "connections",
      cases: [64],
      contenders: contenders([]),
      measure: measure(4096, settings),
      cpu: [
        speed("C, liburing", both("handlers", ["c-uring"])),
        speed("Bun.listen", both("handlers", ["bun-bun-listen"])),
        speed("Deno.listen", both("handlers", ["deno-deno-listen"])),
        speed("Deno.listen", both("streams", ["deno-deno-listen"])),
      ],
    },
    settings,
    shown,
  );
}

/** How much is left of the messages per second with many connections, by round. */
function ofMany(wall: GroupResult): Verdict[] {
  const perSecond = (id: string, connections: number): number[] =>
    wall.series.find(({ contender, parameter }) => contender === id && parameter === connections)
      ?.samples.map(({ ops, ns }) => ops / ns) ?? [];
  return ["c-uring", "bun-handlers", "deno-handlers"].flatMap((id) => {
    const few = perSecond(id, 64);
    const left = perSecond(id, 4096).flatMap((many, round) =>
      few[round] === undefined ? [] : [many / few[round]]
    );
    if (left.length === 0) return [];
    const label = wall.group.contenders.find((one) => one.id === id)?.label ?? id;
    return [{
      what: `echo, 64 B: ${label}, messages per second with 4096 connections beside 64`,
      target: `≥ ${times(LEAST_OF_MANY)}`,
      measured: times(median(left)),
      met: median(left) >= LEAST_OF_MANY,
    }];
  });
}

/** Small messages on many connections. */
export const echo: Benchmark = {
  name: "echo",
  summary: "servers that send back messages of 64 B and 4 KiB: 1 to 4096 connections",
  async run(settings, shown): Promise<Report> {
    const first = await small(settings, shown);
    const second = await large(settings, shown);
    const wall = first.groups.find(({ group }) => group.title.includes(": time per"));
    return {
      text: `${first.text}\n${second.text}`,
      groups: [...first.groups, ...second.groups],
      verdicts: wall === undefined ? [] : ofMany(wall),
    };
  },
};

/** One connection with much data. */
export const stream: Benchmark = {
  name: "stream",
  summary: "one connection that sends 1 MiB and gets it back, again and again",
  run: (settings, shown) =>
    measureServers(
      {
        title: "stream",
        unit: "MiB",
        parameter: "connections",
        cases: [1],
        contenders: contenders([1], "65536", "64"),
        measure: measure(MIB, settings),
        cpu: [
          speed("C's best", both("handlers", ["c-uring", "c-epoll"])),
          speed("Bun.listen", both("handlers", ["bun-bun-listen"])),
          speed("Deno.listen", both("streams", ["deno-deno-listen"])),
        ],
        bytesPerOp: MIB,
      },
      settings,
      shown,
    ),
};
