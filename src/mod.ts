/**
 * `uring`: io_uring for Bun and Deno, with promises.
 *
 * @module
 */
export {
  type UnavailableReason,
  UringError,
  type UringErrorDetails,
  UringUnavailableError,
} from "./ffi/errors.ts";
export { Mapping } from "./ffi/memory.ts";
export { type MadviseOptions } from "./loop/advice_ops.ts";
export { Chain, type LinkOptions } from "./loop/chain.ts";
export { type CommandMemory, type UringCmdOptions } from "./loop/command_ops.ts";
export { DirectDescriptor, type Fd } from "./loop/direct.ts";
export { type RegisterFileOptions } from "./loop/direct_ops.ts";
export { type BufferRange, type FixedOptions, type FixedVectorOptions } from "./loop/fixed_ops.ts";
export { epollCreate, type EpollEvent, type EpollWaitOptions } from "./loop/epoll_ops.ts";
export { type InstallOptions, type VectorOptions, type WriteOptions } from "./loop/file_ops.ts";
export { type FutexOptions, type FutexWaiter, type FutexWords } from "./loop/futex_ops.ts";
export { type Integrity } from "./loop/integrity_ops.ts";
export { Multishot, type MultishotOptions } from "./loop/multishot.ts";
export {
  type ControlMessage,
  type CredentialsMessage,
  type OtherControlMessage,
  type ReceivedControlMessage,
  type RightsMessage,
} from "./loop/cmsg.ts";
export { type SendBundleOptions } from "./loop/bundle_ops.ts";
export {
  type DataMessage,
  type DescriptorMessage,
  Inbox,
  type RingAddress,
  type RingMessage,
} from "./loop/inbox.ts";
export { type RecvmsgMultishotOptions, type TxTimestamp } from "./loop/message_streams.ts";
export { type OutgoingMessage, type SendFdOptions } from "./loop/msg_ring_ops.ts";
export { SendQueue, type SendQueueOptions } from "./loop/send_queue.ts";
export { type GetsockoptOptions } from "./loop/socket_cmd_ops.ts";
export { type MessageRoom, type RecvmsgOptions, type SendmsgOptions } from "./loop/message_ops.ts";
export { ReceivedData, ReceivedMessage } from "./loop/received_message.ts";
export { type SendZcFixedOptions, type SendZcOptions, type ZeroCopySent } from "./loop/zero_copy_ops.ts";
export {
  type AcceptDirectOptions,
  type Accepted,
  type AcceptOptions,
  type MessageOptions,
  type SocketDirectOptions,
  type SocketOptions,
} from "./loop/net_ops.ts";
export { type FlagString } from "./loop/open_flags.ts";
export { type CancelTarget, Operations } from "./loop/operations.ts";
export { type OperationOptions, type TransferOptions } from "./loop/options.ts";
export {
  type LinkatOptions,
  type Open2DirectOptions,
  type Open2Options,
  type OpenDirectOptions,
  type OpenOptions,
  type PathOptions,
  type RenameOptions,
  type StatxOptions,
} from "./loop/path_ops.ts";
export { type Path } from "./loop/paths.ts";
export { Personality } from "./loop/personality.ts";
export {
  type PipeDirectOptions,
  type PipeEnds,
  type PipeOptions,
  type SpliceOptions,
  type TeeOptions,
} from "./loop/pipe_ops.ts";
export { BufferPool, type BufferPoolOptions } from "./loop/pool.ts";
export { type Available, probe, type Unavailable } from "./loop/probe.ts";
export { RegisteredBuffer } from "./loop/registered_buffer.ts";
export { type RegisterBufferOptions, Resources } from "./loop/resources.ts";
export { type InetAddress, type SocketAddress, type UnixAddress } from "./loop/sockaddr.ts";
export { Statx } from "./loop/statx.ts";
export {
  type AcceptMultishotOptions,
  MultishotOperations,
  type ReadMultishotOptions,
  type RecvMultishotOptions,
} from "./loop/multishot_ops.ts";
export { Uring, type UringOptions, type UringStats } from "./loop/uring.ts";
export {
  type ChildState,
  type ChildStatus,
  type ChildTarget,
  type WaitidOptions,
} from "./loop/process_ops.ts";
export { type GetxattrOptions, type SetxattrOptions } from "./loop/xattr_ops.ts";
export { type OperationFilter } from "./ring/operation_filter.ts";
export { type RingOptions } from "./ring/setup.ts";
export { type U64 } from "./ring/sqe_base.ts";
