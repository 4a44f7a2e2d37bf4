/**
 * What is mounted when the process exits.
 *
 * @module
 */
import process from "node:process";

const left = new Set<() => void>();
let listening = false;

function leaveAll(): void {
  for (const leave of left) leave();
}

/** Has something done when the process exits; returns what takes that back. */
export function atExit(leave: () => void): () => void {
  left.add(leave);
  if (!listening) {
    listening = true;
    process.on("exit", leaveAll);
  }
  return () => {
    left.delete(leave);
    if (left.size > 0) return;
    listening = false;
    process.off("exit", leaveAll);
  };
}
