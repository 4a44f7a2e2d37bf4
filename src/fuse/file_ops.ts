/**
 * Operations on open files and directories, and on extended attributes.
 *
 * @module
 */
import {
  FUSE_COPY_FILE_RANGE,
  FUSE_COPY_FILE_RANGE_64,
  fuse_copy_file_range_in,
  FUSE_FALLOCATE,
  fuse_fallocate_in,
  FUSE_FLUSH,
  fuse_flush_in,
  FUSE_FSYNC,
  FUSE_FSYNC_FDATASYNC,
  fuse_fsync_in,
  FUSE_FSYNCDIR,
  FUSE_GETXATTR,
  fuse_getxattr_in,
  fuse_getxattr_out,
  FUSE_LISTXATTR,
  FUSE_LSEEK,
  fuse_lseek_in,
  fuse_lseek_out,
  FUSE_OPEN,
  fuse_open_in,
  FUSE_OPENDIR,
  FUSE_READ,
  fuse_read_in,
  FUSE_READDIR,
  FUSE_READDIRPLUS,
  FUSE_RELEASE,
  fuse_release_in,
  FUSE_RELEASEDIR,
  FUSE_REMOVEXATTR,
  FUSE_SETXATTR,
  fuse_setxattr_in,
  FUSE_WRITE,
  fuse_write_in,
  fuse_write_out,
} from "./abi.ts";
import { DirectoryWriter } from "./directory.ts";
import { AnswerError, EFBIG, EINVAL, ENODATA, ENOSYS, ERANGE } from "./failure.ts";
import { endOfName } from "./names.ts";
import {
  comesLater,
  type Context,
  encodeNothing,
  nameOf,
  type Operation,
  operation,
  whole,
} from "./operation.ts";
import { handleOf, put64, putOpened } from "./replies.ts";
import type { Slot } from "./slot.ts";
import type { Answer, Handle, Name, Opened } from "./types.ts";

/** The struct without its latest fields, which are not asked for. */
const SETXATTR_SIZE = 8;

function checkCount(count: unknown, most: number): number {
  if (Number.isInteger(count) && (count as number) >= 0 && (count as number) <= most) return count as number;
  throw new AnswerError(`The number of bytes must be from 0 to ${most}, not ${String(count)}`);
}

const read = operation<number>({
  name: "read",
  missing: ENOSYS,
  structSize: fuse_read_in.size,
  call({ fs }, slot) {
    const offset = slot.u64(fuse_read_in.offset);
    // No file is that large.
    if (offset < 0) return 0;
    const size = Math.min(slot.u32(fuse_read_in.size_), slot.output.length);
    return fs.read(slot.node, slot.u64(fuse_read_in.fh), slot.outView(size), offset, slot);
  },
  encode: (_, slot, count) => checkCount(count, slot.u32(fuse_read_in.size_)),
});

const write = operation<number>({
  name: "write",
  missing: ENOSYS,
  structSize: fuse_write_in.size,
  call({ fs }, slot) {
    const size = Math.min(slot.u32(fuse_write_in.size_), slot.inEnd - slot.inAt);
    const data = slot.inView(slot.inAt, size);
    const offset = whole(slot, fuse_write_in.offset, EFBIG);
    return fs.write(slot.node, slot.u64(fuse_write_in.fh), data, offset, slot);
  },
  encode(_, slot, count) {
    slot.outWords[0] = checkCount(count, slot.u32(fuse_write_in.size_));
    slot.outWords[1] = 0;
    return fuse_write_out.size;
  },
});

function opening(name: "open" | "opendir", end: "release" | "releasedir"): Operation {
  return operation<Handle | Opened>({
    name,
    missing: ENOSYS,
    structSize: fuse_open_in.size,
    call: ({ fs }, slot) => fs[name](slot.node, slot.u32(fuse_open_in.flags), slot),
    encode: (_, slot, opened) => putOpened(slot.outWords, 0, opened),
    undo: ({ fs }, slot, opened) => fs[end]?.(slot.node, handleOf(opened), slot) as void,
  });
}

function closing(name: "release" | "releasedir" | "flush", missing: number): Operation {
  const { size: structSize, fh } = name === "flush" ? fuse_flush_in : fuse_release_in;
  return operation<void>({
    name,
    missing,
    structSize,
    call: ({ fs }, slot) => fs[name](slot.node, slot.u64(fh), slot),
    encode: encodeNothing,
  });
}

function syncing(name: "fsync" | "fsyncdir"): Operation {
  return operation<void>({
    name,
    missing: ENOSYS,
    structSize: fuse_fsync_in.size,
    call({ fs }, slot) {
      const dataOnly = (slot.u32(fuse_fsync_in.fsync_flags) & FUSE_FSYNC_FDATASYNC) !== 0;
      return fs[name](slot.node, slot.u64(fuse_fsync_in.fh), dataOnly, slot);
    },
    encode: encodeNothing,
  });
}

function listing(name: "readdir" | "readdirplus"): Operation {
  /** The kernel looks none of them up: it does not get to see them. */
  const undo = ({ fs }: Context, _: Slot, writer: DirectoryWriter): void => {
    for (const node of writer.nodes) fs.forget?.(node, 1);
  };
  return operation<DirectoryWriter>({
    name,
    missing: ENOSYS,
    structSize: fuse_read_in.size,
    call({ fs, names, timeouts }, slot): Answer<DirectoryWriter> {
      const size = slot.u32(fuse_read_in.size_);
      const writer = new DirectoryWriter(slot, names, timeouts, size, name === "readdirplus");
      const offset = whole(slot, fuse_read_in.offset, EINVAL);
      const answer = fs[name](slot.node, slot.u64(fuse_read_in.fh), offset, writer, slot);
      return comesLater(answer) ? answer.then(() => writer) : writer;
    },
    encode: (_, __, writer) => writer.length,
    undo,
  });
}

const setxattr = operation<void>({
  name: "setxattr",
  missing: ENOSYS,
  structSize: SETXATTR_SIZE,
  call(context, slot) {
    const name = nameOf(context, slot) as string;
    const at = endOfName(slot.input, slot.inAt, slot.inEnd) + 1;
    const value = slot.inView(at, Math.min(slot.u32(fuse_setxattr_in.size_), slot.inEnd - at));
    return context.fs.setxattr(slot.node, name, value, slot.u32(fuse_setxattr_in.flags), slot);
  },
  encode: encodeNothing,
});

/** A reply of bytes, or of their number where that is all that was asked for. */
function encodeSized(slot: Slot, length: number, fill: () => void): number {
  const size = slot.u32(fuse_getxattr_in.size_);
  if (size === 0) {
    slot.outWords[0] = length;
    slot.outWords[1] = 0;
    return fuse_getxattr_out.size;
  }
  if (length > Math.min(size, slot.output.length)) return -ERANGE;
  fill();
  return length;
}

const getxattr = operation<Uint8Array | null>({
  name: "getxattr",
  missing: ENOSYS,
  structSize: fuse_getxattr_in.size,
  call: (context, slot) => context.fs.getxattr(slot.node, nameOf(context, slot) as string, slot),
  encode(_, slot, value) {
    if (value === null) return -ENODATA;
    if (!(value instanceof Uint8Array)) throw new AnswerError("The value of an attribute is a Uint8Array");
    return encodeSized(slot, value.length, () => slot.output.set(value));
  },
});

const listxattr = operation<Iterable<Name>>({
  name: "listxattr",
  missing: ENOSYS,
  structSize: fuse_getxattr_in.size,
  call: ({ fs }, slot) => fs.listxattr(slot.node, slot),
  encode({ names }, slot, list) {
    // The memory of the reply is large enough for all that a client can take.
    const { output } = slot;
    let length = 0;
    for (const name of list) {
      const count = names.encode(name, output, length, output.length - 1);
      if (count < 0) return -ERANGE;
      length += count;
      output[length++] = 0;
    }
    return encodeSized(slot, length, () => {});
  },
});

const removexattr = operation<void>({
  name: "removexattr",
  missing: ENOSYS,
  structSize: 0,
  call: (context, slot) => context.fs.removexattr(slot.node, nameOf(context, slot) as string, slot),
  encode: encodeNothing,
});

const fallocate = operation<void>({
  name: "fallocate",
  missing: ENOSYS,
  structSize: fuse_fallocate_in.size,
  call({ fs }, slot) {
    const offset = whole(slot, fuse_fallocate_in.offset, EFBIG);
    const length = whole(slot, fuse_fallocate_in.length, EFBIG);
    const mode = slot.u32(fuse_fallocate_in.mode);
    return fs.fallocate(slot.node, slot.u64(fuse_fallocate_in.fh), offset, length, mode, slot);
  },
  encode: encodeNothing,
});

const lseek = operation<number>({
  name: "lseek",
  missing: ENOSYS,
  structSize: fuse_lseek_in.size,
  call({ fs }, slot) {
    const offset = whole(slot, fuse_lseek_in.offset, EINVAL);
    const whence = slot.u32(fuse_lseek_in.whence);
    return fs.lseek(slot.node, slot.u64(fuse_lseek_in.fh), offset, whence, slot);
  },
  encode(_, slot, offset) {
    put64(slot.outWords, fuse_lseek_out.offset, checkCount(offset, Number.MAX_SAFE_INTEGER));
    return fuse_lseek_out.size;
  },
});

const copyFileRange = operation<number>({
  name: "copyFileRange",
  missing: ENOSYS,
  structSize: fuse_copy_file_range_in.size,
  call({ fs }, slot) {
    const at = fuse_copy_file_range_in;
    return fs.copyFileRange(
      { node: slot.node, handle: slot.u64(at.fh_in), offset: whole(slot, at.off_in, EFBIG) },
      {
        node: slot.u64(at.nodeid_out),
        handle: slot.u64(at.fh_out),
        offset: whole(slot, at.off_out, EFBIG),
      },
      whole(slot, at.len, EINVAL),
      slot.u32(at.flags),
      slot,
    );
  },
  // The older and the younger reply are of one size, and the same where little is copied at a time.
  encode(_, slot, count) {
    put64(slot.outWords, 0, checkCount(count, whole(slot, fuse_copy_file_range_in.len, EINVAL)));
    return fuse_write_out.size;
  },
});

/** By opcode. */
export const FILE_OPERATIONS: readonly (readonly [opcode: number, operation: Operation])[] = [
  [FUSE_READ, read],
  [FUSE_WRITE, write],
  [FUSE_OPEN, opening("open", "release")],
  [FUSE_OPENDIR, opening("opendir", "releasedir")],
  [FUSE_RELEASE, closing("release", 0)],
  [FUSE_RELEASEDIR, closing("releasedir", 0)],
  [FUSE_FLUSH, closing("flush", ENOSYS)],
  [FUSE_FSYNC, syncing("fsync")],
  [FUSE_FSYNCDIR, syncing("fsyncdir")],
  [FUSE_READDIR, listing("readdir")],
  [FUSE_READDIRPLUS, listing("readdirplus")],
  [FUSE_SETXATTR, setxattr],
  [FUSE_GETXATTR, getxattr],
  [FUSE_LISTXATTR, listxattr],
  [FUSE_REMOVEXATTR, removexattr],
  [FUSE_FALLOCATE, fallocate],
  [FUSE_LSEEK, lseek],
  [FUSE_COPY_FILE_RANGE, copyFileRange],
  [FUSE_COPY_FILE_RANGE_64, copyFileRange],
];
