/**
 * Sending files.
 *
 * @module
 */
import type { Fd } from "../loop/direct.ts";
import { closedError } from "./errors.ts";
import type { Engine } from "./engine.ts";
import type { Job, Piece } from "./pieces.ts";
import { drain, fill, PipePair } from "./splice.ts";

/** Up to here a file is read and sent: two system calls' work less than moving it through a pipe. */
const READ = 64 << 10;

/** What a file is given by: a descriptor, or what has one, such as a `FileHandle`. */
export type FileSource = number | { readonly fd: number };

/** The descriptor of a file, and a part of it, checked. */
export function checkPart(file: FileSource, offset: number, length: number): number {
  const fd = typeof file === "number" ? file : (file as { fd?: unknown } | null)?.fd;
  if (typeof fd !== "number" || fd !== (fd | 0) || fd < 0) {
    throw new TypeError("file must be a descriptor or something that has one");
  }
  if (!Number.isSafeInteger(offset) || offset < 0) {
    throw new RangeError(`offset must be an integer from 0 on, not ${offset}`);
  }
  if (length !== Infinity && (!Number.isSafeInteger(length) || length < 0)) {
    throw new RangeError(`length must be an integer from 0 on, not ${length}`);
  }
  return fd;
}

/** Sends a part of a file when its turn comes. */
export class SendFile implements Job {
  /** How many bytes were sent. */
  readonly sent: PromiseWithResolvers<number> = Promise.withResolvers<number>();
  readonly #engine: Engine;
  readonly #file: number;
  readonly #socket: Fd;
  readonly #offset: number;
  readonly #length: number;
  readonly #abort = new AbortController();
  #running = false;

  /** @internal */
  constructor(engine: Engine, file: number, socket: Fd, offset: number, length: number) {
    this.#engine = engine;
    this.#file = file;
    this.#socket = socket;
    this.#offset = offset;
    this.#length = length;
  }

  run(done: (piece?: Piece, sent?: PromiseWithResolvers<number>) => void): void {
    this.#running = true;
    const work = this.#length <= READ ? this.#read() : this.#splice();
    work.then(
      (result) => {
        if (typeof result !== "number") return done(result, this.sent);
        this.sent.resolve(result);
        done();
      },
      (error) => {
        this.sent.reject(this.#abort.signal.aborted ? this.#abort.signal.reason : error);
        done();
      },
    );
  }

  cancel(error: Error): void {
    this.#abort.abort(error);
    if (!this.#running) this.sent.reject(error);
  }

  /** The bytes in memory that they can be sent from. */
  async #read(): Promise<Piece | number> {
    const { pieces, uring } = this.#engine;
    if (this.#length === 0) return 0;
    const piece = pieces.take(this.#length);
    try {
      const { signal } = this.#abort;
      const length = Math.min(this.#length, piece.size);
      while (piece.end < length) {
        const rest = piece.bytes!.subarray(piece.end, length);
        const count = await uring.read(this.#file, rest, { offset: this.#offset + piece.end, signal });
        if (count === 0) break;
        piece.end += count;
      }
    } catch (error) {
      pieces.give(piece);
      throw error;
    }
    if (piece.end > 0) return piece;
    pieces.give(piece);
    return 0;
  }

  async #splice(): Promise<number> {
    const { uring } = this.#engine;
    const { signal } = this.#abort;
    using pipe = new PipePair();
    let sent = 0;
    while (sent < this.#length) {
      signal.throwIfAborted();
      const offset = this.#offset + sent;
      const count = await fill(uring, this.#file, pipe, this.#length - sent, offset, signal);
      if (count === 0) break;
      await drain(uring, pipe, this.#socket, count, signal);
      sent += count;
    }
    if (uring.closed) throw closedError("splice");
    return sent;
  }
}
