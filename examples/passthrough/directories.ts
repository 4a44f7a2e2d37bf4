/** Open directories of a file system that keeps its files elsewhere. */
import { Uring } from "uring";
import { backing, type DirectoryBuffer, type DirectoryPlusBuffer, type Entry } from "uring/fuse";
import { type Node, NODE_FLAGS, type Nodes } from "./nodes.ts";

const EAGAIN = -11;
const ENOENT = -2;
/** How many entries are looked up before any is told. */
const AHEAD = 64;

/**
 * An open directory. What the file system below calls a position may have 64 bits, and be good for this descriptor only: the
 * entries are numbered as they come, and kept, so that any of them can be gone back to.
 */
export class Directory {
  readonly node: Node;
  readonly #fd: number;
  #entries: backing.BackingEntry[] = [];
  #ended = false;

  constructor(node: Node, fd: number) {
    this.node = node;
    this.#fd = fd;
  }

  get fd(): number {
    return this.#fd;
  }

  /** The entry at a position; undefined at the end. */
  at(position: number): backing.BackingEntry | undefined {
    while (position >= this.#entries.length && !this.#ended) {
      const more = backing.nextEntries(this.#fd);
      if (more.length === 0) this.#ended = true;
      else if (this.#entries.length === 0) this.#entries = more;
      else this.#entries.push(...more);
    }
    return this.#entries[position];
  }

  /** Begins anew: who reads from the first entry on wants to see what there is now. */
  rewind(): void {
    if (this.#entries.length === 0 && !this.#ended) return;
    this.#entries = [];
    this.#ended = false;
    backing.rewind(this.#fd);
  }

  /** Tells names from a position on. */
  list(position: number, out: DirectoryBuffer): void {
    if (position === 0) this.rewind();
    for (let next = position;; next++) {
      const entry = this.at(next);
      if (entry === undefined || !out.add(entry.name, entry.ino, entry.mode, next + 1)) return;
    }
  }

  close(): void {
    backing.close(this.#fd);
  }
}

/** Looks a name up without waiting, or by the ring where that takes a disk; null when there is none. */
export function lookUp(
  nodes: Nodes,
  parent: Node,
  name: Uint8Array,
): Entry | null | Promise<Entry | null> {
  const fd = backing.openCached(parent.fd, name, NODE_FLAGS);
  if (fd >= 0) return nodes.enter(fd);
  if (fd === ENOENT) return null;
  if (fd === EAGAIN) return nodes.use([parent], () => lookUpSlowly(nodes, parent, name));
  throw Object.assign(new Error("lookup"), { errno: fd });
}

async function lookUpSlowly(
  nodes: Nodes,
  parent: Node,
  name: Uint8Array,
): Promise<Entry | null> {
  try {
    return nodes.enter(await Uring.shared.openat(name, { dirfd: parent.fd, flags: NODE_FLAGS }));
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return null;
    throw error;
  }
}

/** Tells names together with what is known of the files. */
export function listAll(
  nodes: Nodes,
  directory: Directory,
  position: number,
  out: DirectoryPlusBuffer,
): void | Promise<void> {
  if (position === 0) directory.rewind();
  for (let next = position;; next++) {
    const entry = directory.at(next);
    if (entry === undefined) return;
    const found = quickly(nodes, directory.node, entry);
    // The rest of what fits is looked up side by side.
    if (found === undefined) return listSlowly(nodes, directory, next, out);
    if (found !== null && !tell(nodes, entry, found, next, out)) return;
  }
}

/** An entry of what is in memory; null when it has gone, undefined when that takes longer. */
function quickly(
  nodes: Nodes,
  parent: Node,
  entry: backing.BackingEntry,
): Entry | null | undefined {
  if (nodes.knows(parent.device, entry.ino)) {
    const about = backing.statAt(parent.fd, entry.name);
    const known = about === null ? null : nodes.enterKnown(about);
    if (known !== null || about === null) return known;
  }
  const fd = backing.openCached(parent.fd, entry.name, NODE_FLAGS);
  if (fd >= 0) return nodes.enter(fd);
  return fd === ENOENT ? null : undefined;
}

/** False when there was no room. */
function tell(
  nodes: Nodes,
  entry: backing.BackingEntry,
  found: Entry,
  position: number,
  out: DirectoryPlusBuffer,
): boolean {
  if (out.addEntry(entry.name, found, position + 1)) return true;
  // It was not told, so it does not count.
  nodes.forget(found.node, 1);
  return false;
}

async function listSlowly(
  nodes: Nodes,
  directory: Directory,
  position: number,
  out: DirectoryPlusBuffer,
): Promise<void> {
  const { node: parent } = directory;
  await nodes.use([parent], async () => {
    for (let from = position;; from += AHEAD) {
      const some: backing.BackingEntry[] = [];
      for (let i = 0; i < AHEAD; i++) {
        const entry = directory.at(from + i);
        if (entry !== undefined) some.push(entry);
      }
      const found = await Promise.all(some.map(async ({ name }) => {
        try {
          return await lookUp(nodes, parent, name);
        } catch {
          // Its own lookup will tell what is wrong with it.
          return undefined;
        }
      }));
      let room = true;
      found.forEach((one, i) => {
        const entry = some[i]!;
        if (!room || one === null) {
          if (one) nodes.forget(one.node, 1);
        } else if (one === undefined) room = out.add(entry.name, entry.ino, entry.mode, from + i + 1);
        else room = tell(nodes, entry, one, from + i, out);
      });
      if (!room || some.length < AHEAD) return;
    }
  });
}
