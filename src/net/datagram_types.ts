/**
 * What datagram sockets take and give.
 *
 * @module
 */
import type { DatagramAddress, DatagramTarget } from "./datagram_address.ts";
import type { Uring } from "../mod.ts";
import type { DatagramInfo } from "./datagram_message.ts";
import type { DatagramRoom } from "./datagram_receiver.ts";

/** A datagram, in memory of its own. */
export interface Datagram<A extends DatagramAddress = DatagramAddress> extends DatagramInfo {
  /** The data. */
  readonly data: Uint8Array;
  /** Where it comes from. The same object may come again. */
  readonly remoteAddr: A;
}

/** What `receive` into a buffer tells. */
export interface ReceivedDatagram<A extends DatagramAddress = DatagramAddress> extends DatagramInfo {
  /** How many bytes of the buffer are the datagram. */
  readonly length: number;
  /** Where it comes from. */
  readonly remoteAddr: A;
}

/**
 * What a socket calls when something happens. Each may be absent, and may be an `async` function. What a handler throws, or
 * rejects with, goes to {@link DatagramHandlers.error}; the socket goes on.
 */
export interface DatagramHandlers<S, A extends DatagramAddress> {
  /**
   * A datagram has arrived. `view` is memory that the kernel has filled and will fill again: it is valid until this
   * returns, as `info` is. What is to be kept must be copied (`view.slice()`). `address` may be kept.
   */
  data?(socket: S, view: Uint8Array, address: A, info: DatagramInfo): unknown;
  /** There is room again, after `trySend` had returned false. */
  drain?(socket: S): unknown;
  /**
   * A datagram could not be sent by `trySend` (then the error has the address), the network has
   * reported something (`ECONNREFUSED` on a connected socket), or a handler has thrown. Without this handler failures to
   * send go unheard, as datagrams that are lost on the way do, and what handlers throw is an uncaught exception.
   */
  error?(socket: S, error: Error): unknown;
  /** It is closed: the last that is called. */
  close?(socket: S): unknown;
}

/** Options of `receive`. */
export interface ReceiveOptions {
  /** Gives up when it aborts; the promise rejects with the signal's reason. Nothing that arrives is lost by it. */
  signal?: AbortSignal | undefined;
}

/** A datagram to send. */
export interface OutgoingDatagram<T extends DatagramTarget = DatagramTarget> {
  /** The data: at most 65,507 bytes over IPv4. */
  readonly data: Uint8Array | string;
  /** Where to; not on a connected socket. */
  readonly address?: T | undefined;
  /** Cut the data into datagrams of so many bytes, the last of which may be shorter (`UDP_SEGMENT`, Linux 4.18). */
  readonly segmentSize?: number | undefined;
}

/** What a datagram socket is made of. @internal */
export interface DatagramSpec<S> {
  readonly uring: Uring;
  readonly fd: number;
  readonly room: DatagramRoom;
  readonly limit: number;
  /** Whether datagrams to one destination may be sent as one. */
  readonly runs: boolean;
  readonly handlers: DatagramHandlers<S, DatagramAddress> | undefined;
  readonly signal: AbortSignal | undefined;
  /** Runs at the end, when the descriptor is closed. */
  readonly closed: () => Promise<void>;
}
