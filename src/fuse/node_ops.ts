/**
 * Operations on names and nodes.
 *
 * @module
 */
import {
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_CTIME,
  FATTR_FH,
  FATTR_GID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
  FUSE_ACCESS,
  fuse_access_in,
  FUSE_CREATE,
  fuse_create_in,
  FUSE_GETATTR,
  FUSE_GETATTR_FH,
  fuse_getattr_in,
  FUSE_LINK,
  fuse_link_in,
  FUSE_LOOKUP,
  FUSE_MKDIR,
  fuse_mkdir_in,
  FUSE_MKNOD,
  fuse_mknod_in,
  FUSE_READLINK,
  FUSE_RENAME,
  FUSE_RENAME2,
  fuse_rename2_in,
  fuse_rename_in,
  FUSE_RMDIR,
  FUSE_SETATTR,
  fuse_setattr_in,
  FUSE_STATFS,
  FUSE_SYMLINK,
  FUSE_TMPFILE,
  FUSE_UNLINK,
} from "./abi.ts";
import { EFBIG, EINVAL, EIO, ENOENT, ENOSYS } from "./failure.ts";
import {
  type Context,
  encodeNothing,
  nameOf,
  namesOf,
  type Operation,
  operation,
  type OperationOf,
  whole,
} from "./operation.ts";
import { handleOf, putAttrOut, putEntry, putNoEntry, putOpened, putStatfs } from "./replies.ts";
import type { Slot } from "./slot.ts";
import type { AttributeChanges, Created, Entry, FileSystem, FileSystemStats, Name } from "./types.ts";

const NS_PER_S = 1_000_000_000n;
const NS_PER_MS = 1_000_000n;
const PERMISSIONS = 0o7777;
/** The longest target of a symbolic link. */
const LINK_MOST = 4095;

/** What all that answer with an entry have in common. */
const ENTRY: Pick<OperationOf<Entry>, "missing" | "encode" | "undo"> = {
  missing: ENOSYS,
  encode: ({ timeouts }, slot, entry) => putEntry(slot.outWords, 0, entry, timeouts),
  undo: forgetEntry,
};

function forgetEntry({ fs }: Context, _slot: Slot, entry: Entry): void {
  fs.forget?.(entry.node, 1);
}

const CREATED: Pick<OperationOf<Created>, "missing" | "encode" | "undo"> = {
  missing: ENOSYS,
  encode({ timeouts }, slot, { entry, opened }) {
    const at = putEntry(slot.outWords, 0, entry, timeouts);
    return at + putOpened(slot.outWords, at, opened);
  },
  undo({ fs }, slot, { entry, opened }) {
    fs.forget?.(entry.node, 1);
    return fs.release?.(entry.node, handleOf(opened), slot) as void;
  },
};

const lookup = operation<Entry | null>({
  name: "lookup",
  missing: ENOENT,
  structSize: 0,
  call: (context, slot) => context.fs.lookup(slot.node, nameOf(context, slot) as string, slot),
  encode({ timeouts }, slot, entry) {
    if (entry !== null) return putEntry(slot.outWords, 0, entry, timeouts);
    return timeouts.negative === 0 ? -ENOENT : putNoEntry(slot.outWords, 0, timeouts.negative);
  },
  undo: (context, slot, entry) => entry === null ? undefined : forgetEntry(context, slot, entry),
});

const getattr = operation({
  name: "getattr",
  missing: ENOSYS,
  structSize: fuse_getattr_in.size,
  call({ fs }, slot) {
    const open = (slot.u32(fuse_getattr_in.getattr_flags) & FUSE_GETATTR_FH) !== 0;
    return fs.getattr(slot.node, open ? slot.u64(fuse_getattr_in.fh) : undefined, slot);
  },
  encode: ({ timeouts }, slot, result) => putAttrOut(slot.outWords, slot.node, result, timeouts.attributes),
});

function timeAt(slot: Slot, secondsAt: number, nanosecondsAt: number): bigint {
  const low = BigInt(slot.u32(secondsAt));
  const high = BigInt(slot.u32(secondsAt + 4) | 0);
  return ((high << 32n) | low) * NS_PER_S + BigInt(slot.u32(nanosecondsAt));
}

function changesOf(slot: Slot): AttributeChanges {
  const valid = slot.u32(fuse_setattr_in.valid);
  const now = (valid & (FATTR_ATIME_NOW | FATTR_MTIME_NOW)) === 0 ? 0n : BigInt(Date.now()) * NS_PER_MS;
  const time = (bit: number, nowBit: number, at: number, nsAt: number): bigint | undefined =>
    (valid & bit) === 0 ? undefined : (valid & nowBit) !== 0 ? now : timeAt(slot, at, nsAt);
  const { atime, atimensec, mtime, mtimensec, ctime, ctimensec } = fuse_setattr_in;
  return {
    mode: (valid & FATTR_MODE) === 0 ? undefined : slot.u32(fuse_setattr_in.mode),
    uid: (valid & FATTR_UID) === 0 ? undefined : slot.u32(fuse_setattr_in.uid),
    gid: (valid & FATTR_GID) === 0 ? undefined : slot.u32(fuse_setattr_in.gid),
    size: (valid & FATTR_SIZE) === 0 ? undefined : whole(slot, fuse_setattr_in.size_, EFBIG),
    atimeNs: time(FATTR_ATIME, FATTR_ATIME_NOW, atime, atimensec),
    mtimeNs: time(FATTR_MTIME, FATTR_MTIME_NOW, mtime, mtimensec),
    ctimeNs: time(FATTR_CTIME, 0, ctime, ctimensec),
    atimeNow: (valid & FATTR_ATIME_NOW) !== 0,
    mtimeNow: (valid & FATTR_MTIME_NOW) !== 0,
  };
}

const setattr = operation({
  name: "setattr",
  missing: ENOSYS,
  structSize: fuse_setattr_in.size,
  call({ fs }, slot) {
    const open = (slot.u32(fuse_setattr_in.valid) & FATTR_FH) !== 0;
    return fs.setattr(slot.node, changesOf(slot), open ? slot.u64(fuse_setattr_in.fh) : undefined, slot);
  },
  encode: ({ timeouts }, slot, result) => putAttrOut(slot.outWords, slot.node, result, timeouts.attributes),
});

const readlink = operation<Name>({
  name: "readlink",
  missing: EINVAL,
  structSize: 0,
  call: ({ fs }, slot) => fs.readlink(slot.node, slot),
  encode({ names }, slot, target) {
    const length = names.encode(target, slot.output, 0, LINK_MOST);
    return length < 0 ? -EIO : length;
  },
});

const symlink = operation<Entry>({
  name: "symlink",
  structSize: 0,
  call(context, slot) {
    const [name, target] = namesOf(context, slot) as [string, string];
    return context.fs.symlink(slot.node, name, target, slot);
  },
  ...ENTRY,
});

const mknod = operation<Entry>({
  name: "mknod",
  structSize: fuse_mknod_in.size,
  call(context, slot) {
    slot.umask = slot.u32(fuse_mknod_in.umask);
    const mode = slot.u32(fuse_mknod_in.mode);
    const name = nameOf(context, slot) as string;
    return context.fs.mknod(slot.node, name, mode, slot.u32(fuse_mknod_in.rdev), slot);
  },
  ...ENTRY,
});

const mkdir = operation<Entry>({
  name: "mkdir",
  structSize: fuse_mkdir_in.size,
  call(context, slot) {
    slot.umask = slot.u32(fuse_mkdir_in.umask);
    const mode = slot.u32(fuse_mkdir_in.mode) & PERMISSIONS;
    return context.fs.mkdir(slot.node, nameOf(context, slot) as string, mode, slot);
  },
  ...ENTRY,
});

const unlink = operation<void>({
  name: "unlink",
  missing: ENOSYS,
  structSize: 0,
  call: (context, slot) => context.fs.unlink(slot.node, nameOf(context, slot) as string, slot),
  encode: encodeNothing,
});

const rmdir = operation<void>({
  name: "rmdir",
  missing: ENOSYS,
  structSize: 0,
  call: (context, slot) => context.fs.rmdir(slot.node, nameOf(context, slot) as string, slot),
  encode: encodeNothing,
});

function rename(structSize: number, flagsAt: number): Operation {
  return operation<void>({
    name: "rename",
    missing: ENOSYS,
    structSize,
    call(context, slot) {
      const [from, to] = namesOf(context, slot) as [string, string];
      const flags = flagsAt === 0 ? 0 : slot.u32(flagsAt);
      return context.fs.rename(slot.node, from, slot.u64(fuse_rename_in.newdir), to, flags, slot);
    },
    encode: encodeNothing,
  });
}

const link = operation<Entry>({
  name: "link",
  structSize: fuse_link_in.size,
  call(context, slot) {
    const name = nameOf(context, slot) as string;
    return context.fs.link(slot.u64(fuse_link_in.oldnodeid), slot.node, name, slot);
  },
  ...ENTRY,
});

const create = operation<Created>({
  name: "create",
  structSize: fuse_create_in.size,
  call(context, slot) {
    slot.umask = slot.u32(fuse_create_in.umask);
    const mode = slot.u32(fuse_create_in.mode);
    const name = nameOf(context, slot) as string;
    return context.fs.create(slot.node, name, mode, slot.u32(fuse_create_in.flags), slot);
  },
  ...CREATED,
});

const tmpfile = operation<Created>({
  name: "tmpfile",
  structSize: fuse_create_in.size,
  call({ fs }, slot) {
    slot.umask = slot.u32(fuse_create_in.umask);
    return fs.tmpfile(slot.node, slot.u32(fuse_create_in.mode), slot.u32(fuse_create_in.flags), slot);
  },
  ...CREATED,
});

const statfs = operation<FileSystemStats>({
  name: "statfs",
  missing: -1,
  structSize: 0,
  call: ({ fs }, slot) => (fs as FileSystem<Name>).statfs?.(slot.node, slot) ?? {},
  encode: (_, slot, result) => putStatfs(slot.outWords, result),
});

const access = operation<void>({
  name: "access",
  missing: ENOSYS,
  structSize: fuse_access_in.size,
  call: ({ fs }, slot) => fs.access(slot.node, slot.u32(fuse_access_in.mask), slot),
  encode: encodeNothing,
});

/** By opcode. */
export const NODE_OPERATIONS: readonly (readonly [opcode: number, operation: Operation])[] = [
  [FUSE_LOOKUP, lookup],
  [FUSE_GETATTR, getattr],
  [FUSE_SETATTR, setattr],
  [FUSE_READLINK, readlink],
  [FUSE_SYMLINK, symlink],
  [FUSE_MKNOD, mknod],
  [FUSE_MKDIR, mkdir],
  [FUSE_UNLINK, unlink],
  [FUSE_RMDIR, rmdir],
  [FUSE_RENAME, rename(fuse_rename_in.size, 0)],
  [FUSE_RENAME2, rename(fuse_rename2_in.size, fuse_rename2_in.flags)],
  [FUSE_LINK, link],
  [FUSE_CREATE, create],
  [FUSE_TMPFILE, tmpfile],
  [FUSE_STATFS, statfs],
  [FUSE_ACCESS, access],
];
