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
export {
  BufRing,
  bufRingAdd,
  bufRingAdvance,
  bufRingCqAdvance,
  bufRingInit,
  bufRingMask,
} from "./buf_ring.ts";
export { type Cmsg, cmsgAlign, cmsgFirsthdr, cmsgLen, cmsgNexthdr, cmsgPut, cmsgSpace } from "./cmsg.ts";
export { CoreRing, getProbe } from "./core_ring.ts";
export { Cqe, cqeNr } from "./cqe.ts";
export { memorySize, mlockSize } from "./memory_size.ts";
export { LOOP_OPERATIONS, type OperationFilter } from "./operation_filter.ts";
export { Probe } from "./probe.ts";
export { RingQueues, type Timespec } from "./queues.ts";
export {
  type Query,
  type QueryOpcodes,
  queryOpcodes,
  type QueryResult,
  type QueryScq,
  queryScq,
  type QueryZcrx,
  queryZcrx,
  registerQuery,
} from "./query.ts";
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
export { RegWait, RegWaits } from "./reg_wait.ts";
export { RingRegister, type SyncCancelOptions } from "./register.ts";
export { type Hints, ioUringRegister, RingRegisterBase } from "./register_base.ts";
export { type BufRingOptions, RingRegisterBufRing } from "./register_buf_ring.ts";
export { type Memory, RingRegisterBuffers } from "./register_buffers.ts";
export { RingRegisterFiles } from "./register_files.ts";
export { RingRegisterLimits } from "./register_limits.ts";
export { detachedSqe, registerSyncMsg } from "./register_sync_msg.ts";
export {
  type NapiOptions,
  type NapiSettings,
  type RegionOptions,
  RingRegisterWait,
} from "./register_wait.ts";
export { RingRegisterZcrx, type ZcrxIfqOptions } from "./register_zcrx.ts";
export type { ResizeOptions } from "./resize.ts";
export {
  type BpfFilter,
  type BpfInstruction,
  bpfJump,
  bpfStmt,
  filterOperationsTask,
  registerBpfFilterTask,
  registerRestrictionsTask,
  type Restriction,
} from "./restrictions.ts";
export { Ring } from "./ring.ts";
export { type RingOptions } from "./setup.ts";
export { RingStatus } from "./status.ts";
export { cqeShiftFromFlags, sqeShiftFromFlags } from "./sizes.ts";
export { Sqe } from "./sqe.ts";
export { SqeBase, type U64 } from "./sqe_base.ts";
export { SqeCmd } from "./sqe_cmd.ts";
export { SqeFiles } from "./sqe_files.ts";
export { SqeNet } from "./sqe_net.ts";
export { SqePaths } from "./sqe_paths.ts";
export { SqePipes } from "./sqe_pipes.ts";
export { ZcrxIfq, zcrxOffset } from "./zcrx.ts";
export { RingWaits, type WaitOptions } from "./waits.ts";
