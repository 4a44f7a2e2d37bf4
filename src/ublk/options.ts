/**
 * Checking what a disk is asked to be.
 *
 * @module
 */
import { pageSize } from "../ffi/kernel.ts";
import { UBLK_MAX_NR_QUEUES, UBLK_MAX_QUEUE_DEPTH } from "./abi.ts";
import type {
  DiskHandlers,
  DiskOptions,
  RecoverOptions,
  Recovery,
  RequestKind,
  ServeOptions,
  StopOptions,
} from "./types.ts";

/** Bytes of a sector, the unit of the driver. */
export const SECTOR = 512;
/** The most bytes of one request that the driver can name. */
const MOST_REQUEST = 32 << 20;
const DEFAULT_REQUEST = 512 << 10;
const DEFAULT_DEPTH = 128;
const DEFAULT_PHYSICAL = 4096;
const MOST_PHYSICAL = 1 << 20;
const DEFAULT_TIMEOUT = 30_000;
const DEFAULT_STOP = 5000;
const DEFAULT_WAIT = 5000;
const MOST_MILLISECONDS = 0x7fff_ffff;
/** So many places for requests one ring can have: each has two entries of its queue. */
const MOST_PLACES = 16_384;
const MOST_ID = (1 << 20) - 1;

/** Every handler that there can be. */
export const KINDS: readonly RequestKind[] = ["read", "write", "flush", "discard", "writeZeroes"];

/** How a disk is served, checked. */
export interface Serving {
  /** Milliseconds that a handler may take. */
  readonly timeout: number;
  /** Who is told of failures. */
  readonly onError: NonNullable<ServeOptions["onError"]>;
}

/** A disk, checked and complete. */
export interface Plan {
  readonly size: number;
  readonly blockSize: number;
  readonly physicalBlockSize: number;
  readonly queues: number;
  readonly depth: number;
  readonly maxRequest: number;
  readonly id: number | null;
  readonly rotational: boolean;
  readonly fua: boolean;
  readonly zeroCopy: boolean | "commands";
  readonly recovery: Recovery | null;
}

function record(name: string, value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null) throw new TypeError(`${name} must be an object`);
  return value as Record<string, unknown>;
}

function count(name: string, value: unknown, least: number, most: number): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return value;
  throw new RangeError(`${name} must be an integer from ${least} to ${most}, not ${String(value)}`);
}

function flag(name: string, value: unknown): boolean {
  if (value === undefined) return false;
  if (typeof value !== "boolean") throw new TypeError(`${name} must be a boolean`);
  return value;
}

function powerOfTwo(name: string, value: unknown, least: number, most: number): number {
  const number = count(name, value, least, most);
  if ((number & (number - 1)) !== 0) throw new RangeError(`${name} must be a power of two, not ${number}`);
  return number;
}

/** Checks the number of a device. */
export function checkId(id: unknown): number {
  return count("id", id, 0, MOST_ID);
}

/** Checks a size in bytes. */
export function checkSize(size: unknown, blockSize: number): number {
  const bytes = count("size", size, blockSize, Number.MAX_SAFE_INTEGER);
  if (bytes % blockSize !== 0) {
    throw new RangeError(`size must be a multiple of the block size, ${blockSize}, not ${bytes}`);
  }
  return bytes;
}

/** Checks what a new disk is to be. */
export function checkDisk(options: DiskOptions): Plan {
  const given = record("options", options);
  const blockSize = powerOfTwo("blockSize", given["blockSize"] ?? SECTOR, SECTOR, 4096);
  const size = checkSize(given["size"], blockSize);
  const best = given["physicalBlockSize"] ?? Math.max(DEFAULT_PHYSICAL, blockSize);
  const physicalBlockSize = powerOfTwo("physicalBlockSize", best, blockSize, MOST_PHYSICAL);
  const queues = count("queues", given["queues"] ?? 1, 1, UBLK_MAX_NR_QUEUES);
  const depth = count("depth", given["depth"] ?? DEFAULT_DEPTH, 1, UBLK_MAX_QUEUE_DEPTH);
  if (queues * depth > MOST_PLACES) {
    throw new RangeError(`queues times depth must be at most ${MOST_PLACES}, not ${queues * depth}`);
  }
  const page = pageSize();
  const maxRequest = count("maxRequest", given["maxRequest"] ?? DEFAULT_REQUEST, page, MOST_REQUEST);
  if (maxRequest % page !== 0) {
    throw new RangeError(`maxRequest must be a multiple of ${page}, not ${maxRequest}`);
  }
  const { id, recovery, zeroCopy } = given;
  if (recovery !== undefined && !["reissue", "wait", "fail"].includes(recovery as string)) {
    throw new TypeError(`recovery must be "reissue", "wait" or "fail", not ${String(recovery)}`);
  }
  return {
    size,
    blockSize,
    physicalBlockSize,
    queues,
    depth,
    maxRequest,
    id: id === undefined ? null : checkId(id),
    rotational: flag("rotational", given["rotational"]),
    fua: flag("fua", given["fua"]),
    zeroCopy: zeroCopy === "commands" ? zeroCopy : flag("zeroCopy", zeroCopy),
    recovery: (recovery as Recovery | undefined) ?? null,
  };
}

/** Checks how a disk is served. */
export function checkServing(options: ServeOptions): Serving {
  const { timeout = DEFAULT_TIMEOUT, onError = printError } = record("options", options);
  if (typeof onError !== "function") throw new TypeError("onError must be a function");
  return { timeout: milliseconds("timeout", timeout), onError: onError as Serving["onError"] };
}

function milliseconds(name: string, value: unknown): number {
  if (typeof value === "number" && value >= 1 && value <= MOST_MILLISECONDS) return value;
  throw new RangeError(`${name} must be milliseconds from 1 to ${MOST_MILLISECONDS}, not ${String(value)}`);
}

/** Checks how long to wait for the end of a former server. */
export function checkWait(options: RecoverOptions): number {
  return milliseconds("wait", record("options", options)["wait"] ?? DEFAULT_WAIT);
}

/** Checks how a disk is stopped. */
export function checkStop(options: StopOptions, timeout: number): Required<StopOptions> {
  const given = record("options", options);
  return {
    timeout: milliseconds("timeout", given["timeout"] ?? Math.min(DEFAULT_STOP, timeout)),
    ifUnused: flag("ifUnused", given["ifUnused"]),
  };
}

/** Checks the handlers. */
export function checkHandlers(handlers: DiskHandlers): DiskHandlers {
  const given = record("handlers", handlers);
  for (const kind of KINDS) {
    const handler = given[kind];
    if (handler === undefined && kind !== "read") continue;
    if (typeof handler !== "function") throw new TypeError(`handlers.${kind} must be a function`);
  }
  return handlers;
}

function printError(error: unknown, request: object | null): void {
  const { kind, offset, length } = (request ?? {}) as { kind?: string; offset?: number; length?: number };
  const what = kind === undefined ? "the disk" : `${kind} of ${length} bytes at ${offset}`;
  console.error(`uring/ublk: ${what}:`, error);
}
