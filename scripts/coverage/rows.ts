/**
 * From names to rows: where each thing is in the API, and which tests show it.
 *
 * @module
 */
import type { CoverageData, Kernels } from "./data.ts";
import { family, type Member, reaching, readSources, type Sources, textOf } from "./sources.ts";
import { isRunInLab, LAB, readTests, showing, type TestFile } from "./tests.ts";

/** One thing of io_uring's. */
export interface Row {
  readonly name: string;
  readonly kernel: string;
  /** Where it is in the ring layer: `Ring.submit`, `bufRingAdd`… */
  readonly ring: readonly string[];
  /** Where it is above that: `Uring.read`… */
  readonly loop: readonly string[];
  /** The paths of the tests that show it. */
  readonly tests: readonly string[];
  /** The kernels on which it was seen working. */
  readonly seen: readonly string[];
  /** Why it has no place in the API, or no test. */
  readonly why: string | undefined;
  /** What happens on a kernel without it. */
  readonly without: string;
}

/** The page's tables. */
export interface Tables {
  readonly opcodes: readonly Row[];
  readonly preps: readonly Row[];
  readonly functions: Readonly<Record<string, readonly Row[]>>;
  readonly register: readonly Row[];
  readonly setup: readonly Row[];
  readonly enter: readonly Row[];
  readonly sqe: readonly Row[];
  readonly cqe: readonly Row[];
  readonly features: readonly Row[];
}

const RING_TESTS = ["test/ring/", "test/liburing/", LAB];
const RAW_TESTS = ["test/ring/", "test/liburing/", "test/loop/", LAB];
const LOOP_TESTS = ["test/loop/", "test/liburing/", "test/fs/", "test/net/", LAB];
const ALL_TESTS = ["test/"];
/** What tests call the `Uring` that they work with. */
const RECEIVER = String.raw`\b(?:\w*[uU]ring\w*|l|shared)`;

/** What tests call objects that have methods of the same names as a ring. */
const OTHERS = "thread|sys|calls|libc|system";

const FIRST = "5.1";
const NAMED = "`EINVAL` that names it";

function camel(snake: string): string {
  return snake.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

/** Whether one Linux version, such as `5.19`, came before another. */
export function before(one: string, other: string): boolean {
  const [major = 0, minor = 0] = one.split(".").map(Number);
  const [otherMajor = 0, otherMinor = 0] = other.split(".").map(Number);
  return major < otherMajor || major === otherMajor && minor < otherMinor;
}

/** Makes the rows of every table. */
export class Rows {
  readonly #data: CoverageData;
  readonly #ring: Sources = readSources("src/ring");
  readonly #loop: Sources = readSources("src/loop");
  readonly #tests: readonly TestFile[];
  /** The tests that `scripts/test` runs in the lab. */
  readonly lab: readonly TestFile[];
  /** The programs of liburing's suite by name: the tests whose titles name them. */
  readonly twins: ReadonlyMap<string, readonly string[]>;
  readonly #rings: readonly [shown: string, classes: ReadonlySet<string>][];
  readonly #urings: ReadonlySet<string>;
  readonly #exported: ReadonlySet<string> = new Set(
    [...textOf("src/ring/mod.ts").matchAll(/export \{([^}]*)\}/g)].flatMap(([, names]) =>
      names!.match(/\w+/g) ?? []
    ),
  );

  constructor(data: CoverageData) {
    this.#data = data;
    const tests = readTests();
    this.lab = tests.filter(({ path }) => isRunInLab(path));
    this.#tests = tests.filter(({ path }) => !data.exceptions.notShownBy.includes(path));
    const twins = new Map<string, string[]>();
    for (const { path, twins: names } of tests) {
      for (const name of names) twins.set(name, [...twins.get(name) ?? [], path]);
    }
    this.twins = twins;
    this.#rings = ["Ring", "Sqe"].map((name) => [name, family(this.#ring, name)]);
    this.#urings = family(this.#loop, "Uring");
  }

  /** All of them. */
  tables(): Tables {
    const { abi: { versions }, liburing } = this.#data;
    const preps = Object.entries(liburing.preps).map(([name, [, kernel]]) => this.#prep(name, kernel));
    const functions = Object.fromEntries(
      Object.entries(liburing.functions).map(([subject, kernels]) => [
        subject,
        Object.entries(kernels).map(([name, kernel]) => this.#function(name, kernel)),
      ]),
    );
    // Who registers something above the ring layer names liburing's function for it.
    const register = this.#each(versions["register opcodes"], (name) => this.#registerMembers(name), NAMED);
    const above = (row: Row): string[] =>
      Object.values(functions).flat()
        .filter(({ ring }) => ring.some((place) => row.ring.includes(place)))
        .flatMap(({ loop }) => loop);
    return {
      preps,
      opcodes: Object.entries(versions["opcodes"]).map(([name, kernel]) => this.#opcode(name, kernel, preps)),
      functions,
      register: register.map((row) => ({ ...row, loop: [...new Set([...row.loop, ...above(row)])] })),
      setup: this.#each(versions["setup flags"], (name) => this.#options(name), NAMED),
      enter: this.#each(versions["enter flags"], () => [], NAMED),
      sqe: this.#each(versions["sqe flags"], () => ["Sqe.flags"], "`res` is `-EINVAL`"),
      cqe: this.#each(versions["cqe flags"], () => ["Cqe.flags"], "never set"),
      features: this.#each(versions["features"], () => ["Ring.features"], ""),
    };
  }

  #prep(name: string, kernel: string): Row {
    const method = `prep${camel(name.slice("io_uring_prep".length))}`;
    const exists = this.#ring.members.some((member) => member.name === method && member.open);
    const ring = this.#data.exceptions.ring[name] ?? (exists ? [`Sqe.${method}`] : []);
    const call = new RegExp(`\\.${method}\\(`);
    return this.#row(name, kernel, {
      ring,
      loop: this.#inLoop(name, call),
      tests: showing(this.#tests, call, RAW_TESTS),
      without: "`res` is `-EINVAL`",
    });
  }

  #opcode(name: string, kernel: string, preps: readonly Row[]): Row {
    const own = preps.filter((prep) => this.#data.liburing.preps[prep.name]![0] === name);
    const unique = (lists: readonly (readonly string[])[]): string[] => [...new Set(lists.flat())];
    const loop = unique(own.map((prep) => prep.loop));
    return this.#row(name, kernel, {
      ring: this.#data.exceptions.ring[name] ?? unique(own.map((prep) => prep.ring)),
      loop,
      tests: unique([...own.map((prep) => prep.tests.slice(0, 1)), this.#loopTests(loop)]),
      without: loop.length > 0 ? NAMED : "`res` is `-EINVAL`",
    });
  }

  #function(name: string, kernel: string): Row {
    const ring = this.#data.exceptions.ring[name] ?? this.#inRing(name);
    return this.#row(name, kernel, {
      ring,
      loop: this.#inLoop(name, null),
      tests: ring.flatMap((place) => this.#ringTests(place)),
      without: "",
    });
  }

  #each(kernels: Kernels, places: (name: string) => readonly string[], without: string): Row[] {
    return Object.entries(kernels).map(([name, kernel]) => {
      const ring = this.#data.exceptions.ring[name] ?? places(name);
      const named = showing(this.#tests, new RegExp(`\\b${name}\\b`), ALL_TESTS);
      const called = name.includes("REGISTER_") ? ring.flatMap((place) => this.#ringTests(place)) : [];
      return this.#row(name, kernel, { ring, loop: [], tests: [...called, ...named], without });
    });
  }

  #row(
    name: string,
    kernel: string,
    found: Pick<Row, "ring" | "loop" | "tests" | "without">,
  ): Row {
    const { why, untested, tests, without, loop, kernels, labOnly } = this.#data.exceptions;
    const signs = (tests[name] ?? []).map((sign) => new RegExp(RegExp.escape(sign)));
    const signed = signs.flatMap((sign) => showing(this.#tests, sign, ALL_TESTS));
    const all = new Set(tests[name] === undefined ? found.tests : signed);
    const onlyInLab = labOnly[name] !== undefined || before(kernels.suite, kernel);
    const inLab = [...all].filter((path) => onlyInLab ? isRunInLab(path) : path.startsWith(LAB));
    const others = [...all].filter((path) => !inLab.includes(path));
    return {
      name,
      kernel,
      ring: found.ring,
      loop: loop[name] ?? found.loop,
      tests: onlyInLab ? [...inLab, ...others] : [...others, ...inLab],
      seen: [
        ...(all.size > 0 && !onlyInLab ? [kernels.suite] : []),
        ...([...all].some(isRunInLab) ? [kernels.lab] : []),
      ],
      why: why[name] ?? untested[name],
      // Every kernel that has io_uring has what came with the first.
      without: kernel === FIRST ? "" : without[name] ?? found.without,
    };
  }

  /** Where a function of liburing's is in the ring layer: by its name, or else by the doc comment that names it. */
  #inRing(name: string): readonly string[] {
    const wanted = camel(name.slice("io_uring_".length));
    const open = this.#ring.members.filter((member) => member.open && this.#isRings(member));
    const byName = open.filter((member) => member.name === wanted);
    const byDoc = open.filter(({ doc }) => doc.includes(`\`${name}\``));
    return this.#places(byName.length > 0 ? byName : byDoc);
  }

  /** Whether something of the ring layer is to be had from outside. */
  #isRings({ owner, name }: Member): boolean {
    return owner === null
      ? this.#exported.has(name)
      : this.#exported.has(owner) || this.#rings.some(([, classes]) => classes.has(owner));
  }

  /** Where something is above the ring layer: by the doc comment that names it, or by the call of its prep. */
  #inLoop(name: string, call: RegExp | null): readonly string[] {
    const open = this.#loop.members.filter((member) => member.open && member.owner !== null);
    const byDoc = open.filter(({ doc }) => doc.includes(`\`${name}\``));
    const found = byDoc.length > 0 || call === null
      ? byDoc
      : reaching(this.#loop, call, ({ owner }) => owner !== null);
    return this.#places(found.filter(({ owner }) => this.#isPublic(owner)));
  }

  /** Whether a class of the loop is what users hold in their hands. */
  #isPublic(owner: string | null): boolean {
    return owner !== null && (this.#urings.has(owner) || this.#data.exceptions.classes.includes(owner));
  }

  #registerMembers(name: string): readonly string[] {
    return this.#places(
      reaching(this.#ring, new RegExp(`\\b${name}\\b`), (member) => this.#isRings(member)),
    );
  }

  /** The options whose doc comments name a setup flag. */
  #options(name: string): readonly string[] {
    const options = this.#ring.members.filter(({ owner, doc }) =>
      owner === "RingOptions" && new RegExp(`\\b${name}\\b`).test(doc)
    );
    return ["RingOptions.flags", ...this.#places(options).filter((place) => place !== "RingOptions.flags")];
  }

  #places(members: readonly Member[]): string[] {
    const places = members.map(({ owner, name }) => {
      if (owner === null) return name;
      const shown = this.#rings.find(([, classes]) => classes.has(owner))?.[0];
      return `${shown ?? (this.#urings.has(owner) ? "Uring" : owner)}.${name}`;
    });
    return [...new Set(places)];
  }

  /** The tests that use a part of the ring layer. */
  #ringTests(place: string): readonly string[] {
    const [owner, name] = place.includes(".") ? place.split(".") : [undefined, place];
    const sign = name === "constructor"
      ? /\bnew Ring\(|\bmakeRing\(/
      : owner === undefined
      ? new RegExp(`(?<![.\\w])${name}\\(`)
      : owner === "RingOptions"
      ? new RegExp(`\\b${name}\\b`)
      : new RegExp(`(?<=\\w)(?<!\\b(?:${OTHERS}))\\.${name}\\b`);
    return showing(this.#tests, sign, RING_TESTS);
  }

  #loopTests(places: readonly string[]): readonly string[] {
    const names = places.map((place) => place.split(".")[1]!);
    if (names.length === 0) return [];
    return showing(this.#tests, new RegExp(`${RECEIVER}\\.(?:${names.join("|")})[(<]`), LOOP_TESTS);
  }
}
