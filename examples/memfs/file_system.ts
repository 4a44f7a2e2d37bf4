/** A file system in memory. */
import {
  type AttributeChanges,
  type Created,
  type DirectoryBuffer,
  type DirectoryPlusBuffer,
  type Entry,
  type FileRange,
  type FileSystem,
  type FileSystemStats,
  type Handle,
  type NodeId,
  type Request,
  ROOT_NODE,
} from "uring/fuse";
import { Budget, Content } from "./content.ts";
import {
  Directory,
  failure,
  Node,
  type NodeKind,
  now,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_ISGID,
} from "./nodes.ts";

const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const FALLOC_FL_ZERO_RANGE = 16;
const SEEK_DATA = 3;
const PERMISSIONS = 0o7777;
const NAME_MOST = 255;
const COPY_PIECE = 65536;
const BLOCK = 4096;
/** What a node takes beside its content, roughly. */
const NODE_BYTES = 512;

/** What the kernel is told of a name. */
const entryOf = (node: Node): Entry => {
  node.lookups++;
  return { node: node.id, attributes: node };
};

/** A file system in memory. Names are bytes, as text with a character for each: `names: "latin1"`. */
export class MemoryFileSystem implements FileSystem {
  readonly #nodes = new Map<NodeId, Node>();
  readonly #budget: Budget;
  #last: NodeId = ROOT_NODE;

  /** @param limit How many bytes its files may have, about. */
  constructor(limit: number) {
    this.#budget = new Budget(limit);
    const root = new Node(ROOT_NODE, { mode: S_IFDIR | 0o755, uid: 0, gid: 0, entries: new Directory() });
    root.lookups = 1;
    root.entries!.parent = root;
    this.#nodes.set(ROOT_NODE, root);
  }

  /** How many nodes there are. */
  get size(): number {
    return this.#nodes.size;
  }

  #node(id: NodeId): Node {
    const node = this.#nodes.get(id);
    if (node === undefined) throw failure("ESTALE");
    return node;
  }

  #directory(id: NodeId): [Node, Directory] {
    const node = this.#node(id);
    if (node.entries === null) throw failure("ENOTDIR");
    return [node, node.entries];
  }

  #content(id: NodeId): [Node, Content] {
    const node = this.#node(id);
    if (node.content === null) throw failure(node.entries === null ? "EINVAL" : "EISDIR");
    return [node, node.content];
  }

  /** Makes a node under a name that must be free. */
  #make(parent: NodeId, name: string, kind: Omit<NodeKind, "gid"> & { readonly gid: number }): Node {
    const [directory, entries] = this.#directory(parent);
    if (name.length > NAME_MOST) throw failure("ENAMETOOLONG");
    // A directory that was removed takes nothing in any more.
    if (directory.nlink === 0) throw failure("ENOENT");
    if (entries.get(name) !== undefined) throw failure("EEXIST");
    if (!this.#budget.take(NODE_BYTES)) throw failure("ENOSPC");
    // In a directory with that bit, what is made is of its group, and so are directories in those.
    const inherits = (directory.mode & S_ISGID) !== 0;
    const gid = inherits ? directory.gid : kind.gid;
    const mode = inherits && kind.entries !== undefined ? kind.mode | S_ISGID : kind.mode;
    const node = new Node(++this.#last, { ...kind, mode, gid });
    this.#nodes.set(node.id, node);
    this.#enter(directory, name, node);
    return node;
  }

  /** Has a name stand for a node. */
  #enter(directory: Node, name: string, node: Node): void {
    directory.entries!.set(name, node);
    if (node.entries !== null) {
      node.entries.parent = directory;
      directory.nlink++;
    }
    directory.modified();
  }

  /** Takes a name away, and the node when that was the last of it. */
  #remove(directory: Node, name: string, node: Node): void {
    directory.entries!.delete(name);
    directory.modified();
    if (node.entries !== null) {
      directory.nlink--;
      node.nlink = 0;
    } else node.nlink--;
    node.changed();
    this.#drop(node);
  }

  #drop(node: Node): void {
    if (node.nlink > 0 || node.lookups > 0) return;
    if (!this.#nodes.delete(node.id)) return;
    node.content?.clear();
    this.#budget.give(NODE_BYTES);
  }

  lookup(parent: NodeId, name: string): Entry | null {
    const node = this.#directory(parent)[1].get(name);
    return node === undefined ? null : entryOf(node);
  }

  forget(id: NodeId, count: number): void {
    const node = this.#nodes.get(id);
    if (node === undefined) return;
    node.lookups -= count;
    this.#drop(node);
  }

  getattr(id: NodeId): Node {
    return this.#node(id);
  }

  setattr(id: NodeId, changes: AttributeChanges): Node {
    const node = this.#node(id);
    const { mode, uid, gid, size, atimeNs, mtimeNs, ctimeNs } = changes;
    if (mode !== undefined) node.mode = (node.mode & S_IFMT) | (mode & PERMISSIONS);
    if (uid !== undefined) node.uid = uid;
    if (gid !== undefined) node.gid = gid;
    if (size !== undefined) {
      this.#content(id)[1].truncate(size);
      node.modified();
    }
    if (atimeNs !== undefined) node.atimeNs = atimeNs;
    if (mtimeNs !== undefined) node.mtimeNs = mtimeNs;
    node.ctimeNs = ctimeNs ?? now();
    return node;
  }

  readlink(id: NodeId): string {
    const { target } = this.#node(id);
    if (target === null) throw failure("EINVAL");
    return target;
  }

  symlink(parent: NodeId, name: string, target: string, { uid, gid }: Request): Entry {
    return entryOf(this.#make(parent, name, { mode: S_IFLNK | 0o777, uid, gid, target }));
  }

  mknod(parent: NodeId, name: string, mode: number, rdev: number, { uid, gid }: Request): Entry {
    const regular = (mode & S_IFMT) === S_IFREG;
    const content = regular ? { content: new Content(this.#budget) } : {};
    return entryOf(this.#make(parent, name, { mode, uid, gid, rdev, ...content }));
  }

  mkdir(parent: NodeId, name: string, mode: number, { uid, gid }: Request): Entry {
    const entries = new Directory();
    return entryOf(this.#make(parent, name, { mode: S_IFDIR | mode, uid, gid, entries }));
  }

  create(parent: NodeId, name: string, mode: number, _flags: number, request: Request): Created {
    return { entry: this.mknod(parent, name, S_IFREG | (mode & PERMISSIONS), 0, request), opened: 0 };
  }

  tmpfile(parent: NodeId, mode: number, _flags: number, { uid, gid }: Request): Created {
    this.#directory(parent);
    if (!this.#budget.take(NODE_BYTES)) throw failure("ENOSPC");
    const kind = { mode: S_IFREG | (mode & PERMISSIONS), uid, gid, content: new Content(this.#budget) };
    const node = new Node(++this.#last, kind);
    node.nlink = 0;
    this.#nodes.set(node.id, node);
    return { entry: entryOf(node), opened: 0 };
  }

  #named(parent: NodeId, name: string): [directory: Node, node: Node] {
    const [directory, entries] = this.#directory(parent);
    const node = entries.get(name);
    if (node === undefined) throw failure("ENOENT");
    return [directory, node];
  }

  unlink(parent: NodeId, name: string): void {
    const [directory, node] = this.#named(parent, name);
    if (node.entries !== null) throw failure("EISDIR");
    this.#remove(directory, name, node);
  }

  rmdir(parent: NodeId, name: string): void {
    const [directory, node] = this.#named(parent, name);
    if (node.entries === null) throw failure("ENOTDIR");
    if (!node.entries.empty) throw failure("ENOTEMPTY");
    this.#remove(directory, name, node);
  }

  rename(parent: NodeId, name: string, newParent: NodeId, newName: string, flags: number): void {
    if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0) throw failure("EINVAL");
    const [from, node] = this.#named(parent, name);
    const [to, entries] = this.#directory(newParent);
    if (newName.length > NAME_MOST) throw failure("ENAMETOOLONG");
    const other = entries.get(newName);
    if ((flags & RENAME_EXCHANGE) !== 0) {
      if (other === undefined) throw failure("ENOENT");
      this.#leave(from, name, node);
      this.#leave(to, newName, other);
      this.#enter(from, name, other);
      this.#enter(to, newName, node);
      other.changed();
    } else {
      if (other === node) return;
      if (other !== undefined) this.#replace(to, newName, other, node, flags);
      this.#leave(from, name, node);
      this.#enter(to, newName, node);
    }
    node.changed();
  }

  #replace(to: Node, name: string, other: Node, node: Node, flags: number): void {
    if ((flags & RENAME_NOREPLACE) !== 0) throw failure("EEXIST");
    if (other.entries !== null && node.entries === null) throw failure("EISDIR");
    if (other.entries === null && node.entries !== null) throw failure("ENOTDIR");
    if (other.entries !== null && !other.entries.empty) throw failure("ENOTEMPTY");
    this.#remove(to, name, other);
  }

  /** Takes a name away from a node that gets another one. */
  #leave(directory: Node, name: string, node: Node): void {
    directory.entries!.delete(name);
    if (node.entries !== null) directory.nlink--;
    directory.modified();
  }

  link(id: NodeId, newParent: NodeId, newName: string): Entry {
    const node = this.#node(id);
    const [directory, entries] = this.#directory(newParent);
    if (newName.length > NAME_MOST) throw failure("ENAMETOOLONG");
    if (entries.get(newName) !== undefined) throw failure("EEXIST");
    this.#enter(directory, newName, node);
    node.nlink++;
    node.changed();
    return entryOf(node);
  }

  read(id: NodeId, _handle: Handle, buffer: Uint8Array, offset: number): number {
    const [node, content] = this.#content(id);
    // As other file systems do it: only the first time after a change.
    if (node.atimeNs <= node.mtimeNs) node.atimeNs = now();
    return content.read(buffer, offset);
  }

  write(id: NodeId, _handle: Handle, data: Uint8Array, offset: number): number {
    const [node, content] = this.#content(id);
    const count = content.write(data, offset);
    if (count === 0 && data.length > 0) throw failure("ENOSPC");
    node.modified();
    return count;
  }

  readdir(id: NodeId, _handle: Handle, offset: number, out: DirectoryBuffer): void {
    const [node, entries] = this.#directory(id);
    if (!addDots(node, offset, out)) return;
    entries.list(offset, (name, child, position) => out.add(name, child.id, child.mode, position));
  }

  readdirplus(id: NodeId, _handle: Handle, offset: number, out: DirectoryPlusBuffer): void {
    const [node, entries] = this.#directory(id);
    if (!addDots(node, offset, out)) return;
    entries.list(offset, (name, child, position) => {
      if (!out.addEntry(name, { node: child.id, attributes: child }, position)) return false;
      child.lookups++;
      return true;
    });
  }

  statfs(): FileSystemStats {
    const { limit, used } = this.#budget;
    const free = Math.floor((limit - used) / BLOCK);
    return {
      bsize: BLOCK,
      blocks: Math.floor(limit / BLOCK),
      bfree: free,
      bavail: free,
      files: Math.floor(limit / NODE_BYTES),
      ffree: Math.floor((limit - used) / NODE_BYTES),
    };
  }

  setxattr(id: NodeId, name: string, value: Uint8Array, flags: number): void {
    // Access control lists are kept there, which would have to be heeded: `cp -a` sets permissions with them.
    if (name.startsWith("system.")) throw failure("EOPNOTSUPP");
    const node = this.#node(id);
    const attributes = node.attributes ??= new Map();
    if ((flags & XATTR_CREATE) !== 0 && attributes.has(name)) throw failure("EEXIST");
    if ((flags & XATTR_REPLACE) !== 0 && !attributes.has(name)) throw failure("ENODATA");
    attributes.set(name, value.slice());
    node.changed();
  }

  getxattr(id: NodeId, name: string): Uint8Array | null {
    if (name.startsWith("system.")) throw failure("EOPNOTSUPP");
    return this.#node(id).attributes?.get(name) ?? null;
  }

  listxattr(id: NodeId): Iterable<string> {
    return this.#node(id).attributes?.keys() ?? [];
  }

  removexattr(id: NodeId, name: string): void {
    const node = this.#node(id);
    if (node.attributes?.delete(name) !== true) throw failure("ENODATA");
    node.changed();
  }

  fallocate(id: NodeId, _handle: Handle, offset: number, length: number, mode: number): void {
    const [node, content] = this.#content(id);
    const keep = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
    const clear = mode & ~FALLOC_FL_KEEP_SIZE;
    if (clear === FALLOC_FL_PUNCH_HOLE || clear === FALLOC_FL_ZERO_RANGE) content.punch(offset, length);
    else if (clear !== 0) throw failure("EOPNOTSUPP");
    else if (length > this.#budget.limit - this.#budget.used) throw failure("ENOSPC");
    if (!keep && offset + length > content.size) content.truncate(offset + length);
    node.modified();
  }

  lseek(id: NodeId, _handle: Handle, offset: number, whence: number): number {
    const content = this.#content(id)[1];
    const found = whence === SEEK_DATA ? content.nextData(offset) : content.nextHole(offset);
    if (found < 0) throw failure("ENXIO");
    return found;
  }

  copyFileRange(from: FileRange, to: FileRange, length: number): number {
    const source = this.#content(from.node)[1];
    const [node, target] = this.#content(to.node);
    const piece = new Uint8Array(Math.min(length, COPY_PIECE));
    let done = 0;
    while (done < length) {
      const wanted = piece.subarray(0, Math.min(piece.length, length - done));
      const count = source.read(wanted, from.offset + done);
      const written = target.write(wanted.subarray(0, count), to.offset + done);
      done += written;
      if (written < wanted.length) break;
    }
    if (done === 0 && source.size > from.offset && length > 0) throw failure("ENOSPC");
    node.modified();
    return done;
  }
}

/** Adds `.` and `..`; false when there was no room. */
function addDots(node: Node, offset: number, out: DirectoryBuffer): boolean {
  const { parent } = node.entries!;
  if (offset < 1 && !out.add(".", node.id, S_IFDIR, 1)) return false;
  return offset >= 2 || out.add("..", (parent ?? node).id, S_IFDIR, 2);
}
