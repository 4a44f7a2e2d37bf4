/**
 * `pipe`: from one connection to another.
 *
 * @module
 */
import type { Conn } from "./conn.ts";
import { closedError } from "./errors.ts";
import type { Job } from "./pieces.ts";
import { drain, fill, PipePair } from "./splice.ts";

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

/** Moves everything when its turn comes. */
class Splice implements Job {
  readonly moved: PromiseWithResolvers<number> = Promise.withResolvers<number>();
  readonly #from: Conn;
  readonly #to: Conn;
  readonly #signal: AbortSignal | undefined;
  readonly #abort = new AbortController();
  readonly #onAbort: () => void = () => this.#abort.abort(this.#signal!.reason);
  #running = false;

  constructor(from: Conn, to: Conn, signal: AbortSignal | undefined) {
    this.#from = from;
    this.#to = to;
    this.#signal = signal;
    signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  run(done: () => void): void {
    this.#running = true;
    this.#move().then(
      (moved) => this.moved.resolve(moved),
      (error) => this.moved.reject(this.#abort.signal.aborted ? this.#abort.signal.reason : error),
    ).then(() => {
      this.#signal?.removeEventListener("abort", this.#onAbort);
      done();
    });
  }

  cancel(error: Error): void {
    this.#abort.abort(error);
    if (!this.#running) this.moved.reject(error);
  }

  async #move(): Promise<number> {
    const { signal } = this.#abort;
    const from = this.#from;
    const to = this.#to;
    const { uring } = to.socket.engine;
    const end = from.whenClosed(() => this.#abort.abort(closedError("splice")));
    using pipe = new PipePair();
    try {
      let moved = 0;
      // What was received before goes first; the kernel's pipe takes none of our memory, so it is sent as it is.
      for (const chunk of await from.handOver()) {
        for (let at = 0; at < chunk.length;) {
          at += await uring.send(to.socket.fd, chunk.subarray(at), { signal });
        }
        moved += chunk.length;
      }
      while (!from.atEnd) {
        signal.throwIfAborted();
        const count = await fill(uring, from.socket.fd, pipe, Infinity, undefined, signal);
        if (count === 0) break;
        await drain(uring, pipe, to.socket.fd, count, signal);
        moved += count;
      }
      return moved;
    } finally {
      end();
    }
  }
}
