/**
 * What an operation of the kernel's is to the server: how its handler is asked, and how the answer is written.
 *
 * @module
 */
import { refuse } from "./failure.ts";
import { endOfName, type NameCodec } from "./names.ts";
import type { Timeouts } from "./replies.ts";
import type { Slot } from "./slot.ts";
import type { Answer, FileSystem, Name } from "./types.ts";

/** The file system as the server calls it: every handler that an operation asks is there. */
export type Handlers = Required<FileSystem<Name>>;

/** What operations need to know. */
export interface Context {
  /** The file system. */
  readonly fs: Handlers;
  readonly names: NameCodec;
  readonly timeouts: Timeouts;
}

/** An operation. */
export interface Operation {
  /** The handler's name. */
  readonly name: keyof Handlers;
  /** What the client gets where there is no such handler: an errno, 0 for success; −1: the operation does without. */
  readonly missing: number;
  /** The size of the struct in front of the request's other parts. */
  readonly structSize: number;
  /** Asks the handler. */
  call(context: Context, slot: Slot): unknown;
  /** Writes its answer into the reply and returns the reply's length, or an errno, negative. */
  encode(context: Context, slot: Slot, result: unknown): number;
  /** Takes an answer back that came too late; null where there is nothing to take back. */
  readonly undo: ((context: Context, slot: Slot, result: unknown) => void) | null;
}

/** An operation whose handler answers with `T`. */
export interface OperationOf<T> {
  readonly name: keyof Handlers;
  readonly missing: number;
  readonly structSize: number;
  call(context: Context, slot: Slot): Answer<T>;
  encode(context: Context, slot: Slot, result: T): number;
  undo?(context: Context, slot: Slot, result: T): void;
}

/** Makes an operation. */
export function operation<T>(of: OperationOf<T>): Operation {
  return { ...of, undo: of.undo ?? null } as unknown as Operation;
}

/** Whether an answer comes later. */
export function comesLater<T>(answer: Answer<T>): answer is Promise<T> {
  return typeof answer === "object" && answer !== null && typeof (answer as Promise<T>).then === "function";
}

/** A reply that says nothing but that it went well. */
export function encodeNothing(): number {
  return 0;
}

/** The name that the request has behind its struct. */
export function nameOf({ names }: Context, slot: Slot): Name {
  return names.decode(slot.input, slot.inAt, endOfName(slot.input, slot.inAt, slot.inEnd));
}

/** The two names that the request has behind its struct. */
export function namesOf({ names }: Context, slot: Slot): [first: Name, second: Name] {
  const { input, inAt, inEnd } = slot;
  const middle = endOfName(input, inAt, inEnd);
  const end = endOfName(input, middle + 1, inEnd);
  return [names.decode(input, inAt, middle), names.decode(input, middle + 1, end)];
}

/** A field of 64 bits, refused with `errno` beyond 2⁵³. */
export function whole(slot: Slot, at: number, errno: number): number {
  const value = slot.u64(at);
  return value < 0 ? refuse(errno) : value;
}
