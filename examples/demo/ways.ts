/**
 * The ways of reading a list of files that the demo compares. Each of them reads every file to its end, with the same
 * number of files in flight, and hands what it read to the same function.
 *
 * @module
 */
import { closeSync, openSync, readSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import process from "node:process";
import { Uring } from "uring";

/** How many files are in flight. */
export const IN_FLIGHT: number = 64;
/** The size of the buffers of those ways that use their own: 8 MiB in all, whatever the size of the files. */
export const CHUNK: number = 128 * 1024;

/** Gets a file's content piece by piece; a piece is overwritten once this has returned. */
export type Take = (piece: Uint8Array) => void;

/** One way of reading a file. */
export interface Way {
  /** For the command line between the processes. */
  readonly id: string;
  /** For the reader of the table. */
  readonly label: string;
  /** Whether nothing else can run meanwhile: one file after the other, the event loop stands still. */
  readonly blocks: boolean;
  /** Reads a file; `buffer` is one of this file's own. */
  read(path: string, buffer: Uint8Array, take: Take): Promise<void> | void;
}

/** Open, read until the end, close: with promises, yet a system call is made for all that is asked for in one turn. */
export function uringWay(uring: Uring): Way {
  return {
    id: "uring",
    label: "uring",
    blocks: false,
    async read(path, buffer, take) {
      const fd = await uring.openat(path);
      try {
        for (let offset = 0;;) {
          const length = await uring.read(fd, buffer, { offset });
          if (length > 0) take(buffer.subarray(0, length));
          // A regular file gives less than asked for at its end only.
          if (length < buffer.length) break;
          offset += length;
        }
      } finally {
        await uring.close(fd);
      }
    },
  };
}

/** The same steps with the runtime's promises. */
const handles: Way = {
  id: "handles",
  label: "node:fs/promises, open + read + close",
  blocks: false,
  async read(path, buffer, take) {
    const handle = await open(path);
    try {
      for (;;) {
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, null);
        if (bytesRead > 0) take(buffer.subarray(0, bytesRead));
        if (bytesRead < buffer.length) break;
      }
    } finally {
      await handle.close();
    }
  },
};

const whole: Way = {
  id: "readfile",
  label: "node:fs/promises, readFile",
  blocks: false,
  read: async (path, _buffer, take) => take(await readFile(path)),
};

const blocking: Way = {
  id: "sync",
  label: "node:fs, openSync + readSync + closeSync",
  blocks: true,
  read(path, buffer, take) {
    const fd = openSync(path, "r");
    try {
      for (;;) {
        const length = readSync(fd, buffer, 0, buffer.length, null);
        if (length > 0) take(buffer.subarray(0, length));
        if (length < buffer.length) break;
      }
    } finally {
      closeSync(fd);
    }
  },
};

const bunFile: Way = {
  id: "own",
  label: "Bun.file().bytes()",
  blocks: false,
  read: async (path, _buffer, take) => take(await Bun.file(path).bytes()),
};

const denoReadFile: Way = {
  id: "own",
  label: "Deno.readFile",
  blocks: false,
  read: async (path, _buffer, take) => {
    const { Deno } = globalThis as unknown as { Deno: { readFile(path: string): Promise<Uint8Array> } };
    take(await Deno.readFile(path));
  },
};

/** All ways that this runtime has, uring's first. */
export function waysHere(uring: Uring): readonly Way[] {
  const own = process.versions["bun"] === undefined ? denoReadFile : bunFile;
  return [uringWay(uring), own, whole, handles, blocking];
}

/** A file that could not be read. */
export interface Failure {
  /** Its place in the list. */
  readonly index: number;
  /** Why. */
  readonly message: string;
}

/** What reading a list of files has given. */
export interface Pass {
  readonly seconds: number;
  readonly files: number;
  readonly bytes: number;
  readonly failures: readonly Failure[];
}

/** How a list is read. */
export interface PassOptions {
  /** Makes what takes a file's content. */
  open?(index: number): Take;
  /** Called when a file has been read to its end. */
  done?(index: number): void;
}

// The buffers are made once, as a program would: what is measured is reading.
const buffers = Array.from({ length: IN_FLIGHT }, () => new Uint8Array(new ArrayBuffer(CHUNK)));

/** Reads all files of a list. A file that cannot be read is noted and does not stop it. */
export async function readAll(way: Way, paths: readonly string[], options: PassOptions = {}): Promise<Pass> {
  const failures: Failure[] = [];
  let next = 0;
  let files = 0;
  let bytes = 0;
  const worker = async (buffer: Uint8Array): Promise<void> => {
    while (next < paths.length) {
      const index = next++;
      const take = options.open?.(index);
      try {
        const reading = way.read(paths[index]!, buffer, (piece) => {
          bytes += piece.length;
          take?.(piece);
        });
        if (reading !== undefined) await reading;
        files++;
        options.done?.(index);
      } catch (error) {
        failures.push({ index, message: messageOf(error) });
      }
    }
  };
  const started = performance.now();
  await Promise.all(buffers.slice(0, way.blocks ? 1 : IN_FLIGHT).map(worker));
  const seconds = (performance.now() - started) / 1000;
  return { seconds, files, bytes, failures };
}

/** The runtimes word the same failure in many ways: its code says enough. */
function messageOf(error: unknown): string {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return typeof code === "string" ? code : String(message ?? error);
}
