/**
 * What the tests of rings share: the kinds of ring, memory that the kernel may use, and the way from an entry to its
 * completion.
 *
 * @module
 */
import assert from "node:assert/strict";
import { pinned } from "../../src/ffi/pin.ts";
import { io_uring_sqe, iovec } from "../../src/ffi/structs.ts";
import {
  cString,
  IORING_OP_NOP,
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_CQE32,
  IORING_SETUP_CQE_MIXED,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_NO_MMAP,
  IORING_SETUP_NO_SQARRAY,
  IORING_SETUP_REGISTERED_FD_ONLY,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQ_REWIND,
  IORING_SETUP_SQE128,
  IORING_SETUP_SQE_MIXED,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_TASKRUN_FLAG,
  O_CREAT,
  O_DIRECT,
  O_RDWR,
  Ring,
  type RingOptions,
  type Sqe,
} from "../../src/ring/mod.ts";
import { Fd, TempDir } from "./descriptors.ts";

/** A way to set up a ring under which everything must work the same. */
export interface Kind {
  /** What to call it in a test's name. */
  readonly name: string;
  readonly options: RingOptions;
  /** Why this kernel lacks it, or `false`. */
  readonly skip: string | false;
}

/** Why a ring cannot be made like this, or `false`: asks the kernel. */
export function missingRing(options: RingOptions, entries = 4): string | false {
  try {
    makeRing(entries, options).close();
    return false;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Why this kernel lacks an `IORING_FEAT_*`, or `false`. */
export function missingFeature(feature: number, name: string): string | false {
  const ring = makeRing(1);
  const { features } = ring;
  ring.close();
  return (features & feature) !== 0 ? false : `this kernel lacks ${name}`;
}

/** Why files in the temporary directory cannot be opened with `O_DIRECT`, or `false`. */
export function missingDirect(): string | false {
  using dir = new TempDir();
  try {
    Fd.open(dir.of("direct"), O_RDWR | O_CREAT | O_DIRECT).close();
    return false;
  } catch {
    return "the temporary directory's file system has no O_DIRECT";
  }
}

/** Why this kernel lacks an operation, or `false`. */
export function missingOp(op: number): string | false {
  const ring = makeRing(1);
  const supported = ring.getProbe().opcodeSupported(op);
  ring.close();
  return supported ? false : `this kernel lacks opcode ${op}`;
}

function kind(name: string, flags: number, options: RingOptions = {}): Kind {
  const all = { ...options, flags };
  return { name, options: all, skip: missingRing(all) };
}

const EVERYWHERE: readonly Kind[] = [
  kind("default", 0),
  kind("COOP_TASKRUN", IORING_SETUP_COOP_TASKRUN),
  kind("COOP_TASKRUN TASKRUN_FLAG", IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG),
  kind("DEFER_TASKRUN", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN),
  // An idle kernel thread burns a processor that others need.
  kind("SQPOLL", IORING_SETUP_SQPOLL, { sqThreadIdle: 5 }),
  kind("SQE128 CQE32", IORING_SETUP_SQE128 | IORING_SETUP_CQE32),
  kind("CQE_MIXED", IORING_SETUP_CQE_MIXED),
  kind("NO_SQARRAY", IORING_SETUP_NO_SQARRAY),
  kind("NO_MMAP", IORING_SETUP_NO_MMAP),
  kind("REGISTERED_FD_ONLY", IORING_SETUP_NO_MMAP | IORING_SETUP_REGISTERED_FD_ONLY),
];

/** Kinds that many systems lack: where they are missing, one line says so and not one per test. */
const YOUNG: readonly Kind[] = [
  kind("NO_MMAP hugePages", IORING_SETUP_NO_MMAP, { hugePages: true }),
  kind("SQE_MIXED CQE_MIXED", IORING_SETUP_SQE_MIXED | IORING_SETUP_CQE_MIXED),
  kind("SQ_REWIND", IORING_SETUP_SQ_REWIND | IORING_SETUP_NO_SQARRAY),
];

/** The kinds of ring that this library makes. */
export const KINDS: readonly Kind[] = [...EVERYWHERE, ...YOUNG.filter(({ skip }) => skip === false)];

/** Kinds that are not among them because the system lacks what they need. */
export const MISSING_KINDS: readonly Kind[] = YOUNG.filter(({ skip }) => skip !== false);

/** Calls `visit` for every kind, to declare a test of each. */
export function forEachKind(visit: (kind: Kind) => void): void {
  for (const kind of KINDS) visit(kind);
}

/** Sleeps without giving way to the event loop. */
export function sleep(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/**
 * Waits until `condition` holds; fails after ten seconds. What the kernel does in threads of its own needs a moment.
 */
export function eventually(condition: () => boolean, message: string): void {
  for (let i = 0; i < 2000; i++) {
    if (condition()) return;
    sleep(5);
  }
  assert.fail(`still not: ${message}`);
}

/**
 * Makes a ring. The kernel takes the memory of closed rings off an ordinary user's account a little later, so there
 * is another try when it says `ENOMEM`.
 */
export function makeRing(entries: number, options: RingOptions = {}): Ring {
  for (let i = 0;; i++) {
    try {
      return new Ring(entries, options);
    } catch (error) {
      const { code, syscall } = error as { code?: string; syscall?: string };
      // Huge pages that are not there do not come by waiting.
      if (code !== "ENOMEM" || syscall === "mmap" || i === 100) throw error;
      sleep(10);
    }
  }
}

// The kernel knows an address and no reference, so what was given to it stays for as long as the test file runs.
const held: unknown[] = [];

/** Memory that the kernel may use, and its address. */
export interface Block {
  readonly bytes: Uint8Array;
  readonly address: number;
  readonly view: DataView;
}

/** Zeroed memory of `size` bytes. */
export function block(size: number): Block {
  const { bytes, address } = pinned(size);
  const made = { bytes, address, view: new DataView(bytes.buffer) };
  held.push(made);
  return made;
}

/** Memory with this content. */
export function blockOf(content: string | Uint8Array): Block {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const made = block(bytes.length);
  made.bytes.set(bytes);
  return made;
}

/** The address of a C string. */
export function path(text: string): number {
  return blockOf(cString(text)).address;
}

/** An array of `struct iovec`. */
export function iovecs(blocks: readonly Block[]): Block {
  const made = block(iovec.size * blocks.length);
  blocks.forEach(({ address, bytes }, i) => {
    made.view.setBigUint64(i * iovec.size + iovec.iov_base, BigInt(address), true);
    made.view.setBigUint64(i * iovec.size + iovec.iov_len, BigInt(bytes.length), true);
  });
  return made;
}

/** A `struct __kernel_timespec`. */
export function timespec(milliseconds: number): number {
  const { address, view } = block(16);
  view.setBigInt64(0, BigInt(Math.floor(milliseconds / 1000)), true);
  view.setBigInt64(8, BigInt(milliseconds % 1000 * 1e6), true);
  return address;
}

/** Memory as text. */
export function text({ bytes }: Block, length: number = bytes.length): string {
  return new TextDecoder().decode(bytes.subarray(0, length));
}

/** The fields of an entry, read from its bytes and not through the class under test. */
export interface Fields {
  readonly opcode: number;
  readonly flags: number;
  readonly ioprio: number;
  readonly fd: number;
  readonly off: bigint;
  readonly addr: bigint;
  readonly len: number;
  readonly opFlags: number;
  readonly userData: bigint;
  readonly bufIndex: number;
  readonly personality: number;
  readonly fileIndex: number;
  readonly addr3: bigint;
}

/** Reads an entry's bytes. */
export function fields(sqe: Sqe): Fields {
  const { bytes } = sqe;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return {
    opcode: view.getUint8(io_uring_sqe.opcode),
    flags: view.getUint8(io_uring_sqe.flags),
    ioprio: view.getUint16(io_uring_sqe.ioprio, true),
    fd: view.getInt32(io_uring_sqe.fd, true),
    off: view.getBigUint64(io_uring_sqe.off, true),
    addr: view.getBigUint64(io_uring_sqe.addr, true),
    len: view.getUint32(io_uring_sqe.len, true),
    opFlags: view.getUint32(io_uring_sqe.rw_flags, true),
    userData: view.getBigUint64(io_uring_sqe.user_data, true),
    bufIndex: view.getUint16(io_uring_sqe.buf_index, true),
    personality: view.getUint16(io_uring_sqe.personality, true),
    fileIndex: view.getUint32(io_uring_sqe.file_index, true),
    addr3: view.getBigUint64(io_uring_sqe.addr3, true),
  };
}

/** Checks an entry's bytes: fields that are not named must be 0, except `user_data`. */
export function assertEntry(sqe: Sqe, expected: Partial<Fields>): void {
  const actual = fields(sqe);
  const zero: Fields = {
    opcode: IORING_OP_NOP,
    flags: 0,
    ioprio: 0,
    fd: 0,
    off: 0n,
    addr: 0n,
    len: 0,
    opFlags: 0,
    userData: actual.userData,
    bufIndex: 0,
    personality: 0,
    fileIndex: 0,
    addr3: 0n,
  };
  assert.deepEqual(actual, { ...zero, ...expected });
}

/** What a completion says, copied. */
export interface Completion {
  readonly userData: number;
  readonly res: number;
  readonly flags: number;
}

/** The most that a test waits for a completion that it is owed: milliseconds, and as often as it takes. */
const PATIENCE = 10_000;
const A_WHILE = { sec: 1, nsec: 0 } as const;

/** An entry with its `user_data` set; fails when the queue is full. */
export function entry(ring: Ring, userData: number, prep: (sqe: Sqe) => void): Sqe {
  const sqe = ring.getSqe();
  assert.ok(sqe, "the submission queue is full");
  prep(sqe);
  sqe.userData = userData;
  return sqe;
}

/** Submits what is queued, waits for `count` completions and takes them, in the order of the queue. */
export function reap(ring: Ring, count: number): Completion[] {
  const found: Completion[] = [];
  const deadline = performance.now() + PATIENCE;
  while (found.length < count) {
    const cqe = ring.sqReady() === 0 ? ring.peekCqe() : null;
    if (cqe !== null) {
      found.push({ userData: cqe.userData, res: cqe.res, flags: cqe.flags });
      ring.cqeSeen(cqe);
    } else {
      ring.submitAndWaitTimeout(1, A_WHILE);
      if (performance.now() < deadline) continue;
      assert.fail(`only ${found.length} of ${count} completions came: ${JSON.stringify(found)}`);
    }
  }
  return found;
}

/** The same, with the results by `user_data`. */
export function reapResults(ring: Ring, count: number): Map<number, number> {
  const results = new Map(reap(ring, count).map(({ userData, res }) => [userData, res]));
  assert.equal(results.size, count, "a user_data came twice");
  return results;
}

/** Runs one operation and returns its completion; checks the counters on the way. */
export function once(ring: Ring, prep: (sqe: Sqe) => void): Completion {
  const sqpoll = (ring.flags & IORING_SETUP_SQPOLL) !== 0;
  const before = ring.sqReady();
  entry(ring, 0x5eed, prep);
  if (!sqpoll) assert.equal(ring.sqReady(), before + 1);
  const submitted = ring.submit();
  if (!sqpoll) assert.equal(submitted, before + 1);
  if (!sqpoll) assert.equal(ring.sqReady(), 0);
  const [completion] = reap(ring, 1);
  assert.equal(completion!.userData, 0x5eed);
  assert.equal(ring.cqReady(), 0);
  return completion!;
}

/** Checks that no completion is there, nor any that only wants to be fetched. */
export function assertQuiet(ring: Ring): void {
  ring.submitAndGetEvents();
  // The thread of SQPOLL begins with an entry a moment later.
  if ((ring.flags & IORING_SETUP_SQPOLL) !== 0) eventually(() => ring.sqReady() === 0, "all has begun");
  assert.equal(ring.cqReady(), 0);
}
