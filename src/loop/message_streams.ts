/**
 * Messages as they come: datagrams, time stamps of what was sent, messages of other rings.
 *
 * @module
 */
import {
  IORING_CQE_BUFFER_SHIFT,
  IORING_CQE_F_BUFFER,
  IORING_CQE_F_MORE,
  IORING_CQE_F_TSTAMP_HW,
  IORING_SETUP_CQE32,
  IORING_SETUP_CQE_MIXED,
  IORING_TIMESTAMP_TYPE_SHIFT,
  IOSQE_BUFFER_SELECT,
  MSG_CMSG_CLOEXEC,
  SO_TYPE,
  SOCK_STREAM,
  SOCKET_URING_OP_TX_TIMESTAMP,
  SOL_SOCKET,
} from "../ffi/abi.ts";
import { addressOf } from "../ffi/pin.ts";
import { io_uring_recvmsg_out, sockaddr_storage } from "../ffi/structs.ts";
import { system } from "../ffi/system.ts";
import type { Cqe } from "../ring/cqe.ts";
import {
  recvmsgControl,
  recvmsgName,
  recvmsgPayload,
  type RecvmsgRoom,
  recvmsgValidate,
} from "../ring/recvmsg_out.ts";
import type { Fd } from "./direct.ts";
import { Inbox } from "./inbox.ts";
import { controlRoom, type MessageRoom } from "./message_ops.ts";
import { makeMessage } from "./msghdr.ts";
import { Multishot, type MultishotOptions, type Shot } from "./multishot.ts";
import { MultishotOperations } from "./multishot_ops.ts";
import { checkU32 } from "./options.ts";
import type { BufferPool } from "./pool.ts";
import { lastingPiece } from "./arena.ts";
import { ReceivedData } from "./received_message.ts";

/** Options of {@link MessageStreams.recvmsgMultishot}. */
export interface RecvmsgMultishotOptions extends MultishotOptions, MessageRoom {
  /**
   * Where the messages arrive; default: a pool that this `Uring` shares among its receives. A buffer holds 16 bytes, the
   * source address (128), the room for control messages, and the data; what does not fit is cut off.
   */
  pool?: BufferPool;
  /** `MSG_*` bits. `MSG_CMSG_CLOEXEC` is always set. */
  flags?: number;
  /** How many messages may wait before receiving pauses; default: as many as the pool has buffers. */
  limit?: number;
}

/** When something that was sent has reached a stage of its way. */
export interface TxTimestamp {
  /** The stage: 1 (`SCM_TSTAMP_SCHED`) queued, 0 (`SCM_TSTAMP_SND`) handed to the device, 2 (`SCM_TSTAMP_ACK`) acknowledged. */
  readonly type: number;
  /** Which data: the byte's or datagram's number, counted from when time stamps were switched on (`SOF_TIMESTAMPING_OPT_ID`). */
  readonly key: number;
  /** Whether the device took the time. */
  readonly hardware: boolean;
  /** Nanoseconds since 1970, for the device's clock since whenever it began. */
  readonly time: bigint;
}

const ENOBUFS = -105;
const EAGAIN = -11;
const NANOSECONDS = 1_000_000_000n;

/** Operations whose results are messages that come one by one; they have no place in a chain. */
export abstract class MessageStreams extends MultishotOperations {
  /**
   * Datagrams, or what comes with control messages, as they come, each with its source: `io_uring_prep_recvmsg_multishot`,
   * Linux 6.0. The kernel picks buffers of a pool as messages arrive; the data is copied out of them. A connection's end
   * ends the iteration. Descriptors that nobody takes are closed.
   *
   * @throws RangeError also when a buffer of the pool is too small for what comes beside the data, TypeError for an
   * incremental pool, where the rest of a buffer would cut messages off.
   */
  recvmsgMultishot(fd: Fd, options: RecvmsgMultishotOptions = {}): Multishot<ReceivedData> {
    this.checkMultishot(options);
    const flags = checkU32("flags", options.flags ?? 0);
    const room: RecvmsgRoom = { namelen: sockaddr_storage.size, controllen: controlRoom(options) };
    const number = this.number(fd);
    const pool = this.poolOf(options.pool);
    if (pool.incremental) {
      throw new TypeError("Messages need whole buffers: this pool's are used up bit by bit");
    }
    const limit = checkLimit(options.limit ?? pool.count);
    const beside = io_uring_recvmsg_out.size + room.namelen + room.controllen;
    if (pool.size <= beside) {
      throw new RangeError(
        `A buffer of ${pool.size} bytes leaves no room for data: ${beside} go to what comes beside it`,
      );
    }
    const memory = makeMessage(
      { views: [], nameRoom: room.namelen, controlRoom: room.controllen },
      lastingPiece,
      addressOf,
    );
    const streaming = typeof fd === "number" && isStream(fd);
    return new Multishot<ReceivedData>(this.driver, {
      name: "recvmsg",
      limit,
      begin: () => pool.enter(),
      end: () => pool.leave(),
      prepare: (op) => {
        op.pins = memory.owner;
        op.sqe!.prepRecvmsgMultishot(number, memory.address, flags | MSG_CMSG_CLOEXEC);
        op.sqe!.flags |= IOSQE_BUFFER_SELECT;
        op.sqe!.bufGroup = pool.bgid;
        this.markFd(op, fd);
      },
      shot: (res, cqeFlags): Shot<ReceivedData> | undefined => {
        if (res === ENOBUFS) return { kind: "again", ready: pool.available() };
        if (res < 0) return undefined;
        if ((cqeFlags & IORING_CQE_F_BUFFER) === 0) return { kind: "end" };
        const id = cqeFlags >>> IORING_CQE_BUFFER_SHIFT;
        const message = decodeMessage(pool.take(id, res, cqeFlags), res, room);
        pool.recycle(id);
        if (message === null) return { kind: "end" };
        // Nothing at all is how a connection ends, and the kernel stops there.
        const nothing = message.length === 0 && (cqeFlags & IORING_CQE_F_MORE) === 0;
        const ended = nothing && (streaming || typeof fd !== "number") && message.addressBytes.length === 0;
        return ended ? { kind: "end" } : { kind: "value", value: message };
      },
      discard: (message) => message.dispose(),
    }, options);
  }

  /**
   * When what was sent on a socket went out, as it goes: `IORING_OP_URING_CMD` with `SOCKET_URING_OP_TX_TIMESTAMP`, Linux
   * 6.17. The socket has to be told to take time stamps: `SO_TIMESTAMPING` with `SOF_TIMESTAMPING_TX_SOFTWARE` or the
   * like, and `SOF_TIMESTAMPING_OPT_TSONLY`. The ring needs completions of 32 bytes: one made with
   * `{ flags: IORING_SETUP_CQE32 }` or `IORING_SETUP_CQE_MIXED`.
   *
   * @throws TypeError on a ring without completions of 32 bytes.
   */
  txTimestamps(fd: Fd, options: MultishotOptions = {}): Multishot<TxTimestamp> {
    this.checkMultishot(options);
    if ((this.driver.ring.flags & (IORING_SETUP_CQE32 | IORING_SETUP_CQE_MIXED)) === 0) {
      throw new TypeError("Time stamps need a ring with IORING_SETUP_CQE32 or IORING_SETUP_CQE_MIXED");
    }
    const number = this.number(fd);
    return new Multishot<TxTimestamp>(this.driver, {
      name: "tx_timestamp",
      limit: Infinity,
      prepare: (op) => {
        op.sqe!.prepUringCmd(SOCKET_URING_OP_TX_TIMESTAMP, number);
        this.markFd(op, fd);
      },
      shot: (res, flags, cqe): Shot<TxTimestamp> | undefined => {
        // The last completion has no time stamp.
        if ((flags & IORING_CQE_F_MORE) === 0) {
          return res === 0 || res === EAGAIN ? { kind: "again" } : undefined;
        }
        return { kind: "value", value: timestamp(res, flags, cqe!) };
      },
      discard: () => {},
    }, options);
  }

  /**
   * Takes the messages that other rings of this process send to this one, of whatever Worker, with `msgRing` and `sendFd`:
   * Linux 5.18, descriptors 6.0. They go to the inbox's address. One inbox can be open at a time.
   *
   * @throws TypeError when one is open, or on a ring without a descriptor (`IORING_SETUP_REGISTERED_FD_ONLY`).
   */
  messages(): Inbox {
    this.driver.assertOpen();
    return new Inbox(this.driver, this.directs);
  }
}

function checkLimit(limit: number): number {
  if (!Number.isInteger(limit) || limit < 1) {
    throw new RangeError(`limit must be an integer from 1 on, not ${limit}`);
  }
  return limit;
}

/** Whether a descriptor is a socket of a kind whose end looks like an empty message. */
function isStream(fd: number): boolean {
  const value = new Uint8Array(4);
  const length = Int32Array.of(4);
  if (system().rare.getsockopt(fd, SOL_SOCKET, SO_TYPE, value, length) !== 0) return true;
  return value[0] === SOCK_STREAM;
}

function decodeMessage(buffer: Uint8Array, length: number, room: RecvmsgRoom): ReceivedData | null {
  const out = recvmsgValidate(buffer, length, room);
  if (out === null) return null;
  const data = new Uint8Array(recvmsgPayload(out, length, room));
  return new ReceivedData({
    length: data.length,
    flags: out.flags,
    name: recvmsgName(out, room),
    control: recvmsgControl(out, room),
  }, data);
}

function timestamp(key: number, flags: number, cqe: Cqe): TxTimestamp {
  const [seconds, nanoseconds] = cqe.bigCqe;
  return {
    type: flags >>> IORING_TIMESTAMP_TYPE_SHIFT,
    key: key >>> 0,
    hardware: (flags & IORING_CQE_F_TSTAMP_HW) !== 0,
    time: seconds * NANOSECONDS + nanoseconds,
  };
}
