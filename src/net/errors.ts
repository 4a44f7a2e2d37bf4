/**
 * The errors of sockets.
 *
 * @module
 */
import { type SocketAddress, UringError } from "../mod.ts";
import { textOf } from "./address.ts";

const ECANCELED = 125;

/** A failure to connect or to listen, with the address, as Node has it. */
export class AddressError extends UringError {
  /** The IP address, or the path of a Unix socket. */
  readonly address: string;
  /** The port of an IP address. */
  declare readonly port?: number;

  /**
   * The error of an attempt at an address.
   *
   * @param error What failed.
   * @param where The address.
   */
  constructor(error: UringError, where: SocketAddress) {
    super(error.errno, error.syscall, { hint: textOf(where), cause: error });
    this.address = where.family === "unix" ? where.path : where.address;
    if (where.family !== "unix") this.port = where.port;
  }
}

/** The error with the address, where it is the system's. */
export function at(error: unknown, where: SocketAddress): unknown {
  return error instanceof UringError ? new AddressError(error, where) : error;
}

/** What was under way, or asked for, when something was closed: `ECANCELED`. */
export function closedError(syscall: string): UringError {
  return new UringError(ECANCELED, syscall, { hint: "it was closed" });
}
