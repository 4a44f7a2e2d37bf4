/**
 * `pipe`: from one connection to another.
 *
 * @module
 */
import { POLLIN, POLLOUT } from "../ffi/abi.ts";
import type { Driver } from "../loop/driver.ts";
import type { CompletionSink, Op } from "../loop/op.ts";
import { UringError } from "../mod.ts";
import type { Conn } from "./conn.ts";
import { RealDescriptor } from "./direct_side.ts";
import { closedError } from "./errors.ts";
import type { Job } from "./pieces.ts";
import { move, PipePair, waitsNever } from "./splice.ts";

/** Options of {@link pipe}. */
export interface PipeOptions {
  /** Gives up when it aborts: the promise rejects with the signal's reason. What was moved by then is moved. */
  signal?: AbortSignal | undefined;
  /** Leave `to` open for writing at the end of `from`; default false. */
  preventClose?: boolean | undefined;
}

/**
 * Moves all that arrives on `from` to `to`, by `splice` through a pipe of the kernel's: the data never comes into the
 * program's memory. Resolves with the number of bytes at the end of `from`, which is passed on
 * ({@link Conn.closeWrite}). Nothing else may read `from` meanwhile; what is written to `to` waits.
 *
 * @throws UringError (rejects): `ECONNRESET`, `EPIPE`…; `ECANCELED` when either is closed.
 *
 * @example
 * ```ts
 * import { connect, listen, pipe } from "uring/net";
 * for await (const conn of listen({ port: 8080 })) {
 *   const upstream = await connect({ hostname: "127.0.0.1", port: 80 });
 *   await using _ = conn;
 *   await Promise.allSettled([pipe(conn, upstream), pipe(upstream, conn)]);
 *   await upstream.close();
 * }
 * ```
 */
export async function pipe(from: Conn, to: Conn, options: PipeOptions = {}): Promise<number> {
  options.signal?.throwIfAborted();
  const job = new Splice(from, to, options.signal);
  to.startJob(job);
  const moved = await job.moved.promise;
  if (options.preventClose !== true) await to.closeWrite();
  return moved;
}

/** How often the pipe is filled before others have their turn. */
const ROUNDS = 4;

const EAGAIN = -11;
const EPIPE = -32;

/** Moves everything when its turn comes. */
class Splice implements Job, CompletionSink {
  readonly moved: PromiseWithResolvers<number> = Promise.withResolvers<number>();
  readonly #from: Conn;
  readonly #to: Conn;
  readonly #driver: Driver;
  readonly #signal: AbortSignal | undefined;
  readonly #abort = new AbortController();
  readonly #onAbort: () => void = () => this.#abort.abort(this.#signal!.reason);
  #pipe: PipePair | null = null;
  #source = -1;
  #target = -1;
  // What waits for one of the sockets.
  #op: Op | null = null;
  #running: PromiseWithResolvers<void> | null = null;
  #total = 0;
  // How much the pipe holds.
  #held = 0;

  constructor(from: Conn, to: Conn, signal: AbortSignal | undefined) {
    this.#from = from;
    this.#to = to;
    this.#driver = to.socket.engine.driver;
    this.#signal = signal;
    signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  run(done: () => void): void {
    this.#running = Promise.withResolvers<void>();
    this.#move().then(
      () => this.moved.resolve(this.#total),
      (error) => this.moved.reject(this.#abort.signal.aborted ? this.#abort.signal.reason : error),
    ).then(() => {
      this.#signal?.removeEventListener("abort", this.#onAbort);
      done();
    });
  }

  cancel(error: Error): void {
    this.#abort.abort(error);
    if (this.#running === null) this.moved.reject(error);
  }

  async #move(): Promise<void> {
    const { signal } = this.#abort;
    const from = this.#from;
    const end = from.whenClosed(() => this.#abort.abort(closedError("splice")));
    const stop = (): void => {
      if (this.#op !== null) this.#driver.cancelOp(this.#op);
    };
    signal.addEventListener("abort", stop);
    try {
      await this.#sendReceived();
      signal.throwIfAborted();
      if (from.atEnd) return;
      using pipe = new PipePair();
      using source = new RealDescriptor(from.socket);
      using target = new RealDescriptor(this.#to.socket);
      this.#pipe = pipe;
      this.#source = source.fd;
      this.#target = target.fd;
      for (const { fd } of [source, target]) waitsNever(fd);
      this.#goOn();
      await this.#running!.promise;
    } finally {
      this.#pipe = null;
      signal.removeEventListener("abort", stop);
      end();
    }
  }

  /** What was received before goes first; the kernel's pipe takes none of our memory, so it is sent as it is. */
  async #sendReceived(): Promise<void> {
    const { signal } = this.#abort;
    const { socket } = this.#to;
    for (const chunk of await this.#from.handOver()) {
      for (let at = 0; at < chunk.length;) {
        at += await socket.engine.uring.send(socket.file, chunk.subarray(at), { signal });
      }
      this.#total += chunk.length;
    }
  }

  /** Moves until it has to wait for one of the sockets. */
  #goOn(): void {
    const pipe = this.#pipe!;
    const from = this.#source;
    const to = this.#target;
    for (let rounds = 0; rounds < ROUNDS; rounds++) {
      if (this.#held === 0) {
        const count = move(from, pipe.writer, pipe.size);
        if (count <= 0) return this.#ended(count, from, POLLIN);
        this.#held = count;
      }
      const count = move(pipe.reader, to, this.#held);
      if (count > 0) {
        this.#held -= count;
        this.#total += count;
      }
      if (this.#held > 0) return this.#ended(count > 0 ? EAGAIN : count || EPIPE, to, POLLOUT);
    }
    this.#wait(from, POLLIN);
  }

  /** No more can be moved now, or ever. */
  #ended(count: number, socket: number, events: number): void {
    if (count === EAGAIN) this.#wait(socket, events);
    else if (count === 0) this.#running!.resolve();
    else this.#running!.reject(new UringError(count, "splice"));
  }

  #wait(socket: number, events: number): void {
    if (this.#driver.closed) {
      this.#running!.reject(closedError("splice"));
      return;
    }
    const op = this.#driver.begin("poll");
    op.sqe!.prepPollAdd(socket, events);
    this.#op = op;
    this.#driver.launch(op, this);
  }

  /** A socket is ready, or the wait was cancelled. @internal */
  complete(res: number): void {
    this.#op = null;
    const { signal } = this.#abort;
    if (signal.aborted) this.#running!.reject(signal.reason);
    else if (res < 0) this.#running!.reject(new UringError(res, "poll"));
    else this.#goOn();
  }
}
