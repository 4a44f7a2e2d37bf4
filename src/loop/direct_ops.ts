/**
 * Operations on the ring's table of files.
 *
 * @module
 */
import { pinned } from "../ffi/pin.ts";
import type { DirectDescriptor } from "./direct.ts";
import { FixedOperations } from "./fixed_ops.ts";
import type { OperationOptions } from "./options.ts";

/** Options of {@link DirectOperations.registerFile}. */
export interface RegisterFileOptions extends OperationOptions {
  /** One reserved with `chain.direct()`; default: a free one. */
  direct?: DirectDescriptor;
}

/** Operations on the ring's table of files, each one entry of the submission queue. */
export abstract class DirectOperations extends FixedOperations {
  /**
   * Puts a descriptor of the process into the ring's table and resolves with the direct descriptor, which is cheaper to
   * operate on. Both name the same open file, and each is closed by itself. liburing: `io_uring_prep_files_update`,
   * Linux 5.6.
   */
  registerFile(fd: number, options?: RegisterFileOptions): Promise<DirectDescriptor> {
    this.check(options);
    if (typeof fd !== "number") throw new TypeError("registerFile takes a descriptor of the process");
    const number = this.number(fd);
    // -1 and -2 have meanings of their own there.
    if (number < 0) throw new RangeError(`A descriptor is not negative, as ${number} is`);
    const target = this.target(options?.direct ?? true);
    const memory = pinned(4);
    new DataView(memory.bytes.buffer).setInt32(0, number, true);
    const address = this.from(memory.bytes);
    const op = this.begin("files_update");
    op.pins = memory;
    op.sqe!.prepFilesUpdate(address, 1, target.slot);
    this.intoDirect(op, target);
    return this.promise(op, options);
  }
}
