/**
 * `CoreRing`: what a ring is made and closed by.
 *
 * @module
 */
import { IORING_REGISTER_USE_REGISTERED_RING, IORING_UNREGISTER_RING_FDS } from "../ffi/abi.ts";
import { system } from "../ffi/system.ts";
import type { Probe } from "./probe.ts";
import { RingRegister } from "./register.ts";
import { Argument } from "./register_base.ts";
import { type RingOptions, type RingParts, setupRing, unmapAll } from "./setup.ts";
import { io_uring_rsrc_update } from "../ffi/structs.ts";

/** What keeps a ring open: its descriptor and its index among the registered rings, −1 for none. */
interface Handles {
  fd: number;
  registered: number;
}

/** Takes the registered descriptor back and closes the other. */
function release({ fd, registered }: Handles): void {
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
    this.#handles = { fd: parts.fd, registered: parts.registeredFd };
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
    super.closeRingFd();
    this.#handles.fd = -1;
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
