/** Servers that send datagrams back. */

import type { Benchmark } from "../benchmark.ts";
import { runToEnd } from "../child.ts";
import { compiled, example, type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
import type { Pair } from "../harness.ts";
import {
  asClient,
  asServer,
  measureServers,
  type Served,
  type Server,
  type ServerContender,
  startServer,
} from "../servers.ts";

const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const SIZE = 64;
const WINDOW = 16;
const WARM_MS = 50;
const FIRST_WARM_MS = 500;

const inC = (kind: string, label: string): ServerContender => ({
  id: `c-${kind}`,
  label,
  start: () => startServer(asServer(compiled(`udp_${kind}`, ["0"]))),
});

const uring = (runtime: Runtime, style: string, label: string): ServerContender => ({
  id: `${runtime}-${style}`,
  label: `${label} on ${RUNTIME_NAMES[runtime]}`,
  start: () => startServer(asServer(example(runtime, "udp-echo.ts", ["0", "--style", style]))),
});

const through = (runtime: Runtime, api: string, label: string): ServerContender => ({
  id: `${runtime}-${api}`,
  label: `${label} on ${RUNTIME_NAMES[runtime]}`,
  start: () =>
    startServer(asServer(script(runtime, "udp.ts", [api], {
      allow: ["net", "env", "read", "sys"],
      // Deno calls its datagrams unstable.
      ...(api === "deno-datagram" ? { flags: ["--unstable-net"] } : {}),
    }))),
});

/** One turn of the client. */
async function load(server: Server, sockets: number, warmMs: number, ms: number): Promise<Served> {
  // One socket tells how long a datagram takes, several how many there can be.
  const window = sockets === 1 ? 1 : WINDOW;
  const args = [server.port, server.pid, sockets, window, SIZE, warmMs, ms].map(String);
  const { stdout } = await runToEnd(asClient(compiled("udp_load", args)));
  const [ops = NaN, wallNs = NaN, cpuNs = NaN, roundTripNs = NaN] = stdout.split(" ").slice(1).map(Number);
  return { ops, wallNs, cpuNs, roundTripNs };
}

const both = (style: string, peers: readonly string[]): Pair[] =>
  RUNTIMES.map((runtime) => ({ of: `${runtime}-${style}`, peers }));

const speed = (heading: string, pairs: readonly Pair[]) => ({ heading, kind: "speed", pairs }) as const;

const NODE = ["bun-node-dgram"];

/** Datagrams of 64 bytes. */
export const udp: Benchmark = {
  name: "udp",
  summary: "servers that send datagrams of 64 B back: 1 socket with one under way, 1 to 256 with 16 each",
  run: (settings, shown) =>
    measureServers(
      {
        title: "udp, 64 B",
        unit: "datagram",
        parameter: "client's sockets",
        cases: [1, 16, 256],
        contenders: [
          inC("uring", "C, liburing"),
          inC("epoll", "C, epoll, recvmmsg, sendmmsg"),
          ...RUNTIMES.flatMap((runtime) => [
            uring(runtime, "handlers", "uring, handlers"),
            uring(runtime, "streams", "uring, for await"),
          ]),
          through("bun", "bun-udp", "Bun.udpSocket"),
          through("deno", "deno-datagram", "Deno.listenDatagram"),
          // Deno's hears nothing any more once a client has gone.
          through("bun", "node-dgram", "node:dgram"),
        ],
        measure: (server, sockets, warming) =>
          load(server, sockets, warming ? FIRST_WARM_MS : WARM_MS, settings.roundMs),
        cpu: [
          speed("C, liburing", both("handlers", ["c-uring"])),
          speed("C, epoll", both("handlers", ["c-epoll"])),
          speed("Bun.udpSocket", both("handlers", ["bun-bun-udp"])),
          speed("Deno.listenDatagram", both("handlers", ["deno-deno-datagram"])),
          speed("node:dgram", both("handlers", NODE)),
          speed("Deno.listenDatagram", both("streams", ["deno-deno-datagram"])),
          speed("node:dgram", both("streams", NODE)),
        ],
        roundTrip: [speed("C, epoll", both("handlers", ["c-epoll"]))],
      },
      settings,
      shown,
    ),
};
