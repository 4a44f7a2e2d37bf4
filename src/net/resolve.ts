/**
 * From host names to addresses.
 *
 * @module
 */
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  EAI_ADDRFAMILY,
  EAI_AGAIN,
  EAI_FAIL,
  EAI_MEMORY,
  EAI_NODATA,
  EAI_NONAME,
  EAI_SYSTEM,
} from "../ffi/abi.ts";
import { adapter, system } from "../ffi/system.ts";
import { UringError } from "../mod.ts";
import { type IpAddress, parseIp } from "./ip.ts";

/** An address that a host name stands for. */
export type ResolvedAddress = IpAddress;

/** Options of {@link resolve}. */
export interface ResolveOptions {
  /** 4 or 6 for addresses of one family; default 0, both. */
  family?: 0 | 4 | 6 | undefined;
  /** Gives up when it aborts; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

const NOT_FOUND = ["ENOTFOUND", 3008, "name not found"] as const;

/** What each of C's errors is called, with Node's number for it. */
const FAILURES: Readonly<Record<number, readonly [code: string, errno: number, message: string]>> = {
  [EAI_NONAME]: NOT_FOUND,
  [EAI_NODATA]: NOT_FOUND,
  [EAI_ADDRFAMILY]: NOT_FOUND,
  [EAI_AGAIN]: ["EAI_AGAIN", 3001, "no name server has answered; try again later"],
  [EAI_FAIL]: ["EAI_FAIL", 3004, "a name server has failed"],
  [EAI_MEMORY]: ["EAI_MEMORY", 3006, "out of memory"],
  [EAI_SYSTEM]: ["EAI_SYSTEM", 3004, "the system failed to ask for it"],
};

/** A host name that has no address, or none that could be found out: `ENOTFOUND: name not found, getaddrinfo 'x'`. */
export class NameError extends UringError {
  /** `"ENOTFOUND"`; `"EAI_AGAIN"` when no name server answered; `"EAI_FAIL"`… */
  override readonly code: string;
  /** The name. */
  readonly hostname: string;

  /**
   * @param status C's `EAI_*`.
   * @param hostname The name.
   */
  constructor(status: number, hostname: string) {
    const [code, errno, message] = FAILURES[status] ?? [`EAI_${-status}`, 3004, "looking it up failed"];
    super(errno, "getaddrinfo");
    this.message = `${code}: ${message}, getaddrinfo '${hostname}'`;
    this.code = code;
    this.hostname = hostname;
  }
}

const LOOPBACK: readonly ResolvedAddress[] = [
  { family: 4, address: "127.0.0.1" },
  { family: 6, address: "::1" },
];

const FAMILIES = { 0: AF_UNSPEC, 4: AF_INET, 6: AF_INET6 } as const;

/**
 * The addresses of a host name, the best first, as C's `getaddrinfo` orders them (RFC 6724): out of `/etc/hosts`, DNS,
 * and whatever else the machine is set up to ask. It happens on another thread. At least one address comes back.
 *
 * An IP address stands for itself; `localhost`, and what ends in `.localhost`, for this machine's two, without asking
 * anybody.
 *
 * @throws NameError (rejects) with `code` `ENOTFOUND` when there is no such name, or none with an address of the family;
 * `EAI_AGAIN` when no name server answered. The signal's reason when it aborts: what is being asked then goes on unheard,
 * and the process stays alive for it. `TypeError` for what can be no name, `RangeError` for another family.
 *
 * @example
 * ```ts
 * import { resolve } from "uring/net";
 * for (const { family, address } of await resolve("example.com")) console.log(family, address);
 * ```
 */
export async function resolve(
  hostname: string,
  options: ResolveOptions = {},
): Promise<readonly ResolvedAddress[]> {
  const name = checkName(hostname);
  const { family = 0, signal } = options;
  if (!(family in FAMILIES)) throw new RangeError(`family must be 0, 4 or 6, not ${family}`);
  signal?.throwIfAborted();
  const known = withoutAsking(name);
  if (known !== undefined) return ofFamily(known, family, hostname);
  const { status, addresses } = await abortable(
    adapter.lookup(system().libc, name, FAMILIES[family]),
    signal,
  );
  if (status !== 0) throw new NameError(status, hostname);
  return ofFamily(distinct(addresses), family, hostname);
}

/** The name as it is asked for: in ASCII. */
function checkName(hostname: string): string {
  if (typeof hostname !== "string" || hostname === "") {
    throw new TypeError("hostname must be a string that is not empty");
  }
  if (/[\0-\x20\x7f]/.test(hostname)) {
    throw new TypeError("hostname must not contain spaces or control characters");
  }
  if (/^[\0-\x7f]*$/.test(hostname)) return hostname;
  const { hostname: ascii } = URL.canParse(`ws://${hostname}`)
    ? new URL(`ws://${hostname}`)
    : { hostname: "" };
  if (ascii === "" || /[/?#@:\\]/.test(hostname)) throw new TypeError(`hostname is none: ${hostname}`);
  return ascii;
}

/** What needs no asking; undefined when it does. */
function withoutAsking(name: string): readonly ResolvedAddress[] | undefined {
  if (/^(.*\.)?localhost\.?$/i.test(name)) return LOOPBACK;
  const numeric = parseIp(name);
  if (numeric !== undefined) return [numeric];
  // No name has a colon: this is an address with a mistake in it, or with a zone that is not there.
  return name.includes(":") ? [] : undefined;
}

function ofFamily(
  addresses: readonly ResolvedAddress[],
  family: 0 | 4 | 6,
  hostname: string,
): readonly ResolvedAddress[] {
  const wanted = family === 0 ? addresses : addresses.filter((address) => address.family === family);
  if (wanted.length === 0) throw new NameError(EAI_NONAME, hostname);
  return wanted;
}

function distinct(texts: readonly string[]): ResolvedAddress[] {
  return [...new Set(texts)].flatMap((text) => parseIp(text) ?? []);
}

/** The promise's result, or the signal's reason as soon as it aborts. */
async function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await promise;
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
