/**
 * What a server or client in the handler style is made of.
 *
 * @module
 */
import type { Socket } from "./socket.ts";

/**
 * What a connection calls when something happens: one object for all connections of a listener. Each may be absent, and may
 * be an `async` function. What a handler throws, or rejects with, goes to {@link SocketHandlers.error} and closes that
 * connection; the others go on.
 */
export interface SocketHandlers<T = undefined> {
  /** A connection is there. */
  open?(socket: Socket<T>): unknown;
  /**
   * Data has arrived. `view` is memory that the kernel has filled and will fill again: it is valid until this returns. What
   * is to be kept must be copied (`view.slice()`); a view that is kept shows other data later.
   */
  data?(socket: Socket<T>, view: Uint8Array): unknown;
  /** There is room again, after {@link Socket.write} had taken less than it was given. */
  drain?(socket: Socket<T>): unknown;
  /** The other end has finished writing. Unless `allowHalfOpen` is set, what was written is still sent, then it is closed. */
  end?(socket: Socket<T>): unknown;
  /** Nothing has come or gone for as long as {@link Socket.timeout} says. Without this handler the connection is closed. */
  timeout?(socket: Socket<T>): unknown;
  /** It is closed: the last that is called, once for each connection. `error` tells what has broken it, if something has. */
  close?(socket: Socket<T>, error?: Error): unknown;
  /**
   * The connection is broken (`ECONNRESET`, `EPIPE`…), or a handler has thrown `error`: it is being closed. Where this
   * handler is lacking, what a handler throws is reported as an uncaught exception.
   */
  error?(socket: Socket<T>, error: Error): unknown;
}

/** Options of connections, whoever has made them. */
export interface SocketOptions {
  /** Send small pieces at once (`TCP_NODELAY`); default true. */
  noDelay?: boolean | undefined;
  /** Have TCP look whether the other end is still there (`SO_KEEPALIVE`), after so many seconds of silence if a number. */
  keepAlive?: boolean | number | undefined;
  /**
   * How many bytes may wait to be sent before {@link Socket.write} takes no more, and how many that have arrived may wait
   * for {@link Conn.read}; default 256 KiB.
   */
  highWaterMark?: number | undefined;
  /**
   * From how many bytes on {@link Conn.write} and {@link Socket.send} have the network card read the caller's memory, instead
   * of copying it first (`IORING_OP_SEND_ZC`, Linux 6.2; out of a `RegisteredBuffer` with `IORING_RECVSEND_FIXED_BUF`).
   * The memory is the kernel's until its notification comes: the promise resolves when the other end has acknowledged the
   * bytes. What is written after them does not wait for that, but who awaits each write before the next one does; hence the
   * default, never. Have several writes under way. Where the kernel copies all the same (over loopback, with cards that
   * cannot gather) it says so, and the connection goes on without; likewise when `RLIMIT_MEMLOCK` does not allow an ordinary
   * user so much. TCP only.
   */
  zeroCopy?: number | undefined;
  /** Milliseconds without anything coming or going after which a connection is closed with `ETIMEDOUT`; default 0, never. */
  idleTimeout?: number | undefined;
  /**
   * Keep a connection open for writing when its other end has finished. Only for handlers, default false; a {@link Conn}
   * stays open until it is closed.
   */
  allowHalfOpen?: boolean | undefined;
}

/** Checks that handlers are functions. */
export function checkHandlers<T>(handlers: SocketHandlers<T>): SocketHandlers<T> {
  if (typeof handlers !== "object" || handlers === null) throw new TypeError("socket must be an object");
  for (const name of ["open", "data", "drain", "end", "timeout", "close", "error"] as const) {
    const handler = handlers[name];
    if (handler !== undefined && typeof handler !== "function") {
      throw new TypeError(`socket.${name} must be a function`);
    }
  }
  return handlers;
}
