/**
 * What other rings send to this one.
 *
 * @module
 */
import { kernelHas } from "../ffi/kernel.ts";
import type { UringError } from "../ffi/errors.ts";
import { closeDirect, type DirectDescriptor, type DirectTable } from "./direct.ts";
import type { Driver } from "./driver.ts";
import type { MessageSink } from "./message_sink.ts";

/**
 * Where messages for a `Uring` go: what its {@link Inbox} gives, and what `msgRing` and `sendFd` take. It can be posted to
 * other Workers of the process, and means nothing outside of it or once its ring is closed.
 */
export interface RingAddress {
  /** The ring's descriptor. */
  readonly ring: number;
}

/** Two numbers from another ring. */
export interface DataMessage {
  /** Which kind. */
  readonly kind: "data";
  /** 32 bits. */
  readonly value: number;
  /** 30 bits. */
  readonly tag: number;
}

/** A file from another ring's table, in this one's from now on: close it. */
export interface DescriptorMessage {
  /** Which kind. */
  readonly kind: "descriptor";
  /** The file. */
  readonly descriptor: DirectDescriptor;
  /** 30 bits. */
  readonly tag: number;
}

/** What one ring sends to another. */
export type RingMessage = DataMessage | DescriptorMessage;

/** The largest tag of a message. */
export const MOST_MESSAGE_TAG: number = 0x3fff_ffff;

/** Set in the tag on its way for a message that brings a descriptor. */
const WITH_DESCRIPTOR = 0x4000_0000;

/** The high half of the `user_data` that a message arrives with. @internal */
export function messageWord(tag: number, withDescriptor: boolean): number {
  return 0x8000_0000 | (withDescriptor ? WITH_DESCRIPTOR : 0) | tag;
}

interface Waiter {
  resolve(result: IteratorResult<RingMessage, undefined>): void;
  reject(reason: unknown): void;
}

/**
 * The messages that other rings send to a `Uring`, in the order of their arrival: that in which a ring has sent them, but
 * for files, which may overtake numbers. While it is open, messages wait here
 * until they are taken, and the ring counts as being at work, which keeps the process alive unless it is unreferenced.
 * What arrives when it is closed is lost; descriptors are closed.
 */
export class Inbox implements AsyncIterableIterator<RingMessage, undefined, undefined>, AsyncDisposable {
  readonly #driver: Driver;
  readonly #directs: DirectTable;
  #messages: RingMessage[] = [];
  #first = 0;
  readonly #waiters: Waiter[] = [];
  #open = true;
  #failure: { reason: unknown } | null = null;
  readonly #sink: MessageSink = {
    message: (tag, res) => this.#put(decode(this.#directs, tag, res)),
    end: (error) => this.#end(error),
  };
  /** Where to send to. */
  readonly address: RingAddress;

  /** @internal */
  constructor(driver: Driver, directs: DirectTable) {
    this.#driver = driver;
    this.#directs = directs;
    if (driver.inbox !== null) throw new TypeError("The ring's messages are being taken already");
    const { fd } = driver.ring;
    if (fd < 0) throw new TypeError("A ring without a descriptor has no address");
    // Where descriptors arrive, which takes that kernel.
    if (kernelHas("6.0")) directs.shareWithKernel();
    this.address = Object.freeze({ ring: fd });
    driver.onStray = (tag, res) => discard(driver, decode(directs, tag, res));
    driver.inbox = this.#sink;
    driver.hold();
  }

  /** How many messages wait to be taken. */
  get length(): number {
    return this.#messages.length - this.#first;
  }

  /** The next message; many may be asked for at once. Rejects with `ECANCELED` when the ring is closed. */
  next(): Promise<IteratorResult<RingMessage, undefined>> {
    if (this.length > 0) return Promise.resolve({ done: false, value: this.#take() });
    if (!this.#open) {
      const failure = this.#failure;
      this.#failure = null;
      return failure === null
        ? Promise.resolve({ done: true, value: undefined })
        : Promise.reject(failure.reason);
    }
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  /** Takes no more messages; what was not taken is dropped, and descriptors among it are closed. */
  return(): Promise<IteratorResult<RingMessage, undefined>> {
    this.#failure = null;
    this.#end(null);
    for (; this.length > 0;) discard(this.#driver, this.#take());
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The same as {@link Inbox.return}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #put(message: RingMessage): void {
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#messages.push(message);
    else waiter.resolve({ done: false, value: message });
  }

  #take(): RingMessage {
    const message = this.#messages[this.#first]!;
    this.#messages[this.#first++] = undefined as never;
    if (this.#first === this.#messages.length) {
      this.#messages = [];
      this.#first = 0;
    } else if (this.#first > 4096) {
      this.#messages = this.#messages.slice(this.#first);
      this.#first = 0;
    }
    return message;
  }

  #end(error: UringError | null): void {
    if (!this.#open) return;
    this.#open = false;
    this.#driver.inbox = null;
    for (const waiter of this.#waiters.splice(0)) {
      if (error === null) waiter.resolve({ done: true, value: undefined });
      else waiter.reject(error);
      // Who waited has been told.
      error = null;
    }
    if (error !== null) this.#failure = { reason: error };
    this.#driver.letGo();
  }
}

function decode(directs: DirectTable, tag: number, res: number): RingMessage {
  const plain = tag & MOST_MESSAGE_TAG;
  return (tag & WITH_DESCRIPTOR) === 0
    ? { kind: "data", value: res >>> 0, tag: plain }
    : { kind: "descriptor", descriptor: directs.adopt(res), tag: plain };
}

function discard(driver: Driver, message: RingMessage): void {
  if (message.kind !== "descriptor" || message.descriptor.closed) return;
  message.descriptor.state = "closing";
  closeDirect(driver, message.descriptor);
}
