/**
 * Contenders that take turns. Every contender is a process of its own that stays alive and sleeps while the others
 * run, so that start-up and compilation are over before anything is measured. In each round every contender measures
 * every case once, in an order that moves on by one from round to round. A ratio is always taken between two
 * measurements of the same round and case: what slows the machine down for a while slows both.
 *
 * Nothing is pinned to a CPU unless a group says so. Programs run unpinned in real life, and pinned ones would have the
 * runtimes' compilers, collectors and thread pools share one CPU with the measured thread. The loops of C, which have
 * one thread, measure the same either way. Where a thread pool does the work it matters a great deal: handing a read
 * over to another thread and back took Bun and Deno 11 and 8 µs on one CPU, 15 to 35 µs and unsteadily so on two, while
 * with 128 reads in flight they gain by the second CPU. So `read` is measured both ways.
 */

import { Child, type Command, MissingError } from "./child.ts";
import { onCpu } from "./environment.ts";
import { progress } from "./progress.ts";

/** One measurement. */
export interface Sample {
  readonly ops: number;
  readonly ns: number;
}

/** Something that can be measured again and again until it is stopped. */
export interface Runner {
  /** Gets the case ready: caches, compiled code, the number of operations a round needs. */
  warm(parameter: number): Promise<void>;
  run(parameter: number): Promise<Sample>;
  /** A digest of what it does, which all contenders of a case must share. */
  check?(parameter: number): Promise<string>;
  stop(): Promise<void>;
}

/** One row of each case. */
export interface Contender {
  readonly id: string;
  readonly label: string;
  /** The cases it takes part in; all of the group's unless said. */
  readonly cases?: readonly number[];
  /** Starts it. Throws or rejects with a `MissingError` where it cannot be measured. */
  start(cpu: number | null): Runner | Promise<Runner>;
}

/** What a comparison has to reach, by case. */
export type Targets = Readonly<Record<number, number>>;

/** A contender and its peers; of several peers the one with the best median in a case stands for all. */
export interface Pair {
  readonly of: string;
  readonly peers: readonly string[];
  /** The least speed, or the most that it may take longer. */
  readonly targets?: Targets;
}

/** Contenders beside their peers. */
export interface Comparison {
  readonly heading: string;
  readonly pairs: readonly Pair[];
  /** `speed`: how many times as fast as the peer. `extra`: how much longer than the peer, in nanoseconds. */
  readonly kind: "speed" | "extra";
}

/** Contenders and cases that are measured together. */
export interface Group {
  readonly title: string;
  /** What the parameter of a case is: "batch", "depth"; empty if there is but one case. */
  readonly parameter: string;
  readonly cases: readonly number[];
  readonly contenders: readonly Contender[];
  readonly comparisons: readonly Comparison[];
  /** Bytes that an operation moves, for a column of MB/s. */
  readonly bytesPerOp?: number;
  /** Rounds, if fewer were asked for. */
  readonly leastRounds?: number;
  /** The CPU everything is pinned to. */
  readonly cpu?: number;
}

/** All samples of one contender in one case, by round, or why there are none. */
export interface Series {
  readonly contender: string;
  readonly parameter: number;
  readonly samples: readonly Sample[];
  readonly missing: string | null;
}

/** What a group gave. */
export interface GroupResult {
  readonly group: Group;
  readonly rounds: number;
  readonly series: readonly Series[];
}

/** How long and how often. */
export interface Settings {
  readonly rounds: number;
  readonly roundMs: number;
}

/** How a long-lived child is warmed up. */
export interface Warmth {
  readonly minOps: number;
  readonly minMs: number;
  readonly roundMs: number;
}

/** A contender whose process speaks the protocol of `bench/c/rounds.h`. */
export interface Spoken {
  readonly id: string;
  readonly label: string;
  readonly cases?: readonly number[];
  /** The command; throws a `MissingError` where there is none. */
  command(): Command;
  /** How many operations are checked against the peers', once. */
  readonly checkedOps?: (parameter: number) => number;
}

function spoken(contender: Spoken, run: (child: Child) => Pick<Runner, "warm" | "run">): Contender {
  const { command, checkedOps, ...rest } = contender;
  return {
    ...rest,
    start(cpu: number | null): Runner {
      const plain = command();
      const child = new Child(cpu === null ? plain : onCpu(cpu, plain));
      return {
        ...run(child),
        ...(checkedOps === undefined ? {} : {
          check: (parameter: number) => child.ask(`check ${parameter} ${checkedOps(parameter)}`),
        }),
        stop: () => child.stop(),
      };
    },
  };
}

/** A contender that does the same over and over, as often as a round needs. */
export function longLived(contender: Spoken & { readonly warmth: Warmth }): Contender {
  const { warmth, ...rest } = contender;
  return spoken(rest, (child) => ({
    async warm(parameter: number): Promise<void> {
      const { minOps, minMs, roundMs } = warmth;
      expectLine(await child.ask(`warm ${parameter} ${minOps} ${minMs} ${roundMs}`), "ready", 1);
    },
    async run(parameter: number): Promise<Sample> {
      const [ops = 0, ns = 0] = expectLine(await child.ask(`run ${parameter}`), "done", 2);
      return { ops, ns };
    },
  }));
}

/** A piece of work that is made ready before each sample. */
export interface Preparation {
  /** How many operations it is. */
  ops(parameter: number): number;
  /** Makes it ready; throws a `MissingError` where that cannot be. */
  prepare(parameter: number): void | Promise<void>;
  /** Looks at what was done. */
  verify?(parameter: number): void | Promise<void>;
}

/** How often what is prepared is done before anything is measured: for the runtimes' compilers. */
const PREPARED_WARM_UPS = 2;

/** A contender that does a piece of work once for each sample. */
export function prepared(contender: Spoken & { readonly work: Preparation }): Contender {
  const { work, ...rest } = contender;
  return spoken(rest, (child) => {
    const run = async (parameter: number): Promise<Sample> => {
      await work.prepare(parameter);
      const [ops = 0, ns = 0] = expectLine(
        await child.ask(`once ${parameter} ${work.ops(parameter)}`),
        "done",
        2,
      );
      return { ops, ns };
    };
    return {
      async warm(parameter: number): Promise<void> {
        for (let i = 0; i < PREPARED_WARM_UPS; i++) await run(parameter);
        await work.verify?.(parameter);
      },
      run,
    };
  });
}

function expectLine(line: string, verb: string, count: number): number[] {
  const [found, ...words] = line.split(" ");
  const numbers = words.map(Number);
  if (found !== verb || numbers.length !== count || numbers.some((value) => !(value > 0))) {
    throw new MissingError(`said "${line}"`);
  }
  return numbers;
}

/** A contender while it is being measured. */
interface Entrant {
  readonly contender: Contender;
  readonly cases: readonly number[];
  readonly samples: Map<number, Sample[]>;
  readonly digests: Map<number, string>;
  runner: Runner | null;
  missing: string | null;
}

async function attempt(entrant: Entrant, action: (runner: Runner | null) => Promise<void>): Promise<void> {
  if (entrant.missing !== null) return;
  try {
    await action(entrant.runner);
  } catch (error) {
    if (!(error instanceof MissingError)) throw error;
    entrant.missing = error.message;
  }
}

async function enter(group: Group, contender: Contender): Promise<Entrant> {
  const cases = group.cases.filter((parameter) => contender.cases?.includes(parameter) ?? true);
  const samples = new Map(cases.map((parameter): [number, Sample[]] => [parameter, []]));
  const entrant: Entrant = { contender, cases, samples, digests: new Map(), runner: null, missing: null };
  await attempt(entrant, async () => {
    entrant.runner = await contender.start(group.cpu ?? null);
  });
  for (const parameter of cases) {
    progress(`${group.title}: warming up`, `${contender.label} ${group.parameter} ${parameter}`);
    await attempt(entrant, async (runner) => {
      await runner?.warm(parameter);
      const digest = await runner?.check?.(parameter);
      if (digest !== undefined) entrant.digests.set(parameter, digest);
    });
  }
  return entrant;
}

/** Contenders that do something else than their peers are a mistake of the benchmark's. */
function assertSame(group: Group, entrants: readonly Entrant[]): void {
  for (const parameter of group.cases) {
    const digests = entrants.map(({ digests }) => digests.get(parameter) ?? null);
    if (new Set(digests.filter((digest) => digest !== null)).size <= 1) continue;
    const said = entrants.map(({ contender }, i) => `${contender.id}: ${digests[i]}`);
    throw new Error(`${group.title} ${parameter}: not the same work: ${said.join(", ")}`);
  }
}

/** Measures a group: every contender in every case, round by round. */
export async function runGroup(group: Group, settings: Settings): Promise<GroupResult> {
  const rounds = Math.max(settings.rounds, group.leastRounds ?? 1);
  const entrants: Entrant[] = [];
  try {
    for (const contender of group.contenders) entrants.push(await enter(group, contender));
    assertSame(group, entrants);
    for (let round = 0; round < rounds; round++) {
      const shift = round % entrants.length;
      const order = [...entrants.slice(shift), ...entrants.slice(0, shift)];
      for (const parameter of group.cases) {
        for (const entrant of order) {
          if (!entrant.cases.includes(parameter)) continue;
          const what = `${entrant.contender.label} ${group.parameter} ${parameter}`;
          progress(`${group.title}: measuring`, `round ${round + 1} of ${rounds}  ${what}`);
          await attempt(entrant, async (runner) => {
            if (runner !== null) entrant.samples.get(parameter)?.push(await runner.run(parameter));
          });
        }
      }
    }
  } finally {
    await Promise.all(entrants.map((entrant) => entrant.runner?.stop()));
  }
  const series = entrants.flatMap(({ contender, cases, samples, missing }) =>
    cases.map((parameter): Series => ({
      contender: contender.id,
      parameter,
      samples: missing === null ? samples.get(parameter) ?? [] : [],
      missing,
    }))
  );
  return { group, rounds, series };
}
