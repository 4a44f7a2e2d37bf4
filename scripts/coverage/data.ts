/**
 * What `docs/coverage.md` is made from: the data in `abi/`.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { type AbiData, loadAbi } from "../gen-abi.ts";

/** The root of the repository. */
export const ROOT: URL = new URL("../../", import.meta.url);

/** Linux versions by name. */
export type Kernels = Readonly<Record<string, string>>;

/** What liburing declares. */
export interface Liburing {
  /** Each prep's operation, or null for what writes no opcode of its own, and the kernel that brought it. */
  readonly preps: Readonly<Record<string, readonly [opcode: string | null, kernel: string]>>;
  /** The library's functions by subject. */
  readonly functions: Readonly<Record<string, Kernels>>;
}

/** A program of liburing's test suite: how it fares in C, and why it has no twin here if it has none. */
export interface Program {
  readonly c: "pass" | "skip" | "slow" | "fail";
  readonly why?: string;
}

/** What no scan of the sources can tell. */
export interface Exceptions {
  /** Where something is in the ring layer, when neither its name nor a doc comment leads there. */
  readonly ring: Readonly<Record<string, readonly string[]>>;
  /** The same for `Uring`. */
  readonly loop: Readonly<Record<string, readonly string[]>>;
  /** The classes above the ring layer that users hold in their hands, beside `Uring`. */
  readonly classes: readonly string[];
  /** Why something has no place in the API, or what stands for it. */
  readonly why: Readonly<Record<string, string>>;
  /** What shows something that no call or constant in a test gives away: parts of the tests' paths. */
  readonly tests: Readonly<Record<string, readonly string[]>>;
  /** Why no test can show something. */
  readonly untested: Readonly<Record<string, string>>;
  /** What a feature tells, and where it matters. */
  readonly features: Readonly<Record<string, string>>;
  /** What happens on a kernel without it, where that differs from the rest of its table. */
  readonly without: Readonly<Record<string, string>>;
  /** The kernels that the tests are run on: `scripts/test` on a machine of ours, and `scripts/lab test`. */
  readonly kernels: Readonly<Record<"suite" | "lab", string>>;
  /** What the suite's kernel knows and its machine lacks: what is needed, which the lab has. */
  readonly labOnly: Readonly<Record<string, string>>;
  /** Tests that call things without showing that they work. */
  readonly notShownBy: readonly string[];
}

/** Everything in `abi/` that the page is made from. */
export interface CoverageData {
  readonly abi: AbiData;
  readonly liburing: Liburing;
  readonly programs: Readonly<Record<string, Program>>;
  readonly exceptions: Exceptions;
}

function json(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`abi/${name}.json`, ROOT), "utf8"));
}

/** Reads the data files. */
export function loadCoverage(): CoverageData {
  return {
    abi: loadAbi(),
    liburing: json("liburing") as Liburing,
    programs: (json("liburing_tests") as { tests: Readonly<Record<string, Program>> }).tests,
    exceptions: json("coverage") as Exceptions,
  };
}
