/**
 * Awaited NOPs, DEPTH of them in flight. Usage: await_nop.ts workers|all
 * `workers`: DEPTH loops, each awaiting one NOP after the other. `all`: `Promise.all` of DEPTH, again and again.
 */

import process from "node:process";
import { Uring } from "../../src/mod.ts";
import { serve } from "./rounds.ts";

const uring = new Uring({ entries: 256 });

async function worker(ops: number): Promise<void> {
  for (let i = 0; i < ops; i++) await uring.nop();
}

async function workers(depth: number, ops: number): Promise<void> {
  if (depth === 1) return await worker(ops);
  const running: Promise<void>[] = [];
  for (let i = 0; i < depth; i++) running.push(worker(ops / depth));
  await Promise.all(running);
}

async function all(depth: number, ops: number): Promise<void> {
  for (let done = 0; done < ops; done += depth) {
    const pending: Promise<unknown>[] = [];
    for (let i = 0; i < depth; i++) pending.push(uring.nop());
    await Promise.all(pending);
  }
}

await serve(process.argv[2] === "all" ? all : workers);
await uring.disposeAsync();
