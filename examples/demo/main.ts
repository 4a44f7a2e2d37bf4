/**
 * The demo: reads a tree of files through io_uring, under Bun and under Deno, beside the runtimes' own ways of doing it.
 * `scripts/demo` starts it; see `README.md` in this folder for what is compared and how.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import process from "node:process";
import { Progress } from "./progress.ts";
import type { Lists, Result } from "./reader.ts";
import { type ByWay, type Measured, notes, summaryOf, tableOf, type Timing, whole } from "./report.ts";
import { Runtime, type RuntimeName } from "./runtime.ts";
import { countCalls } from "./trace.ts";
import { evict, TreeError, walk } from "./tree.ts";
import { Verifier } from "./verdict.ts";
import { IN_FLIGHT } from "./ways.ts";

const CACHED_ROUNDS = 7;
const UNCACHED_ROUNDS = 3;
const HASHED_ROUNDS = 3;
/** A large tree is read less often: about so many seconds for all ways together. */
const BUDGET_SECONDS = 12;
/** strace makes calls slow: of a large tree only so many files are read under it. */
const TRACED_FILES = 5000;
const MOST_REPORTS = 10;

const progress = new Progress();

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

function timing(results: readonly Result[]): Timing {
  const { files, bytes } = results[0]!;
  return { files, bytes, seconds: median(results.map(({ seconds }) => seconds)) };
}

/** What is to be read. */
interface What {
  readonly list: keyof Lists;
  readonly hash?: boolean;
}

/** Measures one runtime. */
class Measurement {
  readonly #runtime: Runtime;
  readonly #lists: Lists;
  readonly #verifier: Verifier;

  constructor(runtime: Runtime, lists: Lists, verifier: Verifier) {
    this.#runtime = runtime;
    this.#lists = lists;
    this.#verifier = verifier;
  }

  async run(): Promise<Measured> {
    const { ready } = this.#runtime;
    const once = await this.#verify();
    const rounds = (most: number): number => Math.max(1, Math.min(most, Math.floor(BUDGET_SECONDS / once)));
    const hashed = await this.#rounds("with SHA-256", rounds(HASHED_ROUNDS), { list: "all", hash: true });
    const cached = await this.#rounds("cached", rounds(CACHED_ROUNDS), { list: "all" });
    const small = await this.#rounds("cached and small", rounds(CACHED_ROUNDS), { list: "small" });
    const enters = median(cached.get("uring")!.map(({ enters }) => enters));
    const calls = await this.#count();
    const before = this.#runtime.fetched();
    const drop = (): void => evict(this.#lists.all);
    const uncached = await this.#rounds("uncached", rounds(UNCACHED_ROUNDS), { list: "all" }, drop);
    const after = this.#runtime.fetched();
    const read = [...uncached.values()].flat().reduce((sum, { bytes }) => sum + bytes, 0);
    const fetched = before === null || after === null || read === 0 ? null : (after - before) / read;
    const timings = (results: ByWay<readonly Result[]>): ByWay<Timing> =>
      new Map([...results].map(([id, all]) => [id, timing(all)]));
    return {
      ready,
      cached: timings(cached),
      small: timings(small),
      uncached: timings(uncached),
      hashed: timings(hashed),
      calls,
      enters,
      fetched,
    };
  }

  /**
   * Has every file hashed in every way, for the verifier; it warms the cache and the compilers, too. Returns how many
   * seconds it took.
   */
  async #verify(): Promise<number> {
    const { runtime, ways } = this.#runtime.ready;
    let seconds = 0;
    progress.stage(`${runtime}: comparing what is read`, ways.length);
    for (const { id, label } of ways) {
      const result = await this.#read(id, { list: "all", hash: true });
      this.#verifier.add(`${runtime}, ${label}`, result);
      seconds += result.seconds;
    }
    return seconds;
  }

  /** Has all ways take turns. */
  async #rounds(
    title: string,
    rounds: number,
    what: What,
    before: () => void = () => {},
  ): Promise<ByWay<Result[]>> {
    const { runtime, ways } = this.#runtime.ready;
    const results = new Map<string, Result[]>(ways.map(({ id }) => [id, []]));
    progress.stage(`${runtime}: reading, ${title}`, rounds * ways.length);
    for (let round = 0; round < rounds; round++) {
      for (let i = 0; i < ways.length; i++) {
        const { id } = ways[(i + round) % ways.length]!;
        before();
        results.get(id)!.push(await this.#read(id, what));
      }
    }
    return results;
  }

  /** System calls of each way, scaled from a sample when there are many files. */
  async #count(): Promise<ByWay<number>> {
    const { runtime, ways } = this.#runtime.ready;
    const scale = this.#lists.all.length / this.#lists.sample.length;
    const counts = new Map<string, number>();
    progress.stage(`${runtime}: counting system calls`, ways.length);
    for (const { id } of ways) {
      const count = await countCalls(this.#runtime.pid, () => this.#read(id, { list: "sample" }));
      // Where one cannot be counted, none can.
      if (count === null) break;
      counts.set(id, count * scale);
    }
    return counts;
  }

  async #read(way: string, what: What): Promise<Result> {
    const total = this.#lists[what.list].length;
    const result = await this.#runtime.read({ way, ...what }, (done) => progress.part(done / total));
    progress.step();
    return result;
  }
}

function report(title: string, lines: readonly string[]): void {
  if (lines.length === 0) return;
  console.log(`\n${title}`);
  for (const line of lines.slice(0, MOST_REPORTS)) console.log(`  ${line}`);
  if (lines.length > MOST_REPORTS) console.log(`  … and ${lines.length - MOST_REPORTS} more`);
}

async function measure(name: RuntimeName, lists: Lists, verifier: Verifier): Promise<Measured> {
  await using runtime = await Runtime.start(name, lists);
  const measured = await new Measurement(runtime, lists, verifier).run();
  progress.clear();
  return measured;
}

/** Reads, compares, prints; returns the exit status. */
async function demo(directory: string): Promise<number> {
  const started = Date.now();
  const { paths, small, bytes, unlisted } = walk(directory);
  if (paths.length === 0) {
    report("directories that cannot be listed:", unlisted);
    throw new TreeError(`there are no files under ${directory}`);
  }
  const size = `${(bytes / 1e6).toFixed(1)} MB`;
  console.log(`${whole(paths.length)} files (${size}) under ${directory}, ${IN_FLIGHT} in flight\n`);
  const step = Math.ceil(paths.length / TRACED_FILES);
  const lists = { all: paths, small, sample: paths.filter((_, i) => i % step === 0) };
  // What is not on disk yet cannot be dropped from memory.
  spawnSync("sync");
  const verifier = new Verifier(paths, started);
  const all: Measured[] = [];
  for (const name of ["bun", "deno"] as const) {
    const measured = await measure(name, lists, verifier);
    all.push(measured);
    console.log(`${tableOf(measured)}\n`);
  }
  console.log(notes(all, step > 1));
  console.log(`\n${all.map(summaryOf).join("\n")}`);

  const { agreed, reports, faults } = verifier.verdict();
  report("directories that cannot be listed:", unlisted);
  report("files that were not compared:", reports);
  report("FILES ON WHICH THE WAYS DISAGREE:", faults);
  console.log(`\n${whole(agreed)} of ${whole(paths.length)} digests agree in all ${verifier.ways} readings`);
  if (agreed === 0) throw new TreeError(`no file under ${directory} could be read`);
  return faults.length === 0 ? 0 : 1;
}

async function main(args: readonly string[]): Promise<number> {
  const [directory] = args;
  if (directory === undefined || args.length > 1 || directory.startsWith("-")) {
    console.error("usage: scripts/demo [directory]");
    return directory === "--help" || directory === "-h" ? 0 : 2;
  }
  try {
    return await demo(directory);
  } catch (error) {
    progress.clear();
    if (!(error instanceof TreeError)) throw error;
    console.error(`demo: ${error.message}`);
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
