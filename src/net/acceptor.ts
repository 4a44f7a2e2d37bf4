/**
 * Accepting connections: one operation that goes on and on.
 *
 * @module
 */
import { SOCK_CLOEXEC } from "../ffi/abi.ts";
import type { Fd } from "../loop/direct.ts";
import type { CompletionSink, Op } from "../loop/op.ts";
import { UringError } from "../mod.ts";
import { roomForDirect } from "./direct_side.ts";
import type { Engine } from "./engine.ts";

const ECANCELED = -125;

/** A client that has gone already, and troubles of its network's: no failure of the listener's (`accept(2)`). */
const PASSING: ReadonlySet<number> = new Set([-4, -11, -71, -92, -95, -100, -101, -103, -112, -113]);

/** `ENFILE`, `EMFILE`, `ENOBUFS`, `ENOMEM`: there is too little of something at present. */
const SHORT: ReadonlySet<number> = new Set([-23, -24, -105, -12]);

/** How long it waits when there is too little, unless a descriptor is closed before: from, and up to, milliseconds. */
const WAIT_FIRST = 50;
const WAIT_MOST = 1000;

/** What becomes of connections. */
export interface AcceptSink {
  /** A connection; one may still come after {@link Acceptor.stop}. */
  accepted(file: Fd): void;
  /** Accepting has failed for good. */
  failed(error: Error): void;
  /** It has stopped, as it was told to. */
  stopped(): void;
}

/** Where connections come from. */
export interface Acceptable {
  /** Accepts from now on. */
  start(): void;
  /** Accepts no more; {@link AcceptSink.stopped} is called when it has ended. */
  stop(): void;
  /** Whether accepting keeps the process alive. */
  set referenced(referenced: boolean);
}

/**
 * Accepts on a descriptor while it is told to: `io_uring_prep_multishot_accept`, or `io_uring_prep_multishot_accept_direct`
 * as long as the ring's table has room: what finds none is closed by the kernel. When no descriptor is left it waits for one
 * to be closed, and looks again now and then.
 */
export class Acceptor implements Acceptable, CompletionSink {
  readonly #engine: Engine;
  readonly #fd: number;
  readonly #sink: AcceptSink;
  readonly #wantsDirect: boolean;
  #direct = false;
  #op: Op | null = null;
  #wanted = false;
  #stopping = false;
  #quiet = false;
  #quieted = false;
  #delay = WAIT_FIRST;
  #timer: ReturnType<typeof setTimeout> | null = null;
  readonly #again: () => void = () => this.#tryAgain();

  /** @internal */
  constructor(engine: Engine, fd: number, sink: AcceptSink, direct: boolean) {
    this.#engine = engine;
    this.#fd = fd;
    this.#sink = sink;
    this.#wantsDirect = direct;
  }

  /** Whether it waits for a descriptor. */
  get short(): boolean {
    return this.#timer !== null;
  }

  /** Accepts from now on. */
  start(): void {
    this.#wanted = true;
    this.#arm();
  }

  /** Accepts no more; {@link AcceptSink.stopped} is called when it has ended. */
  stop(): void {
    this.#wanted = false;
    this.#wait(false);
    if (this.#op === null) this.#sink.stopped();
    else if (!this.#stopping) {
      this.#stopping = true;
      this.#engine.driver.cancelOp(this.#op);
    }
  }

  /** Whether accepting keeps the process alive. */
  set referenced(referenced: boolean) {
    this.#quiet = !referenced;
    this.#count();
  }

  #count(): void {
    const quieted = this.#op !== null && this.#quiet;
    if (quieted === this.#quieted) return;
    this.#quieted = quieted;
    this.#engine.driver.quiet(quieted ? 1 : -1);
  }

  #arm(): void {
    if (this.#op !== null || this.#timer !== null) return;
    const { driver } = this.#engine;
    const op = driver.begin("accept");
    op.variant = "multishot";
    this.#direct = this.#wantsDirect && roomForDirect(this.#engine);
    if (this.#direct) op.sqe!.prepMultishotAcceptDirect(this.#fd, 0, 0, 0);
    else op.sqe!.prepMultishotAccept(this.#fd, 0, 0, SOCK_CLOEXEC);
    this.#op = op;
    driver.launch(op, this);
    this.#count();
  }

  /** @internal */
  complete(res: number, _flags: number, more: boolean): void {
    if (!more) {
      this.#op = null;
      this.#count();
    }
    if (res >= 0) {
      this.#delay = WAIT_FIRST;
      this.#sink.accepted(this.#direct ? this.#engine.uring.table.adopt(res) : res);
    }
    if (more) {
      if (this.#wantsDirect && !this.#stopping && this.#direct !== roomForDirect(this.#engine)) {
        // It begins again the other way.
        this.#stopping = true;
        this.#engine.driver.cancelOp(this.#op!);
      }
      return;
    }
    this.#stopping = false;
    if (!this.#wanted) this.#sink.stopped();
    else if (SHORT.has(res)) this.#wait(true);
    else if (res >= 0 || PASSING.has(res) || (res === ECANCELED && !this.#engine.driver.closed)) this.#arm();
    else {
      this.#wanted = false;
      this.#sink.failed(new UringError(res, "accept"));
    }
  }

  #wait(wait: boolean): void {
    const { waiting } = this.#engine;
    if (wait) {
      waiting.add(this.#again);
      this.#timer = setTimeout(this.#again, this.#delay);
      this.#delay = Math.min(2 * this.#delay, WAIT_MOST);
      return;
    }
    waiting.delete(this.#again);
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #tryAgain(): void {
    this.#wait(false);
    if (!this.#engine.driver.closed) this.#arm();
    else this.#sink.failed(new UringError(ECANCELED, "accept"));
  }
}
