/**
 * Making a socket that listens, at once.
 *
 * @module
 */
import {
  IPPROTO_TCP,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  SOL_SOCKET,
  TCP_NODELAY,
} from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import { encodeAddress } from "../loop/sockaddr.ts";
import { type SocketAddress, UringError } from "../mod.ts";
import { addressOf, Ring, type Sqe } from "../ring/mod.ts";
import { domainOf } from "./address.ts";
import { setSocketOption } from "./socket_option.ts";

const EINVAL = -22;

/** How a socket listens. */
export interface Binding {
  /** How many connections may wait to be accepted. */
  readonly backlog: number;
  /** `SO_REUSEADDR`. */
  readonly reuseAddr: boolean;
  /** `SO_REUSEPORT`. */
  readonly reusePort: boolean;
  /** `TCP_NODELAY`, which connections inherit. */
  readonly noDelay: boolean;
}

/**
 * A socket that listens at an address. It is there when this returns, with its port: a tiny ring of its own waits for the
 * few operations, none of which takes long.
 */
export function listenAt(address: SocketAddress, binding: Binding): number {
  using ring = new Ring(2);
  const fd = run(
    ring,
    "socket",
    (sqe) => sqe.prepSocket(domainOf(address), SOCK_STREAM | SOCK_CLOEXEC, 0, 0),
  );
  try {
    if (address.family !== "unix") {
      if (binding.reuseAddr) setSocketOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
      if (binding.reusePort) setSocketOption(fd, SOL_SOCKET, SO_REUSEPORT, 1);
      if (binding.noDelay) setSocketOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    }
    const bytes = encodeAddress(address);
    const where = addressOf(bytes);
    run(ring, "bind", (sqe) => sqe.prepBind(fd, where, bytes.length));
    run(ring, "listen", (sqe) => sqe.prepListen(fd, binding.backlog));
    return fd;
  } catch (error) {
    system().close(fd);
    throw error;
  }
}

/** Submits one operation and waits for it. */
function run(ring: Ring, name: string, prepare: (sqe: Sqe) => void): number {
  prepare(ring.getSqe()!);
  ring.submitAndWait(1);
  let res = EINVAL;
  ring.forEachCqe((cqe) => {
    res = cqe.res;
  });
  if (res >= 0) return res;
  // A kernel that lacks the operation says EINVAL, too.
  throw new UringError(res, name, { hint: res === EINVAL ? "listening needs Linux 6.11" : undefined });
}
