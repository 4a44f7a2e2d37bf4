/** Key-value servers with many requests in each packet. */

import type { Benchmark, Report } from "../benchmark.ts";
import { MissingError } from "../child.ts";
import { example, type Runtime, RUNTIME_NAMES } from "../environment.ts";
import type { Settings } from "../harness.ts";
import { redisServer } from "../peers.ts";
import {
  asServer,
  installed,
  measureServers,
  served,
  type Server,
  type ServerContender,
  startServer,
} from "../servers.ts";

const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const CLIENTS = 50;
const DEPTH = 16;
const KEYS = 100_000;
/** Requests that a measurement takes for each millisecond of a round. */
const PER_MS = 1000;
const WARMING = 400_000;

const CONTENDERS: readonly ServerContender[] = [
  { id: "redis", label: "redis-server", start: redisServer },
  ...RUNTIMES.map((runtime) => ({
    id: runtime,
    label: `uring (examples/kv.ts) on ${RUNTIME_NAMES[runtime]}`,
    start: () => startServer(asServer(example(runtime, "kv.ts", ["0"]))),
  })),
];

async function benchmark(server: Server, command: string, requests: number) {
  const program = installed("redis-benchmark");
  const args = [
    ...["-p", server.port, "-t", command, "-n", requests, "-P", DEPTH, "-c", CLIENTS, "-r", KEYS],
    ...["-q", "--csv"],
  ];
  return await served(server, { program, args: args.map(String) }, (stdout) => {
    const [, rate] = new RegExp(`^"${command}","([\\d.]+)"`, "im").exec(stdout) ?? [];
    if (rate === undefined) throw new MissingError(`redis-benchmark said "${stdout.slice(0, 100)}"`);
    return { ops: requests, wallNs: requests / Number(rate) * 1e9 };
  });
}

async function measure(command: "get" | "set", settings: Settings, shown: (text: string) => void) {
  const requests = Math.ceil(settings.roundMs * PER_MS / (CLIENTS * DEPTH)) * CLIENTS * DEPTH;
  const speed = { 1: 1 };
  return await measureServers(
    {
      title: `pipeline, ${command.toUpperCase()}`,
      unit: "request",
      parameter: "",
      cases: [1],
      contenders: CONTENDERS,
      async measure(server, _, warming) {
        if (warming && command === "get") await benchmark(server, "set", WARMING);
        return await benchmark(server, command, warming ? WARMING : requests);
      },
      cpu: [{
        heading: "redis-server",
        kind: "speed",
        pairs: RUNTIMES.map((of) => ({ of, peers: ["redis"], targets: speed })),
      }],
    },
    settings,
    shown,
  );
}

/** `redis-benchmark` with 16 requests in flight on each of 50 connections. */
export const pipeline: Benchmark = {
  name: "pipeline",
  summary: "redis-benchmark -c 50 -P 16 against a key-value server and redis-server",
  async run(settings, shown): Promise<Report> {
    const get = await measure("get", settings, shown);
    const set = await measure("set", settings, shown);
    return { text: `${get.text}\n${set.text}`, groups: [...get.groups, ...set.groups] };
  },
};
