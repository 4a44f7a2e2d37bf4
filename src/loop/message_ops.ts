/**
 * Operations on messages: with addresses, several buffers, and control messages.
 *
 * @module
 */
import { IORING_RECVSEND_POLL_FIRST, MSG_CMSG_CLOEXEC, MSG_NOSIGNAL } from "../ffi/abi.ts";
import { pinned } from "../ffi/pin.ts";
import { msghdr, sockaddr_storage } from "../ffi/structs.ts";
import { type ControlMessage, CREDENTIALS_SPACE, encodeControl, MOST_CONTROL, rightsSpace } from "./cmsg.ts";
import type { Fd } from "./direct.ts";
import { isDetached } from "./file_ops.ts";
import { makeMessage, type MessageMemory, viewsOf } from "./msghdr.ts";
import { type MessageOptions, NetOperations } from "./net_ops.ts";
import type { Op } from "./op.ts";
import { checkLength, checkU32, checkView, type OperationOptions } from "./options.ts";
import { ReceivedMessage } from "./received_message.ts";
import { encodeAddress, type SocketAddress } from "./sockaddr.ts";

/** Options of {@link MessageOperations.sendmsg}. */
export interface SendmsgOptions extends OperationOptions {
  /** `MSG_*` bits. */
  flags?: number;
  /** Where to; not on a connection. */
  address?: SocketAddress;
  /** What to send beside the data. */
  control?: readonly ControlMessage[];
  /** Wait until the socket takes data before trying to send (`IORING_RECVSEND_POLL_FIRST`, Linux 5.19). */
  pollFirst?: boolean;
}

/** What a message may bring beside its data. */
export interface MessageRoom {
  /** Room for so many descriptors (`SCM_RIGHTS`), up to 253; default 0: those that come are closed. */
  descriptors?: number;
  /** Room for the sender's credentials, which come where `SO_PASSCRED` is set. */
  credentials?: boolean;
  /** Room in bytes for other control messages, up to 64 KiB less the above; default 0. */
  controlLength?: number;
}

/** Options of {@link MessageOperations.recvmsg}. */
export interface RecvmsgOptions extends OperationOptions, MessageRoom {
  /** `MSG_*` bits. `MSG_CMSG_CLOEXEC` is always set. */
  flags?: number;
  /** Wait for data before trying to receive (`IORING_RECVSEND_POLL_FIRST`, Linux 5.19). */
  pollFirst?: boolean;
}

const MOST_DESCRIPTORS = 253;

/** How many bytes of control messages there is to be room for. @internal */
export function controlRoom(options: MessageRoom | undefined): number {
  if (options === undefined) return 0;
  const { descriptors = 0, credentials = false, controlLength = 0 } = options;
  if (!Number.isInteger(descriptors) || descriptors < 0 || descriptors > MOST_DESCRIPTORS) {
    throw new RangeError(`descriptors must be an integer from 0 to ${MOST_DESCRIPTORS}, not ${descriptors}`);
  }
  if (!Number.isInteger(controlLength) || controlLength < 0 || controlLength > MOST_CONTROL) {
    throw new RangeError(`controlLength must be an integer from 0 to ${MOST_CONTROL}, not ${controlLength}`);
  }
  // What asks for no room at all gets none, and neither does the kernel's padding.
  return rightsSpace(descriptors) + (credentials ? CREDENTIALS_SPACE : 0) + (controlLength + 7 & ~7);
}

/** A result, unless a buffer was given away meanwhile. @internal */
export function unlessDetached(views: readonly ArrayBufferView[], res: number): number {
  if (views.some(isDetached)) {
    throw new TypeError("A buffer was detached while the kernel was working on it");
  }
  return res;
}

/** `sendto`, `sendmsg`, `recvmsg`, each one entry of the submission queue. */
export abstract class MessageOperations extends NetOperations {
  /**
   * Sends a datagram to an address and resolves with the number of bytes: `io_uring_prep_sendto`, Linux 6.1.
   * Like `send`, it never raises a signal.
   */
  sendto(
    fd: Fd,
    buffer: ArrayBufferView,
    address: SocketAddress,
    options?: MessageOptions,
  ): Promise<number> {
    checkView(buffer);
    this.check(options);
    const length = checkLength(buffer, options?.length);
    const flags = checkU32("flags", options?.flags ?? 0);
    const number = this.number(fd);
    const name = encodeAddress(address);
    const piece = this.driver.arena.take(name.length);
    piece.bytes.set(name);
    const at = this.from(buffer, length);
    const op = this.begin("sendto");
    op.view = buffer;
    op.pins = piece.owner;
    op.sqe!.prepSendto(number, at, length, flags | MSG_NOSIGNAL, piece.address, name.length);
    if (options?.pollFirst === true) op.sqe!.ioprio |= IORING_RECVSEND_POLL_FIRST;
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /**
   * Sends one or several buffers in order, to an address and with control messages where given, and resolves with the
   * number of bytes: `io_uring_prep_sendmsg`, Linux 5.3.
   *
   * @example
   * ```ts
   * await uring.sendmsg(unix, new Uint8Array(1), { control: [{ kind: "rights", fds: [file] }] });
   * ```
   */
  sendmsg(
    fd: Fd,
    buffers: ArrayBufferView | readonly ArrayBufferView[],
    options?: SendmsgOptions,
  ): Promise<number> {
    const { op } = this.beginSendmsg("sendmsg", fd, buffers, options);
    return this.promise(op, options);
  }

  /** Begins an operation that sends a message, as `sendmsg`. @internal */
  protected beginSendmsg(
    name: "sendmsg" | "sendmsg_zc" | "sendmsg_zc_fixed",
    fd: Fd,
    buffers: ArrayBufferView | readonly ArrayBufferView[],
    options: SendmsgOptions | undefined,
  ): { op: Op; views: readonly ArrayBufferView[] } {
    this.check(options);
    const flags = checkU32("flags", options?.flags ?? 0);
    const number = this.number(fd);
    const views = viewsOf(buffers);
    const control = options?.control === undefined ? null : encodeControl(options.control);
    const message = makeMessage({
      views,
      name: options?.address === undefined ? null : encodeAddress(options.address),
      control,
    }, (length) => {
      // The kernel copies all but the control messages at submission; those it reads when it sends.
      if (control === null) return this.driver.arena.take(length);
      const { bytes } = pinned(length);
      return { bytes, address: this.from(bytes), owner: bytes };
    }, (view, length) => this.from(view, length));
    const op = this.begin(name);
    op.pins = [views, message.owner];
    op.finish = (res) => unlessDetached(views, res);
    if (name === "sendmsg") op.sqe!.prepSendmsg(number, message.address, flags | MSG_NOSIGNAL);
    else op.sqe!.prepSendmsgZc(number, message.address, flags | MSG_NOSIGNAL);
    if (options?.pollFirst === true) op.sqe!.ioprio |= IORING_RECVSEND_POLL_FIRST;
    this.markFd(op, fd);
    return { op, views };
  }

  /**
   * Receives into one or several buffers, with the source address and what came beside the data:
   * `io_uring_prep_recvmsg`, Linux 5.3. Descriptors that arrive after the promise was aborted are closed, and so are
   * those that nobody takes out of the message.
   *
   * `MSG_WAITALL` has no effect where there is room for control messages: a part may bring some.
   */
  recvmsg(
    fd: Fd,
    buffers: ArrayBufferView | readonly ArrayBufferView[],
    options?: RecvmsgOptions,
  ): Promise<ReceivedMessage> {
    this.check(options);
    const flags = checkU32("flags", options?.flags ?? 0);
    const room = controlRoom(options);
    const number = this.number(fd);
    const views = viewsOf(buffers);
    // The kernel writes into all of it when the message arrives.
    const parts = { views, nameRoom: sockaddr_storage.size, controlRoom: room };
    const memory = makeMessage(parts, (length) => {
      const { bytes } = pinned(length);
      return { bytes, address: this.both(bytes), owner: bytes };
    }, (view, length) => this.into(view, length));
    const op = this.begin("recvmsg");
    op.pins = [views, memory.owner];
    op.finish = (res) => {
      const message = received(memory, res);
      try {
        unlessDetached(views, res);
      } catch (error) {
        message.dispose();
        throw error;
      }
      return message;
    };
    if (room > 0) (op.extra ??= {}).undo = (res) => received(memory, res).dispose();
    op.sqe!.prepRecvmsg(number, memory.address, flags | MSG_CMSG_CLOEXEC);
    if (options?.pollFirst === true) op.sqe!.ioprio |= IORING_RECVSEND_POLL_FIRST;
    this.markFd(op, fd);
    return this.promise(op, options);
  }
}

/** What the kernel wrote into a message's memory. */
function received({ bytes, nameAt, controlAt }: MessageMemory, length: number): ReceivedMessage {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const nameLength = Math.min(view.getUint32(msghdr.msg_namelen, true), bytes.length - nameAt);
  const controlLength = Math.min(view.getUint32(msghdr.msg_controllen, true), nameAt - controlAt);
  return new ReceivedMessage({
    length,
    flags: view.getUint32(msghdr.msg_flags, true),
    name: bytes.subarray(nameAt, nameAt + nameLength),
    control: bytes.subarray(controlAt, controlAt + controlLength),
  });
}
