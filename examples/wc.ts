/**
 * Counts lines, words and bytes, of files and of whole trees, as `wc` does.
 *
 * ```sh
 * bun examples/wc.ts PATH…
 * deno run --allow-ffi examples/wc.ts PATH…
 * ```
 *
 * @module
 */
import process from "node:process";
import { lstat, opendir, readFiles } from "uring/fs";

const NEWLINE = 10;
const SPACE = 32;

interface Count {
  lines: number;
  words: number;
  bytes: number;
}

function countOf(data: Uint8Array): Count {
  let lines = 0;
  let words = 0;
  let between = true;
  for (const byte of data) {
    if (byte === NEWLINE) lines++;
    // Tab to carriage return, and the space.
    const blank = byte === SPACE || byte >= 9 && byte <= 13;
    if (between && !blank) words++;
    between = blank;
  }
  return { lines, words, bytes: data.length };
}

/** The files that a path stands for: itself, or everything below it. */
async function* filesOf(path: string): AsyncGenerator<string> {
  if (!(await lstat(path)).isDirectory()) {
    yield path;
    return;
  }
  for await (const entry of await opendir(path, { recursive: true })) {
    if (entry.isFile()) yield `${entry.parentPath}/${entry.name}`;
  }
}

async function* allFiles(
  paths: readonly string[],
  onError: (error: unknown) => void,
): AsyncGenerator<string> {
  for (const path of paths) {
    try {
      yield* filesOf(path);
    } catch (error) {
      onError(error);
    }
  }
}

function line({ lines, words, bytes }: Count, name: string): string {
  return `${[lines, words, bytes].map((number) => String(number).padStart(8)).join("")} ${name}\n`;
}

async function main(paths: readonly string[]): Promise<void> {
  if (paths.length === 0) {
    process.stderr.write("usage: wc.ts PATH...\n");
    process.exit(2);
  }
  const total: Count = { lines: 0, words: 0, bytes: 0 };
  let files = 0;
  const complain = (error: unknown): void => {
    process.stderr.write(`wc: ${(error as Error).message}\n`);
    process.exitCode = 1;
  };
  // Hundreds of files are on their way while one is counted.
  for await (const { path, data, error } of readFiles(allFiles(paths, complain))) {
    if (error !== undefined) {
      complain(error);
      continue;
    }
    const count = countOf(data);
    total.lines += count.lines;
    total.words += count.words;
    total.bytes += count.bytes;
    files++;
    process.stdout.write(line(count, path));
  }
  if (files !== 1) process.stdout.write(line(total, "total"));
}

await main(process.argv.slice(2));
