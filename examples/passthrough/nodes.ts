/** The files that the kernel knows of a file system which keeps them in a directory elsewhere. */
import { backing, type Entry, ROOT_NODE } from "uring/fuse";
import { O_NOFOLLOW, O_PATH } from "uring/ring";

/** How a node's descriptor is opened. */
export const NODE_FLAGS: number = O_PATH | O_NOFOLLOW;

/** A file that the kernel knows. */
export interface Node {
  readonly id: number;
  /** Tells apart the files that have had this number. */
  readonly generation: number;
  /** An `O_PATH` descriptor, which means this file whatever becomes of its names. */
  readonly fd: number;
  readonly device: number;
  readonly ino: number;
  /** How many answers have named it that the kernel has not taken back. */
  lookups: number;
  /** How many handlers are at work on it that have to wait for something. */
  users: number;
}

const ESTALE = 116;

/** What a handler throws that has met something which is no longer there. */
class StaleError extends Error {
  readonly errno = -ESTALE;
}

/** All of them, by number and by file: hard links are names of one node. */
export class Nodes {
  readonly #byId: (Node | undefined)[] = [];
  readonly #free: number[] = [];
  /** By device, then by inode number. */
  readonly #byFile = new Map<number, Map<number, Node>>();
  #generation = 0;

  /** @param fd An `O_PATH` descriptor of the directory that is the root. */
  constructor(fd: number) {
    const { device, ino } = backing.stat(fd);
    this.#add({ id: ROOT_NODE, generation: 0, fd, device, ino, lookups: 1, users: 0 });
  }

  #add(node: Node): void {
    this.#byId[node.id] = node;
    let files = this.#byFile.get(node.device);
    if (files === undefined) this.#byFile.set(node.device, files = new Map());
    files.set(node.ino, node);
  }

  get(id: number): Node {
    const node = this.#byId[id];
    if (node === undefined) throw new StaleError("no such node");
    return node;
  }

  /** Whether a file is known. */
  knows(device: number, ino: number): boolean {
    return this.#byFile.get(device)?.has(ino) === true;
  }

  /** Takes an `O_PATH` descriptor over, and counts that its file was named. */
  enter(fd: number): Entry {
    let attributes;
    try {
      attributes = backing.stat(fd);
    } catch (error) {
      backing.close(fd);
      throw error;
    }
    const { device, ino } = attributes;
    let node = this.#byFile.get(device)?.get(ino);
    if (node !== undefined) {
      backing.close(fd);
    } else {
      const id = this.#free.pop() ?? Math.max(ROOT_NODE + 1, this.#byId.length);
      node = { id, generation: this.#generation++, fd, device, ino, lookups: 0, users: 0 };
      this.#add(node);
    }
    node.lookups++;
    return { node: node.id, generation: node.generation, attributes };
  }

  /** Counts that a known file was named; null when it is not known. */
  enterKnown(attributes: backing.BackingAttributes): Entry | null {
    const node = this.#byFile.get(attributes.device)?.get(attributes.ino);
    if (node === undefined) return null;
    node.lookups++;
    return { node: node.id, generation: node.generation, attributes };
  }

  /** The kernel takes back that a file was named. */
  forget(id: number, count: number): void {
    const node = this.#byId[id];
    if (node === undefined || id === ROOT_NODE) return;
    node.lookups -= count;
    this.#drop(node);
  }

  /** Does something that waits with files, whose descriptors stay meanwhile. */
  async use<T>(nodes: readonly Node[], work: () => Promise<T>): Promise<T> {
    for (const node of nodes) node.users++;
    try {
      return await work();
    } finally {
      for (const node of nodes) {
        node.users--;
        this.#drop(node);
      }
    }
  }

  #drop(node: Node): void {
    if (node.lookups > 0 || node.users > 0 || this.#byId[node.id] !== node) return;
    this.#byId[node.id] = undefined;
    this.#free.push(node.id);
    this.#byFile.get(node.device)?.delete(node.ino);
    backing.close(node.fd);
  }

  /** Closes everything. */
  close(): void {
    for (const node of this.#byId) {
      if (node !== undefined) backing.close(node.fd);
    }
    this.#byId.length = 0;
    this.#byFile.clear();
  }
}
