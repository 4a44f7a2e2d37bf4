/** A file system that hands everything through to a directory elsewhere. */
import { Uring } from "uring";
import {
  type AttributeChanges,
  type Attributes,
  backing,
  type Created,
  type Entry,
  type FileSystem,
  type Handle,
  type Opened,
  type Request,
} from "uring/fuse";
import {
  AT_SYMLINK_FOLLOW,
  O_ACCMODE,
  O_APPEND,
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
} from "uring/ring";
import { Directory, listAll, lookUp } from "./directories.ts";
import { type Node, NODE_FLAGS, Nodes } from "./nodes.ts";

/** Whose cache answers reads of the mount: none, the kernel's, or the kernel's for writes, too. */
export type Caching = "none" | "auto" | "writeback";

/** What is shared by the groups of handlers. */
interface Shared {
  readonly nodes: Nodes;
  readonly directories: Map<Handle, Directory>;
  readonly caching: Caching;
}

type Handlers = Partial<FileSystem<Uint8Array>>;

const S_ISGID = 0o2000;
const SPECIAL_BITS = 0o6000;
/** The event loop waits for each piece. */
const COPY_MOST = 4 * 1024 * 1024;

const codeOf = (error: unknown): string | undefined => (error as { code?: string }).code;

/** The flags that a file is opened with below. */
function flagsBelow(flags: number, caching: Caching): number {
  // What is direct is so between the client and here.
  let below = flags & ~(O_NOFOLLOW | O_DIRECT | O_CREAT | O_EXCL);
  if (caching === "writeback") {
    // The kernel reads the rest of a page before it writes a part of it, and knows where the end is.
    below &= ~O_APPEND;
    if ((below & O_ACCMODE) === O_WRONLY) below = below & ~O_ACCMODE | O_RDWR;
  }
  return below;
}

function opened(handle: Handle, caching: Caching): Opened {
  // Closing one of several descriptors means nothing below.
  return { handle, noFlush: true, ...(caching === "none" ? { directIo: true } : {}) };
}

/** Gives what was made to whom it was made for, as the kernel would have. */
function adopt(fd: number, parent: Node, mode: number, { uid, gid }: Request): void {
  const { mode: parentMode } = backing.stat(parent.fd);
  const inherits = (parentMode & S_ISGID) !== 0;
  if (uid === 0 && (gid === 0 || inherits)) return;
  backing.chown(fd, uid, inherits ? undefined : gid);
  // Which takes these away.
  if ((mode & SPECIAL_BITS) !== 0) backing.chmod(fd, mode);
}

/** The same with a descriptor that is closed where that fails. */
function adopted(fd: number, parent: Node, mode: number, request: Request): number {
  try {
    adopt(fd, parent, mode, request);
    return fd;
  } catch (error) {
    backing.close(fd);
    throw error;
  }
}

/** What has just been made under a name. */
async function made(
  nodes: Nodes,
  parent: Node,
  name: Uint8Array,
  mode: number | null,
  request: Request,
): Promise<Entry> {
  const fd = await Uring.shared.openat(name, { dirfd: parent.fd, flags: NODE_FLAGS });
  return nodes.enter(mode === null ? fd : adopted(fd, parent, mode, request));
}

/** Looking up and what is known of files. */
function attributeHandlers({ nodes }: Shared): Handlers {
  const all = (node: number): Attributes => backing.stat(nodes.get(node).fd);
  const setSize = async (node: Node, size: number, handle: Handle | undefined): Promise<void> => {
    const fd = handle ?? backing.reopen(node.fd, O_WRONLY);
    try {
      await Uring.shared.ftruncate(fd, size);
    } finally {
      if (handle === undefined) backing.close(fd);
    }
  };
  const setRest = (fd: number, changes: AttributeChanges): void => {
    const { uid, gid, mode, atimeNs, mtimeNs, atimeNow, mtimeNow } = changes;
    // In this order, since a new owner takes the bits for set-user-ID away.
    if (uid !== undefined || gid !== undefined) backing.chown(fd, uid, gid);
    if (mode !== undefined) backing.chmod(fd, mode);
    if (atimeNs !== undefined || mtimeNs !== undefined || atimeNow || mtimeNow) backing.utimes(fd, changes);
  };
  return {
    lookup: (parent, name) => lookUp(nodes, nodes.get(parent), name),
    forget: (node, count) => nodes.forget(node, count),
    getattr: all,
    setattr: (id, changes, handle) => {
      const node = nodes.get(id);
      if (changes.size === undefined) {
        setRest(node.fd, changes);
        return all(id);
      }
      return nodes.use([node], async () => {
        await setSize(node, changes.size!, handle);
        setRest(node.fd, changes);
        return all(id);
      });
    },
    readlink: (node) => backing.readlink(nodes.get(node).fd),
    statfs: (node) => backing.statfs(nodes.get(node).fd),
    getxattr: (node, name) => backing.getxattr(nodes.get(node).fd, name),
    setxattr: (node, name, value, flags) => backing.setxattr(nodes.get(node).fd, name, value, flags),
    listxattr: (node) => backing.listxattr(nodes.get(node).fd),
    removexattr: (node, name) => backing.removexattr(nodes.get(node).fd, name),
  };
}

/** Making, removing and renaming. */
function nameHandlers({ nodes }: Shared): Handlers {
  const uring = Uring.shared;
  const making = (
    parentId: number,
    name: Uint8Array,
    mode: number | null,
    request: Request,
    make: (dirfd: number) => void | Promise<void>,
  ): Promise<Entry> => {
    const parent = nodes.get(parentId);
    // Valid until the handler answers, which it has not by then.
    return nodes.use([parent], async () => {
      await make(parent.fd);
      return await made(nodes, parent, name, mode, request);
    });
  };
  const removing = (parentId: number, name: Uint8Array, directory: boolean): Promise<void> => {
    const parent = nodes.get(parentId);
    return nodes.use([parent], () => uring.unlinkat(name, { dirfd: parent.fd, directory }));
  };
  return {
    symlink: (parent, name, target, request) =>
      making(parent, name, 0, request, (dirfd) => uring.symlinkat(target, name, { dirfd })),
    mknod: (parent, name, mode, rdev, request) =>
      making(parent, name, mode, request, (dirfd) => backing.mknod(dirfd, name, mode, rdev)),
    mkdir: (parent, name, mode, request) =>
      making(parent, name, mode, request, (dirfd) => uring.mkdirat(name, { dirfd, mode })),
    unlink: (parent, name) => removing(parent, name, false),
    rmdir: (parent, name) => removing(parent, name, true),
    rename: (from, name, to, newName, flags) => {
      const [parent, newParent] = [nodes.get(from), nodes.get(to)];
      const options = { dirfd: parent.fd, newDirfd: newParent.fd, flags };
      return nodes.use([parent, newParent], () => uring.renameat(name, newName, options));
    },
    link: (id, parent, name, request) => {
      const node = nodes.get(id);
      const flags = AT_SYMLINK_FOLLOW;
      return nodes.use(
        [node],
        () =>
          making(
            parent,
            name,
            null,
            request,
            (newDirfd) => uring.linkat(backing.pathOf(node.fd), name, { newDirfd, flags }),
          ),
      );
    },
  };
}

/** Opening and closing. */
function openHandlers({ nodes, caching }: Shared): Handlers {
  const uring = Uring.shared;
  /** A new file, or the one that somebody else has made meanwhile. */
  const createOrOpen = async (
    parent: Node,
    name: Uint8Array,
    mode: number,
    flags: number,
    request: Request,
  ): Promise<number> => {
    const below = flagsBelow(flags, caching);
    const dirfd = parent.fd;
    for (;;) {
      try {
        const fd = await uring.openat(name, { dirfd, flags: below | O_CREAT | O_EXCL | O_NOFOLLOW, mode });
        return adopted(fd, parent, mode, request);
      } catch (error) {
        if (codeOf(error) !== "EEXIST" || (flags & O_EXCL) !== 0) throw error;
      }
      try {
        return await uring.openat(name, { dirfd, flags: below | O_NOFOLLOW });
      } catch (error) {
        if (codeOf(error) !== "ENOENT") throw error;
      }
    }
  };
  const created = (fd: number): Created => {
    try {
      return { entry: nodes.enter(backing.reopen(fd, O_PATH)), opened: opened(fd, caching) };
    } catch (error) {
      backing.close(fd);
      throw error;
    }
  };
  return {
    create: (id, name, mode, flags, request) => {
      const parent = nodes.get(id);
      return nodes.use([parent], async () => created(await createOrOpen(parent, name, mode, flags, request)));
    },
    tmpfile: (id, mode, flags, request) => {
      const parent = nodes.get(id);
      const below = flagsBelow(flags, caching) | O_TMPFILE | flags & O_EXCL;
      return nodes.use([parent], async () => {
        const fd = await uring.openat(backing.pathOf(parent.fd), { flags: below, mode });
        return created(adopted(fd, parent, mode, request));
      });
    },
    open: (id, flags) => {
      const node = nodes.get(id);
      const below = flagsBelow(flags, caching);
      // Emptying a file may take its time.
      if ((below & O_TRUNC) === 0) return opened(backing.reopen(node.fd, below), caching);
      return nodes.use(
        [node],
        async () => opened(await uring.openat(backing.pathOf(node.fd), { flags: below }), caching),
      );
    },
    release: (_, handle) => backing.close(handle),
  };
}

/** The content of open files, whose handles are descriptors. */
function contentHandlers(): Handlers {
  const uring = Uring.shared;
  const readRest = async (fd: number, buffer: Uint8Array, offset: number, done: number): Promise<number> => {
    while (done < buffer.length) {
      const count = await uring.read(fd, buffer.subarray(done), { offset: offset + done });
      if (count === 0) break;
      done += count;
    }
    return done;
  };
  return {
    read: (_, handle, buffer, offset) => {
      let done = 0;
      while (done < buffer.length) {
        const count = backing.readCached(handle, done === 0 ? buffer : buffer.subarray(done), offset + done);
        if (count < 0) return readRest(handle, buffer, offset, done);
        if (count === 0) break;
        done += count;
      }
      return done;
    },
    write: async (_, handle, data, offset) => {
      let done = 0;
      while (done < data.length) {
        const count = await uring.write(handle, done === 0 ? data : data.subarray(done), {
          offset: offset + done,
        });
        if (count === 0) break;
        done += count;
      }
      return done;
    },
    fsync: (_, handle, dataOnly) => dataOnly ? uring.fdatasync(handle) : uring.fsync(handle),
    fallocate: (_, handle, offset, length, mode) => uring.fallocate(handle, mode, offset, length),
    lseek: (_, handle, offset, whence) => backing.seek(handle, offset, whence),
    copyFileRange: (from, to, length) =>
      backing.copyFileRange(from.handle, from.offset, to.handle, to.offset, Math.min(length, COPY_MOST)),
  };
}

/** Open directories. */
function directoryHandlers({ nodes, directories }: Shared): Handlers {
  const directoryOf = (handle: Handle): Directory => directories.get(handle)!;
  return {
    opendir: (id) => {
      const node = nodes.get(id);
      const fd = backing.reopen(node.fd, O_RDONLY | O_DIRECTORY);
      directories.set(fd, new Directory(node, fd));
      return fd;
    },
    readdir: (_, handle, offset, out) => directoryOf(handle).list(offset, out),
    readdirplus: (_, handle, offset, out) => listAll(nodes, directoryOf(handle), offset, out),
    releasedir: (_, handle) => {
      directoryOf(handle).close();
      directories.delete(handle);
    },
    fsyncdir: (_, handle, dataOnly) => dataOnly ? Uring.shared.fdatasync(handle) : Uring.shared.fsync(handle),
  };
}

/** A file system of the files of a directory, and what ends it when it is mounted no more. */
export interface PassThrough {
  readonly fileSystem: FileSystem<Uint8Array>;
  close(): void;
}

/** Hands a directory through. */
export async function passThrough(directory: string, caching: Caching): Promise<PassThrough> {
  backing.raiseFileLimit();
  // The kernel has applied the client's already.
  backing.clearUmask();
  const nodes = new Nodes(await Uring.shared.openat(directory, { flags: O_PATH | O_DIRECTORY }));
  const shared: Shared = { nodes, directories: new Map(), caching };
  return {
    fileSystem: {
      ...attributeHandlers(shared),
      ...nameHandlers(shared),
      ...openHandlers(shared),
      ...contentHandlers(),
      ...directoryHandlers(shared),
    } as FileSystem<Uint8Array>,
    close: () => nodes.close(),
  };
}
