/**
 * The benchmarks of `uring/fs`: whole files, durable appends, direct reads, sequential reads, walking a tree, copying,
 * through `uring/fs` or the runtimes' own APIs.
 * Usage: files.ts WHAT API PATH [COUNT|TO], see `BODIES`. Twin of `bench/c/files.c`.
 */

import * as nodeFs from "node:fs";
import * as nodePromises from "node:fs/promises";
import process from "node:process";
import { type Body, nextRandom, SEED, serve } from "./rounds.ts";

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
    file(path: string): { bytes(): Promise<Uint8Array>; stream(): ReadableStream<Uint8Array> };
  };
  readonly Deno: {
    readFile(path: string): Promise<Uint8Array>;
    open(path: string): Promise<{ readonly readable: ReadableStream<Uint8Array> }>;
  };
}
const globals = globalThis as unknown as Globals;

/** `parameter` files at once, again and again. */
async function small(): Promise<Body> {
  const paths = Array.from({ length: Number(extra) }, (_, i) => `${path}/f${i}`);
  let at = 0;
  const next = (): string => {
    at = (at + 1) % paths.length;
    return paths[at]!;
  };
  const { readFile, readFiles } = await promises();
  if (api === "uring-readFiles") {
    return async (_, ops): Promise<void> => {
      function* source(): Generator<string> {
        for (let i = 0; i < ops; i++) yield next();
      }
      for await (const { data } of readFiles(source())) if (data === undefined) throw new Error("not read");
    };
  }
  const one: (path: string) => Promise<Uint8Array> = api === "bun-file"
    ? (path) => globals.Bun.file(path).bytes()
    : api === "deno-readFile"
    ? (path) => globals.Deno.readFile(path)
    : (path) => readFile(path);
  return async (parameter, ops): Promise<void> => {
    for (let done = 0; done < ops; done += parameter) {
      await Promise.all(Array.from({ length: parameter }, () => one(next())));
    }
  };
}

/** `parameter` writers, each of which waits until its record is on the disk. */
async function append(): Promise<Body> {
  const { open } = await promises();
  const file = await open(path, "w");
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
          await file.datasync();
        }
      }
    };
    await Promise.all(Array.from({ length: writers }, writer));
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
  const workers = async (depth: number, ops: number, read: (i: number) => Promise<number>): Promise<void> => {
    let left = ops;
    await Promise.all(Array.from({ length: depth }, async (_, i) => {
      while (left-- > 0) if (await read(i) !== PAGE) throw new Error("a short read");
    }));
  };
  if (api === "uring") {
    const { open, PagePool } = await import("../../src/fs/mod.ts");
    const pages = new PagePool({ count: 128 });
    const held = await Promise.all(Array.from({ length: 128 }, () => pages.take()));
    const file = await open(path, { direct: true });
    return (depth, ops) =>
      workers(depth, ops, async (i) => (await file.readFixed(held[i]!, { position: place() })).bytesRead);
  }
  if (api === "uring-loop") {
    const { Uring } = await import("../../src/mod.ts");
    const uring = new Uring();
    const buffers = Array.from({ length: 128 }, () => uring.registerBuffer(PAGE));
    const fd = await uring.openat(path, { flags: nodeFs.constants.O_DIRECT });
    return (depth, ops) => workers(depth, ops, (i) => uring.readFixed(fd, buffers[i]!, { offset: place() }));
  }
  const handle = await nodePromises.open(path, nodeFs.constants.O_RDONLY | nodeFs.constants.O_DIRECT);
  const probe = nodeFs.openSync(path, nodeFs.constants.O_RDONLY | nodeFs.constants.O_DIRECT);
  const views = Array.from({ length: 128 }, () => alignedMemory(probe));
  return (depth, ops) =>
    workers(depth, ops, async (i) => (await handle.read(views[i]!, 0, PAGE, place())).bytesRead);
}

/** Reads a file of `parameter` MiB from its beginning to its end, again and again. */
async function scan(): Promise<Body> {
  const { open } = await promises();
  const streams: Readonly<Record<string, () => Promise<AsyncIterable<Uint8Array>>>> = {
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
        for (let count = -1; count !== 0; bytes += count) count = (await file.read(buffer)).bytesRead;
      } else for await (const chunk of await streams[api]!()) bytes += chunk.length;
      if (bytes !== mibs * MIB) throw new Error(`${bytes} bytes were read`);
    }
  };
}

/** `lstat` of everything below a directory, which has `parameter` entries. */
async function tree(): Promise<Body> {
  const { lstat, readdir } = await promises();
  const walk = async (directory: string): Promise<number> => {
    const entries = await readdir(directory, { withFileTypes: true });
    const counts = await Promise.all(entries.map(async ({ name }): Promise<number> => {
      const path = `${directory}/${name}`;
      return (await lstat(path)).isDirectory() ? 1 + await walk(path) : 1;
    }));
    return counts.reduce((sum, count) => sum + count, 0);
  };
  return async (entries, ops): Promise<void> => {
    for (let done = 0; done < ops; done += entries) {
      if (await walk(path) !== entries) throw new Error("the tree has another number of entries");
    }
  };
}

/** Copies a file of `parameter` MiB. */
async function copy(): Promise<Body> {
  const { copyFile } = await promises();
  return async (mibs, ops): Promise<void> => {
    for (let done = 0; done < ops; done += mibs) {
      nodeFs.rmSync(extra, { force: true });
      await copyFile(path, extra);
    }
  };
}

const BODIES: Readonly<Record<string, () => Promise<Body>>> = { small, append, direct, scan, tree, copy };
await serve(await BODIES[what]!());
process.exit(0);
