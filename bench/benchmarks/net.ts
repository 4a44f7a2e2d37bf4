/** The benchmarks of `uring/net` and of the programs made with it. */

import type { Benchmark } from "../benchmark.ts";
import { echo, stream } from "./echo.ts";
import { pipeline } from "./pipeline.ts";

/** Servers. */
export const servers: readonly Benchmark[] = [echo, stream, pipeline];
