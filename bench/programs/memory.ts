/**
 * Streams a large file, in one of many ways, and tells how many bytes went by.
 * Usage: memory.ts WAY PATH BYTES SMALL_PATH; a pass over the small file, `ready`, then for each line of the standard
 * input a pass over the large one, which has so many bytes, and `done COUNT`.
 */

import * as nodeFs from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { pipeline } from "node:stream/promises";
import { Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import * as fs from "../../src/fs/mod.ts";

const CHUNK = 64 * 1024;
/** How often a slow consumer rests, in bytes, and for how long, in milliseconds. */
const REST_EVERY = 2 * 1024 * 1024;
const REST_MS = 1;

const [way = "", path = "", size = "0", small = ""] = process.argv.slice(2);
/** What goes by in the first pass, which loads and compiles what is needed. */
const SMALL = 256 * 1024;
let from = small;
let bytesToWrite = SMALL;

/** The few members of the runtimes' globals that are measured. */
interface Globals {
  readonly Bun: { file(path: string): { stream(): ReadableStream<Uint8Array> } };
  readonly Deno: { open(path: string): Promise<{ readonly readable: ReadableStream<Uint8Array> }> };
}
const globals = globalThis as unknown as Globals;

/** Counts bytes; a slow one rests now and then. */
function counter(slow: boolean): { bytes: number; take(chunk: Uint8Array): Promise<void> | undefined } {
  let rested = 0;
  return {
    bytes: 0,
    take(chunk): Promise<void> | undefined {
      this.bytes += chunk.length;
      if (!slow || this.bytes - rested < REST_EVERY) return undefined;
      rested = this.bytes;
      return sleep(REST_MS);
    },
  };
}

async function read(chunks: AsyncIterable<Uint8Array>, slow: boolean): Promise<number> {
  const count = counter(slow);
  for await (const chunk of chunks) await count.take(chunk);
  return count.bytes;
}

async function pipe(stream: ReadableStream<Uint8Array>, slow: boolean): Promise<number> {
  const count = counter(slow);
  await stream.pipeTo(new WritableStream({ write: (chunk) => count.take(chunk) }));
  return count.bytes;
}

async function byob(stream: ReadableStream<Uint8Array>): Promise<number> {
  const reader = stream.getReader({ mode: "byob" });
  let memory = new Uint8Array(CHUNK);
  for (let bytes = 0;;) {
    const { value, done } = await reader.read(memory);
    if (done) return bytes;
    bytes += value.length;
    memory = new Uint8Array(value.buffer as ArrayBuffer);
  }
}

/** The same chunk, again and again: what is measured is what the library allocates. */
function* chunks(): Generator<Uint8Array> {
  const chunk = new Uint8Array(CHUNK);
  for (let at = 0; at < bytesToWrite; at += CHUNK) yield chunk;
}

async function writeWeb(): Promise<number> {
  const file = await fs.open("/dev/null", "w");
  const writer = file.writableWebStream({ autoClose: true }).getWriter();
  const chunk = new Uint8Array(CHUNK);
  for (let at = 0; at < bytesToWrite; at += CHUNK) {
    await writer.ready;
    writer.write(chunk).catch(() => {});
  }
  await writer.close();
  return bytesToWrite;
}

const web = async (): Promise<ReadableStream<Uint8Array>> =>
  (await fs.open(from)).readableWebStream({ autoClose: true }) as unknown as ReadableStream<Uint8Array>;
const node = async (): Promise<AsyncIterable<Uint8Array>> => (await fs.open(from)).createReadStream();
const nodeOwn = (): AsyncIterable<Uint8Array> => nodeFs.createReadStream(from);
const slowSink = (): { sink: Writable; count: { bytes: number } } => {
  const count = counter(true);
  const sink = new Writable({
    write(chunk, _, callback): void {
      Promise.resolve(count.take(chunk)).then(() => callback(), callback);
    },
  });
  return { sink, count };
};

const WAYS: Readonly<Record<string, () => Promise<number>>> = {
  "web": async () => await read(await web(), false),
  "web-slow": async () => await pipe(await web(), true),
  "web-byob": async () => await byob(await web()),
  "web-write": writeWeb,
  "web-copy": async () => {
    const to = await fs.open("/dev/null", "w");
    await (await web()).pipeTo(to.writableWebStream({ autoClose: true }));
    return bytesToWrite;
  },
  "node": async () => await read(await node(), false),
  "node-slow": async () => {
    const { sink, count } = slowSink();
    await pipeline((await fs.open(from)).createReadStream(), sink);
    return count.bytes;
  },
  "node-write": async () => {
    await pipeline(chunks(), (await fs.open("/dev/null", "w")).createWriteStream());
    return bytesToWrite;
  },
  "pull": async () => {
    await using file = await fs.open(from);
    let bytes = 0;
    for await (const batch of file.pull()) for (const chunk of batch) bytes += chunk.length;
    return bytes;
  },
  "chunks": async () => {
    await using file = await fs.open(from);
    return await read(file.readChunks(), false);
  },
  "write-file": async () => {
    await fs.writeFile("/dev/null", chunks());
    return bytesToWrite;
  },
  "own-node": async () => await read(nodeOwn(), false),
  "own-bun": async () =>
    await read(globals.Bun.file(from).stream() as unknown as AsyncIterable<Uint8Array>, false),
  "own-deno": async () => await read((await globals.Deno.open(from)).readable, false),
};

const write = (line: string): void => void nodeFs.writeSync(1, `${line}\n`);
await WAYS[way]!();
from = path;
bytesToWrite = Number(size);
write("ready");
for await (const _ of createInterface({ input: process.stdin })) write(`done ${await WAYS[way]!()}`);
process.exit(0);
