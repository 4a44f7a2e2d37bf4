/**
 * The addresses that an entry names, itself and through vectors and messages.
 *
 * @module
 */
import {
  IORING_OP_READV,
  IORING_OP_RECVMSG,
  IORING_OP_SENDMSG,
  IORING_OP_SENDMSG_ZC,
  IORING_OP_WRITEV,
} from "../../src/ffi/abi.ts";
import { adapter } from "../../src/ffi/system.ts";
import { io_uring_sqe, iovec, msghdr } from "../../src/ffi/structs.ts";

/** Below this nothing is mapped. */
const LOWEST = 65_536;
const ADDRESS_SIZE = 8;

function viewAt(address: number, length: number): DataView {
  return new DataView(adapter.bufferAt(address, length));
}

function number64(view: DataView, at: number): number {
  return Number(view.getBigUint64(at, true));
}

function* ofVectors(address: number, count: number): Generator<number> {
  if (address < LOWEST || count === 0) return;
  yield address;
  const view = viewAt(address, count * iovec.size);
  for (let i = 0; i < count; i++) yield number64(view, i * iovec.size + iovec.iov_base);
}

function* ofMessage(address: number): Generator<number> {
  yield address;
  const view = viewAt(address, msghdr.size);
  yield number64(view, msghdr.msg_name);
  yield number64(view, msghdr.msg_control);
  yield* ofVectors(number64(view, msghdr.msg_iov), number64(view, msghdr.msg_iovlen));
}

/** All words of an entry that may be addresses, and those behind them. */
export function* pointersOf(entry: Uint8Array): Generator<number> {
  const view = new DataView(entry.buffer, entry.byteOffset, entry.byteLength);
  for (let at = 0; at < entry.byteLength; at += ADDRESS_SIZE) yield number64(view, at);
  const address = number64(view, io_uring_sqe.addr);
  switch (entry[io_uring_sqe.opcode]) {
    case IORING_OP_READV:
    case IORING_OP_WRITEV:
      yield* ofVectors(address, view.getUint32(io_uring_sqe.len, true));
      break;
    case IORING_OP_SENDMSG:
    case IORING_OP_SENDMSG_ZC:
    case IORING_OP_RECVMSG:
      yield* ofMessage(address);
      break;
  }
}
