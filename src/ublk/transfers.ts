/**
 * Transfers between requests and files, by the ring of the disk.
 *
 * @module
 */
import { UringError } from "../ffi/errors.ts";
import type { Place } from "./request.ts";

/** One transfer between a request and a file, in as many operations as it takes. */
export interface Transfer {
  readonly place: Place;
  readonly fd: number;
  readonly position: number;
  /** What its completions tell. */
  readonly number: number;
  /** How much of the request was transferred. */
  done: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

const EINTR = -4;
const EIO = 5;
const ECANCELED = 125;
/** How long closing waits for transfers under way, in milliseconds, and how often it looks. */
const DRAIN_MS = 2000;
const LOOK_MS = 1;

/** The transfers of one disk, by number. */
export class Transfers {
  readonly #push: (transfer: Transfer) => void;
  readonly #table: (Transfer | null)[] = [];
  readonly #free: number[] = [];

  /** @param push Queues an operation for the rest of a transfer. */
  constructor(push: (transfer: Transfer) => void) {
    this.#push = push;
  }

  /** How many are under way. */
  get size(): number {
    return this.#table.length - this.#free.length;
  }

  /** The numbers of those under way. */
  *numbers(): IterableIterator<number> {
    for (const transfer of this.#table) if (transfer !== null) yield transfer.number;
  }

  /** Begins to transfer all of a request. */
  start(place: Place, fd: number, position: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const number = this.#free.pop() ?? this.#table.length;
    const transfer: Transfer = { place, fd, position, number, done: 0, resolve, reject };
    this.#table[number] = transfer;
    this.#try(transfer);
    return promise;
  }

  /** Takes the result of an operation: the rest is transferred by the next one. */
  complete(number: number, res: number): void {
    const transfer = this.#table[number]!;
    const { place } = transfer;
    const again = res === EINTR;
    if (res < 0 && !again) return this.#end(transfer, new UringError(res, "transfer"));
    if (res === 0) return this.#end(transfer, endOfFile(transfer));
    if (!again) transfer.done += res;
    if (transfer.done >= place.length) this.#end(transfer, null);
    else if (place.state === "serving") this.#try(transfer);
    // The pages of a request that has ended may be another's by now.
    else this.#end(transfer, new UringError(ECANCELED, "transfer"));
  }

  #try(transfer: Transfer): void {
    try {
      this.#push(transfer);
    } catch (error) {
      this.#end(transfer, error);
    }
  }

  #end(transfer: Transfer, error: unknown): void {
    this.#table[transfer.number] = null;
    this.#free.push(transfer.number);
    if (error === null) transfer.resolve();
    else transfer.reject(error);
  }

  /**
   * Waits for the end of those that were cancelled; whether all have ended.
   *
   * @param look Takes the completions that there are.
   */
  async drain(look: () => void): Promise<boolean> {
    const limit = performance.now() + DRAIN_MS;
    while (this.size > 0 && performance.now() < limit) {
      look();
      if (this.size > 0) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    const free = this.size === 0;
    for (const transfer of this.#table) {
      if (transfer !== null) this.#end(transfer, new UringError(ECANCELED, "transfer"));
    }
    return free;
  }
}

/** The error of a file that ends before the request does. */
function endOfFile(transfer: Transfer): UringError {
  const at = transfer.position + transfer.done;
  return new UringError(EIO, "transfer", { hint: `the file ends at ${at}, before the request does` });
}
