/**
 * Personalities: credentials that operations can act with.
 *
 * @module
 */
import type { Driver } from "./driver.ts";

interface Registration {
  readonly driver: Driver;
  readonly id: number;
}

// One that is dropped without being disposed of is taken back.
const dropped = new FinalizationRegistry<Registration>((registration) => unregister(registration, () => {}));

/**
 * The credentials that the thread had when `uring.registerPersonality` was called: user, groups, capabilities. As the
 * option `personality` of an operation it has the kernel act with them, whatever the thread's are by then.
 *
 * Disposing of it has it refused at once; what was asked for before still acts with it.
 *
 * @example
 * ```ts
 * await using nobody = uring.registerPersonality(); // after setfsuid(2), say
 * const fd = await uring.openat(path, { personality: nobody });
 * ```
 */
export class Personality implements Disposable, AsyncDisposable {
  /** Its number, what `sqe.personality` is set to. */
  readonly id: number;
  readonly #driver: Driver;
  #disposed: Promise<void> | null = null;

  /** @internal */
  constructor(driver: Driver) {
    this.id = driver.ring.registerPersonality();
    this.#driver = driver;
    dropped.register(this, { driver, id: this.id }, this);
  }

  /** Whether it was disposed of. */
  get disposed(): boolean {
    return this.#disposed !== null;
  }

  /** Throws unless `driver` can use it. @internal */
  check(driver: Driver): void {
    if (this.#disposed !== null) throw new TypeError("The personality is disposed of");
    if (this.#driver !== driver) throw new TypeError("The personality belongs to another ring");
  }

  /** Takes the credentials back once what was asked for before has been submitted. */
  [Symbol.dispose](): void {
    void this.#dispose();
  }

  /** The same, and resolves when they were taken back. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#dispose();
  }

  #dispose(): Promise<void> {
    if (this.#disposed === null) {
      dropped.unregister(this);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#disposed = promise;
      unregister({ driver: this.#driver, id: this.id }, resolve);
    }
    return this.#disposed;
  }
}

/** Checks the option `personality`. */
export function checkPersonality(personality: unknown, driver: Driver): void {
  if (!(personality instanceof Personality)) {
    throw new TypeError("personality must come from uring.registerPersonality");
  }
  personality.check(driver);
}

/** The kernel looks a personality up when an operation is submitted: whatever was begun before goes first. */
function unregister({ driver, id }: Registration, done: () => void): void {
  if (driver.closed) {
    // It goes with the ring.
    done();
    return;
  }
  const op = driver.begin("nop");
  op.sqe!.prepNop();
  driver.launch(op, {
    complete: () => {
      if (!driver.gone) driver.ring.unregisterPersonality(id);
      done();
    },
  });
}
