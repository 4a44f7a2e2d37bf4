/**
 * System calls on a thread of the runtime's, where it has such calls: Deno has, Bun has not.
 *
 * @module
 */
import type { ThreadCalls } from "../ffi/adapter.ts";
import { adapter, system } from "../ffi/system.ts";

let calls: ThreadCalls | null | undefined;

/** The calls, or null. */
export function threadCalls(): ThreadCalls | null {
  if (calls === undefined) calls = adapter.openThreadCalls(system().libc);
  return calls;
}
