/**
 * What a multishot `recvmsg` writes into a provided buffer: a header, then the source address, the control messages and
 * the data. Address and control messages have as much room as the `struct msghdr` of the submission gave them.
 *
 * @module
 */
import { io_uring_recvmsg_out } from "../ffi/structs.ts";
import { type Cmsg, cmsgFirsthdr, cmsgNexthdr } from "./cmsg.ts";

/** The lengths in the `struct msghdr` of the submission, which say where the parts of a buffer begin. */
export interface RecvmsgRoom {
  /** `msg_namelen`. */
  readonly namelen: number;
  /** `msg_controllen`. */
  readonly controllen: number;
}

/** The header of a received message: `struct io_uring_recvmsg_out`, and the buffer that it begins. */
export interface RecvmsgOut {
  /** How long the source address is; more than the room for it when it was cut off. */
  readonly namelen: number;
  /** How many bytes of control messages there are. */
  readonly controllen: number;
  /** How many bytes of data the buffer holds; where `MSG_TRUNC` was asked for, how many there were. */
  readonly payloadlen: number;
  /** `MSG_*`: `MSG_TRUNC`, `MSG_CTRUNC`… */
  readonly flags: number;
  /** The whole buffer. */
  readonly bytes: Uint8Array;
}

/** The data's place in a buffer. */
function payloadAt(room: RecvmsgRoom): number {
  return io_uring_recvmsg_out.size + room.namelen + room.controllen;
}

/**
 * The header of a message, or null when the buffer is too short to hold one: `io_uring_recvmsg_validate`.
 *
 * @param buf The buffer that the completion names.
 * @param bufLen The completion's result.
 * @param room What the submission made room for.
 */
export function recvmsgValidate(buf: Uint8Array, bufLen: number, room: RecvmsgRoom): RecvmsgOut | null {
  if (bufLen < payloadAt(room) || bufLen > buf.length) return null;
  const view = new DataView(buf.buffer, buf.byteOffset, buf.byteLength);
  return {
    namelen: view.getUint32(io_uring_recvmsg_out.namelen, true),
    controllen: view.getUint32(io_uring_recvmsg_out.controllen, true),
    payloadlen: view.getUint32(io_uring_recvmsg_out.payloadlen, true),
    flags: view.getUint32(io_uring_recvmsg_out.flags, true),
    bytes: buf,
  };
}

/** The source address, as much of it as there was room for: `io_uring_recvmsg_name`. */
export function recvmsgName(o: RecvmsgOut, room: RecvmsgRoom): Uint8Array {
  const at = io_uring_recvmsg_out.size;
  return o.bytes.subarray(at, at + Math.min(o.namelen, room.namelen));
}

/** The first control message, or null: `io_uring_recvmsg_cmsg_firsthdr`. */
export function recvmsgCmsgFirsthdr(o: RecvmsgOut, room: RecvmsgRoom): Cmsg | null {
  return cmsgFirsthdr(recvmsgControl(o, room));
}

/** The control message after `cmsg`, or null: `io_uring_recvmsg_cmsg_nexthdr`. */
export function recvmsgCmsgNexthdr(o: RecvmsgOut, room: RecvmsgRoom, cmsg: Cmsg): Cmsg | null {
  return cmsgNexthdr(recvmsgControl(o, room), cmsg);
}

/** All control messages as they stand in the buffer. */
export function recvmsgControl(o: RecvmsgOut, room: RecvmsgRoom): Uint8Array {
  const at = io_uring_recvmsg_out.size + room.namelen;
  return o.bytes.subarray(at, at + Math.min(o.controllen, room.controllen));
}

/** The data, as much of it as the buffer holds: `io_uring_recvmsg_payload` and `io_uring_recvmsg_payload_length`. */
export function recvmsgPayload(o: RecvmsgOut, bufLen: number, room: RecvmsgRoom): Uint8Array {
  const at = payloadAt(room);
  return o.bytes.subarray(at, at + recvmsgPayloadLength(o, bufLen, room));
}

/** How many bytes of data the buffer holds: `io_uring_recvmsg_payload_length`. */
export function recvmsgPayloadLength(_o: RecvmsgOut, bufLen: number, room: RecvmsgRoom): number {
  return Math.max(0, bufLen - payloadAt(room));
}
