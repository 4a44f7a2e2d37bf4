/**
 * Whole contents: reading until the end, writing all of it.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { bytesOf, type Flags, flagsOf, modeOf, type PathLike, pathOf } from "./arguments.ts";
import { type OperationOptions, type TransferOptions, Uring, UringError } from "../mod.ts";
import { AT_EMPTY_PATH, SEEK_CUR, SEEK_SET, STATX_SIZE, STATX_TYPE } from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import { asBuffer, decode, decodeBorrowed, type Encoding } from "./encoding.ts";
import { named, outOfRange, throwIfAborted, typeError } from "./errors.ts";

/**
 * The first read goes into a buffer that is used again. Asking for the size first would cost more than the copy: the
 * kernel does every statx on a thread of its own.
 */
const FIRST = 64 * 1024;
/** The most that one read or write transfers: 2 GiB less a page. */
const MOST = 0x7fff_f000;
/** From here on a worker thread of the kernel's copies, so that this thread goes on meanwhile. */
const LARGE = 1024 * 1024;
/** How many buffers wait for their next use. */
const SPARE = 128;
const EIO = 5;

const spare: Uint8Array<ArrayBuffer>[] = [];

/** Opens a file. */
export async function openFd(path: PathLike, flags: Flags, mode?: number | string | null): Promise<number> {
  const name = pathOf(path);
  const options = { flags: flagsOf(flags, "r"), mode: modeOf(mode, 0o666) };
  try {
    return await Uring.shared.openat(name, options);
  } catch (error) {
    throw named(error, "open");
  }
}

/** Opens a file, does something with it, and closes it. */
export async function withFile<T>(
  path: PathLike,
  flags: Flags,
  mode: number | string | null | undefined,
  use: (fd: number) => Promise<T>,
): Promise<T> {
  const fd = await openFd(path, flags, mode);
  let result: T;
  try {
    result = await use(fd);
  } catch (error) {
    // What went wrong first is what is told.
    await Uring.shared.close(fd).catch(() => {});
    throw error;
  }
  await Uring.shared.close(fd);
  return result;
}

function optionsFor(signal: AbortSignal | undefined, large: boolean): OperationOptions | undefined {
  if (signal === undefined) return large ? { async: true } : undefined;
  return { signal, async: large };
}

/** Reads from where a file is until its end, whether its size is known or not (`/proc`, pipes). */
export async function readAll(
  fd: number,
  signal: AbortSignal | undefined,
  encoding: Encoding | null | undefined,
): Promise<string | Buffer<ArrayBuffer>> {
  const buffer = spare.pop() ?? new Uint8Array(FIRST);
  const options = optionsFor(signal, false);
  let length = 0;
  let ended = false;
  while (!ended && length < FIRST) {
    // A short read is no end: files of /proc come in pieces.
    const count = await Uring.shared.read(fd, length === 0 ? buffer : buffer.subarray(length), options);
    length += count;
    ended = count === 0;
  }
  const result = ended
    ? decodeBorrowed(buffer.subarray(0, length), encoding)
    : decode(await readRest(fd, buffer, signal), encoding);
  // Not after a failure: then nobody can say for sure that the kernel has let go of it.
  if (spare.length < SPARE) spare.push(buffer);
  return result;
}

/** Goes on after the first read has filled its buffer, which is used for looking whether there is more, too. */
async function readRest(
  fd: number,
  first: Uint8Array<ArrayBuffer>,
  signal: AbortSignal | undefined,
): Promise<Uint8Array<ArrayBuffer>> {
  const about = await Uring.shared.statx("", {
    dirfd: fd,
    flags: AT_EMPTY_PATH,
    mask: STATX_TYPE | STATX_SIZE,
  });
  let bytes = new Uint8Array(about.isFile() && about.size > FIRST ? about.size : 4 * FIRST);
  bytes.set(first);
  let length = FIRST;
  for (;;) {
    const full = length === bytes.length;
    const target = full ? first : bytes.subarray(length, length + MOST);
    const count = await Uring.shared.read(fd, target, optionsFor(signal, target.length >= LARGE));
    if (count === 0) return full ? bytes : bytes.subarray(0, length);
    if (full) {
      const more = new Uint8Array(2 * length);
      more.set(bytes);
      more.set(first.subarray(0, count), length);
      bytes = more;
    }
    length += count;
  }
}

/** Reads from where a file is until its end into memory that is there, or that a function gives for the file's size. */
export async function readInto(
  fd: number,
  buffer: ArrayBufferView | ((size: number) => ArrayBufferView),
  signal: AbortSignal | undefined,
): Promise<Buffer<ArrayBuffer>> {
  const view = typeof buffer === "function" ? buffer(await sizeOf(fd)) : buffer;
  if (!ArrayBuffer.isView(view)) {
    throw typeError(
      "ERR_INVALID_ARG_TYPE",
      'The "options.buffer" property must be an ArrayBufferView or a function',
    );
  }
  const bytes = bytesOf(view) as Uint8Array<ArrayBuffer>;
  const options = optionsFor(signal, false);
  let length = 0;
  while (length < bytes.length) {
    const count = await Uring.shared.read(fd, bytes.subarray(length), options);
    if (count === 0) break;
    length += count;
  }
  if (length === bytes.length && await Uring.shared.read(fd, new Uint8Array(1), options) > 0) {
    throw outOfRange("options.buffer", `as large as the file, which has more than ${length} bytes`, length);
  }
  return asBuffer(bytes.subarray(0, length)) as Buffer<ArrayBuffer>;
}

async function sizeOf(fd: number): Promise<number> {
  return (await Uring.shared.statx("", { dirfd: fd, flags: AT_EMPTY_PATH, mask: STATX_SIZE })).size;
}

/**
 * Writes where a file is, or at an offset, and resolves with the number of bytes.
 *
 * After a write where the file is that was cut short (the disk is full), Linux 6.18 leaves the file's position as it
 * was: whoever goes on would write the rest over the beginning.
 */
export async function writeSome(fd: number, bytes: Uint8Array, options: TransferOptions): Promise<number> {
  const { files } = system();
  const here = options.offset === -1 ? files.lseek(fd, 0, SEEK_CUR) : -1;
  const count = await Uring.shared.write(fd, bytes, options);
  if (here >= 0 && count < bytes.length && files.lseek(fd, 0, SEEK_CUR) === here) {
    files.lseek(fd, here + count, SEEK_SET);
  }
  return count;
}

/** Writes all of `bytes`, from `position` on: −1 is where the file is. */
export async function writeAll(
  fd: number,
  bytes: Uint8Array,
  signal?: AbortSignal,
  position: number = -1,
): Promise<void> {
  for (let written = 0; written < bytes.length;) {
    const rest = written === 0 ? bytes : bytes.subarray(written);
    const offset = position < 0 ? -1 : position + written;
    const count = await writeSome(fd, rest, { ...optionsFor(signal, rest.length >= LARGE), offset });
    if (count === 0) throw new UringError(EIO, "write", { hint: "nothing was written" });
    written += count;
  }
}

/** {@link writeAll} of pieces as they come. */
export async function writeChunks(
  fd: number,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<void> {
  for await (const chunk of chunks) {
    throwIfAborted(signal);
    await writeAll(fd, chunk, signal);
  }
}
