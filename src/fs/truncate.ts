/**
 * `truncate`.
 *
 * @module
 */
import { Uring } from "../mod.ts";
import { type PathLike, pathOf } from "./arguments.ts";
import { writing } from "./limit.ts";
import { withFile } from "./transfer.ts";
import { lengthOf } from "./transfer_arguments.ts";

/** Sets the length of a file in bytes (default 0): cuts it off, or adds zeros; Linux 6.9. */
export async function truncate(path: PathLike, length: number | null = 0): Promise<void> {
  const name = pathOf(path);
  const size = lengthOf(length);
  await writing.enter();
  try {
    await withFile(name, "r+", null, (fd) => Uring.shared.ftruncate(fd, size));
  } finally {
    writing.leave();
  }
}
