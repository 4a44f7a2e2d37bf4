/**
 * Groups of hosts that a datagram goes to.
 *
 * @module
 */
import {
  IP_MULTICAST_IF,
  IP_MULTICAST_LOOP,
  IP_MULTICAST_TTL,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MULTICAST_HOPS,
  IPV6_MULTICAST_IF,
  IPV6_MULTICAST_LOOP,
  IPV6_UNICAST_HOPS,
  MCAST_JOIN_GROUP,
  MCAST_JOIN_SOURCE_GROUP,
  MCAST_LEAVE_GROUP,
  MCAST_LEAVE_SOURCE_GROUP,
} from "../ffi/abi.ts";
import { check } from "../ffi/errors.ts";
import { group_req, group_source_req, ip_mreqn } from "../ffi/structs.ts";
import { system } from "../ffi/system.ts";
import { encodeAddress } from "../loop/sockaddr.ts";
import { withPort } from "./address.ts";
import { interfaceIndex, type IpAddress, parseIp } from "./ip.ts";
import { setSocketOption } from "./socket_option.ts";

/** Which of a group's datagrams. */
export interface GroupOptions {
  /** The interface, by its name or its index; default: the one that the system picks. */
  interface?: string | number | undefined;
  /** Only those from this address: source-specific multicast. */
  source?: string | undefined;
}

/** The index of an interface that a program names; 0 for none. */
export function indexOf(name: string | number | undefined): number {
  if (name === undefined) return 0;
  const index = typeof name === "number"
    ? (Number.isInteger(name) && name > 0 && name <= 0x7fff_ffff ? name : undefined)
    : interfaceIndex(name);
  if (index === undefined) throw new TypeError(`There is no interface ${JSON.stringify(name)}`);
  return index;
}

function isMulticast({ family, address }: IpAddress): boolean {
  return family === 4 ? (Number(address.split(".")[0]) & 0xf0) === 0xe0 : /^ff/.test(address);
}

/** An IP address, which an argument has to be. */
export function ipOf(what: string, text: string): IpAddress {
  const ip = typeof text === "string" ? parseIp(text) : undefined;
  if (ip === undefined) throw new TypeError(`${what} must be an IP address, not ${JSON.stringify(text)}`);
  return ip;
}

/** Joins a group, or leaves it: `setsockopt(2)` with `MCAST_JOIN_GROUP` and the like. */
export function changeMembership(fd: number, join: boolean, group: string, options: GroupOptions): void {
  const ip = ipOf("group", group);
  if (!isMulticast(ip)) throw new TypeError(`${group} is no multicast address`);
  const source = options.source === undefined ? undefined : ipOf("source", options.source);
  if (source !== undefined && source.family !== ip.family) {
    throw new TypeError(`The source ${options.source} is of another family than the group ${group}`);
  }
  const level = ip.family === 4 ? IPPROTO_IP : IPPROTO_IPV6;
  const bytes = new Uint8Array(source === undefined ? group_req.size : group_source_req.size);
  new DataView(bytes.buffer).setUint32(
    group_req.gr_interface,
    indexOf(options.interface) || (ip.scope ?? 0),
    true,
  );
  bytes.set(encodeAddress(withPort(ip, 0)), group_req.gr_group);
  if (source !== undefined) bytes.set(encodeAddress(withPort(source, 0)), group_source_req.gsr_source);
  const name = source === undefined
    ? (join ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP)
    : (join ? MCAST_JOIN_SOURCE_GROUP : MCAST_LEAVE_SOURCE_GROUP);
  check(system().rare.setsockopt(fd, level, name, bytes, bytes.length), "setsockopt", {
    hint: `${join ? "joining" : "leaving"} ${group}`,
  });
}

/** Which interface datagrams to groups leave through; 0: the system picks. */
export function setMulticastInterface(fd: number, family: 4 | 6, index: number): void {
  if (family === 6) {
    setSocketOption(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, index);
    return;
  }
  const bytes = new Uint8Array(ip_mreqn.size);
  new DataView(bytes.buffer).setInt32(ip_mreqn.imr_ifindex, index, true);
  check(system().rare.setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, bytes, bytes.length), "setsockopt");
}

/** How many routers a datagram to a group may pass. */
export function setMulticastTtl(fd: number, family: 4 | 6, ttl: number): void {
  checkTtl("multicastTtl", ttl, 0);
  if (family === 4) setSocketOption(fd, IPPROTO_IP, IP_MULTICAST_TTL, ttl);
  else setSocketOption(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, ttl);
}

/** How many routers any other datagram may pass. */
export function setTtl(fd: number, family: 4 | 6, ttl: number): void {
  checkTtl("ttl", ttl, 1);
  if (family === 4) setSocketOption(fd, IPPROTO_IP, IP_TTL, ttl);
  else setSocketOption(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, ttl);
}

function checkTtl(name: string, ttl: number, least: number): void {
  if (!Number.isInteger(ttl) || ttl < least || ttl > 255) {
    throw new RangeError(`${name} must be an integer from ${least} to 255, not ${ttl}`);
  }
}

/** Whether sockets of this machine get what it sends to groups that they have joined. */
export function setMulticastLoopback(fd: number, family: 4 | 6, on: boolean): void {
  if (family === 4) setSocketOption(fd, IPPROTO_IP, IP_MULTICAST_LOOP, on ? 1 : 0);
  else setSocketOption(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, on ? 1 : 0);
}
