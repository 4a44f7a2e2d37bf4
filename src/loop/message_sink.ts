/**
 * How messages from other rings are told from completions, and who takes them.
 *
 * @module
 */
import type { UringError } from "../ffi/errors.ts";

/**
 * The largest tag of a message from another ring. Its `user_data` is `NOBODY`, which no operation has, with the sign
 * bit of the high half set, which no request to cancel has, over the tag.
 */
export const MOST_TAG = 0x7fff_ffff;

/** What takes the messages of other rings. */
export interface MessageSink {
  /** Called for each. */
  message(tag: number, res: number): void;
  /** Called when the ring closes. */
  end(error: UringError): void;
}
