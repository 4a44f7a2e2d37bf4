/**
 * The part of the demo that runs under the runtime in question: reads files as it is told, line by line, on its standard
 * input, and answers each line with one on its standard output. The other end is `runtime.ts`.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import process from "node:process";
import { createInterface } from "node:readline";
import { Uring } from "uring";
import { type Pass, readAll, type Way, waysHere } from "./ways.ts";

/** What the reader is asked to do. */
export type Request =
  /** Use these lists from now on. */
  | { readonly ask: "files"; readonly lists: Lists }
  /** Read all files of one. */
  | { readonly ask: "read"; readonly way: string; readonly list: keyof Lists; readonly hash?: boolean };

/** Lists of files to be read. */
export interface Lists {
  /** All there are. */
  readonly all: readonly string[];
  /** The small ones. */
  readonly small: readonly string[];
  /** So many that it is no trouble to trace reading them. */
  readonly sample: readonly string[];
}

/** What it answers at the start and to `files`: what there is. */
export interface Ready {
  readonly runtime: string;
  readonly ways: readonly Pick<Way, "id" | "label" | "blocks">[];
}

/** What it answers to `read`. */
export interface Result extends Pass {
  /** How often uring entered the kernel meanwhile. */
  readonly enters: number;
  /** The SHA-256 of each file in hexadecimal, or null where it could not be read; empty unless asked for. */
  readonly digests: readonly (string | null)[];
}

/** What comes before a result that takes long. */
export interface Underway {
  readonly done: number;
}

const PROGRESS_MS = 250;

function say(line: Ready | Result | Underway): Promise<void> {
  return new Promise((resolve) => process.stdout.write(`${JSON.stringify(line)}\n`, () => resolve()));
}

async function read(
  uring: Uring,
  way: Way,
  paths: readonly string[],
  hash: boolean,
): Promise<Result> {
  const digests: (string | null)[] = [];
  const hashes: (Hash | undefined)[] = [];
  let done = 0;
  const progress = setInterval(() => void say({ done }), PROGRESS_MS);
  const { enters } = uring.stats;
  const pass = await readAll(way, paths, {
    open(index) {
      if (!hash) return () => {};
      const sum = createHash("sha256");
      hashes[index] = sum;
      digests[index] = null;
      return (piece) => sum.update(piece);
    },
    done(index) {
      done++;
      if (!hash) return;
      digests[index] = hashes[index]!.digest("hex");
      hashes[index] = undefined;
    },
  });
  clearInterval(progress);
  return { ...pass, enters: uring.stats.enters - enters, digests };
}

async function main(): Promise<void> {
  await using uring = new Uring();
  const ways = waysHere(uring);
  const { bun, deno } = process.versions as { bun?: string; deno?: string };
  const ready: Ready = {
    runtime: bun === undefined ? `Deno ${deno}` : `Bun ${bun}`,
    ways: ways.map(({ id, label, blocks }) => ({ id, label, blocks })),
  };
  await say(ready);
  let lists: Lists = { all: [], small: [], sample: [] };
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as Request;
    if (request.ask === "files") {
      lists = request.lists;
      await say(ready);
      continue;
    }
    const way = ways.find(({ id }) => id === request.way);
    if (way === undefined) throw new Error(`no way of reading is called ${request.way}`);
    await say(await read(uring, way, lists[request.list], request.hash === true));
  }
}

await main();
