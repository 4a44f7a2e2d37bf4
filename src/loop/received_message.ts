/**
 * What `recvmsg` gives, with the descriptors that came along.
 *
 * @module
 */
import { MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_TRUNC } from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import { decodeControl, type ReceivedControlMessage } from "./cmsg.ts";
import { decodeAddress, type SocketAddress } from "./sockaddr.ts";

/** Descriptors that nobody has taken yet. */
interface Untaken {
  fds: readonly number[];
}

function closeUntaken(untaken: Untaken): void {
  for (const fd of untaken.fds) system().close(fd);
  untaken.fds = [];
}

// A message that is dropped with descriptors in it: they are closed when it is collected.
const dropped = new FinalizationRegistry<Untaken>(closeUntaken);

/** The parts of a received message as bytes. */
export interface RawMessage {
  /** How many bytes of data there are. */
  readonly length: number;
  /** `MSG_*`. */
  readonly flags: number;
  /** The source address: the bytes of a `struct sockaddr`, empty for none. */
  readonly name: Uint8Array;
  /** The control messages. */
  readonly control: Uint8Array;
}

/**
 * A message that was received. Descriptors that came with it (`SCM_RIGHTS`) are this process's: take them with
 * {@link ReceivedMessage.takeDescriptors}; those that are not taken are closed when it is disposed of, or collected.
 */
export class ReceivedMessage implements Disposable {
  /** How many bytes of data arrived. */
  readonly length: number;
  /** `MSG_*` bits that the kernel set. */
  readonly flags: number;
  /** The control messages except descriptors, in order. */
  readonly control: readonly ReceivedControlMessage[];
  readonly #name: Uint8Array;
  readonly #untaken: Untaken;

  /** @internal */
  constructor(raw: RawMessage) {
    this.length = raw.length;
    this.flags = raw.flags & ~MSG_CMSG_CLOEXEC;
    this.#name = new Uint8Array(raw.name);
    const { messages, fds } = decodeControl(raw.control);
    this.control = messages;
    this.#untaken = { fds };
    if (fds.length > 0) dropped.register(this, this.#untaken, this);
  }

  /** Whether the data was longer than the room for it, and the rest is lost: `MSG_TRUNC`. */
  get truncated(): boolean {
    return (this.flags & MSG_TRUNC) !== 0;
  }

  /** Whether there was more control data than room for it: `MSG_CTRUNC`. Descriptors that did not fit are closed. */
  get controlTruncated(): boolean {
    return (this.flags & MSG_CTRUNC) !== 0;
  }

  /**
   * Where it came from; undefined where the kernel does not say, as on a connection.
   *
   * @throws TypeError for an address that has no JavaScript form here; see {@link ReceivedMessage.addressBytes}.
   */
  get address(): SocketAddress | undefined {
    return this.#name.length === 0 ? undefined : decodeAddress(this.#name, this.#name.length);
  }

  /** The source address as the bytes of a `struct sockaddr`; empty where the kernel does not say. */
  get addressBytes(): Uint8Array {
    return new Uint8Array(this.#name);
  }

  /** How many descriptors wait to be taken. */
  get descriptorCount(): number {
    return this.#untaken.fds.length;
  }

  /** The descriptors that came along, in order: from now on the caller's to close. A second call gives none. */
  takeDescriptors(): number[] {
    const { fds } = this.#untaken;
    this.#untaken.fds = [];
    dropped.unregister(this);
    return [...fds];
  }

  /** Closes the descriptors that were not taken. */
  dispose(): void {
    dropped.unregister(this);
    closeUntaken(this.#untaken);
  }

  /** The same as {@link ReceivedMessage.dispose}. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A message of a multishot receive: with its data. */
export class ReceivedData extends ReceivedMessage {
  /** The data. */
  readonly data: Uint8Array;

  /** @internal */
  constructor(raw: RawMessage, data: Uint8Array) {
    super(raw);
    this.data = data;
  }
}
