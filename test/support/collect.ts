/**
 * Garbage collection on demand.
 *
 * @module
 */
import assert from "node:assert/strict";
import { settle } from "./leaks.ts";

/** Collects until `condition` holds; finalizers run between turns of the event loop. */
export async function collectUntil(condition: () => boolean, message: string): Promise<void> {
  for (let i = 0; i < 50; i++) {
    if (condition()) return;
    await settle();
  }
  assert.fail(`still not after collecting garbage: ${message}`);
}

/** Collects a few times: what can be collected is. */
export async function collect(): Promise<void> {
  for (let i = 0; i < 4; i++) await settle();
}
