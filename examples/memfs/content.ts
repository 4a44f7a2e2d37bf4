/** What a file has in it: pieces of memory, and holes between them. */

const PIECE = 65536;
const SMALLEST = 256;
const BLOCK = 512;

/** Memory that files share, with an end. */
export class Budget {
  readonly limit: number;
  used = 0;

  /** @param limit In bytes. */
  constructor(limit: number) {
    this.limit = limit;
  }

  /** Takes memory; false where there is not so much left. */
  take(bytes: number): boolean {
    if (this.used + bytes > this.limit) return false;
    this.used += bytes;
    return true;
  }

  /** Gives memory back. */
  give(bytes: number): void {
    this.used -= bytes;
  }
}

/** Bytes of a file. Pieces that were never written to take no memory. */
export class Content {
  readonly #budget: Budget;
  /** A piece may be shorter than its place: the rest of it is zeros. */
  readonly #pieces = new Map<number, Uint8Array>();
  #size = 0;
  #allocated = 0;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /** In bytes, holes included. */
  get size(): number {
    return this.#size;
  }

  /** How many blocks of 512 bytes it takes. */
  get blocks(): number {
    return this.#allocated / BLOCK;
  }

  /** Reads from `offset` on and returns how many bytes there were. */
  read(into: Uint8Array, offset: number): number {
    const length = Math.min(into.length, this.#size - offset);
    if (length <= 0) return 0;
    for (let done = 0; done < length;) {
      const at = offset + done;
      const inPiece = at % PIECE;
      const count = Math.min(PIECE - inPiece, length - done);
      const piece = this.#pieces.get((at - inPiece) / PIECE);
      const there = piece === undefined ? 0 : Math.max(0, Math.min(count, piece.length - inPiece));
      if (there > 0) into.set(piece!.subarray(inPiece, inPiece + there), done);
      if (there < count) into.fill(0, done + there, done + count);
      done += count;
    }
    return length;
  }

  /** Writes at `offset` and returns how many bytes there was memory for. */
  write(data: Uint8Array, offset: number): number {
    let done = 0;
    while (done < data.length) {
      const at = offset + done;
      const inPiece = at % PIECE;
      const count = Math.min(PIECE - inPiece, data.length - done);
      const piece = this.#grown((at - inPiece) / PIECE, inPiece + count);
      if (piece === null) break;
      piece.set(count === data.length ? data : data.subarray(done, done + count), inPiece);
      done += count;
    }
    if (done > 0) this.#size = Math.max(this.#size, offset + done);
    return done;
  }

  /** A piece that has at least so many bytes, or null. */
  #grown(index: number, length: number): Uint8Array | null {
    const before = this.#pieces.get(index);
    if (before !== undefined && before.length >= length) return before;
    let size = Math.max(SMALLEST, (before?.length ?? 0) * 2);
    while (size < length) size *= 2;
    // Where the next piece is there already, or the file goes on, this one will be whole.
    if (this.#size > (index + 1) * PIECE) size = PIECE;
    const added = Math.max(size, BLOCK) - (before === undefined ? 0 : Math.max(before.length, BLOCK));
    if (!this.#budget.take(added)) return null;
    this.#allocated += added;
    const piece = new Uint8Array(size);
    if (before !== undefined) piece.set(before);
    this.#pieces.set(index, piece);
    return piece;
  }

  #drop(index: number): void {
    const piece = this.#pieces.get(index);
    if (piece === undefined) return;
    this.#pieces.delete(index);
    const taken = Math.max(piece.length, BLOCK);
    this.#allocated -= taken;
    this.#budget.give(taken);
  }

  /** Makes it shorter, or longer by a hole. */
  truncate(size: number): void {
    if (size < this.#size) this.punch(size, this.#size - size);
    this.#size = size;
  }

  /** Makes a hole; the size stays. */
  punch(offset: number, length: number): void {
    const end = offset + length;
    const beyond = end >= this.#size;
    for (const [index, piece] of this.#pieces) {
      const from = index * PIECE;
      if (from >= end || from + PIECE <= offset) continue;
      if (from >= offset && (from + PIECE <= end || beyond)) this.#drop(index);
      else piece.fill(0, Math.max(0, offset - from), Math.min(piece.length, end - from));
    }
  }

  /** Where data begins from `offset` on, or −1. */
  nextData(offset: number): number {
    if (offset >= this.#size) return -1;
    const first = Math.floor(offset / PIECE);
    if (this.#pieces.has(first)) return offset;
    let best = Infinity;
    for (const index of this.#pieces.keys()) if (index > first) best = Math.min(best, index);
    return best * PIECE < this.#size ? best * PIECE : -1;
  }

  /** Where a hole begins from `offset` on (the end is one), or −1. */
  nextHole(offset: number): number {
    if (offset >= this.#size) return -1;
    let index = Math.floor(offset / PIECE);
    if (!this.#pieces.has(index)) return offset;
    while (this.#pieces.has(index)) index++;
    return Math.min(index * PIECE, this.#size);
  }

  /** Gives all memory back. */
  clear(): void {
    for (const index of [...this.#pieces.keys()]) this.#drop(index);
    this.#size = 0;
  }
}
