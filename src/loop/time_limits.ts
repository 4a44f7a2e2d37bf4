/**
 * Time limits of operations: timeouts that are linked to them.
 *
 * @module
 */
import { IOSQE_ASYNC, IOSQE_IO_LINK } from "../ffi/abi.ts";
import type { Sqe } from "../ring/sqe.ts";
import { BLOCKING, type Canceller, NOBODY, replaceByNop } from "./canceller.ts";
import type { Driver } from "./driver.ts";
import { type Op, STAGED } from "./op.ts";
import type { Staging } from "./staging.ts";

/** Set in `user_data`'s high half for the timeout linked to an operation. */
export const TIMEOUT_SIDE = 0x4000_0000;

/** Links timeouts to the operations of one ring. */
export class TimeLimits {
  readonly #driver: Driver;
  readonly #staging: Staging;
  readonly #canceller: Canceller;

  /**
   * @param driver The ring's engine.
   * @param staging Where its entries wait.
   * @param canceller What cancels where the kernel keeps no limit.
   */
  constructor(driver: Driver, staging: Staging, canceller: Canceller) {
    this.#driver = driver;
    this.#staging = staging;
    this.#canceller = canceller;
  }

  /** Limits an operation that was begun just now, in milliseconds: the two must stand side by side in one submission. */
  apply(op: Op, timeout: number): void {
    const { ring } = this.#driver;
    const beside = op.batch !== STAGED ? ring.getSqe() : this.#staging.add();
    if (beside !== null) {
      this.link(op, timeout, beside);
      return;
    }
    // The ring ends right behind the operation: leave a no-op there and stage the pair.
    const staged = this.#staging.add();
    staged.copyFrom(op.sqe!);
    replaceByNop(op.sqe!, NOBODY, 0);
    this.#driver.inFlight++;
    op.sqe = staged;
    op.batch = STAGED;
    this.link(op, timeout, this.#staging.add());
  }

  /** Makes `sqe`, which comes right after the operation's, its time limit. */
  link(op: Op, timeout: number, sqe: Sqe): Sqe {
    const span = this.#driver.arena.timespec(timeout);
    op.sqe!.flags |= IOSQE_IO_LINK;
    sqe.prepLinkTimeout(span.address, 0);
    sqe.setUserData(op.slot, op.generation | TIMEOUT_SIDE);
    const extra = op.extra ??= {};
    extra.timeout = timeout;
    if (span.owner !== null) op.pins = [op.pins, span.owner];
    const blocks = BLOCKING.has(op.name) || (op.sqe!.flags & IOSQE_ASYNC) !== 0;
    if (blocks && extra.chained !== true) this.#canceller.limit(op, timeout);
    op.pending++;
    this.#driver.inFlight++;
    return sqe;
  }
}
