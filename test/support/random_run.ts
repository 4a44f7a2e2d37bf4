/**
 * Random operations with random cancellations: a run of them over one set of descriptors, reproducible by its seed but
 * for the kernel's timing.
 *
 * Every byte that a pipe or a socket carries is the same for that pipe or socket, and every file tells its content by the
 * offset, so whatever a cancelled operation has swallowed, what arrives can be checked.
 *
 * @module
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { O_CREAT, O_RDONLY, O_RDWR, POLLIN } from "../../src/ffi/abi.ts";
import { system } from "../../src/ffi/system.ts";
import { UringError } from "../../src/mod.ts";
import type { Chain, OperationOptions, Uring } from "../../src/mod.ts";
import { assertContent, byteAt, content } from "./content.ts";
import { type Fd, Pipe, TempDir } from "./descriptors.ts";
import { openFile, SocketPair } from "./loop.ts";
import type { Random } from "./random.ts";

const FILE_SIZE = 1 << 18;
/** The region of the scratch file that one write has for itself. */
const REGION = 4096;
const UNTOUCHED = 0xa5;
const PIPES = 6;
/** What an operation that was cancelled, or stands behind one in a chain, may end with. */
const CANCELLED = ["ECANCELED", "EINTR", "ETIMEDOUT"];
/** A kernel thread does not wait on a descriptor with `O_NONBLOCK`. */
const NONBLOCKING = "EAGAIN";

/** The reason that signals are aborted with. */
class Aborted extends Error {}

/** A buffer that was given to the kernel. */
interface Lent {
  readonly bytes: Uint8Array;
  /** A copy made when its operation had settled: from then on nothing may write to it. */
  settled: Uint8Array | null;
}

/** One set of files, pipes and sockets, and operations on them. */
export class RandomRun implements Disposable {
  readonly #uring: Uring;
  readonly #random: Random;
  readonly #dir = new TempDir();
  readonly #known: string = this.#dir.of("known");
  readonly #knownFd: Fd;
  readonly #scratchFd: Fd;
  readonly #pipes: readonly Pipe[] = Array.from({ length: PIPES }, () => new Pipe());
  readonly #pairs: readonly SocketPair[] = Array.from({ length: PIPES }, () => new SocketPair());
  readonly #controllers = new Set<AbortController>();
  readonly #streams = new Set<AsyncDisposable>();
  #lent: Lent[] = [];
  readonly #active = new Map<number, string>();
  #steps = 0;
  #region = 0;
  #names = 0;

  /** How many operations were begun, and how each settled. */
  readonly outcomes: Map<string, number> = new Map();
  begun = 0;
  settled = 0;

  constructor(uring: Uring, random: Random) {
    this.#uring = uring;
    this.#random = random;
    writeFileSync(this.#known, content(FILE_SIZE));
    this.#knownFd = openFile(this.#known, O_RDONLY);
    this.#scratchFd = openFile(this.#dir.of("scratch"), O_RDWR | O_CREAT);
  }

  /** What has been begun and has not ended, for error messages. */
  get active(): string {
    return [...this.#active.values()].join(", ");
  }

  /** Begins one operation of any kind; resolves when all that belongs to it has ended and was found right. */
  async step(): Promise<void> {
    const roomForChains = this.#uring.ring.sqEntries >= 8;
    const kinds: Record<string, () => Promise<void>> = {
      "read of a file": () => this.#readFile(),
      "readv of a file": () => this.#readvFile(),
      "write": () => this.#writeFile(),
      "read of a pipe": () => this.#readPipe(),
      "another read of a pipe": () => this.#readPipe(),
      "feed": () => this.#feed(),
      "another feed": () => this.#feed(),
      "recv": () => this.#socket(),
      "poll": () => this.#poll(),
      "timeout": () => this.#timeout(),
      "open": () => this.#open(),
      "direct": () => this.#direct(),
      // A chain has to fit the ring, each step with its time limit.
      "chain": () => roomForChains ? this.#chain() : this.#readFile(),
      "direct chain": () => roomForChains ? this.#directChain() : this.#readFile(),
      "paths": () => this.#paths(),
      "receive": () => this.#receive(),
      "accept": () => this.#accept(),
      "cancel": () => this.#cancel(),
      "forgotten": () => this.#forgotten(),
    };
    const kind = this.#random.pick(Object.keys(kinds));
    const which = this.#steps++;
    this.#active.set(which, kind);
    try {
      await kinds[kind]!();
    } finally {
      this.#active.delete(which);
    }
  }

  /** Cancels whatever could go on for ever. */
  endAll(): void {
    for (const controller of this.#controllers) controller.abort(new Aborted());
    for (const stream of this.#streams) void stream[Symbol.asyncDispose]();
  }

  /** Fails when a buffer was written to after its operation had settled. */
  checkLent(): void {
    for (const { bytes, settled } of this.#lent) {
      if (settled !== null) assert.deepEqual(bytes, settled, "a buffer changed after its operation");
    }
    this.#lent = this.#lent.filter(({ settled }) => settled === null);
  }

  [Symbol.dispose](): void {
    for (const each of [this.#knownFd, this.#scratchFd, ...this.#pipes, ...this.#pairs, this.#dir]) {
      each[Symbol.dispose]();
    }
  }

  /** Small ones most of the time: a small typed array of Bun's moves as long as nothing has touched its `buffer`. */
  #buffer(): Uint8Array {
    const random = this.#random;
    const length = 1 + random.below(random.chance(80) ? 2000 : 20_000);
    return new Uint8Array(length).fill(UNTOUCHED);
  }

  #options(most = 4): OperationOptions {
    const random = this.#random;
    const options: OperationOptions = {};
    if (random.chance(30)) options.signal = this.#signal();
    if (random.chance(20)) options.timeout = random.unit() * most;
    if (random.chance(10)) options.async = true;
    return options;
  }

  /** A signal that aborts some time: at once, in this turn, in a later one; at the end of the run in any case. */
  #signal(): AbortSignal {
    const random = this.#random;
    const controller = new AbortController();
    const abort = (): void => {
      controller.abort(new Aborted());
      this.#controllers.delete(controller);
    };
    const when = random.below(6);
    if (when === 0) abort();
    else if (when === 1) queueMicrotask(abort);
    else if (when === 2) setImmediate(abort);
    else if (when === 3) setTimeout(abort, random.below(5));
    if (when !== 0) this.#controllers.add(controller);
    return controller.signal;
  }

  /** {@link RandomRun.#options} of something that would not end by itself. */
  #endless(): OperationOptions {
    const options = this.#options();
    return options.timeout === undefined ? { ...options, signal: options.signal ?? this.#signal() } : options;
  }

  /** Awaits an operation; undefined when it was cancelled or failed as it may. */
  async #await<T>(promise: Promise<T>, ...allowed: string[]): Promise<T | undefined> {
    this.begun++;
    let code = "ok";
    try {
      return await promise;
    } catch (error) {
      code = error instanceof Aborted ? "aborted" : error instanceof UringError ? error.code : "other";
      if (code !== "aborted" && !CANCELLED.includes(code) && !allowed.includes(code)) throw error;
      return undefined;
    } finally {
      this.settled++;
      this.outcomes.set(code, (this.outcomes.get(code) ?? 0) + 1);
    }
  }

  /** The same for an operation that fills a buffer: what is behind its result must be untouched. */
  async #fill(bytes: Uint8Array, begin: () => Promise<number>, ...allowed: string[]): Promise<number> {
    const lent: Lent = { bytes, settled: null };
    this.#lent.push(lent);
    const length = await this.#await(begin(), ...allowed);
    lent.settled = bytes.slice();
    if (length === undefined) return 0;
    for (let i = length; i < bytes.length; i++) {
      if (bytes[i] !== UNTOUCHED) {
        assert.fail(`byte ${i} was written to by an operation that ended at ${length}`);
      }
    }
    return length;
  }

  async #readFile(): Promise<void> {
    const bytes = this.#buffer();
    const offset = this.#random.below(FILE_SIZE);
    const length = await this.#fill(
      bytes,
      () => this.#uring.read(this.#knownFd.fd, bytes, { offset, ...this.#options() }),
    );
    assertContent(bytes, length, offset);
  }

  async #readvFile(): Promise<void> {
    const parts = Array.from({ length: 1 + this.#random.below(5) }, () => this.#buffer());
    const total = parts.reduce((sum, { length }) => sum + length, 0);
    const offset = this.#random.below(FILE_SIZE - 100_000);
    const length = await this.#await(
      this.#uring.readv(this.#knownFd.fd, parts, { offset, ...this.#options() }),
    );
    if (length === undefined) return;
    assert.equal(length, total);
    let at = offset;
    for (const part of parts) {
      assertContent(part, part.length, at);
      at += part.length;
    }
  }

  /** Writes to a place of its own, reads it back, and compares. */
  async #writeFile(): Promise<void> {
    const offset = this.#region++ % 4096 * REGION;
    const file = 1 + this.#random.below(100);
    const bytes = new Uint8Array(1 + this.#random.below(2000));
    for (let i = 0; i < bytes.length; i++) bytes[i] = byteAt(i, file);
    const written = await this.#await(
      this.#uring.write(this.#scratchFd.fd, bytes, { offset, ...this.#options() }),
    );
    assertContent(bytes, bytes.length, 0, file);
    if (written === undefined) return;
    assert.equal(written, bytes.length);
    const back = new Uint8Array(bytes.length).fill(UNTOUCHED);
    const length = await this.#fill(back, () => this.#uring.read(this.#scratchFd.fd, back, { offset }));
    if (length > 0) assertContent(back, length, 0, file);
  }

  /** What a pipe or a pair of sockets carries. */
  #mark(which: number): number {
    return 0x10 + which;
  }

  #assertMarked(bytes: Uint8Array, length: number, which: number): void {
    for (let i = 0; i < length; i++) {
      if (bytes[i] !== this.#mark(which)) assert.fail(`pipe ${which} gave ${bytes[i]} at ${i}`);
    }
  }

  async #readPipe(): Promise<void> {
    const which = this.#random.below(PIPES);
    const bytes = this.#buffer();
    const length = await this.#fill(
      bytes,
      () => this.#uring.read(this.#pipes[which]!.reader.fd, bytes, this.#endless()),
      NONBLOCKING,
    );
    this.#assertMarked(bytes, length, which);
  }

  /** Puts something into a pipe and a socket, through the kernel or past the library. */
  async #feed(): Promise<void> {
    const which = this.#random.below(PIPES);
    const bytes = new Uint8Array(1 + this.#random.below(3000)).fill(this.#mark(which));
    const { writer } = this.#pipes[which]!;
    const { b } = this.#pairs[which]!;
    if (this.#random.chance(50)) {
      system().write(writer.fd, bytes, bytes.length);
      system().write(b.fd, bytes, bytes.length);
    } else {
      const writes = [
        this.#await(this.#uring.write(writer.fd, bytes, this.#endless()), NONBLOCKING),
        this.#await(this.#uring.send(b.fd, bytes, this.#endless()), NONBLOCKING),
      ];
      await Promise.all(writes);
    }
  }

  async #socket(): Promise<void> {
    const which = this.#random.below(PIPES);
    const bytes = this.#buffer();
    const length = await this.#fill(
      bytes,
      () => this.#uring.recv(this.#pairs[which]!.a.fd, bytes, this.#endless()),
      NONBLOCKING,
    );
    this.#assertMarked(bytes, length, which);
  }

  async #poll(): Promise<void> {
    const pipe = this.#random.pick(this.#pipes);
    const events = await this.#await(this.#uring.poll(pipe.reader.fd, POLLIN, this.#endless()));
    if (events !== undefined) assert.ok(events & POLLIN);
  }

  async #timeout(): Promise<void> {
    await this.#await(this.#uring.timeout(this.#random.unit() * 5, this.#options()));
  }

  async #open(): Promise<void> {
    if (this.#random.chance(20)) {
      const missing = this.#uring.openat(this.#dir.of("missing"), this.#options());
      assert.equal(await this.#await(missing, "ENOENT"), undefined);
      return;
    }
    // One whose promise is aborted is closed by the library, which the count of descriptors shows.
    const fd = await this.#await(this.#uring.openat(this.#known, this.#options()));
    if (fd === undefined) return;
    try {
      const bytes = this.#buffer();
      assertContent(bytes, await this.#fill(bytes, () => this.#uring.read(fd, bytes, { offset: 0 })), 0);
    } finally {
      if (this.#random.chance(50)) assert.equal(system().close(fd), 0);
      else await this.#closeSurely(fd);
    }
  }

  /** Closes a descriptor even when a `cancel` of everything comes between. */
  async #closeSurely(fd: number): Promise<void> {
    try {
      await this.#uring.close(fd);
    } catch {
      system().close(fd);
    }
  }

  async #direct(): Promise<void> {
    const file = await this.#await(
      this.#uring.openat(this.#known, { direct: true, ...this.#options() }),
      "ENFILE",
    );
    if (file === undefined) return;
    const bytes = this.#buffer();
    const offset = this.#random.below(1000);
    const length = await this.#fill(
      bytes,
      () => this.#uring.read(file, bytes, { offset, ...this.#options() }),
    );
    assertContent(bytes, length, offset);
    await this.#await(this.#uring.close(file));
  }

  /** A chain of reads and waits, some of which break it. */
  async #chain(): Promise<void> {
    const random = this.#random;
    const hard = random.chance(40);
    const buffers: { bytes: Uint8Array; offset: number }[] = [];
    const build = (l: Chain): Promise<unknown>[] =>
      Array.from({ length: 1 + random.below(4) }, () => {
        const kind = random.below(4);
        if (kind === 0) return l.nop(this.#options());
        if (kind === 1) return l.timeout(random.unit() * 2, this.#options());
        if (kind === 2) return l.read(this.#pipes[0]!.reader.fd, this.#buffer(), this.#endless());
        const read = { bytes: this.#buffer(), offset: random.below(FILE_SIZE / 2) };
        buffers.push(read);
        return l.read(this.#knownFd.fd, read.bytes, { offset: read.offset, ...this.#options() });
      });
    const steps = await this.#await(this.#uring.linkSettled((l) => build(l), { hard }));
    for (const step of steps ?? []) {
      if (step.status === "fulfilled") continue;
      const { reason } = step;
      if (!(reason instanceof Aborted) && ![...CANCELLED, NONBLOCKING].includes(reason.code)) throw reason;
    }
    for (const { bytes, offset } of buffers) {
      // Read as a whole, or not at all: it may have been cancelled.
      if (bytes.some((byte) => byte !== UNTOUCHED)) assertContent(bytes, bytes.length, offset);
    }
  }

  async #directChain(): Promise<void> {
    const bytes = this.#buffer();
    const options = this.#options();
    const steps = await this.#await(
      this.#uring.linkSettled((l) => {
        const file = l.direct();
        return [
          l.openat(this.#known, { direct: file }),
          l.read(file, bytes, { offset: 0, ...options }),
          l.close(file),
        ];
      }, { hard: this.#random.chance(50) }),
      "ENFILE",
    );
    const read = steps?.[1];
    if (read?.status === "fulfilled") assertContent(bytes, read.value, 0);
  }

  async #paths(): Promise<void> {
    const path = this.#dir.of(`directory${this.#names++}`);
    const made = await this.#await(this.#uring.mkdirat(path, this.#options()).then(() => true));
    const stat = await this.#await(this.#uring.statx(path, this.#options()), "ENOENT");
    if (stat !== undefined) assert.ok(stat.isDirectory());
    else if (made === true) await this.#await(this.#uring.unlinkat(path, { directory: true }));
  }

  async #receive(): Promise<void> {
    const which = this.#random.below(PIPES);
    using pair = new SocketPair();
    const chunks = this.#uring.recvMultishot(pair.a.fd, {
      borrow: this.#random.chance(50),
      signal: this.#signal(),
    });
    this.#streams.add(chunks);
    const most = this.#random.below(10);
    let got = 0;
    const bytes = new Uint8Array(500).fill(this.#mark(which));
    for (let i = this.#random.below(8); i > 0; i--) system().write(pair.b.fd, bytes, bytes.length);
    await this.#await((async () => {
      for await (const chunk of chunks) {
        this.#assertMarked(chunk, chunk.length, which);
        if (++got > most) break;
        system().write(pair.b.fd, bytes, bytes.length);
      }
    })());
    this.#streams.delete(chunks);
    await chunks.return();
  }

  async #accept(): Promise<void> {
    const path = `\0uring-${this.#dir.path}-${this.#names++}`;
    const server = await this.#await(this.#uring.socket(1, 1));
    if (server === undefined) return;
    try {
      const bound = await this.#await(this.#uring.bind(server, { family: "unix", path }).then(() => true));
      if (bound !== true) return;
      const listening = await this.#await(this.#uring.listen(server).then(() => true));
      if (listening === true) await this.#connections(server, path);
    } finally {
      await this.#closeSurely(server);
    }
  }

  async #connections(server: number, path: string): Promise<void> {
    const connections = this.#uring.acceptMultishot(server, { signal: this.#signal() });
    this.#streams.add(connections);
    const clients: number[] = [];
    const most = this.#random.below(5);
    const dial = async (): Promise<void> => {
      for (let i = 0; i <= most; i++) {
        const client = await this.#await(this.#uring.socket(1, 1, 0, this.#options()));
        if (client === undefined) continue;
        clients.push(client);
        await this.#await(this.#uring.connect(client, { family: "unix", path }, this.#endless()), "EAGAIN");
      }
    };
    let got = 0;
    const take = async (): Promise<void> => {
      for await (const connection of connections) {
        await this.#closeSurely(connection);
        if (++got >= most) break;
      }
    };
    const results = await Promise.allSettled([this.#await(take()), dial()]);
    this.#streams.delete(connections);
    await connections.return();
    for (const client of clients) await this.#closeSurely(client);
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  async #cancel(): Promise<void> {
    const random = this.#random;
    const fd = random.pick(this.#pipes).reader.fd;
    const target = random.chance(10) ? { any: true } as const : { fd, all: random.chance(50) };
    const count = await this.#await(this.#uring.cancel(target));
    if (count !== undefined) assert.ok(count >= 0);
  }

  /** Nothing but the operation knows the buffer, and nobody waits for the promise. */
  #forgotten(): Promise<void> {
    const { fd } = this.#random.pick(this.#pipes).reader;
    void this.#await(this.#uring.read(fd, this.#buffer(), this.#endless()), NONBLOCKING);
    return Promise.resolve();
  }
}
