/** Proxies for TCP. */

import type { Benchmark, Report } from "../benchmark.ts";
import { runToEnd } from "../child.ts";
import { compiled, example, type Runtime, RUNTIME_NAMES } from "../environment.ts";
import { nginxStream } from "../peers.ts";
import { asClient, asServer, measureServers, type Served, type Server, startServer } from "../servers.ts";

const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const SIZE = 1024 * 1024;
const WARM_MS = 50;
const FIRST_WARM_MS = 300;
const CASES = [1, 16];

async function load(proxy: Server, connections: number, warmMs: number, ms: number): Promise<Served> {
  const args = ["echo", proxy.port, proxy.pid, connections, SIZE, warmMs, ms].map(String);
  const { stdout } = await runToEnd(asClient(compiled("load", args)));
  const [ops = NaN, wallNs = NaN, cpuNs = NaN] = stdout.split(" ").slice(1).map(Number);
  return { ops, wallNs, cpuNs };
}

/** Messages of 1 MiB through a proxy to a server that sends them back. */
export const proxy: Benchmark = {
  name: "proxy",
  summary: "1 MiB and back through a TCP proxy, beside nginx's",
  async run(settings, shown): Promise<Report> {
    const backend = await startServer(asClient(compiled("echo_epoll", ["0"])));
    const targets = Object.fromEntries(CASES.map((connections) => [connections, 1]));
    try {
      return await measureServers(
        {
          title: "proxy",
          unit: "MiB there and back",
          parameter: "connections",
          cases: CASES,
          contenders: [
            { id: "nginx", label: "nginx, stream", start: () => nginxStream(backend.port) },
            ...RUNTIMES.map((runtime) => ({
              id: runtime,
              label: `uring (examples/proxy.ts) on ${RUNTIME_NAMES[runtime]}`,
              start: () =>
                startServer(asServer(example(runtime, "proxy.ts", ["0", `127.0.0.1:${backend.port}`]))),
            })),
          ],
          measure: (server, connections, warming) =>
            load(server, connections, warming ? FIRST_WARM_MS : WARM_MS, 2 * settings.roundMs),
          cpu: [{
            heading: "nginx",
            kind: "speed",
            pairs: RUNTIMES.map((of) => ({ of, peers: ["nginx"], targets })),
          }],
          wall: [{
            heading: "nginx",
            kind: "speed",
            pairs: RUNTIMES.map((of) => ({ of, peers: ["nginx"] })),
          }],
          bytesPerOp: 2 * SIZE,
        },
        settings,
        shown,
      );
    } finally {
      await backend.stop();
    }
  },
};
