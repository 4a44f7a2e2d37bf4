/** Tells on stderr what is being measured: one line, rewritten, on a terminal; a line for each step otherwise. */

import process from "node:process";

const terminal = process.stderr.isTTY === true;
let shownStep = "";

/** Shows a step and how far it is. Off a terminal only a new step makes a line. */
export function progress(step: string, detail: string): void {
  if (terminal) {
    const width = Math.max(20, (process.stderr.columns ?? 80) - 1);
    process.stderr.write(`\r\x1b[K${`${step}  ${detail}`.slice(0, width)}`);
  } else if (step !== shownStep) {
    shownStep = step;
    process.stderr.write(`${step}\n`);
  }
}

/** Wipes the line, before anything else is printed. */
export function endProgress(): void {
  if (terminal) process.stderr.write("\r\x1b[K");
}
