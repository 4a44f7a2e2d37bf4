/**
 * The files of a directory: small ones are kept in memory as whole responses, of others a descriptor is handed out. What is
 * in memory is looked at again after half a second: a file that was changed, replaced or removed is noticed by then.
 */
import { type Statx, Uring, UringError } from "uring";
import { AT_EMPTY_PATH, O_DIRECTORY, O_NONBLOCK, O_PATH, O_RDONLY, RESOLVE_BENEATH } from "uring/ring";
import type { Requests } from "./request.ts";
import { date, fileHead, type Meta, typeOf } from "./response.ts";

const SMALL = 64 * 1024;
const MAX_CACHED = 64 * 1024 * 1024;
const FRESH_MS = 500;
const DATE_AT = "HTTP/1.1 200 OK\r\nDate: ".length;
const DATE_LENGTH = 29;

const encoder = new TextEncoder();

/** A small file as the response to an ordinary request. */
export class Cached {
  readonly target: Uint8Array;
  readonly path: string;
  readonly meta: Meta;
  readonly identity: string;
  /** Head and body. */
  readonly whole: Uint8Array;
  readonly head: Uint8Array;
  readonly body: Uint8Array;
  /** When it was last looked at, in milliseconds since 1970. */
  checked: number;
  #dated: number;

  constructor(target: string, path: string, meta: Meta, identity: string, body: Uint8Array, now: number) {
    this.target = encoder.encode(target);
    this.path = path;
    this.meta = meta;
    this.identity = identity;
    const head = encoder.encode(fileHead(meta, { status: 200, start: 0, end: meta.size }, now, true));
    this.whole = new Uint8Array(head.length + body.length);
    this.whole.set(head);
    this.whole.set(body, head.length);
    this.head = this.whole.subarray(0, head.length);
    this.body = this.whole.subarray(head.length);
    this.checked = now;
    this.#dated = Math.floor(now / 1000);
  }

  /** Puts the time into the head. */
  touch(now: number): void {
    const second = Math.floor(now / 1000);
    if (second === this.#dated) return;
    this.#dated = second;
    encoder.encodeInto(date(now), this.whole.subarray(DATE_AT, DATE_AT + DATE_LENGTH));
  }
}

/** A file that is not in memory. Its descriptor is the caller's to close. */
export interface Opened {
  readonly fd: number;
  readonly meta: Meta;
}

/** What a target stands for; a number is the status of the failure, text is where to look instead. */
export type Found = Cached | Opened | number | string;

/** What changes when a file does. */
function identityOf(stat: Statx): string {
  return `${stat.dev.join(":")} ${stat.ino} ${stat.size} ${stat.mtimeNs} ${stat.ctimeNs}`;
}

function metaOf(path: string, stat: Statx): Meta {
  const modified = Math.floor(stat.mtimeMs / 1000);
  return {
    size: stat.size,
    modified,
    lastModified: new Date(modified * 1000).toUTCString(),
    etag: `"${stat.mtimeNs.toString(36)}-${stat.size.toString(36)}"`,
    type: typeOf(path),
  };
}

/** The path that a target names, relative to the directory; null if it can name none. */
export function pathOf(target: string): string | null {
  if (!target.startsWith("/")) return null;
  let path: string;
  try {
    path = decodeURIComponent(target.replace(/[?#].*$/s, ""));
  } catch {
    return null;
  }
  if (path.includes("\0")) return null;
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  // The kernel would refuse what leads out of the directory; what leads around in it is no use either.
  if (parts.includes("..")) return null;
  return parts.join("/") + (path.endsWith("/") ? parts.length > 0 ? "/index.html" : "index.html" : "");
}

/** The files of a directory. */
export class Files implements AsyncDisposable {
  readonly #directory: number;
  readonly #cache = new Map<number, Cached>();
  #bytes = 0;

  private constructor(directory: number) {
    this.#directory = directory;
  }

  static async of(directory: string): Promise<Files> {
    return new Files(await Uring.shared.openat(directory, { flags: O_PATH | O_DIRECTORY }));
  }

  /** The file that a request is for, if it is in memory and was looked at not long ago. */
  fresh(request: Requests, now: number): Cached | null {
    const found = this.#cache.get(request.targetHash);
    if (found === undefined || now - found.checked >= FRESH_MS || !request.isFor(found.target)) return null;
    return found;
  }

  /** The file that a target names. */
  async find(target: string, hash: number): Promise<Found> {
    const path = pathOf(target);
    if (path === null) return 400;
    try {
      const known = this.#cache.get(hash);
      if (known !== undefined && known.path === path) {
        if (await this.#holds(known)) return known;
        this.#forget(hash);
      }
      return await this.#open(target, hash, path);
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      // EXDEV: a link that leads out of the directory.
      if (["ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG", "EXDEV"].includes(error.code)) return 404;
      if (error.code === "EACCES") return 403;
      throw error;
    }
  }

  async #holds(known: Cached): Promise<boolean> {
    const stat = await Uring.shared.statx(known.path, { dirfd: this.#directory });
    if (identityOf(stat) !== known.identity) return false;
    known.checked = Date.now();
    return true;
  }

  async #open(target: string, hash: number, path: string): Promise<Found> {
    const uring = Uring.shared;
    // Without O_NONBLOCK, opening a named pipe would wait for its writer.
    const flags = O_RDONLY | O_NONBLOCK;
    const fd = await uring.openat2(path, { dirfd: this.#directory, flags, resolve: RESOLVE_BENEATH });
    let kept = false;
    try {
      const stat = await uring.statx("", { dirfd: fd, flags: AT_EMPTY_PATH });
      if (stat.isDirectory()) return `${target.replace(/[?#].*$/s, "")}/`;
      if (!stat.isFile()) return 403;
      const meta = metaOf(path, stat);
      kept = meta.size > SMALL;
      return kept ? { fd, meta } : await this.#keep(target, hash, path, meta, stat, fd);
    } finally {
      if (!kept) await uring.close(fd);
    }
  }

  async #keep(
    target: string,
    hash: number,
    path: string,
    meta: Meta,
    stat: Statx,
    fd: number,
  ): Promise<Cached | number> {
    const body = new Uint8Array(meta.size);
    for (let at = 0; at < body.length;) {
      const count = await Uring.shared.read(fd, body.subarray(at), { offset: at });
      // It has become shorter since.
      if (count === 0) return 500;
      at += count;
    }
    const cached = new Cached(target, path, meta, identityOf(stat), body, Date.now());
    this.#forget(hash);
    this.#cache.set(hash, cached);
    this.#bytes += cached.whole.length;
    // The oldest ones go first.
    for (const oldest of this.#cache.keys()) {
      if (this.#bytes <= MAX_CACHED) break;
      this.#forget(oldest);
    }
    return cached;
  }

  #forget(hash: number): void {
    const known = this.#cache.get(hash);
    if (known === undefined) return;
    this.#cache.delete(hash);
    this.#bytes -= known.whole.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Uring.shared.close(this.#directory);
  }
}
