/**
 * What a file system is made of, as `uring/fuse` asks for it.
 *
 * @module
 */

/** What a handler may return: its result, or a promise of it. One that answers at once is answered at once. */
export type Answer<T> = T | Promise<T>;

/**
 * The number of a node (a file, a directory…), chosen by the file system: an integer from 1 to 2⁵³−1. The root is
 * {@link ROOT_NODE}. A number may be used again once the kernel has forgotten it, with another generation.
 */
export type NodeId = number;

/** The number of an open file or directory, chosen by the file system: an integer from 0 to 2⁵³−1. */
export type Handle = number;

/** The node of the root directory. */
export const ROOT_NODE: NodeId = 1;

/** How a file system sees names: text, or bytes. */
export type Name = string | Uint8Array;

/**
 * Who asks, and whether the answer is still wanted. It is one object per request slot, used again for later requests:
 * valid until the handler has answered.
 */
export interface Request {
  /** The user on whose behalf the kernel asks; 0 for what it does by itself, such as writing its cache back. */
  readonly uid: number;
  /** The group on whose behalf the kernel asks. */
  readonly gid: number;
  /** The process (its thread, to be exact) that asks; 0 where the kernel does not say. */
  readonly pid: number;
  /**
   * The process's umask, for `create`, `mknod` and `mkdir` (the mode they get has it applied already); otherwise 0.
   */
  readonly umask: number;
  /**
   * Aborts when nobody waits for the answer any more: the client was interrupted or killed, the time limit has
   * passed, or the file system was unmounted. Made when first asked for.
   */
  readonly signal: AbortSignal;
}

/**
 * What is known of a node. The `Stats` and `BigIntStats` of `uring/fs` and `node:fs` are such. What is left out is 0,
 * except where something else is said.
 */
export interface Attributes {
  /** Type and permissions: `S_IFREG | 0o644`. */
  readonly mode: number | bigint;
  /** The number that programs see as `st_ino`. Default: the node's. */
  readonly ino?: number | bigint;
  /** The size in bytes. */
  readonly size?: number | bigint;
  /** How many blocks of 512 bytes are allocated. Default: as many as the size needs. */
  readonly blocks?: number | bigint;
  /** The number of hard links. Default: 1. */
  readonly nlink?: number | bigint;
  /** The owner. */
  readonly uid?: number | bigint;
  /** The group. */
  readonly gid?: number | bigint;
  /** The device that a special file is. */
  readonly rdev?: number | bigint;
  /** The preferred size of a transfer in bytes. Default: 4096. */
  readonly blksize?: number | bigint;
  /** When it was last read, in milliseconds since 1970 (fractions count). */
  readonly atimeMs?: number | bigint;
  /** When its content last changed, likewise. */
  readonly mtimeMs?: number | bigint;
  /** When its metadata last changed, likewise. */
  readonly ctimeMs?: number | bigint;
  /** The same as {@link Attributes.atimeMs} in nanoseconds, which then counts. */
  readonly atimeNs?: bigint;
  /** The same as {@link Attributes.mtimeMs} in nanoseconds, which then counts. */
  readonly mtimeNs?: bigint;
  /** The same as {@link Attributes.ctimeMs} in nanoseconds, which then counts. */
  readonly ctimeNs?: bigint;
}

/**
 * A name that was found or made. Each one that is answered counts as one lookup of its node: see {@link
 * FileSystem.forget}.
 */
export interface Entry {
  /** The node that the name stands for. */
  readonly node: NodeId;
  /** Tells apart nodes that have had the same number. Default: 0. */
  readonly generation?: number;
  /** What is known of it. */
  readonly attributes: Attributes;
  /** For how many milliseconds the kernel may believe in the name. Default: {@link MountOptions.entryTimeout}. */
  readonly entryTimeout?: number;
  /** For how many milliseconds it may believe in the attributes. Default: {@link MountOptions.attributeTimeout}. */
  readonly attributeTimeout?: number;
}

/** An open file or directory, where its number alone does not say it. */
export interface Opened {
  /** Its number, which comes back with each use of it. */
  readonly handle: Handle;
  /** Reads and writes bypass the kernel's cache: each is a request (`FOPEN_DIRECT_IO`). */
  readonly directIo?: boolean;
  /** What the kernel has in its cache is still true (`FOPEN_KEEP_CACHE`); otherwise opening drops it. */
  readonly keepCache?: boolean;
  /** It cannot be sought in (`FOPEN_NONSEEKABLE`). */
  readonly nonSeekable?: boolean;
  /** What is read of a directory may be cached (`FOPEN_CACHE_DIR`, Linux 4.20). */
  readonly cacheDirectory?: boolean;
  /** Closing it asks for no {@link FileSystem.flush} (`FOPEN_NOFLUSH`, Linux 5.16). */
  readonly noFlush?: boolean;
  /** Writes to the file with `directIo` may run side by side (`FOPEN_PARALLEL_DIRECT_WRITES`, Linux 6.2). */
  readonly parallelDirectWrites?: boolean;
}

/** A file that was made and opened. */
export interface Created {
  /** Its name. */
  readonly entry: Entry;
  /** The open file. */
  readonly opened: Handle | Opened;
}

/** What is to change; what is `undefined` stays. */
export interface AttributeChanges {
  /** The permissions (and the type, which is the node's): `chmod`. */
  readonly mode: number | undefined;
  /** The owner: `chown`. */
  readonly uid: number | undefined;
  /** The group: `chown`. */
  readonly gid: number | undefined;
  /** The size in bytes: `truncate`. */
  readonly size: number | undefined;
  /**
   * When it was last read, in nanoseconds since 1970: `utimensat`. The current time where the client has said "now".
   */
  readonly atimeNs: bigint | undefined;
  /** When its content last changed, likewise. */
  readonly mtimeNs: bigint | undefined;
  /** When its metadata last changed, likewise; only with {@link MountOptions.writebackCache}. */
  readonly ctimeNs: bigint | undefined;
  /** Whether `atimeNs` is the current time because the client has said "now" (`UTIME_NOW`). */
  readonly atimeNow: boolean;
  /** Whether `mtimeNs` is the current time because the client has said "now". */
  readonly mtimeNow: boolean;
}

/** Where the entries of a directory go. Valid until the handler has answered. */
export interface DirectoryBuffer {
  /**
   * Adds a name, `.` and `..` among them where the file system has them. False when there is no room left: it was not
   * added, and the kernel asks again with the `next` of the last one that was.
   *
   * @param name The name.
   * @param ino The number that programs see as `d_ino`.
   * @param mode The type: that of `st_mode` (its permissions do not matter); 0 where it is not known.
   * @param next The position after this one, which the kernel will go on from: an integer from 1 to 2⁵³−1.
   */
  add(name: Name, ino: number | bigint, mode: number | bigint, next: number): boolean;
}

/** Where the entries of a directory go together with what is known of them. */
export interface DirectoryPlusBuffer extends DirectoryBuffer {
  /**
   * Adds a name with its node and attributes, which spares the kernel a lookup. It counts as one lookup of the node.
   * For `.` and `..`, use {@link DirectoryBuffer.add}, as for a name of which nothing else is known. False when there
   * is no room left.
   */
  addEntry(name: Name, entry: Entry, next: number): boolean;
}

/**
 * What is known of the file system as a whole: `statfs(2)`. What is left out is 0, except where something else is
 * said.
 */
export interface FileSystemStats {
  /** The size of a block in bytes. Default: 4096. */
  readonly bsize?: number | bigint;
  /** The unit of the numbers of blocks. Default: `bsize`. */
  readonly frsize?: number | bigint;
  /** How many blocks there are. */
  readonly blocks?: number | bigint;
  /** How many are free. */
  readonly bfree?: number | bigint;
  /** How many are free for ordinary users. */
  readonly bavail?: number | bigint;
  /** How many nodes there can be. */
  readonly files?: number | bigint;
  /** How many can still be made. */
  readonly ffree?: number | bigint;
  /** The longest name in bytes. Default: 255. */
  readonly namelen?: number | bigint;
}

/**
 * A file system: handlers for what the kernel asks. All but {@link FileSystem.getattr} may be missing: then the
 * client gets `ENOSYS`, or what is said at the handler. Each returns its result or a promise of it, and fails by
 * throwing (or rejecting with) anything that has an `errno` (`-2` or `2`) or a `code` (`"ENOENT"`): the errors of
 * `uring/fs` and `node:fs` reach the client as they are. Anything else is told to {@link MountOptions.onError} and
 * reaches the client as `EIO`.
 *
 * Requests come side by side: the handlers of one may run while those of others wait. Offsets, sizes and lengths are
 * in bytes and below 2⁵³ (a client that goes beyond gets `EFBIG` or `EINVAL`). A view that is handed to a handler
 * (`data`, `buffer`, `out`, `value`, names as bytes excepted) is valid until it has answered; its memory is used
 * again for another request.
 *
 * @typeParam N How names come: `string`, or `Uint8Array` with `names: "bytes"`.
 */
export interface FileSystem<N extends Name = string> {
  /**
   * Looks a name up in a directory. Null when there is none: the client gets `ENOENT`, and the kernel remembers it
   * for {@link MountOptions.negativeTimeout}. Missing: no directory has anything in it.
   */
  lookup?(parent: NodeId, name: N, request: Request): Answer<Entry | null>;
  /**
   * The kernel has forgotten a node: `count` of the lookups that were answered with it. When none is left and no name
   * stands for it, it can go. No answer is possible.
   */
  forget?(node: NodeId, count: number): void;
  /** What is known of a node: `stat`. `handle` is that of an open file through which it was asked. */
  getattr(node: NodeId, handle: Handle | undefined, request: Request): Answer<Attributes>;
  /** Changes attributes, and answers with all of them: `chmod`, `chown`, `truncate`, `utimensat`. */
  setattr?(
    node: NodeId,
    changes: AttributeChanges,
    handle: Handle | undefined,
    request: Request,
  ): Answer<Attributes>;
  /** What a symbolic link points to. */
  readlink?(node: NodeId, request: Request): Answer<Name>;
  /** Makes a symbolic link. */
  symlink?(parent: NodeId, name: N, target: N, request: Request): Answer<Entry>;
  /** Makes a node of any type but a directory; `rdev` is the device that a special file is. */
  mknod?(parent: NodeId, name: N, mode: number, rdev: number, request: Request): Answer<Entry>;
  /** Makes a directory; `mode` has the permissions. */
  mkdir?(parent: NodeId, name: N, mode: number, request: Request): Answer<Entry>;
  /** Removes a name that stands for anything but a directory. */
  unlink?(parent: NodeId, name: N, request: Request): Answer<void>;
  /** Removes a directory, which must be empty (`ENOTEMPTY`). */
  rmdir?(parent: NodeId, name: N, request: Request): Answer<void>;
  /**
   * Renames; what `newName` stood for goes. `flags`: `RENAME_NOREPLACE` (1, `EEXIST` where there is one),
   * `RENAME_EXCHANGE` (2), 0 for none; `EINVAL` for those that are not known.
   */
  rename?(
    parent: NodeId,
    name: N,
    newParent: NodeId,
    newName: N,
    flags: number,
    request: Request,
  ): Answer<void>;
  /** Gives a node a further name. */
  link?(node: NodeId, newParent: NodeId, newName: N, request: Request): Answer<Entry>;
  /**
   * Makes a file and opens it, both at once. `flags` are `O_*`; with `O_EXCL` there may not be one of that name.
   * Missing: the kernel uses {@link FileSystem.mknod} and {@link FileSystem.open}.
   */
  create?(parent: NodeId, name: N, mode: number, flags: number, request: Request): Answer<Created>;
  /** Makes a file without a name and opens it: `O_TMPFILE`, Linux 6.2. */
  tmpfile?(parent: NodeId, mode: number, flags: number, request: Request): Answer<Created>;
  /**
   * Opens a file. `flags` are `O_*` without `O_CREAT` and `O_EXCL`; with `O_TRUNC` it is emptied (the kernel asks for
   * that with {@link FileSystem.setattr} instead unless `atomicTruncate` is set). Missing: files need no opening, and
   * are used with handle 0; nothing is asked when one is closed, and the kernel's cache is kept.
   */
  open?(node: NodeId, flags: number, request: Request): Answer<Handle | Opened>;
  /**
   * Reads from `offset` on into `buffer`, which has the length that is wanted, and answers with how many bytes there
   * were: fewer only at the file's end.
   */
  read?(
    node: NodeId,
    handle: Handle,
    buffer: Uint8Array,
    offset: number,
    request: Request,
  ): Answer<number>;
  /** Writes `data` at `offset` and answers with how many bytes it took; fewer than all only where no more fit. */
  write?(node: NodeId, handle: Handle, data: Uint8Array, offset: number, request: Request): Answer<number>;
  /** A descriptor of an open file was closed; others may be open. What fails here fails `close(2)`. */
  flush?(node: NodeId, handle: Handle, request: Request): Answer<void>;
  /** An open file is open no more: each {@link FileSystem.open} and {@link FileSystem.create} ends with one. */
  release?(node: NodeId, handle: Handle, request: Request): Answer<void>;
  /** Makes what was written last; with `dataOnly`, as `fdatasync` does. */
  fsync?(node: NodeId, handle: Handle, dataOnly: boolean, request: Request): Answer<void>;
  /** Opens a directory. Missing: directories need no opening, and are read with handle 0. */
  opendir?(node: NodeId, flags: number, request: Request): Answer<Handle | Opened>;
  /**
   * Adds the entries of a directory from position `offset` on (0: the first) to `out`, until it is full or there are
   * no more. None at all says that the end is reached. An entry that stays in the directory keeps its position while
   * others come and go.
   */
  readdir?(
    node: NodeId,
    handle: Handle,
    offset: number,
    out: DirectoryBuffer,
    request: Request,
  ): Answer<void>;
  /** The same with nodes and attributes, for `ls -l`. Missing: the kernel looks each name up. */
  readdirplus?(
    node: NodeId,
    handle: Handle,
    offset: number,
    out: DirectoryPlusBuffer,
    request: Request,
  ): Answer<void>;
  /** An open directory is open no more. */
  releasedir?(node: NodeId, handle: Handle, request: Request): Answer<void>;
  /** {@link FileSystem.fsync} of a directory. */
  fsyncdir?(node: NodeId, handle: Handle, dataOnly: boolean, request: Request): Answer<void>;
  /** What is known of the file system as a whole. Missing: nothing but zeros. */
  statfs?(node: NodeId, request: Request): Answer<FileSystemStats>;
  /** Sets an extended attribute; `flags`: `XATTR_CREATE` (1, `EEXIST`), `XATTR_REPLACE` (2, `ENODATA`). */
  setxattr?(node: NodeId, name: N, value: Uint8Array, flags: number, request: Request): Answer<void>;
  /** An extended attribute's value; null when there is none of that name (`ENODATA`). */
  getxattr?(node: NodeId, name: N, request: Request): Answer<Uint8Array | null>;
  /** The names of the extended attributes. */
  listxattr?(node: NodeId, request: Request): Answer<Iterable<Name>>;
  /** Removes an extended attribute (`ENODATA` when there is none). */
  removexattr?(node: NodeId, name: N, request: Request): Answer<void>;
  /** Throws unless the user may do what `mask` (`R_OK`, `W_OK`, `X_OK`) says. Not asked with `defaultPermissions`. */
  access?(node: NodeId, mask: number, request: Request): Answer<void>;
  /** Allocates space, or takes it away (`FALLOC_FL_*` in `mode`). */
  fallocate?(
    node: NodeId,
    handle: Handle,
    offset: number,
    length: number,
    mode: number,
    request: Request,
  ): Answer<void>;
  /** Finds data or a hole: `SEEK_DATA` (3) and `SEEK_HOLE` (4), from `offset` on (`ENXIO` behind the end). */
  lseek?(node: NodeId, handle: Handle, offset: number, whence: number, request: Request): Answer<number>;
  /** Copies from one open file to another and answers with how many bytes. Missing: the kernel reads and writes. */
  copyFileRange?(
    from: FileRange,
    to: FileRange,
    length: number,
    flags: number,
    request: Request,
  ): Answer<number>;
  /**
   * The file system is mounted no more, and nobody has it open: the last thing that is asked. What is still open is
   * not released one by one where the connection was cut.
   */
  destroy?(): Answer<void>;
}

/** A place in an open file. */
export interface FileRange {
  /** The file. */
  readonly node: NodeId;
  /** The open file. */
  readonly handle: Handle;
  /** The place. */
  readonly offset: number;
}
