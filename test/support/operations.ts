/**
 * What the tests of the single operations share.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readlinkSync } from "node:fs";
import { O_CLOEXEC, SOCK_STREAM } from "../../src/ffi/abi.ts";
import { check, UringError } from "../../src/ffi/errors.ts";
import { sockaddr_storage } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import { decodeAddress } from "../../src/loop/sockaddr.ts";
import { type DirectDescriptor, type SocketAddress, type Uring } from "../../src/mod.ts";
import { Fd } from "./descriptors.ts";
import { within } from "./loop.ts";
import { sleep } from "./rings.ts";

/** Text as bytes. */
export function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** Bytes as text. */
export function text(data: Uint8Array, length: number = data.length): string {
  return new TextDecoder().decode(data.subarray(0, length));
}

/** A digest of bytes that come in pieces. */
export class Digest {
  readonly #hash = createHash("sha256");
  #length = 0;

  /** Adds a piece. */
  add(piece: Uint8Array): void {
    this.#hash.update(piece);
    this.#length += piece.length;
  }

  /** The length and the digest: what two streams must have in common. */
  end(): string {
    return `${this.#length} bytes ${this.#hash.digest("hex")}`;
  }
}

/** The digest of bytes that are there at once. */
export function digest(data: Uint8Array): string {
  const all = new Digest();
  all.add(data);
  return all.end();
}

/** A pipe whose ends wait: what is written to `writer` comes out of `reader`. */
export class WaitingPipe implements Disposable {
  readonly reader: Fd;
  readonly writer: Fd;

  constructor() {
    const fds = new Int32Array(new ArrayBuffer(8));
    check(system().rare.pipe2(fds, O_CLOEXEC), "pipe2");
    this.reader = new Fd(fds[0]!);
    this.writer = new Fd(fds[1]!);
  }

  /** Puts bytes into the pipe without the library. */
  write(content: string | Uint8Array): void {
    put(this.writer.fd, content);
  }

  [Symbol.dispose](): void {
    this.reader.close();
    this.writer.close();
  }
}

/** Writes to a descriptor without the library. */
export function put(fd: number, content: string | Uint8Array): void {
  const data = typeof content === "string" ? bytes(content) : content;
  check(system().write(fd, data, data.length), "write");
}

/** Closes descriptors of the process without the library. */
export function closeAll(...fds: readonly number[]): void {
  for (const fd of fds) check(system().close(fd), "close");
}

/** What every descriptor of this process points to. */
export function descriptors(): string[] {
  const found: string[] = [];
  for (const name of readdirSync("/proc/self/fd")) {
    try {
      found.push(readlinkSync(`/proc/self/fd/${name}`));
    } catch {
      // The directory's own descriptor.
    }
  }
  return found;
}

/** How many descriptors of this process point to what matches. */
export function countDescriptors(pattern: RegExp): number {
  return descriptors().filter((what) => pattern.test(what)).length;
}

/** The error that a promise rejects with; fails when it does not. */
export async function failure(promise: Promise<unknown>, what = "a promise"): Promise<UringError> {
  const outcome = await within(
    promise.then((value) => ({ value }), (error: UringError) => ({ error })),
    what,
  );
  if ("error" in outcome) return outcome.error;
  assert.fail(`${what} was fulfilled with ${String(outcome.value)}`);
}

/** The errors that promises reject with, watched from now on. */
export function failures(promises: readonly Promise<unknown>[], what?: string): Promise<UringError[]> {
  return Promise.all(promises.map((promise) => failure(promise, what)));
}

/** Checks that a promise rejects with a system error. */
export async function rejectsWith(promise: Promise<unknown>, code: string, syscall: string): Promise<void> {
  const error = await failure(promise, syscall);
  assert.ok(error instanceof UringError, String(error));
  assert.deepEqual({ code: error.code, syscall: error.syscall }, { code, syscall });
}

/** The kinds of error for wrong arguments. */
export type ArgumentError = typeof TypeError | typeof RangeError;

/** Checks that a call throws at once, and that nothing of it has reached the ring or stays behind. */
export async function refuses(uring: Uring, kind: ArgumentError, call: () => unknown): Promise<void> {
  const before = counters(uring);
  assert.throws(call, (error: Error) => {
    assert.ok(error instanceof kind, `${call}: ${error.name}: ${error.message}`);
    return true;
  }, String(call));
  assert.deepEqual(counters(uring), before, String(call));
  // Neither does it come later.
  await new Promise<void>((resolve) => setImmediate(resolve));
  assert.deepEqual(counters(uring), before, String(call));
}

function counters(uring: Uring): unknown {
  const { inFlight, enters } = uring.stats;
  return uring.ring.closed ? { inFlight, enters } : { inFlight, enters, queued: uring.ring.sqReady() };
}

/** Waits until what was asked for has gone to the kernel. */
export async function flushed(uring: Uring): Promise<void> {
  const { enters } = uring.stats;
  for (let i = 0; i < 1000 && uring.stats.enters === enters; i++) await Promise.resolve();
  assert.ok(uring.stats.enters > enters, "nothing was submitted");
}

/** Fills the whole table and empties it again: every slot is free, and once only. */
export async function assertAllFree(uring: Uring, slots: number): Promise<void> {
  await uring.nop();
  const files: DirectDescriptor[] = [];
  for (let i = 0; i < slots; i++) files.push(await uring.openat("/proc/self/comm", { direct: true }));
  assert.deepEqual(new Set(files.map((file) => file.slot)).size, slots);
  assert.equal(
    (await failure((async () => await uring.openat("/proc/self/comm", { direct: true }))())).code,
    "ENFILE",
  );
  for (const file of files) await uring.close(file);
}

/** What tests abort with. */
export class Reason extends Error {}

/**
 * Aborts an operation that has ended already: what completes while JavaScript runs is seen after the abort. The operation
 * has succeeded, its promise has not. `happened` tells that it has, where that can be seen.
 */
export async function abortLate(
  uring: Uring,
  start: (signal: AbortSignal) => Promise<unknown>,
  happened: () => boolean = () => true,
): Promise<void> {
  const controller = new AbortController();
  const promise = start(controller.signal);
  await flushed(uring);
  sleep(30);
  // On a busy machine a worker thread of the kernel's may not have begun yet.
  for (let i = 0; i < 300 && !happened(); i++) sleep(30);
  const reason = new Reason();
  controller.abort(reason);
  assert.equal(await failure(promise), reason);
}

/** A socket that listens, and the address that connections go to. */
export interface Listener {
  readonly fd: number;
  readonly address: SocketAddress;
}

const FAMILY = { unix: 1, ipv4: 2, ipv6: 10 } as const;

/** The domain (`AF_*`) of an address. */
export function domainOf(address: SocketAddress): number {
  return FAMILY[address.family];
}

/** The address that a socket has. */
export function localAddress(fd: number): SocketAddress {
  const memory = new Uint8Array(new ArrayBuffer(sockaddr_storage.size));
  const length = new Int32Array(new ArrayBuffer(4)).fill(memory.length);
  check(system().rare.getsockname(fd, memory, length), "getsockname");
  return decodeAddress(memory, length[0]!);
}

/** Where tests listen unless the address is what they are about. */
export const LOOPBACK: SocketAddress = { family: "ipv4", address: "127.0.0.1", port: 0 };

/** Makes a socket that listens. */
export async function listener(
  uring: Uring,
  address: SocketAddress = LOOPBACK,
  backlog?: number,
): Promise<Listener> {
  const fd = await uring.socket(domainOf(address), SOCK_STREAM);
  await uring.bind(fd, address);
  await uring.listen(fd, backlog);
  return { fd, address: localAddress(fd) };
}

/** Makes a socket and connects it. */
export async function dial(uring: Uring, address: SocketAddress): Promise<number> {
  const fd = await uring.socket(domainOf(address), SOCK_STREAM);
  await uring.connect(fd, address);
  return fd;
}

/** A signal that counts the listeners on it. */
export class CountedSignal {
  readonly #controller = new AbortController();
  /** How many listen at the moment. */
  listening = 0;
  /** How many have ever listened. */
  added = 0;

  /** The signal. */
  readonly signal: AbortSignal = this.#controller.signal;

  constructor() {
    const { signal } = this;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    const live = new Set<unknown>();
    signal.addEventListener = ((type: string, listener: () => void, options?: AddEventListenerOptions) => {
      live.add(listener);
      this.added++;
      this.listening = live.size;
      add(type, listener, options);
    }) as typeof signal.addEventListener;
    signal.removeEventListener = ((type: string, listener: () => void) => {
      live.delete(listener);
      this.listening = live.size;
      remove(type, listener);
    }) as typeof signal.removeEventListener;
  }

  /** Aborts it. */
  abort(reason?: unknown): void {
    this.#controller.abort(reason);
  }
}
