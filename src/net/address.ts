/**
 * Where to listen and where to connect.
 *
 * @module
 */
import type { SocketAddress } from "../mod.ts";
import { AF_INET, AF_INET6, AF_UNIX } from "../ffi/abi.ts";

/** A port of an IP address, or a Unix socket's path: one of the two. */
export interface Endpoint {
  /** 0 to 65535. */
  port?: number | undefined;
  /** An IPv4 or IPv6 address or `"localhost"`. Names are not looked up yet. */
  hostname?: string | undefined;
  /** A Unix socket's path; after a NUL, a name in Linux's abstract namespace. */
  path?: string | undefined;
}

const IPV4 = /^\d+\.\d+\.\d+\.\d+$/;

/** The addresses that an endpoint stands for, in the order in which to try them. */
export function addressesOf(endpoint: Endpoint, anywhere: string): SocketAddress[] {
  if (typeof endpoint !== "object" || endpoint === null) throw new TypeError("options must be an object");
  const { port, hostname = anywhere, path } = endpoint;
  if (path !== undefined) {
    if (port !== undefined) throw new TypeError("Give a port or a path, not both");
    if (typeof path !== "string" || path === "") {
      throw new TypeError("path must be a string that is not empty");
    }
    return [{ family: "unix", path }];
  }
  if (port === undefined) throw new TypeError("A port or a path is needed");
  if (!Number.isInteger(port) || port < 0 || port > 0xffff) {
    throw new RangeError(`port must be an integer from 0 to 65535, not ${port}`);
  }
  if (typeof hostname !== "string") throw new TypeError("hostname must be a string");
  if (hostname === "localhost") {
    return [{ family: "ipv4", address: "127.0.0.1", port }, { family: "ipv6", address: "::1", port }];
  }
  if (IPV4.test(hostname)) return [{ family: "ipv4", address: hostname, port }];
  const address = hostname.replace(/^\[(.*)\]$/, "$1");
  if (address.includes(":")) return [{ family: "ipv6", address, port }];
  throw new TypeError(`"${hostname}" is no IP address: names other than "localhost" are not looked up yet`);
}

/** The domain (`AF_*`) of an address. */
export function domainOf({ family }: SocketAddress): number {
  return family === "unix" ? AF_UNIX : family === "ipv4" ? AF_INET : AF_INET6;
}

/** An address as text: `127.0.0.1:80`, `[::1]:80`, a path. */
export function textOf(address: SocketAddress): string {
  if (address.family === "unix") return address.path.replace(/^\0/, "@");
  return address.family === "ipv4"
    ? `${address.address}:${address.port}`
    : `[${address.address}]:${address.port}`;
}
