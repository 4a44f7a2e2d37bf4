/**
 * IP addresses as text.
 *
 * @module
 */
import { cString } from "../ffi/cstring.ts";
import { system } from "../ffi/system.ts";
import { formatIpv6, parseIpv4, parseIpv6 } from "../loop/sockaddr.ts";

/** An IP address. */
export interface IpAddress {
  /** 4 for IPv4, 6 for IPv6. */
  readonly family: 4 | 6;
  /** `"127.0.0.1"`, `"::1"`: IPv6 as RFC 5952 writes it, without a zone. */
  readonly address: string;
  /** The index of the interface that a link-local IPv6 address belongs to. */
  readonly scope?: number;
}

const MOST_INDEX = 0x7fff_ffff;

/**
 * The address that `text` is, in any of its notations (`"::FFFF:1.2.3.4"`, `"fe80::1%eth0"`, `"fe80::1%2"`, with or
 * without brackets where it is IPv6); undefined when it is none, which is also what a zone is that this machine lacks.
 */
export function parseIp(text: string): IpAddress | undefined {
  if (!text.includes(":")) return parse(() => ({ family: 4, address: parseIpv4(text).join(".") }));
  const inner = text.startsWith("[") && text.endsWith("]") ? text.slice(1, -1) : text;
  const percent = inner.indexOf("%");
  const address = percent < 0 ? inner : inner.slice(0, percent);
  const parsed = parse(() => ({ family: 6, address: formatIpv6(parseIpv6(address)) }));
  if (parsed === undefined || percent < 0) return parsed;
  const scope = interfaceIndex(inner.slice(percent + 1));
  return scope === undefined ? undefined : { ...parsed, scope };
}

function parse(read: () => IpAddress): IpAddress | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** The index of a network interface, given by its name or as a number; undefined when there is none of this name. */
export function interfaceIndex(name: string): number | undefined {
  if (/^[1-9]\d*$/.test(name)) {
    const index = Number(name);
    return index <= MOST_INDEX ? index : undefined;
  }
  if (name === "" || name.includes("\0")) return undefined;
  const index = system().net.if_nametoindex(cString(name));
  return index > 0 ? index : undefined;
}
