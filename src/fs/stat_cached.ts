/**
 * What the kernel knows of a file without asking a disk or a server.
 *
 * The ring hands every `statx` to a thread of the kernel's, which takes three times as long as the call itself. So a path is
 * looked up among those in the kernel's memory (`RESOLVE_CACHED`), which never waits, and asked directly when it is found
 * there. What is not found goes by the ring. Looking up costs as much as asking: after a row that was there, most are asked
 * without, until one takes longer. After so many in a row, everything else gets its turn: the rest waits.
 *
 * @module
 */
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  O_CLOEXEC,
  O_PATH,
  O_RDONLY,
  RESOLVE_CACHED,
  STATX_BASIC_STATS,
  STATX_BTIME,
  SYS_openat2,
} from "../ffi/abi.ts";
import type { LookUpCalls, Pinned } from "../ffi/adapter.ts";
import { O_DIRECTORY, O_NOFOLLOW } from "../ffi/arch.ts";
import { pinned } from "../ffi/pin.ts";
import * as structs from "../ffi/structs.ts";
import { adapter, system } from "../ffi/system.ts";
import { Statx } from "../loop/statx.ts";

const MASK = STATX_BASIC_STATS | STATX_BTIME;
/** The longest path that the kernel takes, with its NUL. */
const PATH_MAX = 4096;
/** So many in a row were in the kernel's memory: then it is looked up beforehand for one in {@link UNCHECKED} only. */
const TRUSTED = 16;
const UNCHECKED = 8;
/** What takes longer than this many milliseconds was not in memory: so many must be there again before the next is trusted. */
const SLOW = 0.05;
const PENALTY = 256;
/** How many are looked up before timers and sockets get their turn: a tenth of a millisecond or two. */
const IN_A_TURN = 64;

const encoder = new TextEncoder();

/** The calls, and the memory that they use again and again. */
class LookUp {
  readonly #calls: LookUpCalls;
  readonly #path: Pinned = pinned(PATH_MAX);
  readonly #empty: Pinned = pinned(1);
  readonly #out: Pinned = pinned(structs.statx.size);
  readonly #follow: Pinned = howTo(O_PATH | O_CLOEXEC);
  readonly #nofollow: Pinned = howTo(O_PATH | O_CLOEXEC | O_NOFOLLOW);
  readonly #directory: Pinned = howTo(O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  readonly #about: Statx = new Statx(this.#out.bytes);

  readonly #words: Uint32Array = new Uint32Array(this.#out.bytes.buffer);
  #row = 0;
  #unchecked = 0;

  constructor() {
    this.#calls = adapter.openLookUp(system().libc);
  }

  /** What is known of a path, until the next call; null when it must be asked otherwise. */
  stat(path: string | Uint8Array, flags: number): Statx | null {
    if (!this.#take(path)) return null;
    return this.#unchecked > 0 ? this.#ask(flags) : this.#check(flags);
  }

  #check(flags: number): Statx | null {
    const how = (flags & AT_SYMLINK_NOFOLLOW) !== 0 ? this.#nofollow : this.#follow;
    const fd = this.#calls.openat2(SYS_openat2, AT_FDCWD, this.#path, how);
    if (fd < 0) {
      // Why it failed is the ring's to tell: it may be that only the cache does not know.
      this.#row = 0;
      return null;
    }
    const result = this.#calls.statx(fd, this.#empty, AT_EMPTY_PATH, MASK, this.#out);
    this.#calls.close(fd);
    if (result < 0) return null;
    // File systems without a device may be on a server.
    if (++this.#row >= TRUSTED && this.#words[structs.statx.stx_dev_major >> 2] !== 0) {
      this.#unchecked = UNCHECKED - 1;
    }
    return this.#about;
  }

  #ask(flags: number): Statx | null {
    this.#unchecked--;
    const start = performance.now();
    const result = this.#calls.statx(AT_FDCWD, this.#path, flags, MASK, this.#out);
    if (performance.now() - start > SLOW) {
      this.#row = TRUSTED - PENALTY;
      this.#unchecked = 0;
    }
    return result < 0 ? null : this.#about;
  }

  /** Opens a directory that is in the kernel's memory; −1 when it must be opened otherwise. */
  open(path: string | Uint8Array): number {
    return this.#take(path) ? this.#calls.openat2(SYS_openat2, AT_FDCWD, this.#path, this.#directory) : -1;
  }

  /** Whether it is a path that fits. */
  #take(path: string | Uint8Array): boolean {
    const { bytes } = this.#path;
    // A UTF-16 unit takes at most three bytes of UTF-8.
    if (path.length * (typeof path === "string" ? 3 : 1) >= PATH_MAX) return false;
    let length = path.length;
    if (typeof path === "string") length = encoder.encodeInto(path, bytes).written;
    else bytes.set(path);
    bytes[length] = 0;
    return true;
  }
}

function howTo(flags: number): Pinned {
  const how = pinned(structs.open_how.size);
  const view = new DataView(how.bytes.buffer);
  view.setBigUint64(structs.open_how.flags, BigInt(flags), true);
  view.setBigUint64(structs.open_how.resolve, BigInt(RESOLVE_CACHED), true);
  return how;
}

let lookUp: LookUp | null | undefined;

/** Linux 5.12 brought RESOLVE_CACHED; seccomp profiles may know no openat2. The root is always in the kernel's memory. */
function openLookUp(): LookUp | null {
  try {
    const made = new LookUp();
    return made.stat("/", 0) === null ? null : made;
  } catch {
    // A C library without the functions.
    return null;
  }
}

/**
 * What is known of a path, until the next call; or null when that has to be asked by the ring: the path is not in the kernel's
 * memory, is not there, or there is no such call.
 */
export function statCached(path: string | Uint8Array, flags: number): Statx | null {
  if (lookUp === undefined) lookUp = openLookUp();
  return lookUp === null ? null : lookUp.stat(path, flags);
}

/** Opens a directory that is in the kernel's memory; −1 when the ring has to, or to tell why it cannot be opened. */
export function openCached(path: string | Uint8Array): number {
  if (lookUp === undefined) lookUp = openLookUp();
  return lookUp === null ? -1 : lookUp.open(path);
}

let left = IN_A_TURN;
let ticking = false;
let waiting: (() => void)[] = [];
const tick = (): void => {
  const now = waiting.slice(0, IN_A_TURN);
  waiting = waiting.slice(now.length);
  left = IN_A_TURN - now.length;
  ticking = now.length > 0;
  if (ticking) setImmediate(tick);
  for (const go of now) go();
};

/** A promise to wait for before the next {@link statCached}; undefined when it may be called at once. */
export function statTurn(): Promise<void> | undefined {
  if (!ticking) {
    ticking = true;
    setImmediate(tick);
  }
  if (left > 0) {
    left--;
    return undefined;
  }
  return new Promise((resolve) => waiting.push(resolve));
}
