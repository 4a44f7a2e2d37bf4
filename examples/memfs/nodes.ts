/** Files, directories and links in memory. */
import type { Attributes, NodeId } from "uring/fuse";
import type { Content } from "./content.ts";

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const S_ISGID = 0o2000;

const NS_PER_US = 1000n;
const US_PER_MS = 1000;

/** Now, in nanoseconds since 1970. */
export function now(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * US_PER_MS)) * NS_PER_US;
}

/** An error as the client gets it. */
export function failure(code: string): Error {
  return Object.assign(new Error(code), { code });
}

/** A place in a directory. */
export interface Place {
  node: Node;
  /** Where it is in a listing: what comes later has a higher one, also when it is another's name by then. */
  readonly position: number;
}

/** The first two positions are those of `.` and `..`. */
const FIRST_POSITION = 3;

/** The names in a directory. */
export class Directory {
  readonly #places = new Map<string, Place>();
  #next = FIRST_POSITION;
  /** Where the last listing stopped: the next part of it goes on from there. */
  #cursor: { after: number; held: [string, Place] | null; rest: Iterator<[string, Place]> } | null = null;
  /** The directory that it is in. */
  parent: Node | null = null;

  get empty(): boolean {
    return this.#places.size === 0;
  }

  get(name: string): Node | undefined {
    return this.#places.get(name)?.node;
  }

  /** Adds a name, or has it stand for another node. */
  set(name: string, node: Node): void {
    // Taken out first: the order of the map is that of the positions.
    this.#places.delete(name);
    this.#places.set(name, { node, position: this.#next++ });
  }

  delete(name: string): void {
    this.#places.delete(name);
  }

  /** Names whose positions are above `after`, until `visit` says that there is no room. */
  list(after: number, visit: (name: string, node: Node, position: number) => boolean): void {
    const { held, rest } = this.#cursor?.after === after
      ? this.#cursor
      : { held: null, rest: this.#places.entries() };
    this.#cursor = null;
    let last = after;
    // One that did not fit has been taken from the iterator. It may be gone by now.
    const again = held !== null && this.#places.get(held[0]) === held[1] ? held : null;
    for (let entry = again ?? nextOf(rest); entry !== null; entry = nextOf(rest)) {
      const [name, { node, position }] = entry;
      if (position <= after) continue;
      if (!visit(name, node, position)) {
        this.#cursor = { after: last, held: entry, rest };
        return;
      }
      last = position;
    }
  }
}

function nextOf(rest: Iterator<[string, Place]>): [string, Place] | null {
  const { done, value } = rest.next();
  return done === true ? null : value;
}

/** What a node is. */
export interface NodeKind {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev?: number;
  readonly content?: Content;
  readonly entries?: Directory;
  readonly target?: string;
}

/** A file, directory, link or special file. */
export class Node implements Attributes {
  readonly id: NodeId;
  mode: number;
  uid: number;
  gid: number;
  nlink = 1;
  readonly rdev: number;
  atimeNs: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
  /** How many lookups the kernel has not forgotten. */
  lookups = 0;
  readonly content: Content | null;
  readonly entries: Directory | null;
  readonly target: string | null;
  attributes: Map<string, Uint8Array> | null = null;

  constructor(id: NodeId, kind: NodeKind) {
    this.id = id;
    this.mode = kind.mode;
    this.uid = kind.uid;
    this.gid = kind.gid;
    this.rdev = kind.rdev ?? 0;
    this.content = kind.content ?? null;
    this.entries = kind.entries ?? null;
    this.target = kind.target ?? null;
    if (this.entries !== null) this.nlink = 2;
    this.atimeNs = this.mtimeNs = this.ctimeNs = now();
  }

  get ino(): number {
    return this.id;
  }

  get size(): number {
    return this.content?.size ?? this.target?.length ?? 0;
  }

  get blocks(): number {
    return this.content?.blocks ?? 0;
  }

  /** Its content has changed. */
  modified(): void {
    this.mtimeNs = this.ctimeNs = now();
  }

  /** Its metadata has changed. */
  changed(): void {
    this.ctimeNs = now();
  }
}
