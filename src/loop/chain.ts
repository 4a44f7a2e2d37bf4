/**
 * Chains: operations that run one after the other, submitted together.
 *
 * @module
 */
import { IOSQE_IO_DRAIN, IOSQE_IO_HARDLINK, IOSQE_IO_LINK } from "../ffi/abi.ts";
import type { Sqe } from "../ring/sqe.ts";
import type { DirectDescriptor, DirectTable } from "./direct.ts";
import type { Driver } from "./driver.ts";
import type { Op } from "./op.ts";
import { Operations } from "./operations.ts";
import type { OperationOptions } from "./options.ts";
import type { PipeEnds } from "./pipe_ops.ts";

/** How a chain runs. */
export interface LinkOptions {
  /**
   * Go on when a step fails. Without it, a step that fails, or reads or writes less than asked for, has the rest
   * cancelled (`ECANCELED`).
   */
  hard?: boolean;
  /** Start only when everything submitted before has ended. */
  drain?: boolean;
}

/**
 * What `uring.link` hands to its callback: the same operations as `Uring`'s, each becoming the next step of the chain.
 * It is of no use once the callback has returned.
 */
export class Chain extends Operations {
  /** @internal */
  protected override readonly chained: boolean = true;
  readonly #options: LinkOptions;
  readonly #ops: Op[] = [];
  readonly #sqes: Sqe[] = [];
  readonly #reserved: DirectDescriptor[] = [];
  readonly #promises: Promise<unknown>[] = [];
  #submitted = false;

  /** @internal */
  constructor(driver: Driver, directs: DirectTable, options: LinkOptions) {
    super(driver, directs);
    this.#options = options;
  }

  /**
   * A direct descriptor for this chain: open into it with `{ direct: it }`, and use it in the steps that follow. The file
   * then never becomes a descriptor of the process.
   */
  direct(): DirectDescriptor {
    this.driver.assertOpen();
    const descriptor = this.directs.reserve();
    this.#reserved.push(descriptor);
    return descriptor;
  }

  /** Two direct descriptors for the ends of a pipe: make it with `pipe({ direct: them })`. */
  directPair(): PipeEnds<DirectDescriptor> {
    this.driver.assertOpen();
    const [reader, writer] = this.directs.reservePair();
    this.#reserved.push(reader, writer);
    return { reader, writer };
  }

  /** How many entries the chain takes. @internal */
  get length(): number {
    return this.#sqes.length;
  }

  /** @internal */
  protected override begin(name: string): Op {
    if (this.#submitted) throw new TypeError("The chain has been submitted");
    const op = this.driver.beginChained(name);
    this.#ops.push(op);
    return op;
  }

  /** @internal */
  protected override promise<T>(op: Op, options: OperationOptions | undefined): Promise<T> {
    const promise = this.driver.chained<T>(op, options, this.#sqes);
    // Whether a step's failure is looked at is up to the caller of `link`.
    promise.catch(() => {});
    this.#promises.push(promise);
    return promise;
  }

  /** @internal */
  submit(): void {
    this.#submitted = true;
    const sqes = this.#sqes;
    if (sqes.length === 0) {
      this.#releaseUnused();
      return;
    }
    const link = this.#options.hard === true ? IOSQE_IO_HARDLINK : IOSQE_IO_LINK;
    // Also between an operation and its timeout: whether the failing operation ends the chain is looked up there.
    for (let i = 0; i < sqes.length - 1; i++) sqes[i]!.flags |= link;
    if (this.#options.drain === true) sqes[0]!.flags |= IOSQE_IO_DRAIN;
    this.driver.submitChain(sqes);
  }

  /** Takes everything back instead of submitting it. @internal */
  abandon(reason: unknown): void {
    this.#submitted = true;
    this.driver.abandonChain(this.#ops, this.#sqes, reason);
    this.#releaseUnused();
  }

  /** Waits for all steps, also those the callback did not return, and gives back what was never opened. @internal */
  async finish(): Promise<void> {
    await Promise.allSettled(this.#promises);
    this.#releaseUnused();
  }

  #releaseUnused(): void {
    for (const descriptor of this.#reserved) {
      if (descriptor.state === "reserved") this.directs.release(descriptor);
    }
  }
}
