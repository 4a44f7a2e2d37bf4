/**
 * The measured program's end of the conversation with the harness; `bench/c/rounds.h` is its twin in C and tells the
 * protocol. Between two requests the process sleeps in a blocking `read(2)` of its standard input, so that it takes
 * nothing from the contender whose turn it is.
 */

import { readSync, writeSync } from "node:fs";

/** Runs `ops` operations (a multiple of `parameter`) of the case named by its parameter: a batch or a depth. */
export type Body = (parameter: number, ops: number) => void | Promise<void>;

/** The seed of the sequence of pages, the same in every program. */
export const SEED: number = 0x9e3779b9 | 0;

/** Xorshift with 32 bits, as in `rounds.h`. Only the low bits are meant to be used: the result may be negative. */
export function nextRandom(x: number): number {
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  return x;
}

/** Whether bodies are to add what they have read or done to the digest, in whichever order. */
let checking = false;
let sum = 0;

/** The digest that a `check` asks for, beside all peers'. */
export const digest: { readonly wanted: boolean; add(value: number): void } = {
  get wanted(): boolean {
    return checking;
  },
  add(value: number): void {
    sum = (sum + value) >>> 0;
  },
};

function roundUp(ops: number, parameter: number): number {
  return Math.ceil(ops / parameter) * parameter;
}

async function timed(body: Body, parameter: number, ops: number): Promise<number> {
  const start = performance.now();
  await body(parameter, ops);
  return performance.now() - start;
}

async function warm(
  body: Body,
  parameter: number,
  minOps: number,
  minMs: number,
  roundMs: number,
): Promise<number> {
  let ops = roundUp(64, parameter);
  let totalOps = 0;
  let totalMs = 0;
  for (;;) {
    const ms = await timed(body, parameter, ops);
    totalOps += ops;
    totalMs += ms;
    if (totalOps >= minOps && totalMs >= minMs && ms >= roundMs / 4) {
      return roundUp(ops * roundMs / ms, parameter);
    }
    if (ms < roundMs / 2) ops *= 2;
  }
}

function* linesOfStdin(): Generator<string> {
  const bytes = new Uint8Array(4096);
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const end = text.indexOf("\n");
    if (end >= 0) {
      yield text.slice(0, end);
      text = text.slice(end + 1);
      continue;
    }
    const count = readSync(0, bytes);
    if (count === 0) return;
    text += decoder.decode(bytes.subarray(0, count), { stream: true });
  }
}

/** Answers the harness until it closes the pipe. */
export async function serve(body: Body): Promise<void> {
  const opsOfCase = new Map<number, number>();
  for (const line of linesOfStdin()) {
    const [verb, ...words] = line.split(" ");
    const [parameter = 0, minOps = 0, minMs = 0, roundMs = 0] = words.map(Number);
    if (verb === "warm") {
      const ops = await warm(body, parameter, minOps, minMs, roundMs);
      opsOfCase.set(parameter, ops);
      writeSync(1, `ready ${ops}\n`);
    } else if (verb === "run") {
      const ops = opsOfCase.get(parameter);
      if (ops === undefined) throw new Error(`a case that was never warmed: ${line}`);
      // A tenth first, unmeasured: other processes had the caches since the last round.
      await body(parameter, roundUp(ops / 10, parameter));
      const ms = await timed(body, parameter, ops);
      writeSync(1, `done ${ops} ${Math.round(ms * 1e6)}\n`);
    } else if (verb === "once") {
      const ms = await timed(body, parameter, minOps);
      writeSync(1, `done ${minOps} ${Math.round(ms * 1e6)}\n`);
    } else if (verb === "check") {
      checking = true;
      sum = 0;
      await body(parameter, minOps);
      checking = false;
      writeSync(1, `checked ${sum}\n`);
    } else {
      throw new Error(`not understood: ${line}`);
    }
  }
}
