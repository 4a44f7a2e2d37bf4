/**
 * The environment that a child process gets.
 *
 * @module
 */
import { adapter } from "./system.ts";

/**
 * This process's environment, `NAME=value` each, where the runtime keeps one of its own: Bun does. Null where it is C's
 * `environ`: Deno writes there what a program sets, and would ask for a permission to read it.
 */
export function ownEnvironment(): readonly string[] | null {
  if (adapter.name !== "bun") return null;
  const { env } = (globalThis as unknown as { process: { env: Record<string, string | undefined> } }).process;
  return Object.entries(env).flatMap(([name, value]) => value === undefined ? [] : [`${name}=${value}`]);
}
