/** Servers of static files. */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Benchmark, Report } from "../benchmark.ts";
import { MissingError } from "../child.ts";
import { CACHE, example, type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
import { nginxFiles } from "../peers.ts";
import {
  asServer,
  installed,
  measureServers,
  served,
  type ServerContender,
  startServer,
} from "../servers.ts";

const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
const CONNECTIONS = 64;
const SIZE = 1024;
const FILE = "file.txt";

/** A directory with one file. */
function site(): string {
  const directory = join(CACHE, "site");
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, FILE), "x".repeat(SIZE));
  return directory;
}

const through = (directory: string, runtime: Runtime, api: string, label: string): ServerContender => ({
  id: api,
  label,
  start: () =>
    startServer(asServer(script(runtime, "http.ts", [api, directory], { allow: ["net", "read", "env"] }))),
});

function contenders(directory: string): ServerContender[] {
  return [
    { id: "nginx", label: "nginx", start: () => nginxFiles(directory) },
    ...RUNTIMES.map((runtime) => ({
      id: runtime,
      label: `uring (examples/http.ts) on ${RUNTIME_NAMES[runtime]}`,
      start: () => startServer(asServer(example(runtime, "http.ts", ["0", directory]))),
    })),
    through(directory, "bun", "bun-file", "Bun.serve, Bun.file"),
    through(directory, "bun", "bun-static", "Bun.serve, static route in memory"),
    through(directory, "deno", "deno-file", "Deno.serve, Deno.open"),
    through(directory, "deno", "deno-static", "Deno.serve, bytes in memory"),
  ];
}

const speed = (heading: string, peers: readonly string[], least?: number) => ({
  heading,
  kind: "speed" as const,
  pairs: RUNTIMES.map((of) => ({
    of,
    peers,
    ...(least === undefined ? {} : { targets: { [CONNECTIONS]: least } }),
  })),
});

/** `wrk` with a file of 1 KiB. */
export const http: Benchmark = {
  name: "http",
  summary: "wrk -c 64 against servers of static files, 1 KiB",
  async run(settings, shown): Promise<Report> {
    const program = installed("wrk");
    return await measureServers(
      {
        title: "http",
        unit: "request",
        parameter: "connections",
        cases: [CONNECTIONS],
        contenders: contenders(site()),
        measure: (server, connections) => {
          // A second is the least that it takes.
          const args = [
            "-t",
            "1",
            "-c",
            String(connections),
            "-d",
            "1s",
            `http://127.0.0.1:${server.port}/${FILE}`,
          ];
          return served(server, { program, args }, (stdout) => {
            const [, ops, seconds] = /(\d+) requests in ([\d.]+)s/.exec(stdout) ?? [];
            if (ops === undefined || seconds === undefined || /Non-2xx|Socket errors/.test(stdout)) {
              throw new MissingError(`wrk said "${stdout.slice(0, 200)}"`);
            }
            return { ops: Number(ops), wallNs: Number(seconds) * 1e9 };
          });
        },
        cpu: [
          speed("Bun.serve, Bun.file", ["bun-file"], 0.9),
          speed("Bun.serve, in memory", ["bun-static"]),
          speed("Deno.serve's best", ["deno-file", "deno-static"], 1.5),
          speed("nginx", ["nginx"]),
        ],
      },
      settings,
      shown,
    );
  },
};
