/**
 * NOPs through the raw ring, in batches. Usage: nop.ts SETUP_FLAGS REGISTERED(0|1). Twin of `bench/c/nop.c`.
 */

import process from "node:process";
import { type Cqe, Ring } from "../../src/ring/mod.ts";
import { serve } from "./rounds.ts";

const ENTRIES = 256;

const [flags = "0", registered = "0"] = process.argv.slice(2);
const ring = new Ring(ENTRIES, { flags: Number(flags) });
if (registered === "1") ring.registerRingFd();

/** Modulo 2³², so that it stays what the engines keep as a plain integer: a growing `number` would be allocated. */
let sum = 0;

function visit(cqe: Cqe): void {
  if (cqe.res !== 0) throw new Error(`a NOP gave ${cqe.res}`);
  sum = (sum + cqe.userData) | 0;
}

function expectedSum(ops: number): bigint {
  return BigInt.asUintN(32, BigInt(ops) * BigInt(ops - 1) / 2n);
}

function nops(batch: number, ops: number): void {
  sum = 0;
  for (let done = 0; done < ops; done += batch) {
    for (let i = 0; i < batch; i++) {
      const sqe = ring.getSqe();
      if (sqe === null) throw new Error(`the submission queue is full at ${i} of ${batch}`);
      sqe.prepNop();
      sqe.userData = done + i;
    }
    const submitted = ring.submitAndWait(batch);
    if (submitted !== batch) throw new Error(`submitAndWait gave ${submitted} instead of ${batch}`);
    const seen = ring.forEachCqe(visit);
    if (seen !== batch) throw new Error(`${seen} completions instead of ${batch}`);
  }
  if (BigInt.asUintN(32, BigInt(sum)) !== expectedSum(ops)) throw new Error("the sum of userData is wrong");
}

await serve(nops);
ring.close();
