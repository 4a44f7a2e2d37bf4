/**
 * Tests that say why they are skipped. Neither runtime prints the reason of `{ skip: "reason" }`, so test files take
 * `test` from here instead of from `node:test`; it is the same function but for one line of output:
 *
 * ```
 * skip: <name of the test>: <reason>
 * ```
 *
 * Gates are computed before the test is declared, since Deno counts a `t.skip()` at run time as passed:
 *
 * ```ts
 * const reason = probe().opcodes.has(IORING_OP_PIPE) ? false : "needs Linux 6.16";
 * test("makes a pipe", { skip: reason }, async () => {});
 * ```
 *
 * `scripts/test` fails a file that skips more tests than it gives reasons.
 *
 * @module
 */
import nodeTest from "node:test";
import type { TestContext } from "node:test";
import { shadowAlways } from "../../src/loop/shadow.ts";

// Has memory stand in for JavaScript's here, too, as it does in Workers.
if (process.env["URING_TEST_SHADOWS"] === "1") shadowAlways();

/** What a test may be told; `skip` is the reason, or `false` to run it. */
export interface TestOptions {
  readonly skip?: string | false;
  /** Milliseconds; 120,000 by default. */
  readonly timeout?: number;
}

/** Milliseconds that a test may take unless it says otherwise; Bun alone would give it 5 s, Deno no end. */
const TIMEOUT = 120_000;

/** The body of a test. */
export type TestBody = (t: TestContext) => void | Promise<void>;

/** Declares a test, as `node:test` does, and prints the reason when it is skipped. */
export function test(name: string, body: TestBody): void;
export function test(name: string, options: TestOptions, body: TestBody): void;
export function test(name: string, second: TestOptions | TestBody, third?: TestBody): void {
  const options = typeof second === "function" ? {} : second;
  const body = typeof second === "function" ? second : third!;
  const { skip, timeout = TIMEOUT } = options;
  if (skip !== undefined && skip !== false) {
    // One line each, whatever the reason holds: scripts/test counts them.
    console.log(`skip: ${name}: ${skip.replaceAll(/\s+/g, " ")}`);
    nodeTest(name, { skip }, body);
  } else {
    nodeTest(name, { timeout }, body);
  }
}

/** The first reason among several, or `false` when nothing stands in the way. */
export function firstReason(...reasons: readonly (string | false | undefined)[]): string | false {
  return reasons.find((reason) => typeof reason === "string") || false;
}
