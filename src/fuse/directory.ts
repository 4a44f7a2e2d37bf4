/**
 * Where a handler puts the entries of a directory.
 *
 * @module
 */
import { fuse_dirent, fuse_entry_out } from "./abi.ts";
import { AnswerError } from "./failure.ts";
import type { NameCodec } from "./names.ts";
import { put64, putEntry, type Timeouts } from "./replies.ts";
import type { Slot } from "./slot.ts";
import type { DirectoryPlusBuffer, Entry, Name } from "./types.ts";

const NAME_MOST = 1024;
const TYPE_SHIFT = 12;
const TYPE_MASK = 0xf;

/** Entries of a directory as the kernel takes them, one behind the other. */
export class DirectoryWriter implements DirectoryPlusBuffer {
  readonly #slot: Slot;
  readonly #names: NameCodec;
  readonly #timeouts: Timeouts;
  readonly #end: number;
  /** Whether entries have their nodes with them. */
  readonly #plus: boolean;
  /** The nodes that were added, each a lookup. */
  readonly nodes: number[] = [];
  #at = 0;

  constructor(slot: Slot, names: NameCodec, timeouts: Timeouts, size: number, plus: boolean) {
    this.#slot = slot;
    this.#names = names;
    this.#timeouts = timeouts;
    this.#end = Math.min(size, slot.output.length);
    this.#plus = plus;
  }

  /** How many bytes there are. */
  get length(): number {
    return this.#at;
  }

  add(name: Name, ino: number | bigint, mode: number | bigint, next: number): boolean {
    const at = this.#plus ? this.#at + fuse_entry_out.size : this.#at;
    const end = this.#dirent(at, name, ino, mode, next);
    if (end < 0) return false;
    // No node: the kernel takes the name alone.
    if (this.#plus) this.#slot.outWords.fill(0, this.#at >> 2, at >> 2);
    this.#at = end;
    return true;
  }

  addEntry(name: Name, entry: Entry, next: number): boolean {
    if (!this.#plus) throw new TypeError("Only readdirplus takes entries with their nodes");
    const { attributes, node } = entry;
    const at = this.#at + fuse_entry_out.size;
    const end = this.#dirent(at, name, attributes.ino ?? node, attributes.mode, next);
    if (end < 0) return false;
    putEntry(this.#slot.outWords, this.#at, entry, this.#timeouts);
    this.nodes.push(node);
    this.#at = end;
    return true;
  }

  /** Writes a `struct fuse_dirent` and returns its end, or −1 where there is no room. */
  #dirent(at: number, name: Name, ino: number | bigint, mode: number | bigint, next: number): number {
    if (!Number.isSafeInteger(next) || next < 1) {
      throw new AnswerError(`A position is an integer from 1 on, not ${String(next)}`);
    }
    // The handler has been given up: what it adds goes nowhere.
    if (this.#slot.gone) return -1;
    const nameAt = at + fuse_dirent.name;
    const { output, outWords } = this.#slot;
    const length = nameAt >= this.#end ? -1 : this.#names.encode(name, output, nameAt, this.#end);
    if (length === 0 || length > NAME_MOST) throw new AnswerError(`A name has 1 to ${NAME_MOST} bytes`);
    const end = (nameAt + length + 7) & ~7;
    if (length < 0 || end > this.#end) return -1;
    for (let i = nameAt + length; i < end; i++) output[i] = 0;
    put64(outWords, at + fuse_dirent.ino, ino);
    put64(outWords, at + fuse_dirent.off, next);
    outWords[(at + fuse_dirent.namelen) >> 2] = length;
    outWords[(at + fuse_dirent.type) >> 2] = (Number(mode) >> TYPE_SHIFT) & TYPE_MASK;
    return end;
  }
}
