/**
 * 4 KiB reads with `O_DIRECT` at random pages of a disk, DEPTH of them in flight; the disk interrupts, or is polled.
 * Usage: iopoll.ts ring|uring interrupt|polled|hybrid DISK PAGES. Twin of `bench/c/iopoll.c`, which `ring` does the same as;
 * `uring` awaits each read in one of DEPTH loops.
 */

import process from "node:process";
import { Mapping, Uring } from "../../src/mod.ts";
import {
  type Cqe,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_HYBRID_IOPOLL,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SINGLE_ISSUER,
  O_DIRECT,
  O_RDONLY,
  Ring,
} from "../../src/ring/mod.ts";
import { nextRandom, SEED, serve } from "./rounds.ts";

const ENTRIES = 64;
const PAGE = 4096;

const MODES: Readonly<Record<string, number>> = {
  interrupt: 0,
  polled: IORING_SETUP_IOPOLL,
  hybrid: IORING_SETUP_IOPOLL | IORING_SETUP_HYBRID_IOPOLL,
};

const [api = "", mode = "", path = "", pages = ""] = process.argv.slice(2);
const found = MODES[mode];
if (found === undefined) throw new Error(`no such mode: ${mode}`);
const flags = found;
const pageMask = Number(pages) - 1;

const memory = Mapping.anonymous(ENTRIES * PAGE);
const words = new Uint32Array(memory.buffer);
const pagesAsked = new Int32Array(ENTRIES);
let random = SEED;

function nextPage(slot: number): number {
  random = nextRandom(random);
  return pagesAsked[slot] = random & pageMask;
}

/** Every page of the disk starts with its own number. */
function check(slot: number): void {
  const got = words[slot * PAGE / 4];
  if (got !== pagesAsked[slot]) throw new Error(`page ${pagesAsked[slot]} was read as ${got}`);
}

function short(got: number): never {
  throw new Error(`a read gave ${got}`);
}

async function openDisk(): Promise<number> {
  const uring = new Uring({ entries: 8 });
  const fd = await uring.openat(path, { flags: O_RDONLY | O_DIRECT });
  await uring.disposeAsync();
  return fd;
}

async function serveRing(): Promise<void> {
  const fd = await openDisk();
  const ring = new Ring(ENTRIES, { flags: flags | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN });
  ring.registerRingFd();
  let left = 0;
  const queue = (slot: number): void => {
    const sqe = ring.getSqe();
    if (sqe === null) throw new Error("the submission queue is full");
    sqe.prepRead(fd, memory.address + slot * PAGE, PAGE, nextPage(slot) * PAGE);
    sqe.userData = slot;
    left--;
  };
  const visit = (cqe: Cqe): void => {
    if (cqe.res !== PAGE) short(cqe.res);
    if (left > 0) queue(cqe.userData);
  };
  await serve((depth, ops) => {
    random = SEED;
    left = ops;
    for (let slot = 0; slot < depth; slot++) queue(slot);
    for (let done = 0; done < ops;) {
      ring.submitAndWait(1);
      done += ring.forEachCqe(visit);
    }
    for (let slot = 0; slot < depth; slot++) check(slot);
  });
  ring.close();
}

async function serveUring(): Promise<void> {
  const fd = await openDisk();
  const uring = new Uring({ entries: ENTRIES, flags });
  const bytes = new Uint8Array(memory.buffer);
  let left = 0;
  const worker = async (slot: number): Promise<void> => {
    const buffer = bytes.subarray(slot * PAGE, (slot + 1) * PAGE);
    while (left > 0) {
      left--;
      const got = await uring.read(fd, buffer, { offset: nextPage(slot) * PAGE });
      if (got !== PAGE) short(got);
    }
    check(slot);
  };
  await serve(async (depth, ops) => {
    random = SEED;
    left = ops;
    await Promise.all(Array.from({ length: depth }, (_, slot) => worker(slot)));
  });
  await uring.disposeAsync();
}

await (api === "ring" ? serveRing() : serveUring());
process.exit(0);
