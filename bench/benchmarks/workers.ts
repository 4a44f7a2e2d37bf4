/**
 * One port, several threads. One Worker shares a CPU with its client; two Workers share two with two clients. So both are at
 * their limit, and twice the CPUs should do twice as much.
 */

import type { Benchmark, Report } from "../benchmark.ts";
import type { Command } from "../child.ts";
import { example, onCpu, type Runtime, RUNTIME_NAMES } from "../environment.ts";
import type { Pair } from "../harness.ts";
import {
  load,
  loadCommand,
  measureServers,
  type Served,
  type Server,
  type ServerContender,
  startServer,
  type Warming,
} from "../servers.ts";

const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const CONNECTIONS = 64;
const SIZE = 64;
const WARM_MS = 100;
const FIRST_WARM_MS = 600;
const FIRST_MESSAGES = 60_000;
/** What two threads on two CPUs do beside one on one. */
const LEAST = 1.8;
const SPREADS = ["hashed", "local", "dealt"] as const;
/** The way that is meant for it: others have messages go from CPU to CPU. */
const BEST: Spread = "local";

/** How connections come to the Workers: `examples/workers.ts` tells. */
type Spread = typeof SPREADS[number];

/** How many CPUs a server has, and how many clients. */
const cpusOf = new WeakMap<Server, number>();

function contender(runtime: Runtime, count: number, spread: Spread): ServerContender {
  const workers = count === 1 ? "one Worker" : `${count} Workers, ${spread}`;
  return {
    id: `${runtime}-${count}-${spread}`,
    label: `${workers} on ${RUNTIME_NAMES[runtime]}`,
    async start() {
      const args = ["0", "--workers", String(count), "--spread", spread];
      const command: Command = example(runtime, "workers.ts", args, { allow: ["ffi", "read"] });
      const server = await startServer(count === 1 ? onCpu(0, command) : command);
      cpusOf.set(server, count);
      return server;
    },
  };
}

/** A client on each CPU, at the same time; together they have all connections. */
async function loads(server: Server, warm: Warming, ms: number): Promise<Served> {
  const cpus = cpusOf.get(server) ?? 1;
  const client = loadCommand(server, CONNECTIONS, SIZE, warm, ms);
  const all = await Promise.all(Array.from({ length: cpus }, (_, cpu) => load(onCpu(cpu, client))));
  const sum = (of: (one: Served) => number): number => all.reduce((total, one) => total + of(one), 0);
  return {
    ops: sum(({ ops }) => ops),
    wallNs: sum(({ wallNs }) => wallNs) / cpus,
    cpuNs: sum(({ cpuNs }) => cpuNs) / cpus,
  };
}

/** Two Workers beside one. */
export const workers: Benchmark = {
  name: "workers",
  summary: "echo in two Workers on two CPUs, beside one on one",
  run(settings, shown): Promise<Report> {
    const pairs = (least: number): Pair[] =>
      RUNTIMES.flatMap((runtime) =>
        SPREADS.map((spread) => ({
          of: `${runtime}-2-${spread}`,
          peers: [`${runtime}-1-hashed`],
          ...(spread === BEST ? { targets: { [CONNECTIONS]: least } } : {}),
        }))
      );
    return measureServers(
      {
        title: "workers",
        unit: "message",
        parameter: "connections of a client",
        cases: [CONNECTIONS],
        contenders: RUNTIMES.flatMap((runtime) => [
          contender(runtime, 1, "hashed"),
          ...SPREADS.map((spread) => contender(runtime, 2, spread)),
        ]),
        measure: (server, _, warming) => {
          const warm = warming
            ? { ms: FIRST_WARM_MS, messages: FIRST_MESSAGES }
            : { ms: WARM_MS, messages: CONNECTIONS };
          return loads(server, warm, 2 * settings.roundMs);
        },
        // What a second of CPU time is worth: unlike the rate, it does not depend on what else the machine does.
        cpu: [{ heading: "one Worker", kind: "speed", pairs: pairs(LEAST / 2) }],
        wall: [{ heading: "one Worker", kind: "speed", pairs: pairs(LEAST) }],
      },
      settings,
      shown,
    );
  },
};
