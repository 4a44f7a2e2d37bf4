/**
 * Connections that live in the ring's table of files and are no descriptors of the process: what is different about them.
 *
 * @module
 */
import {
  AF_INET,
  AF_INET6,
  IORING_MSG_RING_CQE_SKIP,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_FIXED_FILE,
  SHUT_WR,
  SO_LINGER,
  SO_PEERNAME,
  SOCKET_URING_OP_GETSOCKOPT,
  SOCKET_URING_OP_SETSOCKOPT,
  SOL_SOCKET,
} from "../ffi/abi.ts";
import { check } from "../ffi/errors.ts";
import { kernelHas } from "../ffi/kernel.ts";
import { Mapping } from "../ffi/memory.ts";
import { sockaddr_in, sockaddr_in6 } from "../ffi/structs.ts";
import { system } from "../ffi/system.ts";
import type { DirectDescriptor } from "../loop/direct.ts";
import type { CompletionSink } from "../loop/op.ts";
import { decodeAddress } from "../loop/sockaddr.ts";
import type { SocketAddress } from "../mod.ts";
import { CoreRing } from "../ring/core_ring.ts";
import type { Engine } from "./engine.ts";
import { addressOfEnd, NOWHERE } from "./socket_calls.ts";

/** How many connections a ring has in its table; those beyond become ordinary descriptors. */
export const MOST_DIRECT = 16384;

/** Room for the address of an IP connection, and how much of it is mapped at once. */
const NAME = 32;
const NAMES = 256;
const WORDS = NAME / 4;

/** `user_data` of what nobody wants to hear of. */
const UNHEARD = -1;

const UNINTERESTED: CompletionSink = { complete: () => {} };

type Family = SocketAddress["family"];

/** What the connections of a ring share that are direct descriptors. */
export class DirectSupport {
  readonly #engine: Engine;
  #names: Mapping[] = [];
  #words: Int32Array[] = [];
  #free: number[] = [];
  #installer: CoreRing | null = null;
  #linger: Mapping | null = null;

  /** @param engine The ring's engine. */
  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * Has the kernel put the address of a connection's other end somewhere, with the next submission; where that is.
   *
   * @param family The connection's, if it is known.
   */
  askPeer(slot: number, family: Family | null): number {
    const place = this.#free.pop() ?? this.#map();
    const at = place % NAMES;
    const chunk = (place - at) / NAMES;
    this.#words[chunk]![at * WORDS] = 0;
    const address = this.#names[chunk]!.address + at * NAME;
    // The kernel refuses to give more bytes than the address has: those of IPv6 fail for IPv4.
    const ask = (size: number): void =>
      this.#command(SOCKET_URING_OP_GETSOCKOPT, slot, SO_PEERNAME, address, size);
    if (family !== "ipv6") ask(sockaddr_in.size);
    if (family !== "ipv4") ask(sockaddr_in6.size);
    return place;
  }

  /** What {@link DirectSupport.askPeer} has brought, for {@link addressIn}. */
  bytesAt(place: number): Uint8Array {
    const at = place % NAMES;
    return new Uint8Array(this.#names[(place - at) / NAMES]!.buffer, at * NAME, NAME);
  }

  /** The place can be used again. */
  forget(place: number): void {
    this.#free.push(place);
  }

  /** Has closing reset a connection. */
  resetOnClose(slot: number): void {
    if (this.#linger === null) {
      this.#linger = Mapping.anonymous(8);
      // `struct linger`: on, for 0 seconds.
      new Int32Array(this.#linger.buffer)[0] = 1;
    }
    this.#command(SOCKET_URING_OP_SETSOCKOPT, slot, SO_LINGER, this.#linger.address, 8);
  }

  #command(command: number, slot: number, option: number, address: number, length: number): void {
    const { driver } = this.#engine;
    let sqe = driver.prompt ? driver.bare(UNHEARD) : null;
    const op = sqe === null ? driver.begin("socket") : null;
    sqe ??= op!.sqe!;
    sqe.prepCmdSock(command, slot, SOL_SOCKET, option, address, length);
    sqe.flags = IOSQE_FIXED_FILE | (op === null ? IOSQE_CQE_SKIP_SUCCESS : 0);
    if (op === null) driver.touch();
    else driver.launch(op, UNINTERESTED);
  }

  #map(): number {
    const first = this.#names.length * NAMES;
    const mapping = Mapping.anonymous(NAMES * NAME);
    this.#names.push(mapping);
    this.#words.push(new Int32Array(mapping.buffer));
    for (let place = first + NAMES - 1; place > first; place--) this.#free.push(place);
    return first;
  }

  /**
   * A descriptor of the process for a direct one, at once: by way of a second ring's table, since what this one completes
   * may be behind what it is telling of right now. Negative: an error's number. The caller closes it.
   */
  install(slot: number): number {
    const { driver } = this.#engine;
    const ring = this.#installer ??= makeInstaller();
    const op = driver.begin("msg_ring_fd");
    op.sqe!.prepMsgRingFd(ring.fd, slot, 0, 0, IORING_MSG_RING_CQE_SKIP);
    driver.launch(op, UNINTERESTED);
    driver.flush();
    ring.getSqe()!.prepFixedFdInstall(0, 0);
    ring.submitAndWait(1);
    const cqe = ring.peekCqe()!;
    const fd = cqe.res;
    ring.cqeSeen(cqe);
    ring.registerFilesUpdate(0, [-1]);
    return fd;
  }

  /** The ring is closed. */
  release(): void {
    this.#installer?.close();
    for (const mapping of this.#names.splice(0)) mapping.unmap();
    this.#words = [];
    this.#free = [];
    this.#linger?.unmap();
    this.#linger = null;
  }
}

/** Whether connections can be direct descriptors, with the table made for them. */
export function prepareDirect(engine: Engine): boolean {
  if (!kernelHas("6.8")) return false;
  const { table } = engine.uring;
  table.grow(MOST_DIRECT);
  table.shareWithKernel();
  return true;
}

/**
 * Whether another connection can be a direct descriptor. The kernel accepts on its own, as many as the completion queue has
 * room for, before it can be told that the table is full; what it has no slot for it would close.
 */
export function roomForDirect({ driver, uring }: Engine): boolean {
  return uring.table.left > 2 * driver.ring.cqEntries;
}

function makeInstaller(): CoreRing {
  const ring = new CoreRing(2);
  ring.registerFilesSparse(1);
  return ring;
}

/** A connection's descriptor of the process for what cannot do without: its own, or one that lasts as long as this. */
export class RealDescriptor implements Disposable {
  /** The number. */
  readonly fd: number;
  readonly #owned: boolean;

  /** @throws UringError: `EMFILE`… */
  constructor({ engine, fd, side }: { engine: Engine; fd: number; side: DirectSide | null }) {
    this.#owned = side !== null;
    this.fd = this.#owned ? check(engine.direct.install(fd), "fixed_fd_install") : fd;
  }

  /** Closes it, unless it is the connection's own. */
  [Symbol.dispose](): void {
    if (this.#owned) system().close(this.fd);
  }
}

/** The address in what {@link DirectSupport.bytesAt} gives; null when there is none, or not yet. */
function addressIn(bytes: Uint8Array): SocketAddress | null {
  const family = bytes[0]! | bytes[1]! << 8;
  if (family === AF_INET) return decodeAddress(bytes, sockaddr_in.size);
  return family === AF_INET6 ? decodeAddress(bytes, sockaddr_in6.size) : null;
}

/** A connection that is a direct descriptor, as far as it differs from others. */
export class DirectSide {
  /** The connection. */
  readonly file: DirectDescriptor;
  /** Whether it is a Unix socket. */
  readonly unix: boolean;
  readonly #engine: Engine;
  /** Where its address is looked up; −1 when that is over. */
  #place: number;
  // As it is kept for a connection that is closed: as bytes, until somebody asks.
  #remote: SocketAddress | Uint8Array | null = null;
  #local: SocketAddress | null;
  // How many operations the kernel may look the file up for later than it was told to, and what waits for them.
  #late = 0;
  #closed: (() => void) | null = null;

  /**
   * @param engine The ring's engine.
   * @param file The connection.
   * @param local The address of this end, if it is known.
   * @param family What it is, if that is known.
   */
  constructor(
    engine: Engine,
    file: DirectDescriptor,
    local: SocketAddress | null,
    family: Family | null,
  ) {
    this.#engine = engine;
    this.file = file;
    this.#local = local;
    this.unix = family === "unix";
    // The other end of a Unix socket rarely has a name, and of any length.
    this.#place = this.unix ? -1 : engine.direct.askPeer(file.slot, family);
  }

  /** The address of this end; nowhere once it is closed. */
  get local(): SocketAddress {
    return this.#local ??= this.#ask("getsockname");
  }

  /** The address of the other end. */
  get remote(): SocketAddress {
    const known = this.#remote;
    if (known !== null) {
      return known instanceof Uint8Array ? this.#remote = addressIn(known) ?? NOWHERE : known;
    }
    const place = this.#place;
    if (place < 0) return this.#remote = this.#ask("getpeername");
    const { direct, driver } = this.#engine;
    const bytes = direct.bytesAt(place);
    let remote = addressIn(bytes);
    if (remote === null && !driver.closed) {
      // It is on its way.
      driver.flush();
      remote = addressIn(bytes);
    }
    this.#place = -1;
    direct.forget(place);
    return this.#remote = remote ?? this.#ask("getpeername");
  }

  #ask(name: "getsockname" | "getpeername"): SocketAddress {
    if (this.file.closed || this.#engine.driver.closed) return NOWHERE;
    const fd = this.#engine.direct.install(this.file.slot);
    if (fd < 0) return NOWHERE;
    const address = addressOfEnd(name, fd);
    system().close(fd);
    return address;
  }

  /** Something works on it that the kernel may look up later: it stays open until {@link DirectSide.letGo}. */
  hold(): void {
    this.#late++;
  }

  /** Ends a {@link DirectSide.hold}. */
  letGo(): void {
    if (--this.#late > 0 || this.#closed === null) return;
    const closed = this.#closed;
    this.#closed = null;
    this.close(closed);
  }

  /** Closes it, when nothing holds it any more. */
  close(closed: () => void): void {
    const { file } = this;
    const { driver } = this.#engine;
    if (this.#late > 0) {
      this.#closed = closed;
      return;
    }
    file.state = "closing";
    if (driver.closed) {
      // The table goes with the ring.
      file.table.release(file);
      queueMicrotask(closed);
      return;
    }
    const op = driver.begin("close");
    op.sqe!.prepCloseDirect(file.slot);
    driver.launch(op, {
      complete: () => {
        file.table.release(file);
        closed();
      },
    });
  }

  /** Says that nothing more will be written. The kernel has a thread of its own do it. */
  shutdown(ended: (res: number) => void): void {
    const { driver } = this.#engine;
    if (driver.closed) return;
    this.hold();
    const op = driver.begin("shutdown");
    op.sqe!.prepShutdown(this.file.slot, SHUT_WR);
    op.sqe!.flags = IOSQE_FIXED_FILE;
    driver.launch(op, {
      complete: (res) => {
        ended(res);
        this.letGo();
      },
    });
  }

  /** It is closed: what it should be known by is taken down, and its place given back. */
  settle(): void {
    const place = this.#place;
    this.#place = -1;
    const { direct } = this.#engine;
    this.#remote ??= place < 0 ? NOWHERE : direct.bytesAt(place).slice();
    if (place >= 0) direct.forget(place);
  }
}
