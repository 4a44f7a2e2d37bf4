/**
 * The part of `node:events` that an open file has: loading that module takes Deno ten milliseconds.
 *
 * @module
 */

/** What is called for an event. */
export type Listener = (...args: unknown[]) => void;

interface Entry {
  readonly listener: Listener;
  readonly once: boolean;
}

/** Something that has events, with the methods of `node:events` for listening to them. */
export class Emitter {
  readonly #entries = new Map<string | symbol, readonly Entry[]>();

  #add(event: string | symbol, listener: Listener, once: boolean): this {
    this.#entries.set(event, [...(this.#entries.get(event) ?? []), { listener, once }]);
    return this;
  }

  /** Calls `listener` at each event. */
  on(event: string | symbol, listener: Listener): this {
    return this.#add(event, listener, false);
  }

  /** The same as {@link Emitter.on}. */
  addListener(event: string | symbol, listener: Listener): this {
    return this.#add(event, listener, false);
  }

  /** Calls `listener` at the next event. */
  once(event: string | symbol, listener: Listener): this {
    return this.#add(event, listener, true);
  }

  /** Ends what {@link Emitter.on} or {@link Emitter.once} began; of several the last. */
  off(event: string | symbol, listener: Listener): this {
    const entries = this.#entries.get(event) ?? [];
    const at = entries.findLastIndex((entry) => entry.listener === listener);
    const left = entries.filter((_, i) => i !== at);
    if (left.length === 0) this.#entries.delete(event);
    else this.#entries.set(event, left);
    return this;
  }

  /** The same as {@link Emitter.off}. */
  removeListener(event: string | symbol, listener: Listener): this {
    return this.off(event, listener);
  }

  /** Ends all listening, or that to one event. */
  removeAllListeners(event?: string | symbol): this {
    if (event === undefined) this.#entries.clear();
    else this.#entries.delete(event);
    return this;
  }

  /** How many listen to an event. */
  listenerCount(event: string | symbol): number {
    return this.#entries.get(event)?.length ?? 0;
  }

  /** Who listens to an event. */
  listeners(event: string | symbol): Listener[] {
    return (this.#entries.get(event) ?? []).map(({ listener }) => listener);
  }

  /** Which events are listened to. */
  eventNames(): (string | symbol)[] {
    return [...this.#entries.keys()];
  }

  /** Calls all who listen to an event; whether there were any. */
  emit(event: string | symbol, ...args: unknown[]): boolean {
    const entries = this.#entries.get(event) ?? [];
    for (const { listener, once } of entries) {
      if (once) this.off(event, listener);
      listener.apply(this, args);
    }
    return entries.length > 0;
  }
}
