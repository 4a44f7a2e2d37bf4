/** Registered resources made, used and disposed of in random order: nothing hangs, and no memory is anybody else's. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { O_RDONLY } from "../../src/ffi/abi.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { type DirectDescriptor, type RegisteredBuffer, type Uring, UringError } from "../../src/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, FLAGS, makeUring, openFile, sleep, until, within } from "../support/loop.ts";
import { WaitingPipe } from "../support/operations.ts";
import { Random } from "../support/random.ts";

checkLeaks();

const skip = kernelHas("5.19") ? false : "needs Linux 5.19";
const SEED = Number(process.env.URING_RANDOM_SEED ?? Date.now() % 1_000_000);
const FILE_SIZE = 64 * 1024;
const MOST = 12;

/** The memory that the kernel holds on to for this process, in KiB. */
function pinned(): number {
  return Number(/^VmPin:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]);
}

/** One ring with resources that come and go. */
class Run implements Disposable {
  readonly #uring: Uring;
  readonly #random: Random;
  readonly #dir = new TempDir();
  readonly #file: Fd;
  readonly #pipe = new WaitingPipe();
  #buffers: RegisteredBuffer[] = [];
  #files: DirectDescriptor[] = [];
  readonly #busy = new Set<RegisteredBuffer>();
  readonly pending: Promise<unknown>[] = [];
  reads = 0;

  constructor(uring: Uring, random: Random) {
    this.#uring = uring;
    this.#random = random;
    writeFileSync(this.#dir.of("file"), content(FILE_SIZE));
    this.#file = openFile(this.#dir.of("file"), O_RDONLY);
  }

  #keep(promise: Promise<unknown>): void {
    // What was cancelled, or came too late for its ring, may fail; anything else may not.
    this.pending.push(promise.catch((error: unknown) => {
      // A worker thread looks a direct descriptor up when it gets to it: it may be closed by then.
      if (error instanceof UringError && /^(ECANCELED|ETIMEDOUT|EBADF)$/.test(error.code)) return;
      if (error !== "enough") throw error;
    }));
  }

  step(): void {
    const random = this.#random;
    const kind = random.below(10);
    if (kind === 0 && this.#buffers.length < MOST) {
      this.#buffers.push(this.#uring.registerBuffer(1 + random.below(4 * 4096)));
    } else if (kind === 1 && this.#buffers.length > 0) this.#disposeOne();
    else if (kind === 2 && this.#files.length < MOST) {
      this.#keep(this.#uring.registerFile(this.#file.fd).then((file) => this.#files.push(file)));
    } else if (kind === 3 && this.#files.length > 0) {
      const [file] = this.#files.splice(random.below(this.#files.length), 1);
      this.#keep(file![Symbol.asyncDispose]());
    } else if (this.#buffers.length > 0) {
      const buffer = random.pick(this.#buffers);
      if (kind > 7) this.#keep(this.#wait(buffer));
      else if (!this.#busy.has(buffer)) this.#keep(this.#read(buffer));
    }
  }

  /** Drops it, disposes of it, or disposes of it and waits. */
  #disposeOne(): void {
    const [buffer] = this.#buffers.splice(this.#random.below(this.#buffers.length), 1);
    if (this.#random.chance(20)) return;
    if (this.#random.chance(50)) buffer![Symbol.dispose]();
    else this.#keep(buffer![Symbol.asyncDispose]());
  }

  /** Reads from the file into a part of a buffer that nothing else is read into meanwhile. */
  async #read(buffer: RegisteredBuffer): Promise<void> {
    const random = this.#random;
    const start = random.below(buffer.size);
    const length = 1 + random.below(buffer.size - start);
    const offset = random.below(FILE_SIZE - length);
    const fd = this.#files.length > 0 && random.chance(50) ? random.pick(this.#files) : this.#file.fd;
    const bytes = buffer.bytes.subarray(start, start + length);
    const options = { offset, start, length, async: random.chance(20) };
    this.#busy.add(buffer);
    try {
      const fixed = random.chance(70);
      const reading = fixed
        ? this.#uring.readFixed(fd, buffer, options)
        : this.#uring.read(fd, bytes, { offset });
      assert.equal(await reading, length);
    } finally {
      this.#busy.delete(buffer);
    }
    this.reads++;
    // Empty when it was disposed of meanwhile.
    if (bytes.length > 0) assertContent(bytes, length, offset);
  }

  /** Reads what never comes, and is cancelled. */
  #wait(buffer: RegisteredBuffer): Promise<unknown> {
    const length = 1 + this.#random.below(buffer.size);
    if (this.#random.chance(50)) {
      return this.#uring.readFixed(this.#pipe.reader.fd, buffer, { length, timeout: this.#random.below(5) });
    }
    const controller = new AbortController();
    setTimeout(() => controller.abort("enough"), this.#random.below(5));
    return this.#uring.readFixed(this.#pipe.reader.fd, buffer, { length, signal: controller.signal });
  }

  /** Disposes of everything. */
  async end(): Promise<void> {
    for (const buffer of this.#buffers.splice(0)) this.#keep(buffer[Symbol.asyncDispose]());
    await Promise.all(this.pending);
    for (const file of this.#files.splice(0)) await file[Symbol.asyncDispose]();
  }

  [Symbol.dispose](): void {
    this.#file.close();
    this.#pipe[Symbol.dispose]();
    this.#dir[Symbol.dispose]();
  }
}

for (const kind of FLAGS) {
  test(`${kind.name}: resources that come and go, seed ${SEED}`, { skip: kind.skip || skip }, async () => {
    const before = pinned();
    const random = new Random(SEED);
    {
      await using uring = makeUring({ flags: kind.flags, entries: random.pick([2, 8, 64]) });
      using run = new Run(uring, random);
      for (let i = 0; i < 250; i++) {
        run.step();
        if (random.chance(20)) await uring.nop();
        if (random.chance(1)) {
          collect();
          await sleep(1);
        }
      }
      await within(run.end(), "the end");
      assert.ok(run.reads > 10, `only ${run.reads} reads`);
      assert.equal(uring.stats.inFlight, 0);
    }
    // The ring's end takes what is still registered along, a moment later.
    await until(() => pinned() <= before, `pinned memory falls to ${before} KiB`);
  });

  test(`${kind.name}: the ring is closed over them, seed ${SEED}`, { skip: kind.skip || skip }, async () => {
    const before = pinned();
    const random = new Random(SEED + 1);
    for (let round = 0; round < 3; round++) {
      const uring = makeUring({ flags: kind.flags, entries: 8 });
      using run = new Run(uring, random);
      for (let i = 0; i < 60; i++) run.step();
      if (random.chance(50)) await uring.nop();
      await within(uring.disposeAsync(), "closing");
      await within(Promise.all(run.pending), "what was going on");
      await within(run.end(), "the end");
    }
    await until(() => pinned() <= before, `pinned memory falls to ${before} KiB`);
  });
}
