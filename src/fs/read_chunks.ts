/**
 * A file from its beginning to its end, through the same memory again and again.
 *
 * @module
 */
import { SEEK_CUR, SEEK_SET } from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import { Uring } from "../mod.ts";
import { checkFlag, checkOptions, integer } from "./arguments.ts";
import { outOfRange } from "./errors.ts";
import type { StreamFile, StreamRange } from "./web_streams.ts";

/** Options of `FileHandle.readChunks`. */
export interface ReadChunksOptions extends StreamRange {
  /** The size of a chunk in bytes; default 256 KiB. */
  size?: number | undefined;
}

// Two of them stay in the cache of a core.
const SIZE = 256 * 1024;
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
  let next: Promise<Uint8Array<ArrayBuffer>> | null = null;
  // Where the file is; −1: what has no places (a pipe, a terminal) is never read ahead, for it cannot be given back.
  let at = start ?? await file.use("read", (fd) => Promise.resolve(Math.max(-1, seek(fd, 0, SEEK_CUR))));
  let taken = at;
  const fetch = (memory: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> => {
    const reading = readInto(file, memory, at);
    // Whoever takes it sees its failure.
    reading.catch(() => {});
    return reading;
  };
  try {
    const halves = memoryOf(size);
    for (let i = 0;; i ^= 1) {
      const chunk = await (next ?? fetch(halves[i]!));
      next = null;
      if (chunk.length === 0) return undefined;
      if (at >= 0) {
        at += chunk.length;
        taken = at;
        next = fetch(halves[i ^ 1]!);
      }
      yield chunk;
    }
  } finally {
    await next?.catch(() => {});
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
  at: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const count = await file.use("read", (fd) => Uring.shared.read(fd, memory, { offset: at }));
  return count === memory.length ? memory : memory.subarray(0, count);
}

/**
 * Memory for one chunk that is taken and one that is on its way. That of WebAssembly cannot be transferred: whoever keeps a
 * chunk for too long sees other bytes in it, but never takes away the memory that the kernel is writing to.
 */
function memoryOf(size: number): [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>] {
  const pages = Math.ceil(2 * size / WASM_PAGE);
  const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages });
  return [new Uint8Array(buffer as ArrayBuffer, 0, size), new Uint8Array(buffer as ArrayBuffer, size, size)];
}
