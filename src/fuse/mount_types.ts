/**
 * How file systems are mounted, and what comes of it.
 *
 * @module
 */
import type { Name, NodeId } from "./types.ts";

/**
 * How requests come.
 *
 * - `"uring"`: FUSE over io_uring (Linux 6.14, with `fuse.enable_uring`): they lie in shared memory when the
 *   completion arrives, and an answer and the next request take one system call.
 * - `"classic"`: one `read(2)` and one `write(2)` of `/dev/fuse` each.
 */
export type Transport = "uring" | "classic";

/** What a failure was about, for {@link MountOptions.onError}. */
export interface Failure {
  /** The handler's name: `"read"`. */
  readonly operation: string;
  /** The node that it was asked about. */
  readonly node: NodeId;
}

/** How a file system is mounted. */
export interface MountOptions {
  /**
   * How requests come. Default: `"uring"` where it can be had, otherwise `"classic"`; one that is asked for is used,
   * or mounting fails.
   */
  transport?: Transport;
  /**
   * How names come: `"utf8"` as text (a client that uses a name that is no UTF-8 gets `EILSEQ`), `"latin1"` as text
   * with a character per byte, which loses nothing, or `"bytes"`. Text that handlers return is taken likewise.
   * Default: `"utf8"`.
   */
  names?: "utf8" | "latin1" | "bytes";
  /**
   * Other users may use it, too. Default: false: only the user that has mounted it, not even root if that is another.
   */
  allowOther?: boolean;
  /** The kernel checks permissions by owner, group and mode, and asks no `access`. Default: false. */
  defaultPermissions?: boolean;
  /** Nothing can be changed. Default: false. */
  readOnly?: boolean;
  /** What `/proc/mounts` shows as the source. Default: `"uring"`. */
  source?: string;
  /** The type of file system, shown as `fuse.…`. Default: none. */
  subtype?: string;
  /** For how many milliseconds the kernel may believe in a name. Default: 1000. */
  entryTimeout?: number;
  /** For how many milliseconds the kernel may believe in attributes. Default: 1000. */
  attributeTimeout?: number;
  /** For how many milliseconds the kernel may believe that a name is not there. Default: 0. */
  negativeTimeout?: number;
  /**
   * Writes go into the kernel's cache and come later, in large pieces (`FUSE_WRITEBACK_CACHE`, Linux 3.15). The
   * kernel then knows size and times better than the file system until it has written back. Default: false.
   */
  writebackCache?: boolean;
  /** How far the kernel reads ahead, in bytes, at most. Default: what the kernel offers, 128 KiB. */
  maxReadahead?: number;
  /**
   * The largest write, and read, in bytes: from 4096 to 1 MiB, a multiple of 4096. Default: 1 MiB with `"uring"` on
   * few cores, otherwise less.
   */
  maxWrite?: number;
  /** How many requests each core's queue holds at a time (`"uring"`), from 1 to 256. Default: 8. */
  queueDepth?: number;
  /** How many requests that nobody waits for (read-ahead, write-back) may be there at a time. Default: 64. */
  maxBackground?: number;
  /** What symbolic links point to may be cached (Linux 4.20). Default: false. */
  cacheSymlinks?: boolean;
  /** Opening with `O_TRUNC` empties the file: see `open` of the file system. Default: false. */
  atomicTruncate?: boolean;
  /** Programs may use the file system's programs set-user-ID. Default: false. */
  suid?: boolean;
  /** Special files of the file system can be opened. Default: false. */
  dev?: boolean;
  /**
   * After how many milliseconds without an answer the client gets `ETIMEDOUT`; what the handler answers later is
   * dropped (and released or forgotten, as it may be). A program that does not even get that far is cut off by the
   * kernel a little later (Linux 6.15): clients get `ECONNABORTED`. 0: never. Default: 60,000.
   */
  requestTimeout?: number;
  /**
   * Told of what handlers throw that is no system error, and of answers that make no sense, which reach the client as
   * `EIO`. Default: written to the standard error stream.
   */
  onError?: (error: unknown, failure: Failure) => void;
  /**
   * Unmounts when the process exits. Default: true. A process that is killed leaves the mount point behind, for the
   * next `mount` to clear up.
   */
  unmountOnExit?: boolean;
}

/** How {@link Mount.unmount} goes about it. */
export interface UnmountOptions {
  /**
   * For how many milliseconds files may still be in use, requests be answered and the kernel write its cache back;
   * afterwards whoever still waits gets an error (`ECONNABORTED`). Default: 5000.
   */
  timeout?: number;
}

/** Numbers, for curiosity and tests. */
export interface MountStats {
  /** How many requests have come, those that need no answer included. */
  readonly requests: number;
  /** How many handlers have not answered yet. */
  readonly inFlight: number;
  /** How many handlers were not done in time. */
  readonly timedOut: number;
  /** How many requests were interrupted by their client. */
  readonly interrupted: number;
}

/** A mounted file system. */
export interface Mount extends AsyncDisposable {
  /** Where it is. */
  readonly mountpoint: string;
  /** How requests come. */
  readonly transport: Transport;
  /** The largest write (and read) in bytes. */
  readonly maxWrite: number;
  /** Counters. */
  readonly stats: MountStats;
  /**
   * Resolves when it is mounted no more and nothing is left of it: after {@link Mount.unmount}, after `umount` by
   * somebody else, or after the kernel has cut the connection. Never rejects.
   */
  readonly finished: Promise<void>;
  /**
   * Unmounts: nobody can get at it by its path any more at once; files that are open are served for a while. Resolves
   * when nothing is left of it; no client is left waiting.
   */
  unmount(options?: UnmountOptions): Promise<void>;
  /**
   * Has the kernel drop what it has cached of a file: attributes and, from `offset` on, `length` bytes of content (0:
   * to its end). A negative `offset`: attributes alone. For file systems whose files change behind the kernel's back.
   */
  invalidate(node: NodeId, offset?: number, length?: number): Promise<void>;
  /** Has the kernel drop what it knows of a name. */
  invalidateEntry(parent: NodeId, name: Name): Promise<void>;
  /** Unmounts with the default options. */
  [Symbol.asyncDispose](): Promise<void>;
}
