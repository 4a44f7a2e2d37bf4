/**
 * Servers that take turns. The server is on one CPU, its client on the other, where there are two. What counts is how much
 * a server does with a second of its CPU time: the client is mostly the bottleneck, and would hide a difference between
 * servers that both keep up with it.
 */

import { existsSync } from "node:fs";
import { createServer } from "node:net";
import os from "node:os";
import type { Report } from "./benchmark.ts";
import { Child, type Command, MissingError, runToEnd } from "./child.ts";
import { compiled, onCpu } from "./environment.ts";
import {
  type Comparison,
  type Contender,
  type Group,
  type GroupResult,
  runGroup,
  type Sample,
  type Series,
  type Settings,
} from "./harness.ts";
import { groupTable } from "./report.ts";

const SERVER_CPU = 0;
const CLIENT_CPU = 1;
const POLL_MS = 20;
const START_MS = 10_000;

/** A process that serves. */
export interface Process {
  /** 0 where nobody serves, because the kernel does it all. */
  readonly pid: number;
  stop(): Promise<void>;
}

/** A server that runs. */
export interface Server extends Process {
  readonly port: number;
}

const alone = (): boolean => os.cpus().length < 2;

/** The same command, on the servers' CPU. */
export function asServer(command: Command): Command {
  return alone() ? command : onCpu(SERVER_CPU, command);
}

/** The same command, on the clients' CPU. */
export function asClient(command: Command): Command {
  return alone() ? command : onCpu(CLIENT_CPU, command);
}

/** A port of 127.0.0.1 that nobody listens at. */
export function freePort(): Promise<number> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** Starts a server that tells its port in its first line, as the last number of it. */
export async function startServer(command: Command): Promise<Server> {
  const child = new Child(command);
  try {
    const line = await child.nextLine();
    const port = Number(/^listening .*?(\d+)$/.exec(line)?.[1] ?? NaN);
    if (!(port > 0)) throw new MissingError(`said "${line}"`);
    return { port, pid: child.pid, stop: () => child.stop() };
  } catch (error) {
    await child.stop(0);
    throw error;
  }
}

/** Whether somebody listens at a port of an IPv4 address. Looked up, since a connection would be served. */
async function listens(port: number): Promise<boolean> {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const { stdout } = await runToEnd({ program: "cat", args: ["/proc/net/tcp"] });
  return stdout.split("\n").some((line) => new RegExp(`^ *\\d+: [0-9A-F]{8}:${hex} \\S+ 0A `).test(line));
}

/** Starts a server that is told its port and does not say when it is there. */
export async function startAt(port: number, command: Command): Promise<Server> {
  const child = new Child({ ...command, endedBy: "SIGTERM" });
  let ended: Error | null = null;
  // It may say this and that. Once it says nothing more it has ended.
  const watch = async (): Promise<void> => {
    for (;;) await child.nextLine();
  };
  watch().catch((error: Error) => ended = error);
  for (let waited = 0; !(await listens(port)); waited += POLL_MS) {
    if (ended !== null) throw ended;
    if (waited > START_MS) {
      await child.stop(0);
      throw new MissingError("it does not listen");
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return { port, pid: child.pid, stop: () => child.stop() };
}

/** What a client has seen of a server. */
export interface Served {
  /** Messages, requests, bytes. */
  readonly ops: number;
  readonly wallNs: number;
  /** The server's CPU time. */
  readonly cpuNs: number;
  /** The median of the round trips. */
  readonly roundTripNs?: number;
}

/** CPU time that a process has used up to now, all of its threads, those that have ended, too. */
export async function cpuTime(pid: number): Promise<number> {
  const { stdout } = await runToEnd(compiled("load", ["cpu", String(pid)]));
  return Number(stdout.split(" ")[1]);
}

/** Runs a client, and takes the server's CPU time meanwhile. */
export async function served(
  server: Server,
  client: Command,
  read: (stdout: string) => { readonly ops: number; readonly wallNs: number },
): Promise<Served> {
  const before = await cpuTime(server.pid);
  const { stdout } = await runToEnd(asClient(client));
  const cpuNs = await cpuTime(server.pid) - before;
  return { ...read(stdout), cpuNs };
}

/** How long a client of `load` runs unmeasured: milliseconds, and messages, for which it goes on up to five times as long. */
export interface Warming {
  readonly ms: number;
  readonly messages: number;
}

/** The command of a client that has its messages sent back, a message at a time on each connection: `bench/c/load.c`. */
export function loadCommand(
  server: Server,
  connections: number,
  size: number,
  { ms, messages }: Warming,
  measuredMs: number,
): Command {
  const args = [server.port, server.pid, connections, size, ms, messages, measuredMs];
  return compiled("load", ["echo", ...args.map(String)]);
}

/** Runs such a client. */
export async function load(command: Command): Promise<Served> {
  const { stdout } = await runToEnd(command);
  const [ops = NaN, wallNs = NaN, cpuNs = NaN, roundTripNs = NaN] = stdout.split(" ").slice(1).map(Number);
  return { ops, wallNs, cpuNs, roundTripNs };
}

/** One row. */
export interface ServerContender<S extends Process = Server> {
  readonly id: string;
  readonly label: string;
  readonly cases?: readonly number[];
  start(): Promise<S>;
}

/** Servers that one kind of client measures. */
export interface ServerGroup<S extends Process = Server> {
  readonly title: string;
  /** What an operation is: "message", "request", "MiB". */
  readonly unit: string;
  readonly parameter: string;
  readonly cases: readonly number[];
  readonly contenders: readonly ServerContender<S>[];
  measure(server: S, parameter: number, warming: boolean): Promise<Served>;
  /** Of CPU time. */
  readonly cpu: readonly Comparison[];
  /** Of time. */
  readonly wall?: readonly Comparison[];
  /** Of the median round trips; none are shown without. */
  readonly roundTrip?: readonly Comparison[];
  readonly bytesPerOp?: number;
}

type Kind = "cpu" | "wall" | "roundTrip";

function contender<S extends Process>(
  group: ServerGroup<S>,
  one: ServerContender<S>,
  seen: Map<string, Served[]>,
): Contender {
  return {
    id: one.id,
    label: one.label,
    ...(one.cases === undefined ? {} : { cases: one.cases }),
    async start() {
      const server = await one.start();
      return {
        async warm(parameter: number): Promise<void> {
          await group.measure(server, parameter, true);
        },
        async run(parameter: number): Promise<Sample> {
          const found = await group.measure(server, parameter, false);
          const key = `${one.id} ${parameter}`;
          seen.set(key, [...seen.get(key) ?? [], found]);
          return { ops: found.ops, ns: found.cpuNs };
        },
        stop: () => server.stop(),
      };
    },
  };
}

const TITLES: Readonly<Record<Kind, (unit: string) => string>> = {
  cpu: (unit) => `the server's CPU time per ${unit}`,
  wall: (unit) => `time per ${unit}`,
  roundTrip: () => "median round trip",
};

function sampleOf(kind: Kind, { ops, wallNs, cpuNs, roundTripNs = NaN }: Served): Sample {
  if (kind === "roundTrip") return { ops: 1, ns: roundTripNs };
  return { ops, ns: kind === "cpu" ? cpuNs : wallNs };
}

function seriesOf(kind: Kind, one: Series, seen: ReadonlyMap<string, readonly Served[]>): Series {
  if (one.samples.length === 0) return one;
  const found = seen.get(`${one.contender} ${one.parameter}`) ?? [];
  if (kind === "cpu" && found.every(({ cpuNs }) => cpuNs === 0)) {
    return { ...one, samples: [], missing: "nobody serves" };
  }
  return { ...one, samples: found.map((each) => sampleOf(kind, each)) };
}

/** Measures servers, and shows a table for each kind of figure. */
export async function measureServers<S extends Process = Server>(
  group: ServerGroup<S>,
  settings: Settings,
  shown: (text: string) => void,
): Promise<Report & { readonly groups: readonly GroupResult[] }> {
  const seen = new Map<string, Served[]>();
  const { title, unit, parameter, cases, bytesPerOp } = group;
  const base: Group = {
    title,
    parameter,
    cases,
    contenders: group.contenders.map((one) => contender(group, one, seen)),
    comparisons: [],
    ...(bytesPerOp === undefined ? {} : { bytesPerOp }),
  };
  const measured = await runGroup(base, settings);
  const kinds = (["cpu", "wall", "roundTrip"] as const).filter((kind) =>
    kind !== "roundTrip" || group.roundTrip
  );
  const groups = kinds.map((kind): GroupResult => ({
    ...measured,
    group: { ...base, title: `${title}: ${TITLES[kind](unit)}`, comparisons: group[kind] ?? [] },
    series: measured.series.map((one) => seriesOf(kind, one, seen)),
  }));
  const text = groups.map(groupTable).join("\n");
  shown(text);
  return { text, groups };
}

/** A program that a Debian package brings; throws a `MissingError` without it. */
export function installed(program: string): string {
  const path = ["/usr/bin", "/usr/sbin", "/usr/local/bin"].map((directory) => `${directory}/${program}`)
    .find((file) => existsSync(file));
  if (path === undefined) throw new MissingError(`no ${program}`);
  return path;
}
