/**
 * `CoreRing`: what a ring is made and closed by.
 *
 * @module
 */
import {
  IORING_REGISTER_USE_REGISTERED_RING,
  IORING_SETUP_NO_MMAP,
  IORING_UNREGISTER_RING_FDS,
} from "../ffi/abi.ts";
import { adapter, system } from "../ffi/system.ts";
import type { Probe } from "./probe.ts";
import { RingRegister } from "./register.ts";
import { Argument } from "./register_base.ts";
import { type RingOptions, type RingParts, setupRing, unmapAll } from "./setup.ts";
import { io_uring_params, io_uring_rsrc_update } from "../ffi/structs.ts";
import type { Belongings, Place } from "../ffi/thread_end.ts";
import { sqeSize } from "./sizes.ts";

const threadEnd = adapter.isWorker ? await import("../ffi/thread_end.ts") : null;

/** Has something given back at the end of a Worker's thread; null where that is not called for or cannot be had. */
export function atThreadEnd(belongings: Belongings): Place | null {
  return threadEnd === null ? null : threadEnd.atThreadEnd(belongings);
}

/** What keeps a ring open: its descriptor and its index among the registered rings, −1 for none. */
interface Handles {
  fd: number;
  registered: number;
  /** What closes the ring when a Worker's thread ends before. */
  readonly end: Place | null;
}

/** Takes the registered descriptor back and closes the other. */
function release({ fd, registered, end }: Handles): void {
  // First: what is closed or unmapped now may be another's when the thread ends.
  end?.set(null);
  if (registered >= 0) {
    const arg = new Argument(io_uring_rsrc_update.size);
    arg.set32(io_uring_rsrc_update.offset, registered);
    const [via, flag] = fd < 0 ? [registered, IORING_REGISTER_USE_REGISTERED_RING] : [fd, 0];
    const result = system().register(via, (IORING_UNREGISTER_RING_FDS | flag) >>> 0, arg.bytes, 1);
    if (result < 0) unregisterElsewhere(arg);
  }
  if (fd >= 0) system().close(fd);
}

/** The ring's restrictions may forbid it; the table is the thread's, and any of its rings will do. */
function unregisterElsewhere(arg: Argument): void {
  try {
    using ring = new CoreRing(1);
    ring.register(IORING_UNREGISTER_RING_FDS, arg.bytes, 1);
  } catch {
    // The thread is restricted, too: the table goes with it.
  }
}

/** What the thread leaves behind of a ring. Memory that is not the kernel's keeps no ring open. */
function belongings({ fd, flags, sqes, sqRing, cqRing, params }: RingParts): Belongings {
  if ((flags & IORING_SETUP_NO_MMAP) !== 0) return { fd };
  return {
    fd,
    mappings: [sqes, sqRing, cqRing],
    entries: params.getUint32(io_uring_params.sq_entries, true),
    entrySize: sqeSize(flags),
  };
}

// A ring that is dropped without being closed gives these back once collected. The mappings see to themselves.
const dropped = new FinalizationRegistry<Handles>(release);

/**
 * What every ring has and what `Uring` is built on: the queues, the waits, and the register calls that most have a use
 * for. `Ring` adds the others, in modules that only `uring/ring` loads.
 */
export class CoreRing extends RingRegister implements Disposable {
  /** Where what lies. @internal */
  protected parts: RingParts;
  readonly #handles: Handles;

  /**
   * Sets up a ring: `io_uring_queue_init_params`.
   *
   * @param entries How many submissions fit; rounded up to a power of two, at most 32768.
   * @param options Flags and sizes.
   * @throws RangeError for entries or flags that cannot be, `UringError` for what the kernel refuses (`ENOMEM`:
   * `RLIMIT_MEMLOCK`), `UringUnavailableError` where io_uring cannot be used at all.
   */
  constructor(entries: number, options: RingOptions = {}) {
    const parts = setupRing(entries, options);
    super(parts);
    this.parts = parts;
    const end = parts.fd < 0 ? null : atThreadEnd(belongings(parts));
    this.#handles = { fd: parts.fd, registered: parts.registeredFd, end };
    dropped.register(this, this.#handles, this);
  }

  /** Whether the ring was closed. */
  get closed(): boolean {
    return this.enterFd < 0;
  }

  override registerRingFd(): boolean {
    const registered = super.registerRingFd();
    if (registered) this.#handles.registered = this.enterFd;
    return registered;
  }

  override unregisterRingFd(): void {
    super.unregisterRingFd();
    this.#handles.registered = -1;
  }

  override closeRingFd(): void {
    const { end, fd } = this.#handles;
    // Before it is closed: the next one with its number is another's.
    end?.set(belongings({ ...this.parts, fd: -1 }));
    try {
      super.closeRingFd();
    } catch (error) {
      end?.set(belongings({ ...this.parts, fd }));
      throw error;
    }
    this.#handles.fd = -1;
  }

  /** The ring has got other memory. @internal */
  protected moved(): void {
    this.#handles.end?.set(belongings(this.parts));
  }

  /**
   * Closes the ring and unmaps its memory: `io_uring_queue_exit`. It does not wait: the kernel may go on with what is
   * in flight, and write into the memory given for it, for a moment after this returns.
   */
  close(): void {
    if (this.closed) return;
    dropped.unregister(this);
    release(this.#handles);
    this.enterFlags = 0;
    this.retire();
    if (this.parts.owned) unmapAll(this.parts);
  }

  /** The same as {@link CoreRing.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Which operations this kernel supports, asked through a ring made for that: `io_uring_get_probe`, Linux 5.6. */
export function getProbe(): Probe {
  using ring = new CoreRing(2);
  return ring.getProbe();
}
