/**
 * `uring/process`: programs started from here, their ends awaited and their pipes read and written by io_uring.
 *
 * @module
 */
export { ChildProcess, type ExitStatus, type Input, type Output, type Reading } from "./child.ts";
export type { Signal } from "./signals.ts";
export { spawn, type Spawned, type SpawnOptions, type Stdio } from "./spawn.ts";
