/** What the benchmarks of `uring/fs` share: contenders in C, through `uring/fs` and through the runtimes' own APIs. */

import type { Benchmark, Report } from "../benchmark.ts";
import { runToEnd } from "../child.ts";
import { compiled, type Runtime, RUNTIME_NAMES, script } from "../environment.ts";
import {
  type Contender,
  type Group,
  longLived,
  type Pair,
  type Preparation,
  prepared,
  type Runner,
  type Settings,
  type Spoken,
  type Targets,
} from "../harness.ts";
import { measureGroups } from "../report.ts";

const RUNTIMES: readonly Runtime[] = ["bun", "deno"];

/** One way to do it: in C, or through an API of one runtime. */
export interface Way {
  readonly api: string;
  readonly label: string;
  /** Only in this runtime. */
  readonly only?: Runtime;
}

/** What every file's benchmark stands beside. */
export const PROMISES: Way = { api: "fs-promises", label: "fs.promises" };

/** What contenders of one kind of work are. */
export interface Work {
  /** The programs in C, by the API's name, and their arguments. */
  readonly c: readonly (Way & { readonly args: readonly string[] })[];
  /** The name of the program in C. */
  readonly program: string;
  /** The first argument of `programs/files.ts`. */
  readonly what: string;
  /** The ways in both runtimes, or in one. */
  readonly ways: readonly Way[];
  /** Further arguments of `programs/files.ts`. */
  readonly args: readonly string[];
  /** How many operations are checked against those of the others. */
  readonly checkedOps?: (parameter: number) => number;
  /** For work that must be made ready before each sample. */
  readonly preparation?: Preparation;
}

/** The contenders of one kind of work. */
export function contenders(work: Work, { roundMs }: Settings): Contender[] {
  const { c, program, what, ways, args, checkedOps, preparation } = work;
  const checks = checkedOps === undefined ? {} : { checkedOps };
  const make = (spoken: Spoken): Contender =>
    preparation === undefined
      ? longLived({ ...spoken, ...checks, warmth: { minOps: 1, minMs: 400, roundMs } })
      : prepared({ ...spoken, ...checks, work: preparation });
  const inC = c.map(({ api, label, args }) =>
    make({ id: `c-${api}`, label: `C, ${label}`, command: () => compiled(program, args) })
  );
  const rest = RUNTIMES.flatMap((runtime) =>
    ways.filter(({ only }) => only === undefined || only === runtime).map(({ api, label }) =>
      make({
        id: `${runtime}-${api}`,
        label: `${label} on ${RUNTIME_NAMES[runtime]}`,
        command: () =>
          script(runtime, "files.ts", [what, api, ...args], {
            allow: ["ffi", "read", "write", "sys", "env"],
          }),
      })
    )
  );
  return [...inC, ...rest];
}

/** A program that is run to its end for each sample. */
export function program(id: string, label: string, line: readonly string[], work: Preparation): Contender {
  return {
    id,
    label,
    start(): Runner {
      const run: Runner["run"] = async (parameter) => {
        await work.prepare(parameter);
        const [name = "", ...args] = line;
        return { ops: work.ops(parameter), ns: (await runToEnd({ program: name, args })).ns };
      };
      return {
        async warm(parameter): Promise<void> {
          await run(parameter);
          await work.verify?.(parameter);
        },
        run,
        stop: () => Promise.resolve(),
      };
    },
  };
}

/** The same comparison in both runtimes. */
export function both(of: string, peers: (runtime: Runtime) => readonly string[], targets?: Targets): Pair[] {
  return RUNTIMES.map((runtime) => ({
    of: `${runtime}-${of}`,
    peers: peers(runtime),
    ...(targets === undefined ? {} : { targets }),
  }));
}

/** A comparison of speed. */
export function speed(heading: string, pairs: readonly Pair[]): Group["comparisons"][number] {
  return { heading, kind: "speed", pairs };
}

/** The contenders of a runtime's own. */
export function own(ways: readonly Way[]): (runtime: Runtime) => string[] {
  return (runtime) =>
    ways.filter(({ api, only }) => !api.startsWith("uring") && (only ?? runtime) === runtime)
      .map(({ api }) => `${runtime}-${api}`);
}

/** A benchmark of groups that are made when it runs, and what is to be removed afterwards. */
export function benchmark(
  name: string,
  summary: string,
  groups: (settings: Settings) => readonly Group[],
  cleanUp: () => void = () => {},
): Benchmark {
  return {
    name,
    summary,
    async run(settings, shown): Promise<Report> {
      try {
        return await measureGroups(groups(settings), settings, shown);
      } finally {
        cleanUp();
      }
    },
  };
}
