/**
 * Descriptors that go over a connection between Unix sockets.
 *
 * @module
 */
import type { Fd } from "../loop/direct.ts";
import type { Uring } from "../mod.ts";
import {
  type ReceivedDescriptors,
  receiveDescriptors,
  type SendableDescriptor,
  sendDescriptors,
} from "./descriptors.ts";
import { closedError } from "./errors.ts";
import type { Job } from "./pieces.ts";

/** Sends descriptors when what was written before was sent. */
export class SendDescriptors implements Job {
  /** How many bytes of data went along. */
  readonly sent: PromiseWithResolvers<number> = Promise.withResolvers<number>();
  readonly #uring: Uring;
  readonly #fd: Fd;
  readonly #data: Uint8Array;
  readonly #descriptors: readonly SendableDescriptor[];
  readonly #controller = new AbortController();
  #running = false;

  /**
   * @param uring The ring.
   * @param fd The socket.
   * @param data At least one byte.
   * @param descriptors 1 to 253.
   */
  constructor(uring: Uring, fd: Fd, data: Uint8Array, descriptors: readonly SendableDescriptor[]) {
    this.#uring = uring;
    this.#fd = fd;
    this.#data = data;
    this.#descriptors = descriptors;
  }

  /** Begins. */
  run(done: () => void): void {
    this.#running = true;
    sendDescriptors(this.#uring, this.#fd, this.#data, this.#descriptors, this.#controller.signal).then(
      (length) => {
        done();
        this.sent.resolve(length);
      },
      (error: unknown) => {
        done();
        this.sent.reject(error);
      },
    );
  }

  /** Ends it. */
  cancel(error: Error): void {
    if (this.#running) this.#controller.abort(error);
    else this.sent.reject(error);
  }
}

/** What receiving needs of a connection. */
export interface DescriptorSource {
  /** The ring. */
  readonly uring: Uring;
  /** The socket. */
  readonly fd: Fd;
  /** Calls back when the connection is closed; returns what ends that. */
  whenClosed(callback: () => void): () => void;
}

/** Receives data with descriptors, until the connection is closed. */
export async function receiveOver(
  source: DescriptorSource,
  buffer: Uint8Array,
  most: number | undefined,
): Promise<ReceivedDescriptors> {
  const controller = new AbortController();
  const unwatch = source.whenClosed(() => controller.abort(closedError("recvmsg")));
  try {
    return await receiveDescriptors(source.uring, source.fd, buffer, most, controller.signal);
  } finally {
    unwatch();
  }
}
