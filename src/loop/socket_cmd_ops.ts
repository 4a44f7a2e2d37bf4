/**
 * Operations on sockets that are commands to them (`IORING_OP_URING_CMD`): options, names, how much is queued.
 *
 * @module
 */
import {
  SOCKET_URING_OP_GETSOCKOPT,
  SOCKET_URING_OP_SETSOCKOPT,
  SOCKET_URING_OP_SIOCINQ,
  SOCKET_URING_OP_SIOCOUTQ,
} from "../ffi/abi.ts";
import { pinned } from "../ffi/pin.ts";
import { sockaddr_storage } from "../ffi/structs.ts";
import type { Fd } from "./direct.ts";
import { checkU32, type OperationOptions } from "./options.ts";
import { decodeAddress, type SocketAddress } from "./sockaddr.ts";
import { ZeroCopyOperations } from "./zero_copy_ops.ts";

/** Options of {@link SocketCommandOperations.getsockopt}. */
export interface GetsockoptOptions extends OperationOptions {
  /** How many bytes there is room for, up to 64 KiB: then the value comes as bytes. */
  length?: number;
}

const INT_SIZE = 4;
const MOST_VALUE = 64 * 1024;

/** Commands to sockets, each one entry of the submission queue. */
export abstract class SocketCommandOperations extends ZeroCopyOperations {
  /** Asks for a socket option as bytes, as many as it has: `SOCKET_URING_OP_GETSOCKOPT`, Linux 6.7. */
  getsockopt(
    fd: Fd,
    level: number,
    name: number,
    options: GetsockoptOptions & { length: number },
  ): Promise<Uint8Array>;
  /**
   * Asks for a socket option that is a C `int` (`SOL_SOCKET`, `SO_TYPE`): `io_uring_prep_cmd_sock` with
   * `SOCKET_URING_OP_GETSOCKOPT`, Linux 6.7. The kernel does it for `SOL_SOCKET` alone; other levels give `EOPNOTSUPP`.
   */
  getsockopt(fd: Fd, level: number, name: number, options?: OperationOptions): Promise<number>;
  getsockopt(
    fd: Fd,
    level: number,
    name: number,
    options?: GetsockoptOptions,
  ): Promise<number | Uint8Array> {
    this.check(options);
    checkU32("level", level);
    checkU32("name", name);
    const room = options?.length;
    if (room !== undefined && (!Number.isInteger(room) || room < 1 || room > MOST_VALUE)) {
      throw new RangeError(`length must be an integer from 1 to ${MOST_VALUE}, not ${room}`);
    }
    const number = this.number(fd);
    const memory = pinned(room ?? INT_SIZE);
    const address = this.both(memory.bytes);
    const op = this.begin("getsockopt");
    op.pins = memory;
    op.finish = (res) => {
      const value = memory.bytes.subarray(0, res);
      return room === undefined ? new DataView(memory.bytes.buffer).getInt32(0, true) : value;
    };
    op.sqe!.prepCmdSock(
      SOCKET_URING_OP_GETSOCKOPT,
      number,
      level,
      name,
      address,
      memory.bytes.length,
    );
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /**
   * Sets a socket option (`SOL_SOCKET`, `SO_REUSEADDR`, 1); a number is a C `int`: `io_uring_prep_cmd_sock` with
   * `SOCKET_URING_OP_SETSOCKOPT`, Linux 6.7.
   */
  setsockopt(
    fd: Fd,
    level: number,
    name: number,
    value: number | Uint8Array,
    options?: OperationOptions,
  ): Promise<void> {
    this.check(options);
    checkU32("level", level);
    checkU32("name", name);
    const number = this.number(fd);
    const bytes = optionBytes(value);
    const memory = pinned(bytes.length);
    memory.bytes.set(bytes);
    const address = this.from(memory.bytes);
    const op = this.begin("setsockopt");
    op.pins = memory;
    op.finish = nothing;
    op.sqe!.prepCmdSock(SOCKET_URING_OP_SETSOCKOPT, number, level, name, address, bytes.length);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /**
   * Where a socket is, of either kind of descriptor: `io_uring_prep_cmd_getsockname`, Linux 6.19. `localAddress` asks
   * without the ring, on every kernel.
   */
  getsockname(fd: Fd, options?: OperationOptions): Promise<SocketAddress> {
    return this.#name("getsockname", fd, 0, options);
  }

  /** Where a socket's other end is, of either kind of descriptor: `io_uring_prep_cmd_getsockname`, Linux 6.19. */
  getpeername(fd: Fd, options?: OperationOptions): Promise<SocketAddress> {
    return this.#name("getpeername", fd, 1, options);
  }

  #name(name: string, fd: Fd, peer: number, options: OperationOptions | undefined): Promise<SocketAddress> {
    this.check(options);
    const number = this.number(fd);
    const LENGTH = sockaddr_storage.size;
    const memory = pinned(LENGTH + INT_SIZE);
    const view = new DataView(memory.bytes.buffer);
    view.setUint32(LENGTH, LENGTH, true);
    const address = this.both(memory.bytes);
    const op = this.begin(name);
    op.pins = memory;
    op.finish = () => decodeAddress(memory.bytes, view.getUint32(LENGTH, true));
    op.sqe!.prepCmdGetsockname(number, address, address + LENGTH, peer);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /**
   * How many bytes have arrived and were not received yet (`SIOCINQ`): `io_uring_prep_cmd_sock` with
   * `SOCKET_URING_OP_SIOCINQ`, Linux 6.5. Of datagrams, the length of the next one. Unix sockets reject with
   * `EOPNOTSUPP`.
   */
  siocinq(fd: Fd, options?: OperationOptions): Promise<number> {
    return this.#queued("siocinq", SOCKET_URING_OP_SIOCINQ, fd, options);
  }

  /**
   * How many bytes were sent and have not left, or were not acknowledged yet (`SIOCOUTQ`): `io_uring_prep_cmd_sock` with
   * `SOCKET_URING_OP_SIOCOUTQ`, Linux 6.5. Unix sockets reject with `EOPNOTSUPP`.
   */
  siocoutq(fd: Fd, options?: OperationOptions): Promise<number> {
    return this.#queued("siocoutq", SOCKET_URING_OP_SIOCOUTQ, fd, options);
  }

  #queued(name: string, command: number, fd: Fd, options: OperationOptions | undefined): Promise<number> {
    this.check(options);
    const number = this.number(fd);
    const op = this.begin(name);
    op.sqe!.prepCmdSock(command, number, 0, 0, 0, 0);
    this.markFd(op, fd);
    return this.promise(op, options);
  }
}

function nothing(): void {}

function optionBytes(value: number | Uint8Array): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (typeof value !== "number" || value !== (value | 0) && value !== value >>> 0) {
    throw new TypeError(`A socket option's value is a 32-bit integer or a Uint8Array, not ${value}`);
  }
  return new Uint8Array(Int32Array.of(value).buffer);
}
