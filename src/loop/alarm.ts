/**
 * The alarm clock behind the waker: an eventfd, and what carries its signal into the runtime's event loop.
 *
 * @module
 */
import {
  AF_UNIX,
  EFD_CLOEXEC,
  IORING_FEAT_CQE_SKIP,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from "../ffi/abi.ts";
import type { EventReader, Watched } from "../ffi/adapter.ts";
import { check, UringError } from "../ffi/errors.ts";
import { Mapping } from "../ffi/memory.ts";
import { adapter, system } from "../ffi/system.ts";
import type { Place } from "../ffi/thread_end.ts";

import { atThreadEnd, CoreRing } from "../ring/core_ring.ts";

/** Wakes the event loop once after each {@link Alarm.arm}, when the eventfd is signalled. */
export interface Alarm {
  /** How it works. */
  readonly kind: AlarmKind;
  /** What the rings signal. */
  readonly eventfd: number;
  /** Has the next signal wake the event loop; harmless while armed. */
  arm(): void;
  /** Keeps the process alive. */
  ref(): void;
  /** Lets the process exit. */
  unref(): void;
  /** Gives everything back; no ring may have the eventfd any more. */
  close(): void;
}

/**
 * - `bridge`: a second ring carries the signal into a socketpair that the runtime watches.
 * - `reader`: a thread of the runtime's reads the eventfd; where a socketpair cannot be watched (Deno before 2.7.14).
 */
export type AlarmKind = "bridge" | "reader";

const EINVAL = 22;

let preferred: AlarmKind = "bridge";

/** Chooses how the thread's alarm works; for tests, before the first operation. */
export function preferAlarm(kind: AlarmKind): void {
  preferred = kind;
}

/** An eventfd, which is closed with its thread at the latest. */
class Eventfd {
  readonly fd: number = check(system().eventfd(0, EFD_CLOEXEC), "eventfd");
  readonly #end: Place | null = atThreadEnd({ fd: this.fd });

  close(): void {
    this.#end?.set(null);
    system().close(this.fd);
  }
}

/** Makes the thread's alarm. */
export async function makeAlarm(onWake: () => void): Promise<Alarm> {
  const eventfd = new Eventfd();
  if (preferred === "bridge") {
    try {
      return await BridgeAlarm.make(eventfd, onWake);
    } catch {
      // A runtime that cannot watch a descriptor, or no memory for the second ring.
    }
  }
  return await ReaderAlarm.make(eventfd, onWake);
}

const PAGE = 4096;
/** The `user_data` of the bridge's READ. */
const READ = 1;
/** The place in the bridge's table of files of the end that is written to. */
const SENDER = 0;

class BridgeAlarm implements Alarm {
  readonly kind = "bridge";
  readonly eventfd: number;
  readonly #event: Eventfd;
  readonly #ring: CoreRing;
  // Not the runtime's memory: that of a Worker is freed when it is terminated, at which the kernel may still read the
  // eventfd into it.
  readonly #memory: Mapping;
  #watched: Watched | null = null;
  #armed = false;

  private constructor(event: Eventfd, ring: CoreRing) {
    this.#event = event;
    this.eventfd = event.fd;
    this.#ring = ring;
    this.#memory = Mapping.anonymous(PAGE);
  }

  static async make(event: Eventfd, onWake: () => void): Promise<BridgeAlarm> {
    const ring = new CoreRing(8);
    if ((ring.features & IORING_FEAT_CQE_SKIP) === 0) {
      ring.close();
      throw new UringError(EINVAL, "io_uring_setup", { hint: "IOSQE_CQE_SKIP_SUCCESS needs Linux 5.17" });
    }
    const pair = new Int32Array(new ArrayBuffer(8));
    try {
      check(system().socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), "socketpair");
    } catch (error) {
      ring.close();
      throw error;
    }
    const [watched, sender] = pair as unknown as [number, number];
    const alarm = new BridgeAlarm(event, ring);
    try {
      // The ring has it, by no number that could become another file's before a SEND that is linked is issued.
      ring.registerFiles(Int32Array.of(sender));
      alarm.#watched = await adapter.watch(watched, () => {
        alarm.#armed = false;
        onWake();
      });
    } catch (error) {
      ring.close();
      for (const fd of pair) system().close(fd);
      throw error;
    }
    system().close(sender);
    return alarm;
  }

  arm(): void {
    const ring = this.#ring;
    // A chain that failed says so; it is armed anew then.
    if (ring.forEachCqe(() => {}) > 0) this.#armed = false;
    if (this.#armed) return;
    this.#armed = true;
    const read = ring.getSqe()!;
    read.prepRead(this.eventfd, this.#memory.address, 8, 0);
    read.flags = IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
    read.userData = READ;
    const send = ring.getSqe()!;
    send.prepSend(SENDER, this.#memory.address + 8, 1, 0);
    send.flags = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
    ring.submit();
  }

  ref(): void {
    this.#watched!.ref();
  }

  unref(): void {
    this.#watched!.unref();
  }

  close(): void {
    // First the chain, which would take the signals of whoever has the eventfd's number next.
    const cancel = this.#ring.getSqe()!;
    cancel.prepCancel64(READ, 0);
    this.#ring.submitAndGetEvents();
    this.#ring.close();
    this.#watched!.close();
    this.#event.close();
  }
}

/** How often to look for completions while nothing may keep the process alive and the runtime cannot help. */
const UNREFERENCED_POLL = 10;

class ReaderAlarm implements Alarm {
  readonly kind = "reader";
  readonly eventfd: number;
  readonly #event: Eventfd;
  readonly #reader: EventReader;
  // As in the bridge: the thread that reads outlives a Worker.
  readonly #memory: Mapping = Mapping.anonymous(PAGE);
  readonly #onWake: () => void;
  readonly #timers: typeof import("node:timers");
  /** Whether a pending read may be kept from keeping the process alive. */
  readonly #unrefs: boolean;
  #timer: unknown = null;
  #referenced = false;
  #reading = false;
  #closing = false;

  private constructor(event: Eventfd, timers: typeof import("node:timers"), onWake: () => void) {
    this.#event = event;
    this.eventfd = event.fd;
    this.#onWake = onWake;
    this.#timers = timers;
    this.#reader = adapter.openEventReader(system().libc, event.fd, this.#memory.address);
    this.#unrefs = this.#reader.unref();
  }

  static async make(event: Eventfd, onWake: () => void): Promise<ReaderAlarm> {
    // The timers of Node's, because those of the two runtimes differ in how they are unreferenced.
    return new ReaderAlarm(event, await import("node:timers"), onWake);
  }

  arm(): void {
    if (this.#unrefs || this.#referenced) this.#read();
    else if (this.#timer === null) this.#pollLater();
  }

  #read(): void {
    if (this.#reading) return;
    this.#reading = true;
    this.#reader.read().then(() => {
      this.#reading = false;
      if (this.#closing) this.#release();
      else this.#onWake();
    });
  }

  #pollLater(): void {
    this.#timer = this.#timers.setTimeout(() => {
      this.#timer = null;
      this.#onWake();
    }, UNREFERENCED_POLL).unref();
  }

  #pollNoMore(): void {
    if (this.#timer === null) return;
    this.#timers.clearTimeout(this.#timer as never);
    this.#timer = null;
  }

  ref(): void {
    this.#referenced = true;
    this.#pollNoMore();
    this.#reader.ref();
    this.#read();
  }

  unref(): void {
    this.#referenced = false;
    if (this.#reader.unref() || !this.#reading) return;
    // A pending read would keep the process alive: end it.
    this.#kick();
  }

  #kick(): void {
    system().write(this.eventfd, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]), 8);
  }

  close(): void {
    this.#closing = true;
    this.#pollNoMore();
    if (this.#reading) this.#kick();
    else this.#release();
  }

  #release(): void {
    this.#reader.close();
    this.#event.close();
  }
}
