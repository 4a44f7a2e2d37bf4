/**
 * Descriptors that go from process to process over Unix sockets.
 *
 * @module
 */
import { system } from "../ffi/system.ts";
import type { Fd } from "../loop/direct.ts";
import type { ReceivedMessage, Uring } from "../mod.ts";

const closed = -1;

interface Owned {
  fd: number;
}

const lost = new FinalizationRegistry<Owned>(close);

function close(owned: Owned): void {
  const { fd } = owned;
  owned.fd = closed;
  if (fd !== closed) system().close(fd);
}

/**
 * A descriptor that was received: this process's to use and to close. It is closed when it is disposed of, or collected
 * with nobody having taken it.
 *
 * @example
 * ```ts
 * using descriptor = message.descriptors[0];
 * await uring.read(descriptor.fd, buffer);
 * ```
 */
export class OwnedDescriptor implements Disposable {
  readonly #owned: Owned;

  /** @param fd A descriptor that nobody else will close. */
  constructor(fd: number) {
    this.#owned = { fd };
    lost.register(this, this.#owned, this);
  }

  /** The number, for as long as this object is held; −1 when it was closed or taken. */
  get fd(): number {
    return this.#owned.fd;
  }

  /** The number, for the caller to close: this object lets go of it. −1 when it was closed or taken. */
  take(): number {
    const { fd } = this.#owned;
    this.#owned.fd = closed;
    lost.unregister(this);
    return fd;
  }

  /** Closes it, unless it was taken. Again is no error. */
  close(): void {
    lost.unregister(this);
    close(this.#owned);
  }

  /** The same as {@link OwnedDescriptor.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** A descriptor to send: its number, or something that has one. It stays open here. */
export type SendableDescriptor = number | { readonly fd: number };

/** What came with descriptors. */
export interface ReceivedDescriptors {
  /** How many bytes of data came along; 0: the other end has finished. */
  readonly length: number;
  /** The descriptors, in the order in which they were sent. */
  readonly descriptors: readonly OwnedDescriptor[];
}

/** The most descriptors that one message carries. */
export const MOST_DESCRIPTORS = 253;

/** The numbers of what is to be sent. */
export function descriptorNumbers(descriptors: readonly SendableDescriptor[]): number[] {
  if (!Array.isArray(descriptors) || descriptors.length === 0 || descriptors.length > MOST_DESCRIPTORS) {
    throw new RangeError(`descriptors is an array of 1 to ${MOST_DESCRIPTORS}`);
  }
  return (descriptors as readonly SendableDescriptor[]).map((one) => {
    const fd = typeof one === "number" ? one : (one as { fd?: unknown } | null)?.fd;
    if (typeof fd !== "number" || fd !== (fd | 0) || fd < 0) {
      throw new TypeError("A descriptor is a number, or an object with one as `fd`, that is not closed");
    }
    return fd;
  });
}

/** Checks what is sent with {@link sendDescriptors}. @internal */
export function checkSend(data: Uint8Array, descriptors: readonly SendableDescriptor[]): number[] {
  if (!(data instanceof Uint8Array)) throw new TypeError("data must be a Uint8Array or a string");
  if (data.length === 0) throw new RangeError("Descriptors go with at least one byte of data");
  return descriptorNumbers(descriptors);
}

/**
 * Sends descriptors over a Unix socket, with data of at least one byte, and resolves when the kernel has taken all of it:
 * `SCM_RIGHTS` by `io_uring_prep_sendmsg`, Linux 5.3.
 *
 * @internal
 */
export async function sendDescriptors(
  uring: Uring,
  fd: Fd,
  data: Uint8Array,
  descriptors: readonly SendableDescriptor[],
  signal?: AbortSignal,
): Promise<number> {
  const options = signal === undefined ? {} : { signal };
  const fds = checkSend(data, descriptors);
  let sent = await uring.sendmsg(fd, data, { control: [{ kind: "rights", fds }], ...options });
  // They went with the first byte; the rest of the data is like any other.
  while (sent < data.length) sent += await uring.send(fd, data.subarray(sent), options);
  return sent;
}

/**
 * Receives from a Unix socket into `buffer`, with up to `most` descriptors; more than that are closed:
 * `io_uring_prep_recvmsg`, Linux 5.3.
 *
 * @internal
 */
export async function receiveDescriptors(
  uring: Uring,
  fd: Fd,
  buffer: Uint8Array,
  most: number = MOST_DESCRIPTORS,
  signal?: AbortSignal,
): Promise<ReceivedDescriptors> {
  const options = signal === undefined ? {} : { signal };
  const message = await uring.recvmsg(fd, buffer, { descriptors: most, ...options });
  return { length: message.length, descriptors: ownedDescriptors(message) };
}

/** The descriptors of a message, each as an object of its own. */
export function ownedDescriptors(message: ReceivedMessage): OwnedDescriptor[] {
  return message.takeDescriptors().map((fd) => new OwnedDescriptor(fd));
}
