/** Proxies for TCP. */

import type { Benchmark, Report } from "../benchmark.ts";
import { compiled, example, type Runtime, RUNTIME_NAMES } from "../environment.ts";
import { nginxStream } from "../peers.ts";
import { asClient, asServer, load, loadCommand, measureServers, startServer } from "../servers.ts";

const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const SIZE = 1024 * 1024;
const WARM_MS = 50;
const FIRST_WARM_MS = 300;
const FIRST_MESSAGES = 300;
const CASES = [1, 16];

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
          measure: (server, connections, warming) => {
            const warm = warming
              ? { ms: FIRST_WARM_MS, messages: FIRST_MESSAGES }
              : { ms: WARM_MS, messages: 2 * connections };
            return load(asClient(loadCommand(server, connections, SIZE, warm, 2 * settings.roundMs)));
          },
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
