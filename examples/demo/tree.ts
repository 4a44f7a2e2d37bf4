/**
 * Finding the files of a tree, and having them dropped from the page cache.
 *
 * @module
 */
import { lstatSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
// An application would not look in here; there is no operation for posix_fadvise in the library yet.
import { O_NONBLOCK, O_RDONLY, POSIX_FADV_DONTNEED } from "../../src/ffi/abi.ts";
import { cString } from "../../src/ffi/cstring.ts";
import { system } from "../../src/ffi/system.ts";

/** What was found under a directory. */
export interface Tree {
  /** The regular files, in an order that is always the same; of several links to one file the first. */
  readonly paths: readonly string[];
  /** Those of them that were small: {@link SMALL} bytes or fewer. */
  readonly small: readonly string[];
  /** How many bytes they had. */
  readonly bytes: number;
  /** Directories that could not be listed: `path: code`. */
  readonly unlisted: readonly string[];
}

/** What is read at once, open and close aside. */
export const SMALL: number = 64 * 1024;

/** A directory that cannot be walked at all; the message is for the user. */
export class TreeError extends Error {}

/** Lists the regular files of a tree. Symbolic links are not followed; FIFOs, sockets and devices are left out. */
export function walk(directory: string): Tree {
  let about;
  try {
    about = statSync(directory);
  } catch (error) {
    throw new TreeError(`cannot read ${directory}: ${codeOf(error)}`);
  }
  if (!about.isDirectory()) throw new TreeError(`${directory} is not a directory`);
  const paths: string[] = [];
  const unlisted: string[] = [];
  const pending = [directory];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    let entries;
    try {
      entries = readdirSync(at, { withFileTypes: true });
    } catch (error) {
      unlisted.push(`${at}: ${codeOf(error)}`);
      continue;
    }
    for (const entry of entries) {
      const path = join(at, entry.name);
      if (entry.isDirectory()) pending.push(path);
      else if (entry.isFile()) paths.push(path);
    }
  }
  return { ...measure(paths.sort()), unlisted };
}

function measure(found: readonly string[]): Omit<Tree, "unlisted"> {
  const paths: string[] = [];
  const small: string[] = [];
  const seen = new Set<string>();
  let bytes = 0;
  for (const path of found) {
    const about = lstatSync(path, { throwIfNoEntry: false });
    // Read again, a file would come out of the page cache that was just dropped from it.
    const identity = `${about?.dev}:${about?.ino}`;
    if (about !== undefined && about.nlink > 1) {
      if (seen.has(identity)) continue;
      seen.add(identity);
    }
    paths.push(path);
    const size = about?.size ?? 0;
    bytes += size;
    if (size <= SMALL) small.push(path);
  }
  return { paths, small, bytes };
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown }).code ?? error);
}

/**
 * Has the kernel drop what it keeps of each file in memory. What is not on disk yet stays (so `sync` first), and so
 * does what a running program has mapped, such as the runtime's own binary.
 */
export function evict(paths: readonly string[]): void {
  const { rare, close } = system();
  for (const path of paths) {
    const fd = rare.open(cString(path), O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0) continue;
    rare.posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
  }
}

/** What became of a file since `since` (milliseconds since 1970), or null when it is as it was. */
export function changeOf(path: string, since: number): string | null {
  try {
    const { mtimeMs, ctimeMs } = lstatSync(path);
    // In Deno ctimeMs is in whole seconds.
    const last = Math.max(mtimeMs, ctimeMs);
    return last >= since - CLOCK_MS ? "changed while it was being read" : null;
  } catch (error) {
    return `gone while it was being read (${codeOf(error)})`;
  }
}

/** Files are stamped with the time of the last tick. */
const CLOCK_MS = 20;
