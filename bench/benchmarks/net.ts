/** The benchmarks of `uring/net` and of the programs made with it. */

import type { Benchmark } from "../benchmark.ts";
import { echo, stream } from "./echo.ts";
import { idleConnections } from "./idle_connections.ts";
import { http } from "./http.ts";
import { pipeline } from "./pipeline.ts";
import { proxy } from "./proxy.ts";
import { udp } from "./udp.ts";
import { workers } from "./workers.ts";

/** Servers. */
export const servers: readonly Benchmark[] = [
  echo,
  stream,
  pipeline,
  http,
  proxy,
  udp,
  workers,
  idleConnections,
];
