/**
 * Socket addresses: from objects to `struct sockaddr` and back.
 *
 * @module
 */
import { AF_INET, AF_INET6, AF_UNIX } from "../ffi/abi.ts";
import { sockaddr_in, sockaddr_in6, sockaddr_un } from "../ffi/structs.ts";
import { checkU32 } from "./options.ts";

/** An IPv4 or IPv6 address and a port. */
export interface InetAddress {
  /** Which kind. */
  readonly family: "ipv4" | "ipv6";
  /** `"127.0.0.1"`, `"::1"`; an IPv6 zone is not part of it. */
  readonly address: string;
  /** 0 to 65535; binding to 0 has the kernel pick one. */
  readonly port: number;
  /** The interface of a link-local IPv6 address. */
  readonly scopeId?: number;
}

/** A Unix socket's address. */
export interface UnixAddress {
  /** Which kind. */
  readonly family: "unix";
  /** A path; or, after a NUL, a name in Linux's abstract namespace; or `""`, which is no address. */
  readonly path: string;
}

/** Where a socket is. */
export type SocketAddress = InetAddress | UnixAddress;

/** The bytes of a `struct sockaddr`. */
export function encodeAddress(address: SocketAddress): Uint8Array {
  if (address.family === "unix") return encodeUnix(address.path);
  const { family, port } = address;
  if (family !== "ipv4" && family !== "ipv6") {
    throw new TypeError(`Unknown address family: ${String(family)}`);
  }
  if (!Number.isInteger(port) || port < 0 || port > 0xffff) {
    throw new RangeError(`port must be an integer from 0 to 65535, not ${port}`);
  }
  if (family === "ipv4") {
    const bytes = new Uint8Array(sockaddr_in.size);
    const view = new DataView(bytes.buffer);
    view.setUint16(sockaddr_in.sin_family, AF_INET, true);
    view.setUint16(sockaddr_in.sin_port, port);
    bytes.set(parseIpv4(address.address), sockaddr_in.sin_addr);
    return bytes;
  }
  const bytes = new Uint8Array(sockaddr_in6.size);
  const view = new DataView(bytes.buffer);
  view.setUint16(sockaddr_in6.sin6_family, AF_INET6, true);
  view.setUint16(sockaddr_in6.sin6_port, port);
  bytes.set(parseIpv6(address.address), sockaddr_in6.sin6_addr);
  view.setUint32(sockaddr_in6.sin6_scope_id, checkU32("scopeId", address.scopeId ?? 0), true);
  return bytes;
}

function encodeUnix(path: string): Uint8Array {
  if (typeof path !== "string") throw new TypeError("A Unix socket's path is a string");
  const name = new TextEncoder().encode(path);
  const abstract = name[0] === 0;
  if (!abstract && name.includes(0)) throw new TypeError("A path must not contain a NUL byte");
  // A path is followed by a NUL, an abstract name is as long as it says.
  const length = name.length === 0 || abstract ? name.length : name.length + 1;
  if (length > sockaddr_un.sun_path_size) {
    throw new RangeError(`A Unix socket's path has at most ${sockaddr_un.sun_path_size - 1} bytes: ${path}`);
  }
  const bytes = new Uint8Array(sockaddr_un.sun_path + length);
  new DataView(bytes.buffer).setUint16(sockaddr_un.sun_family, AF_UNIX, true);
  bytes.set(name, sockaddr_un.sun_path);
  return bytes;
}

// Clients mostly come from few addresses, and a text for each connection would be kept as long as that.
let latest = 0;
let latestText = "0.0.0.0";

function ipv4Text(address: number): string {
  if (address !== latest) {
    latest = address;
    latestText = `${address >>> 24}.${address >>> 16 & 255}.${address >>> 8 & 255}.${address & 255}`;
  }
  return latestText;
}

/** The address in the first `length` bytes of a `struct sockaddr_storage`. */
export function decodeAddress(bytes: Uint8Array, length: number): SocketAddress {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = length >= 2 ? view.getUint16(0, true) : AF_UNIX;
  if (family === AF_INET) {
    return {
      family: "ipv4",
      address: ipv4Text(view.getUint32(sockaddr_in.sin_addr)),
      port: view.getUint16(sockaddr_in.sin_port),
    };
  }
  if (family === AF_INET6) {
    const scopeId = view.getUint32(sockaddr_in6.sin6_scope_id, true);
    return {
      family: "ipv6",
      address: formatIpv6(bytes.subarray(sockaddr_in6.sin6_addr, sockaddr_in6.sin6_addr + 16)),
      port: view.getUint16(sockaddr_in6.sin6_port),
      ...(scopeId === 0 ? {} : { scopeId }),
    };
  }
  if (family !== AF_UNIX) throw new TypeError(`An address of family ${family} has no JavaScript form here`);
  const name = bytes.subarray(sockaddr_un.sun_path, Math.max(length, sockaddr_un.sun_path));
  const end = name[0] === 0 ? name.length : name.indexOf(0);
  return { family: "unix", path: new TextDecoder().decode(end < 0 ? name : name.subarray(0, end)) };
}

/** The four bytes of an IPv4 address in its usual notation. @internal */
export function parseIpv4(text: string): Uint8Array {
  const parts = text.split(".");
  const ok = parts.length === 4 &&
    parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256);
  if (!ok) throw new TypeError(`Not an IPv4 address: ${text}`);
  return Uint8Array.from(parts, Number);
}

/** The 16 bytes of an IPv6 address, without a zone. @internal */
export function parseIpv6(text: string): Uint8Array {
  const fail = (): never => {
    throw new TypeError(`Not an IPv6 address: ${text}`);
  };
  const halves = text.split("::");
  if (halves.length > 2) fail();
  const words = (half: string, atEnd: boolean): number[] =>
    half === "" ? [] : half.split(":").flatMap((group, i, groups) => {
      if (group.includes(".") && atEnd && i === groups.length - 1) {
        const [a, b, c, d] = parseIpv4(group) as unknown as [number, number, number, number];
        return [a << 8 | b, c << 8 | d];
      }
      return /^[\da-f]{1,4}$/i.test(group) ? [parseInt(group, 16)] : fail();
    });
  const first = words(halves[0]!, halves.length === 1);
  const last = halves.length === 2 ? words(halves[1]!, true) : [];
  const gap = 8 - first.length - last.length;
  if (halves.length === 2 ? gap < 1 : gap !== 0) fail();
  const bytes = new Uint8Array(16);
  [...first, ...Array<number>(gap).fill(0), ...last].forEach((word, i) => {
    bytes[2 * i] = word >> 8;
    bytes[2 * i + 1] = word & 0xff;
  });
  return bytes;
}

/** RFC 5952: lower case, the longest run of zeros (two or more) shortened. @internal */
export function formatIpv6(bytes: Uint8Array): string {
  const words = Array.from({ length: 8 }, (_, i) => bytes[2 * i]! << 8 | bytes[2 * i + 1]!);
  if (words.slice(0, 5).every((word) => word === 0) && words[5] === 0xffff) {
    return `::ffff:${bytes.subarray(12).join(".")}`;
  }
  let start = -1;
  let longest = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && words[end] === 0) end++;
    if (end - i > longest) [start, longest] = [i, end - i];
  }
  const hex = (part: number[]): string => part.map((word) => word.toString(16)).join(":");
  return start < 0 ? hex(words) : `${hex(words.slice(0, start))}::${hex(words.slice(start + longest))}`;
}
