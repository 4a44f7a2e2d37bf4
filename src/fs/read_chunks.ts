/**
 * A file from its beginning to its end, through the same memory again and again.
 *
 * @module
 */
import { SEEK_CUR, SEEK_SET } from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import { severalCores } from "../loop/process.ts";
import { Uring } from "../mod.ts";
import { checkFlag, checkOptions, integer } from "./arguments.ts";
import { outOfRange } from "./errors.ts";
import type { StreamFile, StreamRange } from "./web_streams.ts";

/** Options of `FileHandle.readChunks`. */
export interface ReadChunksOptions extends StreamRange {
  /** The size of a chunk in bytes; default 256 KiB. */
  size?: number | undefined;
}

const SIZE = 256 * 1024;
/** Chunks that are smaller than this are read before a thread of the kernel's is awake. */
const LARGE = 64 * 1024;
const MOST = 2 ** 30;
const WASM_PAGE = 64 * 1024;

/** Checks the options. */
export function checkReadChunks(options: ReadChunksOptions): void {
  checkOptions(options);
  const { size, start, autoClose } = options;
  if (size !== undefined && integer("options.size", size, MOST) === 0) {
    throw outOfRange("options.size", ">= 1", size);
  }
  if (start !== undefined) integer("options.start", start, Number.MAX_SAFE_INTEGER);
  if (autoClose !== undefined) checkFlag("autoClose", autoClose);
}

/** The chunks; `lock` keeps the file, and gives what lets go of it. */
export async function* chunksFrom(
  file: StreamFile,
  options: ReadChunksOptions,
  lock: () => () => void,
): AsyncGenerator<Uint8Array<ArrayBuffer>, undefined> {
  const unlock = lock();
  const { size = SIZE, start } = options;
  let ahead: Promise<Uint8Array<ArrayBuffer>>[] = [];
  // Where the file is; −1: what has no places (a pipe, a terminal) is never read ahead, for it cannot be given back.
  let at = start ?? await file.use("read", (fd) => Promise.resolve(Math.max(-1, seek(fd, 0, SEEK_CUR))));
  let taken = at;
  let next = at;
  let count = 0;
  // How many are on their way while one is taken: one is read on this thread, and one on another core.
  const most = size >= LARGE && severalCores() ? 2 : 1;
  try {
    const pieces = memoryOf(most + 1, size);
    const begin = (): void => {
      const reading = readInto(file, pieces[count % pieces.length]!, next, count % most === 1);
      // Whoever takes it sees its failure.
      reading.catch(() => {});
      ahead.push(reading);
      count++;
      if (next >= 0) next += size;
    };
    for (;;) {
      if (ahead.length === 0) begin();
      const chunk = await ahead.shift()!;
      if (chunk.length === 0) return undefined;
      if (at >= 0) {
        at += chunk.length;
        taken = at;
        if (chunk.length < size) {
          // It ends here, or comes in pieces.
          await Promise.allSettled(ahead);
          ahead = [];
          next = at;
          begin();
        } else while (ahead.length < most) begin();
      }
      yield chunk;
    }
  } finally {
    await Promise.allSettled(ahead);
    // What was read ahead and not taken is still to be read.
    if (start === undefined && taken >= 0) {
      await file.use("read", (fd) => Promise.resolve(seek(fd, taken, SEEK_SET))).catch(() => {});
    }
    unlock();
    if (options.autoClose === true) await file.close();
  }
}

function seek(fd: number, offset: number, whence: number): number {
  return system().files.lseek(fd, offset, whence);
}

async function readInto(
  file: StreamFile,
  memory: Uint8Array<ArrayBuffer>,
  offset: number,
  async: boolean,
): Promise<Uint8Array<ArrayBuffer>> {
  const count = await file.use("read", (fd) => Uring.shared.read(fd, memory, { offset, async }));
  return count === memory.length ? memory : memory.subarray(0, count);
}

/**
 * Memory for a chunk that is taken and those that are on their way. That of WebAssembly cannot be transferred: whoever keeps a
 * chunk for too long sees other bytes in it, but never takes away the memory that the kernel is writing to.
 */
function memoryOf(length: number, size: number): Uint8Array<ArrayBuffer>[] {
  const pages = Math.ceil(length * size / WASM_PAGE);
  const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages });
  return Array.from({ length }, (_, i) => new Uint8Array(buffer as ArrayBuffer, i * size, size));
}
