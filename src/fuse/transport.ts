/**
 * What the server asks of a way for requests to come.
 *
 * @module
 */
import type { Slot } from "./slot.ts";

/** Where requests come from and answers go to. */
export interface Transport {
  /**
   * Answers the request in a slot, with `length` bytes of its output or an errno (negative), and gives the slot back.
   */
  reply(slot: Slot, error: number, length: number): void;
  /** Answers with an errno (negative) although the handler has still got the slot, which is then its alone. */
  abandon(slot: Slot, error: number): void;
}

/** What a way for requests to come asks of the server. */
export interface Receiver {
  /** A request has come to a slot of a transport. */
  request(slot: Slot, transport: Transport): void;
  /** The kernel has forgotten a node. */
  forget(node: number, count: number): void;
  /** A client does not want to wait for its answer any more. */
  interrupt(uniqueLow: number, uniqueHigh: number): void;
  /** There is no connection any more. */
  over(): void;
}
