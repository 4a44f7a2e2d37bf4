/**
 * A submission queue entry as memory: its fields, without the operations.
 *
 * @module
 */
import { io_uring_sqe } from "../ffi/structs.ts";

/** A 64-bit value: a number where it fits 2⁵³, a bigint otherwise. Negative values are stored in two's complement. */
export type U64 = number | bigint;

/** The high 32 bits of a 64-bit value in two's complement. */
export function high32(value: U64): number {
  if (typeof value === "bigint") return Number(BigInt.asIntN(32, value >> 32n));
  return value === (value | 0) ? value >> 31 : Math.floor(value / 0x1_0000_0000) | 0;
}

/** The low 32 bits of a 64-bit value. */
export function low32(value: U64): number {
  return typeof value === "bigint" ? Number(BigInt.asIntN(32, value)) : value | 0;
}

/** An unsigned 64-bit value out of its halves, rounded beyond 2⁵³. */
export function join32(low: number, high: number): number {
  return high === 0 && low >= 0 ? low : (low >>> 0) + (high >>> 0) * 0x1_0000_0000;
}

// The entry as 32-bit words, which is how it is written: a store of a word costs the same as one of a byte.
const FD = io_uring_sqe.fd >> 2;
const OFF = io_uring_sqe.off >> 2;
const ADDR = io_uring_sqe.addr >> 2;
const LEN = io_uring_sqe.len >> 2;
const OP_FLAGS = io_uring_sqe.rw_flags >> 2;
const USER_DATA = io_uring_sqe.user_data >> 2;
const BUF_PERSONALITY = io_uring_sqe.buf_index >> 2;
const FILE_INDEX = io_uring_sqe.file_index >> 2;
const ADDR3 = io_uring_sqe.addr3 >> 2;
const PAD2 = io_uring_sqe.__pad2 >> 2;

// Where an entry can begin: every multiple of 16 words up to the largest ring's end. Masking with it changes nothing, but
// lets V8 drop the overflow and sign handling of each access, a third of what filling an entry costs.
const AT_MASK = 0x3f_fff0;

/**
 * The memory of one submission queue entry and its fields, named as in `struct io_uring_sqe`. One is made per slot of
 * the ring and used again and again.
 */
export class SqeBase {
  #words: Int32Array;
  #at: number;
  #size: number;
  // Whether a field was set that most operations leave alone: only then is there something to clear.
  #dirty = true;
  // Whether the bytes were handed out: then anything may have been written at any time.
  #exposed = false;

  /**
   * @param words The memory that the entry lies in.
   * @param at The entry's first word in it, a multiple of 16.
   * @param size The entry's size in bytes, 64 or 128.
   */
  constructor(words: Int32Array, at: number, size: number) {
    this.#words = words;
    this.#at = at;
    this.#size = size;
  }

  /** Has the next {@link SqeBase.clear} zero everything: the memory was written to in another way. @internal */
  soil(): void {
    this.#dirty = true;
  }

  /** Zeroes what no prep writes, except `user_data`: liburing's `io_uring_initialize_sqe`. */
  clear(): void {
    if (this.#dirty) this.#wipe();
  }

  #wipe(): void {
    this.#dirty = this.#exposed;
    const words = this.#words;
    const at = this.#at & AT_MASK;
    words[at] = 0;
    words[at + OP_FLAGS] = 0;
    words[at + BUF_PERSONALITY] = 0;
    words[at + FILE_INDEX] = 0;
    words[at + ADDR3] = 0;
    words[at + ADDR3 + 1] = 0;
    words[at + PAD2] = 0;
    words[at + PAD2 + 1] = 0;
  }

  /**
   * Writes the fields that every operation has: liburing's `io_uring_prep_rw`. Flags and `ioprio` stay.
   *
   * @param op An `IORING_OP_*`.
   * @param fd A descriptor, or the index of a registered one together with `IOSQE_FIXED_FILE`.
   * @param addr An address.
   * @param len A length or count.
   * @param offset A file offset, or whatever the operation keeps there.
   */
  prepRw(op: number, fd: number, addr: U64, len: number, offset: U64): void {
    const words = this.#words;
    const at = this.#at & AT_MASK;
    words[at] = (words[at]! & ~0xff) | op;
    words[at + FD] = fd;
    words[at + OFF] = low32(offset);
    words[at + OFF + 1] = high32(offset);
    words[at + ADDR] = low32(addr);
    words[at + ADDR + 1] = high32(addr);
    words[at + LEN] = len;
  }

  /** {@link SqeBase.prepRw} for an operation without address, length and offset. */
  protected fillBare(op: number, fd: number): void {
    const words = this.#words;
    const at = this.#at & AT_MASK;
    words[at] = (words[at]! & ~0xff) | op;
    words[at + FD] = fd;
    words[at + OFF] = 0;
    words[at + OFF + 1] = 0;
    words[at + ADDR] = 0;
    words[at + ADDR + 1] = 0;
    words[at + LEN] = 0;
  }

  /** The entry's 64 or 128 bytes, live: for tests and tools. */
  get bytes(): Uint8Array {
    const words = this.#words;
    this.#dirty = this.#exposed = true;
    return new Uint8Array(words.buffer, words.byteOffset + this.#at * 4, this.#size);
  }

  /** `IORING_OP_*`. */
  get opcode(): number {
    return this.#words[this.#at]! & 0xff;
  }
  /** Sets the operation alone. */
  set opcode(op: number) {
    const words = this.#words;
    words[this.#at] = (words[this.#at]! & ~0xff) | (op & 0xff);
  }

  /** `IOSQE_*` bits: liburing's `io_uring_sqe_set_flags`. */
  get flags(): number {
    return (this.#words[this.#at]! >>> 8) & 0xff;
  }
  /** Replaces the `IOSQE_*` bits. */
  set flags(flags: number) {
    this.#dirty = true;
    const words = this.#words;
    words[this.#at] = (words[this.#at]! & ~0xff00) | ((flags & 0xff) << 8);
  }

  /** `ioprio`: a priority, or flags of the operation (`IORING_ACCEPT_*`, `IORING_RECVSEND_*`). */
  get ioprio(): number {
    return this.#words[this.#at]! >>> 16;
  }
  /** Sets `ioprio`. */
  set ioprio(value: number) {
    this.#dirty = true;
    const words = this.#words;
    words[this.#at] = (words[this.#at]! & 0xffff) | (value << 16);
  }

  /** The descriptor. */
  get fd(): number {
    return this.#words[this.#at + FD]!;
  }
  /** Sets the descriptor. */
  set fd(fd: number) {
    this.#words[this.#at + FD] = fd;
  }

  /** `len`. */
  get len(): number {
    return this.#words[this.#at + LEN]! >>> 0;
  }
  /** Sets `len`. */
  set len(len: number) {
    this.#words[this.#at + LEN] = len;
  }

  /** The operation's own flags: `rw_flags`, `msg_flags`, `open_flags`… share this word. */
  get opFlags(): number {
    return this.#words[this.#at + OP_FLAGS]! >>> 0;
  }
  /** Sets the operation's own flags. */
  set opFlags(flags: number) {
    this.#dirty = true;
    this.#words[this.#at + OP_FLAGS] = flags;
  }

  /**
   * What comes back in the completion: liburing's `io_uring_sqe_set_data64`, for values up to 2⁵³. It survives
   * `getSqe` and every prep.
   */
  get userData(): number {
    const words = this.#words;
    const at = (this.#at & AT_MASK) + USER_DATA;
    return join32(words[at]!, words[at + 1]!);
  }
  /** Sets what comes back in the completion. */
  set userData(value: number) {
    const words = this.#words;
    const at = (this.#at & AT_MASK) + USER_DATA;
    words[at] = value;
    words[at + 1] = value === (value | 0) ? value >> 31 : high32(value);
  }

  /** All 64 bits of `user_data`; slower by far than {@link SqeBase.userData}. */
  get userData64(): bigint {
    const words = this.#words;
    const at = (this.#at & AT_MASK) + USER_DATA;
    return BigInt(words[at]! >>> 0) | (BigInt(words[at + 1]! >>> 0) << 32n);
  }
  /** Sets all 64 bits of `user_data`. */
  set userData64(value: bigint) {
    this.setUserData(low32(value), high32(value));
  }

  /** The low 32 bits of `user_data`, signed. */
  get userDataLow(): number {
    return this.#words[this.#at + USER_DATA]!;
  }

  /** Sets `user_data` from its low and high 32 bits: the fastest way. */
  setUserData(low: number, high: number): void {
    const words = this.#words;
    const at = (this.#at & AT_MASK) + USER_DATA;
    words[at] = low;
    words[at + 1] = high;
  }

  /** `buf_index`: the registered buffer of a fixed read or write. */
  get bufIndex(): number {
    return this.#words[this.#at + BUF_PERSONALITY]! & 0xffff;
  }
  /** Sets `buf_index`. */
  set bufIndex(index: number) {
    this.#dirty = true;
    const words = this.#words;
    const at = (this.#at & AT_MASK) + BUF_PERSONALITY;
    words[at] = (words[at]! & ~0xffff) | (index & 0xffff);
  }

  /** `buf_group`: where `IOSQE_BUFFER_SELECT` takes its buffer from; the same bytes as {@link SqeBase.bufIndex}. */
  get bufGroup(): number {
    return this.bufIndex;
  }
  /** Sets `buf_group`: liburing's `io_uring_sqe_set_buf_group`. */
  set bufGroup(group: number) {
    this.bufIndex = group;
  }

  /** `personality`: registered credentials to act with. */
  get personality(): number {
    return this.#words[this.#at + BUF_PERSONALITY]! >>> 16;
  }
  /** Sets `personality`. */
  set personality(id: number) {
    this.#dirty = true;
    const words = this.#words;
    const at = (this.#at & AT_MASK) + BUF_PERSONALITY;
    words[at] = (words[at]! & 0xffff) | (id << 16);
  }

  /** `file_index` as stored: the target slot plus one; the same bytes as `splice_fd_in` and `optlen`. */
  get fileIndex(): number {
    return this.#words[this.#at + FILE_INDEX]! >>> 0;
  }
  /** Sets `file_index`, raw. */
  set fileIndex(value: number) {
    this.#dirty = true;
    this.#words[this.#at + FILE_INDEX] = value;
  }

  /** Sets the direct descriptor slot that the operation fills, as liburing stores it: `slot + 1`, ALLOC unchanged. */
  protected setTargetFixedFile(slot: number): void {
    this.#dirty = true;
    // IORING_FILE_INDEX_ALLOC is 0xffffffff and is passed as it is.
    this.#words[this.#at + FILE_INDEX] = slot === 0xffff_ffff ? -1 : slot + 1;
  }

  /** `off`, unsigned and rounded beyond 2⁵³; the same bytes as `addr2` and `cmd_op`. */
  get off(): number {
    return join32(this.#words[this.#at + OFF]!, this.#words[this.#at + OFF + 1]!);
  }
  /** Sets `off`. */
  set off(value: U64) {
    this.#words[this.#at + OFF] = low32(value);
    this.#words[this.#at + OFF + 1] = high32(value);
  }

  /** Sets `off` from its low and high 32 bits: all 64 of them without a bigint. */
  setOffWords(low: number, high: number): void {
    this.#words[this.#at + OFF] = low;
    this.#words[this.#at + OFF + 1] = high;
  }

  /** `addr`, unsigned and rounded beyond 2⁵³; the same bytes as `splice_off_in`, and as `level` with `optname`. */
  get addr(): number {
    return join32(this.#words[this.#at + ADDR]!, this.#words[this.#at + ADDR + 1]!);
  }
  /** Sets `addr`. */
  set addr(value: U64) {
    this.setAddrWords(low32(value), high32(value));
  }

  /** Sets the halves of `addr`. */
  protected setAddrWords(low: number, high: number): void {
    this.#words[this.#at + ADDR] = low;
    this.#words[this.#at + ADDR + 1] = high;
  }

  /** Sets `addr_len`, the low half of the word that `file_index` is in. */
  protected setAddrLen(length: number): void {
    const word = this.#words[this.#at + FILE_INDEX]!;
    this.fileIndex = (word & ~0xffff) | (length & 0xffff);
  }

  /** `addr3`, unsigned and rounded beyond 2⁵³; the same bytes as `optval`, `attr_ptr` and the first of `cmd`. */
  get addr3(): number {
    return join32(this.#words[this.#at + ADDR3]!, this.#words[this.#at + ADDR3 + 1]!);
  }
  /** Sets `addr3`. */
  set addr3(value: U64) {
    this.#dirty = true;
    this.#words[this.#at + ADDR3] = low32(value);
    this.#words[this.#at + ADDR3 + 1] = high32(value);
  }

  /** Sets `addr3` from its low and high 32 bits: all 64 of them without a bigint. */
  setAddr3Words(low: number, high: number): void {
    this.#dirty = true;
    this.#words[this.#at + ADDR3] = low;
    this.#words[this.#at + ADDR3 + 1] = high;
  }

  /** `attr_type_mask`: the attributes that `addr3` points at (`IORING_RW_ATTR_FLAG_PI`, Linux 6.14). */
  get attrTypeMask(): number {
    return join32(this.#words[this.#at + PAD2]!, this.#words[this.#at + PAD2 + 1]!);
  }
  /** Sets `attr_type_mask`. */
  set attrTypeMask(mask: U64) {
    this.#dirty = true;
    this.#words[this.#at + PAD2] = low32(mask);
    this.#words[this.#at + PAD2 + 1] = high32(mask);
  }

  /** The bytes of a driver's command, live: 16, or 80 in an entry of 128. */
  get cmd(): Uint8Array {
    return this.bytes.subarray(io_uring_sqe.addr3);
  }

  /** Copies another entry of the same size over this one, `user_data` included. */
  copyFrom(other: SqeBase): void {
    this.#dirty = true;
    const from = other.#words;
    const to = this.#words;
    for (let i = 0, a = other.#at, b = this.#at, n = this.#size >> 2; i < n; i++) to[b + i] = from[a + i]!;
  }
}
