/**
 * The lab: a virtual machine with a newer kernel and more devices, made by `scripts/lab`. Tests that need it are in
 * `test/lab/`, and take `test` from here: elsewhere they are skipped, and say so.
 *
 * @module
 */
import process from "node:process";
import { firstReason, test as gated, type TestBody, type TestOptions } from "./gate.ts";

/** Why a test cannot be run here, or `false` in the lab. */
export function outsideLab(): string | false {
  return process.env["URING_LAB"] === undefined ? "this runs in the lab only: scripts/lab test" : false;
}

/** Declares a test that is run in the lab only. */
export function test(name: string, body: TestBody): void;
export function test(name: string, options: TestOptions, body: TestBody): void;
export function test(name: string, second: TestOptions | TestBody, third?: TestBody): void {
  const options = typeof second === "function" ? {} : second;
  const body = typeof second === "function" ? second : third!;
  gated(name, { ...options, skip: firstReason(outsideLab(), options.skip) }, body);
}
