/**
 * From requests to handlers and back.
 *
 * @module
 */
import { UringError } from "../ffi/errors.ts";
import { readSmallFile } from "../ffi/kernel.ts";
import { FUSE_DESTROY } from "./abi.ts";
import type { Engine } from "./engine.ts";
import { AnswerError, ECONNABORTED, EINTR, EIO, ENOSYS, errnoOf, ETIMEDOUT, Refusal } from "./failure.ts";
import { FILE_OPERATIONS } from "./file_ops.ts";
import type { NameCodec } from "./names.ts";
import { NODE_OPERATIONS } from "./node_ops.ts";
import { comesLater, type Context, type Handlers, type Operation } from "./operation.ts";
import type { Timeouts } from "./replies.ts";
import type { Slot } from "./slot.ts";
import type { Receiver, Transport } from "./transport.ts";
import type { Failure, MountStats } from "./mount_types.ts";
import type { FileSystem, Name } from "./types.ts";

/** All operations by opcode. */
const OPERATIONS: (Operation | undefined)[] = [];
for (const [opcode, operation] of [...NODE_OPERATIONS, ...FILE_OPERATIONS]) OPERATIONS[opcode] = operation;

/** The size of the struct in front of a request's other parts. */
export function structSize(opcode: number): number {
  return OPERATIONS[opcode]?.structSize ?? 0;
}

/** A handler that has not answered yet. */
interface Pending {
  readonly operation: Operation;
  readonly transport: Transport;
}

/** What a server is told. */
export interface ServerOptions {
  readonly names: NameCodec;
  readonly timeouts: Timeouts;
  /** Milliseconds, 0 for none. */
  readonly requestTimeout: number;
  readonly onError: (error: unknown, failure: Failure) => void;
  /** There is no connection any more. */
  readonly onOver: () => void;
}

/** The longest time between two looks at what is pending, in milliseconds, and the shortest. */
const LONGEST_SWEEP = 1000;
const SHORTEST_SWEEP = 5;

/** Asks handlers. */
export class Server implements Receiver, Context {
  readonly fs: Handlers;
  readonly names: NameCodec;
  readonly timeouts: Timeouts;
  readonly #engine: Engine;
  readonly #options: ServerOptions;
  /** By opcode: whom to ask. */
  readonly #asked: (Operation | null)[];
  readonly #pending = new Map<Slot, Pending>();
  readonly #sweepEvery: number;
  #sweep: ReturnType<typeof setTimeout> | null = null;
  #drained: (() => void) | null = null;
  #requests = 0;
  #timedOut = 0;
  #interrupted = 0;

  constructor(engine: Engine, fs: FileSystem<Name>, options: ServerOptions) {
    this.fs = fs as Handlers;
    this.names = options.names;
    this.timeouts = options.timeouts;
    this.#engine = engine;
    this.#options = options;
    this.#asked = Array.from(OPERATIONS, (operation) => {
      if (operation === undefined) return null;
      return operation.missing < 0 || typeof fs[operation.name] === "function" ? operation : null;
    });
    const { requestTimeout } = options;
    this.#sweepEvery = requestTimeout === 0
      ? LONGEST_SWEEP
      : Math.max(SHORTEST_SWEEP, Math.min(requestTimeout / 4, LONGEST_SWEEP));
  }

  /** Counters. */
  get stats(): MountStats {
    return {
      requests: this.#requests,
      inFlight: this.#pending.size,
      timedOut: this.#timedOut,
      interrupted: this.#interrupted,
    };
  }

  over(): void {
    this.#options.onOver();
  }

  forget(node: number, count: number): void {
    this.#requests++;
    try {
      this.fs.forget?.(node, count);
    } catch (error) {
      this.report(error, "forget", node);
    }
  }

  request(slot: Slot, transport: Transport): void {
    this.#requests++;
    slot.reset();
    const operation = this.#asked[slot.opcode];
    if (operation === null || operation === undefined) {
      transport.reply(slot, -missing(slot.opcode), 0);
      return;
    }
    let answer: unknown;
    try {
      answer = operation.call(this, slot);
    } catch (error) {
      this.#fail(slot, operation, transport, error);
      return;
    }
    if (comesLater(answer)) this.#later(slot, operation, transport, answer);
    else this.#finish(slot, operation, transport, answer);
  }

  #finish(slot: Slot, operation: Operation, transport: Transport, answer: unknown): void {
    let length: number;
    try {
      length = operation.encode(this, slot, answer);
    } catch (error) {
      this.#fail(slot, operation, transport, error);
      return;
    }
    if (length < 0) transport.reply(slot, length, 0);
    else transport.reply(slot, 0, length);
  }

  #fail(slot: Slot, operation: Operation, transport: Transport, error: unknown): void {
    transport.reply(slot, -this.#errnoFor(error, operation, slot.node), 0);
  }

  #errnoFor(error: unknown, operation: Operation, node: number): number {
    if (error instanceof Refusal) return error.errno;
    const errno = error instanceof AnswerError ? 0 : errnoOf(error);
    if (errno !== 0) return errno;
    this.report(error, operation.name, node);
    return EIO;
  }

  /** Tells of what should not have been. */
  report(error: unknown, operation: string, node: number): void {
    try {
      this.#options.onError(error, { operation, node });
    } catch {
      // Who is told must not bring down the rest.
    }
  }

  #later(slot: Slot, operation: Operation, transport: Transport, answer: Promise<unknown>): void {
    this.#pending.set(slot, { operation, transport });
    this.#engine.busy++;
    slot.since = performance.now();
    if (this.#sweep === null) this.#sweepLater();
    answer.then(
      (result) => {
        if (this.#settled(slot)) this.#finish(slot, operation, transport, result);
        else this.#takeBack(slot, operation, result);
      },
      (error) => {
        if (this.#settled(slot)) this.#fail(slot, operation, transport, error);
        // Nobody is left to get it, but it may be a mistake.
        else if (!(error instanceof Refusal) && errnoOf(error) === 0) {
          this.report(error, operation.name, slot.node);
        }
      },
    );
  }

  /** A handler has answered; whether somebody still waits for that. */
  #settled(slot: Slot): boolean {
    if (!this.#pending.delete(slot)) return false;
    this.#engine.busy--;
    if (this.#pending.size === 0) this.#drained?.();
    return true;
  }

  #takeBack(slot: Slot, operation: Operation, result: unknown): void {
    if (operation.undo === null) return;
    const failed = (error: unknown): void => this.report(error, operation.name, slot.node);
    try {
      const undone: unknown = operation.undo(this, slot, result);
      if (comesLater(undone)) undone.then(null, failed);
    } catch (error) {
      failed(error);
    }
  }

  interrupt(uniqueLow: number, uniqueHigh: number): void {
    for (const slot of this.#pending.keys()) {
      if (slot.uniqueLow !== uniqueLow || slot.uniqueHigh !== uniqueHigh) continue;
      this.#interrupted++;
      slot.interrupted = true;
      slot.abort(new UringError(EINTR, this.#pending.get(slot)!.operation.name));
      // What the handler makes of it comes first.
      queueMicrotask(() => queueMicrotask(() => this.#releaseDying(slot)));
      return;
    }
  }

  /** A client that was killed waits for its answer all the same, and can do nothing with it. */
  #releaseDying(slot: Slot): void {
    if (this.#pending.has(slot) && isDying(slot.pid)) this.#abandon(slot, EINTR);
  }

  #abandon(slot: Slot, errno: number): boolean {
    const pending = this.#pending.get(slot)!;
    try {
      pending.transport.abandon(slot, -errno);
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      // No descriptor or memory is left: the next sweep tries again.
      return false;
    }
    this.#settled(slot);
    slot.abort(new UringError(errno, pending.operation.name));
    return true;
  }

  #sweepLater(): void {
    this.#sweep = setTimeout(() => {
      this.#sweep = null;
      this.#sweepPending();
      if (this.#pending.size > 0) this.#sweepLater();
    }, this.#sweepEvery);
  }

  #sweepPending(): void {
    const { requestTimeout } = this.#options;
    const now = performance.now();
    for (const slot of [...this.#pending.keys()]) {
      if (requestTimeout > 0 && now - slot.since >= requestTimeout) {
        if (this.#abandon(slot, ETIMEDOUT)) this.#timedOut++;
      } else if (slot.interrupted) this.#releaseDying(slot);
    }
  }

  /** Nobody waits for any answer any more. */
  abortAll(): void {
    for (const [slot, { operation }] of this.#pending) {
      slot.abort(new UringError(ECONNABORTED, operation.name));
    }
  }

  /** Waits until all handlers have answered, at most so many milliseconds. */
  async drained(milliseconds: number): Promise<void> {
    if (this.#pending.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, milliseconds);
    this.#drained = resolve;
    await promise;
    clearTimeout(timer);
    this.#drained = null;
  }

  /** Gives up what is still pending. */
  close(): void {
    if (this.#sweep !== null) clearTimeout(this.#sweep);
    this.#sweep = null;
    for (const slot of this.#pending.keys()) slot.detach();
    this.#engine.busy -= this.#pending.size;
    this.#pending.clear();
  }
}

/** What the client gets where there is no handler. */
function missing(opcode: number): number {
  const operation = OPERATIONS[opcode];
  return operation !== undefined ? operation.missing : opcode === FUSE_DESTROY ? 0 : ENOSYS;
}

const SIGKILL_BIT = 0x100n;

/** Whether a thread has been killed and only waits to be gone. */
function isDying(pid: number): boolean {
  if (pid === 0) return false;
  const status = readSmallFile(`/proc/${pid}/status`);
  // A thread that cannot be seen may be another's, in a container.
  const pendingSignals = status === null ? null : /^SigPnd:\s*([0-9a-f]+)/m.exec(status);
  return pendingSignals !== null && (BigInt(`0x${pendingSignals[1]}`) & SIGKILL_BIT) !== 0n;
}
