/**
 * Which operations work on a piece of memory: what is asked before memory of the library's own is given back.
 *
 * @module
 */
import { guardMappings } from "../ffi/memory.ts";
import type { Op } from "./op.ts";

/** A ring's engine, as far as it is asked here. */
export interface MemoryUser {
  /** The operations that have not ended. */
  live(): Iterable<Op>;
}

// Weak, so that being asked keeps no ring alive.
const users = new Set<WeakRef<MemoryUser>>();

/** What operations held that could not be ended: the kernel may use it for ever. */
const leaked = new Set<unknown>();

/** Has the operations of a ring of this thread looked through from now on; returns what ends that. */
export function enrol(user: MemoryUser): () => void {
  guardMappings(whenUnused);
  const reference = new WeakRef(user);
  users.add(reference);
  return () => void users.delete(reference);
}

/** Keeps something for good. */
export function leak(held: unknown): void {
  leaked.add(held);
}

/** Whether something that an operation holds is a view of `memory`, or contains one. */
function touches(held: unknown, memory: ArrayBuffer): boolean {
  if (typeof held !== "object" || held === null) return false;
  if (ArrayBuffer.isView(held)) return held.buffer === memory;
  if (Array.isArray(held)) return held.some((part) => touches(part, memory));
  return "bytes" in held && touches(held.bytes, memory);
}

/** The operations on any ring of this thread that work on `memory`. */
function usersOf(memory: ArrayBuffer): Op[] {
  const found: Op[] = [];
  for (const reference of users) {
    const user = reference.deref();
    if (user === undefined) users.delete(reference);
    else {for (const op of user.live()) {
        if (touches(op.view, memory) || touches(op.pins, memory)) found.push(op);
      }}
  }
  return found;
}

/**
 * Calls `then` once no operation of this thread works on `memory`: at once when none does. It is told whether the memory
 * may be given back; it may not where an operation on it could not be ended.
 */
export function whenUnused(memory: ArrayBuffer, then: (free: boolean) => void): void {
  const found = usersOf(memory);
  if (found.length === 0) {
    then(![...leaked].some((held) => touches(held, memory)));
    return;
  }
  let left = found.length;
  const ended = (): void => {
    // Others may have begun meanwhile. Not right here: completions are just being taken.
    if (--left === 0) queueMicrotask(() => whenUnused(memory, then));
  };
  for (const op of found) {
    const before = op.released;
    op.released = before === null ? ended : () => {
      before();
      ended();
    };
  }
}
