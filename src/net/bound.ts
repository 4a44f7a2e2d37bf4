/**
 * Making a socket that listens, at once.
 *
 * @module
 */
import {
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  SO_INCOMING_CPU,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  SOL_SOCKET,
} from "../ffi/abi.ts";
import { check } from "../ffi/errors.ts";
import { system } from "../ffi/system.ts";
import { encodeAddress } from "../loop/sockaddr.ts";
import type { SocketAddress } from "../mod.ts";
import { domainOf } from "./address.ts";
import type { SocketOptions } from "./handlers.ts";
import { setTcpOptions } from "./socket_calls.ts";
import { setSocketOption } from "./socket_option.ts";

/** How a socket listens. */
export interface Binding {
  /** How many connections may wait to be accepted. */
  readonly backlog: number;
  /** `SO_REUSEADDR`. */
  readonly reuseAddr: boolean;
  /** `SO_REUSEPORT`. */
  readonly reusePort: boolean;
  /** `SO_INCOMING_CPU`. */
  readonly cpu?: number | undefined;
  /** `IPV6_V6ONLY`. */
  readonly ipv6Only: boolean;
  /** What connections inherit. */
  readonly connections: SocketOptions;
}

/** A socket that listens at an address: `socket`, `bind` and `listen`, called directly, as none of them waits. */
export function listenAt(address: SocketAddress, binding: Binding): number {
  const { net, close } = system();
  const fd = check(net.socket(domainOf(address), SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  try {
    if (address.family !== "unix") {
      if (binding.reuseAddr) setSocketOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
      if (binding.reusePort) setSocketOption(fd, SOL_SOCKET, SO_REUSEPORT, 1);
      if (binding.cpu !== undefined) setSocketOption(fd, SOL_SOCKET, SO_INCOMING_CPU, binding.cpu);
      if (address.family === "ipv6") {
        setSocketOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, binding.ipv6Only ? 1 : 0);
      }
      setTcpOptions(fd, binding.connections);
    }
    const bytes = encodeAddress(address);
    check(net.bind(fd, bytes, bytes.length), "bind");
    check(net.listen(fd, binding.backlog), "listen");
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}
