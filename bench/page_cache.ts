/** Files that are not in the page cache. */

import { RWF_NOWAIT } from "../src/ffi/abi.ts";
import { open } from "../src/fs/mod.ts";
import { Uring, UringError } from "../src/mod.ts";
import { MissingError } from "./child.ts";

const AT_ONCE = 64;
/** Every so manieth file is looked at. */
const LOOKED_AT = 997;

async function drop(path: string): Promise<void> {
  await using file = await open(path);
  await file.advise("dontneed");
}

/** Whether the content can be read without the disk. */
async function isCached(path: string): Promise<boolean> {
  await using file = await open(path);
  try {
    await Uring.shared.readv(file.fd, [new Uint8Array(1)], { offset: 0, flags: RWF_NOWAIT });
    return true;
  } catch (error) {
    if (error instanceof UringError && error.code === "EAGAIN") return false;
    throw error;
  }
}

/**
 * Drops what the page cache has of these files' content; it keeps their inodes and names. Needs no privilege and leaves
 * other files alone. Throws a `MissingError` where the files live in the page cache (tmpfs).
 */
export async function dropFromPageCache(paths: readonly string[]): Promise<void> {
  for (let i = 0; i < paths.length; i += AT_ONCE) {
    await Promise.all(paths.slice(i, i + AT_ONCE).map(drop));
  }
  const some = paths.filter((_, i) => i % LOOKED_AT === 0);
  const cached = await Promise.all(some.map(isCached));
  if (cached.filter(Boolean).length > cached.length / 2) {
    throw new MissingError("the page cache does not let go of the files");
  }
  // Looking may have read it.
  await Promise.all(some.map(drop));
}
