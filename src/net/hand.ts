/**
 * Handing connections from one Worker's ring to another's.
 *
 * @module
 */
import { system } from "../ffi/system.ts";
import { type DirectDescriptor, type Inbox, type RingAddress, UringError } from "../mod.ts";
import type { Acceptable, AcceptSink } from "./acceptor.ts";
import type { Fd } from "../loop/direct.ts";
import type { Engine } from "./engine.ts";
import { roomForDirect } from "./direct_side.ts";

/** The other ring's table is full: it will not be for long. */
const FULL: ReadonlySet<string> = new Set(["ENFILE", "EOVERFLOW", "EAGAIN"]);
/** There is no ring any more. */
const GONE: ReadonlySet<string> = new Set(["EBADF", "EBADFD", "EOWNERDEAD"]);
/** How long until a ring whose table is full is asked again, in milliseconds. */
const AGAIN = 5;
/** How many rings may be full in a row before that. */
const MOST_TRIES = 200;

/** Puts a connection's descriptor into another ring; here it stays open. Rejects as `sendFd` does. */
export async function hand({ uring }: Engine, fd: Fd, to: RingAddress): Promise<void> {
  if (typeof fd !== "number") return await uring.sendFd(to, fd);
  const direct = await uring.registerFile(fd);
  try {
    await uring.sendFd(to, direct);
  } finally {
    await direct[Symbol.asyncDispose]();
  }
}

/** Closes a connection that nothing is in flight on. */
export function closeFile(file: Fd): void {
  if (typeof file === "number") system().close(file);
  else file[Symbol.dispose]();
}

/** Hands connections to rings in turn. */
export class Dealer {
  readonly #engine: Engine;
  readonly #rings: RingAddress[];
  #next = 0;

  /** @internal */
  constructor(engine: Engine, rings: readonly RingAddress[]) {
    this.#engine = engine;
    this.#rings = [...rings];
    if (rings.length === 0) throw new TypeError("handTo names no ring");
    for (const address of rings) {
      if (!Number.isInteger(address?.ring)) throw new TypeError("handTo takes the inboxes of listeners");
    }
  }

  /** Hands a connection to the next ring that takes it, and closes it here. Rejects when none is left. */
  async deal(fd: Fd): Promise<void> {
    let failure: unknown = null;
    try {
      for (let tries = 0; tries < MOST_TRIES && this.#rings.length > 0; tries++) {
        const ring = this.#rings[this.#next++ % this.#rings.length]!;
        try {
          await hand(this.#engine, fd, ring);
          return;
        } catch (error) {
          failure = error;
          const code = error instanceof UringError ? error.code : "";
          if (GONE.has(code)) this.#rings.splice(this.#rings.indexOf(ring), 1);
          else if (!FULL.has(code)) throw error;
          else if (tries % this.#rings.length === this.#rings.length - 1) {
            await new Promise((resolve) => setTimeout(resolve, AGAIN));
          }
        }
      }
    } finally {
      closeFile(fd);
    }
    throw failure;
  }

  /** Whether there is still somebody to take connections. */
  get alive(): boolean {
    return this.#rings.length > 0;
  }
}

/** Takes the connections that other rings hand over, in an acceptor's place. */
export class HandedOver implements Acceptable {
  /** Where they are handed to. */
  readonly address: RingAddress;
  readonly #engine: Engine;
  readonly #inbox: Inbox;
  readonly #sink: AcceptSink;
  readonly #direct: boolean;
  #quieted = false;
  #open = true;
  #installing = 0;

  /** @internal */
  constructor(engine: Engine, sink: AcceptSink, direct: boolean) {
    this.#engine = engine;
    this.#sink = sink;
    this.#direct = direct;
    this.#inbox = engine.uring.messages();
    this.address = this.#inbox.address;
    void this.#take();
  }

  async #take(): Promise<void> {
    try {
      for await (const message of this.#inbox) {
        if (message.kind !== "descriptor") continue;
        if (this.#direct && this.#open && roomForDirect(this.#engine)) {
          this.#sink.accepted(message.descriptor);
        } else void this.#install(message.descriptor);
      }
    } catch (error) {
      this.#open = false;
      this.#sink.failed(error as Error);
    }
  }

  async #install(direct: DirectDescriptor): Promise<void> {
    this.#installing++;
    try {
      const fd = await this.#engine.uring.fixedFdInstall(direct);
      if (this.#open) this.#sink.accepted(fd);
      else system().close(fd);
    } catch {
      // No descriptor is left: the connection is closed with its place in the table.
    } finally {
      await direct[Symbol.asyncDispose]();
      this.#installing--;
      if (!this.#open && this.#installing === 0) this.#sink.stopped();
    }
  }

  /** They come as they are sent. */
  start(): void {}

  /** Takes no more. */
  stop(): void {
    if (!this.#open) return;
    this.#open = false;
    this.referenced = true;
    void this.#inbox.return();
    if (this.#installing === 0) this.#sink.stopped();
  }

  /** Whether waiting for connections keeps the process alive. */
  set referenced(referenced: boolean) {
    if (referenced !== this.#quieted) return;
    this.#quieted = !referenced;
    this.#engine.driver.quiet(this.#quieted ? 1 : -1);
  }
}
