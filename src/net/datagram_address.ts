/**
 * The addresses of datagrams: as programs see them, and as the kernel does.
 *
 * @module
 */
import { AF_INET, AF_INET6 } from "../ffi/abi.ts";
import { sockaddr_in, sockaddr_in6, sockaddr_storage } from "../ffi/structs.ts";
import { decodeAddress, encodeAddress } from "../loop/sockaddr.ts";
import type { SocketAddress } from "../mod.ts";
import { withPort } from "./address.ts";
import { parseIp } from "./ip.ts";

/** Where a UDP datagram comes from or goes to, as Deno has it. */
export interface UdpAddress {
  /** Always `"udp"`. */
  readonly transport: "udp";
  /** `"127.0.0.1"`, `"::1"`; a link-local IPv6 address ends with the number of its interface: `"fe80::1%2"`. */
  readonly hostname: string;
  /** 0 to 65535. */
  readonly port: number;
}

/** Where a datagram of a Unix socket comes from or goes to, as Deno has it. */
export interface UnixDatagramAddress {
  /** Always `"unixpacket"`. */
  readonly transport: "unixpacket";
  /** A path; after a NUL, a name in Linux's abstract namespace; `""` for a socket that has no name. */
  readonly path: string;
}

/** Either. */
export type DatagramAddress = UdpAddress | UnixDatagramAddress;

/** The destination of a UDP datagram. */
export interface UdpTarget {
  /** An IP address; where a promise is given, also a name, which is looked up. */
  readonly hostname: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** The destination of a datagram of a Unix socket. */
export interface UnixDatagramTarget {
  /** A path; after a NUL or `@`, a name in Linux's abstract namespace. */
  readonly path: string;
}

/** Either. */
export type DatagramTarget = UdpTarget | UnixDatagramTarget;

/** A `struct sockaddr`. */
export interface SocketBytes {
  /** How many bytes it has. */
  readonly length: number;
  /** The bytes, in words; those after the end are zero. */
  readonly words: Int32Array;
  /** The bytes themselves. */
  readonly bytes: Uint8Array;
}

// The bytes of addresses that came out of a socket, for the answers that are likely to go there.
const bytesOf = new WeakMap<DatagramTarget, SocketBytes>();
let lastKnown: DatagramTarget | null = null;
let lastBytes: SocketBytes = socketBytes(new Uint8Array(0));

/** The same as words. */
export function socketBytes(address: Uint8Array): SocketBytes {
  const { length } = address;
  const words = new Int32Array((length + 3) >> 2);
  const bytes = new Uint8Array(words.buffer, 0, length);
  bytes.set(address);
  return { length, words, bytes };
}

/** An address as programs see it. */
export function datagramAddress(address: SocketAddress): DatagramAddress {
  if (address.family === "unix") return { transport: "unixpacket", path: address.path };
  const { scopeId } = address;
  const hostname = scopeId === undefined ? address.address : `${address.address}%${scopeId}`;
  return { transport: "udp", hostname, port: address.port };
}

function known(bytes: Uint8Array): DatagramAddress {
  const address = datagramAddress(decodeAddress(bytes, bytes.length));
  bytesOf.set(address, socketBytes(bytes));
  return Object.freeze(address);
}

/** How many addresses are remembered: a power of two. */
const REMEMBERED = 1024;
const HASH_SHIFT = 22;
const WORDS = 7;

/** Turns a `struct sockaddr` into an address, the same object again where it was seen not long ago. */
export class AddressCache {
  readonly #keys: Int32Array = new Int32Array(REMEMBERED * WORDS);
  readonly #found: (DatagramAddress | undefined)[] = new Array(REMEMBERED).fill(undefined);

  /**
   * The address in memory.
   *
   * @param bytes The memory.
   * @param words The same memory in words.
   * @param at Where the address begins, a multiple of 4.
   * @param length How long it is.
   */
  get(bytes: Uint8Array, words: Int32Array, at: number, length: number): DatagramAddress {
    const word = at >> 2;
    const first = length >= 4 ? words[word]! : 0;
    const family = first & 0xffff;
    const count = family === AF_INET ? 2 : family === AF_INET6 && length >= sockaddr_in6.size ? WORDS : 0;
    if (count === 0) return length === 0 ? UNNAMED : known(bytes.subarray(at, at + length));
    let hash = 0;
    for (let i = 0; i < count; i++) hash = Math.imul(hash ^ words[word + i]!, 0x9e3779b1);
    const slot = (hash ^ hash >>> 15) >>> HASH_SHIFT;
    const keys = this.#keys;
    const key = slot * WORDS;
    for (let i = 0; i < count; i++) {
      if (keys[key + i] !== words[word + i]) return this.#remember(slot, bytes, words, at, length, count);
    }
    return this.#found[slot]!;
  }

  #remember(
    slot: number,
    bytes: Uint8Array,
    words: Int32Array,
    at: number,
    length: number,
    count: number,
  ): DatagramAddress {
    const address = known(bytes.subarray(at, at + length));
    this.#keys.fill(0, slot * WORDS, (slot + 1) * WORDS);
    for (let i = 0; i < count; i++) this.#keys[slot * WORDS + i] = words[(at >> 2) + i]!;
    this.#found[slot] = address;
    return address;
  }
}

const UNNAMED: DatagramAddress = Object.freeze({ transport: "unixpacket", path: "" });

/** How much room there is for an address of a family: a multiple of 8. */
export function addressRoom(family: number): number {
  return family === AF_INET ? sockaddr_in.size : family === AF_INET6 ? 32 : sockaddr_storage.size;
}

let last: { readonly hostname: string; readonly port: number; readonly bytes: SocketBytes } | null = null;

/**
 * The bytes of a destination's `struct sockaddr`; undefined for a name that would have to be looked up.
 *
 * @throws TypeError, RangeError for what is no destination.
 */
export function addressBytes(target: DatagramTarget): SocketBytes | undefined {
  if (target === lastKnown) return lastBytes;
  if (typeof target !== "object" || target === null) throw new TypeError("address must be an object");
  const bytes = bytesOf.get(target);
  if (bytes !== undefined) {
    lastKnown = target;
    return lastBytes = bytes;
  }
  if ("path" in target) {
    return socketBytes(encodeAddress({ family: "unix", path: unixPath(target.path) }));
  }
  const { hostname, port } = target;
  if (last !== null && last.hostname === hostname && last.port === port) return last.bytes;
  if (typeof hostname !== "string" || hostname === "") {
    throw new TypeError("hostname must be a string that is not empty");
  }
  if (!Number.isInteger(port) || port < 1 || port > 0xffff) {
    throw new RangeError(`port must be an integer from 1 to 65535, not ${port}`);
  }
  const ip = parseIp(hostname);
  if (ip === undefined) return undefined;
  const found = socketBytes(encodeAddress(withPort(ip, port)));
  last = { hostname, port, bytes: found };
  return found;
}

/** Checks a Unix socket's path and returns it as the kernel has it: a NUL for a leading `@`. */
export function unixPath(path: string): string {
  if (typeof path !== "string" || path === "") throw new TypeError("path must be a string that is not empty");
  return path.startsWith("@") ? `\0${path.slice(1)}` : path;
}
