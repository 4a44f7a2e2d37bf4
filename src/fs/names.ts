/**
 * Names of files: `link`, `symlink`, `rename`, `unlink`.
 *
 * @module
 */
import { Uring } from "../mod.ts";
import { type PathLike, pathOf } from "./arguments.ts";
import { named, typeError } from "./errors.ts";

const TYPES: readonly unknown[] = ["dir", "file", "junction", null, undefined];

/** Removes a file's name, and the file with its last one; Linux 5.11. */
export async function unlink(path: PathLike): Promise<void> {
  try {
    await Uring.shared.unlinkat(pathOf(path));
  } catch (error) {
    throw named(error, "unlink");
  }
}

/** Renames a file; one that has the new name is replaced, at no moment is there none. Linux 5.11. */
export async function rename(oldPath: PathLike, newPath: PathLike): Promise<void> {
  try {
    await Uring.shared.renameat(pathOf(oldPath, "oldPath"), pathOf(newPath, "newPath"));
  } catch (error) {
    throw named(error, "rename");
  }
}

/** Gives a file a second name; Linux 5.15. */
export async function link(existingPath: PathLike, newPath: PathLike): Promise<void> {
  try {
    await Uring.shared.linkat(pathOf(existingPath, "existingPath"), pathOf(newPath, "newPath"));
  } catch (error) {
    throw named(error, "link");
  }
}

/** Makes `path` a symbolic link that says `target`; Linux 5.15. `type` means something on Windows only. */
export async function symlink(target: PathLike, path: PathLike, type?: string | null): Promise<void> {
  const [from, to] = [pathOf(target, "target"), pathOf(path)];
  if (!TYPES.includes(type)) {
    throw typeError(
      "ERR_FS_INVALID_SYMLINK_TYPE",
      `Symlink type must be one of "dir", "file", or "junction". Received "${String(type)}"`,
    );
  }
  try {
    await Uring.shared.symlinkat(from, to);
  } catch (error) {
    throw named(error, "symlink");
  }
}
