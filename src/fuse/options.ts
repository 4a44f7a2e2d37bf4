/**
 * What is given to `mount`, checked.
 *
 * @module
 */
import { pageSize } from "../ffi/kernel.ts";
import { nameCodec } from "./names.ts";
import type { MountOptions, Transport } from "./mount_types.ts";
import type { FileSystem, Name } from "./types.ts";
import type { NameCodec } from "./names.ts";
import type { Timeouts } from "./replies.ts";

const MEBIBYTE = 2 ** 20;
const LEAST_DEFAULT = 2 ** 17;
/** How much address space slots may take by default. */
const DEFAULT_MEMORY = 256 * MEBIBYTE;
const DEFAULT_DEPTH = 8;
const MOST_DEPTH = 256;
const DEFAULT_BACKGROUND = 64;
const MOST_BACKGROUND = 65535;
const DEFAULT_TIMEOUT = 1000;
const DEFAULT_REQUEST_TIMEOUT = 60_000;
const MOST_MILLISECONDS = 2 ** 31 - 1;

/** Options with their defaults. */
export interface Settings {
  /** Undefined: whichever can be had. */
  readonly transport: Transport | undefined;
  readonly names: NameCodec;
  readonly timeouts: Timeouts;
  readonly maxWrite: number;
  readonly queueDepth: number;
  readonly maxBackground: number;
  readonly maxReadahead: number | undefined;
  readonly requestTimeout: number;
}

function within(name: string, value: unknown, least: number, most: number, step = 1): number {
  const number = value as number;
  if (Number.isInteger(number) && number >= least && number <= most && number % step === 0) return number;
  const multiple = step === 1 ? "" : `, a multiple of ${step}`;
  throw new RangeError(
    `${name} must be an integer from ${least} to ${most}${multiple}, not ${String(value)}`,
  );
}

function milliseconds(name: string, value: unknown): number {
  if (typeof value === "number" && value >= 0 && value <= MOST_MILLISECONDS) return value;
  throw new RangeError(`${name} must be milliseconds from 0 to ${MOST_MILLISECONDS}, not ${String(value)}`);
}

/** The largest write that this many slots have room for by default. */
function defaultWrite(slots: number): number {
  let size = MEBIBYTE;
  while (size > LEAST_DEFAULT && size * slots > DEFAULT_MEMORY) size /= 2;
  return size;
}

/** Checks options and puts in what is left out. */
export function checkMountOptions(options: MountOptions, processors: number): Settings {
  const { transport, source = "uring", subtype = "uring" } = options;
  if (transport !== undefined && transport !== "uring" && transport !== "classic") {
    throw new RangeError(`transport must be "uring" or "classic", not ${String(transport)}`);
  }
  for (const text of [source, subtype]) {
    if (typeof text !== "string" || text === "" || text.includes("\0")) {
      throw new TypeError("source and subtype are text without NUL");
    }
  }
  const queueDepth = within("queueDepth", options.queueDepth ?? DEFAULT_DEPTH, 1, MOST_DEPTH);
  const page = pageSize();
  const maxWrite = options.maxWrite ?? defaultWrite(queueDepth * processors);
  return {
    transport,
    names: nameCodec(options.names),
    timeouts: {
      entry: milliseconds("entryTimeout", options.entryTimeout ?? DEFAULT_TIMEOUT),
      attributes: milliseconds("attributeTimeout", options.attributeTimeout ?? DEFAULT_TIMEOUT),
      negative: milliseconds("negativeTimeout", options.negativeTimeout ?? 0),
    },
    maxWrite: within("maxWrite", maxWrite, page, MEBIBYTE, page),
    queueDepth,
    maxBackground: within("maxBackground", options.maxBackground ?? DEFAULT_BACKGROUND, 1, MOST_BACKGROUND),
    maxReadahead: options.maxReadahead === undefined
      ? undefined
      : within("maxReadahead", options.maxReadahead, 0, 0xffff_ffff),
    requestTimeout: milliseconds("requestTimeout", options.requestTimeout ?? DEFAULT_REQUEST_TIMEOUT),
  };
}

/** Throws unless something can be asked what file systems are asked. */
export function checkFileSystem(fs: FileSystem<Name>): void {
  if (typeof fs !== "object" || fs === null || typeof fs.getattr !== "function") {
    throw new TypeError("A file system is an object with handlers, getattr at least");
  }
}
