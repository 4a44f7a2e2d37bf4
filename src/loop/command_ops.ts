/**
 * Commands to the drivers behind files.
 *
 * @module
 */
import { IORING_URING_CMD_FIXED } from "../ffi/abi.ts";
import { io_uring_sqe } from "../ffi/structs.ts";
import { sqeSize } from "../ring/sizes.ts";
import type { U64 } from "../ring/sqe_base.ts";
import type { Fd } from "./direct.ts";
import { IntegrityOperations } from "./integrity_ops.ts";
import { checkSize, checkU32, checkView, type OperationOptions } from "./options.ts";
import { RegisteredBuffer } from "./registered_buffer.ts";

/** Memory that a command points at. */
export interface CommandMemory {
  /** Where in the command its 64-bit address is put: an offset in bytes. */
  readonly at: number;
  /** The memory; it is held until the command has ended. */
  readonly view: ArrayBufferView;
}

/** Options of {@link CommandOperations.uringCmd}. */
export interface UringCmdOptions extends OperationOptions {
  /** What the driver wants beside the command's number: at most 16 bytes, 80 on a ring with `IORING_SETUP_SQE128`. */
  command?: Uint8Array;
  /** What `command` points at. */
  memory?: readonly CommandMemory[];
  /** Memory that the entry itself points at: its address and length go into `addr` and `len`. */
  argument?: ArrayBufferView;
  /** The registered buffer that the addresses lie in: `IORING_URING_CMD_FIXED`. */
  buffer?: RegisteredBuffer;
}

const ADDRESS_SIZE = 8;

/** Commands to the drivers behind files, each one entry of the submission queue. */
export abstract class CommandOperations extends IntegrityOperations {
  /**
   * Tells a block device that a range of it is needed no more, as `ioctl(BLKDISCARD)` does: what was there is lost. The
   * range is in bytes, whole blocks of the device; the descriptor is open for writing.
   * liburing: `io_uring_prep_cmd_discard`, Linux 6.12.
   */
  discard(fd: Fd, offset: U64, length: U64, options?: OperationOptions): Promise<void> {
    this.check(options);
    checkSize("offset", offset);
    checkSize("length", length);
    const number = this.number(fd);
    const op = this.begin("discard");
    op.sqe!.prepCmdDiscard(number, offset, length);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /**
   * Empties all zones of a zoned block device: what was there is lost. liburing: `io_uring_prep_cmd_zone_reset_all`,
   * newer than Linux 7.2.
   */
  zoneResetAll(fd: Fd, options?: OperationOptions): Promise<void> {
    this.check(options);
    const number = this.number(fd);
    const op = this.begin("zone_reset_all");
    op.sqe!.prepCmdZoneResetAll(number);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /**
   * Hands a command to the driver behind a file and resolves with its result: `io_uring_prep_uring_cmd`, Linux 5.19. What
   * a command means, and which file has which, is the driver's business.
   *
   * Addresses are put in here and the memory behind them is held until the command has ended. A driver that goes on using
   * memory after that, as that of ublk does, needs a {@link RegisteredBuffer} that outlives its use, or a `Ring`. So does a
   * result of more than one number.
   *
   * @param cmdOp The command's number, the driver's own.
   */
  uringCmd(fd: Fd, cmdOp: number, options?: UringCmdOptions): Promise<number> {
    this.check(options);
    checkU32("cmdOp", cmdOp);
    const { argument, buffer, memory = [] } = options ?? {};
    const number = this.number(fd);
    const find = (memory: unknown): number => {
      checkView(memory);
      return this.both(memory);
    };
    const command = commandBytes(options, sqeSize(this.driver.ring.flags) - io_uring_sqe.addr3, find);
    const address = argument === undefined ? 0 : find(argument);
    const view = buffer === undefined ? null : fixedView(buffer).use(this.driver);
    const op = this.begin("uring_cmd");
    const sqe = op.sqe!;
    sqe.prepUringCmd(cmdOp, number);
    sqe.cmd.set(command);
    if (argument !== undefined) {
      sqe.addr = address;
      sqe.len = argument.byteLength;
    }
    if (view !== null) {
      sqe.opFlags = IORING_URING_CMD_FIXED;
      sqe.bufIndex = buffer!.slot;
      op.view = view;
    }
    op.pins = [argument, memory.map((piece) => piece.view)];
    this.markFd(op, fd);
    return this.promise(op, options);
  }
}

function fixedView(buffer: unknown): RegisteredBuffer {
  if (!(buffer instanceof RegisteredBuffer)) {
    throw new TypeError("buffer must be one of uring.registerBuffer");
  }
  return buffer;
}

/** The command as it goes into the entry, with the addresses of its memory. */
function commandBytes(
  options: UringCmdOptions | undefined,
  room: number,
  find: (memory: unknown) => number,
): Uint8Array {
  const bytes = new Uint8Array(room);
  const given: unknown = options?.command;
  if (given === undefined && options?.memory === undefined) return bytes;
  if (given !== undefined && !(given instanceof Uint8Array)) {
    throw new TypeError("command must be a Uint8Array");
  }
  const length = given?.length ?? 0;
  if (length > room) throw new RangeError(`A command has at most ${room} bytes on this ring, not ${length}`);
  if (given !== undefined) bytes.set(given);
  const out = new DataView(bytes.buffer);
  for (const { at, view } of options?.memory ?? []) {
    if (!Number.isInteger(at) || at < 0 || at + ADDRESS_SIZE > length) {
      throw new RangeError(`at must leave 8 bytes of the command's ${length}, not ${at}`);
    }
    out.setBigUint64(at, BigInt(find(view)), true);
  }
  return bytes;
}
