/**
 * What a disk is made of, as its maker sees it.
 *
 * @module
 */

/** What a client of the disk asks for. */
export type RequestKind = "read" | "write" | "flush" | "discard" | "writeZeroes";

/** A file to transfer from or to: a descriptor, or an object that has one, such as a `FileHandle` of `uring/fs`. */
export type FileLike = number | { readonly fd: number };

/**
 * A request of the kernel's for a part of the disk. It belongs to the handler until that has ended; then the object serves
 * another request. Offsets and lengths are bytes, whole blocks of the disk, and lie within it.
 */
export interface DiskRequest {
  /** What is asked for. */
  readonly kind: RequestKind;
  /** Where on the disk it begins; 0 for a flush. */
  readonly offset: number;
  /** How much of the disk it is about; 0 for a flush. */
  readonly length: number;
  /** A write that must be durable before it ends. Only disks with the option `fua` are asked for that. */
  readonly fua: boolean;
  /** Whether the blocks of a `writeZeroes` may be given up, as by a discard, if they read as zeros afterwards. */
  readonly mayUnmap: boolean;
  /** The queue that the request came by. */
  readonly queue: number;
  /** The request's place in its queue, which no other has at the same time. */
  readonly tag: number;
  /**
   * The memory of a read, to be filled by the handler, or of a write, to be taken from it: {@link DiskRequest.length} bytes
   * that do not move. What a read's handler does not fill is what an earlier request of this disk has left there.
   *
   * @throws TypeError for a request that has no data or that has ended, and on a disk without copies (`zeroCopy`): use
   * {@link DiskRequest.transfer} or {@link DiskRequest.copy} there.
   */
  readonly data: Uint8Array;
  /** Aborts when the request has taken longer than the disk's `timeout`, and its client was told that it failed. */
  readonly signal: AbortSignal;
  /**
   * Reads the whole of the request from a file, or writes it to one, by the disk's own ring. On a disk with `zeroCopy` the
   * data goes between the file and the pages of whoever asked, with no copy in between. Several at once are allowed: a
   * mirror writes to two files.
   *
   * @param file Where to. It must stay open until the promise has settled.
   * @param position Where in the file, in bytes. Default: the request's {@link DiskRequest.offset}.
   * @returns Resolves when all of it was transferred.
   * @throws TypeError for a request without data or that has ended, RangeError for a descriptor or position that cannot be.
   * Rejects with `UringError`: what the file says, `EIO` where it ends before the request does.
   */
  transfer(file: FileLike, position?: number): Promise<void>;
  /**
   * Copies between the request and memory: into `memory` what is written to the disk, out of it what is read. Needed only
   * with `zeroCopy`, where there is no {@link DiskRequest.data}, but possible always.
   *
   * @param memory All of it is filled, or taken.
   * @param at Where in the request, in bytes. Default: 0.
   * @throws RangeError when that is not within the request, TypeError as in {@link DiskRequest.transfer}, `UringError`
   * `EOPNOTSUPP` on a disk without copies that another server made without `UBLK_F_USER_COPY`.
   */
  copy(memory: Uint8Array, at?: number): void;
}

/**
 * Does what is asked for. The request has ended when it returns, or, where it returns a promise, when that settles. What it
 * throws or rejects with makes the request fail: with the errno of a `UringError` or of another system error (`code`),
 * otherwise with `EIO`. It is told to the disk's `onError`.
 */
export type DiskHandler = (request: DiskRequest) => void | PromiseLike<unknown>;

/** How a disk does what its clients ask for. Called on the thread that serves the disk, in no particular order. */
export interface DiskHandlers {
  /** Fills the request's memory. */
  readonly read: DiskHandler;
  /** Takes what is written. Without it the disk is read-only. */
  readonly write?: DiskHandler | undefined;
  /**
   * Makes durable every write that has ended before. With it the disk counts as having a volatile cache; without it every
   * write must be durable when it ends, as far as the disk is to be.
   */
  readonly flush?: DiskHandler | undefined;
  /** Forgets a part of the disk. Without it clients are told that the disk cannot. */
  readonly discard?: DiskHandler | undefined;
  /** Writes zeros. Without it the kernel writes them by itself. */
  readonly writeZeroes?: DiskHandler | undefined;
}

/**
 * What becomes of a disk whose server has died, until `recoverDisk` gives it another.
 *
 * - `"reissue"`: everything waits, and what was being served is given to the next server again. It may have been done
 *   already: a handler must not mind doing the same twice.
 * - `"wait"`: what was being served fails; everything new waits.
 * - `"fail"`: everything fails until there is a server (Linux 6.13).
 */
export type Recovery = "reissue" | "wait" | "fail";

/** How a disk is served. */
export interface ServeOptions {
  /**
   * Milliseconds that a handler may take. A request that takes longer fails with `ETIMEDOUT`, so that its client does not
   * wait for ever; its memory is left to the handler. Default: 30,000. A handler that blocks the whole thread is out of
   * reach: only the end of the process helps its clients.
   */
  readonly timeout?: number;
  /**
   * Is told of every request that failed, with what its handler has thrown, and of failures of the disk itself, with no
   * request. Default: `console.error`.
   */
  readonly onError?: (error: unknown, request: DiskRequest | null) => void;
}

/** What a disk is. */
export interface DiskOptions extends ServeOptions {
  /** Its size in bytes: at least one block, a multiple of {@link DiskOptions.blockSize}. */
  readonly size: number;
  /** The least that can be read or written: 512 (the default), 1024, 2048 or 4096 bytes. */
  readonly blockSize?: number;
  /** What is best written at once in bytes, a power of two from `blockSize` to 1 MiB. Default: 4096. */
  readonly physicalBlockSize?: number;
  /**
   * How many queues the kernel spreads requests over, at most as many as it has processors for. All of them are served by
   * this thread, so that more than one is rarely worth it. Default: 1.
   */
  readonly queues?: number;
  /** How many requests a queue has under way at the most: 1 to 4096. Default: 128. */
  readonly depth?: number;
  /**
   * The most bytes of one request: a multiple of the page size up to 32 MiB. Default: 512 KiB. Without `zeroCopy` every
   * place in a queue has as much memory, which is taken when it is first needed.
   */
  readonly maxRequest?: number;
  /** The number of the device, the N of `/dev/ublkbN`. Default: the first that is free. */
  readonly id?: number;
  /** Whether it is on rotating media, so that schedulers sort. Default: false. */
  readonly rotational?: boolean;
  /** Whether the handlers heed {@link DiskRequest.fua}. Otherwise the kernel flushes after such a write. Default: false. */
  readonly fua?: boolean;
  /**
   * Whether data goes by {@link DiskRequest.transfer} and {@link DiskRequest.copy} only, without being copied into memory of
   * this program. The pages of a request are registered with the disk's ring, by the kernel itself (Linux 6.16) or, where it
   * cannot or with `"commands"`, by a command for each request (Linux 6.15). Default: false.
   */
  readonly zeroCopy?: boolean | "commands";
  /** Whether the disk outlives its server. Default: it goes with it, and what is under way fails. */
  readonly recovery?: Recovery;
}

/** How a disk gets another server. */
export interface RecoverOptions extends ServeOptions {
  /** Milliseconds to wait for the end of the former server, which takes a moment after its process. Default: 5000. */
  readonly wait?: number;
}

/** How a disk is stopped. */
export interface StopOptions {
  /** Milliseconds that requests under way may take to end; then they fail. Default: 5000, or the disk's `timeout`. */
  readonly timeout?: number;
  /** Only when nobody has it open: otherwise `EBUSY`, and it goes on (Linux 7.0). Default: false. */
  readonly ifUnused?: boolean;
}

/** Whether a device is served. `"dead"`: not yet or no more; `"quiesced"` and `"failing"`: it waits for `recoverDisk`. */
export type DiskState = "dead" | "live" | "quiesced" | "failing";

/** What the kernel knows of a ublk device. */
export interface DiskInfo {
  /** Its number. */
  readonly id: number;
  /** Its path: `/dev/ublkbN`. */
  readonly path: string;
  /** Whether it is served. */
  readonly state: DiskState;
  /** Its size in bytes. */
  readonly size: number;
  /** The least that can be read or written, in bytes. */
  readonly blockSize: number;
  /** How many queues it has. */
  readonly queues: number;
  /** How many requests a queue has under way at the most. */
  readonly depth: number;
  /** The most bytes of one request. */
  readonly maxRequest: number;
  /** What becomes of it when its server dies; null when it goes with it. */
  readonly recovery: Recovery | null;
  /** Whether its data is not copied. */
  readonly zeroCopy: boolean;
  /** The process that serves it, or null. */
  readonly pid: number | null;
}

/** What the kernel's driver can do. */
export interface UblkFeatures {
  /** `UBLK_F_*` bits. */
  readonly bits: number;
  /** Disks whose data is not copied: `zeroCopy` (Linux 6.15). */
  readonly zeroCopy: boolean;
  /** The kernel registers a request's pages by itself (Linux 6.16). */
  readonly autoBuffers: boolean;
  /** `request.copy` on disks with `zeroCopy` (Linux 6.5). */
  readonly userCopy: boolean;
  /** Disks that outlive their server: `recovery` (Linux 6.1), and `"fail"` (Linux 6.13). */
  readonly recovery: readonly Recovery[];
  /** `disk.resize` (Linux 6.16). */
  readonly resize: boolean;
  /** `disk.detach` tells the kernel beforehand, so that nothing is served twice (Linux 6.16). */
  readonly quiesce: boolean;
  /** `disk.stop({ ifUnused: true })` (Linux 7.0). */
  readonly stopUnused: boolean;
}

/** Counters of a disk. */
export interface DiskStats {
  /** How many requests have ended. */
  readonly requests: number;
  /** How many of them failed. */
  readonly failed: number;
  /** How many of these because they took too long. */
  readonly timedOut: number;
  /** How many are being served. */
  readonly pending: number;
}
