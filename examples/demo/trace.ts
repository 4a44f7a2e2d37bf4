/**
 * Counting the system calls of a process, where strace is there and may look at it.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Calls for memory and between threads: they come and go with the collector, whatever is read. */
const HOUSEKEEPING: ReadonlySet<string> = new Set(
  ("brk clock_nanosleep futex getpid getrusage gettid madvise mmap mprotect munmap sched_getaffinity sched_yield " +
    "restart_syscall rt_sigprocmask rt_sigreturn tgkill total").split(" "),
);

/** Adds up the table that `strace -c` writes: calls by name. */
export function parseSummary(table: string): number {
  let calls = 0;
  for (const line of table.split("\n")) {
    // % time     seconds  usecs/call     calls    errors syscall
    const [, count, name] = /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$/.exec(line) ?? [];
    if (name !== undefined && !HOUSEKEEPING.has(name)) calls += Number(count);
  }
  return calls;
}

/**
 * Counts what all threads of a process call while `body` runs; null when that cannot be told. The kernel's own worker
 * threads make no system calls.
 */
export async function countCalls(pid: number, body: () => Promise<unknown>): Promise<number | null> {
  const folder = mkdtempSync(join(tmpdir(), "uring-demo-"));
  const log = join(folder, "calls");
  try {
    const strace = spawn("strace", ["-c", "-f", "-o", log, "-p", String(pid)], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const ended = new Promise<void>((resolve) => {
      strace.once("error", () => resolve());
      strace.once("close", () => resolve());
    });
    const attached = await Promise.race([attachment(strace), ended.then(() => false)]);
    if (!attached) return null;
    await body();
    strace.kill("SIGINT");
    await ended;
    return parseSummary(readFileSync(log, "utf8"));
  } catch {
    return null;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function attachment(strace: ChildProcess): Promise<boolean> {
  return new Promise((resolve) => {
    let said = "";
    strace.stderr!.on("data", (text) => {
      said += text;
      if (said.includes("attached")) resolve(true);
    });
  });
}
