/**
 * Sending to a ring without having one.
 *
 * @module
 */
import { IORING_REGISTER_SEND_MSG_RING } from "../ffi/abi.ts";
import { io_uring_sqe } from "../ffi/structs.ts";
import { ioUringRegister } from "./register_base.ts";
import { Sqe } from "./sqe.ts";

/**
 * An entry that belongs to no ring, for {@link registerSyncMsg}: prepare it with a `prepMsgRing…`. What one prep has
 * written, another one may leave as it is: take an entry for each kind of message.
 */
export function detachedSqe(): Sqe {
  const words = new Int32Array(new ArrayBuffer(io_uring_sqe.size));
  const sqe = new Sqe(words, 0, io_uring_sqe.size);
  sqe.clear();
  return sqe;
}

/**
 * Sends a message to a ring from a thread that needs none of its own: `io_uring_register_sync_msg`, Linux 6.13. Returns
 * what the operation would have completed with.
 *
 * @param sqe An entry that a `prepMsgRing…` has prepared, without `IOSQE_*` flags ({@link detachedSqe} makes one). The
 * descriptor to be sent is a plain index into the registered files of a ring, which this thread has not: only data can be
 * sent.
 */
export function registerSyncMsg(sqe: Sqe): number {
  return ioUringRegister(-1, IORING_REGISTER_SEND_MSG_RING, sqe.bytes, 1, {
    EBADFD: "the target is not enabled yet",
    EINVAL: "the entry must be a message with data, without flags",
  });
}
