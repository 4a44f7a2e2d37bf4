/**
 * Connecting to a host that has several addresses: "happy eyeballs", RFC 8305.
 *
 * @module
 */
import { UringError } from "../mod.ts";
import type { ResolvedAddress } from "./resolve.ts";

/** Connects to one address. When `signal` aborts it gives up, closes what it has opened, and rejects. */
export type Attempt<T> = (address: ResolvedAddress, signal: AbortSignal) => Promise<T>;

/** Options of {@link dial}. */
export interface DialOptions<T> {
  /** Gives all attempts up when it aborts; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds after which the next address is tried although the one before has not failed; default 250. */
  delay?: number | undefined;
  /** Closes a connection that came about too late: when another one had won, or the signal had aborted. */
  discard(connection: T): void;
}

/** None of several addresses could be connected to. `code`, `errno` and `syscall` are the first one's. */
export class DialError extends UringError {
  /** The error of each address, in the order in which they were tried. */
  readonly errors: readonly unknown[];

  /**
   * @param first The error of the first address.
   * @param errors All of them, the first one among them.
   */
  constructor(first: UringError, errors: readonly unknown[]) {
    super(first.errno, first.syscall, { cause: first });
    this.message = `None of ${errors.length} addresses could be connected to: ${
      errors.map(messageOf).join("; ")
    }`;
    this.errors = errors;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const DELAY = 250;

/** The addresses with the families taking turns, beginning with the first one's, and otherwise in their order. */
export function interleave(addresses: readonly ResolvedAddress[]): ResolvedAddress[] {
  const first = addresses[0]?.family;
  const own = addresses.filter(({ family }) => family === first);
  const other = addresses.filter(({ family }) => family !== first);
  return own.flatMap((address, i) => other[i] === undefined ? [address] : [address, other[i]])
    .concat(other.slice(own.length));
}

/**
 * Connects to whichever of the addresses answers first. They are tried in turns of the two families, each one as soon as
 * the one before has failed or {@link DialOptions.delay} is over; the others are given up when one succeeds.
 *
 * @throws The error when there was one address; {@link DialError} when none of several worked (`AggregateError` where the
 * first one's is no system error); the signal's reason when it aborts. It rejects when all attempts have ended.
 */
export function dial<T>(
  addresses: readonly ResolvedAddress[],
  attempt: Attempt<T>,
  options: DialOptions<T>,
): Promise<T> {
  if (addresses.length === 0) throw new TypeError("There is no address to connect to");
  return new Race(interleave(addresses), attempt, options).run();
}

/** Attempts at several addresses, of which one wins. */
class Race<T> {
  readonly #addresses: readonly ResolvedAddress[];
  readonly #attempt: Attempt<T>;
  readonly #options: DialOptions<T>;
  readonly #running = new Set<AbortController>();
  readonly #errors: unknown[] = [];
  readonly #end: PromiseWithResolvers<T> = Promise.withResolvers<T>();
  readonly #onAbort: () => void = () => this.#giveUp();
  #next = 0;
  #over = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(addresses: readonly ResolvedAddress[], attempt: Attempt<T>, options: DialOptions<T>) {
    this.#addresses = addresses;
    this.#attempt = attempt;
    this.#options = options;
  }

  run(): Promise<T> {
    const { signal } = this.#options;
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    signal?.addEventListener("abort", this.#onAbort, { once: true });
    this.#start();
    return this.#end.promise;
  }

  /** Tries the next address, and sees to it that the one after it has its turn. */
  #start(): void {
    clearTimeout(this.#timer);
    const index = this.#next++;
    const controller = new AbortController();
    this.#running.add(controller);
    if (this.#next < this.#addresses.length) {
      this.#timer = setTimeout(() => this.#start(), this.#options.delay ?? DELAY);
    }
    void this.#run(index, controller);
  }

  async #run(index: number, controller: AbortController): Promise<void> {
    try {
      const connection = await this.#attempt(this.#addresses[index]!, controller.signal);
      this.#running.delete(controller);
      if (this.#over) this.#options.discard(connection);
      else this.#win(connection);
    } catch (error) {
      this.#running.delete(controller);
      this.#errors[index] = error;
      if (!this.#over && this.#next < this.#addresses.length) this.#start();
    }
    if (this.#running.size === 0) this.#lose();
  }

  #win(connection: T): void {
    this.#stop(new UringError(ECANCELED, "connect", { hint: "another address was faster" }));
    this.#end.resolve(connection);
  }

  #giveUp(): void {
    this.#stop(this.#options.signal!.reason);
  }

  /** Ends what is running; when the last of it has ended, the race is lost unless it was won. */
  #stop(reason: unknown): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    for (const controller of this.#running) controller.abort(reason);
  }

  #lose(): void {
    const { signal } = this.#options;
    if (!this.#over) {
      this.#stop(undefined);
      this.#end.reject(failure(this.#errors));
    } else if (signal?.aborted === true) this.#end.reject(signal.reason);
  }
}

const ECANCELED = 125;

function failure(errors: readonly unknown[]): unknown {
  const [first] = errors;
  if (errors.length === 1) return first;
  if (first instanceof UringError) return new DialError(first, errors);
  return new AggregateError(errors, errors.map(messageOf).join("; "));
}
