/**
 * Memory that stands in for JavaScript's in a Worker.
 *
 * A Worker's memory is freed when the Worker is terminated, without anything being run before. The kernel goes on with
 * what is in flight, and would write where something else is by then. So on a Worker's thread it never gets an address
 * of JavaScript's memory but one in a shadow of the `ArrayBuffer`: mapped memory, which the runtime knows nothing of.
 * What the kernel is to read is copied there when the operation begins, what it has written is copied from there when the
 * operation ends. Memory of the library's own (a `Mapping`, registered buffers, pools) needs no shadow.
 *
 * A shadow is that of a whole buffer, and all operations in flight on the buffer share it: the steps of a chain may hand
 * data on to one another through it, whichever parts of it they name.
 *
 * @module
 */
import { isMapped, Mapping } from "../ffi/memory.ts";
import { addressOf } from "../ffi/pin.ts";
import { MADV_HUGEPAGE } from "../ffi/abi.ts";
import { adapter, system } from "../ffi/system.ts";
import { type Block, giveBlock, LARGEST_BLOCK, takeBlock } from "./blocks.ts";
import type { Op } from "./op.ts";

/** Whether this thread's memory has shadows. */
export let shadowing: boolean = adapter.isWorker;

/** Has memory shadows on the main thread, too: for tests, before the first operation. @internal */
export function shadowAlways(): void {
  shadowing = true;
}

/** What the kernel does with memory: it reads it. */
export const READS = 1;
/** It writes as many bytes as the operation's result says, over several buffers in order. */
export const WRITES = 2;
/** It reads it, and writes whatever it likes. */
export const BOTH = 4;

/** The shadow of a buffer. */
interface Shadow {
  readonly buffer: ArrayBufferLike;
  /** Memory that the shadow is in. */
  readonly bytes: Uint8Array;
  /** Where in it. */
  readonly start: number;
  /** Its address. */
  readonly address: number;
  /** Its memory. */
  readonly memory: Block | Mapping;
  /** The loans of operations in flight that the kernel writes by. */
  readonly written: Loan[];
  users: number;
  /** How many bytes have gone through it. */
  passed: number;
}

/** A part of a shadow that the kernel works on. */
interface Loan {
  readonly shadow: Shadow;
  readonly view: ArrayBufferView;
  readonly at: number;
  readonly length: number;
  readonly use: number;
  /** Those it belongs to, once they are known. */
  loans: Loans | null;
}

/** The buffers that the kernel works on. */
const busy = new Map<ArrayBufferLike, Shadow>();
/** Shadows that are too large to be made anew each time, for as long as their buffers live. */
const large = new WeakMap<ArrayBufferLike, Shadow>();
/** A large shadow is dropped after this many bytes, since what went through it takes up memory. */
const MOST_PASSED = 4 * 2 ** 20;
const PAGE = 4096;
const SECTOR = 512;

/** What was lent to an operation that is about to begin. */
let waiting: Loan[] = [];

/**
 * The address by which the kernel finds a view's memory in an operation that is begun next.
 *
 * @param use {@link READS}, {@link WRITES} or {@link BOTH}.
 * @throws TypeError as `addressOf`.
 */
export function lend(view: ArrayBufferView, use: number, length: number = view.byteLength): number {
  const address = addressOf(view);
  const { buffer, byteOffset: at } = view;
  if (address === 0 || isMapped(buffer)) return address;
  let shadow = busy.get(buffer);
  if (shadow === undefined) {
    shadow = large.get(buffer) ?? makeShadow(buffer, address - at);
    busy.set(buffer, shadow);
  }
  shadow.users++;
  waiting.push({ shadow, view, at, length, use, loans: null });
  return shadow.address + at;
}

/** Makes the shadow of a buffer, aligned as that is: direct I/O asks for sectors, or pages. */
function makeShadow(buffer: ArrayBufferLike, address: number): Shadow {
  const { byteLength } = buffer;
  const shift = byteLength < SECTOR ? 0 : address % (byteLength < PAGE ? SECTOR : PAGE);
  const size = byteLength + shift;
  const memory = size <= LARGEST_BLOCK ? takeBlock(size) : mapLarge(size);
  const bytes = memory instanceof Mapping ? new Uint8Array(memory.buffer) : memory.bytes;
  const start = memory instanceof Mapping ? shift : memory.start + shift;
  const shadow: Shadow = {
    buffer,
    bytes,
    start,
    address: memory.address + shift,
    memory,
    written: [],
    users: 0,
    passed: 0,
  };
  if (memory instanceof Mapping) large.set(buffer, shadow);
  return shadow;
}

function mapLarge(size: number): Mapping {
  const mapping = Mapping.anonymous(size);
  // Only advice: fewer faults where it is taken.
  system().madvise(mapping.address, size, MADV_HUGEPAGE);
  return mapping;
}

function leave(loan: Loan): void {
  const { shadow } = loan;
  shadow.passed += loan.length;
  if (--shadow.users > 0) return;
  const { buffer, memory } = shadow;
  busy.delete(buffer);
  if (!(memory instanceof Mapping)) giveBlock(memory);
  else if (shadow.passed > MOST_PASSED) {
    large.delete(buffer);
    memory.unmap();
  }
}

/** Takes back what was lent to an operation that was never begun, because its arguments were wrong. */
export function takeBack(): void {
  if (waiting.length === 0) return;
  for (const loan of waiting) leave(loan);
  waiting = [];
}

/** Hands what was lent to the operation that begins. */
export function attach(op: Op, host: LoanHost): void {
  if (waiting.length === 0) return;
  const loans = new Loans(waiting, op, host);
  waiting = [];
  op.loans = loans;
}

/** What loans ask of the engine. */
export interface LoanHost {
  /** Whether the kernel has not seen an operation yet. */
  isUnsubmitted(op: Op): boolean;
}

/** What is lent to one operation. */
export class Loans {
  readonly #loans: readonly Loan[];
  readonly #op: Op;
  readonly #host: LoanHost;

  /** Copies what the kernel is to read. */
  constructor(loans: readonly Loan[], op: Op, host: LoanHost) {
    this.#loans = loans;
    this.#op = op;
    this.#host = host;
    for (const loan of loans) {
      loan.loans = this;
      if (loan.use !== WRITES) copyIn(loan);
      if (loan.use !== READS) loan.shadow.written.push(loan);
    }
  }

  /** Whether the kernel may have begun. */
  get submitted(): boolean {
    return !this.#host.isUnsubmitted(this.#op);
  }

  /** Copies what the kernel has written to where it belongs. */
  copyOut(res: number): void {
    let left = res > 0 ? res : 0;
    for (const { shadow, view, at, length, use } of this.#loans) {
      if (use === READS) continue;
      const count = use === BOTH ? length : Math.min(left, length);
      if (use === WRITES) left -= count;
      // One that was detached meanwhile has no bytes any more.
      if (count === 0 || view.byteLength === 0) continue;
      const from = shadow.start + at;
      bytesOf(view).set(shadow.bytes.subarray(from, from + count));
    }
  }

  /** The kernel has let go. */
  end(): void {
    for (const loan of this.#loans) {
      const { written } = loan.shadow;
      if (loan.use !== READS) {
        if (written.length === 1) written.pop();
        else written.splice(written.indexOf(loan), 1);
      }
      leave(loan);
    }
  }
}

/** A view's bytes. */
function bytesOf(view: ArrayBufferView): Uint8Array {
  return view instanceof Uint8Array ? view : new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** Copies a part into the shadow, except what the kernel may be writing there just now. */
function copyIn(loan: Loan): void {
  const { shadow, view, at, length } = loan;
  let bytes = bytesOf(view);
  if (length < bytes.length) bytes = bytes.subarray(0, length);
  if (shadow.written.length === 0) {
    shadow.bytes.set(bytes, shadow.start + at);
    return;
  }
  for (const [from, to] of unwritten(loan)) {
    shadow.bytes.set(bytes.subarray(from - at, to - at), shadow.start + from);
  }
}

/** The parts of a loan that the kernel cannot be writing to just now, as offsets in the buffer. */
function unwritten({ shadow, at, length }: Loan): [from: number, to: number][] {
  let parts: [from: number, to: number][] = [[at, at + length]];
  for (const other of shadow.written) {
    if (!other.loans!.submitted) continue;
    const end = other.at + other.length;
    parts = parts.flatMap(([from, to]): [number, number][] => {
      const before: [number, number] = [from, Math.min(to, other.at)];
      const after: [number, number] = [Math.max(from, end), to];
      return [before, after].filter(([first, last]) => first < last);
    });
  }
  return parts;
}
