/**
 * Asks for COUNT reads in one turn of the event loop, between two system calls that stand out in a trace.
 * Usage: syscalls.ts uring|fs-promises FILE COUNT
 */

import * as fs from "node:fs";
import process from "node:process";

const PAGE = 4096;
/** The ring holds fewer entries than there are reads. */
const ENTRIES = 256;

type ReadAll = (buffers: readonly Uint8Array<ArrayBuffer>[]) => Promise<readonly number[]>;

function mark(name: string): void {
  fs.existsSync(`/uring-bench-${name}`);
}

async function uringReader(path: string): Promise<ReadAll> {
  const { Uring } = await import("../../src/mod.ts");
  const uring = new Uring({ entries: ENTRIES });
  const fd = await uring.openat(path, { flags: fs.constants.O_RDONLY });
  return (buffers) => Promise.all(buffers.map((buffer, i) => uring.read(fd, buffer, { offset: i * PAGE })));
}

async function promisesReader(path: string): Promise<ReadAll> {
  const handle = await fs.promises.open(path, "r");
  return (buffers) =>
    Promise.all(
      buffers.map(async (buffer, i) => (await handle.read(buffer, 0, PAGE, i * PAGE)).bytesRead),
    );
}

const [api = "", path = "", count = "0"] = process.argv.slice(2);
const readAll = await (api === "uring" ? uringReader(path) : promisesReader(path));
const buffers = Array.from({ length: Number(count) }, () => new Uint8Array(new ArrayBuffer(PAGE)));
// One for whatever is made at first use, and a while for it to be done.
await readAll([new Uint8Array(new ArrayBuffer(PAGE))]);
await new Promise((resolve) => setTimeout(resolve, 50));

mark("begin");
const counts = await readAll(buffers);
mark("end");

if (counts.some((got) => got !== PAGE)) throw new Error("a short read");
buffers.forEach((buffer, i) => {
  if (new DataView(buffer.buffer).getUint32(0, true) !== i) throw new Error(`page ${i} is wrong`);
});
process.exit(0);
