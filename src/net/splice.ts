/**
 * Moving data between descriptors without taking it through the program's memory.
 *
 * @module
 */
import { F_SETFL, F_SETPIPE_SZ, O_CLOEXEC, O_NONBLOCK, POLLOUT, SPLICE_F_NONBLOCK } from "../ffi/abi.ts";
import { check } from "../ffi/errors.ts";
import { system } from "../ffi/system.ts";
import type { Fd } from "../loop/direct.ts";
import { type Uring, UringError } from "../mod.ts";

/** What a pipe is to hold, and what it holds when the system grants no more. */
const WANTED = 1 << 20;
const LEAST = 64 << 10;

const EINTR = -4;

/** A pipe, as large as the system grants. */
export class PipePair implements Disposable {
  /** Where bytes come out. */
  readonly reader: number;
  /** Where they go in. */
  readonly writer: number;
  /** How many bytes it holds. */
  readonly size: number;

  constructor() {
    const ends = new Int32Array(new ArrayBuffer(8));
    check(system().rare.pipe2(ends, O_CLOEXEC | O_NONBLOCK), "pipe2");
    this.reader = ends[0]!;
    this.writer = ends[1]!;
    const granted = system().net.fcntl(this.writer, F_SETPIPE_SZ, WANTED);
    this.size = granted > 0 ? granted : LEAST;
  }

  /** Closes both ends. */
  [Symbol.dispose](): void {
    system().close(this.reader);
    system().close(this.writer);
  }
}

/** Has {@link move} never wait for a socket. What goes through the ring waits in the ring all the same. */
export function waitsNever(socket: number): void {
  check(system().net.fcntl(socket, F_SETFL, O_NONBLOCK), "fcntl");
}

/**
 * Moves what can be moved at once between a pipe and a socket that {@link waitsNever}; gives how much that was, or the
 * error. By a system call of its own: io_uring has a thread of the kernel's do it, which takes longer than the moving. A
 * connection that is gone raises `SIGPIPE` here, which both runtimes ignore.
 */
export function move(from: number, to: number, length: number): number {
  let moved: number;
  do moved = system().net.splice(from, null, to, null, length, SPLICE_F_NONBLOCK); while (moved === EINTR);
  return moved;
}

/**
 * Moves up to `length` bytes from a file at an offset, into a pipe that is empty. Resolves with how many
 * there were; 0 at the end.
 */
export function fill(
  uring: Uring,
  from: Fd,
  pipe: PipePair,
  length: number,
  offset: number,
  signal: AbortSignal,
): Promise<number> {
  const most = Math.min(length, pipe.size);
  return uring.splice(from, pipe.writer, most, { offsetIn: offset, flags: SPLICE_F_NONBLOCK, signal });
}

/** Moves `length` bytes from a pipe that holds them to a socket. */
export async function drain(
  uring: Uring,
  pipe: PipePair,
  to: Fd,
  length: number,
  signal: AbortSignal,
): Promise<void> {
  for (let left = length; left > 0;) {
    const count = await unlessBusy(
      uring.splice(pipe.reader, to, left, { flags: SPLICE_F_NONBLOCK, signal }),
    );
    if (count === BUSY) await uring.poll(to, POLLOUT, { signal });
    else left -= count;
  }
}

const BUSY = -1;

async function unlessBusy(moved: Promise<number>): Promise<number> {
  try {
    return await moved;
  } catch (error) {
    if (error instanceof UringError && error.code === "EAGAIN") return BUSY;
    throw error;
  }
}
