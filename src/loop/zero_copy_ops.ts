/**
 * Sending without copying: the network card reads the caller's memory, or the kernel does later.
 *
 * @module
 */
import {
  IORING_CQE_F_MORE,
  IORING_CQE_F_NOTIF,
  IORING_NOTIF_USAGE_ZC_COPIED,
  IORING_RECVSEND_FIXED_BUF,
  IORING_RECVSEND_POLL_FIRST,
  IORING_SEND_ZC_REPORT_USAGE,
  MSG_NOSIGNAL,
} from "../ffi/abi.ts";
import { kernelHas } from "../ffi/kernel.ts";
import type { Fd } from "./direct.ts";
import { type BufferRange, checkRest, checkStart, rangesOf } from "./fixed_ops.ts";
import { MessageOperations, type SendmsgOptions, unlessDetached } from "./message_ops.ts";
import type { MessageOptions } from "./net_ops.ts";
import type { Op } from "./op.ts";
import { checkLength, checkU32, checkView } from "./options.ts";
import type { RegisteredBuffer } from "./registered_buffer.ts";
import { encodeAddress, type SocketAddress } from "./sockaddr.ts";

/** Options of {@link ZeroCopyOperations.sendZc}. */
export interface SendZcOptions extends MessageOptions {
  /** Where to; not on a connection. */
  address?: SocketAddress;
}

/** Options of {@link ZeroCopyOperations.sendZcFixed}. */
export interface SendZcFixedOptions extends SendZcOptions {
  /** The first byte of the buffer that is sent; default 0. */
  start?: number;
}

/** How a zero-copy send went. */
export interface ZeroCopySent {
  /** How many bytes the socket took, which may be fewer than asked for (`MSG_WAITALL`: all of them). */
  readonly length: number;
  /**
   * Whether the kernel copied the data after all, as it does on the loopback device and for network cards that cannot
   * gather: then an ordinary send is cheaper. Undefined before Linux 6.2, which does not tell.
   */
  readonly copied: boolean | undefined;
}

/** The usage that a notification reports. */
interface Report {
  usage: number;
}

let tells: boolean | undefined;

/** Whether the kernel knows `IORING_SEND_ZC_REPORT_USAGE`. @internal */
export function tellsUsage(): boolean {
  return tells ??= kernelHas("6.2");
}

function reportFlag(): number {
  return tellsUsage() ? IORING_SEND_ZC_REPORT_USAGE : 0;
}

/**
 * Has an operation end with its notification, and not with its result, which comes first: only then the kernel has let
 * go of the memory. A failure may have a notification, too.
 */
function awaitNotification(op: Op): Report {
  const report = { usage: 0 };
  const extra = op.extra ??= {};
  extra.each = (res, flags, before) => {
    if ((flags & IORING_CQE_F_NOTIF) !== 0) {
      report.usage = res;
      return before ?? 0;
    }
    extra.lettingGo = (flags & IORING_CQE_F_MORE) !== 0;
    return res;
  };
  return report;
}

function zcFlags(options: { pollFirst?: boolean } | undefined): number {
  return reportFlag() | (options?.pollFirst === true ? IORING_RECVSEND_POLL_FIRST : 0);
}

function sent(length: number, { usage }: Report): ZeroCopySent {
  const copied = tellsUsage() ? (usage & IORING_NOTIF_USAGE_ZC_COPIED) !== 0 : undefined;
  return { length, copied };
}

/** Zero-copy sends, each one entry of the submission queue. */
export abstract class ZeroCopyOperations extends MessageOperations {
  /**
   * Sends from `buffer` without copying it, and settles when the buffer may be used again: when the kernel's notification
   * has come, on a failure as well. liburing: `io_uring_prep_send_zc`, Linux 6.0; to an address with
   * `io_uring_prep_send_set_addr`. For TCP and UDP sockets, others reject with `EOPNOTSUPP`; it pays from about 10 KB on.
   *
   * The promise may wait for the peer to acknowledge. In a chain the next step starts when the data is handed over, not
   * when the promise settles. In a Worker the buffer is copied once all the same, to memory that outlives the Worker; what
   * lies in a registered buffer ({@link ZeroCopyOperations.sendZcFixed}) or a `Mapping` is not.
   */
  sendZc(fd: Fd, buffer: ArrayBufferView, options?: SendZcOptions): Promise<ZeroCopySent> {
    checkView(buffer);
    this.check(options);
    const length = checkLength(buffer, options?.length);
    const flags = checkU32("flags", options?.flags ?? 0);
    const number = this.number(fd);
    const name = options?.address === undefined ? null : encodeAddress(options.address);
    const address = this.from(buffer, length);
    const op = this.begin("send_zc");
    op.view = buffer;
    const report = awaitNotification(op);
    op.finish = (res) => sent(res, report);
    op.sqe!.prepSendZc(number, address, length, flags | MSG_NOSIGNAL, zcFlags(options));
    this.#sendTo(op, name);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  #sendTo(op: Op, name: Uint8Array | null): void {
    if (name === null) return;
    const piece = this.driver.arena.take(name.length);
    piece.bytes.set(name);
    op.pins = piece.owner;
    op.sqe!.prepSendSetAddr(piece.address, name.length);
  }

  /**
   * {@link MessageOperations.sendmsg} without copying; settles when the buffers may be used again, as
   * {@link ZeroCopyOperations.sendZc} does: `io_uring_prep_sendmsg_zc`, Linux 6.1.
   */
  sendmsgZc(
    fd: Fd,
    buffers: ArrayBufferView | readonly ArrayBufferView[],
    options?: SendmsgOptions,
  ): Promise<ZeroCopySent> {
    const { op, views } = this.beginSendmsg("sendmsg_zc", fd, buffers, options);
    return this.#reporting(op, views, options);
  }

  #reporting(
    op: Op,
    views: readonly ArrayBufferView[],
    options: SendmsgOptions | undefined,
  ): Promise<ZeroCopySent> {
    const report = awaitNotification(op);
    op.finish = (res) => sent(unlessDetached(views, res), report);
    op.sqe!.ioprio |= reportFlag();
    return this.promise(op, options);
  }

  /**
   * {@link ZeroCopyOperations.sendZc} out of a registered buffer, which spares finding the memory's pages:
   * `io_uring_prep_send_zc_fixed`, Linux 6.0.
   */
  sendZcFixed(fd: Fd, buffer: RegisteredBuffer, options?: SendZcFixedOptions): Promise<ZeroCopySent> {
    const view = this.useRegistered(buffer);
    this.check(options);
    const start = checkStart(buffer, options?.start);
    const length = checkRest(buffer, start, options?.length);
    const flags = checkU32("flags", options?.flags ?? 0) | MSG_NOSIGNAL;
    const number = this.number(fd);
    const name = options?.address === undefined ? null : encodeAddress(options.address);
    const op = this.begin("send_zc_fixed");
    op.view = view;
    const report = awaitNotification(op);
    op.finish = (res) => sent(res, report);
    op.sqe!.prepSendZcFixed(number, buffer.address + start, length, flags, zcFlags(options), buffer.slot);
    this.#sendTo(op, name);
    this.markFd(op, fd);
    return this.promise(op, options);
  }

  /**
   * {@link ZeroCopyOperations.sendmsgZc} of parts of a registered buffer in order:
   * `io_uring_prep_sendmsg_zc_fixed`, Linux 6.15.
   */
  sendmsgZcFixed(
    fd: Fd,
    buffer: RegisteredBuffer,
    ranges: readonly BufferRange[],
    options?: SendmsgOptions,
  ): Promise<ZeroCopySent> {
    const view = this.useRegistered(buffer);
    const views = rangesOf(buffer, ranges).map(({ start, length }) => view.subarray(start, start + length));
    const { op } = this.beginSendmsg("sendmsg_zc_fixed", fd, views, options);
    op.view = view;
    op.sqe!.ioprio |= IORING_RECVSEND_FIXED_BUF;
    op.sqe!.bufIndex = buffer.slot;
    return this.#reporting(op, views, options);
  }
}
