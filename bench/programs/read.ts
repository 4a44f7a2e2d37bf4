/**
 * 4 KiB reads at random pages of one cached file, DEPTH of them in flight, through the API that is named.
 * Usage: read.ts API FILE one|each, see `APIS`. Twin of `bench/c/read.c`.
 *
 * `one`: all reads go through one open file. `each`: every loop has the file open for itself, which matters where a
 * runtime lets only one operation at a time touch an open file (Deno) or where reading moves a position.
 */

import * as fs from "node:fs";
import process from "node:process";
import { nextRandom, SEED, serve } from "./rounds.ts";

const PAGE = 4096;
const MAX_DEPTH = 128;

/** Reads `PAGE` bytes at `offset` into `buffer`, or gives its bytes; gives the count or the bytes. */
type ReadPage = (buffer: Uint8Array<ArrayBuffer>, offset: number) => Promise<number | ArrayBuffer>;

const [api = "", path = "", sharing = "one"] = process.argv.slice(2);
const pageMask = fs.statSync(path).size / PAGE - 1;
if ((pageMask & (pageMask + 1)) !== 0) throw new Error("the file's size in pages is no power of two");

let random = SEED;
let left = 0;

function nextPage(): number {
  random = nextRandom(random);
  return random & pageMask;
}

/** Every page of the file starts with its own number. */
function check(buffer: ArrayBuffer, page: number): void {
  const found = new DataView(buffer).getUint32(0, true);
  if (found !== page) throw new Error(`page ${page} was read as ${found}`);
}

function short(got: number): never {
  throw new Error(`a read gave ${got} bytes`);
}

/** One loop that awaits a read, then asks for the next; `DEPTH` of these run at once. */
async function worker(readPage: ReadPage): Promise<void> {
  const buffer = new Uint8Array(new ArrayBuffer(PAGE));
  let page = 0;
  let got: number | ArrayBuffer = buffer.buffer;
  while (left > 0) {
    left--;
    page = nextPage();
    got = await readPage(buffer, page * PAGE);
    const count = typeof got === "number" ? got : got.byteLength;
    if (count !== PAGE) short(count);
  }
  check(typeof got === "number" ? buffer.buffer : got, page);
}

/** `MAX_DEPTH` times what `open` gives: the same thing, or one each. */
async function forWorkers<T>(open: () => T | Promise<T>): Promise<T[]> {
  const first = await open();
  const all = [first];
  while (all.length < MAX_DEPTH) all.push(sharing === "each" ? await open() : first);
  return all;
}

/** Serves with an asynchronous API. */
async function serveWorkers(openReader: () => ReadPage | Promise<ReadPage>): Promise<void> {
  const readers = await forWorkers(openReader);
  await serve(async (depth, ops) => {
    random = SEED;
    left = ops;
    await Promise.all(readers.slice(0, depth).map(worker));
  });
}

/** Serves with a synchronous API, where the depth means nothing. */
async function serveSync(
  readPage: (buffer: Uint8Array<ArrayBuffer>, offset: number) => number,
): Promise<void> {
  const buffer = new Uint8Array(new ArrayBuffer(PAGE));
  await serve((_depth, ops) => {
    random = SEED;
    let page = 0;
    for (let i = 0; i < ops; i++) {
      page = nextPage();
      const count = readPage(buffer, page * PAGE);
      if (count !== PAGE) short(count);
    }
    check(buffer.buffer, page);
  });
}

async function uringApi(): Promise<void> {
  const { Uring } = await import("../../src/mod.ts");
  const uring = new Uring({ entries: 256 });
  const fd = await uring.openat(path, { flags: fs.constants.O_RDONLY });
  await serveWorkers(() => (buffer, offset) => uring.read(fd, buffer, { offset }));
  await uring.disposeAsync();
}

function fsPromises(): Promise<void> {
  return serveWorkers(async () => {
    const handle = await fs.promises.open(path, "r");
    return async (buffer, offset) => (await handle.read(buffer, 0, PAGE, offset)).bytesRead;
  });
}

/** The callbacks as a server would use them: each one asks for the next read, no promise in between. */
async function fsCallback(): Promise<void> {
  const fds = await forWorkers(() => fs.openSync(path, "r"));
  await serve((depth, ops) =>
    new Promise<void>((resolve, reject) => {
      random = SEED;
      left = ops;
      let running = depth;
      const start = (fd: number): void => {
        const buffer = new Uint8Array(new ArrayBuffer(PAGE));
        let page = 0;
        const next = (): void => {
          left--;
          page = nextPage();
          fs.read(fd, buffer, 0, PAGE, page * PAGE, onRead);
        };
        const onRead = (error: Error | null, count: number): void => {
          if (error !== null) return reject(error);
          if (count !== PAGE) return reject(new Error(`a read gave ${count} bytes`));
          if (left > 0) return next();
          check(buffer.buffer, page);
          if (--running === 0) resolve();
        };
        next();
      };
      for (const fd of fds.slice(0, depth)) start(fd);
    })
  );
}

function fsSync(): Promise<void> {
  const fd = fs.openSync(path, "r");
  return serveSync((buffer, offset) => fs.readSync(fd, buffer, 0, PAGE, offset));
}

/** The few members of the runtimes' globals that are measured. */
interface Globals {
  readonly Bun: { file(path: string): { slice(start: number, end: number): Blob } };
  readonly Deno: {
    readonly SeekMode: { readonly Start: number };
    openSync(path: string): {
      seek(offset: number, whence: number): Promise<number>;
      seekSync(offset: number, whence: number): number;
      read(buffer: Uint8Array): Promise<number | null>;
      readSync(buffer: Uint8Array): number | null;
    };
  };
}

const globals = globalThis as unknown as Globals;

function bunFile(): Promise<void> {
  return serveWorkers(() => (_buffer, offset) =>
    globals.Bun.file(path).slice(offset, offset + PAGE).arrayBuffer()
  );
}

function denoFile(): Promise<void> {
  const { openSync, SeekMode } = globals.Deno;
  return serveWorkers(() => {
    const file = openSync(path);
    return async (buffer, offset) => {
      await file.seek(offset, SeekMode.Start);
      return await file.read(buffer) ?? 0;
    };
  });
}

/** Seeking never blocks: the quickest an asynchronous read of `Deno.FsFile` can be. */
function denoFileSeekSync(): Promise<void> {
  const { openSync, SeekMode } = globals.Deno;
  return serveWorkers(() => {
    const file = openSync(path);
    return async (buffer, offset) => {
      file.seekSync(offset, SeekMode.Start);
      return await file.read(buffer) ?? 0;
    };
  });
}

function denoFileSync(): Promise<void> {
  const file = globals.Deno.openSync(path);
  const whence = globals.Deno.SeekMode.Start;
  return serveSync((buffer, offset) => {
    file.seekSync(offset, whence);
    return file.readSync(buffer) ?? 0;
  });
}

const APIS: Readonly<Record<string, () => Promise<void>>> = {
  "uring": uringApi,
  "fs-promises": fsPromises,
  "fs-callback": fsCallback,
  "fs-sync": fsSync,
  "bun-file": bunFile,
  "deno-file": denoFile,
  "deno-file-seek-sync": denoFileSeekSync,
  "deno-file-sync": denoFileSync,
};

const run = APIS[api];
if (run === undefined) throw new Error(`no such API: ${api}`);
await run();
process.exit(0);
