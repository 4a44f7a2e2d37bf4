/**
 * The first exchange with the kernel: what both can do.
 *
 * @module
 */
import { UringError } from "../ffi/errors.ts";
import { pageSize } from "../ffi/kernel.ts";
import { system } from "../ffi/system.ts";
import {
  FUSE_ABORT_ERROR,
  FUSE_ASYNC_DIO,
  FUSE_ASYNC_READ,
  FUSE_ATOMIC_O_TRUNC,
  FUSE_AUTO_INVAL_DATA,
  FUSE_BIG_WRITES,
  FUSE_CACHE_SYMLINKS,
  FUSE_DIRECT_IO_ALLOW_MMAP,
  FUSE_DO_READDIRPLUS,
  fuse_in_header,
  FUSE_INIT,
  FUSE_INIT_EXT,
  fuse_init_in,
  fuse_init_out,
  FUSE_KERNEL_VERSION,
  FUSE_MAX_PAGES,
  fuse_out_header,
  FUSE_OVER_IO_URING,
  FUSE_PARALLEL_DIROPS,
  FUSE_READDIRPLUS_AUTO,
  FUSE_REQUEST_TIMEOUT,
  FUSE_WRITEBACK_CACHE,
} from "./abi.ts";

const EAGAIN = -11;
const EPROTO = 71;
/** What is spoken here, and the oldest that has what is needed (Linux 4.20). */
const MINOR = 45;
const LEAST_MINOR = 28;
const TWO_32 = 0x1_0000_0000;
/** Without larger ones, requests have this many pages. */
const LEAST_PAGES = 32;
const ROOM = 65536;
const MOST_SECONDS = 65535;

/** What the server would like. */
export interface Wishes {
  /** Whether requests should come over io_uring. */
  readonly uring: boolean;
  readonly readdirplus: boolean;
  readonly writebackCache: boolean;
  readonly atomicTruncate: boolean;
  readonly cacheSymlinks: boolean;
  readonly maxWrite: number;
  /** Undefined: what the kernel offers. */
  readonly maxReadahead: number | undefined;
  readonly maxBackground: number;
  /** After how many seconds without an answer the kernel cuts the connection; 0: never. */
  readonly cutAfter: number;
}

/** What the kernel has said. */
export interface Agreement {
  /** Whether requests come over io_uring. */
  readonly uring: boolean;
  /** The largest write (and read) in bytes. */
  readonly maxWrite: number;
  /** How large a request's data or a reply can be. */
  readonly payload: number;
}

/** Reads the kernel's first request, which is there once the file system is mounted; null while it is not. */
export function readInit(fd: number): DataView | null {
  const request = new Uint8Array(new ArrayBuffer(ROOM));
  const length = system().read(fd, request, request.length);
  if (length === EAGAIN) return null;
  if (length < 0) throw new UringError(length, "read", { path: "/dev/fuse" });
  const view = new DataView(request.buffer, 0, length);
  if (view.getUint32(fuse_in_header.opcode, true) === FUSE_INIT) return view;
  throw new UringError(EPROTO, "FUSE_INIT", { path: "/dev/fuse" });
}

function flagsOf(offered: number, wishes: Wishes): number {
  const has = (flag: number): boolean => Math.floor(offered / flag) % 2 === 1;
  let flags = 0;
  const want = (flag: number, wanted = true): void => {
    if (wanted && has(flag)) flags += flag;
  };
  for (const flag of [FUSE_ASYNC_READ, FUSE_BIG_WRITES, FUSE_PARALLEL_DIROPS, FUSE_ABORT_ERROR]) want(flag);
  for (const flag of [FUSE_ASYNC_DIO, FUSE_MAX_PAGES, FUSE_INIT_EXT, FUSE_DIRECT_IO_ALLOW_MMAP]) want(flag);
  want(FUSE_DO_READDIRPLUS, wishes.readdirplus);
  want(FUSE_READDIRPLUS_AUTO, wishes.readdirplus);
  want(FUSE_WRITEBACK_CACHE, wishes.writebackCache);
  // With its own cache of writes, the kernel knows better what has changed.
  want(FUSE_AUTO_INVAL_DATA, !wishes.writebackCache);
  want(FUSE_ATOMIC_O_TRUNC, wishes.atomicTruncate);
  want(FUSE_CACHE_SYMLINKS, wishes.cacheSymlinks);
  want(FUSE_REQUEST_TIMEOUT, wishes.cutAfter > 0);
  want(FUSE_OVER_IO_URING, wishes.uring);
  return flags;
}

/** Whether the kernel offers requests over io_uring. */
export function offersUring(init: DataView): boolean {
  return Math.floor(offeredBy(init) / FUSE_OVER_IO_URING) % 2 === 1;
}

function offeredBy(init: DataView): number {
  const get = (at: number): number => init.getUint32(fuse_in_header.size + at, true);
  const low = get(fuse_init_in.flags);
  const extended = Math.floor(low / FUSE_INIT_EXT) % 2 === 1;
  return low + (extended ? get(fuse_init_in.flags2) * TWO_32 : 0);
}

/** Answers the kernel's first request. */
export function answerInit(fd: number, init: DataView, wishes: Wishes): Agreement {
  const get = (at: number): number => init.getUint32(fuse_in_header.size + at, true);
  const minor = get(fuse_init_in.minor);
  if (get(fuse_init_in.major) !== FUSE_KERNEL_VERSION || minor < LEAST_MINOR) {
    throw new UringError(EPROTO, "FUSE_INIT", { hint: `it needs FUSE 7.${LEAST_MINOR}, Linux 4.20` });
  }
  const flags = flagsOf(offeredBy(init), wishes);
  const page = pageSize();
  const pages = Math.max(LEAST_PAGES, Math.ceil(wishes.maxWrite / page));
  const reply = new Uint8Array(new ArrayBuffer(fuse_out_header.size + fuse_init_out.size));
  const view = new DataView(reply.buffer);
  const put = (at: number, value: number): void => view.setUint32(fuse_out_header.size + at, value, true);
  const put16 = (at: number, value: number): void => view.setUint16(fuse_out_header.size + at, value, true);
  view.setUint32(fuse_out_header.len, reply.length, true);
  view.setBigUint64(fuse_out_header.unique, init.getBigUint64(fuse_in_header.unique, true), true);
  put(fuse_init_out.major, FUSE_KERNEL_VERSION);
  put(fuse_init_out.minor, Math.min(minor, MINOR));
  put(
    fuse_init_out.max_readahead,
    Math.min(wishes.maxReadahead ?? TWO_32 - 1, get(fuse_init_in.max_readahead)),
  );
  put(fuse_init_out.flags, flags % TWO_32);
  put(fuse_init_out.flags2, Math.floor(flags / TWO_32));
  put16(fuse_init_out.max_background, wishes.maxBackground);
  put16(fuse_init_out.congestion_threshold, Math.ceil((wishes.maxBackground * 3) / 4));
  put(fuse_init_out.max_write, wishes.maxWrite);
  put(fuse_init_out.time_gran, 1);
  put16(fuse_init_out.max_pages, pages);
  put16(fuse_init_out.request_timeout, Math.min(wishes.cutAfter, MOST_SECONDS));
  const result = system().write(fd, reply, reply.length);
  if (result < 0) throw new UringError(result, "FUSE_INIT");
  const uring = Math.floor(flags / FUSE_OVER_IO_URING) % 2 === 1;
  return { uring, maxWrite: wishes.maxWrite, payload: pages * page };
}
