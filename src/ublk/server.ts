/**
 * The engine of a disk: fetches requests from the driver, has the handlers do them, and commits the results, all by one
 * ring. In steady state one system call commits the results of a batch of requests and brings the next ones.
 *
 * @module
 */
import {
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_TASKRUN_FLAG,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_FIXED_FILE,
  MAP_NORESERVE,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { pageSize } from "../ffi/kernel.ts";
import { Mapping } from "../ffi/memory.ts";
import { system } from "../ffi/system.ts";
import { type Sleeper, waker } from "../loop/waker.ts";
import type { Cqe } from "../ring/cqe.ts";
import { atThreadEnd, CoreRing } from "../ring/core_ring.ts";
import type { Sqe } from "../ring/sqe.ts";
import {
  UBLK_F_AUTO_BUF_REG,
  UBLK_F_SUPPORT_ZERO_COPY,
  UBLK_F_USER_COPY,
  UBLK_IO_OP_READ,
  UBLK_IO_RES_ABORT,
  UBLK_IO_RES_OK,
  UBLK_MAX_QUEUE_DEPTH,
  UBLK_QID_OFF,
  UBLK_TAG_OFF,
  UBLK_U_IO_COMMIT_AND_FETCH_REQ,
  UBLK_U_IO_FETCH_REQ,
  UBLK_U_IO_REGISTER_IO_BUF,
  UBLK_U_IO_UNREGISTER_IO_BUF,
  UBLKSRV_CMD_BUF_OFFSET,
  UBLKSRV_IO_BUF_OFFSET,
  ublksrv_io_desc,
} from "./abi.ts";
import { countDisk, transferAt } from "./calls.ts";
import type { DeviceInfo } from "./control.ts";
import { errnoOf } from "./failure.ts";
import type { Serving } from "./options.ts";
import { type Carrier, DESCRIPTOR_WORDS, KIND_OF, Place } from "./request.ts";
import { type Transfer, Transfers } from "./transfers.ts";
import type { DiskHandler, DiskHandlers, DiskStats } from "./types.ts";

const FLAGS = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
  IORING_SETUP_SUBMIT_ALL;
/** Entries per place: its commit and a transfer. More than fits is submitted in between. */
const ENTRIES_PER_PLACE = 2;
const MOST_ENTRIES = 32_768;
/** So many batches in a row are served before timers and sockets get their turn. */
const ROUNDS = 32;
/** The clock of time limits ticks so many times within one. */
const TICKS = 8;

/** What a completion is about: the high half of its `user_data`. The low half is a place, or a transfer. */
const COMMAND = 0;
const TRANSFER = 1;
const REGISTRATION = 2;
const CANCELLATION = 3;

/** The place of the device among the ring's registered files. */
const DEVICE = 0;

const EAGAIN = -11;
const EBUSY = -16;
const EOPNOTSUPP = 95;
const ETIMEDOUT = 110;

/** Serves one device. */
export class Server implements Sleeper, Carrier {
  /** The ring. */
  readonly ring: CoreRing;
  /** Resolves when the device is served no more: the kernel has taken it away, or {@link Server.close} was called. */
  readonly ended: Promise<void>;
  /** Whether the process stays alive for it. */
  wanted = true;
  /** For the waker. */
  waiting = false;
  /** For the waker. */
  alarmed = false;

  readonly #fd: number;
  readonly #device: DeviceInfo;
  readonly #serving: Serving;
  readonly #handlers: readonly (DiskHandler | undefined)[];
  readonly #places: Place[] = [];
  readonly #descriptors: Mapping[] = [];
  readonly #words: Int32Array[] = [];
  readonly #transfers: Transfers;
  readonly #autoBuffers: boolean;
  readonly #registers: boolean;
  readonly #threadEnd: { set(belongings: null): void } | null;
  readonly #end: () => void;
  readonly #visit: (cqe: Cqe) => void = (cqe) => this.#complete(cqe);
  readonly #flushNow: () => void = () => this.#flush();
  #open = true;
  #reaping = false;
  #scheduled = false;
  #serviced = 0;
  #followed = 0;
  #gone = 0;
  #clock = 0;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #requests = 0;
  #failed = 0;
  #timedOut = 0;

  /**
   * @param device The device, as the driver has made it.
   * @param fd Its `/dev/ublkcN`, which is closed with the server, also when this throws.
   */
  constructor(device: DeviceInfo, fd: number, handlers: DiskHandlers, serving: Serving) {
    this.#device = device;
    this.#fd = fd;
    this.#serving = serving;
    this.#handlers = KIND_OF.map((kind) => kind === undefined ? undefined : handlers[kind]?.bind(handlers));
    this.#autoBuffers = (device.flags & UBLK_F_AUTO_BUF_REG) !== 0;
    this.#registers = !this.#autoBuffers && (device.flags & UBLK_F_SUPPORT_ZERO_COPY) !== 0;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#end = resolve;
    try {
      this.ring = this.#makeRing();
    } catch (error) {
      system().close(fd);
      throw error;
    }
    this.#threadEnd = atThreadEnd({ fd });
    this.#transfers = new Transfers((transfer) => this.#push(transfer));
    waker.join();
    countDisk(1);
  }

  #makeRing(): CoreRing {
    const { queues, depth } = this.#device;
    const places = queues * depth;
    const entries = Math.min(MOST_ENTRIES, places * ENTRIES_PER_PLACE);
    const ring = new CoreRing(entries, { flags: FLAGS });
    try {
      ring.registerFiles([this.#fd]);
      if (this.#autoBuffers || this.#registers) ring.registerBuffersSparse(places);
      this.#map();
    } catch (error) {
      ring.close();
      for (const descriptors of this.#descriptors) descriptors.unmap();
      for (const { memory } of this.#places) memory?.unmap();
      throw error;
    }
    try {
      ring.registerRingFd();
    } catch {
      // All of the thread's 16 places are taken: a little slower, otherwise the same.
    }
    return ring;
  }

  /** Maps the descriptors of each queue, and makes the places. */
  #map(): void {
    const { queues, depth } = this.#device;
    const page = pageSize();
    const pages = (places: number): number => Math.ceil(places * ublksrv_io_desc.size / page) * page;
    for (let queue = 0; queue < queues; queue++) {
      const offset = UBLKSRV_CMD_BUF_OFFSET + queue * pages(UBLK_MAX_QUEUE_DEPTH);
      const descriptors = Mapping.readable(pages(depth), this.#fd, offset);
      this.#descriptors.push(descriptors);
      this.#words.push(new Int32Array(descriptors.buffer));
      for (let tag = 0; tag < depth; tag++) {
        this.#places.push(this.#makePlace(queue * depth + tag, queue, tag));
      }
    }
  }

  #makePlace(index: number, queue: number, tag: number): Place {
    const copies = !this.#autoBuffers && !this.#registers;
    const memory = copies ? Mapping.anonymous(this.#device.maxRequest, MAP_NORESERVE) : null;
    return new Place(this, index, queue, tag, memory);
  }

  /** Whether it is at work. */
  get open(): boolean {
    return this.#open;
  }

  /** How many commands and transfers the kernel has. */
  get inFlight(): number {
    return this.#places.length - this.#gone;
  }

  /** Whether this ring's work keeps the process alive. */
  get referenced(): boolean {
    return this.wanted;
  }

  /** Whether the process stays alive for it from now on. */
  refer(wanted: boolean): void {
    this.wanted = wanted;
    waker.update();
  }

  /** Counters. */
  get stats(): DiskStats {
    return {
      requests: this.#requests,
      failed: this.#failed,
      timedOut: this.#timedOut,
      pending: this.#serviced,
    };
  }

  /** Fetches the first requests: from now on the device can be started. */
  start(): void {
    for (const place of this.#places) this.#command(UBLK_U_IO_FETCH_REQ, place, 0);
    this.#submit(false);
    waker.wait(this);
  }

  /** For the waker: takes what has come, and serves it. */
  poll(): boolean {
    if (!this.#open || this.#reaping) return false;
    if (this.ring.cqNeedsEnter()) this.ring.getEvents();
    return this.#serve();
  }

  /** Serves what has come, and what comes while that is committed; whether there was anything. */
  #serve(): boolean {
    let any = false;
    for (let round = 0; round < ROUNDS && this.#open; round++) {
      if (!this.#reap()) break;
      any = true;
      // What asks next is mostly about to: to wait a moment inside the call is sooner than to be woken. But not when
      // something else of this thread's has to go on meanwhile.
      const idle = this.#followed <= this.#transfers.size && round + 1 < ROUNDS;
      this.#submit(idle && waker.isAlone(this));
    }
    if (this.#gone > 0 && this.#serviced === 0) this.#leave();
    return any;
  }

  #reap(): boolean {
    this.#reaping = true;
    try {
      return this.ring.forEachCqe(this.#visit) > 0;
    } finally {
      this.#reaping = false;
    }
  }

  /** Submits what is queued; may wait for a moment for the next request. */
  #submit(lingers: boolean): void {
    try {
      if (lingers) this.ring.submitAndLinger(1);
      else this.ring.submitAndGetEvents();
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      if (error.errno === EBUSY || error.errno === EAGAIN) {
        // The kernel is short of something: let it breathe.
        setImmediate(this.#flushNow);
        return;
      }
      this.#give(error);
    }
  }

  /** Has what was queued outside of a round submitted at the end of this turn of the event loop's. */
  #schedule(): void {
    if (this.#scheduled || this.#reaping) return;
    this.#scheduled = true;
    queueMicrotask(this.#flushNow);
  }

  #flush(): void {
    this.#scheduled = false;
    if (!this.#open) return;
    this.#submit(false);
    this.#serve();
    if (this.#open) waker.wait(this);
  }

  /** A free entry of the queue. */
  #entry(): Sqe {
    let sqe = this.ring.getSqe();
    if (sqe === null) {
      this.ring.submit();
      sqe = this.ring.getSqe();
      if (sqe === null) throw new UringError(EBUSY, "io_uring_enter");
    }
    return sqe;
  }

  /** Queues a command about a place: a fetch, or a commit and the next fetch. */
  #command(cmdOp: number, place: Place, result: number): void {
    const sqe = this.#entry();
    sqe.prepUringCmd(cmdOp, DEVICE);
    sqe.flags = IOSQE_FIXED_FILE;
    sqe.setAddr3Words(place.queue | (place.tag << 16), result);
    // The memory for the next request is named together with the result of this one.
    if (place.memory !== null) sqe.attrTypeMask = place.memory.address;
    else if (this.#autoBuffers) sqe.addr = place.index;
    sqe.setUserData(place.index, COMMAND);
  }

  /** Queues the registration of a request's pages with the ring, or its end. Commands are done in order. */
  #register(cmdOp: number, place: Place): void {
    const sqe = this.#entry();
    sqe.prepUringCmd(cmdOp, DEVICE);
    sqe.flags = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
    sqe.setAddr3Words(place.queue | (place.tag << 16), 0);
    sqe.attrTypeMask = place.index;
    sqe.setUserData(place.index, REGISTRATION);
  }

  #complete(cqe: Cqe): void {
    const index = cqe.userDataLow;
    const { res } = cqe;
    switch (cqe.userDataHigh) {
      case COMMAND:
        if (res === UBLK_IO_RES_OK) this.#arrived(this.#places[index]!);
        else this.#retire(this.#places[index]!, res);
        return;
      case TRANSFER:
        this.#transfers.complete(index, res);
        return;
      default:
        this.report(new UringError(res, "ublk REGISTER_IO_BUF"), this.#places[index]!);
    }
  }

  /** A request has come: it is done on the spot unless its handler returns a promise. */
  #arrived(place: Place): void {
    place.begin(this.#words[place.queue]!, place.tag * DESCRIPTOR_WORDS);
    this.#serviced++;
    const handler = this.#handlers[place.op];
    try {
      if (this.#registers && place.hasData) this.#register(UBLK_U_IO_REGISTER_IO_BUF, place);
      if (handler === undefined) {
        throw new UringError(EOPNOTSUPP, place.kind, { hint: "there is no handler" });
      }
      const promise = handler(place);
      // Handlers end with whatever their last expression is.
      if (typeof promise === "object" && promise !== null && typeof promise.then === "function") {
        this.#follow(place, promise);
        return;
      }
    } catch (error) {
      this.#fail(place, error);
      return;
    }
    this.#finish(place, place.success);
  }

  /** Waits for the end of a handler. */
  #follow(place: Place, promise: PromiseLike<unknown>): void {
    place.began = this.#clock;
    this.#followed++;
    if (this.#timer === null) this.#tick();
    promise.then(
      () => this.#settle(place, null),
      (error: unknown) => this.#settle(place, { error }),
    );
  }

  #settle(place: Place, failure: { readonly error: unknown } | null): void {
    // The place may have been taken from the handler, which was told.
    if (place.state !== "serving" || !this.#open) return;
    this.#followed--;
    if (failure === null) this.#finish(place, place.success);
    else this.#fail(place, failure.error);
    this.#schedule();
  }

  #fail(place: Place, error: unknown): void {
    this.#failed++;
    this.report(error, place);
    this.#finish(place, -errnoOf(error));
  }

  /** Commits the result of a request, and fetches the next one for its place. */
  #finish(place: Place, result: number): void {
    this.#requests++;
    this.#serviced--;
    place.state = "fetching";
    try {
      if (this.#registers && place.hasData) this.#register(UBLK_U_IO_UNREGISTER_IO_BUF, place);
      this.#command(UBLK_U_IO_COMMIT_AND_FETCH_REQ, place, result);
    } catch (error) {
      this.#give(error);
    }
  }

  /** The ring is unusable: the device is given back, and with it what its clients wait for. */
  #give(error: unknown): void {
    this.report(error, null);
    this.#leave();
  }

  /** The driver gives no more requests for a place. */
  #retire(place: Place, res: number): void {
    if (place.state === "gone") return;
    place.state = "gone";
    this.#gone++;
    if (res !== UBLK_IO_RES_ABORT) this.report(new UringError(res, "ublk COMMIT_AND_FETCH_REQ"), null);
  }

  /** Tells of a failure; whoever is told cannot do harm. */
  report(error: unknown, place: Place | null): void {
    try {
      this.#serving.onError(error, place);
    } catch (thrown) {
      console.error("uring/ublk: onError has thrown:", thrown);
    }
  }

  /** Looks for handlers that take too long, as long as there are some at work. */
  #tick(): void {
    this.#timer = null;
    if (this.#followed === 0 || !this.#open) return;
    this.#clock++;
    const before = this.#clock - TICKS - 1;
    for (const place of this.#places) {
      if (place.state === "serving" && place.began <= before) this.#expire(place);
    }
    if (this.#followed === 0) return;
    this.#timer = setTimeout(() => this.#tick(), this.#serving.timeout / TICKS);
    // The process lives as long as its disks do, not for this.
    (this.#timer as { unref?: () => void }).unref?.();
  }

  /** Has every request that is being served fail. */
  expireAll(): void {
    for (const place of this.#places) if (place.state === "serving") this.#expire(place);
  }

  /** Fails a request whose handler goes on. What it was given stays its own: the place gets other memory. */
  #expire(late: Place): void {
    const { index, queue, tag } = late;
    const error = new UringError(ETIMEDOUT, late.kind, { hint: "the handler has taken too long" });
    const place = this.#makePlace(index, queue, tag);
    place.op = late.op;
    this.#places[index] = place;
    this.#followed--;
    this.#failed++;
    this.#timedOut++;
    this.report(error, late);
    late.expire(error);
    this.#finish(place, -ETIMEDOUT);
    this.#schedule();
  }

  transfer(place: Place, fd: number, position: number): Promise<void> {
    return this.#transfers.start(place, fd, position);
  }

  /** Queues the rest of a transfer. */
  #push(transfer: Transfer): void {
    const { place, fd, position, done } = transfer;
    const reads = place.op === UBLK_IO_OP_READ;
    const sqe = this.#entry();
    const length = place.length - done;
    const { memory } = place;
    if (memory === null) {
      if (reads) sqe.prepReadFixed(fd, done, length, position + done, place.index);
      else sqe.prepWriteFixed(fd, done, length, position + done, place.index);
    } else if (reads) sqe.prepRead(fd, memory.address + done, length, position + done);
    else sqe.prepWrite(fd, memory.address + done, length, position + done);
    sqe.setUserData(transfer.number, TRANSFER);
    this.#schedule();
  }

  copy(place: Place, memory: Uint8Array, at: number): void {
    if ((this.#device.flags & UBLK_F_USER_COPY) === 0) {
      throw new UringError(EOPNOTSUPP, "copy", { hint: "the disk was made without UBLK_F_USER_COPY" });
    }
    const position = UBLKSRV_IO_BUF_OFFSET + place.queue * 2 ** UBLK_QID_OFF + place.tag * 2 ** UBLK_TAG_OFF;
    for (let done = 0; done < memory.byteLength;) {
      const part = memory.subarray(done);
      const result = transferAt(this.#fd, part, position + at + done, place.op === UBLK_IO_OP_READ);
      if (result <= 0) throw new UringError(result, "copy");
      done += result;
    }
  }

  /** Ends the transfers of requests that were given up; whether the kernel has let go of their memory. */
  #drain(): Promise<boolean> {
    if (this.#transfers.size === 0) return Promise.resolve(true);
    try {
      for (const number of this.#transfers.numbers()) {
        const sqe = this.#entry();
        sqe.prepCancel64(number + TRANSFER * 2 ** 32, 0);
        sqe.flags = IOSQE_CQE_SKIP_SUCCESS;
        sqe.setUserData(0, CANCELLATION);
      }
    } catch {
      // They end by themselves, or are left alone.
    }
    return this.#transfers.drain(() => {
      this.#submit(false);
      this.ring.forEachCqe((cqe) => {
        if (cqe.userDataHigh === TRANSFER) this.#transfers.complete(cqe.userDataLow, cqe.res);
      });
    });
  }

  /** The kernel has taken the device away: closing everything is what it waits for. */
  #leave(): void {
    void this.close();
  }

  /**
   * Gives the device back to the kernel, in whatever state it is. What is being served fails, or is served by the next
   * server.
   */
  async close(): Promise<void> {
    if (!this.#open) return this.ended;
    this.#open = false;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    waker.done(this);
    this.#threadEnd?.set(null);
    const free = await this.#drain();
    this.ring.close();
    waker.leave();
    countDisk(-1);
    system().close(this.#fd);
    for (const descriptors of this.#descriptors) descriptors.unmap();
    if (free) { for (const { memory } of this.#places) memory?.unmap(); }
    else leaked.push(this.#places);
    this.#end();
  }
}

/** Memory that the kernel may still write to: kept for good. */
const leaked: unknown[] = [];
