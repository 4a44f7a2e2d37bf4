/**
 * What paths say: `readlink`, `realpath`.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { AT_FDCWD, AT_SYMLINK_NOFOLLOW, O_CLOEXEC, O_PATH } from "../ffi/abi.ts";
import { cString } from "../ffi/cstring.ts";
import { Uring, UringError } from "../mod.ts";
import { optionsOf, type PathLike, pathOf } from "./arguments.ts";
import { call, onPath, textOf } from "./calls.ts";
import { checkNameEncoding, type NameEncoding, nameOf, type NameOptions } from "./encoding.ts";
import { named } from "./errors.ts";

const ENOENT = -2;
/** Longer than any path that the kernel takes or gives. */
const MOST = 4097;
const DELETED = " (deleted)";

/** Where a symbolic link points, as it says. */
export function readlink(
  path: PathLike,
  options: "buffer" | { encoding: "buffer" },
): Promise<Buffer<ArrayBuffer>>;
/** Where a symbolic link points, as it says, as text. */
export function readlink(path: PathLike, options?: NameOptions | null): Promise<string>;
/** Where a symbolic link points, as it says. */
export function readlink(
  path: PathLike,
  options?: NameOptions | { encoding: "buffer" } | string | null,
): Promise<string | Buffer<ArrayBuffer>>;
export async function readlink(
  path: PathLike,
  options?: NameOptions | { encoding: "buffer" } | string | null,
): Promise<string | Buffer<ArrayBuffer>> {
  const encoding = nameEncodingOf(options);
  const name = pathOf(path);
  return await onPath(name, AT_SYMLINK_NOFOLLOW, () => nameOf(contentOf("readlink", name), encoding));
}

function contentOf(syscall: string, path: string | Uint8Array): Uint8Array {
  const out = new Uint8Array(new ArrayBuffer(MOST));
  const length = call(syscall, path, (files) => files.readlinkat(AT_FDCWD, cString(path), out, MOST));
  return out.subarray(0, length);
}

/** The absolute path of a file, without symbolic links, `.` and `..`. */
export function realpath(
  path: PathLike,
  options: "buffer" | { encoding: "buffer" },
): Promise<Buffer<ArrayBuffer>>;
/** The absolute path of a file, without symbolic links, `.` and `..`, as text. */
export function realpath(path: PathLike, options?: NameOptions | null): Promise<string>;
/** The absolute path of a file, without symbolic links, `.` and `..`. */
export function realpath(
  path: PathLike,
  options?: NameOptions | { encoding: "buffer" } | string | null,
): Promise<string | Buffer<ArrayBuffer>>;
export async function realpath(
  path: PathLike,
  options?: NameOptions | { encoding: "buffer" } | string | null,
): Promise<string | Buffer<ArrayBuffer>> {
  const encoding = nameEncodingOf(options);
  const name = pathOf(path);
  let fd: number;
  try {
    // The kernel resolves it once, on a thread of its own where that takes long, and then knows the answer.
    fd = await Uring.shared.openat(name, { flags: O_PATH | O_CLOEXEC });
  } catch (error) {
    throw named(error, "realpath");
  }
  let real: Uint8Array;
  try {
    real = contentOf("realpath", `/proc/self/fd/${fd}`);
  } finally {
    await Uring.shared.close(fd);
  }
  if (textOf(real).endsWith(DELETED) && !(await exists(real))) {
    throw new UringError(ENOENT, "realpath", { path: textOf(name) });
  }
  return nameOf(real, encoding);
}

async function exists(path: Uint8Array): Promise<boolean> {
  return await Uring.shared.statx(path).then(() => true, () => false);
}

/** How a result that is a name is to be given. @internal */
export function nameEncodingOf(
  options: NameOptions | { encoding: "buffer" } | string | null | undefined,
): NameEncoding {
  const { encoding } = optionsOf<{ encoding?: NameEncoding }>(
    options as { encoding?: NameEncoding } | string | null,
  );
  checkNameEncoding(encoding);
  return encoding;
}
