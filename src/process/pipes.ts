/**
 * Pipes to and from a child.
 *
 * @module
 */
import { O_CLOEXEC } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { system } from "../ffi/system.ts";
import { Uring } from "../mod.ts";
import { aboveStreams } from "./posix_spawn.ts";

/** What a read asks for: as much as a pipe holds unless it was made larger. */
const CHUNK = 64 * 1024;

/** A pipe. */
export interface Ends {
  /** Where the bytes come out. */
  readonly reader: number;
  /** Where they go in. */
  readonly writer: number;
}

/** Makes a pipe whose ends are closed in programs that are started, and are no standard streams. */
export function openPipe(): Ends {
  const fds = new Int32Array(2);
  const result = system().rare.pipe2(fds, O_CLOEXEC);
  if (result < 0) throw new UringError(result, "pipe2");
  const ends: number[] = [];
  try {
    for (const fd of fds) ends.push(aboveStreams(fd));
  } catch (error) {
    for (const fd of ends) system().close(fd);
    throw error;
  } finally {
    for (const fd of fds) system().close(fd);
  }
  return { reader: ends[0]!, writer: ends[1]! };
}

/** Our end of a pipe, closed once. */
class End {
  readonly fd: number;
  readonly #abort: AbortController = new AbortController();
  #open = true;

  constructor(fd: number) {
    this.fd = fd;
    forgotten.register(this, fd, this);
  }

  /** Ends what is under way. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Closes it after what `pending` stands for has ended. */
  async close(pending?: Promise<unknown>): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#abort.abort();
    await pending?.catch(() => {});
    forgotten.unregister(this);
    system().close(this.fd);
  }
}

/** Streams that nobody reads or writes any more. */
const forgotten: FinalizationRegistry<number> = new FinalizationRegistry((fd) => system().close(fd));

/** Something to close. */
export interface Closable {
  /** Closes it, whatever is under way; once is enough. */
  close(): Promise<void>;
}

/** What a child writes, as a byte stream. */
export function readableOf(fd: number): { stream: ReadableStream<Uint8Array<ArrayBuffer>>; end: Closable } {
  const end = new End(fd);
  let pending: Promise<number> | undefined;
  let controlled: ReadableByteStreamController | undefined;
  const stream = new ReadableStream({
    type: "bytes",
    start: (controller) => {
      controlled = controller;
    },
    pull: async (controller) => {
      const request = controller.byobRequest;
      const view = request?.view as Uint8Array<ArrayBuffer> | null ?? new Uint8Array(CHUNK);
      let count: number;
      try {
        pending = Uring.shared.read(end.fd, view, { signal: end.signal });
        count = await pending;
      } catch (error) {
        if (end.signal.aborted) return;
        void end.close();
        throw error;
      }
      if (count === 0) {
        await end.close();
        controller.close();
        request?.respond(0);
      } else if (request) request.respond(count);
      else controller.enqueue(view.subarray(0, count));
    },
    cancel: () => end.close(pending),
  }, { highWaterMark: 0 });
  const close = async (): Promise<void> => {
    if (end.signal.aborted) return;
    await end.close(pending);
    try {
      controlled?.error(new DOMException("The child's stream was closed", "AbortError"));
    } catch {
      // It had ended.
    }
  };
  return { stream: stream as ReadableStream<Uint8Array<ArrayBuffer>>, end: { close } };
}

/** What a child reads, as a stream to write to. */
export function writableOf(fd: number): { stream: WritableStream<Uint8Array>; end: Closable } {
  const end = new End(fd);
  let pending: Promise<void> | undefined;
  const stream = new WritableStream<Uint8Array>({
    write: (chunk) => {
      if (!(chunk instanceof Uint8Array)) {
        throw new TypeError("A child's standard input takes Uint8Arrays; encode text with TextEncoder");
      }
      return pending = writeAll(end, chunk);
    },
    close: () => end.close(),
    abort: () => end.close(pending),
  });
  return { stream, end: { close: () => end.close(pending) } };
}

async function writeAll(end: End, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    done += await Uring.shared.write(end.fd, bytes.subarray(done), { signal: end.signal });
  }
}
