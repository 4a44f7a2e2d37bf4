/**
 * Whether all ways of reading have read the same, and if not, why.
 *
 * @module
 */
import type { Result } from "./reader.ts";
import { changeOf } from "./tree.ts";

/** What differs between the ways, in words. */
export interface Verdict {
  /** How many files all ways have read and agree on. */
  readonly agreed: number;
  /** Files that no way could read, or that changed or vanished meanwhile: it could not be otherwise. */
  readonly reports: readonly string[];
  /** Files on which the ways disagree although nobody touched them: a fault. */
  readonly faults: readonly string[];
}

interface Reading {
  readonly by: string;
  readonly result: Result;
}

/** Collects what every way has read of one list of files. */
export class Verifier {
  readonly #paths: readonly string[];
  readonly #started: number;
  readonly #readings: Reading[] = [];

  /**
   * @param paths The files.
   * @param started When they were listed, in milliseconds since 1970.
   */
  constructor(paths: readonly string[], started: number) {
    this.#paths = paths;
    this.#started = started;
  }

  /** How many ways have read. */
  get ways(): number {
    return this.#readings.length;
  }

  /** Notes what a way has read, with digests. */
  add(by: string, result: Result): void {
    this.#readings.push({ by, result });
  }

  /** Compares. */
  verdict(): Verdict {
    const failures = this.#readings.map(({ by, result }) => ({
      by,
      messages: new Map(result.failures.map(({ index, message }) => [index, message])),
    }));
    let agreed = 0;
    const reports: string[] = [];
    const faults: string[] = [];
    this.#paths.forEach((path, index) => {
      const digests = new Set(this.#readings.map(({ result }) => result.digests[index] ?? null));
      if (digests.size === 1 && !digests.has(null)) {
        agreed++;
        return;
      }
      const failed = failures.filter(({ messages }) => messages.has(index));
      const change = changeOf(path, this.#started);
      if (change !== null) reports.push(`${path}: ${change}`);
      else if (failed.length === 0) faults.push(`${path}: the digests differ`);
      else if (failed.length === this.ways) reports.push(`${path}: ${failed[0]!.messages.get(index)}`);
      else {
        const [first] = failed;
        const more = failed.length > 1 ? ` and ${failed.length - 1} more` : "";
        const failure = `${path}: ${first!.messages.get(index)} (${first!.by}${more})`;
        (digests.size > 2 ? faults : reports).push(failure);
      }
    });
    return { agreed, reports, faults };
  }
}
