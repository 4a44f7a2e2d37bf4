/**
 * Connections.
 *
 * @module
 */
import { MSG_WAITALL, SHUT_WR } from "../ffi/abi.ts";
import { type Multishot, type SocketAddress, Uring, UringError } from "../mod.ts";
import { closedError } from "./errors.ts";
import { Socket } from "./socket.ts";
import { readableOf, writableOf } from "./streams.ts";
import { Turns } from "./turns.ts";

const encoder = new TextEncoder();

/**
 * A connection. Read it in one of three ways: `read` into memory of your own, `for await` over its chunks, or
 * `readable`. Write with `write` or `writable`.
 *
 * Close it, with `await using` best. Only when both streams were used and have ended, it closes itself.
 *
 * @example
 * ```ts
 * import { connect } from "uring/net";
 * await using conn = await connect({ hostname: "127.0.0.1", port: 8080 });
 * await conn.write("hello\n");
 * await conn.closeWrite();
 * for await (const chunk of conn) console.log(chunk.length);
 * ```
 */
export class Conn implements AsyncIterable<Uint8Array>, AsyncDisposable {
  /** The address of this end. */
  readonly localAddr: SocketAddress;
  /** The address of the other end. */
  readonly remoteAddr: SocketAddress;
  readonly #uring: Uring;
  readonly #socket: Socket;
  readonly #reads = new Turns();
  readonly #writes = new Turns();
  /** What arrives, once somebody has asked for chunks. */
  #chunks: Multishot<Uint8Array> | null = null;
  /** What `read` has left of a chunk. */
  #rest: Uint8Array | null = null;
  #ended = false;
  #finished: Promise<void> | null = null;
  #readable: ReadableStream<Uint8Array> | null = null;
  #writable: WritableStream<Uint8Array> | null = null;

  /** @internal */
  constructor(uring: Uring, fd: number, localAddr: SocketAddress, remoteAddr: SocketAddress) {
    this.#uring = uring;
    this.#socket = new Socket(fd);
    this.localAddr = localAddr;
    this.remoteAddr = remoteAddr;
  }

  /** Whether it is closed or closing. */
  get closed(): boolean {
    return this.#socket.closed;
  }

  /**
   * Reads into `buffer` what is there, after waiting until something is: resolves with the number of bytes, at least 1,
   * or with `null` at the end. The kernel writes into `buffer` until the promise settles; do not transfer it meanwhile.
   *
   * @throws UringError (rejects): `ECONNRESET`…; `ECANCELED` when the connection is closed.
   */
  read(buffer: Uint8Array): Promise<number | null> {
    if (!(buffer instanceof Uint8Array)) return Promise.reject(new TypeError("buffer must be a Uint8Array"));
    return this.#reads.run(async () => {
      if (this.#socket.closed) throw closedError("recv");
      if (buffer.length === 0) return 0;
      if (this.#chunks !== null) return await this.#readChunk(buffer);
      const count = await this.#socket.use("recv", this.#uring, (fd) => this.#uring.recv(fd, buffer));
      return count === 0 ? null : count;
    });
  }

  async #readChunk(buffer: Uint8Array): Promise<number | null> {
    const chunk = this.#rest ?? await this.#nextChunk();
    if (chunk === null) return null;
    const count = Math.min(chunk.length, buffer.length);
    buffer.set(chunk.subarray(0, count));
    this.#rest = count < chunk.length ? chunk.subarray(count) : null;
    return count;
  }

  /** The next chunk, in memory of its own; null at the end. One at a time. */
  async #nextChunk(): Promise<Uint8Array | null> {
    const rest = this.#rest;
    this.#rest = null;
    if (rest !== null) return rest;
    if (this.#ended) return null;
    return await this.#socket.use("recv", this.#uring, async (fd) => {
      this.#chunks ??= this.#uring.recvMultishot(fd);
      const { done, value } = await this.#chunks.next();
      if (done !== true) return value;
      // Not an end of the other side's when this side has closed.
      if (this.#socket.closed) throw closedError("recv");
      this.#ended = true;
      return null;
    });
  }

  /** The next chunk for those who take chunks. @internal */
  chunk(): Promise<Uint8Array | null> {
    return this.#reads.run(() => this.#nextChunk());
  }

  /**
   * What arrives, in chunks of up to 16 KiB. While nobody takes them, some 64 wait in memory and then the sender is held
   * back. Leaving the loop early loses nothing: whoever reads next goes on where it stopped.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, undefined, undefined> {
    for (;;) {
      const chunk = await this.chunk();
      if (chunk === null) return undefined;
      yield chunk;
    }
  }

  /**
   * Writes all of `data` (text as UTF-8), after what is being written already, and resolves with the number of bytes.
   * The bytes must not change until then.
   *
   * @throws UringError (rejects): `EPIPE` when the other end is gone; `ECANCELED` when the connection is closed.
   */
  write(data: Uint8Array | string): Promise<number> {
    const bytes = typeof data === "string" ? encoder.encode(data) : data;
    if (!(bytes instanceof Uint8Array)) {
      return Promise.reject(new TypeError("data must be a Uint8Array or a string"));
    }
    return this.#writes.run(async () => {
      let written = 0;
      do {
        const rest = written === 0 ? bytes : bytes.subarray(written);
        written += await this.#socket.use(
          "send",
          this.#uring,
          (fd) => this.#uring.send(fd, rest, { flags: MSG_WAITALL }),
        );
      } while (written < bytes.length);
      return written;
    });
  }

  /** Says that nothing more will be written, after what is being written; reading goes on. Again is no error. */
  closeWrite(): Promise<void> {
    return this.#finished ??= this.#writes.run(async () => {
      try {
        await this.#socket.use("shutdown", this.#uring, (fd) => this.#uring.shutdown(fd, SHUT_WR));
      } catch (error) {
        // The other end has reset the connection: there is nobody to tell.
        if (!(error instanceof UringError && error.code === "ENOTCONN")) throw error;
      }
    });
  }

  /** What arrives, as a stream, which is read ahead by what fits the pool of buffers. */
  get readable(): ReadableStream<Uint8Array> {
    return this.#readable ??= readableOf(this);
  }

  /** Where to write, as a stream; closing it is {@link Conn.closeWrite}, aborting it {@link Conn.close}. */
  get writable(): WritableStream<Uint8Array> {
    return this.#writable ??= writableOf(this);
  }

  /**
   * Closes it: cancels what is in flight, whose promises reject with `ECANCELED`, waits until the kernel has let go of
   * its memory, and closes the descriptor. What was written is still sent. Again is no error.
   */
  close(): Promise<void> {
    return this.#socket.close(async () => {
      this.#rest = null;
      await this.#chunks?.return();
    });
  }

  /** The same as {@link Conn.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
