/**
 * `Ring`: liburing's `struct io_uring`.
 *
 * @module
 */
import { IORING_REGISTER_RESIZE_RINGS } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { type Query, type QueryResult, registerQuery } from "./query.ts";
import { RingRegisterZcrx } from "./register_zcrx.ts";
import { resize, RESIZE_HINTS, type ResizeOptions, resizeParams, roundedSizes, SPLIT } from "./resize.ts";
import { unmapAll } from "./setup.ts";

const EOVERFLOW = 75;

/**
 * An io_uring instance with liburing's calls and nothing on top: synchronous, no promises, nothing allocated per
 * operation. It belongs to the thread that made it.
 *
 * @example
 * ```ts
 * import { Ring } from "uring/ring";
 * using ring = new Ring(8);
 * const sqe = ring.getSqe()!;
 * sqe.prepNop();
 * sqe.userData = 42;
 * ring.submitAndWait(1);
 * ring.forEachCqe((cqe) => console.log(cqe.userData, cqe.res)); // 42 0
 * ```
 */
export class Ring extends RingRegisterZcrx {
  /**
   * Gives the queues another size, with what is in them: entries handed out and not yet submitted, and completions not
   * yet taken. `io_uring_resize_rings`, Linux 6.13. Only a ring with `IORING_SETUP_DEFER_TASKRUN` can be resized, and none
   * with `IORING_SETUP_NO_MMAP`. Every `Sqe` and `Cqe` got from the ring before is void: the memory is another.
   *
   * @param entries How many submissions fit; rounded up to a power of two, at most 32768.
   * @param options The size of the completion queue.
   * @throws RangeError for sizes that cannot be; `UringError`: `EOVERFLOW` when what is in the queues does not fit (nor may what takes two slots of a mixed ring be split),
   * `ENOMEM` when the memory is lacking, `EINVAL` for a ring that cannot be resized. The ring is then as it was.
   */
  resizeRings(entries: number, options: ResizeOptions = {}): void {
    this.assertOpen();
    const before = this.parts;
    const params = resizeParams(before, entries, options);
    if (this.wouldSplit(...roundedSizes(new DataView(params.buffer)))) {
      throw new UringError(EOVERFLOW, "io_uring_register", { hint: SPLIT });
    }
    this.publish();
    let resized = false;
    try {
      this.parts = resize(before, this.ringFd, params, (bytes) => {
        this.register(IORING_REGISTER_RESIZE_RINGS, bytes, 1, RESIZE_HINTS);
        resized = true;
      });
    } catch (error) {
      // The kernel has moved on to memory that could not be mapped.
      if (resized) this.close();
      throw error;
    }
    this.moveInto(this.parts);
    this.moved();
    unmapAll(before);
  }

  /** Asks the kernel through this ring, as `registerQuery` does without one: `IORING_REGISTER_QUERY`, Linux 6.18. */
  registerQuery(queries: readonly Query[]): QueryResult[] {
    return registerQuery(queries, (opcode, arg, count) => this.register(opcode, arg, count));
  }
}
