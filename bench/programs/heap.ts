/**
 * Ten million NOPs through the raw ring, and what the heap looks like before and after. Usage: heap.ts OPERATIONS
 * Prints one line of JSON, and `begin` and `end` on stderr around the loop, where the runtimes are told to log their
 * collections too.
 */

import { writeSync } from "node:fs";
import process from "node:process";
import {
  type Cqe,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  Ring,
} from "../../src/ring/mod.ts";

const BATCH = 128;
const ENTRIES = 256;
const WARM_UP = 2_000_000;

/** What is measured, in bytes, with no garbage left. */
async function heapMeter(): Promise<() => number> {
  const { Bun, gc } = globalThis as unknown as { Bun?: { gc(force: boolean): void }; gc?: () => void };
  if (Bun !== undefined) {
    const name: string = "bun:jsc";
    const { heapStats } = await import(name) as { heapStats(): { heapSize: number } };
    return () => {
      Bun.gc(true);
      return heapStats().heapSize;
    };
  }
  if (gc === undefined) throw new Error("no gc(): --v8-flags=--expose-gc");
  return () => {
    gc();
    return process.memoryUsage().heapUsed;
  };
}

const ring = new Ring(ENTRIES, { flags: IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN });
ring.registerRingFd();
let sum = 0;

function visit(cqe: Cqe): void {
  sum = (sum + cqe.userData + cqe.res) | 0; // An integer: see nop.ts.
}

function nops(ops: number): void {
  for (let done = 0; done < ops; done += BATCH) {
    for (let i = 0; i < BATCH; i++) {
      const sqe = ring.getSqe();
      if (sqe === null) throw new Error("the submission queue is full");
      sqe.prepNop();
      sqe.userData = i;
    }
    ring.submitAndWait(BATCH);
    ring.forEachCqe(visit);
  }
}

const operations = Math.ceil(Number(process.argv[2] ?? "0") / BATCH) * BATCH;
const heap = await heapMeter();
nops(WARM_UP);
heap(); // Twice: the first collection may leave what only the second finds dead.
const before = heap();
sum = 0;
writeSync(2, "begin\n");
const start = performance.now();
nops(operations);
const ms = performance.now() - start;
writeSync(2, "end\n");
const after = heap();
if (sum !== operations * (BATCH - 1) / 2) throw new Error("not every operation completed");
ring.close();
writeSync(1, `${JSON.stringify({ operations, before, after, ms })}\n`);
