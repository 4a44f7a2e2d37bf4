/**
 * What all operations stand on, whether they are submitted by themselves or in a chain.
 *
 * @module
 */
import { IOSQE_FIXED_FILE } from "../ffi/abi.ts";
import { addressOf } from "../ffi/pin.ts";
import { system } from "../ffi/system.ts";
import type { DirectTable, Fd } from "./direct.ts";
import { closeDirect, DirectDescriptor } from "./direct.ts";
import type { Driver } from "./driver.ts";
import type { Op } from "./op.ts";
import { checkOptions, type OperationOptions } from "./options.ts";
import { checkPersonality } from "./personality.ts";
import { BOTH, lend, READS, shadowing, takeBack, WRITES } from "./shadow.ts";

/** The base of `Uring` and of `Chain`. */
export abstract class Submitter {
  /** @internal */
  protected readonly driver: Driver;
  /** @internal */
  protected readonly directs: DirectTable;

  /** Whether operations are steps of a chain. @internal */
  protected readonly chained: boolean = false;

  /** @internal */
  protected constructor(driver: Driver, directs: DirectTable) {
    this.driver = driver;
    this.directs = directs;
  }

  /** Takes an entry; nothing may throw from here to {@link Submitter.promise}. @internal */
  protected abstract begin(name: string): Op;

  /** Submits what was begun. @internal */
  protected abstract promise<T>(op: Op, options: OperationOptions | undefined): Promise<T>;

  /** Checks the options and that the ring is open. @internal */
  protected check(options: OperationOptions | undefined): void {
    this.driver.assertOpen();
    if (shadowing) takeBack();
    if (options === undefined) return;
    checkOptions(options);
    if (options.personality !== undefined) checkPersonality(options.personality, this.driver);
  }

  /**
   * The address of memory that the kernel reads, for the operation that is begun next: in a Worker, that of its shadow.
   * @internal
   */
  protected from(view: ArrayBufferView, length?: number): number {
    return shadowing ? lend(view, READS, length) : addressOf(view);
  }

  /** The address of memory that the kernel writes as many bytes to as the operation's result says. @internal */
  protected into(view: ArrayBufferView, length?: number): number {
    return shadowing ? lend(view, WRITES, length) : addressOf(view);
  }

  /** The address of memory that the kernel reads and writes. @internal */
  protected both(view: ArrayBufferView): number {
    return shadowing ? lend(view, BOTH) : addressOf(view);
  }

  /** The number that the submission names a descriptor by. @internal */
  protected number(fd: Fd): number {
    if (typeof fd === "number") {
      if (fd !== (fd | 0)) throw new TypeError(`A descriptor is a 32-bit integer, not ${fd}`);
      return fd;
    }
    if (fd instanceof DirectDescriptor) return this.directs.slotOf(fd);
    throw new TypeError("A descriptor is a number or a DirectDescriptor");
  }

  /** Marks an entry as using a direct descriptor. @internal */
  protected markFd(op: Op, fd: Fd): void {
    if (typeof fd === "number") return;
    op.sqe!.flags |= IOSQE_FIXED_FILE;
    op.direct = fd;
  }

  /**
   * {@link Submitter.markFd} for what the kernel always hands to a worker thread, which looks the descriptor up: by then a
   * direct one may be closed, and its slot must not have become another file's. @internal
   */
  protected markLateFd(op: Op, fd: Fd): void {
    this.markFd(op, fd);
    if (typeof fd !== "number") fd.hold(op);
  }

  /** Has a descriptor closed that arrives after its promise was aborted. @internal */
  protected closeIfLate(op: Op, options: OperationOptions | undefined): void {
    if (options?.signal === undefined) return;
    (op.extra ??= {}).undo = (fd) => {
      system().close(fd);
    };
  }

  /** Has an operation fill a direct descriptor, and its promise give it. @internal */
  protected intoDirect(op: Op, target: DirectDescriptor): void {
    this.intoDirects(op, [target], target);
  }

  /** Has an operation fill direct descriptors, and its promise give `value`. @internal */
  protected intoDirects(op: Op, targets: readonly DirectDescriptor[], value: unknown): void {
    const { directs, driver } = this;
    op.variant = "direct";
    op.finish = () => {
      for (const target of targets) target.state = "open";
      return value;
    };
    const extra = op.extra ??= {};
    extra.settled = (ok) => {
      for (const target of targets) {
        if (!ok && target.state === "reserved") directs.release(target);
      }
    };
    extra.undo = () => {
      for (const target of targets) {
        target.state = "closing";
        closeDirect(driver, target);
      }
    };
  }

  /** The slot that an operation asked for `direct` fills. @internal */
  protected target(direct: true | DirectDescriptor): DirectDescriptor {
    if (direct === true) return this.directs.reserve();
    this.directs.slotOf(direct);
    if (direct.state !== "reserved") throw new TypeError("The direct descriptor is open already");
    return direct;
  }
}
