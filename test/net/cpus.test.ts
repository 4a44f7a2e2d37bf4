/** Listeners that share a port, each for a CPU. */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { promisify } from "node:util";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { listen } from "../../src/net/mod.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { until, within } from "../support/loop.ts";

checkLeaks({ sharedRings: 1 });

const CONNECTIONS = 12;

/** Why there are no two CPUs to choose from, or `false`. */
function missingCpus(): string | false {
  if (!kernelHas("6.2")) return "needs Linux 6.2";
  try {
    for (const cpu of ["0", "1"]) execFileSync("taskset", ["-c", cpu, "true"], { stdio: "ignore" });
    return false;
  } catch {
    return "needs taskset, and two CPUs";
  }
}

/** Connects so often from one CPU. */
async function connectFrom(cpu: number, port: number): Promise<void> {
  const script = `for i in {1..${CONNECTIONS}}; do exec {fd}<>/dev/tcp/127.0.0.1/${port}; done`;
  await within(promisify(execFile)("taskset", ["-c", String(cpu), "bash", "-c", script]), "a client");
}

test("connections go to the listener of the CPU that they come in on", { skip: missingCpus() }, async () => {
  const counts = [0, 0];
  const listenFor = (cpu: number, port: number) =>
    listen({
      port,
      hostname: "127.0.0.1",
      reusePort: true,
      cpu,
      socket: { open: () => void counts[cpu]!++, error() {} },
    });
  const first = listenFor(0, 0);
  const second = listenFor(1, first.port);
  for (const cpu of [1, 0]) {
    await connectFrom(cpu, first.port);
    await until(() => counts[0]! + counts[1]! === CONNECTIONS * (2 - cpu), "the connections");
    assert.deepEqual(counts, cpu === 1 ? [0, CONNECTIONS] : [CONNECTIONS, CONNECTIONS]);
  }
  await Promise.all([first.drain(), second.drain()]);
});
