/**
 * Operations on pipes.
 *
 * @module
 */
import { O_CLOEXEC, SPLICE_F_FD_IN_FIXED } from "../ffi/abi.ts";
import { pinned } from "../ffi/pin.ts";
import { system } from "../ffi/system.ts";
import type { U64 } from "../ring/sqe_base.ts";
import { AdviceOperations } from "./advice_ops.ts";
import { DirectDescriptor, type Fd } from "./direct.ts";
import { checkOffset, checkU32, type OperationOptions } from "./options.ts";

/** The two ends of a pipe. */
export interface PipeEnds<T extends Fd> {
  /** Where the bytes come out. */
  readonly reader: T;
  /** Where they go in. */
  readonly writer: T;
}

/** Options of {@link PipeOperations.pipe}. */
export interface PipeOptions extends OperationOptions {
  /** `O_NONBLOCK`, `O_DIRECT` (packets); `O_CLOEXEC` is always set. */
  flags?: number;
}

/** {@link PipeOptions} for direct descriptors. */
export interface PipeDirectOptions extends PipeOptions {
  /** `true` for direct descriptors, or a pair reserved with `chain.directPair()`. */
  direct: true | PipeEnds<DirectDescriptor>;
}

/** Options of {@link PipeOperations.splice}. */
export interface SpliceOptions extends OperationOptions {
  /** The offset in `from` in bytes; default: the file's own position, the only one that a pipe has. */
  offsetIn?: U64;
  /** The offset in `to` in bytes; default: the file's own position, the only one that a pipe has. */
  offsetOut?: U64;
  /** `SPLICE_F_*` bits: `SPLICE_F_NONBLOCK`, `SPLICE_F_MORE`… */
  flags?: number;
}

/** Options of {@link PipeOperations.tee}. */
export interface TeeOptions extends OperationOptions {
  /** `SPLICE_F_*` bits. */
  flags?: number;
}

/** Operations on pipes, each one entry of the submission queue. */
export abstract class PipeOperations extends AdviceOperations {
  /** Makes a pipe of direct descriptors: `io_uring_prep_pipe_direct`, Linux 6.16. */
  pipe(options: PipeDirectOptions): Promise<PipeEnds<DirectDescriptor>>;
  /** Makes a pipe: `io_uring_prep_pipe`, Linux 6.16. */
  pipe(options?: PipeOptions): Promise<PipeEnds<number>>;
  pipe(options?: PipeOptions | PipeDirectOptions): Promise<PipeEnds<Fd>> {
    this.check(options);
    const flags = checkU32("flags", options?.flags ?? 0);
    const direct = options !== undefined && "direct" in options ? options.direct : undefined;
    const ends = direct === undefined ? null : this.targetPair(direct);
    const memory = pinned(8);
    const fds = new Int32Array(memory.bytes.buffer);
    const address = this.both(memory.bytes);
    const op = this.begin("pipe");
    op.pins = memory;
    if (ends === null) {
      op.sqe!.prepPipe(address, flags | O_CLOEXEC);
      op.finish = (): PipeEnds<number> => ({ reader: fds[0]!, writer: fds[1]! });
      if (options?.signal !== undefined) {
        (op.extra ??= {}).undo = () => {
          system().close(fds[0]!);
          system().close(fds[1]!);
        };
      }
    } else {
      op.sqe!.prepPipeDirect(address, flags & ~O_CLOEXEC, ends.reader.slot);
      this.intoDirects(op, [ends.reader, ends.writer], ends);
    }
    return this.promise(op, options);
  }

  /**
   * Moves up to `length` bytes from one descriptor to another without copying them through this process; at least one of
   * the two is a pipe. Resolves with how many there were, 0 at the end. Of what a pipe does not take, or does not hold
   * yet, nothing is lost. liburing: `io_uring_prep_splice`, Linux 5.7. The kernel always hands it to a worker thread.
   *
   * @example
   * ```ts
   * const { reader, writer } = await uring.pipe();
   * const length = await uring.splice(file, writer, 65536, { offsetIn: 0 });
   * await uring.splice(reader, socket, length);
   * ```
   */
  splice(from: Fd, to: Fd, length: number, options?: SpliceOptions): Promise<number> {
    this.check(options);
    checkU32("length", length);
    const offsetIn = checkOffset(options?.offsetIn);
    const offsetOut = checkOffset(options?.offsetOut);
    const flags = checkU32("flags", options?.flags ?? 0);
    const source = this.number(from);
    const number = this.number(to);
    const op = this.begin("splice");
    op.sqe!.prepSplice(source, offsetIn, number, offsetOut, length, fixedIn(from, flags));
    this.markLateFd(op, to);
    if (typeof from !== "number") from.hold(op);
    return this.promise(op, options);
  }

  /**
   * Copies up to `length` bytes from one pipe to another and leaves them in the first; resolves with how many.
   * liburing: `io_uring_prep_tee`, Linux 5.8. The kernel always hands it to a worker thread.
   */
  tee(from: Fd, to: Fd, length: number, options?: TeeOptions): Promise<number> {
    this.check(options);
    checkU32("length", length);
    const flags = checkU32("flags", options?.flags ?? 0);
    const source = this.number(from);
    const number = this.number(to);
    const op = this.begin("tee");
    op.sqe!.prepTee(source, number, length, fixedIn(from, flags));
    this.markLateFd(op, to);
    if (typeof from !== "number") from.hold(op);
    return this.promise(op, options);
  }

  /** The slots that a pipe asked for `direct` fills. @internal */
  protected targetPair(direct: true | PipeEnds<DirectDescriptor>): PipeEnds<DirectDescriptor> {
    if (direct === true) {
      const [reader, writer] = this.directs.reservePair();
      return { reader, writer };
    }
    const reader = this.target(direct.reader);
    const writer = this.target(direct.writer);
    if (writer.slot !== reader.slot + 1) {
      throw new TypeError("The two ends of a direct pipe are a pair out of chain.directPair()");
    }
    return direct;
  }
}

/** The bit that says whether the source is a direct descriptor. */
function fixedIn(from: Fd, flags: number): number {
  return typeof from === "number" ? flags & ~SPLICE_F_FD_IN_FIXED : flags | SPLICE_F_FD_IN_FIXED;
}
