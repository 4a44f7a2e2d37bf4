/**
 * Replies as the kernel takes them.
 *
 * @module
 */
import { high32, low32 } from "../ring/sqe_base.ts";
import {
  FOPEN_CACHE_DIR,
  FOPEN_DIRECT_IO,
  FOPEN_KEEP_CACHE,
  FOPEN_NOFLUSH,
  FOPEN_NONSEEKABLE,
  FOPEN_PARALLEL_DIRECT_WRITES,
  fuse_attr,
  fuse_attr_out,
  fuse_entry_out,
  fuse_kstatfs,
  fuse_open_out,
} from "./abi.ts";
import { BackingAttributes } from "./backing.ts";
import { AnswerError } from "./failure.ts";
import type { Attributes, Entry, FileSystemStats, Handle, NodeId, Opened } from "./types.ts";

type Whole = number | bigint;

const BLOCK = 512;
const PAGE = 4096;
const NAME_LENGTH = 255;
const MILLION = 1e6;
const NS_PER_S = 1_000_000_000n;
const MS_PER_S = 1000;

/** How long the kernel may believe in what it is told, in milliseconds. */
export interface Timeouts {
  readonly entry: number;
  readonly attributes: number;
  readonly negative: number;
}

/** Writes 64 bits at a place in bytes. */
export function put64(words: Int32Array, at: number, value: Whole): void {
  const i = at >> 2;
  words[i] = low32(value);
  words[i + 1] = high32(value);
}

function put32(words: Int32Array, at: number, value: Whole): void {
  words[at >> 2] = typeof value === "number" ? value : low32(value);
}

function putTime(
  words: Int32Array,
  secondsAt: number,
  nanosecondsAt: number,
  ms: Whole | undefined,
  ns: bigint | undefined,
): void {
  if (ns !== undefined) {
    // The remainder of a time before 1970 is negative, and must not be.
    const rest = ((ns % NS_PER_S) + NS_PER_S) % NS_PER_S;
    put64(words, secondsAt, (ns - rest) / NS_PER_S);
    words[nanosecondsAt >> 2] = Number(rest);
    return;
  }
  const milliseconds = Number(ms ?? 0);
  const seconds = Math.floor(milliseconds / MS_PER_S);
  put64(words, secondsAt, seconds);
  words[nanosecondsAt >> 2] = Math.min(
    Math.round((milliseconds - seconds * MS_PER_S) * MILLION),
    MS_PER_S * MILLION - 1,
  );
}

function putDuration(
  words: Int32Array,
  secondsAt: number,
  nanosecondsAt: number,
  milliseconds: number,
): void {
  const seconds = Math.floor(milliseconds / MS_PER_S);
  put64(words, secondsAt, seconds);
  words[nanosecondsAt >> 2] = Math.floor((milliseconds - seconds * MS_PER_S) * MILLION);
}

function putTimes(words: Int32Array, at: number, attributes: Attributes): void {
  const { atime, atimensec, mtime, mtimensec, ctime, ctimensec } = fuse_attr;
  if (attributes instanceof BackingAttributes) {
    const { times } = attributes;
    put64(words, at + atime, times[0]);
    words[(at + atimensec) >> 2] = times[1];
    put64(words, at + mtime, times[2]);
    words[(at + mtimensec) >> 2] = times[3];
    put64(words, at + ctime, times[4]);
    words[(at + ctimensec) >> 2] = times[5];
    return;
  }
  putTime(words, at + atime, at + atimensec, attributes.atimeMs, attributes.atimeNs);
  putTime(words, at + mtime, at + mtimensec, attributes.mtimeMs, attributes.mtimeNs);
  putTime(words, at + ctime, at + ctimensec, attributes.ctimeMs, attributes.ctimeNs);
}

/** Writes a `struct fuse_attr`. */
export function putAttributes(words: Int32Array, at: number, node: NodeId, attributes: Attributes): void {
  if (typeof attributes !== "object" || attributes === null) throw new AnswerError("Attributes are missing");
  const { mode, size = 0 } = attributes;
  if (typeof mode !== "number" && typeof mode !== "bigint") throw new AnswerError("Attributes need a mode");
  put64(words, at + fuse_attr.ino, attributes.ino ?? node);
  put64(words, at + fuse_attr.size_, size);
  put64(words, at + fuse_attr.blocks, attributes.blocks ?? Math.ceil(Number(size) / BLOCK));
  putTimes(words, at, attributes);
  put32(words, at + fuse_attr.mode, mode);
  put32(words, at + fuse_attr.nlink, attributes.nlink ?? 1);
  put32(words, at + fuse_attr.uid, attributes.uid ?? 0);
  put32(words, at + fuse_attr.gid, attributes.gid ?? 0);
  put32(words, at + fuse_attr.rdev, attributes.rdev ?? 0);
  put32(words, at + fuse_attr.blksize, attributes.blksize ?? PAGE);
  words[(at + fuse_attr.flags) >> 2] = 0;
}

/** Writes a `struct fuse_attr_out` and returns its size. */
export function putAttrOut(words: Int32Array, node: NodeId, attributes: Attributes, timeout: number): number {
  putDuration(words, fuse_attr_out.attr_valid, fuse_attr_out.attr_valid_nsec, timeout);
  words[(fuse_attr_out.attr_valid_nsec >> 2) + 1] = 0;
  putAttributes(words, fuse_attr_out.attr, node, attributes);
  return fuse_attr_out.size;
}

/** Throws unless it can be a node's number. */
export function checkNode(node: unknown): NodeId {
  if (Number.isSafeInteger(node) && (node as number) > 0) return node as NodeId;
  throw new AnswerError(`A node is an integer from 1 on, not ${String(node)}`);
}

/** Writes a `struct fuse_entry_out` and returns its size. */
export function putEntry(words: Int32Array, at: number, entry: Entry, timeouts: Timeouts): number {
  if (typeof entry !== "object" || entry === null) throw new AnswerError("The entry is missing");
  const node = checkNode(entry.node);
  const { entryTimeout = timeouts.entry, attributeTimeout = timeouts.attributes } = entry;
  put64(words, at + fuse_entry_out.nodeid, node);
  put64(words, at + fuse_entry_out.generation, entry.generation ?? 0);
  putDuration(words, at + fuse_entry_out.entry_valid, at + fuse_entry_out.entry_valid_nsec, entryTimeout);
  putDuration(words, at + fuse_entry_out.attr_valid, at + fuse_entry_out.attr_valid_nsec, attributeTimeout);
  putAttributes(words, at + fuse_entry_out.attr, node, entry.attributes);
  return fuse_entry_out.size;
}

/** Writes an entry that says there is none. */
export function putNoEntry(words: Int32Array, at: number, timeout: number): number {
  words.fill(0, at >> 2, (at + fuse_entry_out.size) >> 2);
  putDuration(words, at + fuse_entry_out.entry_valid, at + fuse_entry_out.entry_valid_nsec, timeout);
  return fuse_entry_out.size;
}

/** The number of something opened. */
export function handleOf(opened: Handle | Opened): Handle {
  return typeof opened === "object" && opened !== null ? opened.handle : opened;
}

/** Writes a `struct fuse_open_out` and returns its size. */
export function putOpened(words: Int32Array, at: number, opened: Handle | Opened): number {
  const handle = handleOf(opened);
  if (!Number.isSafeInteger(handle) || handle < 0) {
    throw new AnswerError(`A handle is an integer from 0 on, not ${String(handle)}`);
  }
  put64(words, at + fuse_open_out.fh, handle);
  const i = (at + fuse_open_out.open_flags) >> 2;
  words[i] = typeof opened === "object" ? openFlags(opened) : 0;
  words[i + 1] = 0;
  return fuse_open_out.size;
}

function openFlags(opened: Opened): number {
  return (opened.directIo === true ? FOPEN_DIRECT_IO : 0) |
    (opened.keepCache === true ? FOPEN_KEEP_CACHE : 0) |
    (opened.nonSeekable === true ? FOPEN_NONSEEKABLE : 0) |
    (opened.cacheDirectory === true ? FOPEN_CACHE_DIR : 0) |
    (opened.noFlush === true ? FOPEN_NOFLUSH : 0) |
    (opened.parallelDirectWrites === true ? FOPEN_PARALLEL_DIRECT_WRITES : 0);
}

/** Writes a `struct fuse_statfs_out` and returns its size. */
export function putStatfs(words: Int32Array, stats: FileSystemStats): number {
  words.fill(0, 0, fuse_kstatfs.size >> 2);
  const { bsize = PAGE } = stats;
  put64(words, fuse_kstatfs.blocks, stats.blocks ?? 0);
  put64(words, fuse_kstatfs.bfree, stats.bfree ?? 0);
  put64(words, fuse_kstatfs.bavail, stats.bavail ?? 0);
  put64(words, fuse_kstatfs.files, stats.files ?? 0);
  put64(words, fuse_kstatfs.ffree, stats.ffree ?? 0);
  put32(words, fuse_kstatfs.bsize, bsize);
  put32(words, fuse_kstatfs.namelen, stats.namelen ?? NAME_LENGTH);
  put32(words, fuse_kstatfs.frsize, stats.frsize ?? bsize);
  return fuse_kstatfs.size;
}
