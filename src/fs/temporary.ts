/**
 * Directories that nothing else has: `mkdtemp`.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { Uring, UringError } from "../mod.ts";
import { type PathLike, pathOf } from "./arguments.ts";
import { textOf } from "./calls.ts";
import { encode, nameOf, type NameOptions } from "./encoding.ts";
import { nameEncodingOf, realpath } from "./paths.ts";
import { rm } from "./rm.ts";

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LENGTH = 6;
/** As many tries as C libraries make at least: 62⁶ names are seldom all taken. */
const TRIES = 100;
const OWNER_ONLY = 0o700;

/** Makes a directory whose name is `prefix` and six random characters, for the owner alone, and gives its path. */
export function mkdtemp(
  prefix: PathLike,
  options: "buffer" | { encoding: "buffer" },
): Promise<Buffer<ArrayBuffer>>;
/** Makes a directory whose name is `prefix` and six random characters, for the owner alone, and gives its path as text. */
export function mkdtemp(prefix: PathLike, options?: NameOptions | null): Promise<string>;
/** Makes a directory whose name is `prefix` and six random characters, for the owner alone, and gives its path. */
export function mkdtemp(
  prefix: PathLike,
  options?: NameOptions | { encoding: "buffer" } | string | null,
): Promise<string | Buffer<ArrayBuffer>>;
export async function mkdtemp(
  prefix: PathLike,
  options?: NameOptions | { encoding: "buffer" } | string | null,
): Promise<string | Buffer<ArrayBuffer>> {
  const encoding = nameEncodingOf(options);
  const start = pathOf(prefix, "prefix");
  for (let i = 0;; i++) {
    const path = joined(start, randomName());
    try {
      await Uring.shared.mkdirat(path, { mode: OWNER_ONLY });
      return nameOf(path, encoding);
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      if (error.code === "EEXIST" && i < TRIES) continue;
      throw new UringError(error.errno, "mkdtemp", { path: `${textOf(start)}${"X".repeat(LENGTH)}` });
    }
  }
}

/** A directory that is removed with everything in it when it is disposed of: `await using`. */
export interface DisposableTempDir extends AsyncDisposable {
  /** Where it is. */
  path: string;
  /** Removes it and everything in it. */
  remove(): Promise<void>;
  /** The same as {@link DisposableTempDir.remove}. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** {@link mkdtemp} for `await using`. */
export async function mkdtempDisposable(
  prefix: PathLike,
  options?: NameOptions | null,
): Promise<DisposableTempDir> {
  const path = await mkdtemp(prefix, options);
  // The working directory may be another one by then.
  const real = path.startsWith("/") ? path : await realpath(path);
  const remove = (): Promise<void> => rm(real, { recursive: true, force: true });
  return { path, remove, [Symbol.asyncDispose]: remove };
}

function randomName(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(LENGTH));
  return Array.from(bytes, (byte) => LETTERS[byte % LETTERS.length]).join("");
}

function joined(start: string | Uint8Array, end: string): Uint8Array {
  const [first, second] = [encode(start), encode(end)];
  const path = new Uint8Array(first.length + second.length);
  path.set(first);
  path.set(second, first.length);
  return path;
}
