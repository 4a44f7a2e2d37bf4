/**
 * Addresses as programs see them, and where to listen and to connect.
 *
 * @module
 */
import { AF_INET, AF_INET6, AF_UNIX } from "../ffi/abi.ts";
import { encodeAddress, type SocketAddress } from "../loop/sockaddr.ts";
import { type IpAddress, parseIp } from "./ip.ts";

/** An IP address with a port, as Deno has it. */
export interface NetAddress {
  /** The protocol. */
  readonly transport: "tcp" | "udp";
  /** `"127.0.0.1"`, `"::1"`; a link-local IPv6 address ends with the number of its interface: `"fe80::1%2"`. */
  readonly hostname: string;
  /** 0 to 65535. */
  readonly port: number;
}

/** A Unix socket's address, as Deno has it. */
export interface UnixSocketAddress {
  /** A stream. */
  readonly transport: "unix";
  /** A path; after a NUL, a name in Linux's abstract namespace; `""` for the end that has no name. */
  readonly path: string;
}

/** Where a socket is. */
export type Address = NetAddress | UnixSocketAddress;

/** A port of an IP address, or a Unix socket's path: one of the two. */
export interface Endpoint {
  /** `"tcp"` with a port, `"unix"` with a path; need not be told. */
  transport?: "tcp" | "unix" | undefined;
  /** 0 to 65535. */
  port?: number | undefined;
  /** An IP address or a name. */
  hostname?: string | undefined;
  /** A Unix socket's path; after a NUL or `@`, a name in Linux's abstract namespace. */
  path?: string | undefined;
}

/** What {@link checkEndpoint} makes of an {@link Endpoint}. */
export type Target =
  | { readonly path: string }
  | { readonly hostname: string; readonly port: number };

/** Checks an endpoint; `anywhere` is the hostname of one without. */
export function checkEndpoint(endpoint: Endpoint, anywhere: string): Target {
  if (typeof endpoint !== "object" || endpoint === null) throw new TypeError("options must be an object");
  const { transport, port, hostname = anywhere, path } = endpoint;
  if (transport !== undefined && transport !== "tcp" && transport !== "unix") {
    throw new TypeError(`transport must be "tcp" or "unix", not ${String(transport)}`);
  }
  if (path !== undefined) {
    if (port !== undefined || transport === "tcp") throw new TypeError("Give a port or a path, not both");
    return { path: checkPath(path) };
  }
  if (transport === "unix") throw new TypeError("A path is needed");
  if (port === undefined) throw new TypeError("A port or a path is needed");
  if (!Number.isInteger(port) || port < 0 || port > 0xffff) {
    throw new RangeError(`port must be an integer from 0 to 65535, not ${port}`);
  }
  if (typeof hostname !== "string" || hostname === "") {
    throw new TypeError("hostname must be a string that is not empty");
  }
  return { hostname, port };
}

/** Checks a Unix socket's path and returns it as the kernel has it: a NUL for a leading `@`. */
function checkPath(path: string): string {
  if (typeof path !== "string" || path === "") throw new TypeError("path must be a string that is not empty");
  const name = path.startsWith("@") ? `\0${path.slice(1)}` : path;
  encodeAddress({ family: "unix", path: name });
  return name;
}

/**
 * The address that a listener or a datagram socket binds to, without looking a name up.
 *
 * @throws TypeError for a name other than `localhost`.
 */
export function bindAddressOf(target: Target): SocketAddress {
  if ("path" in target) return { family: "unix", path: target.path };
  const { hostname, port } = target;
  const ip = hostname === "localhost" ? { family: 4, address: "127.0.0.1" } as const : parseIp(hostname);
  if (ip === undefined) {
    throw new TypeError(
      `hostname must be an IP address of this machine or "localhost", not "${hostname}"; resolve() looks names up`,
    );
  }
  return withPort(ip, port);
}

/** An IP address with a port, for the kernel. */
export function withPort({ family, address, scope }: IpAddress, port: number): SocketAddress {
  return {
    family: family === 4 ? "ipv4" : "ipv6",
    address,
    port,
    ...(scope === undefined ? {} : { scopeId: scope }),
  };
}

/** The domain (`AF_*`) of an address. */
export function domainOf({ family }: SocketAddress): number {
  return family === "unix" ? AF_UNIX : family === "ipv4" ? AF_INET : AF_INET6;
}

/** The kernel's address as programs see it. */
export function publicAddress(address: SocketAddress): Address {
  if (address.family === "unix") return { transport: "unix", path: address.path };
  const { scopeId } = address;
  const hostname = scopeId === undefined ? address.address : `${address.address}%${scopeId}`;
  return { transport: "tcp", hostname, port: address.port };
}

/** An address as text: `127.0.0.1:80`, `[::1]:80`, a path. */
export function textOf(address: SocketAddress): string {
  if (address.family === "unix") return address.path.replace(/^\0/, "@");
  return address.family === "ipv4"
    ? `${address.address}:${address.port}`
    : `[${address.address}]:${address.port}`;
}
