/**
 * `uring/ring`: the rings as liburing has them, for those who want exactly that. Promises are one layer up, in
 * `uring`.
 *
 * @module
 */
export * from "../ffi/abi.ts";
export { ARCH, O_DIRECT, O_DIRECTORY, O_LARGEFILE, O_NOFOLLOW, O_TMPFILE } from "../ffi/arch.ts";
export {
  type UnavailableReason,
  UringError,
  type UringErrorDetails,
  UringUnavailableError,
} from "../ffi/errors.ts";
export { Mapping } from "../ffi/memory.ts";
export { addressOf } from "../ffi/pin.ts";
export { cString } from "../ffi/cstring.ts";
export { BufRing, bufRingAdd, bufRingAdvance, bufRingCqAdvance, bufRingMask } from "./buf_ring.ts";
export { type Cmsg, cmsgAlign, cmsgFirsthdr, cmsgLen, cmsgNexthdr, cmsgPut, cmsgSpace } from "./cmsg.ts";
export { Cqe } from "./cqe.ts";
export { Probe } from "./probe.ts";
export { RingQueues, type Timespec } from "./queues.ts";
export {
  recvmsgCmsgFirsthdr,
  recvmsgCmsgNexthdr,
  recvmsgControl,
  recvmsgName,
  type RecvmsgOut,
  recvmsgPayload,
  recvmsgPayloadLength,
  type RecvmsgRoom,
  recvmsgValidate,
} from "./recvmsg_out.ts";
export { type Memory, RingRegister, type SyncCancelOptions } from "./register.ts";
export { Ring } from "./ring.ts";
export { type RingOptions } from "./setup.ts";
export { Sqe } from "./sqe.ts";
export { SqeBase, type U64 } from "./sqe_base.ts";
export { SqeCmd } from "./sqe_cmd.ts";
export { SqeFiles } from "./sqe_files.ts";
export { SqeNet } from "./sqe_net.ts";
export { SqePaths } from "./sqe_paths.ts";
export { SqePipes } from "./sqe_pipes.ts";
