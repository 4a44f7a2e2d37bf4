/**
 * Tells how far the demo is: a bar on a terminal, otherwise a line for each stage. On stderr, so that the tables alone
 * go into a file.
 *
 * @module
 */
import process from "node:process";

const BAR = 30;

/** Progress over a number of steps. */
export class Progress {
  readonly #terminal: boolean = process.stderr.isTTY === true;
  #stage = "";
  #done = 0;
  #total = 1;

  /** Begins a stage of so many steps. */
  stage(name: string, steps: number): void {
    this.#stage = name;
    this.#done = 0;
    this.#total = steps;
    if (this.#terminal) this.#draw(0);
    else process.stderr.write(`${name}\n`);
  }

  /** Part of a step is done: from 0 to 1. */
  part(fraction: number): void {
    if (this.#terminal) this.#draw(fraction);
  }

  /** A step is done. */
  step(): void {
    this.#done++;
    if (this.#terminal) this.#draw(0);
  }

  #draw(fraction: number): void {
    const part = Math.min(1, (this.#done + fraction) / this.#total);
    const filled = Math.round(part * BAR);
    const bar = "█".repeat(filled) + "░".repeat(BAR - filled);
    const room = (process.stderr.columns || 80) - BAR - 8;
    const percent = String(Math.round(part * 100)).padStart(3);
    process.stderr.write(`\r\x1b[K${bar} ${percent} %  ${this.#stage.slice(0, Math.max(0, room))}`);
  }

  /** Wipes the bar, before anything else is printed. */
  clear(): void {
    if (this.#terminal) process.stderr.write("\r\x1b[K");
  }
}
