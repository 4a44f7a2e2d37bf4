/**
 * Pages of registered memory, for direct I/O and for reads and writes that cost the kernel least.
 *
 * @module
 */
import { type RegisteredBuffer, Uring } from "../mod.ts";
import { integer } from "./arguments.ts";
import { outOfRange } from "./errors.ts";

/** How many pages a {@link PagePool} has, and how large they are. */
export interface PagePoolOptions {
  /** How many; default 64. */
  count?: number | undefined;
  /** The size of each in bytes, a multiple of 512; default 4096. */
  size?: number | undefined;
}

const COUNT = 64;
const SIZE = 4096;
const SECTOR = 512;
const MOST = 2 ** 30;

/**
 * Memory of the library's own, registered with the kernel and cut into equal pages, each aligned as direct I/O wants it.
 * Take a page, read into it or write from it, give it back.
 *
 * @example
 * ```ts
 * import { open, PagePool } from "uring/fs";
 * await using pages = new PagePool({ count: 16 });
 * await using file = await open("/etc/hostname");
 * using page = await pages.take();
 * const { bytesRead } = await file.readFixed(page, { position: 0 });
 * console.log(new TextDecoder().decode(page.bytes.subarray(0, bytesRead)));
 * ```
 */
export class PagePool implements Disposable, AsyncDisposable {
  /** How many pages there are. */
  readonly count: number;
  /** The size of each in bytes. */
  readonly size: number;
  readonly #buffer: RegisteredBuffer;
  readonly #free: number[];
  readonly #waiting: { resolve: (page: Page) => void; reject: (error: unknown) => void }[] = [];
  #disposed = false;

  /**
   * @throws RangeError for sizes that cannot be, `UringError` with `ENOMEM` where `RLIMIT_MEMLOCK` does not allow so much.
   */
  constructor(options: PagePoolOptions = {}) {
    this.count = integer("options.count", options.count ?? COUNT, MOST / SECTOR);
    this.size = integer("options.size", options.size ?? SIZE, MOST);
    if (this.count === 0) throw outOfRange("options.count", ">= 1", 0);
    if (this.size === 0 || this.size % SECTOR !== 0) {
      throw outOfRange("options.size", `a multiple of ${SECTOR}`, this.size);
    }
    this.#buffer = Uring.shared.registerBuffer(this.count * this.size);
    this.#free = Array.from({ length: this.count }, (_, i) => this.count - 1 - i);
  }

  /** How many pages can be taken without waiting. */
  get free(): number {
    return this.#free.length;
  }

  /** Takes a page; waits until one is given back when all are taken. What is in it is what was there. */
  take(): Promise<Page> {
    this.#assertOpen();
    const index = this.#free.pop();
    if (index !== undefined) return Promise.resolve(this.#page(index));
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #page(index: number): Page {
    return new Page(this.#buffer, index * this.size, this.size, () => this.#give(index));
  }

  #give(index: number): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(index);
    else next.resolve(this.#page(index));
  }

  #assertOpen(): void {
    if (this.#disposed) throw new TypeError("The pool of pages is disposed of");
  }

  /** Gives the memory back once nothing works on it; every view of it is empty from then on. */
  [Symbol.dispose](): void {
    void this[Symbol.asyncDispose]();
  }

  /** The same, and resolves when the memory was given back. Whoever waits for a page fails. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    for (const { reject } of this.#waiting.splice(0)) {
      reject(new TypeError("The pool of pages is disposed of"));
    }
    await this.#buffer[Symbol.asyncDispose]();
  }
}

/** A page of a {@link PagePool}, until it is given back: `using`, or {@link Page.release}. */
export class Page implements Disposable {
  /** Its size in bytes. */
  readonly size: number;
  /** @internal */
  readonly buffer: RegisteredBuffer;
  /** @internal */
  readonly start: number;
  readonly #give: () => void;
  #users = 0;
  #released = false;

  /** @internal */
  constructor(buffer: RegisteredBuffer, start: number, size: number, give: () => void) {
    this.buffer = buffer;
    this.start = start;
    this.size = size;
    this.#give = give;
  }

  /**
   * Its memory, which is someone else's once the page is given back: do not keep it.
   *
   * @throws TypeError when it was given back.
   */
  get bytes(): Uint8Array {
    this.#assertHeld();
    return this.buffer.bytes.subarray(this.start, this.start + this.size);
  }

  /** Something works on it: it is not given back before as many calls of {@link Page.letGo}. @internal */
  hold(): void {
    this.#assertHeld();
    this.#users++;
  }

  /** Ends a {@link Page.hold}. @internal */
  letGo(): void {
    this.#users--;
    if (this.#released && this.#users === 0) this.#give();
  }

  #assertHeld(): void {
    if (this.#released) throw new TypeError("The page was given back");
  }

  /** Gives it back, when what works on it has ended. Doing it again changes nothing. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    if (this.#users === 0) this.#give();
  }

  /** The same as {@link Page.release}. */
  [Symbol.dispose](): void {
    this.release();
  }
}
