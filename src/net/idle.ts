/**
 * Noticing connections on which nothing happens, thousands of them at the cost of a store per message.
 *
 * @module
 */
import type { AnySocket } from "./socket.ts";

/** How many slots the wheel has. */
const SLOTS = 256;
/** How long a slot lasts, in milliseconds. */
const SLOT = 64;

/**
 * A wheel of slots: each connection stands in the slot in which its time would be up, if nothing had happened since it was
 * put there. Only then it is looked at again. One timer serves all.
 */
export class IdleWheel {
  readonly #slots: Set<AnySocket>[] = Array.from({ length: SLOTS }, () => new Set());
  #count = 0;
  #at = 0;
  #timer: ReturnType<typeof setTimeout> | null = null;
  readonly #look: () => void;

  /** @param look Takes what has come meanwhile. */
  constructor(look: () => void) {
    this.#look = look;
  }

  /** Watches a connection, or one that is watched already anew. */
  watch(socket: AnySocket): void {
    this.forget(socket);
    const now = performance.now();
    socket.activeAt = now;
    if (this.#count === 0) this.#at = Math.floor(now / SLOT);
    this.#insert(socket);
    this.#count++;
    this.#arm();
  }

  #insert(socket: AnySocket): void {
    const due = Math.ceil((socket.activeAt + socket.idleAfter) / SLOT);
    const slot = Math.min(Math.max(due, this.#at + 1), this.#at + SLOTS - 1) % SLOTS;
    socket.idleSlot = slot;
    this.#slots[slot]!.add(socket);
  }

  /** Watches a connection no more. */
  forget(socket: AnySocket): void {
    const { idleSlot } = socket;
    if (idleSlot < 0) return;
    socket.idleSlot = -1;
    this.#slots[idleSlot]!.delete(socket);
    if (--this.#count > 0 || this.#timer === null) return;
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #arm(): void {
    if (this.#timer !== null || this.#count === 0) return;
    let ahead = 1;
    while (ahead < SLOTS - 1 && this.#slots[(this.#at + ahead) % SLOTS]!.size === 0) ahead++;
    const delay = Math.max(1, (this.#at + ahead) * SLOT - performance.now());
    const timer = setTimeout(() => this.#turn(), delay);
    this.#timer = timer;
    // What keeps the process alive are the connections, if anything.
    if (typeof timer === "number") Deno.unrefTimer(timer);
    else timer.unref();
  }

  #turn(): void {
    this.#timer = null;
    // What came while the thread was busy with something else was not late.
    this.#look();
    const now = performance.now();
    const until = Math.floor(now / SLOT);
    const due: AnySocket[] = [];
    for (let steps = Math.min(until - this.#at, SLOTS); steps > 0; steps--) {
      this.#at = steps === 1 ? until : this.#at + 1;
      const slot = this.#slots[this.#at % SLOTS]!;
      for (const socket of slot) due.push(socket);
    }
    for (const socket of due) {
      if (socket.idleSlot < 0) continue;
      if (socket.activeAt + socket.idleAfter <= now) {
        this.forget(socket);
        socket.idle();
      } else {
        this.#slots[socket.idleSlot]!.delete(socket);
        this.#insert(socket);
      }
    }
    this.#arm();
  }
}
