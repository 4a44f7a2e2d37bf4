/**
 * The benchmarks of `uring/fs`: whole files, durable appends, direct reads, sequential reads, walking and removing a tree,
 * copying, through `uring/fs` or the runtimes' own APIs.
 * Usage: files.ts WHAT API PATH [COUNT|TO], see `BODIES`. Twin of `bench/c/files.c` and `bench/c/small_files.c`.
 */

import * as nodeFs from "node:fs";
import * as nodePromises from "node:fs/promises";
import process from "node:process";
import { type Body, digest, nextRandom, SEED, serve } from "./rounds.ts";

const PAGE = 4096;
const MIB = 1024 * 1024;

const [what = "", api = "", path = "", extra = ""] = process.argv.slice(2);

type Promises = typeof import("../../src/fs/mod.ts");

/** `uring/fs`, or what it stands in for. */
async function promises(): Promise<Promises> {
  return api.startsWith("uring") ? await import("../../src/fs/mod.ts") : nodePromises as unknown as Promises;
}

/** The few members of the runtimes' globals that are measured. */
interface Globals {
  readonly Bun: {
    file(path: string): {
      bytes(): Promise<Uint8Array>;
      stat(): Promise<{ readonly size: number }>;
      stream(): ReadableStream<Uint8Array>;
    };
    write(to: unknown, from: unknown): Promise<number>;
  };
  readonly Deno: {
    readFile(path: string): Promise<Uint8Array>;
    open(path: string): Promise<{ readonly readable: ReadableStream<Uint8Array> }>;
    stat(path: string): Promise<{ readonly size: number }>;
    lstat(path: string): Promise<{ readonly size: number; readonly isDirectory: boolean }>;
    readDir(path: string): AsyncIterable<{ readonly name: string }>;
    copyFile(from: string, to: string): Promise<void>;
    remove(path: string, options: { recursive: boolean }): Promise<void>;
  };
}
const globals = globalThis as unknown as Globals;

function checkContent(bytes: Uint8Array): void {
  let sum = 1;
  for (const byte of bytes) sum += byte;
  digest.add(Math.imul(bytes.length + 1, sum));
}

/** Pages begin with their number; each counts with its place. The chunk may begin and end anywhere. */
function checkPages(chunk: Uint8Array, offset: number): void {
  for (let page = Math.floor(offset / PAGE);; page++) {
    if (page * PAGE - offset >= chunk.length) return;
    for (let i = 0; i < 4; i++) {
      const byte = chunk[page * PAGE + i - offset] ?? 0;
      digest.add(Math.imul(byte << (8 * i), 2 * page + 1));
    }
  }
}

type ReadOne = (path: string) => Promise<Uint8Array>;
type StatOne = (path: string) => Promise<{ readonly size: number }>;

async function readers(): Promise<{ readOne: ReadOne; statOne: StatOne }> {
  const { readFile, stat } = await promises();
  if (api === "bun-file") {
    return {
      readOne: (path) => globals.Bun.file(path).bytes(),
      statOne: (path) => globals.Bun.file(path).stat(),
    };
  }
  if (api === "deno-readFile") {
    return { readOne: (path) => globals.Deno.readFile(path), statOne: (path) => globals.Deno.stat(path) };
  }
  return { readOne: (path) => readFile(path), statOne: (path) => stat(path) };
}

/** `parameter` files at once, again and again. */
async function small(): Promise<Body> {
  const paths = Array.from({ length: Number(extra) }, (_, i) => `${path}/f${i}`);
  let at = 0;
  const next = (): string => {
    at = (at + 1) % paths.length;
    return paths[at]!;
  };
  if (api === "uring-readFiles") {
    const { readFiles } = await import("../../src/fs/mod.ts");
    return async (_, ops): Promise<void> => {
      function* source(): Generator<string> {
        for (let i = 0; i < ops; i++) yield next();
      }
      for await (const { data } of readFiles(source())) {
        if (data === undefined) throw new Error("not read");
        if (digest.wanted) checkContent(data);
      }
    };
  }
  const { readOne, statOne } = await readers();
  const one = what === "small" ? readOne : async (path: string): Promise<Uint8Array> => {
    const { size } = await statOne(path);
    if (digest.wanted) digest.add(size);
    return await readOne(path);
  };
  return async (parameter, ops): Promise<void> => {
    for (let done = 0; done < ops; done += parameter) {
      const all = await Promise.all(Array.from({ length: parameter }, () => one(next())));
      if (digest.wanted) all.forEach(checkContent);
    }
  };
}

/** `parameter` writers, each of which waits until its record is on the disk. */
async function append(): Promise<Body> {
  const { open } = await promises();
  const synchronous = api === "fs-promises-dsync";
  const { O_WRONLY, O_CREAT, O_DSYNC } = nodeFs.constants;
  const file = await open(path, synchronous ? O_WRONLY | O_CREAT | O_DSYNC : "w");
  const record = new Uint8Array(PAGE).fill(1);
  return async (writers, ops): Promise<void> => {
    await file.truncate(0);
    await file.sync();
    let left = ops;
    let at = 0;
    const writer = async (): Promise<void> => {
      while (left-- > 0) {
        if (api === "uring") await file.append(record, { durable: true });
        else {
          const position = at;
          at += PAGE;
          await file.write(record, 0, PAGE, position);
          if (!synchronous) await file.datasync();
        }
      }
    };
    await Promise.all(Array.from({ length: writers }, writer));
    if (!digest.wanted) return;
    for (const byte of nodeFs.readFileSync(path)) digest.add(byte);
    digest.add(ops);
  };
}

/** Memory whose address a direct read takes: found by trying. */
function alignedMemory(fd: number): Uint8Array {
  const memory = new Uint8Array(new ArrayBuffer(4 * PAGE));
  for (let at = 0; at < PAGE; at += 8) {
    const view = memory.subarray(at, at + PAGE);
    try {
      if (nodeFs.readSync(fd, view, 0, PAGE, 0) === PAGE) return view;
    } catch {
      // Not this one.
    }
  }
  throw new Error("no aligned memory was found");
}

/** 4 KiB at random places past the cache, `depth` at a time. */
async function direct(): Promise<Body> {
  const mask = nodeFs.statSync(path).size / PAGE - 1;
  let random = SEED;
  const place = (): number => {
    random = nextRandom(random);
    return (random & mask) * PAGE;
  };
  const workers = async (
    depth: number,
    ops: number,
    memory: (i: number) => Uint8Array,
    read: (i: number) => Promise<number>,
  ): Promise<void> => {
    let left = ops;
    random = SEED;
    await Promise.all(Array.from({ length: depth }, async (_, i) => {
      while (left-- > 0) {
        if (await read(i) !== PAGE) throw new Error("a short read");
        if (digest.wanted) checkPages(memory(i), 0);
      }
    }));
  };
  if (api === "uring") {
    const { open, PagePool } = await import("../../src/fs/mod.ts");
    const pages = new PagePool({ count: 128 });
    const held = await Promise.all(Array.from({ length: 128 }, () => pages.take()));
    const file = await open(path, { direct: true });
    return (depth, ops) =>
      workers(
        depth,
        ops,
        (i) => held[i]!.bytes,
        async (i) => (await file.readFixed(held[i]!, { position: place() })).bytesRead,
      );
  }
  if (api === "uring-loop") {
    const { Uring } = await import("../../src/mod.ts");
    const uring = new Uring();
    const buffers = Array.from({ length: 128 }, () => uring.registerBuffer(PAGE));
    const fd = await uring.openat(path, { flags: nodeFs.constants.O_DIRECT });
    return (depth, ops) =>
      workers(
        depth,
        ops,
        (i) => buffers[i]!.bytes,
        (i) => uring.readFixed(fd, buffers[i]!, { offset: place() }),
      );
  }
  const handle = await nodePromises.open(path, nodeFs.constants.O_RDONLY | nodeFs.constants.O_DIRECT);
  const probe = nodeFs.openSync(path, nodeFs.constants.O_RDONLY | nodeFs.constants.O_DIRECT);
  const views = Array.from({ length: 128 }, () => alignedMemory(probe));
  const callback = (i: number): Promise<number> =>
    new Promise((resolve, reject) =>
      nodeFs.read(
        probe,
        views[i]!,
        0,
        PAGE,
        place(),
        (error, count) => error ? reject(error) : resolve(count),
      )
    );
  const promised = async (i: number): Promise<number> =>
    (await handle.read(views[i]!, 0, PAGE, place())).bytesRead;
  return (depth, ops) => workers(depth, ops, (i) => views[i]!, api === "fs-read" ? callback : promised);
}

/** Reads a file of `parameter` MiB from its beginning to its end, again and again. */
async function scan(): Promise<Body> {
  const { open } = await promises();
  const streams: Readonly<Record<string, () => Promise<AsyncIterable<Uint8Array>>>> = {
    "uring-chunks": async () => (await open(path)).readChunks({ autoClose: true }),
    "uring": async () => (await open(path)).readableWebStream({ autoClose: true }),
    "fs-stream": () => Promise.resolve(nodeFs.createReadStream(path, { highWaterMark: 256 * 1024 })),
    "bun-stream": () => Promise.resolve(globals.Bun.file(path).stream()),
    "deno-stream": async () => (await globals.Deno.open(path)).readable,
  };
  return async (mibs, ops): Promise<void> => {
    for (let done = 0; done < ops; done += mibs) {
      let bytes = 0;
      if (api.endsWith("-read")) {
        await using file = await open(path);
        const buffer = new Uint8Array(256 * 1024);
        for (let count = -1; count !== 0; bytes += count) {
          count = (await file.read(buffer)).bytesRead;
          if (digest.wanted) checkPages(buffer.subarray(0, count), bytes);
        }
      } else {
        for await (const chunk of await streams[api]!()) {
          if (digest.wanted) checkPages(chunk, bytes);
          bytes += chunk.length;
        }
      }
      if (bytes !== mibs * MIB) throw new Error(`${bytes} bytes were read`);
    }
  };
}

type Walk = (directory: string) => Promise<number>;

/** Walks with `Deno.readDir`. */
function denoWalk(): Walk {
  const { readDir, lstat } = globals.Deno;
  return async function walk(directory): Promise<number> {
    const found: Promise<number>[] = [];
    const one = async (path: string): Promise<number> => {
      const about = await lstat(path);
      if (digest.wanted) digest.add(about.size);
      return about.isDirectory ? 1 + await walk(path) : 1;
    };
    for await (const { name } of readDir(directory)) found.push(one(`${directory}/${name}`));
    return (await Promise.all(found)).reduce((sum, count) => sum + count, 0);
  };
}

async function nodeWalk(): Promise<Walk> {
  const { lstat, readdir } = await promises();
  return async function walk(directory): Promise<number> {
    const entries = await readdir(directory, { withFileTypes: true });
    const counts = await Promise.all(entries.map(async ({ name }): Promise<number> => {
      const path = `${directory}/${name}`;
      const about = await lstat(path);
      if (digest.wanted) digest.add(about.size);
      return about.isDirectory() ? 1 + await walk(path) : 1;
    }));
    return counts.reduce((sum, count) => sum + count, 0);
  };
}

/** `lstat` of everything below a directory, which has `parameter` entries. */
async function tree(): Promise<Body> {
  const walk = api === "deno-walk" ? denoWalk() : await nodeWalk();
  return async (entries, ops): Promise<void> => {
    for (let done = 0; done < ops; done += entries) {
      if (await walk(path) !== entries) throw new Error("the tree has another number of entries");
    }
  };
}

/** Removes a tree. */
async function remove(): Promise<Body> {
  const { rm } = await promises();
  if (api === "deno-remove") return () => globals.Deno.remove(path, { recursive: true });
  return () => rm(path, { recursive: true });
}

/** Copies a file of `parameter` MiB to where there is none. */
async function copy(): Promise<Body> {
  const { copyFile } = await promises();
  const { Bun, Deno } = globals;
  if (api === "deno-copyFile") return () => Deno.copyFile(path, extra);
  if (api === "bun-write") return async () => void await Bun.write(Bun.file(extra), Bun.file(path));
  return () => copyFile(path, extra);
}

const BODIES: Readonly<Record<string, () => Promise<Body>>> = {
  small,
  "small-stat": small,
  append,
  direct,
  scan,
  tree,
  rm: remove,
  copy,
};
await serve(await BODIES[what]!());
process.exit(0);
