/**
 * What the tests of datagrams need.
 *
 * @module
 */
import { IORING_OP_SEND_ZC } from "../../src/ffi/abi.ts";
import { missingOp } from "./rings.ts";

/** Why there are no datagram sockets here, or `false`: sending to an address came with the zero-copy sends. */
export function missingUdp(): string | false {
  return missingOp(IORING_OP_SEND_ZC);
}
